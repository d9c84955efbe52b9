//! Every request parameter of the six APIs that raises or hides a bill: taken, with a hold above the invoice and a charge that is it;
//! or forced to what is priced; or refused by its name, without a byte to the provider.

use serde_json::{Value, json};

use crate::support::json::with;
use crate::support::six::six;
use crate::support::*;

/// What becomes of a parameter.
enum Fate {
    /// It is sent. Where the mock takes it, invoice <= hold, and the charge is the invoice.
    Taken,
    /// The provider gets this value of this top-level field.
    Sent(&'static str, Value),
    /// An error that has this word in it, and nothing is sent.
    Refused(&'static str),
}

use Fate::{Refused, Sent, Taken};

/// A parameter: its name, the route it stands in, and the fields that are put into a good request to that route.
type Row = (&'static str, &'static str, Value, Fate);

const CHAT: &str = "/openai/v1/chat/completions";
const RESPONSES: &str = "/openai/v1/responses";
const COMPLETIONS: &str = "/openai/v1/completions";
const MESSAGES: &str = "/anthropic/v1/messages";
const GENERATE: &str = "/gemini/v1beta/models/gemini-3.8-flash:generateContent";
const CONVERSE: &str = "/bedrock/model/amazon.nova-pro-v1%3A0/converse";
const CLAUDE: &str = "/bedrock/model/us.anthropic.claude-sonnet-4-6/converse";
const INVOKE_CLAUDE: &str = "/bedrock/model/us.anthropic.claude-sonnet-4-6/invoke";
const INVOKE_NOVA: &str = "/bedrock/model/amazon.nova-lite-v1%3A0/invoke";
const INVOKE_LLAMA: &str = "/bedrock/model/meta.llama3-3-70b-instruct-v1%3A0/invoke";
const INVOKE_TITAN: &str = "/bedrock/model/amazon.titan-text-express-v1/invoke";
const INVOKE_MISTRAL: &str = "/bedrock/model/mistral.mistral-7b-instruct-v0%3A2/invoke";
const AZURE: &str = "/azure/openai/deployments/my-gpt-4o-mini/chat/completions";
const MISTRAL: &str = "/mistral/v1/chat/completions";

/// A good request to a route.
fn good(path: &str) -> Value {
    let messages = json!([{"role": "user", "content": "Say hello."}]);
    let blocks = json!([{"role": "user", "content": [{"text": "Say hello."}]}]);
    match path {
        CHAT => json!({"model": "gpt-4o-mini", "messages": messages}),
        RESPONSES => json!({"model": "gpt-4o-mini", "input": "Say hello."}),
        COMPLETIONS => json!({"model": "gpt-3.5-turbo-instruct", "prompt": "Say hello."}),
        MESSAGES => json!({"model": "claude-sonnet-4-6", "max_tokens": 100, "messages": messages}),
        GENERATE => json!({"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}),
        INVOKE_CLAUDE => json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": messages}),
        INVOKE_LLAMA | INVOKE_MISTRAL => json!({"prompt": "Say hello."}),
        INVOKE_TITAN => json!({"inputText": "Say hello."}),
        path if path.starts_with("/bedrock/") => json!({"messages": blocks}),
        MISTRAL => json!({"model": "mistral-small-latest", "messages": messages}),
        "/mistral/v1/responses" => json!({"model": "codestral-latest", "input": "Say hello."}),
        _ => json!({"messages": messages}),
    }
}

/// A user's message with such a part.
fn part(part: Value) -> Value {
    json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "Look."}, part]}]})
}

/// Such an item's content in a response.
fn input(part: Value) -> Value {
    json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Look."}, part]}]})
}

