//! The key that goes to Bedrock: a bearer key, or a signature of the request made with an access key.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;

use crate::provider::Outgoing;
use crate::secret::Secret;

/// The name under which Bedrock's runtime takes signatures.
const SERVICE: &str = "bedrock";

/// The headers that carry the key.
pub fn authorize(request: &Outgoing<'_>, key: &Secret) -> Result<Vec<(&'static str, String)>, String> {
    authorize_at(request, key, SystemTime::now())
}

fn authorize_at(request: &Outgoing<'_>, key: &Secret, now: SystemTime) -> Result<Vec<(&'static str, String)>, String> {
    // A bearer key has no colon: it is base64 of some kind.
    let Some((id, rest)) = key.expose().split_once(':') else {
        let is_token = !key.expose().is_empty() && key.expose().bytes().all(|b| b.is_ascii_graphic());
        return if is_token {
            Ok(vec![("authorization", format!("Bearer {}", key.expose()))])
        } else {
            Err("it is empty, or has characters that a header cannot carry".into())
        };
    };
    let (secret, token) = rest.split_once(':').map_or((rest, None), |(secret, token)| (secret, Some(token)));
    let is_id = (16..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_text = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if !is_id || !is_text(secret) || !token.is_none_or(is_text) {
        return Err("with a colon in it, it must be ACCESS_KEY_ID:SECRET_ACCESS_KEY or ACCESS_KEY_ID:SECRET_ACCESS_KEY:SESSION_TOKEN".into());
    }
    let Some(region) = request.options.region.as_deref() else {
        return Err("an access key signs for one region: set providers.bedrock.region in loopers.yaml".into());
    };
    signature(request, Credentials::new(id, secret, token.map(String::from), None, "loopers"), region, now)
        // What went wrong may quote what was signed.
        .map_err(|_| "the request could not be signed with it".into())
}

/// How the headers begin that say something of a call to Bedrock: a tier, a guardrail, marks for the log.
const OF_THE_CALL: &str = "x-amzn-bedrock-";

/// Signs method, path, body and these headers: the host, the time, the session token if there is one, and as AWS's SDKs do those that belong
/// to the call. The gateway sends all of them just so, and no other `x-amz-*` header.
fn signature(
    request: &Outgoing<'_>,
    credentials: Credentials,
    region: &str,
    now: SystemTime,
) -> Result<Vec<(&'static str, String)>, Box<dyn std::error::Error>> {
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        // The default: the path is encoded once more (`%3A` becomes `%253A`), as for every service but S3.
        .settings(SigningSettings::default())
        .build()?;
    let uri = format!("https://{}{}", request.authority, request.path_and_query);
    let of_the_call = request.headers.iter().filter(|(name, _)| name.as_str().starts_with(OF_THE_CALL));
    let of_the_call = of_the_call.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let headers = std::iter::once(("host", request.authority)).chain(of_the_call);
    let body = SignableBody::Bytes(request.body);
    let signable = SignableRequest::new(request.method.as_str(), uri, headers, body)?;
    let (instructions, _) = sign(signable, &params.into())?.into_parts();
    Ok(instructions.into_parts().0.into_iter().map(|header| (header.name(), header.value().to_string())).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::provider::Options;

    const ID: &str = "AKIDEXAMPLE01234";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn headers(
        key: &str,
        host: &str,
        path: &str,
        body: &[u8],
        region: Option<&str>,
    ) -> Result<Vec<(&'static str, String)>, String> {
        headers_beside(&HeaderMap::new(), key, host, path, body, region)
    }

    /// What is added to these headers of the client.
    fn headers_beside(
        of_the_client: &HeaderMap,
        key: &str,
        host: &str,
        path: &str,
        body: &[u8],
        region: Option<&str>,
    ) -> Result<Vec<(&'static str, String)>, String> {
        let options = Options { region: region.map(String::from), ..Options::default() };
        let method = Method::POST;
        let outgoing = Outgoing {
            method: &method,
            authority: host,
            path_and_query: path,
            headers: of_the_client,
            body,
            options: &options,
        };
        // 2026-11-23T20:00:00Z
        authorize_at(&outgoing, &Secret::new(key), SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_464_000))
    }

    #[test]
    fn signatures_are_botocores() {
        // Each was computed once by botocore 1.43.11: SigV4Auth(Credentials(…), "bedrock", region).add_auth(request).
        for (host, path, region, token, body, want) in VECTORS {
            let key = match token {
                "" => format!("{ID}:{SECRET}"),
                token => format!("{ID}:{SECRET}:{token}"),
            };
            let signed = headers(&key, host, path, body.as_bytes(), Some(region)).unwrap();
            let get = |name: &str| signed.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
            let names = if token.is_empty() { "host;x-amz-date" } else { "host;x-amz-date;x-amz-security-token" };
            let authorization = format!(
                "AWS4-HMAC-SHA256 Credential={ID}/20261123/{region}/bedrock/aws4_request, SignedHeaders={names}, Signature={want}"
            );
            assert_eq!(get("authorization"), Some(authorization.as_str()), "{path}");
            assert_eq!(get("x-amz-date"), Some("20261123T200000Z"));
            assert_eq!(get("x-amz-security-token"), Some(token).filter(|token| !token.is_empty()));
            assert_eq!(signed.len(), if token.is_empty() { 2 } else { 3 });
        }
    }

    #[test]
    fn headers_that_belong_to_the_call_are_signed_as_the_sdks_do() {
        // By botocore 1.44.8, as above; other headers of the client are not under the signature.
        let mut of_the_client = HeaderMap::new();
        of_the_client.insert("x-amzn-bedrock-request-metadata", r#"{"team": "search"}"#.parse().unwrap());
        of_the_client.insert("x-amzn-bedrock-trace", "ENABLED".parse().unwrap());
        of_the_client.insert("user-agent", "boto3".parse().unwrap());
        let key = format!("{ID}:{SECRET}");
        let host = "bedrock-runtime.us-east-1.amazonaws.com";
        let path = "/model/amazon.nova-pro-v1%3A0/invoke";
        let signed = headers_beside(&of_the_client, &key, host, path, b"{}", Some("us-east-1")).unwrap();
        let names = "host;x-amz-date;x-amzn-bedrock-request-metadata;x-amzn-bedrock-trace";
        let want = "4f30336adac084440feeaba52a0604c6e04d0c517322d38b64bfc63eafd14055";
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={ID}/20261123/us-east-1/bedrock/aws4_request, SignedHeaders={names}, Signature={want}"
        );
        let said = signed.iter().find(|(name, _)| *name == "authorization").map(|(_, value)| value.as_str());
        assert_eq!(said, Some(authorization.as_str()));
    }

    #[test]
    fn anything_without_a_colon_is_a_bearer_key() {
        let sent = |key: &str| headers(key, "h", "/model/a/converse", b"{}", None);
        assert_eq!(sent("bedrock-api-key-YWJj=="), Ok(vec![("authorization", "Bearer bedrock-api-key-YWJj==".into())]));
        for bad in ["", "a b", "a\nb", "é"] {
            assert!(sent(bad).is_err());
        }
    }

    #[test]
    fn a_key_that_cannot_sign_says_so_without_showing_itself() {
        for bad in [
            "AKID:secret",
            ":x",
            "AKIDEXAMPLE01234:",
            "AKIDEXAMPLE01234:s:",
            "AKIDEXAMPLE-1234:s",
            "AKIDEXAMPLE01234:s ecret",
        ] {
            let problem = headers(bad, "h", "/model/a/converse", b"{}", Some("us-east-1")).unwrap_err();
            assert!(problem.contains("ACCESS_KEY_ID") && !problem.contains("AKID"), "{problem}");
        }
        let problem = headers(&format!("{ID}:{SECRET}"), "h", "/m", b"{}", None).unwrap_err();
        assert!(problem.contains("region") && !problem.contains(SECRET));
    }

    type Vector = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

    const VECTORS: [Vector; 4] = [
        (
            "bedrock-runtime.us-east-1.amazonaws.com",
            "/model/anthropic.claude-opus-5-5/converse",
            "us-east-1",
            "",
            r#"{"messages":[]}"#,
            "37ec5d81d9aad45e4af10b5697938b03464aab01c25d504dfd4fd4373438df82",
        ),
        (
            "bedrock-runtime.eu-west-1.amazonaws.com",
            "/model/eu.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse-stream",
            "eu-west-1",
            "",
            r#"{"messages":[{"role":"user","content":[{"text":"hé 🙂"}]}]}"#,
            "2ebb716a696c9f2243a338ec9dc1c1a13d0cf63c4c9087b88bd6d59475911dba",
        ),
        (
            "127.0.0.1:9999",
            "/model/amazon.nova-pro-v1%3A0/invoke-with-response-stream",
            "us-west-2",
            "IQoJb3JpZ2luX2VjEXAMPLE//token==",
            "{}",
            "9e7819c8208466c52eb7af2bedfa52283decc9be1db6ffffa54f60c213969f95",
        ),
        (
            "bedrock-runtime.us-east-1.amazonaws.com",
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc/invoke",
            "us-east-1",
            "",
            "",
            "d82d00a04c23c3a6f860d273d37535ceda24f9f64ee8a5068385f5e08fa6fbc9",
        ),
    ];
}
