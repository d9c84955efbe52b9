//! `additionalModelRequestFields`: what Bedrock merges into the vendor's own request, past everything that Converse itself checks.

use super::bound::Traits;
use super::model::Vendor;
use super::read::{self, denied, malformed};
use crate::pricing::ModelPrice;
use crate::provider::{Reading, Reject, reject};
use crate::wire::json::Value;

const FIELD: &str = "additionalModelRequestFields";

/// Names that would change the limit that was priced, add input or tools, or change the tier: no list of the operator's admits them. Not even
/// with `null`, which may take the place of what Converse says in its own field.
const NEVER: [&str; 39] = [
    "max_tokens",
    "max_tokens_to_sample",
    "max_completion_tokens",
    "max_output_tokens",
    "max_gen_len",
    "max_new_tokens",
    "maxTokens",
    "maxTokenCount",
    "inferenceConfig",
    "textGenerationConfig",
    "n",
    "best_of",
    "num_generations",
    "num_return_sequences",
    "stream",
    "model",
    "modelId",
    "messages",
    "system",
    "prompt",
    "inputText",
    "images",
    "documents",
    "tools",
    "tool_choice",
    "toolConfig",
    "mcp_servers",
    "container",
    "context_management",
    "cache_control",
    "fallbacks",
    "thread",
    "speed",
    "inference_geo",
    "service_tier",
    "serviceTier",
    "performanceConfig",
    "guardrailConfig",
    "search_queries_only",
];

/// Beta switches of Claude's that leave the bound as it is: they belong to what is priced or refused on its own. Claude Code and Anthropic's
/// clients send some of them unasked.
const BETAS: [&str; 14] = [
    "claude-code-20250219",
    "computer-use-2024-10-22",
    "computer-use-2025-01-24",
    "computer-use-2025-11-24",
    "effort-2025-11-24",
    "extended-cache-ttl-2025-04-11",
    "fine-grained-tool-streaming-2025-05-14",
    "interleaved-thinking-2025-05-14",
    "model-context-window-exceeded-2025-08-26",
    "prompt-caching-2024-07-31",
    "search-results-2025-06-09",
    "structured-outputs-2025-11-13",
    "token-efficient-tools-2025-02-19",
    "tools-2024-04-04",
];
/// The beta switch that opens a window of a million tokens, which a price row may not know of.
const LONG_WINDOW: (&str, u64) = ("context-1m-2025-08-07", 1_000_000);

/// Reads the field for a vendor's model.
pub fn read(
    value: Value<'_>,
    vendor: Vendor,
    price: &ModelPrice,
    reading: &Reading<'_>,
    traits: &mut Traits,
) -> Result<(), Reject> {
    if !value.is_object() {
        return Err(malformed(FIELD, "is not an object"));
    }
    for (name, value) in value.fields() {
        let path = format!("{FIELD}.{}", reject::printable(&name));
        match (vendor, name.as_ref()) {
            (Vendor::Claude | Vendor::Mistral, "top_k") => drop(read::count(value, &path)?),
            (Vendor::Claude, "thinking" | "reasoning_config") => thinking(value, &path, traits)?,
            (Vendor::Claude, "anthropic_beta") => betas(value, &path, price, reading)?,
            (Vendor::Claude, "output_config") => {
                read::members(value, &path, &["effort"])?;
                value.get("effort").map_or(Ok(()), |effort| read::text(effort, &path))?;
            }
            (Vendor::Nova, "inferenceConfig") => {
                read::members(value, &path, &["topK"])?;
                value.get("topK").map_or(Ok(()), |k| read::count(k, &path).map(drop))?;
            }
            (Vendor::Nova, "reasoningConfig") => nova_reasoning(value, &path)?,
            (Vendor::OpenAi, "reasoning_effort") => read::text(value, &path)?,
            (_, name) if NEVER.iter().any(|never| never.eq_ignore_ascii_case(name)) => {
                return Err(denied(&path, "it would override what was priced; use Converse's own field"));
            }
            (_, name) if reading.admits(name) => {}
            (_, name) => {
                let unknown = reject::unknown_field(reading.provider, name);
                return Err(Reject { message: format!("`{path}` is not a field whose cost is known"), ..unknown });
            }
        }
    }
    Ok(())
}

/// Claude's thinking: it is inside the output limit.
pub fn thinking(value: Value<'_>, path: &str, traits: &mut Traits) -> Result<(), Reject> {
    read::members(value, path, &["type", "budget_tokens", "display"])?;
    let kind = value.get("type").and_then(Value::as_str);
    if !matches!(kind.as_deref(), Some("enabled" | "disabled" | "adaptive" | "between_tools")) {
        return Err(denied(
            &format!("{path}.type"),
            "not a kind of thinking that is known to stay within the output limit",
        ));
    }
    if let Some(budget) = read::given(value, "budget_tokens") {
        traits.thinking = read::count(budget, &format!("{path}.budget_tokens"))?;
    }
    Ok(())
}

/// Nova's reasoning: at the highest effort it takes no output limit, and writes more than its ordinary maximum.
pub fn nova_reasoning(value: Value<'_>, path: &str) -> Result<(), Reject> {
    read::members(value, path, &["type", "maxReasoningEffort"])?;
    let of = |name: &str| value.get(name).map(|value| value.as_str().unwrap_or_default().into_owned());
    let is_known = matches!(of("type").as_deref(), Some("enabled" | "disabled"))
        && matches!(of("maxReasoningEffort").as_deref(), None | Some("low" | "medium"));
    if is_known { Ok(()) } else { Err(denied(path, "only the efforts low and medium stay within an output limit")) }
}

/// Beta switches of Claude's: one that is not known may do anything. The operator admits further ones by name.
pub fn betas(value: Value<'_>, path: &str, price: &ModelPrice, reading: &Reading<'_>) -> Result<(), Reject> {
    for (path, beta) in read::list(value, path)? {
        let name = beta.as_str().ok_or_else(|| malformed(&path, "is not a string"))?;
        let is_long = *name == *LONG_WINDOW.0 && price.context_window >= LONG_WINDOW.1;
        if !(is_long || BETAS.contains(&name.as_ref()) || reading.admits(&name)) {
            let unknown = reject::unknown_field(reading.provider, &name);
            let message = format!("`{path}`: `{}` is not a beta switch whose cost is known", reject::printable(&name));
            return Err(Reject { message, ..unknown });
        }
    }
    Ok(())
}
