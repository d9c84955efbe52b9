//! House rules that a compiler does not check: sizes, import directions, floats, panics, headers, links.
//!
//! Each rule is one test; its message says what is wrong, where, and why the rule exists. There is no list of exceptions.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a file under `src/`.
const LINES_MAX: usize = 500;

/// Which foreign crates may be named where: (crate, paths below `src/` that may, reason).
const FOREIGN: [(&str, &[&str], &str); 4] = [
    (
        "pingora*",
        &["gateway/", "control/", "cli/", "alerts/webhook"],
        "the framework stays replaceable and the rest testable without it",
    ),
    ("redis", &["ledger/redis"], "one place speaks to Redis"),
    ("rusqlite", &["ledger/embedded"], "one place speaks to SQLite"),
    ("clap", &["cli/", "main.rs"], "the command line is a skin"),
];

/// Which modules of this crate each module may name, besides itself.
const DIRECTIONS: [(&str, &[&str]); 15] = [
    ("money", &[]),
    ("secret", &[]),
    ("clock", &[]),
    ("wire", &[]),
    ("pricing", &["money", "clock", "wire"]),
    ("provider", &["money", "clock", "secret", "wire", "pricing"]),
    ("ledger", &["money", "clock", "secret"]),
    ("journal", &["money", "clock", "ledger"]),
    ("config", &["money", "clock", "secret", "wire", "pricing", "provider", "ledger"]),
    ("observe", &["money", "clock", "secret", "pricing", "provider", "ledger", "config"]),
    ("alerts", &["money", "clock", "secret", "ledger", "config", "observe"]),
    ("control", &["money", "clock", "secret", "wire", "pricing", "provider", "ledger", "journal", "config", "observe"]),
    // The gateway serves control's admin listener; control knows nothing of the gateway.
    (
        "gateway",
        &[
            "money", "clock", "secret", "wire", "pricing", "provider", "ledger", "journal", "config", "observe",
            "control", "alerts",
        ],
    ),
    ("mock", &[]),
    (
        "cli",
        &[
            "money", "clock", "secret", "wire", "pricing", "provider", "ledger", "config", "observe", "gateway",
            "control", "mock",
        ],
    ),
];

/// Codes that clients may rely on, whether or not this version answers each of them.
const CONTRACT: [&str; 26] = [
    "invalid_key",
    "key_revoked",
    "key_expired",
    "key_paused",
    "provider_not_allowed",
    "model_not_allowed",
    "ip_not_allowed",
    "budget_exceeded",
    "session_budget_exceeded",
    "session_steps_exceeded",
    "invalid_request",
    "ambiguous_request",
    "unpriceable_request",
    "unknown_route",
    "request_too_large",
    "unsupported_encoding",
    "unknown_model",
    "unpriced_model",
    "rate_limited",
    "loop_detected",
    "upstream_unreachable",
    "upstream_timeout",
    "ledger_unavailable",
    "ledger_lost",
    "draining",
    "overloaded",
];

/// Where money is decided or recorded: no floating point.
const EXACT: [&str; 6] = ["money", "pricing", "ledger", "provider", "gateway/meter", "gateway/hold"];

#[test]
fn files_are_at_most_500_lines() {
    let mut report = Report::new("a file that is read in one sitting; split it along its parts");
    for file in sources() {
        let lines = file.text.lines().count();
        report.check(lines <= LINES_MAX, || format!("{}: {lines} lines, at most {LINES_MAX}", file.name));
    }
    report.finish();
}

#[test]
fn foreign_crates_are_named_only_where_they_belong() {
    let mut report = Report::new("see FOREIGN in tests/tidy.rs");
    for file in sources() {
        for (name, homes, reason) in FOREIGN {
            if homes.iter().any(|home| file.path.starts_with(home)) {
                continue;
            }
            for line in file.uses_of_crate(name) {
                report.add(format!("{}:{line}: names the crate {name}: {reason}", file.name));
            }
        }
    }
    report.finish();
}

