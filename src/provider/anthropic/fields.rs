//! The top-level fields of a Messages request, and what each does to the bill.

use crate::provider::fields::Rule;

const CLOUD: &str = "it belongs to other clouds' form of this API";

/// Every field that is known, exactly as it must be spelled.
pub const MESSAGES: &[(&str, Rule)] = &[
    ("model", Rule::Read),
    ("messages", Rule::Read),
    ("max_tokens", Rule::Read),
    ("system", Rule::Read),
    ("stream", Rule::Read),
    ("tools", Rule::Read),
    ("tool_choice", Rule::Prompt),
    ("thinking", Rule::Read),
    ("cache_control", Rule::Read),
    ("service_tier", Rule::Read),
    ("speed", Rule::Read),
    ("inference_geo", Rule::Read),
    ("output_config", Rule::Read),
    ("output_format", Rule::Read),
    ("context_management", Rule::Read),
    ("metadata", Rule::Free),
    ("stop_sequences", Rule::Free),
    ("temperature", Rule::Free),
    ("top_p", Rule::Free),
    ("top_k", Rule::Free),
    // Compares cache fingerprints of two requests; runs nothing.
    ("diagnostics", Rule::Free),
    ("container", Rule::Denied("a container is billed by the hour, and its files are input that is not in the body")),
    (
        "mcp_servers",
        Rule::Denied("the provider calls these servers itself, again and again, and bills what they answer"),
    ),
    ("fallbacks", Rule::Denied("each fallback is a further attempt at its own model's price")),
    ("fallback_credit_token", Rule::Denied("it belongs to fallbacks, which are further attempts")),
    ("billing_policy", Rule::Denied("it changes what is charged")),
    ("compaction", Rule::Denied("compaction runs the model beyond `max_tokens`")),
    ("thread", Rule::Denied("the earlier conversation is billed as input, and is not in the body")),
    ("user_profile_id", Rule::Denied("it changes whose settings and whose bill apply")),
    ("workspace_id", Rule::Denied("it changes whose settings apply")),
    ("betas", Rule::Denied("beta switches go into the header `anthropic-beta`")),
    ("anthropic_beta", Rule::Denied(CLOUD)),
    ("anthropic_version", Rule::Denied(CLOUD)),
    ("max_tokens_to_sample", Rule::Denied("this API's limit is `max_tokens`")),
    ("prompt", Rule::Denied("it belongs to the legacy completions")),
];

/// The same for Claude behind another cloud's API, which carries model, version and betas in its own places, and has neither
/// Anthropic's tiers nor its regions.
pub const CLOUD_BODY: &[(&str, Rule)] = &[
    ("anthropic_version", Rule::Free),
    ("anthropic_beta", Rule::Read),
    ("messages", Rule::Read),
    ("max_tokens", Rule::Read),
    ("system", Rule::Read),
    ("tools", Rule::Read),
    ("tool_choice", Rule::Prompt),
    ("thinking", Rule::Read),
    ("cache_control", Rule::Read),
    ("output_config", Rule::Read),
    ("output_format", Rule::Read),
    ("context_management", Rule::Read),
    ("metadata", Rule::Free),
    ("stop_sequences", Rule::Free),
    ("temperature", Rule::Free),
    ("top_p", Rule::Free),
    ("top_k", Rule::Free),
    ("model", Rule::Denied("the model stands in the path")),
    ("stream", Rule::Denied("the route says whether the answer is streamed")),
    ("service_tier", Rule::Denied("the tier is not set in the body here")),
    ("speed", Rule::Denied("there is no fast mode here")),
    ("inference_geo", Rule::Denied("the region is not set in the body here")),
    ("container", Rule::Denied("a container is billed by the hour, and its files are input that is not in the body")),
    (
        "mcp_servers",
        Rule::Denied("the provider calls these servers itself, again and again, and bills what they answer"),
    ),
    ("fallbacks", Rule::Denied("each fallback is a further attempt at its own model's price")),
    ("compaction", Rule::Denied("compaction runs the model beyond `max_tokens`")),
    ("thread", Rule::Denied("the earlier conversation is billed as input, and is not in the body")),
];
