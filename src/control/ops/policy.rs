//! Checks of what a key may do: a rule that can never match is a mistake, and is refused.

use std::net::IpAddr;

use super::OpError;
use crate::pricing::PriceTable;
use crate::provider;

/// True when `pattern` (`model` or `provider/model`, with an optional `*` at the end) means this model of this provider.
pub fn model_matches(pattern: &str, provider: &str, model: &str) -> bool {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => model.starts_with(start),
        None => model == pattern,
    };
    let qualified = pattern.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/'));
    fits(pattern) || qualified.is_some_and(fits)
}

/// Every provider must be one whose API this program knows, or that has prices.
pub(super) fn check_providers(providers: &[String], prices: &PriceTable) -> Result<(), OpError> {
    let mut known = prices.providers();
    known.extend(provider::ALL.iter().map(|provider| provider.name()));
    for name in providers {
        if !known.contains(name.as_str()) {
            let known: Vec<&str> = known.into_iter().collect();
            return Err(
                OpError::invalid(format!("there is no provider `{name}`")).hint(format!("known: {}", known.join(", ")))
            );
        }
    }
    Ok(())
}

/// Every pattern must match some model that has a price, of a provider that the key may call.
pub(super) fn check_models(models: &[String], providers: &[String], prices: &PriceTable) -> Result<(), OpError> {
    for pattern in models {
        let allowed = |provider: &str| providers.is_empty() || providers.iter().any(|p| p == provider);
        let listed = prices.iter().filter_map(|price| price.id.split_once('/'));
        let mut listed = listed.filter(|(provider, _)| allowed(provider));
        // An alias has a price without a row of its own.
        let alias = || {
            let names = prices.providers().into_iter().filter(|name| allowed(name));
            let mut models = names.map(|name| (name, pattern.strip_prefix(&format!("{name}/")).unwrap_or(pattern)));
            models.any(|(name, model)| prices.for_model(name, model).is_some())
        };
        let star = pattern.find('*').is_some_and(|at| at + 1 != pattern.len());
        if star || !(listed.any(|(provider, model)| model_matches(pattern, provider, model)) || alias()) {
            return Err(OpError::invalid(format!(
                "`{pattern}` matches no model that has a price and that the key may call"
            ))
            .hint("write model, provider/model, or either with * at its end; `loopers prices check` shows the table"));
        }
    }
    Ok(())
}

/// Every network must be `address` or `address/bits`, without bits beyond its prefix.
pub(super) fn check_networks(networks: &[String]) -> Result<(), OpError> {
    for network in networks {
        if !is_network(network) {
            return Err(OpError::invalid(format!("`{network}` is not a network"))
                .hint("write an address such as 10.0.0.7 or 2001:db8::1, or a network such as 10.0.0.0/8"));
        }
    }
    Ok(())
}

fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let (value, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let Some(bits) = bits else { return true };
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let Some(bits) = bits.parse::<u32>().ok().filter(|bits| plain && *bits <= width) else { return false };
    // 10.0.0.7/8 is a typing error more often than it is meant.
    let host = width - bits;
    host == 128 && value == 0 || host < 128 && value & ((1u128 << host) - 1) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_and_starts() {
        for (pattern, provider, model, expected) in [
            ("gpt-4o", "openai", "gpt-4o", true),
            ("gpt-4o", "openai", "gpt-4o-mini", false),
            ("gpt-4o*", "openai", "gpt-4o-mini", true),
            ("openai/gpt-4o", "openai", "gpt-4o", true),
            ("openai/gpt-4o", "azure", "gpt-4o", false),
            ("openai/*", "openai", "anything", true),
            ("*", "openai", "anything", true),
            ("openai/*", "azure", "openai", false),
        ] {
            assert_eq!(model_matches(pattern, provider, model), expected, "{pattern} {provider}/{model}");
        }
    }

    #[test]
    fn networks_are_exact() {
        for good in ["10.0.0.7", "10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/32", "::1", "10.0.0.7/32"] {
            assert!(is_network(good), "{good}");
        }
        for bad in [
            "",
            "10.0.0.7/8",
            "10.0.0.0/33",
            "10.0.0/8",
            "::1/64",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "host",
            "10.0.0.0/8/8",
            "::/129",
        ] {
            assert!(!is_network(bad), "{bad}");
        }
    }
}