#[test]
fn modules_name_only_the_modules_below_them() {
    let mut report = Report::new("see DIRECTIONS in tests/tidy.rs and docs/ARCHITECTURE.md");
    for file in sources() {
        let module = file.module();
        if module == "main" || module == "lib" {
            continue;
        }
        let Some((_, allowed)) = DIRECTIONS.iter().find(|(name, _)| *name == module) else {
            report.add(format!("{}: the module `{module}` has no line in DIRECTIONS", file.name));
            continue;
        };
        for (line, named) in file.crate_modules() {
            let known = DIRECTIONS.iter().any(|(name, _)| *name == named);
            let fine = named == module || allowed.contains(&named.as_str()) || !known;
            report.check(fine, || format!("{}:{line}: `{module}` may not name `crate::{named}`", file.name));
        }
    }
    report.finish();
}

#[test]
fn money_is_never_a_float() {
    let mut report = Report::new("books are integers; see src/money.rs");
    for file in sources().filter(|file| EXACT.iter().any(|exact| file.path.starts_with(exact))) {
        for (line, tokens) in file.token_lines() {
            for at in 0..tokens.len() {
                // `_: f64` is a float that is thrown away unread, as serde's visitors must be able to.
                let unread = at >= 2 && tokens[at - 2..at] == ["_", ":"];
                let float = matches!(tokens[at], "f32" | "f64") && !unread || is_float_literal(tokens[at]);
                report.check(!float, || format!("{}:{line}: `{}`", file.name, tokens[at]));
            }
        }
    }
    report.finish();
}

#[test]
fn production_code_does_not_panic_on_purpose() {
    let mut report = Report::new("return an error: a panic in the gateway leaves a call without its settlement");
    for file in sources() {
        for (line, tokens) in file.token_lines() {
            for at in 0..tokens.len() {
                let next = tokens.get(at + 1).copied().unwrap_or("");
                let before = if at == 0 { "" } else { tokens[at - 1] };
                let bad = match tokens[at] {
                    "unwrap" | "expect" => next == "(" && matches!(before, "." | "::"),
                    "panic" | "todo" | "unimplemented" | "dbg" => next == "!",
                    _ => false,
                };
                report.check(!bad, || format!("{}:{line}: {}{next}", file.name, tokens[at]));
            }
        }
    }
    report.finish();
}

#[test]
fn no_test_is_ignored() {
    let mut report = Report::new("a test that does not run proves nothing: fix it or delete it");
    for path in files(&root(), &["rs"]) {
        let text = read(&path);
        for (number, line) in blank(&text).lines().enumerate() {
            let squeezed: String = line.split_whitespace().collect();
            let ignored =
                squeezed.contains("#[ignore") || (squeezed.contains("#[cfg_attr(") && squeezed.contains(",ignore"));
            report.check(!ignored, || format!("{}:{}: ignored test", show(&path), number + 1));
        }
    }
    report.finish();
}

#[test]
fn every_lua_file_says_what_it_does() {
    let mut report =
        Report::new("a script starts with a comment: what it does, its KEYS, its ARGV with units, its replies");
    for path in files(&root().join("lua"), &["lua"]) {
        let text = read(&path);
        let header = text.lines().take_while(|line| line.starts_with("--")).count();
        report.check(header >= 2, || format!("{}: no header comment", show(&path)));
    }
    report.finish();
}

#[test]
fn every_relative_link_resolves() {
    let mut report = Report::new("a link in a document leads to a file, or a heading, of this repository");
    for path in files(&root(), &["md"]) {
        let text = prose(&read(&path));
        for (number, line) in text.lines().enumerate() {
            for target in links(line) {
                if let Err(problem) = resolve(&path, &target) {
                    report.add(format!("{}:{}: {target}: {problem}", show(&path), number + 1));
                }
            }
        }
    }
    report.finish();
}