fn openai_chat() -> Vec<Row> {
    let five = |fields: Value| with(json!({"model": "gpt-5"}), fields);
    let six = |fields: Value| with(json!({"model": "gpt-5.6-sol"}), fields);
    let text = |more: Value| part(with(json!({"type": "text", "text": "x"}), more));
    vec![
        ("n", CHAT, json!({"n": 3}), Taken),
        ("n above 128", CHAT, json!({"n": 129}), Refused("`n`")),
        ("max_tokens", CHAT, json!({"max_tokens": 20}), Taken),
        ("max_completion_tokens", CHAT, json!({"max_completion_tokens": 20}), Taken),
        ("both limits", CHAT, json!({"max_tokens": 9, "max_completion_tokens": 9}), Refused("max_completion_tokens")),
        ("reasoning_effort", CHAT, five(json!({"reasoning_effort": "high"})), Taken),
        ("reasoning", CHAT, five(json!({"reasoning": {"mode": "pro"}})), Refused("reasoning")),
        ("service_tier absent", CHAT, json!({}), Sent("service_tier", json!("default"))),
        ("service_tier auto", CHAT, json!({"service_tier": "auto"}), Sent("service_tier", json!("default"))),
        ("service_tier default", CHAT, json!({"service_tier": "default"}), Taken),
        ("service_tier flex", CHAT, five(json!({"service_tier": "flex"})), Sent("service_tier", json!("flex"))),
        ("service_tier scale", CHAT, json!({"service_tier": "scale"}), Refused("service_tier")),
        ("service_tier priority", CHAT, json!({"service_tier": "priority"}), Refused("service_tier")),
        ("service_tier fast", CHAT, json!({"service_tier": "fast"}), Refused("service_tier")),
        ("service_tier ultrafast", CHAT, json!({"service_tier": "ultrafast"}), Refused("service_tier")),
        ("prompt_cache_options", CHAT, six(json!({"prompt_cache_options": {"mode": "explicit"}})), Taken),
        (
            "prompt_cache_options ttl",
            CHAT,
            six(json!({"prompt_cache_options": {"ttl": "24h"}})),
            Refused("prompt_cache_options"),
        ),
        ("prompt_cache_breakpoint", CHAT, six(text(json!({"prompt_cache_breakpoint": {"mode": "explicit"}}))), Taken),
        ("prompt_cache_retention", CHAT, json!({"prompt_cache_retention": "24h"}), Taken),
        ("prompt_cache_key", CHAT, json!({"prompt_cache_key": "k"}), Taken),
        ("image_url", CHAT, part(json!({"type": "image_url", "image_url": {"url": "https://x.test/a.png"}})), Taken),
        (
            "input_audio",
            CHAT,
            part(json!({"type": "input_audio", "input_audio": {"data": "AA=="}})),
            Refused("content"),
        ),
        ("file", CHAT, part(json!({"type": "file", "file": {"file_id": "file-1"}})), Refused("content")),
        ("web_search_options", CHAT, json!({"web_search_options": {}}), Refused("web_search_options")),
        ("web_search_options null", CHAT, json!({"web_search_options": null, "audio": null}), Taken),
        ("prediction", CHAT, json!({"prediction": {"type": "content", "content": "hello"}}), Taken),
        ("modalities", CHAT, json!({"modalities": ["text", "audio"]}), Refused("modalities")),
        ("audio", CHAT, json!({"audio": {"voice": "x", "format": "wav"}}), Refused("audio")),
        ("logprobs", CHAT, json!({"logprobs": true, "top_logprobs": 2}), Taken),
        ("seed", CHAT, json!({"seed": 7}), Taken),
        ("metadata", CHAT, json!({"metadata": {"a": "b"}}), Taken),
        ("verbosity", CHAT, json!({"verbosity": "low"}), Taken),
        ("safety_identifier", CHAT, json!({"safety_identifier": "u"}), Taken),
        ("moderation", CHAT, json!({"moderation": "low"}), Taken),
        ("store", CHAT, json!({"store": true}), Taken),
        ("best_of", COMPLETIONS, json!({"best_of": 3, "max_tokens": 9}), Taken),
        ("best_of below n", COMPLETIONS, json!({"best_of": 1, "n": 2}), Refused("best_of")),
        ("echo", COMPLETIONS, json!({"echo": true, "max_tokens": 9}), Taken),
    ]
}

