//! Model ids as they stand in a path: one canonical spelling, whose model it is, what it costs.

use std::sync::Arc;

use crate::pricing::ModelPrice;
use crate::provider::{Reading, Reject, reject};

/// The longest model id, percent-encoded.
const ID_BYTES_MAX: usize = 1024;

/// Labels before a vendor's name: the geography of an inference profile.
const GEOGRAPHIES: [&str; 9] = ["us", "eu", "apac", "jp", "au", "in", "ca", "us-gov", "global"];

/// Stored prompts and routers: what they put into a call, and which model they choose, is not in the request.
const OPAQUE: [&str; 4] = [":prompt/", ":prompt-router/", ":default-prompt-router/", ":flow/"];

/// Whose request format an `invoke` body has, and how its input is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Anthropic.
    Claude,
    /// Amazon Nova: understanding models.
    Nova,
    /// Mistral.
    Mistral,
    /// Meta.
    Llama,
    /// Amazon Titan text generation.
    TitanText,
    /// Amazon Titan text embeddings.
    TitanEmbed,
    /// Cohere embeddings.
    CohereEmbed,
    /// OpenAI.
    OpenAi,
    /// Everybody else: by `converse` only.
    Other,
}

impl Vendor {
    /// The vendor of a model id.
    pub fn of(model: &str) -> Vendor {
        let model =
            model.split_once('.').filter(|(label, _)| GEOGRAPHIES.contains(label)).map_or(model, |(_, rest)| rest);
        let begins = |start: &str| model.starts_with(start);
        match () {
            () if begins("anthropic.") => Vendor::Claude,
            () if begins("amazon.nova-") => Vendor::Nova,
            () if begins("mistral.") => Vendor::Mistral,
            () if begins("meta.llama") => Vendor::Llama,
            () if begins("amazon.titan-text-") || begins("amazon.titan-tg1-") => Vendor::TitanText,
            () if begins("amazon.titan-embed-") => Vendor::TitanEmbed,
            () if begins("cohere.embed-") => Vendor::CohereEmbed,
            () if begins("openai.") => Vendor::OpenAi,
            () => Vendor::Other,
        }
    }
}

/// The id and the operation of `/model/{id}/{operation}`. `None` unless the id is spelled as an SDK spells it: `:` as `%3A` (boto3, the
/// SDKs of AWS) or as it is (Anthropic's clients for Bedrock), the slashes of an ARN as `%2F`, and nothing else encoded.
pub fn split(path: &str) -> Option<(String, &str)> {
    let (id, operation) = path.strip_prefix("/model/")?.split_once('/')?;
    Some((decoded(id)?, operation))
}

/// The path in the one spelling that is forwarded and signed, whichever the client chose: that of AWS's own SDKs.
pub fn canonical(path: &str) -> Option<String> {
    let (id, operation) = split(path)?;
    Some(format!("/model/{}/{operation}", id.replace(':', "%3A").replace('/', "%2F")))
}

fn decoded(id: &str) -> Option<String> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return None;
    }
    let plain = id.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/").replace("%2f", "/");
    let is_arn = plain.starts_with("arn:");
    let is_known = |b: u8| b.is_ascii_alphanumeric() || b"._-:".contains(&b) || is_arn && b == b'/';
    let starts_plainly = plain.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    (starts_plainly && plain.bytes().all(is_known) && !plain.contains("..")).then_some(plain)
}

/// The model that an ARN ends with: that of a foundation model, or of an inference profile that AWS itself defines, in the region that the
/// calls go to. Every other kind of ARN has a name that says nothing of its model.
fn named_by_arn<'a>(id: &'a str, region: Option<&str>) -> Option<&'a str> {
    let mut parts = id.splitn(6, ':').skip(2);
    let (service, place) = (parts.next()?, parts.next()?);
    let (kind, model) = parts.nth(1)?.split_once('/')?;
    let is_here = region.is_none_or(|region| region == place);
    let says_its_model = matches!(kind, "foundation-model" | "inference-profile") && !model.contains('/');
    (service == "bedrock" && is_here && says_its_model).then_some(model)
}

