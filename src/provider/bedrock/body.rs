//! A request of Bedrock's, bounded, and how it is written again with a lower output limit.

use std::any::Any;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::bound::Traits;
use super::model::Vendor;
use super::terms::{self, Extras};
use crate::money::Money;
use crate::pricing::ModelPrice;
use crate::provider::{Call, CallBody, CountAsk, Reject, reject};
use crate::wire::json::{self, Document, Value};

/// A clamp does not go below this many output tokens, unless the request itself does.
const CLAMP_MIN: u64 = 16;

/// The fields of Converse that count-tokens knows, and those that leave the prompt as it is.
const COUNTED: [&str; 4] = ["messages", "system", "toolConfig", "additionalModelRequestFields"];
const NOT_IN_PROMPT: [&str; 6] = [
    "inferenceConfig",
    "serviceTier",
    "performanceConfig",
    "projectIdentifier",
    "requestMetadata",
    "additionalModelResponseFieldPaths",
];

/// Where the output limit stands in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitField {
    /// At the top level.
    Top(&'static str),
    /// In an object at the top level.
    In(&'static str, &'static str),
    /// Nowhere: an embedding.
    None,
}

/// A request, read.
pub struct Parts {
    /// The model, as the price table calls it.
    pub model: Arc<str>,
    /// Its row.
    pub price: Arc<ModelPrice>,
    /// Whose it is.
    pub vendor: Vendor,
    /// The body.
    pub document: Document,
    /// What it may put into the prompt.
    pub traits: Traits,
    /// What it asks for beside the model's work.
    pub extras: Extras,
    /// Its own output limit.
    pub limit: Option<u64>,
    /// Where that limit stands, or belongs.
    pub limit_field: LimitField,
    /// True when the answer is streamed.
    pub is_stream: bool,
    /// True when the body is the vendor's own, not Converse's.
    pub is_native: bool,
}

/// The provider's part of a call.
struct Body {
    document: Document,
    is_native: bool,
    limit_field: LimitField,
    extras: Extras,
}

/// Bounds a request.
pub fn call(parts: Parts) -> Result<Call, Reject> {
    let Parts { model, price, vendor, document, traits, extras, limit, limit_field, is_stream, is_native } = parts;
    let is_embedding = limit_field == LimitField::None;
    if price.embedding != is_embedding {
        let what = if price.embedding { "makes embeddings" } else { "makes no embeddings" };
        return Err(reject::invalid(format!("`{model}` {what}"), "name a model that belongs to this route and body"));
    }
    let output_max = if is_embedding { 0 } else { limit.unwrap_or(price.max_output).min(price.context_window) };
    let fees = extras.guardrail.map_or(Money::ZERO, |fee| Money::from_nano(fee.usd.nano().saturating_mul(fee.calls)));
    let mut terms = traits.terms();
    terms.tiers = terms::check_tier(extras.tier, &model, &price)?;
    terms.fees = fees;
    Ok(Call {
        stream: is_stream,
        shows_usage: true,
        samples: 1,
        input_max: traits.input_max(&document, vendor, &price),
        output_max,
        // A limit that is not above the budget of thinking is an error for the provider.
        output_min: output_max.min(CLAMP_MIN.saturating_add(traits.thinking)),
        // A stream that is dropped is billed to its end: a cut would not save what it cuts.
        cuttable: false,
        model,
        price,
        terms,
        body: Box::new(Body { document, is_native, limit_field, extras }),
    })
}

impl CallBody for Body {
    fn exact_input(&self) -> Option<u64> {
        None
    }

    /// What count-tokens tells is documented as what is charged.
    fn count(&self, path: &str) -> Option<CountAsk> {
        if self.limit_field == LimitField::None {
            return None;
        }
        let root = self.document.root();
        let (kind, inner) = if self.is_native {
            ("invokeModel", format!("{{\"body\":\"{}\"}}", STANDARD.encode(self.document.render(&[]))))
        } else {
            let is_known = |name: &str| COUNTED.contains(&name) || NOT_IN_PROMPT.contains(&name);
            let is_whole = root.fields().all(|(name, _)| is_known(&name));
            let fields = root.fields().filter(|(name, _)| COUNTED.contains(&name.as_ref()));
            let fields = json::write_object(fields.map(|(name, value)| (name, value.raw())));
            ("converse", String::from_utf8(fields).ok().filter(|_| is_whole)?)
        };
        let (model, _) = path.rsplit_once('/')?;
        Some(CountAsk {
            path: format!("{model}/count-tokens"),
            body: format!("{{\"input\":{{\"{kind}\":{inner}}}}}").into(),
            field: "inputTokens",
            slack: (0, 0),
        })
    }

    fn render(&self, output_limit: Option<u64>) -> Bytes {
        let Some(limit) = output_limit.map(|limit| limit.to_string()) else { return self.document.render(&[]) };
        match self.limit_field {
            LimitField::None => self.document.render(&[]),
            LimitField::Top(name) => self.document.render(&[(name, Some(&limit))]),
            LimitField::In(object, name) => {
                let written = with_field(self.document.root().get(object), name, &limit);
                self.document.render(&[(object, Some(&written))])
            }
        }
    }

    fn facts(&self) -> Option<&dyn Any> {
        Some(&self.extras)
    }
}

/// An object's text with one field set; every other value keeps its bytes.
fn with_field(object: Option<Value<'_>>, name: &str, text: &str) -> String {
    let mut out = vec![b'{'];
    let mut write = |key: &str, value: &str| {
        if out.len() > 1 {
            out.push(b',');
        }
        json::write_string(&mut out, key);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    };
    let mut is_written = false;
    for (key, value) in object.into_iter().flat_map(Value::fields) {
        is_written |= key == name;
        write(&key, if key == name { text } else { value.raw() });
    }
    if !is_written {
        write(name, text);
    }
    out.push(b'}');
    // All parts are text.
    String::from_utf8_lossy(&out).into_owned()
}
