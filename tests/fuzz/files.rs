//! Config and price files: every text is either good or refused with problems that name file and line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use loopers::config::{self, Purpose};
use loopers::pricing::{PriceTable, Terms, Tier, Usage};
use proptest::collection::vec;
use proptest::prelude::*;

use super::fuzz;
use super::texts::{damaged, damages};

/// Has a line for most fields; every one may be dropped, doubled, or given another value.
const CONFIG: &str = r#"listen: 127.0.0.1:8080
admin: { listen: 127.0.0.1:9090, token: env:LOOPERS_ADMIN_TOKEN }
ledger: "memory:"
time_zone: UTC
providers:
  openai:
    base_url: "http://127.0.0.1:9999"
    key: env:OPENAI_API_KEY
    on_disconnect: drain
limits:
  body_bytes: 33554432
  header_bytes: 65536
  in_flight: 10000
"#;

#[test]
fn config_text() {
    let environment =
        |name: &str| matches!(name, "OPENAI_API_KEY" | "LOOPERS_ADMIN_TOKEN").then(|| OsString::from("x".repeat(40)));
    fuzz("config_text", 20, (edits(), damages()), |(edits, damages)| {
        let text = String::from_utf8_lossy(&damaged(edited(CONFIG, edits).as_bytes(), damages)).into_owned();
        match config::parse(Path::new("loopers.yaml"), &text, &environment, Purpose::Serve) {
            Ok(_) => Ok(true),
            Err(errors) => {
                prop_assert!(!errors.0.is_empty(), "refused without a reason");
                let lines = lines_max(&text);
                for problem in &errors.0 {
                    prop_assert!(
                        !problem.problem.is_empty() && problem.line.is_none_or(|line| (1..=lines).contains(&line)),
                        "{problem}"
                    );
                    prop_assert!(!problem.to_string().contains(&"x".repeat(40)), "a secret is shown: {problem}");
                }
                Ok(false)
            }
        }
    });
}

#[test]
fn price_file() {
    let wanted = [
        "# Prices",
        "openai/gpt-6-astra:",
        "openai/gpt-5.5:",
        "gemini/gemini-3.8-flash:",
        "openai/text-embedding-3-small:",
    ];
    let rows = PriceTable::builtin_text().split("\n\n").filter(|row| wanted.iter().any(|start| row.starts_with(start)));
    let rows = rows.collect::<Vec<_>>().join("\n\n");
    let usage = vec(0..2_000_000u64, 4);
    fuzz("price_file", 20, (edits(), damages(), usage), |(edits, damages, usage)| {
        let text = String::from_utf8_lossy(&damaged(edited(&rows, edits).as_bytes(), damages)).into_owned();
        match PriceTable::load(&[(PathBuf::from("prices.yaml"), text.clone())]) {
            Ok(table) => {
                check_table(&table, usage)?;
                Ok(true)
            }
            Err(errors) => {
                prop_assert!(!errors.is_empty(), "refused without a reason");
                let lines = lines_max(&text);
                for error in &errors {
                    prop_assert!(!error.problem.is_empty() && (1..=lines).contains(&error.line), "{error}");
                }
                Ok(false)
            }
        }
    });
}

/// The last line that a problem may name: one behind the end, by what YAML takes for line breaks.
fn lines_max(text: &str) -> usize {
    text.chars().filter(|c| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')).count() + 2
}

/// Whatever table is admitted: nothing is free, and no use of a call costs more than its bound.
fn check_table(table: &PriceTable, numbers: &[u64]) -> super::Check {
    let [input, cached, written, output] = numbers else { return Ok(()) };
    for row in table.iter() {
        let rates = row.rates(Tier::Standard, 0);
        prop_assert!(rates.input > Default::default(), "{}: input is free", row.id);
        prop_assert!(row.embedding || rates.output > Default::default(), "{}: output is free", row.id);
        prop_assert!(row.context_window > 0 && row.max_output <= row.context_window, "{}: sizes", row.id);
        let cache_write_5m = if row.implicit_cache_writes { *written } else { 0 };
        let usage = Usage {
            input: *input,
            cache_read: *cached,
            cache_write_5m,
            output: *output,
            reasoning: output / 2,
            ..Usage::default()
        };
        let cost = row.cost(&usage, Tier::Standard).rounded_up();
        let bound = row.worst(&Terms::default(), usage.total_input(), usage.total_output()).rounded_up();
        prop_assert!(cost <= bound, "{}: cost {cost:?} above bound {bound:?} for {usage:?}", row.id);
    }
    Ok(())
}

/// One change of a text's lines.
#[derive(Clone, Debug)]
enum Edit {
    Drop(usize),
    Double(usize),
    Move(usize, usize),
    Value(usize, String),
    Indent(usize, bool),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let value = prop_oneof![
        prop_oneof![
            Just("0"),
            Just("-1"),
            Just("\"0\""),
            Just("\"-2.5\""),
            Just("\"0.000002\""),
            Just("2.5"),
            Just("\"1e3\""),
            Just("null"),
            Just("true"),
            Just("[]"),
            Just("{}"),
            Just("~"),
            Just("\"99999999999999999999\""),
            Just("env:"),
            Just("env:MISSING"),
            Just("env:OPENAI_API_KEY"),
            Just("file:/nowhere"),
            Just("http://u:p@host"),
            Just("redis://h:1/2"),
            Just("Europe/Berlin"),
            Just("!!binary x"),
            Just("&a *a"),
        ]
        .prop_map(String::from),
        "[ -~]{0,16}",
        (1..100_000u64).prop_map(|number| format!("\"{number}.{}\"", number % 100)),
    ];
    let edit = prop_oneof![
        3 => any::<usize>().prop_map(Edit::Drop),
        1 => any::<usize>().prop_map(Edit::Double),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Edit::Move(from, to)),
        5 => (any::<usize>(), value).prop_map(|(line, value)| Edit::Value(line, value)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(line, deeper)| Edit::Indent(line, deeper)),
    ];
    vec(edit, 0..4)
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    for edit in edits {
        let count = lines.len().max(1);
        match edit {
            Edit::Drop(at) if !lines.is_empty() => drop(lines.remove(at % count)),
            Edit::Double(at) if !lines.is_empty() => lines.insert(at % count, lines[at % count].clone()),
            Edit::Move(from, to) if !lines.is_empty() => {
                let line = lines.remove(from % count);
                lines.insert(to % count, line);
            }
            Edit::Value(at, value) if !lines.is_empty() => {
                let line = &mut lines[at % count];
                if let Some(colon) = line.find(':') {
                    line.truncate(colon + 1);
                    *line += &format!(" {value}");
                }
            }
            Edit::Indent(at, deeper) if !lines.is_empty() => {
                let line = &mut lines[at % count];
                *line = if *deeper { format!("  {line}") } else { line.trim_start().to_string() };
            }
            _ => {}
        }
    }
    lines.join("\n") + "\n"
}