/// The model that a request names, as the price table calls it, and its row in the region that the calls go to.
pub fn priced(id: &str, reading: &Reading<'_>) -> Result<(Arc<str>, Arc<ModelPrice>), Reject> {
    let mapped = reading.options.deployments.get(id).map(String::as_str);
    let mapped = mapped.or_else(|| named_by_arn(id, reading.options.region.as_deref()));
    if id.starts_with("arn:") {
        if OPAQUE.iter().any(|kind| id.contains(kind)) {
            let message = "a stored prompt or a prompt router puts more into the call than the request shows";
            return Err(reject::unpriceable(message, "name a model, and send the prompt in the request"));
        }
        if mapped.is_none() {
            let hint = format!(
                "send the model's id, or say in loopers.yaml which model it is: providers.{}.deployments: {{ \"{id}\": MODEL }}",
                reading.provider
            );
            return Err(Reject {
                code: "unpriced_model",
                message: format!("nothing says which model `{id}` is"),
                hint,
            });
        }
    }
    let model = mapped.unwrap_or(id);
    // Without a region the dearest row of all regions is taken.
    let region = reading.options.region.as_deref().unwrap_or_default();
    match reading.prices.for_region(reading.provider, region, model) {
        Some(price) => Ok((model.into(), price.clone())),
        None => Err(reject::no_price(reading.provider, model, reading.prices)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_is_read_as_each_sdk_writes_it_and_sent_in_one_spelling() {
        let arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc";
        for (sent_as, id, forwarded) in [
            ("amazon.nova-pro-v1%3A0", "amazon.nova-pro-v1:0", "amazon.nova-pro-v1%3A0"),
            ("amazon.nova-pro-v1%3a0", "amazon.nova-pro-v1:0", "amazon.nova-pro-v1%3A0"),
            // `quote(model, safe=":")` of Anthropic's client.
            ("amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0", "amazon.nova-pro-v1%3A0"),
            (
                "arn:aws:bedrock:us-east-1:1:application-inference-profile%2Fabc",
                arn,
                "arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aapplication-inference-profile%2Fabc",
            ),
            ("us.anthropic.claude-opus-5-5", "us.anthropic.claude-opus-5-5", "us.anthropic.claude-opus-5-5"),
        ] {
            let path = format!("/model/{sent_as}/invoke");
            assert_eq!(split(&path), Some((id.to_string(), "invoke")), "{path}");
            assert_eq!(canonical(&path), Some(format!("/model/{forwarded}/invoke")), "{path}");
        }
        assert_eq!(canonical("/model/a%253A0/converse"), None);
    }

    #[test]
    fn arns_that_end_with_their_model_say_it() {
        let named = |arn: &str| named_by_arn(arn, Some("us-east-1")).map(String::from);
        let haiku = "anthropic.claude-haiku-4-5-20251001-v1:0";
        assert_eq!(named(&format!("arn:aws:bedrock:us-east-1::foundation-model/{haiku}")), Some(haiku.into()));
        let profile = format!("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{haiku}");
        assert_eq!(named(&profile), Some(format!("us.{haiku}")));
        assert_eq!(named_by_arn(&profile, None), Some(&*format!("us.{haiku}")));
        for other in [
            "arn:aws:bedrock:eu-west-1::foundation-model/a",
            "arn:aws:bedrock:us-east-1:1:application-inference-profile/a",
            "arn:aws:bedrock:us-east-1:1:provisioned-model/a",
            "arn:aws:bedrock:us-east-1:1:custom-model/a",
            "arn:aws:bedrock:us-east-1:1:imported-model/a",
            "arn:aws:sagemaker:us-east-1:1:inference-profile/a",
            "arn:aws:bedrock:us-east-1:1:inference-profile/a/b",
            "arn:aws:bedrock:us-east-1:inference-profile/a",
            "anthropic.claude-haiku-4-5-20251001-v1:0",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
    }

    #[test]
    fn an_id_has_no_other_spelling() {
        let id = |path: &str| split(path).map(|(id, operation)| (id, operation.to_string()));
        let found = |id: &str, operation: &str| Some((id.to_string(), operation.to_string()));
        assert_eq!(
            id("/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse"),
            found("us.anthropic.claude-haiku-4-5-20251001-v1:0", "converse")
        );
        assert_eq!(id("/model/amazon.nova-pro-v1%3A0/invoke"), found("amazon.nova-pro-v1:0", "invoke"));
        let arn =
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc/converse";
        assert_eq!(
            id(arn),
            found("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", "converse")
        );
        for other in [
            "/model/a%253A0/converse",
            "/model/a%2E0/converse",
            "/model/%61/converse",
            "/model/us-gov-west-1%2Fmeta.llama3-8b-instruct-v1%3A0/invoke",
            "/model/%3A/converse",
            "/model/:/converse",
            "/model/a%2Fb/converse",
            "/model//converse",
            "/model/./converse",
            "/model/../converse",
            "/model/a..b/converse",
            "/model/%2E%2E/converse",
            "/model/-a/converse",
            "/model/a b/converse",
            "/model/a@1/converse",
            "/model/é/converse",
            "/model/a",
            "/Model/a/converse",
            "model/a/converse",
        ] {
            assert_eq!(id(other), None, "{other}");
        }
        assert_eq!(id(&format!("/model/{}/converse", "a".repeat(1025))), None);
    }

    #[test]
    fn vendors_are_told_by_their_ids() {
        for (model, vendor) in [
            ("anthropic.claude-opus-5-5", Vendor::Claude),
            ("us.anthropic.claude-opus-5-5", Vendor::Claude),
            ("us-gov.anthropic.claude-opus-5-5", Vendor::Claude),
            ("global.anthropic.claude-opus-5-5", Vendor::Claude),
            ("eu.amazon.nova-pro-v1:0", Vendor::Nova),
            ("mistral.mistral-large-2402-v1:0", Vendor::Mistral),
            ("us.meta.llama3-2-1b-instruct-v1:0", Vendor::Llama),
            ("amazon.titan-text-express-v1", Vendor::TitanText),
            ("amazon.titan-embed-text-v2:0", Vendor::TitanEmbed),
            ("cohere.embed-english-v3", Vendor::CohereEmbed),
            ("cohere.command-r-v1:0", Vendor::Other),
            ("openai.gpt-oss-120b-1:0", Vendor::OpenAi),
            ("evil.anthropic.claude", Vendor::Other),
            ("us.us.anthropic.claude", Vendor::Other),
        ] {
            assert_eq!(Vendor::of(model), vendor, "{model}");
        }
    }
}
