//! Keys that cannot do what they are for, or have no bound.

use std::time::{Duration, SystemTime};

use super::setups::Setup;

/// The codes of all findings about one key or team.
fn codes(setup: &Setup, about: &str) -> Vec<String> {
    let (report, code) = setup.world.doctor();
    assert_eq!(code, 0, "keys are no reason not to start: {report:#}");
    let found = report["findings"].as_array().unwrap().clone();
    let ours = found.iter().filter(|one| one["about"] == about && one["severity"] == "warning");
    ours.map(|one| {
        let fix = one["fix"].as_str().unwrap();
        assert!(fix.starts_with("loopers ") || fix.contains(": "), "{one}");
        one["code"].as_str().unwrap().to_string()
    })
    .collect()
}

#[test]
fn each_doubtful_key_is_named() {
    let setup = Setup::new();
    setup.write();
    let world = &setup.world;
    let make = |arguments: &[&str]| drop(world.good(&[&["keys", "create", "--name"], arguments].concat()));
    let soon = SystemTime::now() + Duration::from_secs(2);
    let soon = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let soon = jiff::Timestamp::from_second(soon as i64).unwrap().to_string();
    make(&["late", "--daily", "1", "--expires", &soon]);
    world.good(&["teams", "create", "--name", "us", "--daily", "5"]);
    make(&["above", "--team", "us", "--daily", "7"]);
    make(&["endless", "--unlimited"]);
    make(&["zero", "--daily", "0"]);
    make(&["odd", "--daily", "9", "--monthly", "3"]);
    make(&["elsewhere", "--daily", "1", "--providers", "anthropic"]);
    make(&["fine", "--team", "us", "--daily", "1", "--providers", "openai", "--models", "gpt-4o*"]);
    std::thread::sleep(Duration::from_secs(3));
    for (name, expected) in [
        ("late", vec!["key_expired"]),
        ("above", vec!["limit_above_parent"]),
        ("endless", vec!["key_unlimited"]),
        ("zero", vec!["limit_zero"]),
        ("odd", vec!["limit_above_longer_window"]),
        ("elsewhere", vec!["key_provider_not_configured"]),
        ("fine", vec![]),
        ("us", vec![]),
    ] {
        assert_eq!(codes(&setup, name), expected, "{name}");
        let docs = include_str!("../../docs/CLI.md");
        assert!(expected.iter().all(|code| docs.contains(&format!("`{code}`"))), "{expected:?}");
    }
}

#[test]
fn a_key_that_may_only_use_keys_that_are_not_there() {
    let mut setup = Setup::new();
    setup.lines.pop();
    setup.write();
    setup.world.good(&["keys", "create", "--name", "k", "--daily", "1", "--provider-key", "config"]);
    assert_eq!(codes(&setup, "k"), ["key_without_provider_key"]);
}
