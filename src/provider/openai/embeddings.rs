//! Embeddings: the request.

use bytes::Bytes;

use super::profile::{Api, Model, Profile};
use crate::pricing::Tokenizer;
use crate::provider::fields::rule;
use crate::provider::{Call, CallBody, Reject, nfkc, reject, tokens};
use crate::wire::json::{Document, Kind, Value};

/// A token that marks the end of an input, where a model has one.
const TOKENS_PER_INPUT: u64 = 1;
/// Token ids are below this.
const TOKEN_ID_MAX: u64 = 1 << 31;

struct Embeddings {
    document: Document,
    tokenizer: Option<Tokenizer>,
    tokens_per_input_max: u64,
    profile: &'static Profile,
}

/// Reads and bounds an embeddings request.
pub fn read(body: Bytes, api: &Api<'_>) -> Result<Call, Reject> {
    let document = super::document(body)?;
    let root = document.root();
    let (mut model, mut input) = (None, None);
    for (key, (name, value)) in root.keys().zip(root.fields()) {
        rule(api.reading, (key, value), &name, api.profile.embeddings)?;
        match name.as_ref() {
            "model" => model = Some(value),
            "input" => input = Some(value),
            _ => {}
        }
    }
    let Model { name: model, price, terms } = api.model(model)?;
    if !price.embedding {
        return Err(reject::invalid(
            format!("`{model}` is not an embedding model"),
            "name one, e.g. \"text-embedding-3-small\"",
        ));
    }
    let Some(input) = input else { return Err(bad_input("is missing")) };
    check(input, api.profile.inputs_max)?;
    // A byte is a token at most; raw text is never shorter than what it decodes to.
    let is_public = price.tokenizer.is_some();
    let bytes = |text: Value<'_>| text.raw().len() as u64 + if is_public { 0 } else { nfkc::growth(text) };
    let input_max = sum(input, api.profile, price.context_window, bytes);
    let body = Embeddings {
        tokenizer: price.tokenizer.filter(|_| document.len() <= tokens::COUNTED_BYTES_MAX),
        tokens_per_input_max: price.context_window,
        profile: api.profile,
        document,
    };
    Ok(Call {
        model,
        stream: false,
        shows_usage: true,
        samples: 1,
        input_max,
        output_max: 0,
        output_min: 0,
        cuttable: false,
        price,
        terms,
        body: Box::new(body),
    })
}

fn bad_input(what: &str) -> Reject {
    let hint = "send a string, an array of up to 2048 strings, an array of token ids, or an array of such arrays";
    reject::invalid(format!("`input` {what}"), hint)
}

fn is_text(value: Value<'_>) -> bool {
    matches!(value.kind(), Kind::Plain | Kind::Escaped)
}

fn is_token_id(value: Value<'_>) -> bool {
    value.as_u64().is_some_and(|id| id < TOKEN_ID_MAX)
}

fn check(input: Value<'_>, inputs_max: usize) -> Result<(), Reject> {
    if is_text(input) {
        return Ok(());
    }
    if !input.is_array() {
        return Err(bad_input("is neither a string nor an array"));
    }
    let is_ids =
        |value: Value<'_>| value.is_array() && value.items().next().is_some() && value.items().all(is_token_id);
    let is_one_of_ids = is_ids(input);
    let is_many = input.items().next().is_some() && (input.items().all(is_text) || input.items().all(is_ids));
    if !is_one_of_ids && !is_many {
        return Err(bad_input(
            "is an array of something else than strings, token ids or arrays of token ids, or empty",
        ));
    }
    if is_many && input.items().count() > inputs_max {
        return Err(bad_input("has more than 2048 entries"));
    }
    Ok(())
}

/// The tokens of all inputs, none above what one may have, all together not above what a request may have.
fn sum(input: Value<'_>, profile: &Profile, per_input: u64, text: impl Fn(Value<'_>) -> u64) -> u64 {
    let one = |value: Value<'_>| {
        let tokens = if is_text(value) { text(value) } else { value.items().count() as u64 };
        (tokens + TOKENS_PER_INPUT).min(per_input)
    };
    let is_one = is_text(input) || input.items().next().is_some_and(|first| first.kind() == Kind::Number);
    if is_one {
        return one(input).min(profile.input_tokens_max);
    }
    input.items().fold(0, |sum: u64, value| sum.saturating_add(one(value))).min(profile.input_tokens_max)
}

impl CallBody for Embeddings {
    fn exact_input(&self) -> Option<u64> {
        let tokenizer = self.tokenizer?;
        let input = self.document.root().get("input")?;
        let count = |text: Value<'_>| text.as_str().map_or(0, |text| tokens::count(tokenizer, &text));
        Some(sum(input, self.profile, self.tokens_per_input_max, count))
    }

    fn render(&self, _output_limit: Option<u64>) -> Bytes {
        self.document.render(&[])
    }
}
