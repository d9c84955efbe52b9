//! What a request asks for, read from its head alone: where it goes, who sends it, which session it belongs to.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use pingora::proxy::Session;

use super::refusal::Refusal;
use crate::control::ops::model_matches;
use crate::ledger::{Policy, ProviderKeySource, SessionAsk};
use crate::money::Money;
use crate::secret::{KEY_PREFIX, KeyHash, Secret};

/// Headers in which provider SDKs put their API key.
pub const KEY_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
/// The longest session id.
const SESSION_ID_CHARS_MAX: usize = 128;
/// The session of calls that name none, where a key has a session policy: leaving the header out is no way round it.
const DEFAULT_SESSION: &str = "default";

/// A request's target, split.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The first segment, when it is a proxy key.
    pub path_key: Option<&'a str>,
    /// The provider's name.
    pub provider: &'a str,
    /// The provider's own path.
    pub path: &'a str,
    /// The query without its proxy key; `None` when nothing is left.
    pub query: Option<String>,
    /// The value of `key=` in the query.
    pub query_key: Option<&'a str>,
}

/// Splits a raw request target. Nothing is decoded: what does not match byte for byte is no route.
pub fn target(raw: &str) -> Option<Target<'_>> {
    let (path, query) = raw.split_once('?').map_or((raw, None), |(path, query)| (path, Some(query)));
    let rest = path.strip_prefix('/')?;
    let (first, after) = split_segment(rest);
    let (path_key, provider, path) = if first.starts_with(KEY_PREFIX) {
        let (provider, path) = split_segment(after.strip_prefix('/')?);
        (Some(first), provider, path)
    } else {
        (None, first, after)
    };
    let mut query_key = None;
    let kept: Vec<&str> = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|pair| match pair.strip_prefix("key=") {
            Some(key) => {
                query_key = Some(key);
                false
            }
            None => true,
        })
        .collect();
    // An empty query (`/path?`) stays one: it is not the same bytes as none.
    let query = (query.is_some() && !(kept.is_empty() && query_key.is_some())).then(|| kept.join("&"));
    Some(Target { path_key, provider, path, query, query_key })
}

/// The text up to the next slash, and the rest from that slash on.
fn split_segment(text: &str) -> (&str, &str) {
    text.split_at(text.find('/').unwrap_or(text.len()))
}

/// The address of the client's connection.
pub fn client_ip(session: &Session) -> Option<IpAddr> {
    session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip())
}

/// Who sends a request.
#[derive(Debug)]
pub struct Credentials {
    /// The hash of the proxy key.
    pub key: KeyHash,
    /// The real provider key, if the request carries one.
    pub provider_key: Option<Secret>,
}

/// Finds the proxy key and the provider's key. One refusal for whatever is wrong.
pub fn credentials(headers: &HeaderMap, target: &Target<'_>) -> Result<Credentials, Refusal> {
    let mut proxy_keys: Vec<&str> = Vec::new();
    let mut other_key = None;
    for name in KEY_HEADERS {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(Refusal::invalid_key());
        }
        let value = value.to_str().map_err(|_| Refusal::invalid_key())?;
        let value = if name == "authorization" { bearer(value) } else { value.trim() };
        if value.starts_with(KEY_PREFIX) {
            proxy_keys.push(value);
        } else if !value.is_empty() {
            other_key = Some(value);
        }
    }
    proxy_keys.extend(target.query_key.filter(|key| key.starts_with(KEY_PREFIX)));
    proxy_keys.dedup();
    let explicit = provider_key_header(headers)?;
    let (key, provider_key) = match (target.path_key, proxy_keys.as_slice()) {
        // The path form: the SDK's own header carries the provider's key. A second proxy key is nobody's intention.
        (Some(key), []) => (key, explicit.or_else(|| other_key.or(target.query_key).map(Secret::new))),
        (None, [key]) => (*key, explicit),
        _ => return Err(Refusal::invalid_key()),
    };
    let key = KeyHash::of(key).ok_or_else(Refusal::invalid_key)?;
    Ok(Credentials { key, provider_key })
}

fn bearer(value: &str) -> &str {
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }
}

fn provider_key_header(headers: &HeaderMap) -> Result<Option<Secret>, Refusal> {
    let Some(value) = one_header(headers, "x-loopers-provider-key")? else { return Ok(None) };
    if value.is_empty() || value.starts_with(KEY_PREFIX) {
        return Err(Refusal::invalid("X-Loopers-Provider-Key must carry the provider's own key."));
    }
    Ok(Some(Secret::new(value)))
}

/// The one value of a header; two values are refused, since the gateway and others could read different ones.
fn one_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::invalid(format!("The header {name} was sent twice.")));
    }
    value.to_str().map(Some).map_err(|_| Refusal::invalid(format!("The header {name} is not plain text.")))
}

