//! AWS's signature, version 4: its shape, and whether it is right if the caller signs with the mock's own secret.

use hyper::http::request::Parts;
use sha2::{Digest, Sha256};

use super::super::error::ApiError;

/// Who signs with these can be checked.
pub const ACCESS_KEY: &str = "AKIAMOCKMOCKMOCKMOCK";
/// The secret of [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "mock-secret-access-key";

/// Checks the signature of a request; `body` is as it was signed. The answer is what the log says.
pub fn check(parts: &Parts, body: &[u8], authorization: &str) -> Result<&'static str, ApiError> {
    let Some(fields) = Fields::parse(authorization) else {
        let message =
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' of AWS4-HMAC-SHA256.";
        return Err(ApiError::bad("", Some("IncompleteSignatureException"), message).with_status(403));
    };
    if fields.access_key != ACCESS_KEY {
        return Ok("sigv4");
    }
    if fields.expected(SECRET_KEY, parts, body) == fields.signature {
        return Ok("sigv4_ok");
    }
    let message = "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                   Access Key and signing method. Consult the service documentation for details.";
    Err(ApiError::bad("", Some("InvalidSignatureException"), message).with_status(403))
}

struct Fields<'a> {
    access_key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Fields<'a> {
    fn parse(authorization: &'a str) -> Option<Fields<'a>> {
        let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let field = |name: &str| {
            rest.split(',').find_map(|part| part.trim().strip_prefix(name)).and_then(|value| value.strip_prefix('='))
        };
        let mut scope = field("Credential")?.split('/');
        let (access_key, date, region) = (scope.next()?, scope.next()?, scope.next()?);
        let (service, end) = (scope.next()?, scope.next()?);
        let (signed, signature) = (field("SignedHeaders")?, field("Signature")?);
        let is_hex = signature.len() == 64 && signature.bytes().all(|b| b.is_ascii_hexdigit());
        let is_whole = scope.next().is_none() && end == "aws4_request" && !access_key.is_empty() && !signed.is_empty();
        (is_hex && is_whole).then_some(Fields { access_key, date, region, service, signed, signature })
    }

    /// The signature that a caller with this secret makes.
    fn expected(&self, secret: &str, parts: &Parts, body: &[u8]) -> String {
        let header = |name: &str| -> String {
            let values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            let joined =
                values.map(|v| v.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(",");
            // Over HTTP/2 the host is part of the address.
            if joined.is_empty() && matches!(name, "host" | ":authority") {
                return parts.uri.authority().map_or(String::new(), |authority| authority.as_str().to_owned());
            }
            joined
        };
        let mut query: Vec<&str> = parts.uri.query().unwrap_or_default().split('&').filter(|q| !q.is_empty()).collect();
        query.sort_unstable();
        let headers: String = self.signed.split(';').map(|name| format!("{name}:{}\n", header(name))).collect();
        let content = match header("x-amz-content-sha256") {
            given if given == "UNSIGNED-PAYLOAD" => given,
            _ => hex(&Sha256::digest(body)),
        };
        let request = format!(
            "{}\n{}\n{}\n{headers}\n{}\n{content}",
            parts.method,
            encoded_again(parts.uri.path()),
            query.join("&"),
            self.signed
        );
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let hash = hex(&Sha256::digest(request.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", header("x-amz-date"));
        let mut key = hmac(format!("AWS4{secret}").as_bytes(), self.date.as_bytes());
        for part in [self.region, self.service, "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        hex(&hmac(&key, text.as_bytes()))
    }
}

/// The path as it is signed: what is already encoded is encoded once more.
fn encoded_again(path: &str) -> String {
    path.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let mut padded = if key.len() > BLOCK { Sha256::digest(key).to_vec() } else { key.to_vec() };
    padded.resize(BLOCK, 0);
    let xored = |mask: u8| padded.iter().map(|b| b ^ mask).collect::<Vec<u8>>();
    let inner = Sha256::digest([xored(0x36).as_slice(), text].concat());
    Sha256::digest([xored(0x5c).as_slice(), inner.as_slice()].concat()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_of_the_rfc() {
        // RFC 4231, test cases 2 and 6.
        let mac = hex(&hmac(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(mac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = hex(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"));
        assert_eq!(long, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn the_published_example() {
        // `get-vanilla` of AWS's test suite for the signature.
        let signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={signature}"
        );
        let request = hyper::Request::get("/").header("host", "example.amazonaws.com");
        let (parts, ()) = request.header("x-amz-date", "20150830T123600Z").body(()).unwrap().into_parts();
        let fields = Fields::parse(&authorization).unwrap();
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        assert_eq!(fields.expected(secret, &parts, b""), signature);
        assert_ne!(fields.expected(secret, &parts, b"x"), signature);
        assert_eq!(encoded_again("/model/a%3Ab/converse"), "/model/a%253Ab/converse");
    }

    #[test]
    fn shapes() {
        let good = format!(
            "AWS4-HMAC-SHA256 Credential=AKIA/20261123/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature={}",
            "0".repeat(64)
        );
        assert!(Fields::parse(&good).is_some());
        for bad in [
            "",
            "AWS4-HMAC-SHA256 ",
            &good[..good.len() - 1],
            &good.replace("/bedrock", ""),
            &good.replace("4_r", "5_r"),
        ] {
            assert!(Fields::parse(bad).is_none(), "{bad}");
        }
    }
}