fn openai_responses() -> Vec<Row> {
    let tool = |kind: &str| json!({"tools": [{"type": kind}]});
    let thinks = |reasoning: Value| json!({"model": "gpt-5", "reasoning": reasoning});
    let sealed =
        json!({"input": [{"type": "reasoning", "encrypted_content": "AAAA"}, {"role": "user", "content": "x"}]});
    let referred = json!({"input": [{"type": "item_reference", "id": "msg_1"}]});
    let image = |fields: Value| input(with(json!({"type": "input_image"}), fields));
    let file = |fields: Value| input(with(json!({"type": "input_file"}), fields));
    vec![
        ("max_output_tokens", RESPONSES, json!({"max_output_tokens": 20}), Taken),
        ("max_output_tokens below 16", RESPONSES, json!({"max_output_tokens": 3}), Taken),
        ("reasoning.effort", RESPONSES, thinks(json!({"effort": "low"})), Taken),
        ("reasoning.mode", RESPONSES, thinks(json!({"mode": "pro"})), Refused("reasoning.mode")),
        ("service_tier absent", RESPONSES, json!({}), Sent("service_tier", json!("default"))),
        ("service_tier priority", RESPONSES, json!({"service_tier": "priority"}), Refused("service_tier")),
        ("previous_response_id", RESPONSES, json!({"previous_response_id": "resp_1"}), Taken),
        ("conversation", RESPONSES, json!({"conversation": "conv_1"}), Taken),
        ("prompt", RESPONSES, json!({"prompt": {"id": "pmpt_1"}}), Refused("prompt")),
        ("item references", RESPONSES, referred, Taken),
        ("encrypted reasoning", RESPONSES, sealed, Taken),
        ("background", RESPONSES, json!({"background": true}), Refused("background")),
        ("store", RESPONSES, json!({"store": false}), Taken),
        ("image_url", RESPONSES, image(json!({"image_url": "https://x.test/a.png", "detail": "high"})), Taken),
        ("image file_id", RESPONSES, image(json!({"file_id": "file-1"})), Taken),
        ("file_id", RESPONSES, file(json!({"file_id": "file-1"})), Taken),
        ("file_url", RESPONSES, file(json!({"file_url": "https://x.test/a.pdf"})), Taken),
        (
            "file_data",
            RESPONSES,
            file(json!({"file_data": "data:application/pdf;base64,AA==", "filename": "a"})),
            Taken,
        ),
        ("input_audio", RESPONSES, input(json!({"type": "input_audio", "data": "AA=="})), Refused("content")),
        ("web_search", RESPONSES, tool("web_search"), Refused("web_search")),
        ("web_search_preview", RESPONSES, tool("web_search_preview"), Refused("web_search_preview")),
        ("file_search", RESPONSES, tool("file_search"), Refused("file_search")),
        ("code_interpreter", RESPONSES, tool("code_interpreter"), Refused("code_interpreter")),
        ("image_generation", RESPONSES, tool("image_generation"), Refused("tools[0]")),
        ("mcp", RESPONSES, tool("mcp"), Refused("tools[0]")),
        ("computer", RESPONSES, tool("computer_use_preview"), Refused("tools[0]")),
        ("shell", RESPONSES, tool("shell"), Refused("tools[0]")),
        ("apply_patch", RESPONSES, tool("apply_patch"), Refused("tools[0]")),
        ("tool_search", RESPONSES, tool("tool_search"), Refused("tools[0]")),
        ("max_tool_calls", RESPONSES, json!({"max_tool_calls": 3}), Taken),
        ("context_management", RESPONSES, json!({"context_management": []}), Refused("context_management")),
        ("multi_agent", RESPONSES, json!({"multi_agent": {}}), Refused("multi_agent")),
        ("subagents", RESPONSES, json!({"max_concurrent_subagents": 3}), Refused("max_concurrent_subagents")),
        ("modalities", RESPONSES, json!({"modalities": ["audio"]}), Refused("modalities")),
    ]
}

fn anthropic() -> Vec<Row> {
    let opus = |fields: Value| with(json!({"model": "claude-opus-5-5"}), fields);
    let cached = |control: Value| part(json!({"type": "text", "text": "x", "cache_control": control}));
    vec![
        ("max_tokens", MESSAGES, json!({"max_tokens": 20}), Taken),
        ("max_tokens 0", MESSAGES, json!({"max_tokens": 0}), Taken),
        ("max_tokens absent", MESSAGES, json!({"max_tokens": null}), Refused("max_tokens")),
        ("thinking enabled", MESSAGES, json!({"thinking": {"type": "enabled", "budget_tokens": 50}}), Taken),
        ("thinking adaptive", MESSAGES, opus(json!({"thinking": {"type": "adaptive"}})), Taken),
        ("thinking between_tools", MESSAGES, opus(json!({"thinking": {"type": "between_tools"}})), Taken),
        ("thinking disabled", MESSAGES, json!({"thinking": {"type": "disabled"}}), Taken),
        ("thinking of another kind", MESSAGES, json!({"thinking": {"type": "endless"}}), Refused("thinking")),
        ("output_config.effort", MESSAGES, opus(json!({"output_config": {"effort": "max"}})), Taken),
        ("task_budget", MESSAGES, opus(json!({"output_config": {"task_budget": {"tokens": 9}}})), Taken),
        ("speed", MESSAGES, opus(json!({"speed": "fast"})), Taken),
        ("speed without a price", MESSAGES, json!({"speed": "fast"}), Refused("speed")),
        ("inference_geo", MESSAGES, json!({"inference_geo": "us"}), Taken),
        ("inference_geo elsewhere", MESSAGES, json!({"inference_geo": "eu"}), Refused("inference_geo")),
        ("cache_control on a block", MESSAGES, cached(json!({"type": "ephemeral", "ttl": "1h"})), Taken),
        ("cache_control on top", MESSAGES, json!({"cache_control": {"type": "ephemeral"}}), Taken),
        (
            "cache_control for a day",
            MESSAGES,
            cached(json!({"type": "ephemeral", "ttl": "24h"})),
            Refused("cache_control"),
        ),
        ("service_tier absent", MESSAGES, json!({}), Sent("service_tier", json!("standard_only"))),
        ("service_tier auto", MESSAGES, json!({"service_tier": "auto"}), Sent("service_tier", json!("standard_only"))),
        ("service_tier priority", MESSAGES, json!({"service_tier": "priority"}), Refused("service_tier")),
    ]
}