/// The provider key to use: the request's or the config's, as the key's policy admits.
pub fn provider_key(
    policy: &Policy,
    request: Option<Secret>,
    config: Option<&Secret>,
    provider: &str,
) -> Result<Secret, Refusal> {
    let missing = || {
        Refusal::new(
            400,
            "invalid_request",
            format!("There is no key for {provider}."),
            format!("Set providers.{provider}.key in loopers.yaml, or send X-Loopers-Provider-Key."),
        )
    };
    match policy.provider_key {
        ProviderKeySource::Any => request.or_else(|| config.cloned()).ok_or_else(missing),
        ProviderKeySource::Config if request.is_some() => Err(Refusal::new(
            403,
            "provider_not_allowed",
            "This key may only use the gateway's own provider key.",
            "Leave the provider's key out of the request.",
        )),
        ProviderKeySource::Config => config.cloned().ok_or_else(missing),
        ProviderKeySource::Request => request.ok_or_else(|| {
            Refusal::new(
                403,
                "provider_not_allowed",
                "This key must come with a provider key of its own.",
                "Send X-Loopers-Provider-Key, or use the path form.",
            )
        }),
    }
}

/// What a request says of its session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionHeaders {
    id: Option<Arc<str>>,
    budget: Option<Money>,
    steps: Option<u64>,
}

/// Reads the session headers.
pub fn session_headers(headers: &HeaderMap) -> Result<SessionHeaders, Refusal> {
    let id = one_header(headers, "x-loopers-session-id")?;
    if id.is_some_and(|id| !is_session_id(id)) {
        return Err(Refusal::invalid(format!(
            "X-Loopers-Session-ID must be 1–{SESSION_ID_CHARS_MAX} characters of A-Za-z0-9._:-"
        )));
    }
    let budget = one_header(headers, "x-loopers-session-budget")?
        .map(|text| Money::parse_limit(text).map_err(|e| Refusal::invalid(format!("X-Loopers-Session-Budget: {e}"))))
        .transpose()?;
    let steps = one_header(headers, "x-loopers-session-max-steps")?.map(steps).transpose()?;
    Ok(SessionHeaders { id: id.map(Arc::from), budget, steps })
}

impl SessionHeaders {
    /// The session that the request names.
    pub fn id(&self) -> Option<Arc<str>> {
        self.id.clone()
    }

    /// The session under a key's policy: the one named, or the shared one where anything limits sessions.
    pub fn ask(&self, policy: &Policy) -> Option<SessionAsk> {
        let budget = least(self.budget, policy.session_budget);
        let steps = least(self.steps, policy.session_steps);
        let governed = budget.is_some() || steps.is_some();
        let id = self.id.clone().or_else(|| governed.then(|| Arc::from(DEFAULT_SESSION)))?;
        Some(SessionAsk { id, budget, steps })
    }
}

fn steps(text: &str) -> Result<u64, Refusal> {
    let digits = !text.is_empty() && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| Refusal::invalid("X-Loopers-Session-Max-Steps must be a whole number."))
}

