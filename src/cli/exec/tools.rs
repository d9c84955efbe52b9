//! Programs that read other variables than the SDKs, or none at all.

use serde_json::{Value, json};

use super::variables::{Child, Target};
use crate::cli::output::Failure;

/// Where opencode takes a config from that wins over its files.
const OPENCODE: &str = "OPENCODE_CONFIG_CONTENT";

/// Adds what a known program needs. `named` are the providers that were asked for by name.
pub fn adapt(child: &mut Child, program: &str, targets: &[Target], named: &[String]) -> Result<(), Failure> {
    let of = |api: &str| targets.iter().find(|target| target.api == api);
    match program {
        "claude" => match (of("anthropic"), of("bedrock")) {
            (Some(_), _) => claude(child),
            (None, Some(_)) if !named.is_empty() => claude_on_bedrock(child),
            _ => return Err(missing(program, "anthropic")),
        },
        "codex" => codex(child, of("openai").ok_or_else(|| missing(program, "openai"))?),
        "gemini" => {
            of("gemini").ok_or_else(|| missing(program, "gemini"))?;
            child.set("GEMINI_DEFAULT_AUTH_TYPE", "gemini-api-key");
        }
        "aider" => aider(child, targets),
        "opencode" => opencode(child, targets)?,
        _ => {}
    }
    Ok(())
}

fn missing(program: &str, provider: &str) -> Failure {
    Failure::new(
        format!("{program} needs the provider {provider}, which the gateway does not have, or --provider leaves out"),
        format!("providers: {{ {provider}: {{ key: env:NAME }} }} in the gateway's config"),
    )
}

/// A token instead of a key: Claude Code asks nobody to approve it, and prefers it to a subscription.
fn claude(child: &mut Child) {
    child.set_key("ANTHROPIC_AUTH_TOKEN");
    child.remove(&[
        "ANTHROPIC_API_KEY",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_USE_FOUNDRY",
    ]);
}

fn claude_on_bedrock(child: &mut Child) {
    child.set("CLAUDE_CODE_USE_BEDROCK", "1");
    child.remove(&["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_USE_VERTEX"]);
}

/// Codex reads no base URL from the environment, and a built-in provider cannot be changed: it gets one of its own.
fn codex(child: &mut Child, target: &Target) {
    let url = child.url(target, "/v1");
    for setting in [
        "model_provider=\"loopers\"".to_string(),
        "model_providers.loopers.name=\"Loopers\"".to_string(),
        format!("model_providers.loopers.base_url=\"{url}\""),
        "model_providers.loopers.env_key=\"OPENAI_API_KEY\"".to_string(),
        "model_providers.loopers.wire_api=\"responses\"".to_string(),
    ] {
        child.arguments.extend(["-c".to_string(), setting]);
    }
}

/// Aider's own variables win over the SDKs'.
fn aider(child: &mut Child, targets: &[Target]) {
    for target in targets {
        match target.api.as_str() {
            "openai" => {
                let url = child.url(target, "/v1");
                child.set("AIDER_OPENAI_API_BASE", url);
                child.set_key("AIDER_OPENAI_API_KEY");
            }
            "anthropic" => child.set_key("AIDER_ANTHROPIC_API_KEY"),
            _ => {}
        }
    }
}

/// Opencode gives its SDKs an address itself, so their variables count for nothing. The key stays a reference.
fn opencode(child: &mut Child, targets: &[Target]) -> Result<(), Failure> {
    let given = std::env::var(OPENCODE).unwrap_or_else(|_| "{}".into());
    let mut config: Value = serde_json::from_str(&given).unwrap_or_default();
    if !config.is_object() {
        return Err(Failure::new(format!("{OPENCODE} is set and is no JSON object"), format!("unset {OPENCODE}")));
    }
    for target in targets {
        let (id, field, rest, variable) = match target.api.as_str() {
            "openai" => ("openai", "baseURL", "/v1", "OPENAI_API_KEY"),
            "anthropic" => ("anthropic", "baseURL", "/v1", "ANTHROPIC_API_KEY"),
            "gemini" => ("google", "baseURL", "/v1beta", "GEMINI_API_KEY"),
            "mistral" => ("mistral", "baseURL", "/v1", "MISTRAL_API_KEY"),
            "azure" => ("azure", "baseURL", "/openai", "AZURE_OPENAI_API_KEY"),
            "bedrock" => ("amazon-bedrock", "endpoint", "", "AWS_BEARER_TOKEN_BEDROCK"),
            _ => continue,
        };
        let mut options = json!({ field: child.url(target, rest) });
        // Bedrock's is read from the environment; elsewhere a key that opencode has stored would win over the variable.
        if id != "amazon-bedrock" {
            options["apiKey"] = json!(format!("{{env:{variable}}}"));
        }
        merge(&mut config, json!({ "provider": { id: { "options": options } } }));
    }
    child.set(OPENCODE, config.to_string());
    Ok(())
}

/// What `from` says is said by `into`, whatever it said before.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
