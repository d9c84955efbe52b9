//! InvokeModel: each vendor's own body.

use serde_json::Value;

use super::super::anthropic::messages::{self, Seller};
use super::super::anthropic::out::Frames as ClaudeFrames;
use super::super::error::ApiError;
use super::super::flow::{App, Incoming, Order};
use super::super::prices::Provider;
use super::super::read::{integer, parse_body};
use super::super::script::UsageMode;
use super::converse::{self, Wanted};
use super::converse_out::Frames;
use super::{Target, tier_of, vendors};

/// Checks a request and says what it will be billed.
pub fn order(app: &App, incoming: &Incoming, target: Target, stream: bool) -> Result<Order, ApiError> {
    let body = parse_body(incoming)?;
    let mut order = if target.model.name.contains("anthropic.claude") {
        claude(app, incoming, &body, target, stream)?
    } else if target.model.name.contains("amazon.nova") {
        let config = &body["inferenceConfig"];
        let most = target.model.max_output;
        let limit = integer(config, "maxTokens", 1, most)?.or(integer(config, "max_new_tokens", 1, most)?);
        let wanted = Wanted { limit, thinks: false, stream, frames: Frames::Nova };
        converse::build(app, incoming, &body, target, wanted)?
    } else {
        vendors::order(app, incoming, &body, target, stream)?
    };
    if !stream {
        count_headers(&mut order);
    }
    let tier = order.facts.tier_name(order.facts.tier.name()).to_owned();
    order.headers.push(("x-amzn-bedrock-service-tier", tier));
    Ok(order)
}

/// Anthropic's own body, without model and stream and with a version.
fn claude(app: &App, incoming: &Incoming, body: &Value, target: Target, stream: bool) -> Result<Order, ApiError> {
    if let Some(key) = ["model", "stream"].into_iter().find(|key| !body[*key].is_null()) {
        let message = format!("Malformed input request: #: extraneous key [{key}] is not permitted");
        return Err(ApiError::bad("", None, message));
    }
    if body["anthropic_version"] != "bedrock-2023-05-31" {
        let message = "anthropic_version: Field required, and it must be \"bedrock-2023-05-31\"";
        return Err(ApiError::bad("", None, message));
    }
    tier_of(incoming, body)?;
    let Target { model, requested, named } = target;
    let seller = Seller { provider: Provider::Bedrock, model, requested, named, stream };
    messages::order(app, incoming, body, seller, |_| ClaudeFrames::Chunks)
}

/// What was used, in the headers of an answer that is not streamed.
fn count_headers(order: &mut Order) {
    let facts = &order.facts;
    if matches!(facts.script.usage, UsageMode::None | UsageMode::Null) {
        return;
    }
    let prompt = &facts.prompt;
    let written = prompt.cache_write + prompt.cache_write_1h;
    let input = prompt.total.saturating_sub(prompt.cached).saturating_sub(written);
    let counts = [
        ("x-amzn-bedrock-input-token-count", input),
        ("x-amzn-bedrock-output-token-count", facts.completion()),
        ("x-amzn-bedrock-cache-read-input-token-count", prompt.cached),
        ("x-amzn-bedrock-cache-write-input-token-count", written),
    ];
    order.headers.extend(counts.map(|(name, tokens)| (name, facts.say(tokens))));
    order.headers.push(("x-amzn-bedrock-invocation-latency", "100".to_owned()));
}

/// Counts the input of either kind of body, for nothing.
pub fn count_tokens(incoming: &Incoming, target: &Target) -> Result<u64, ApiError> {
    let body = parse_body(incoming)?;
    let (input, bad) = (&body["input"], |message: &str| ApiError::bad("", None, message));
    if !input["converse"].is_null() {
        return Ok(converse::count(&input["converse"], &target.requested)?.tokens());
    }
    let coded = input["invokeModel"]["body"].as_str();
    let inner = coded.and_then(from_base64).and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    match inner {
        Some(inner) if target.model.name.contains("anthropic.claude") => messages::count(&inner, &target.requested),
        Some(inner) if target.model.name.contains("amazon.nova") => {
            Ok(converse::count(&inner, &target.requested)?.tokens())
        }
        Some(_) => Err(bad("The provided model doesn't support counting tokens.")),
        None => Err(bad("input: expected converse, or invokeModel with a body")),
    }
}

/// Decodes base64.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut width, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, width) = (bits << 6 | u32::from(value), width + 6);
        if width >= 8 {
            width -= 8;
            bytes.push((bits >> width) as u8);
            bits &= (1 << width) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::from_base64;

    #[test]
    fn base64_back() {
        for (coded, plain) in [("", ""), ("TQ==", "M"), ("TWE=", "Ma"), ("TWFu", "Man"), ("TWFueQ==", "Many")] {
            assert_eq!(from_base64(coded).unwrap(), plain.as_bytes());
        }
        assert!(from_base64("TW!u").is_none());
    }
}