fn is_session_id(id: &str) -> bool {
    (1..=SESSION_ID_CHARS_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// The smaller of two limits, where `None` is no limit: a header can only tighten a policy.
fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// What a key's policy says of provider and address.
pub fn admits(policy: &Policy, provider: &str, client: Option<IpAddr>) -> Result<(), Refusal> {
    if !policy.providers.is_empty() && !policy.providers.iter().any(|allowed| allowed == provider) {
        return Err(Refusal::new(
            403,
            "provider_not_allowed",
            format!("This key may not call {provider}."),
            "An operator decides: loopers keys create --providers",
        ));
    }
    if !policy.allow_ips.is_empty() && !client.is_some_and(|ip| policy.allow_ips.iter().any(|net| contains(net, ip))) {
        return Err(Refusal::new(
            403,
            "ip_not_allowed",
            "This key may not be used from this address.",
            "An operator decides: loopers keys create --allow-ip",
        ));
    }
    Ok(())
}

/// What a key's policy says of a model.
pub fn admits_model(policy: &Policy, provider: &str, model: &str) -> Result<(), Refusal> {
    if policy.models.is_empty() {
        return Ok(());
    }
    let matches = |pattern: &String| model_matches(pattern, provider, model);
    if policy.models.iter().any(matches) {
        return Ok(());
    }
    Err(Refusal::new(
        403,
        "model_not_allowed",
        format!("This key may not use {model}."),
        "An operator decides: loopers keys create --models",
    ))
}

/// True when `address` or `address/bits` holds `ip`. A malformed network holds nothing.
fn contains(network: &str, ip: IpAddr) -> bool {
    let (address, bits) = network.split_once('/').map_or((network, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let ip = ip.to_canonical();
    let (a, b, width) = match (address.to_canonical(), ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let Ok(bits) = bits.map_or(Ok(width), str::parse::<u32>) else { return false };
    bits <= width && (bits == 0 || (a ^ b) >> (width - bits) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "lp-0123456789012345678901234567890123456789012";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn targets_are_split_without_decoding() {
        let t = target("/openai/v1/chat/completions").unwrap();
        assert_eq!((t.path_key, t.provider, t.path, t.query), (None, "openai", "/v1/chat/completions", None));
        let raw = format!("/{KEY}/gemini/v1/models?alt=sse&key=AIza&x=1");
        let t = target(&raw).unwrap();
        assert_eq!((t.path_key, t.provider, t.path), (Some(KEY), "gemini", "/v1/models"));
        assert_eq!((t.query.as_deref(), t.query_key), (Some("alt=sse&x=1"), Some("AIza")));
        assert_eq!(target("/gemini/x?key=a").unwrap().query, None);
        assert_eq!(target("/gemini/x?").unwrap().query.as_deref(), Some(""));
        assert_eq!(target("http://evil/openai/v1"), None);
        assert_eq!(target("/%6fpenai/v1").unwrap().provider, "%6fpenai");
    }

    #[test]
    fn cap_52_no_combination_of_keys_skips_the_cap() {
        let plain = target("/openai/v1/chat/completions").unwrap();
        let raw = format!("/{KEY}/openai/v1/chat/completions");
        let in_path = target(&raw).unwrap();
        let bearer = format!("Bearer {KEY}");
        for (map, target, ok) in [
            (headers(&[("authorization", &bearer)]), &plain, true),
            (headers(&[("x-api-key", KEY)]), &plain, true),
            (headers(&[("api-key", KEY)]), &plain, true),
            (headers(&[("x-goog-api-key", KEY)]), &plain, true),
            (headers(&[("authorization", &bearer), ("x-api-key", KEY)]), &plain, true),
            (headers(&[]), &plain, false),
            (headers(&[("authorization", "")]), &plain, false),
            (headers(&[("authorization", "Bearer ")]), &plain, false),
            (headers(&[("authorization", "Bearer sk-real")]), &plain, false),
            (headers(&[("authorization", &bearer), ("authorization", &bearer)]), &plain, false),
            (headers(&[("authorization", "Bearer lp-short")]), &plain, false),
            (headers(&[("authorization", "Bearer sk-real")]), &in_path, true),
            (headers(&[]), &in_path, true),
            (headers(&[("authorization", &bearer)]), &in_path, false),
        ] {
            assert_eq!(credentials(&map, target).is_ok(), ok, "{map:?} {target:?}");
        }
    }

    #[test]
    fn the_path_form_takes_the_providers_key_from_the_sdks_header() {
        let raw = format!("/{KEY}/openai/v1/models");
        let found = credentials(&headers(&[("authorization", "Bearer sk-real")]), &target(&raw).unwrap()).unwrap();
        assert_eq!(found.provider_key.unwrap().expose(), "sk-real");
        let plain = target("/openai/v1/models").unwrap();
        let bearer = format!("Bearer {KEY}");
        // Without the path form another header is not a provider key, whatever it says.
        let found = credentials(&headers(&[("authorization", &bearer), ("x-api-key", "sk-real")]), &plain).unwrap();
        assert!(found.provider_key.is_none());
        let found = credentials(&headers(&[("authorization", &bearer), ("x-loopers-provider-key", "sk-real")]), &plain)
            .unwrap();
        assert_eq!(found.provider_key.unwrap().expose(), "sk-real");
    }

    #[test]
    fn session_headers_only_tighten() {
        let policy = Policy { session_budget: Some(Money::from_nano(5)), session_steps: Some(10), ..Policy::default() };
        let read = |pairs: &[(&'static str, &str)]| session_headers(&headers(pairs));
        let named = [
            ("x-loopers-session-id", "run-1"),
            ("x-loopers-session-budget", "9"),
            ("x-loopers-session-max-steps", "3"),
        ];
        let ask = read(&named).unwrap().ask(&policy).unwrap();
        assert_eq!((ask.budget, ask.steps), (Some(Money::from_nano(5)), Some(3)));
        assert_eq!(&*read(&[]).unwrap().ask(&policy).unwrap().id, DEFAULT_SESSION);
        assert_eq!(read(&[]).unwrap().ask(&Policy::default()), None);
        for bad in [
            ("x-loopers-session-id", ""),
            ("x-loopers-session-id", "a b"),
            ("x-loopers-session-budget", "1e3"),
            ("x-loopers-session-max-steps", "-1"),
        ] {
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn networks_hold_their_addresses_only() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1/32", "::ffff:127.0.0.1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("x", "10.0.0.0", false),
        ] {
            assert_eq!(contains(network, ip(address)), inside, "{network} {address}");
        }
    }

    #[test]
    fn model_patterns_match_with_and_without_the_provider() {
        let policy =
            |models: &[&str]| Policy { models: models.iter().map(|m| m.to_string()).collect(), ..Policy::default() };
        for (models, ok) in [
            (&["gpt-4o"][..], true),
            (&["openai/gpt-4o"], true),
            (&["gpt-*"], true),
            (&["openai/*"], true),
            (&[], true),
            (&["gpt-4"], false),
            (&["azure/*"], false),
        ] {
            assert_eq!(admits_model(&policy(models), "openai", "gpt-4o").is_ok(), ok, "{models:?}");
        }
    }
}
