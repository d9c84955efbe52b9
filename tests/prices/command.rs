//! `loopers prices` from outside.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::fixture;

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loopers")).current_dir(dir).arg("prices").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_import_can_be_used_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = fixture().display().to_string();
    let made = run(
        dir.path(),
        &["import", &file, "--provider", "mistral", "--output", "mine.yaml", "--source", "x 1", "--date", "2026-11-23"],
    );
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(made.stdout.is_empty() && text(&made.stderr).contains("69 entries, 51 rows"), "{}", text(&made.stderr));
    std::fs::write(dir.path().join("loopers.yaml"), "ledger: \"memory:\"\nprices: [mine.yaml]\n").unwrap();
    let check: Value = serde_json::from_slice(&run(dir.path(), &["check", "--json"]).stdout).unwrap();
    assert_eq!((&check["models"], &check["ok"]), (&51.into(), &true.into()));
    let show =
        run(dir.path(), &["show", "mistral/mistral-large-4", "--input", "2000000", "--output", "1000", "--json"]);
    let shown: Value = serde_json::from_slice(&show.stdout).unwrap();
    // 2,000,000 × 0.68 + 1,000 × 2.09 per million.
    assert_eq!(shown[0]["tiers"]["standard"]["call_usd"], "1.36209");
    assert_eq!(shown[0]["source"], "x 1");
    let gone = run(dir.path(), &["show", "gpt-5"]);
    assert!(!gone.status.success() && text(&gone.stderr).contains("no model `gpt-5`"));
}

#[test]
fn an_import_goes_to_standard_output_or_tells_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let file = fixture().display().to_string();
    let made = run(dir.path(), &["import", &file, "--provider", "anthropic"]);
    assert!(made.status.success() && text(&made.stdout).contains("\nanthropic/claude-opus-5-5:\n"));
    let told = run(dir.path(), &["import", &file, "--json"]);
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(report["entries"], 1315);
    assert_eq!(report["rows"]["openai/gpt-5"], serde_json::json!(["gpt-5"]));
    assert_eq!(report["refused"]["answers with sound"], serde_json::json!(["gemini/gemini-2.5-pro-preview-tts"]));
    let slip = report["corrections"].as_array().unwrap().iter().find(|rule| rule["rule"] == "priority-slip").unwrap();
    assert_eq!(slip["rows"].as_array().unwrap().len(), 2);
}

#[test]
fn what_cannot_be_imported_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content, words) in [
        ("none.json", None, "none.json"),
        ("half.json", Some("{\"a\": "), "not JSON"),
        ("twice.json", Some("{\"a\": {}, \"a\": {}}"), "twice"),
        ("other.json", Some("{\"a\": {\"litellm_provider\": \"xai\"}}"), "no entry of"),
    ] {
        if let Some(content) = content {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let failed = run(dir.path(), &["import", name, "--output", "out.yaml"]);
        let said = text(&failed.stderr);
        assert!(!failed.status.success() && said.contains(words) && said.contains("litellm package"), "{name}: {said}");
        assert!(!dir.path().join("out.yaml").exists());
    }
    let quote = run(dir.path(), &["import", "none.json", "--source", "a\"b"]);
    assert!(!quote.status.success());
}

#[test]
fn the_builtin_table_tells_what_to_look_at() {
    let dir = tempfile::tempdir().unwrap();
    let check = text(&run(dir.path(), &["check"]).stdout);
    assert!(check.contains("966 models"), "{check}");
    assert!(check.contains("deprecated on 2026-10-23") && check.contains("a promotion from 5/30"), "{check}");
    let show = text(&run(dir.path(), &["show", "openai/gpt-6.1-sol", "--input", "300000", "--output", "1000"]).stdout);
    // 300,000 × 4 + 1,000 × 15 per million; ultrafast six times as much.
    for part in
        ["300,000 in + 1,000 out: 1.215 USD (input 1.2 + output 0.015)", "7.29 USD", "ultrafast", "above 272000"]
    {
        assert!(show.contains(part), "{part} is not in\n{show}");
    }
    // One row for each provider that has the model.
    let all = text(&run(dir.path(), &["show", "gpt-5"]).stdout);
    assert!(all.contains("openai/gpt-5 (") && all.contains("azure/gpt-5 ("), "{all}");
}
