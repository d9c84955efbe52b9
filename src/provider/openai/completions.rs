//! Completions of a bare prompt: OpenAI's legacy API, and Mistral's fill-in-the-middle.

use bytes::Bytes;

use super::params::{self, StreamOptions, TOKENS_PER_REQUEST};
use super::profile::{Api, Model};
use crate::pricing::{ModelPrice, Tokenizer};
use crate::provider::fields::{Rule, rule};
use crate::provider::tokens::{self, COUNTED_BYTES_MAX};
use crate::provider::{Call, CallBody, Reject, nfkc, reject};
use crate::wire::json::{Document, Kind, Value};

/// Tokens that a prompt may get around it: a mark of its beginning, and those of a suffix.
const TOKENS_PER_PROMPT: u64 = 16;
/// The most prompts of one request.
const PROMPTS_MAX: u64 = 2048;
/// Token ids are below this.
const TOKEN_ID_MAX: u64 = 1 << 31;

/// A completion request, read and checked.
struct Completion {
    document: Document,
    stream_options: Option<&'static str>,
    /// The limit to send where the request names none.
    default_limit: Option<u64>,
    /// Output tokens of each sample that repeat the prompt, and are not within its limit.
    echo: u64,
    tokenizer: Option<Tokenizer>,
    input_max: u64,
}

/// What the fields say.
#[derive(Default)]
struct Parts<'a> {
    model: Option<Value<'a>>,
    prompt: Option<Value<'a>>,
    prompts: u64,
    suffix_bytes: u64,
    limit: Option<u64>,
    min_tokens: u64,
    n: Option<u64>,
    best_of: Option<u64>,
    is_echo: bool,
    is_stream: bool,
    stream_options: StreamOptions,
    beside_bytes: u64,
}

/// Reads and bounds a completion request.
pub fn read(body: Bytes, api: &Api<'_>) -> Result<Call, Reject> {
    let document = super::document(body)?;
    let parts = parts(&document, api)?;
    let Model { name: model, price, terms } = api.model(parts.model)?;
    if price.embedding {
        return Err(reject::invalid(format!("`{model}` makes embeddings, not text"), "name a completion model"));
    }
    if parts.prompt.is_none() && !api.profile.many_prompts {
        return Err(bad_prompt(api, "is missing"));
    }
    let n = parts.n.unwrap_or(1);
    let best_of = parts.best_of.unwrap_or(n);
    if best_of < n {
        return Err(reject::invalid("`best_of` is below `n`", "leave it out, or send at least `n`"));
    }
    let samples = parts.prompts.saturating_mul(best_of);
    let input_max = input_bound(&document, &parts, &price);
    // What is repeated should not be billed as output, which is not documented: it is held for as if it were.
    let echo = if parts.is_echo { input_max } else { 0 };
    let own = parts.limit.or(api.profile.completion_default).unwrap_or(price.max_output).min(price.context_window);
    let output_min = params::clamp_min(own, parts.min_tokens)?;
    let asks_usage = parts.is_stream && api.profile.asks_usage;
    let shows_usage = !asks_usage || parts.stream_options.include_usage;
    let (is_stream, is_hidden) = (parts.is_stream, best_of > n || parts.is_echo || price.hidden_output);
    let is_countable = parts.beside_bytes == 0 && document.len() <= COUNTED_BYTES_MAX;
    let completion = Completion {
        stream_options: asks_usage.then(|| parts.stream_options.sent()),
        default_limit: api.profile.completion_default.filter(|_| parts.limit.is_none()),
        echo,
        tokenizer: price.tokenizer.filter(|_| is_countable),
        input_max,
        document,
    };
    Ok(Call {
        model,
        stream: is_stream,
        shows_usage,
        samples,
        input_max,
        output_max: own.saturating_add(echo),
        output_min: output_min.saturating_add(echo),
        // Samples that were not the best are billed without being seen.
        cuttable: is_stream && !is_hidden,
        price,
        terms,
        body: Box::new(completion),
    })
}

/// The most input tokens of all prompts together. Each has the window for itself.
fn input_bound(document: &Document, parts: &Parts<'_>, price: &ModelPrice) -> u64 {
    let growth = if price.tokenizer.is_some() { 0 } else { nfkc::growth(document.root()) };
    let frames = parts.prompts.saturating_mul(parts.suffix_bytes.saturating_add(TOKENS_PER_PROMPT));
    let bytes = (document.len() as u64).saturating_add(growth).saturating_add(frames);
    bytes.saturating_add(TOKENS_PER_REQUEST).min(price.context_window.saturating_mul(parts.prompts))
}