/// The table of leaks in docs/PROVIDERS.md names tests by how they begin, and files by a part of their path.
#[test]
fn every_test_that_the_table_of_leaks_names_is_there() {
    let mut report = Report::new("docs/PROVIDERS.md: name a test or a file that is there");
    let paths = files(&root(), &["rs", "py", "txt"]);
    let code: String =
        paths.iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).map(|p| read(p)).collect();
    let mut count = 0;
    let table = read(&root().join("docs/PROVIDERS.md"));
    for line in table.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit()) {
        for name in line.split('`').skip(1).step_by(2) {
            count += 1;
            let is_test = name.ends_with('_') && code.contains(&format!("fn {name}"));
            let is_file = |path: &PathBuf| show(path).contains(name.trim_end_matches('*'));
            report.check(is_test || paths.iter().any(is_file), || format!("`{name}` in {line}"));
        }
    }
    assert!(count > 100, "the table has {count} names");
    report.finish();
}

#[test]
fn the_page_of_the_config_is_what_the_program_says() {
    let said =
        std::process::Command::new(env!("CARGO_BIN_EXE_loopers")).args(["check", "--reference"]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let mut report = Report::new("write it anew: target/debug/loopers check --reference > docs/CONFIG.md");
    report.check(said.lines().count() > 60 && !said.contains("not described"), || {
        let rows: Vec<&str> = said.lines().filter(|line| line.contains("not described")).collect();
        format!("fields without a description in src/config/reference.rs: {rows:?}")
    });
    let page = read(&root().join("docs/CONFIG.md"));
    for (number, (written, right)) in page.lines().zip(said.lines()).enumerate() {
        report.check(written == right, || format!("docs/CONFIG.md:{}: should be: {right}", number + 1));
    }
    report.check(page.lines().count() == said.lines().count(), || {
        "docs/CONFIG.md: lines are missing or left over".into()
    });
    report.finish();
}

#[test]
fn every_command_and_flag_is_in_the_page_of_the_command_line() {
    let page = read(&root().join("docs/CLI.md"));
    let mut report = Report::new("docs/CLI.md has every command as `loopers COMMAND …`, and every flag");
    let (mut commands, mut flags) = (vec![Vec::<String>::new()], 0);
    let mut at = 0;
    while at < commands.len() {
        let path = commands[at].clone();
        at += 1;
        let help =
            std::process::Command::new(env!("CARGO_BIN_EXE_loopers")).args(&path).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let inner = subcommands(&help);
        let name = format!("loopers {}", path.join(" "));
        // A command that only groups others is in the page by those.
        let shown = [format!("`{name}`"), format!("`{name} ")].iter().any(|form| page.contains(form));
        report.check(path.is_empty() || !inner.is_empty() || shown, || format!("`{name}` is missing"));
        commands.extend(inner.into_iter().map(|word| [path.clone(), vec![word]].concat()));
        for flag in help.lines().filter_map(|line| {
            line.trim_start().trim_start_matches("-h, ").trim_start_matches("-V, ").strip_prefix("--")
        }) {
            let flag: String = flag.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            flags += 1;
            let general = ["help", "version"].contains(&flag.as_str());
            report.check(general || page.contains(&format!("--{flag}")), || format!("{name}: `--{flag}` is missing"));
        }
    }
    report.check(commands.len() > 30 && flags > 60, || format!("only {} commands and {flags} flags", commands.len()));
    report.finish();
}

#[test]
fn every_code_of_a_refusal_is_explained() {
    let page = read(&root().join("docs/TROUBLESHOOTING.md"));
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let explained: Vec<&str> = rows.map(|(code, _)| code).filter(|code| is_code(code)).collect();
    let mut report = Report::new("each code has one row in docs/TROUBLESHOOTING.md: what it means, why, what to do");
    let mut emitted = Vec::new();
    for file in sources().filter(|file| ["gateway", "provider"].contains(&file.module())) {
        // Tests inside a file come last; what they make up is no code of ours.
        let text = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for code in refusal_codes(text) {
            report.check(explained.contains(&code.as_str()), || format!("{}: `{code}` is not explained", file.name));
            emitted.push(code);
        }
    }
    report.check(emitted.len() >= 30, || format!("only {} codes were found in the sources", emitted.len()));
    for (at, code) in explained.iter().enumerate() {
        let known = CONTRACT.contains(code) || emitted.iter().any(|known| known == code);
        report.check(known, || format!("docs/TROUBLESHOOTING.md: nothing answers `{code}`"));
        report.check(!explained[..at].contains(code), || format!("docs/TROUBLESHOOTING.md: `{code}` has two rows"));
    }
    for code in CONTRACT {
        report.check(explained.contains(&code), || format!("`{code}` is not explained"));
    }
    report.finish();
}

#[test]
fn the_rules_see_what_they_should() {
    let refusals =
        "Refusal::new(\n  402,\n  \"a_b\", x) Reject { code: \"c_d\", .. } Refusal::new(status, reject.code, \"e\")";
    assert_eq!(refusal_codes(refusals), ["a_b", "c_d"]);
    let file = Source::new(
        "gateway/x.rs",
        "use redis::Client;\nuse crate::{ledger::redis, mock};\nfn f() { redis::go(); } // x.unwrap()\n\
         const S: &str = \"a.unwrap() 1.5\"; let c = '\"'; let l: &'a str = x.0.1;\n\
         #[cfg(test)]\nmod tests { fn g() { x.unwrap(); } }\nfn after() { y.expect(\"f64\") * 0.5 }\n",
    );
    assert_eq!(file.uses_of_crate("redis"), [1]);
    assert_eq!(file.crate_modules(), [(2, "ledger".to_string()), (2, "mock".to_string())]);
    let words: Vec<String> = file.token_lines().flat_map(|(_, tokens)| tokens.into_iter().map(String::from)).collect();
    assert!(!words.contains(&"unwrap".to_string()) && words.contains(&"expect".to_string()), "{words:?}");
    assert_eq!(words.iter().filter(|word| is_float_literal(word)).collect::<Vec<_>>(), ["0.5"]);
    assert_eq!(links("see [a](b.md#c) and ![d](e.png \"t\") [f](https://g)"), ["b.md#c", "e.png"]);
    assert_eq!(slug("`loopers exec`: why, and how"), "loopers-exec-why-and-how");
}

// === What a rule reports ===

/// Problems of one rule; fails with all of them at once.
struct Report {
    why: &'static str,
    problems: String,
}

impl Report {
    fn new(why: &'static str) -> Self {
        Report { why, problems: String::new() }
    }

    fn add(&mut self, problem: String) {
        let _ = writeln!(self.problems, "  {problem}");
    }

    fn check(&mut self, fine: bool, problem: impl FnOnce() -> String) {
        if !fine {
            self.add(problem());
        }
    }

    fn finish(self) {
        assert!(self.problems.is_empty(), "{}:\n{}", self.why, self.problems);
    }
}

// === Files ===

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn show(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Every file below `folder` with one of the extensions, sorted; build output and hidden folders are left out.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() {
                if !name.starts_with('.') && !matches!(&*name, "target" | "node_modules") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extensions.iter().any(|e| extension == *e)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The Rust files of `src/`, without files that hold only tests.
fn sources() -> impl Iterator<Item = Source> {
    let src = root().join("src");
    files(&src, &["rs"]).into_iter().filter_map(move |path| {
        let below = path.strip_prefix(&src).ok()?.to_string_lossy().into_owned();
        let only_tests = below.ends_with("tests.rs") || below.contains("tests/");
        (!only_tests).then(|| Source::new(&below, &read(&path)))
    })
}

// === What the binary says ===

/// The words below `Commands:` in a help text.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with("  "));
    lines.filter_map(|line| line.split_whitespace().next()).filter(|word| *word != "help").map(String::from).collect()
}

// === Codes ===

/// The codes that a source gives to refusals: the text after the status of a `Refusal::new`, and that of a `code:`.
fn refusal_codes(text: &str) -> Vec<String> {
    let starts = text.match_indices("Refusal::new(").chain(text.match_indices("code: "));
    let after = starts.map(|(at, start)| text[at + start.len()..].trim_start());
    let quoted = after.filter_map(|rest| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(',').trim_start();
        let code = rest.strip_prefix('"')?.split('"').next()?;
        is_code(code).then(|| code.to_string())
    });
    let mut codes: Vec<String> = quoted.collect();
    // Both kinds were looked for one after the other.
    codes.sort();
    codes
}

fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

// === Rust text ===

/// A file of `src/`.
struct Source {
    /// `src/gateway/meter.rs`
    name: String,
    /// `gateway/meter.rs`
    path: String,
    /// As written.
    text: String,
    /// With comments, literals and test modules blanked out, line numbers unchanged.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = without_tests(&blank(text));
        Source { name: format!("src/{path}"), path: path.into(), text: text.into(), code }
    }

    /// The top-level module: `gateway` of `gateway/meter.rs`, `money` of `money.rs`.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or("")
    }

    fn token_lines(&self) -> impl Iterator<Item = (usize, Vec<&str>)> {
        self.code.lines().enumerate().map(|(at, line)| (at + 1, tokens(line)))
    }

    /// Lines that name a foreign crate at the root of a path. A module of ours with the same name, declared or imported
    /// in this file, is not meant.
    fn uses_of_crate(&self, name: &str) -> Vec<usize> {
        let stem = name.strip_suffix('*');
        let matches = |token: &str| stem.map_or(token == name, |stem| token.starts_with(stem));
        let mut shadowed = false;
        let mut found = Vec::new();
        let mut inside_use_of_ours = false;
        for (line, tokens) in self.token_lines() {
            for at in 0..tokens.len() {
                let before = if at == 0 { "" } else { tokens[at - 1] };
                let next = tokens.get(at + 1).copied().unwrap_or("");
                match tokens[at] {
                    "use" => inside_use_of_ours = matches!(next, "crate" | "super" | "self"),
                    ";" => inside_use_of_ours = false,
                    _ => {}
                }
                if !matches(tokens[at]) {
                    continue;
                }
                if before == "mod" || (inside_use_of_ours && matches!(next, ";" | "," | "}")) {
                    shadowed = true;
                } else if before == "use" || (next == "::" && before != "::" && !inside_use_of_ours) {
                    found.push((line, before == "use"));
                }
            }
        }
        found.into_iter().filter(|(_, certain)| *certain || !shadowed).map(|(line, _)| line).collect()
    }

    /// Modules of this crate that are named from its root: `crate::ledger::…`, `use crate::{money, clock::…}`.
    fn crate_modules(&self) -> Vec<(usize, String)> {
        let all: Vec<(usize, &str)> =
            self.token_lines().flat_map(|(line, tokens)| tokens.into_iter().map(move |token| (line, token))).collect();
        let mut found = Vec::new();
        for at in 0..all.len() {
            let root =
                matches!(all[at].1, "crate" | "loopers") && all.get(at + 1).is_some_and(|(_, token)| *token == "::");
            let Some((line, first)) = all.get(at + 2).copied().filter(|_| root) else { continue };
            if first != "{" {
                found.push((line, first.to_string()));
                continue;
            }
            let mut depth = 1;
            for pair in all[at + 2..].windows(2) {
                let ((_, before), (line, token)) = (pair[0], pair[1]);
                if depth == 1 && matches!(before, "{" | ",") && token != "}" {
                    found.push((line, token.to_string()));
                }
                depth += i32::from(token == "{") - i32::from(token == "}");
                if depth == 0 {
                    break;
                }
            }
        }
        found
    }
}