/// What starts more than one sampling, or brings input that is not in the body.
fn anthropic_tools() -> Vec<Row> {
    let tool = |fields: Value| json!({"tools": [fields]});
    let built_in = |kind: &str, name: &str| json!({"tools": [{"type": kind, "name": name}]});
    let own = json!({"name": "f", "input_schema": {"type": "object"}});
    let document = |source: Value| part(json!({"type": "document", "source": source, "citations": {"enabled": true}}));
    let screen =
        json!({"type": "computer_20250124", "name": "computer", "display_width_px": 9, "display_height_px": 9});
    vec![
        ("fallbacks", MESSAGES, json!({"fallbacks": "default"}), Refused("fallbacks")),
        ("fallback_credit_token", MESSAGES, json!({"fallback_credit_token": "x"}), Refused("fallback_credit_token")),
        ("advisor", MESSAGES, built_in("advisor_20260301", "advisor"), Refused("tools[0]")),
        (
            "context_management",
            MESSAGES,
            json!({"context_management": {"edits": [{"type": "compact_20260112"}]}}),
            Refused("context_management"),
        ),
        ("compaction", MESSAGES, json!({"compaction": {}}), Refused("compaction")),
        ("web_search", MESSAGES, built_in("web_search_20260318", "web_search"), Refused("web_search")),
        ("web_fetch", MESSAGES, built_in("web_fetch_20260318", "web_fetch"), Refused("web_fetch")),
        ("code_execution", MESSAGES, built_in("code_execution_20250825", "code_execution"), Refused("tools[0]")),
        ("tool_search", MESSAGES, built_in("tool_search_tool_bm25_20251119", "tool_search"), Refused("tools[0]")),
        ("memory", MESSAGES, built_in("memory_20250818", "memory"), Refused("tools[0]")),
        ("mcp_servers", MESSAGES, json!({"mcp_servers": []}), Refused("mcp_servers")),
        (
            "programmatic tool calls",
            MESSAGES,
            tool(with(own, json!({"allowed_callers": ["code_execution_20250825"]}))),
            Refused("allowed_callers"),
        ),
        ("skills", MESSAGES, json!({"container": {"skills": []}}), Refused("container")),
        ("bash", MESSAGES, built_in("bash_20250124", "bash"), Taken),
        ("text editor", MESSAGES, built_in("text_editor_20250728", "str_replace_based_edit_tool"), Taken),
        ("computer", MESSAGES, tool(screen), Taken),
        ("browser", MESSAGES, built_in("browser_toolset_20260801", "browser"), Taken),
        ("thread", MESSAGES, json!({"thread": {"previous_message_id": "msg_1"}}), Refused("thread")),
        ("container", MESSAGES, json!({"container": "c_1"}), Refused("container")),
        ("file_id", MESSAGES, document(json!({"type": "file", "file_id": "file_1"})), Taken),
        (
            "url",
            MESSAGES,
            part(json!({"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}})),
            Taken,
        ),
        ("citations", MESSAGES, document(json!({"type": "text", "media_type": "text/plain", "data": "x"})), Taken),
        (
            "structured output",
            MESSAGES,
            json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
            Taken,
        ),
        ("billing_policy", MESSAGES, json!({"billing_policy": {}}), Refused("billing_policy")),
    ]
}

fn gemini() -> Vec<Row> {
    let config = |fields: Value| json!({"generationConfig": fields});
    let beside = |part: Value| json!({"contents": [{"role": "user", "parts": [{"text": "Look."}, part]}]});
    let media = |mime: &str| json!({"inlineData": {"mimeType": mime, "data": "AAAA"}});
    let budget = |fields: Value| config(json!({"thinkingConfig": fields}));
    vec![
        ("candidateCount", GENERATE, config(json!({"candidateCount": 2, "maxOutputTokens": 20})), Taken),
        ("candidateCount above 8", GENERATE, config(json!({"candidateCount": 9})), Refused("candidateCount")),
        ("maxOutputTokens", GENERATE, config(json!({"maxOutputTokens": 20})), Taken),
        (
            "two spellings",
            GENERATE,
            config(json!({"maxOutputTokens": 2, "max_output_tokens": 9})),
            Refused("maxOutputTokens"),
        ),
        ("thinkingBudget", GENERATE, budget(json!({"thinkingBudget": -1})), Taken),
        ("thinkingLevel", GENERATE, budget(json!({"thinkingLevel": "HIGH"})), Taken),
        ("continuationToken", GENERATE, json!({"continuationToken": "AAAA"}), Taken),
        ("serviceTier flex", GENERATE, json!({"serviceTier": "flex"}), Taken),
        ("serviceTier standard", GENERATE, json!({"serviceTier": "standard"}), Taken),
        ("serviceTier priority", GENERATE, json!({"serviceTier": "priority"}), Taken),
        ("serviceTier of another name", GENERATE, json!({"serviceTier": "instant"}), Refused("serviceTier")),
        ("cachedContent", GENERATE, json!({"cachedContent": "cachedContents/1"}), Refused("cachedContent")),
        (
            "fileData.fileUri",
            GENERATE,
            beside(json!({"fileData": {"fileUri": "https://youtu.be/x", "mimeType": "video/mp4"}})),
            Taken,
        ),
        ("inlineData", GENERATE, beside(media("image/png")), Taken),
        ("mediaResolution", GENERATE, config(json!({"mediaResolution": "MEDIA_RESOLUTION_HIGH"})), Taken),
        ("videoMetadata", GENERATE, beside(with(media("video/mp4"), json!({"videoMetadata": {"fps": 24}}))), Taken),
        ("audio", GENERATE, beside(media("audio/wav")), Taken),
    ]
}

/// Tools, and what would change the model or the call.
fn gemini_tools() -> Vec<Row> {
    let config = |fields: Value| json!({"generationConfig": fields});
    let tool = |name: &str| json!({"tools": [{name: {}}]});
    let function = json!({"tools": [{"functionDeclarations": [{"name": "f", "description": "x"}]}]});
    vec![
        ("googleSearch", GENERATE, tool("googleSearch"), Refused("googleSearch")),
        ("google_search", GENERATE, tool("google_search"), Refused("googleSearch")),
        ("googleMaps", GENERATE, tool("googleMaps"), Refused("googleMaps")),
        ("urlContext", GENERATE, tool("urlContext"), Refused("urlContext")),
        ("codeExecution", GENERATE, tool("codeExecution"), Refused("codeExecution")),
        ("fileSearch", GENERATE, tool("fileSearch"), Refused("fileSearch")),
        ("computerUse", GENERATE, tool("computerUse"), Refused("computerUse")),
        ("mcpServers", GENERATE, json!({"tools": [{"mcpServers": []}]}), Refused("mcpServers")),
        (
            "responseModalities",
            GENERATE,
            config(json!({"responseModalities": ["IMAGE"]})),
            Refused("responseModalities"),
        ),
        ("imageConfig", GENERATE, config(json!({"imageConfig": {"imageSize": "4K"}})), Taken),
        ("store", GENERATE, json!({"store": true}), Taken),
        (
            "previous_interaction_id",
            GENERATE,
            json!({"previous_interaction_id": "x"}),
            Refused("previous_interaction_id"),
        ),
        ("background", GENERATE, json!({"background": true}), Refused("background")),
        ("routingConfig", GENERATE, config(json!({"routingConfig": {}})), Refused("routingConfig")),
        (
            "modelSelectionConfig",
            GENERATE,
            config(json!({"modelSelectionConfig": {}})),
            Refused("modelSelectionConfig"),
        ),
        ("labels", GENERATE, json!({"labels": {"a": "b"}}), Taken),
        ("systemInstruction", GENERATE, json!({"systemInstruction": {"parts": [{"text": "Be brief."}]}}), Taken),
        ("functions", GENERATE, function, Taken),
        ("responseSchema", GENERATE, config(json!({"responseSchema": {"type": "OBJECT"}})), Taken),
        ("responseJsonSchema", GENERATE, config(json!({"responseJsonSchema": {"type": "object"}})), Taken),
    ]
}

fn bedrock() -> Vec<Row> {
    let extra = |fields: Value| json!({"additionalModelRequestFields": fields});
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 20}});
    vec![
        ("inferenceConfig.maxTokens", CONVERSE, json!({"inferenceConfig": {"maxTokens": 20}}), Taken),
        ("additional max_tokens", CLAUDE, extra(json!({"max_tokens": 9000})), Refused("max_tokens")),
        ("additional thinking", CLAUDE, extra(thinking), Taken),
        ("additional anthropic_beta", CLAUDE, extra(json!({"anthropic_beta": ["unheard-of"]})), Refused("unheard-of")),
        (
            "additional reasoning_effort",
            CONVERSE,
            extra(json!({"reasoning_effort": "high"})),
            Refused("reasoning_effort"),
        ),
        ("additional tools", CLAUDE, extra(json!({"tools": []})), Refused("tools")),
        ("max_tokens", INVOKE_CLAUDE, json!({"max_tokens": 20}), Taken),
        ("max_tokens", INVOKE_MISTRAL, json!({"max_tokens": 20}), Taken),
        ("n", INVOKE_MISTRAL, json!({"n": 2}), Refused("`n`")),
        ("max_gen_len", INVOKE_LLAMA, json!({"max_gen_len": 20}), Taken),
        ("maxTokenCount", INVOKE_TITAN, json!({"textGenerationConfig": {"maxTokenCount": 20}}), Taken),
        ("inferenceConfig.maxTokens", INVOKE_NOVA, json!({"inferenceConfig": {"maxTokens": 20}}), Taken),
        ("max_new_tokens", INVOKE_NOVA, json!({"inferenceConfig": {"max_new_tokens": 20}}), Taken),
        ("mcp_servers", INVOKE_CLAUDE, json!({"mcp_servers": []}), Refused("mcp_servers")),
        ("mcp_servers null", INVOKE_CLAUDE, json!({"mcp_servers": null, "speed": null}), Taken),
        ("num_generations", INVOKE_LLAMA, json!({"num_generations": 4}), Refused("num_generations")),
    ]
}

