//! What the conventions call the things that a call record names.

use crate::observe::calls::CallRecord;

/// `gen_ai.operation.name` of a route; none for routes that generate nothing.
pub fn operation(route: &str) -> Option<&'static str> {
    Some(match route {
        "chat_completions" | "messages" | "responses" | "converse" | "converse_stream" | "invoke" | "invoke_stream" => {
            "chat"
        }
        "generate_content" | "stream_generate_content" | "stream_generate_content_array" => "generate_content",
        "completions" | "fim_completions" => "text_completion",
        "embeddings" | "embed_content" | "batch_embed_contents" => "embeddings",
        _ => return None,
    })
}

/// `gen_ai.provider.name`: the well-known name of an API, or the config's for another provider that speaks it.
pub fn provider(record: &CallRecord) -> &str {
    match record.api {
        Some("openai") if &*record.provider == "openai" => "openai",
        Some("anthropic") if &*record.provider == "anthropic" => "anthropic",
        Some("gemini") if &*record.provider == "gemini" => "gcp.gemini",
        Some("bedrock") if &*record.provider == "bedrock" => "aws.bedrock",
        Some("azure") if &*record.provider == "azure" => "azure.ai.openai",
        Some("mistral") if &*record.provider == "mistral" => "mistral_ai",
        _ => &record.provider,
    }
}

/// `error.type`: the gateway's code, or the provider's status; none when all went well. Of a fixed set, or a number.
pub fn error(record: &CallRecord) -> Option<String> {
    match (record.code, record.status) {
        (Some(code), _) => Some(code.into()),
        (None, Some(status)) if status >= 400 => Some(status.to_string()),
        _ if record.ending != "ok" => Some(record.ending.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::calls::sample;

    #[test]
    fn every_metered_route_is_an_operation() {
        // Routes that cost nothing need no name; those that do are told to the collector by one.
        for route in ["chat_completions", "messages", "responses", "converse", "invoke_stream", "embed_content"] {
            assert!(operation(route).is_some(), "{route}");
        }
        assert_eq!(operation("models"), None);
    }

    #[test]
    fn a_provider_of_another_name_keeps_it() {
        assert_eq!(provider(&CallRecord { api: Some("gemini"), provider: "gemini".into(), ..sample() }), "gcp.gemini");
        assert_eq!(provider(&CallRecord { api: Some("openai"), provider: "groq".into(), ..sample() }), "groq");
    }

    #[test]
    fn errors_are_named_by_code_then_status_then_ending() {
        assert_eq!(error(&sample()), None);
        assert_eq!(error(&CallRecord { status: Some(429), ending: "provider_error", ..sample() }).unwrap(), "429");
        let cut = CallRecord { code: Some("budget_exceeded"), ending: "cut", ..sample() };
        assert_eq!(error(&cut).unwrap(), "budget_exceeded");
        assert_eq!(error(&CallRecord { ending: "client_gone", ..sample() }).unwrap(), "client_gone");
    }
}
