//! From the name of an entry to the name of a row: `provider/model`, as the gateway addresses it.

use super::entry::Refusal;

/// The six providers, and what the file calls them. Bedrock's three APIs and the text completions have names of their own.
pub const PROVIDERS: [(&str, &[&str]); 6] = [
    ("anthropic", &["anthropic"]),
    ("azure", &["azure", "azure_text"]),
    ("bedrock", &["bedrock", "bedrock_converse", "bedrock_mantle"]),
    ("gemini", &["gemini"]),
    ("mistral", &["mistral"]),
    ("openai", &["openai", "text-completion-openai"]),
];

/// What the file calls the geographies of Bedrock's inference profiles.
pub const GEOGRAPHIES: [&str; 8] = ["us.", "eu.", "apac.", "jp.", "au.", "in.", "us-gov.", "global."];

/// The provider that an entry belongs to, of the six.
pub fn provider(theirs: &str) -> Option<&'static str> {
    PROVIDERS.iter().find(|(_, names)| names.contains(&theirs)).map(|(ours, _)| *ours)
}

/// The row of an entry, or why its name says that it can be none.
///
/// Data zones of Azure and regions of Bedrock stay in the name (`azure/eu/gpt-5`, `bedrock/eu-west-2/…`): the same model has
/// another price there. Bedrock's second API has rows of its own, `bedrock_mantle/…`.
pub fn row(theirs: &str, entry: &str) -> Result<String, Refusal> {
    if entry.contains("-commitment/") {
        return Err(Refusal::Commitment);
    }
    let ours = provider(theirs).ok_or(Refusal::Name)?;
    let provider = if theirs == "bedrock_mantle" { "bedrock_mantle" } else { ours };
    let name = entry.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/')).unwrap_or(entry);
    // The same model through InvokeModel, at the same price.
    let name = if provider == "bedrock" { name.strip_prefix("invoke/").unwrap_or(name) } else { name };
    by_name(name)?;
    let id = format!("{provider}/{name}");
    let has_zones = matches!(provider, "azure" | "bedrock" | "bedrock_mantle");
    if !crate::pricing::table::is_model_id(&id) || (name.contains('/') && !has_zones) {
        return Err(Refusal::Name);
    }
    Ok(id)
}

/// Kinds of models that the file files under `chat`, although tokens do not bound their bill.
fn by_name(name: &str) -> Result<(), Refusal> {
    let has = |part: &str| name.contains(part);
    if has("model-router") {
        return Err(Refusal::Router);
    }
    if has("search-preview") || has("search-api") || has("deep-research") {
        return Err(Refusal::PerCall);
    }
    if name.ends_with("-tts") {
        return Err(Refusal::Speech);
    }
    Ok(())
}

/// The model's name without a Bedrock geography.
pub fn without_geography(model: &str) -> &str {
    GEOGRAPHIES.iter().find_map(|geography| model.strip_prefix(geography)).unwrap_or(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_named_as_the_gateway_addresses_them() {
        for (theirs, entry, id) in [
            ("openai", "gpt-5", "openai/gpt-5"),
            ("openai", "ft:gpt-4o-2024-08-06", "openai/ft:gpt-4o-2024-08-06"),
            ("text-completion-openai", "gpt-3.5-turbo-instruct", "openai/gpt-3.5-turbo-instruct"),
            ("gemini", "gemini/gemini-2.5-pro", "gemini/gemini-2.5-pro"),
            ("gemini", "gemini-pro-latest", "gemini/gemini-pro-latest"),
            ("azure", "azure/eu/gpt-5", "azure/eu/gpt-5"),
            ("bedrock", "us.anthropic.claude-opus-5-5", "bedrock/us.anthropic.claude-opus-5-5"),
            ("bedrock", "bedrock/eu-west-2/zai.glm-5", "bedrock/eu-west-2/zai.glm-5"),
            ("bedrock", "bedrock/invoke/anthropic.claude-v1:0", "bedrock/anthropic.claude-v1:0"),
            ("bedrock_mantle", "bedrock_mantle/openai.gpt-5.5", "bedrock_mantle/openai.gpt-5.5"),
        ] {
            assert_eq!(row(theirs, entry).as_deref(), Ok(id), "{entry}");
        }
        for (theirs, entry, why) in [
            ("bedrock", "bedrock/*/1-month-commitment/cohere.command-text-v14", Refusal::Commitment),
            ("azure", "azure/model-router", Refusal::Router),
            ("openai", "gpt-4o-search-preview", Refusal::PerCall),
            ("openai", "o3-deep-research-2025-06-26", Refusal::PerCall),
            ("gemini", "gemini/gemini-2.5-pro-preview-tts", Refusal::Speech),
            ("openai", "some/model", Refusal::Name),
            ("openai", "a model", Refusal::Name),
            ("xai", "grok", Refusal::Name),
        ] {
            assert_eq!(row(theirs, entry), Err(why), "{entry}");
        }
    }
}