/// What is asked for beside the model's work, and input that is not in the body.
fn bedrock_extras() -> Vec<Row> {
    let beside = |block: Value| json!({"messages": [{"role": "user", "content": [{"text": "Look."}, block]}]});
    let schema = json!({"json": {"type": "object"}});
    let s3 = json!({"s3Location": {"uri": "s3://b/k"}});
    let document = |source: Value| beside(json!({"document": {"format": "txt", "name": "a", "source": source}}));
    vec![
        ("serviceTier default", CONVERSE, json!({"serviceTier": {"type": "default"}}), Taken),
        ("serviceTier priority", CONVERSE, json!({"serviceTier": {"type": "priority"}}), Taken),
        ("serviceTier flex", CONVERSE, json!({"serviceTier": {"type": "flex"}}), Taken),
        ("serviceTier reserved", CONVERSE, json!({"serviceTier": {"type": "reserved"}}), Refused("serviceTier")),
        (
            "performanceConfig",
            CONVERSE,
            json!({"performanceConfig": {"latency": "optimized"}}),
            Refused("performanceConfig"),
        ),
        ("guardrailConfig", CONVERSE, json!({"guardrailConfig": {"guardrailIdentifier": "g"}}), Refused("guardrail")),
        ("cachePoint", CLAUDE, beside(json!({"cachePoint": {"type": "default", "ttl": "1h"}})), Taken),
        (
            "cachePoint for a day",
            CLAUDE,
            beside(json!({"cachePoint": {"type": "default", "ttl": "24h"}})),
            Refused("ttl"),
        ),
        (
            "systemTool",
            CONVERSE,
            json!({"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}),
            Refused("systemTool"),
        ),
        ("promptVariables", CONVERSE, json!({"promptVariables": {}}), Refused("promptVariables")),
        ("promptVariables null", CONVERSE, json!({"promptVariables": null, "guardrailConfig": null}), Taken),
        ("projectIdentifier", CONVERSE, json!({"projectIdentifier": "proj_1"}), Refused("projectIdentifier")),
        ("model with a colon as it is", "/bedrock/model/amazon.nova-pro-v1:0/converse", json!({}), Taken),
        (
            "ARN of a model",
            "/bedrock/model/arn:aws:bedrock:us-east-1::foundation-model%2Famazon.nova-pro-v1:0/converse",
            json!({}),
            Taken,
        ),
        ("s3Location", CONVERSE, document(s3), Refused("s3Location")),
        ("document", CONVERSE, document(json!({"bytes": "AAAA"})), Taken),
        ("outputConfig.effort", CONVERSE, json!({"outputConfig": {"effort": "low"}}), Taken),
        (
            "toolConfig",
            CONVERSE,
            json!({"toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": schema}}]}}),
            Taken,
        ),
        ("requestMetadata", CONVERSE, json!({"requestMetadata": {"a": "b"}}), Taken),
        (
            "prompt router",
            "/bedrock/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Adefault-prompt-router%2Fx/converse",
            json!({}),
            Refused("prompt"),
        ),
        (
            "prompt ARN",
            "/bedrock/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aprompt%2Fx/converse",
            json!({}),
            Refused("prompt"),
        ),
        (
            "profile ARN",
            "/bedrock/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fx/converse",
            json!({}),
            Refused("deployments"),
        ),
    ]
}

