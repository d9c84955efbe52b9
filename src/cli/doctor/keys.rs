//! Keys and teams: whether each can do what it is for, and is bounded.

use std::collections::HashMap;

use super::prices::has_price;
use super::report::Report;
use crate::clock::{Clock, Millis, Window, rfc3339};
use crate::config::Settings;
use crate::control::ops::model_matches;
use crate::ledger::{KeyRecord, Limits, Node, NodeId, ProviderKeySource, State, TeamRecord};

/// Levels of a tree, as a bound of the way up.
const LEVELS_MAX: usize = 64;

/// Looks at all keys and teams.
pub fn examine(report: &mut Report, settings: &Settings, nodes: &[Node]) {
    let teams: HashMap<&NodeId, &TeamRecord> = nodes
        .iter()
        .filter_map(|node| match node {
            Node::Team(team) => Some((&team.id, team)),
            Node::Key(_) => None,
        })
        .collect();
    let now = Clock::System.now();
    let mut keys = 0;
    for node in nodes {
        match node {
            Node::Key(key) if key.state == State::Revoked => {}
            Node::Key(key) => {
                keys += 1;
                let above = above(key.team.as_ref(), &teams);
                bounds(report, &key.name, &key.limits, &above);
                alive(report, key, now);
                covered(report, key, &above);
                reach(report, settings, key);
            }
            Node::Team(team) => bounds(report, &team.name, &team.limits, &above(team.parent.as_ref(), &teams)),
        }
    }
    if keys == 0 {
        let message = "there is no key yet: every call is answered 401";
        let fix = "export LP_KEY=\"$(loopers keys create --name me --daily 5.00)\"";
        report.node("no_keys", "", message, fix);
    } else {
        report.ok("keys", format!("{keys} keys, {} teams", teams.len()));
    }
}

/// The teams above, nearest first.
fn above<'a>(first: Option<&'a NodeId>, teams: &HashMap<&NodeId, &'a TeamRecord>) -> Vec<&'a TeamRecord> {
    let mut found = Vec::new();
    let mut next = first;
    while let Some(team) = next.and_then(|id| teams.get(id)).filter(|_| found.len() < LEVELS_MAX) {
        found.push(*team);
        next = team.parent.as_ref();
    }
    found
}

/// Limits that cannot be what was meant.
fn bounds(report: &mut Report, name: &str, limits: &Limits, above: &[&TeamRecord]) {
    let set = |window: Window| limits.of(window).map(|limit| (window, limit));
    for (window, limit) in Window::ALL.into_iter().filter_map(set) {
        let word = window.name();
        let unset = format!("loopers budget unset {name} {word}");
        if limit.is_zero() {
            let message = format!("its {word} limit is 0: nothing may be spent");
            report.node("limit_zero", name, message, format!("loopers budget set {name} --{word} USD    (or {unset})"));
        }
        let tighter = above.iter().find_map(|team| Some((team, team.limits.of(window).filter(|its| *its < limit)?)));
        if let Some((team, its)) = tighter {
            let message = format!(
                "its {word} limit of ${limit} is above that of team {}, ${its}: it is never reached",
                team.name
            );
            report.node("limit_above_parent", name, message, format!("loopers budget set {name} --{word} {its}"));
        }
        let longer = Window::ALL.into_iter().filter(|other| other.index() > window.index());
        if let Some((other, its)) = longer.filter_map(set).find(|(_, its)| *its < limit) {
            let message = format!(
                "its {word} limit of ${limit} is above its {} limit of ${its}: it is never reached",
                other.name()
            );
            report.node(
                "limit_above_longer_window",
                name,
                message,
                format!("loopers budget set {name} --{word} {its}    (or {unset})"),
            );
        }
    }
}

fn alive(report: &mut Report, key: &KeyRecord, now: Millis) {
    if let Some(at) = key.expires_at.filter(|at| *at <= now) {
        let message = format!("it has expired at {}: its calls are answered 403 key_expired", rfc3339(at));
        let fix = format!("loopers keys revoke {}    (and make a new one: loopers keys create)", key.name);
        report.node("key_expired", &key.name, message, fix);
    }
}

fn covered(report: &mut Report, key: &KeyRecord, above: &[&TeamRecord]) {
    let is_covered = !key.limits.is_empty() || above.iter().any(|team| !team.limits.is_empty());
    if is_covered {
        return;
    }
    let fix = format!("loopers budget set {} --daily 5.00", key.name);
    if key.policy.unlimited {
        let message = "it was made with --unlimited: it may spend without end";
        report.node("key_unlimited", &key.name, message, fix);
    } else {
        let message = "no limit covers it any more: it may spend without end";
        report.node("key_without_limit", &key.name, message, fix);
    }
}

/// Whether a key can call anything.
fn reach(report: &mut Report, settings: &Settings, key: &KeyRecord) {
    let policy = &key.policy;
    for name in policy.providers.iter().filter(|name| !settings.providers.contains_key(name.as_str())) {
        let message = format!("it may call {name}, which this config does not have");
        let fix = format!("providers: {{ {name}: {{ key: env:NAME }} }}    (in the config)");
        report.node("key_provider_not_configured", &key.name, message, fix);
    }
    for pattern in &policy.models {
        let listed = settings.prices.iter().filter_map(|row| row.id.split_once('/'));
        let is_listed = listed.into_iter().any(|(provider, model)| model_matches(pattern, provider, model));
        let is_alias = || {
            settings.prices.providers().into_iter().any(|provider| {
                let model = pattern.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/')).unwrap_or(pattern);
                has_price(&settings.prices, provider, model)
            })
        };
        if !is_listed && !is_alias() {
            let message = format!("it may call `{pattern}`, which has no price");
            let fix = format!("prices: [mine.yaml]    (with a row for {pattern}; docs/PRICES.md)");
            report.node("key_model_without_price", &key.name, message, fix);
        }
    }
    let mut usable = settings
        .providers
        .values()
        .filter(|provider| policy.providers.is_empty() || policy.providers.iter().any(|name| **name == *provider.name));
    if policy.provider_key == ProviderKeySource::Config && usable.all(|provider| provider.key.is_none()) {
        let message = "it may only use provider keys of the config, and none that it may call has one";
        report.node(
            "key_without_provider_key",
            &key.name,
            message,
            "key: env:NAME    (under that provider in the config)",
        );
    }
}
