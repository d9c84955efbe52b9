//! Providers: reached as the gateway reaches them, with a certificate that is trusted and a key that is accepted.

use std::net::IpAddr;
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;

use super::report::Report;
use crate::cli::net::{self, Answer, Certificate, Trouble};
use crate::clock::{Clock, Millis};
use crate::config::{BaseUrl, ProviderSettings, Settings};
use crate::provider::{self, Outgoing};
use crate::secret::KEY_PREFIX;

/// The longest wait for an answer.
const ANSWER_MOST: Duration = Duration::from_secs(10);
/// How far the clocks of this machine and of a provider may be apart.
const SKEW_MS_MAX: Millis = 60_000;

/// Looks at every configured provider, all at once.
pub async fn examine(mut report: Report, settings: &Settings) -> Report {
    let mut running = JoinSet::new();
    for provider in settings.providers.values() {
        running.spawn(one(report.beside(), provider.clone()));
    }
    let mut found: Vec<(String, Report)> = Vec::new();
    while let Some(done) = running.join_next().await {
        found.extend(done.ok());
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.into_iter().for_each(|(_, one)| report.extend(one));
    report
}

async fn one(mut report: Report, provider: ProviderSettings) -> (String, Report) {
    let name = provider.name.to_string();
    let url = &provider.base_url;
    if !url.tls && !is_near(url) {
        let message = format!("calls to {name} and its key go to {} unencrypted", url.host);
        let fix = format!("base_url: https://{}{}", url.host, url.path);
        report.warning("base_url_not_encrypted", &format!("providers.{name}.base_url"), message, fix);
    }
    if provider.key.as_ref().is_some_and(|key| key.expose().starts_with(KEY_PREFIX)) {
        let message = format!("the key of {name} is a Loopers key: the provider does not know it");
        let fix = format!("key: env:NAME    (with {name}'s own key in NAME; the lp-… key is what clients send)");
        report.error("provider_key_is_loopers", &format!("providers.{name}.key"), message, fix);
        return (name, report);
    }
    match net::connect(url, provider.ca_file.as_deref(), provider.connect_timeout).await {
        Err(trouble) => tell(&mut report, &provider, &trouble),
        Ok(wire) => match ask_for(&provider) {
            None => report.ok("provider", format!("{name} is reached at {url}")),
            Some((path, headers)) => match wire.get(url, &path, &headers, ANSWER_MOST).await {
                Err(trouble) => tell(&mut report, &provider, &trouble),
                Ok(answer) => judge(&mut report, &provider, &answer),
            },
        },
    }
    (name, report)
}

type Headers = Vec<(&'static str, String)>;

/// A request that costs nothing and needs the key: the list of models. `None` without a key, or where there is none.
fn ask_for(provider: &ProviderSettings) -> Option<(String, Headers)> {
    let route = match provider.api.as_str() {
        "openai" | "mistral" => "/v1/models",
        "anthropic" => "/v1/models?limit=1",
        "gemini" => "/v1beta/models?pageSize=1",
        "azure" => "/openai/v1/models",
        _ => return None,
    };
    let key = provider.key.as_ref()?;
    let path = format!("{}{route}", provider.base_url.path);
    let authority = provider.base_url.authority();
    let outgoing = Outgoing {
        method: &Method::GET,
        authority: &authority,
        path_and_query: &path,
        headers: provider::no_headers(),
        body: &[],
        options: &provider.options,
    };
    let mut headers = provider::find(&provider.api, &provider.name)?.authorize(&outgoing, key).ok()?;
    if provider.api == "anthropic" {
        headers.push(("anthropic-version", "2023-06-01".into()));
    }
    Some((path, headers))
}

fn judge(report: &mut Report, provider: &ProviderSettings, answer: &Answer) {
    let name = &provider.name;
    let field = format!("providers.{name}.key");
    clock(report, name, answer);
    // Gemini says 400 to a key that it does not know.
    let refused = answer.status == 401 || (answer.status == 400 && answer.body.contains("API_KEY_INVALID"));
    if refused {
        let message = format!("{name} does not accept this key ({} at {})", answer.status, provider.base_url);
        let fix = "key: env:NAME    (put the right key into NAME; a new shell or container must see it)";
        report.error("provider_key_refused", &field, message, fix);
    } else if answer.status == 403 {
        let message = format!("{name} does not let this key list models (403): it may be restricted to other calls");
        report.warning("provider_key_restricted", &field, message, "allow the key what its callers need");
    } else if answer.status >= 500 {
        let message = format!("{name} answers {} at {}", answer.status, provider.base_url);
        let fix = "look at the provider's status page, and at what stands between";
        report.warning("provider_fails", &format!("providers.{name}.base_url"), message, fix);
    } else if answer.status >= 300 {
        let message = format!("{name} has no list of models at {} ({})", provider.base_url, answer.status);
        let fix = "base_url: the provider's address as its documents give it, without /v1";
        report.warning("provider_no_models", &format!("providers.{name}.base_url"), message, fix);
    } else {
        report.ok("provider", format!("{name} is reached at {} and accepts its key", provider.base_url));
    }
}

/// The provider's clock, against this machine's: windows, and signatures, go by it.
fn clock(report: &mut Report, name: &str, answer: &Answer) {
    let date = answer.headers.get("date").and_then(|value| value.to_str().ok());
    let Some(theirs) = date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok())
    else {
        return;
    };
    let skew = theirs.as_millisecond() - Clock::System.now();
    if skew.abs() > SKEW_MS_MAX {
        let (seconds, way) = (skew.abs() / 1000, if skew > 0 { "behind" } else { "before" });
        let message =
            format!("the clock of this machine is {seconds} s {way} {name}'s: windows start at the wrong time");
        report.warning("clock_skew", "time_zone", message, "timedatectl set-ntp true    (on this machine)");
    }
}

fn tell(report: &mut Report, provider: &ProviderSettings, trouble: &Trouble) {
    let name = &provider.name;
    let url = &provider.base_url;
    let base = format!("providers.{name}.base_url");
    let message = format!("{name} at {url}: {trouble}");
    let ca = "ca_file: ca.pem    (the certificate, or its CA's, where it is yours; else somebody stands between)";
    let (code, field, fix) = match trouble {
        Trouble::Name(_) => ("provider_name_unknown", base, "base_url: https://HOST    (a host that DNS knows)"),
        Trouble::Unreachable(_) => (
            "provider_unreachable",
            base,
            "base_url: https://HOST    (or open the way to it: firewall, proxy, network policy)",
        ),
        Trouble::Certificate(Certificate::Expired) => {
            ("provider_certificate_expired", base, "renew the certificate there, or set the clock here")
        }
        Trouble::Certificate(Certificate::NotYetValid) => {
            ("provider_certificate_not_yet_valid", base, "timedatectl set-ntp true    (or wait)")
        }
        Trouble::Certificate(Certificate::WrongName) => (
            "provider_certificate_wrong_name",
            base,
            "base_url: https://HOST    (the name that the certificate is for)",
        ),
        Trouble::Certificate(Certificate::Untrusted) => {
            ("provider_certificate_untrusted", format!("providers.{name}.ca_file"), ca)
        }
        Trouble::Certificate(Certificate::Invalid) => {
            ("provider_certificate_invalid", base, "replace the certificate there")
        }
        Trouble::Tls(_) => {
            ("provider_no_tls", base, "base_url: http://HOST:PORT    (if it is a local one without TLS)")
        }
        Trouble::Http(_) => {
            ("provider_no_http", base, "base_url: https://HOST    (or http://: what is there speaks the other)")
        }
    };
    // A provider without a key is not in use yet; what it will need is no reason to stop the others.
    let is_waiting = provider.key.is_none() && matches!(trouble, Trouble::Name(_) | Trouble::Unreachable(_));
    if is_waiting {
        report.warning(code, &field, message, fix);
    } else {
        report.error(code, &field, message, fix);
    }
}

/// True for hosts that are reached without crossing the internet: this machine, private addresses, names without a domain.
fn is_near(url: &BaseUrl) -> bool {
    match url.host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => {
            let inner = [".local", ".internal", ".lan", ".svc", ".localhost", ".test"];
            !url.host.contains('.') || inner.iter().any(|end| url.host.ends_with(end)) || url.host.contains(".svc.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_crosses_the_internet_is_far() {
        for (host, near) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("10.1.2.3", true),
            ("fd00::1", true),
            ("localhost", true),
            ("ollama", true),
            ("vllm.models.svc.cluster.local", true),
            ("8.8.8.8", false),
            ("api.openai.com", false),
            ("2606:4700::1", false),
        ] {
            let url = BaseUrl { tls: false, host: host.into(), port: 80, path: String::new() };
            assert_eq!(is_near(&url), near, "{host}");
        }
    }
}
