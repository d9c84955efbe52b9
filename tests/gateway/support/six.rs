//! All six providers before one mock, and a good request to each kind of their metered routes.

use serde_json::{Value, json};

use super::builder::Builder;
use super::http::Request;
use super::world::{Key, World};

/// A world with all six.
pub fn six() -> Builder {
    six_with("")
}

/// All six, each with more options, as YAML that begins with a comma.
pub fn six_with(options: &str) -> Builder {
    let more = [
        "anthropic: { base_url: \"MOCK/anthropic\", key: env:OPENAI_API_KEY }",
        "gemini: { base_url: \"MOCK/gemini\", key: env:OPENAI_API_KEY }",
        "mistral: { base_url: \"MOCK/mistral\", key: env:OPENAI_API_KEY }",
        "azure: { base_url: \"MOCK/azure\", key: env:OPENAI_API_KEY, deployments: { my-gpt-4o-mini: gpt-4o-mini } }",
        "bedrock: { base_url: \"MOCK/bedrock\", key: env:OPENAI_API_KEY, region: us-east-1 }",
    ];
    more.iter().fold(World::new(), |world, yaml| {
        let open = yaml.strip_suffix(" }").expect("a flow mapping");
        world.other_provider(&format!("{open}{options} }}"))
    })
}

/// One kind of metered call.
#[derive(Clone)]
pub struct Kind {
    /// The path.
    pub path: String,
    /// What goes after it.
    pub query: &'static str,
    /// The body.
    pub body: Value,
    /// What stands in the last bytes of a stream that was cut, and of no other.
    pub cut: &'static str,
}

impl Kind {
    /// The provider's name.
    pub fn provider(&self) -> &str {
        self.path.split('/').nth(1).unwrap_or_default()
    }

    /// True for a streamed call.
    pub fn is_stream(&self) -> bool {
        self.body["stream"] == true || self.path.contains("streamGenerate") || self.path.ends_with("-stream")
    }

    /// The request, with a script for the mock.
    pub fn request(&self, key: &Key, script: &str) -> Request {
        let request = Request::post(&format!("{}{}", self.path, self.query), self.body.to_string());
        let request = request.bearer(&key.secret).header("anthropic-version", "2023-06-01");
        if script.is_empty() { request } else { request.header("x-mock-script", script) }
    }
}

fn kind(path: &str, query: &'static str, cut: &'static str, body: Value) -> Kind {
    Kind { path: path.into(), query, body, cut }
}

/// Each kind of call that is not streamed, with an output limit of so many tokens.
pub fn plain(limit: u64) -> Vec<Kind> {
    let messages = json!([{"role": "user", "content": "Say hello."}]);
    let chat = |model: &str| json!({"model": model, "messages": messages, "max_tokens": limit});
    let dated = "/azure/openai/deployments/my-gpt-4o-mini/chat/completions";
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}], "generationConfig": {"maxOutputTokens": limit}});
    let converse = json!({"messages": [{"role": "user", "content": [{"text": "Say hello."}]}], "inferenceConfig": {"maxTokens": limit}});
    let response = json!({"model": "gpt-4o-mini", "input": "Say hello.", "max_output_tokens": limit});
    let of_mistral = json!({"model": "codestral-latest", "input": "Say hello.", "max_output_tokens": limit});
    let fim = json!({"model": "codestral-latest", "prompt": "def f(", "suffix": "return a", "max_tokens": limit});
    vec![
        kind("/openai/v1/chat/completions", "", "\"error\":{", chat("gpt-4o-mini")),
        kind("/openai/v1/responses", "", "event: error", response),
        kind("/anthropic/v1/messages", "", "event: error", chat("claude-haiku-4-5")),
        kind("/gemini/v1beta/models/gemini-2.5-flash:generateContent", "", "\"error\":{", gemini),
        kind("/bedrock/model/amazon.nova-micro-v1%3A0/converse", "", ":exception-type", converse),
        kind(dated, "?api-version=2024-10-21", "\"error\":{", chat("my-gpt-4o-mini")),
        kind("/azure/openai/v1/chat/completions", "", "\"error\":{", chat("my-gpt-4o-mini")),
        kind("/mistral/v1/chat/completions", "", "\"object\":\"error\"", chat("mistral-small-latest")),
        kind("/mistral/v1/fim/completions", "", "\"object\":\"error\"", fim),
        kind("/mistral/v1/responses", "", "event: error", of_mistral),
    ]
}

/// The same calls, streamed.
pub fn streams(limit: u64) -> Vec<Kind> {
    let mut kinds = plain(limit);
    for kind in &mut kinds {
        match kind.provider() {
            "gemini" => {
                kind.path = kind.path.replace("generateContent", "streamGenerateContent");
                kind.query = "?alt=sse";
            }
            "bedrock" => kind.path += "-stream",
            _ => kind.body["stream"] = json!(true),
        }
    }
    kinds
}