/// Mistral's responses.
fn mistral_responses() -> Vec<Row> {
    const PATH: &str = "/mistral/v1/responses";
    let tool = |kind: &str| json!({"tools": [{"type": kind}]});
    let file = input(json!({"type": "input_file", "file_url": "https://x.test/a.pdf"}));
    let image = input(json!({"type": "input_image", "image_url": "https://x.test/a.png"}));
    vec![
        ("max_output_tokens", PATH, json!({"max_output_tokens": 20}), Taken),
        ("max_tokens", PATH, json!({"max_tokens": 20}), Refused("max_tokens")),
        ("n", PATH, json!({"n": 2}), Refused("`n`")),
        ("service_tier", PATH, json!({"service_tier": "auto"}), Refused("service_tier")),
        ("service_tier null", PATH, json!({"service_tier": null}), Taken),
        ("background", PATH, json!({"background": true}), Refused("background")),
        ("store", PATH, json!({"store": false}), Taken),
        ("moderation", PATH, json!({"moderation": {}}), Refused("moderation")),
        ("prompt", PATH, json!({"prompt": {"id": "p"}}), Refused("prompt")),
        ("agent_id", PATH, json!({"agent_id": "ag_1"}), Refused("agent_id")),
        ("reasoning.effort", PATH, json!({"reasoning": {"effort": "high"}}), Taken),
        ("web_search", PATH, tool("web_search"), Refused("web_search")),
        ("namespace", PATH, tool("namespace"), Refused("tools[0]")),
        ("connector", PATH, tool("connector"), Refused("tools[0]")),
        ("input_file", PATH, file, Taken),
        ("input_image", PATH, image, Taken),
        ("prompt_cache_key", PATH, json!({"prompt_cache_key": "k"}), Taken),
    ]
}

