//! What the file does not say of a model, told by its family. Where a family is not known, the safe side is taken: output
//! may be hidden, no tokenizer is exact, the window holds input and output one beside the other.

use super::entry::Facts;
use super::grammar::Meter;
use super::keys::without_geography;
use super::row::Row;

/// Families that stream all that they bill, unless the file says that they reason.
const OPEN_OUTPUT: [(&str, &[&str]); 4] = [
    ("openai", &["gpt-3.5", "gpt-4", "gpt-audio", "davinci", "babbage"]),
    ("azure", &["gpt-3.5", "gpt-35", "gpt-4", "gpt-audio", "command-r", "mistral-large"]),
    (
        "mistral",
        &[
            "codestral",
            "devstral",
            "ministral",
            "mistral-code",
            "mistral-large-2",
            "mistral-large-3",
            "mistral-small",
            "mistral-tiny",
            "open-",
            "pixtral",
            "voxtral",
        ],
    ),
    (
        "bedrock",
        &[
            "ai21.",
            "amazon.nova-lite",
            "amazon.nova-micro",
            "amazon.nova-premier",
            "amazon.nova-pro",
            "amazon.titan",
            "anthropic.claude-3-5",
            "anthropic.claude-3-haiku",
            "anthropic.claude-3-opus",
            "anthropic.claude-3-sonnet",
            "anthropic.claude-instant",
            "anthropic.claude-v",
            "cohere.",
            "meta.llama",
            "mistral.mistral-7b",
            "mistral.mistral-large-24",
            "mistral.mistral-small-24",
            "mistral.mixtral",
        ],
    ),
];

/// OpenAI models that do not write their cache unasked: those before GPT-5.6.
const NO_IMPLICIT_WRITES: [&str; 22] = [
    "babbage",
    "codex",
    "command-r",
    "computer-use",
    "davinci",
    "gpt-3.5",
    "gpt-35",
    "gpt-4",
    "gpt-5-",
    "gpt-5.1",
    "gpt-5.2",
    "gpt-5.3",
    "gpt-5.4",
    "gpt-5.5",
    "gpt-audio",
    "gpt-oss",
    "mistral-",
    "o1",
    "o3",
    "o4",
    "text-embedding",
    "ada",
];

/// The start of names whose texts o200k_base counts exactly, and of those of cl100k_base. First match wins.
const TOKENIZERS: [(&str, &str); 15] = [
    ("gpt-4o", "o200k_base"),
    ("gpt-4.1", "o200k_base"),
    ("gpt-4.5", "o200k_base"),
    ("gpt-4", "cl100k_base"),
    ("gpt-3.5-turbo", "cl100k_base"),
    ("gpt-35-turbo", "cl100k_base"),
    ("gpt-5", "o200k_base"),
    ("codex-mini", "o200k_base"),
    ("o1", "o200k_base"),
    ("o3", "o200k_base"),
    ("o4", "o200k_base"),
    ("text-embedding-3", "cl100k_base"),
    ("text-embedding-ada", "cl100k_base"),
    ("davinci-002", "cl100k_base"),
    ("babbage-002", "cl100k_base"),
];

/// Fills what the family says.
pub fn describe(row: &mut Row, facts: &Facts) {
    limits(row, facts);
    row.hidden_output = !row.embedding && (facts.reasoning || !streams_all(row));
    row.implicit_cache_writes = writes_unasked(row);
    row.tokenizer = tokenizer(row);
    if row.provider() == "gemini" && !row.embedding {
        modalities(row, facts);
    }
}

/// OpenAI's own name of a model, whoever serves it.
pub fn openai_name(row: &Row) -> Option<&str> {
    match row.provider() {
        "openai" | "azure" => Some(row.model()),
        "bedrock" | "bedrock_mantle" => without_geography(row.model()).strip_prefix("openai."),
        _ => None,
    }
}

/// `max_input_tokens` is the whole window with some models, and with others what fits beside the output.
fn limits(row: &mut Row, facts: &Facts) {
    if row.embedding {
        row.context_window = facts.max_input.or(facts.max_tokens).unwrap_or(0);
        return;
    }
    let Some(input) = facts.max_input else {
        row.max_output = facts.max_output.or(facts.max_tokens).unwrap_or(0);
        return;
    };
    let output = facts.max_output.or(facts.max_tokens).unwrap_or(input);
    let whole = match row.provider() {
        "anthropic" | "mistral" => true,
        // Input and output have limits of their own.
        "gemini" => false,
        // GPT-5 and later: 272,000 and 922,000 are what fits beside 128,000 of output.
        "openai" | "azure" => !matches!(input, 272_000 | 922_000),
        _ => {
            let model = without_geography(row.model());
            model.starts_with("anthropic.") || model.starts_with("openai.gpt-5") || model.starts_with("openai.gpt-6")
        }
    };
    let is_whole = (whole || (output == input && row.provider() != "gemini")) && output <= input;
    (row.context_window, row.max_output) = (if is_whole { input } else { input.saturating_add(output) }, output);
}

fn streams_all(row: &Row) -> bool {
    let model = without_geography(row.model());
    OPEN_OUTPUT.iter().any(|(provider, starts)| *provider == row.provider() && begins(model, starts))
}

fn writes_unasked(row: &Row) -> bool {
    let Some(name) = openai_name(row) else { return false };
    let is_known = name == "gpt-5" || begins(name, &NO_IMPLICIT_WRITES);
    !row.embedding && (row.standard(Meter::CacheWrite).is_some() || !is_known)
}

fn tokenizer(row: &Row) -> Option<&'static str> {
    if !matches!(row.provider(), "openai" | "azure") || row.model().contains("audio") || row.model().contains("cyber") {
        return None;
    }
    TOKENIZERS.iter().find(|(start, _)| row.model().starts_with(start)).map(|(_, tokenizer)| *tokenizer)
}

/// Gemini bills images, video and sound at the input price where they have no price of their own.
fn modalities(row: &mut Row, facts: &Facts) {
    let Some(input) = row.standard(Meter::Input) else { return };
    for meter in [Meter::ImageIn, Meter::VideoIn] {
        if row.standard(meter).is_none() {
            row.set(meter, input);
        }
    }
    if facts.takes_audio && row.standard(Meter::AudioIn).is_none() {
        row.set(Meter::AudioIn, input);
        if let Some(read) = row.standard(Meter::CacheRead) {
            row.set(Meter::AudioInCached, read);
        }
    }
}

fn begins(name: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| name.starts_with(start))
}