/// The text with comments, strings and character literals replaced by spaces; newlines stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = vec![b' '; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let end = match literal_or_comment(bytes, at) {
            Some(end) => end,
            None => {
                out[at] = bytes[at];
                at + 1
            }
        };
        for position in at..end.min(bytes.len()) {
            if bytes[position] == b'\n' {
                out[position] = b'\n';
            }
        }
        at = end;
    }
    out.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { ' ' }).collect()
}

/// Where the comment, string or character literal that starts at `at` ends.
fn literal_or_comment(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return Some(at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return Some(block_comment(bytes, at));
    }
    let in_word = at > 0 && is_word(bytes[at - 1]);
    if !in_word && let Some(end) = raw_string(bytes, at) {
        return Some(end);
    }
    match rest[0] {
        b'"' => Some(quoted(bytes, at + 1, b'"')),
        // A quote opens a character when it is escaped or closes after one character; otherwise it is a lifetime.
        b'\'' if rest.get(1) == Some(&b'\\') => Some(quoted(bytes, at + 1, b'\'')),
        b'\'' => {
            let width = match rest.get(1)? {
                0..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            (rest.get(1 + width) == Some(&b'\'')).then_some(at + width + 2)
        }
        _ => None,
    }
}

fn block_comment(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut next = at + usize::from(matches!(bytes[at], b'b' | b'c'));
    if bytes.get(next) != Some(&b'r') {
        return None;
    }
    next += 1;
    let hashes = bytes[next..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(next + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let start = next + hashes + 1;
    let length = bytes[start..].windows(close.len()).position(|window| window == close);
    Some(length.map_or(bytes.len(), |length| start + length + close.len()))
}

fn quoted(bytes: &[u8], mut at: usize, close: u8) -> usize {
    while at < bytes.len() && bytes[at] != close {
        at += 1 + usize::from(bytes[at] == b'\\');
    }
    at + 1
}

/// Blanks every `#[cfg(test)] mod … { … }`.
fn without_tests(code: &str) -> String {
    let mut code = code.to_string();
    let mut from = 0;
    while let Some(start) = code[from..].find("#[cfg(test)]").map(|at| from + at) {
        from = start + "#[cfg(test)]".len();
        let Some(open) = code[from..].find(['{', ';']).map(|at| from + at) else { break };
        if code.as_bytes()[open] == b';' {
            continue;
        }
        let mut depth = 0;
        let end = code[open..].char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0).then_some(open + at + 1)
        });
        let end = end.unwrap_or(code.len());
        let blanked: String = code[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        code.replace_range(start..end, &blanked);
        from = end;
    }
    code
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Words, `::`, and single other characters. A number keeps its fraction: `0.5` is one token, `x.0.1` is not.
fn tokens(line: &str) -> Vec<&str> {
    let bytes = line.as_bytes();
    let mut found: Vec<&str> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        if is_word(bytes[at]) {
            let number = bytes[at].is_ascii_digit() && found.last() != Some(&".");
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
            if number && bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
                at += 1;
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
            }
        } else if line[at..].starts_with("::") {
            at += 2;
        } else {
            at += 1;
            if bytes[start].is_ascii_whitespace() {
                continue;
            }
        }
        found.push(&line[start..at]);
    }
    found
}

