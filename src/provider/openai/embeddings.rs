//! Embeddings: the request.

use bytes::Bytes;

use super::fields;
use crate::pricing::{Terms, Tokenizer};
use crate::provider::fields::rule;
use crate::provider::{Call, CallBody, Reading, Reject, reject, tokens};
use crate::wire::json::{Document, Kind, Value};

/// The most inputs of one request.
const INPUTS_MAX: usize = 2048;
/// The most tokens of all inputs together.
const TOKENS_MAX: u64 = 300_000;
/// A token that marks the end of an input, where a model has one.
const TOKENS_PER_INPUT: u64 = 1;
/// Token ids are below this.
const TOKEN_ID_MAX: u64 = 1 << 31;

struct Embeddings {
    document: Document,
    tokenizer: Option<Tokenizer>,
    tokens_per_input_max: u64,
}

/// Reads and bounds an embeddings request.
pub fn read(body: Bytes, reading: &Reading<'_>) -> Result<Call, Reject> {
    let document = super::document(body)?;
    let root = document.root();
    let (mut model, mut input) = (None, None);
    for (key, (name, value)) in root.keys().zip(root.fields()) {
        rule(reading, key, &name, fields::EMBEDDINGS)?;
        match name.as_ref() {
            "model" => model = Some(value),
            "input" => input = Some(value),
            _ => {}
        }
    }
    let (model, price) = super::model(model, reading)?;
    if !price.embedding {
        return Err(reject::invalid(
            format!("`{model}` is not an embedding model"),
            "name one, e.g. \"text-embedding-3-small\"",
        ));
    }
    let Some(input) = input else { return Err(bad_input("is missing")) };
    check(input)?;
    // A byte is a token at most; raw text is never shorter than what it decodes to.
    let input_max = sum(input, price.context_window, |text| text.raw().len() as u64);
    let body = Embeddings {
        tokenizer: price.tokenizer.filter(|_| document.len() <= tokens::COUNTED_BYTES_MAX),
        tokens_per_input_max: price.context_window,
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
        terms: Terms::default(),
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

fn check(input: Value<'_>) -> Result<(), Reject> {
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
    if is_many && input.items().count() > INPUTS_MAX {
        return Err(bad_input("has more than 2048 entries"));
    }
    Ok(())
}

/// The tokens of all inputs, none above what one may have, all together not above what a request may have.
fn sum(input: Value<'_>, per_input: u64, text: impl Fn(Value<'_>) -> u64) -> u64 {
    let one = |value: Value<'_>| {
        let tokens = if is_text(value) { text(value) } else { value.items().count() as u64 };
        (tokens + TOKENS_PER_INPUT).min(per_input)
    };
    let is_one = is_text(input) || input.items().next().is_some_and(|first| first.kind() == Kind::Number);
    if is_one {
        return one(input).min(TOKENS_MAX);
    }
    input.items().fold(0, |sum: u64, value| sum.saturating_add(one(value))).min(TOKENS_MAX)
}

impl CallBody for Embeddings {
    fn exact_input(&self) -> Option<u64> {
        let tokenizer = self.tokenizer?;
        let input = self.document.root().get("input")?;
        let count = |text: Value<'_>| text.as_str().map_or(0, |text| tokens::count(tokenizer, &text));
        Some(sum(input, self.tokens_per_input_max, count))
    }

    fn render(&self, _output_limit: Option<u64>) -> Bytes {
        self.document.render(&[])
    }
}