fn azure_and_mistral() -> Vec<Row> {
    let tool = |kind: &str| json!({"tools": [{"type": kind}]});
    vec![
        ("model in path and body", AZURE, json!({"model": "gpt-6-astra"}), Taken),
        // This version does not know it.
        ("service_tier absent", AZURE, json!({}), Sent("service_tier", json!(null))),
        ("service_tier auto", AZURE, json!({"service_tier": "auto"}), Sent("service_tier", json!("default"))),
        ("data_sources null", AZURE, json!({"data_sources": null}), Taken),
        ("service_tier priority", AZURE, json!({"service_tier": "priority"}), Refused("service_tier")),
        ("data_sources", AZURE, json!({"data_sources": []}), Refused("data_sources")),
        ("max_tokens", AZURE, json!({"max_tokens": 20}), Taken),
        ("n", AZURE, json!({"n": 2, "max_tokens": 9}), Taken),
        ("audio", AZURE, json!({"audio": {}}), Refused("audio")),
        ("n", MISTRAL, json!({"n": 3, "max_tokens": 20}), Taken),
        ("max_tokens", MISTRAL, json!({"max_tokens": 20}), Taken),
        ("min_tokens", MISTRAL, json!({"min_tokens": 4, "max_tokens": 20}), Taken),
        ("min_tokens above the limit", MISTRAL, json!({"min_tokens": 40, "max_tokens": 20}), Refused("min_tokens")),
        ("prediction", MISTRAL, json!({"prediction": {"type": "content", "content": "x"}}), Taken),
        ("reasoning_effort", MISTRAL, json!({"reasoning_effort": "high"}), Taken),
        ("prompt_mode", MISTRAL, json!({"prompt_mode": "reasoning"}), Taken),
        ("safe_prompt", MISTRAL, json!({"safe_prompt": true}), Taken),
        ("guardrails", MISTRAL, json!({"guardrails": []}), Refused("guardrails")),
        ("guardrails null", MISTRAL, json!({"guardrails": null}), Taken),
        ("top_k", MISTRAL, json!({"top_k": 5, "repetition_penalty": 1.1}), Taken),
        ("service_tier auto", MISTRAL, json!({"service_tier": "auto"}), Sent("service_tier", json!("standard_only"))),
        ("service_tier standard_only", MISTRAL, json!({"service_tier": "standard_only"}), Taken),
        ("service_tier priority", MISTRAL, json!({"service_tier": "priority"}), Refused("service_tier")),
        ("image_url", MISTRAL, part(json!({"type": "image_url", "image_url": "https://x.test/a.png"})), Taken),
        (
            "document_url",
            MISTRAL,
            part(json!({"type": "document_url", "document_url": "https://x.test/a.pdf"})),
            Refused("content"),
        ),
        ("input_audio", MISTRAL, part(json!({"type": "input_audio", "input_audio": "AA=="})), Refused("content")),
        ("file", MISTRAL, part(json!({"type": "file", "file_id": "x"})), Refused("content")),
        ("web_search", MISTRAL, tool("web_search"), Refused("tools[0]")),
        ("web_search_premium", MISTRAL, tool("web_search_premium"), Refused("tools[0]")),
        ("code_interpreter", MISTRAL, tool("code_interpreter"), Refused("tools[0]")),
        ("image_generation", MISTRAL, tool("image_generation"), Refused("tools[0]")),
        ("document_library", MISTRAL, tool("document_library"), Refused("tools[0]")),
        ("connector", MISTRAL, tool("connector"), Refused("tools[0]")),
        ("agent_id", MISTRAL, json!({"agent_id": "ag_1"}), Refused("agent_id")),
        ("parallel_tool_calls", MISTRAL, json!({"parallel_tool_calls": true}), Taken),
        ("prompt_cache_key", MISTRAL, json!({"prompt_cache_key": "k"}), Taken),
    ]
}