fn is_float_literal(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_digit())
        && (token.contains('.') || token.ends_with("f64") || token.ends_with("f32"))
}

// === Markdown ===

/// The text without fenced blocks and code spans, line numbers unchanged.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut out = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        if !fence && !fenced {
            // Every second piece between backticks is code.
            out.extend(line.split('`').step_by(2));
        }
        fenced ^= fence;
        out.push('\n');
    }
    out
}

/// Targets of inline links and images that are neither URLs nor mail addresses.
fn links(line: &str) -> Vec<String> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split_whitespace().next().unwrap_or("").to_string())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

fn resolve(document: &Path, target: &str) -> Result<(), String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    if file.starts_with('/') {
        return Err("write it relative to the document".into());
    }
    let path = match file {
        "" => document.to_path_buf(),
        file => document.parent().unwrap_or(Path::new("")).join(file),
    };
    if !path.exists() {
        return Err("no such file".into());
    }
    if anchor.is_empty() || path.extension().is_none_or(|extension| extension != "md") {
        return Ok(());
    }
    let text = read(&path);
    let found = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .any(|line| slug(line.trim_start_matches('#').trim()) == anchor);
    if found { Ok(()) } else { Err("no such heading".into()) }
}

/// A heading's anchor, as code forges make it.
fn slug(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