fn parts<'a>(document: &'a Document, api: &Api<'_>) -> Result<Parts<'a>, Reject> {
    let mut parts = Parts { prompts: 1, ..Parts::default() };
    let root = document.root();
    for (key, (name, value)) in root.keys().zip(root.fields()) {
        match rule(api.reading, (key, value), &name, api.profile.completions)? {
            Some(Rule::Read) if !value.is_null() || name == "model" => field(&mut parts, &name, value, api)?,
            Some(Rule::Prompt) | None => parts.beside_bytes += value.raw().len() as u64,
            Some(Rule::Read | Rule::Free | Rule::Denied(_)) => {}
        }
    }
    Ok(parts)
}

fn field<'a>(parts: &mut Parts<'a>, name: &str, value: Value<'a>, api: &Api<'_>) -> Result<(), Reject> {
    match name {
        "model" => parts.model = Some(value),
        "prompt" => {
            parts.prompts = prompts(value, api)?;
            parts.prompt = Some(value);
        }
        "suffix" => {
            if value.as_str().is_none() {
                return Err(reject::invalid("`suffix` is not a string", "send text, or leave it out"));
            }
            parts.suffix_bytes = value.raw().len() as u64;
        }
        "max_tokens" => parts.limit = Some(params::limit(name, value, 0)?),
        "min_tokens" => parts.min_tokens = params::limit(name, value, 0)?,
        "n" => parts.n = Some(params::samples(name, value)?),
        "best_of" => parts.best_of = Some(params::samples(name, value)?),
        "echo" => parts.is_echo = params::truth(name, value)?,
        "stream" => parts.is_stream = params::truth(name, value)?,
        "stream_options" => parts.stream_options = StreamOptions::read(value)?,
        _ => parts.beside_bytes += value.raw().len() as u64,
    }
    Ok(())
}

fn bad_prompt(api: &Api<'_>, what: &str) -> Reject {
    let hint = if api.profile.many_prompts {
        "send a string, an array of strings, an array of token ids, or an array of such arrays"
    } else {
        "send a string"
    };
    reject::invalid(format!("`prompt` {what}"), hint)
}

/// How many prompts there are.
fn prompts(prompt: Value<'_>, api: &Api<'_>) -> Result<u64, Reject> {
    if is_text(prompt) {
        return Ok(1);
    }
    if !api.profile.many_prompts || !prompt.is_array() {
        return Err(bad_prompt(api, "is not text"));
    }
    let is_ids = |value: Value<'_>| value.is_array() && value.items().all(is_token_id);
    let count = prompt.items().count() as u64;
    if count > 0 && is_ids(prompt) {
        return Ok(1);
    }
    if count == 0 || !(prompt.items().all(is_text) || prompt.items().all(is_ids)) {
        return Err(bad_prompt(
            api,
            "is an array of something else than strings, token ids or arrays of them, or empty",
        ));
    }
    if count > PROMPTS_MAX {
        return Err(bad_prompt(api, "has more than 2048 entries"));
    }
    Ok(count)
}

fn is_text(value: Value<'_>) -> bool {
    matches!(value.kind(), Kind::Plain | Kind::Escaped)
}

fn is_token_id(value: Value<'_>) -> bool {
    value.as_u64().is_some_and(|id| id < TOKEN_ID_MAX)
}

/// The tokens of all prompts: texts counted, ids as many as there are.
fn count(prompt: Value<'_>, tokenizer: Tokenizer) -> u64 {
    if let Some(text) = prompt.as_str() {
        return tokens::count(tokenizer, &text) + TOKENS_PER_PROMPT;
    }
    if prompt.items().next().is_some_and(|first| first.kind() == Kind::Number) || prompt.items().next().is_none() {
        return prompt.items().count() as u64 + TOKENS_PER_PROMPT;
    }
    prompt.items().fold(0, |sum: u64, one| sum.saturating_add(count(one, tokenizer)))
}

impl CallBody for Completion {
    fn exact_input(&self) -> Option<u64> {
        let root = self.document.root();
        let (prompt, tokenizer) = (root.get("prompt").filter(|prompt| !prompt.is_null())?, self.tokenizer?);
        let prompts = if prompt.is_array() { prompt.items().count() as u64 } else { 1 };
        let suffix = root.get("suffix").and_then(Value::as_str).map_or(0, |text| tokens::count(tokenizer, &text));
        let all = count(prompt, tokenizer).saturating_add(prompts.saturating_mul(suffix));
        Some(all.saturating_add(TOKENS_PER_PROMPT).min(self.input_max))
    }

    fn render(&self, output_limit: Option<u64>) -> Bytes {
        let own = output_limit.map(|limit| limit.saturating_sub(self.echo)).or(self.default_limit);
        let limit = own.map(|limit| limit.to_string());
        let mut changes: Vec<(&str, Option<&str>)> = Vec::with_capacity(2);
        if let Some(options) = self.stream_options {
            changes.push(("stream_options", Some(options)));
        }
        if let Some(limit) = &limit {
            changes.push(("max_tokens", Some(limit)));
        }
        self.document.render(&changes)
    }

    fn repeats_prompt(&self) -> bool {
        self.echo > 0
    }
}

#[cfg(test)]
mod tests;
