//! A 12: a price that cannot be right stops the start, with file and line.

use std::process::Command;

use crate::support::process::LOOPERS;
use crate::support::world::CONFIG_PROVIDER_KEY;

const GOOD: &str =
    "openai/some-model:\n  input: \"2.5\"\n  output: \"10\"\n  context_window: 128000\n  max_output: 16384\n";

/// Checks a config that has this price file; whether it is fine, and all that was said.
fn check(prices: &str) -> (bool, String) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("mine.yaml"), prices).expect("written");
    let config = dir.path().join("loopers.yaml");
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/prices.yaml");
    std::fs::write(&config, format!("ledger: file:books.db\nprices: [\"{table}\", mine.yaml]\n")).expect("written");
    let mut command = Command::new(LOOPERS);
    command.env("OPENAI_API_KEY", CONFIG_PROVIDER_KEY).current_dir(dir.path());
    let output = command.args(["check", "--config"]).arg(&config).output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a12_a_price_that_cannot_be_right_stops_the_start() {
    let (fine, said) = check(GOOD);
    assert!(fine, "{said}");
    let line = "  output: \"10\"\n";
    for bad in [
        "",
        "  output:\n",
        "  output: null\n",
        "  output: \"\"\n",
        "  output: \"0\"\n",
        "  output: \"-10\"\n",
        "  output: \"NaN\"\n",
        "  output: \"1e1\"\n",
        "  output: \"10,00\"\n",
        "  output: \"$10\"\n",
        "  output: ten\n",
        "  output: [10]\n",
        // Typed per token where per million was meant.
        "  output: \"0.00001\"\n",
        "  output: \"100000000\"\n",
        "  output: \"10\"\n  output: \"1\"\n",
        "  output: \"10\"\n  outputs: \"1\"\n",
    ] {
        let (fine, said) = check(&GOOD.replace(line, bad));
        assert!(!fine, "{bad:?} was accepted: {said}");
        assert!(said.contains("mine.yaml"), "{bad:?}: which file? {said}");
        assert!(said.contains("mine.yaml:"), "{bad:?}: which line? {said}");
    }
}