/// Sends one row's request, and judges what became of it. How many requests the mock has seen by now.
async fn judge(world: &World, key: &Key, row: &Row, seen: usize) -> usize {
    let (name, path, fields, fate) = row;
    let told = format!("{path} {name}");
    let query = if *path == AZURE { "?api-version=2024-10-21" } else { "" };
    let body = with(good(path), fields.clone()).to_string();
    let request = Request::post(&format!("{path}{query}"), body).bearer(&key.secret);
    let answer = world.send(&request.header("anthropic-version", "2023-06-01")).await;
    let sent = world.seen().await;
    if let Refused(word) = fate {
        assert!(matches!(answer.status, 400 | 422), "{told}: {} {}", answer.status, answer.text());
        assert!(answer.text().contains(word), "{told}: not refused by its name: {}", answer.text());
        assert_eq!(sent.len(), seen, "{told}: was sent");
        return seen;
    }
    assert_eq!(sent.len(), seen + 1, "{told}: was not sent: {} {}", answer.status, answer.text());
    world.settled().await;
    let (charged, invoice) = (world.charged().await, world.invoice().await.nano);
    assert_eq!(charged, invoice, "{told}: charged (left) is not the invoice (right)");
    if answer.status == 200 {
        let usd =
            |header: &str| json::nano(&json!(answer.header(header).unwrap_or_else(|| panic!("{told}: {header}"))));
        assert!(usd("x-loopers-cost-usd") <= usd("x-loopers-held-usd"), "{told}: {:?}", answer.text());
    }
    if let Sent(field, value) = fate {
        assert_eq!(world.last_body().await[field], *value, "{told}");
    }
    sent.len()
}

async fn judge_all(least: usize, rows: Vec<Row>) {
    let world = six().start().await;
    let key = world.key(&["--monthly", "100000"]);
    assert!(rows.len() >= least, "{} rows", rows.len());
    let mut seen = 0;
    for row in &rows {
        seen = judge(&world, &key, row, seen).await;
    }
    // What the mock turned away as well was not priced: most of what is taken must be good.
    assert!(world.invoice().await.calls * 3 >= seen as u64 * 2, "{:?} of {seen}", world.invoice().await);
    world.assert_books_exact().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cap_02_07_to_10_every_parameter_of_openai() {
    let rows: Vec<Row> = openai_chat().into_iter().chain(openai_responses()).collect();
    judge_all(70, rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cap_02_07_to_10_every_parameter_of_anthropic() {
    judge_all(44, anthropic().into_iter().chain(anthropic_tools()).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cap_02_07_to_10_every_parameter_of_gemini() {
    judge_all(36, gemini().into_iter().chain(gemini_tools()).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cap_02_07_to_10_every_parameter_of_bedrock() {
    judge_all(32, bedrock().into_iter().chain(bedrock_extras()).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cap_02_07_to_10_every_parameter_of_azure_and_mistral() {
    let rows: Vec<Row> = azure_and_mistral().into_iter().chain(mistral_responses()).collect();
    judge_all(48, rows).await;
}
