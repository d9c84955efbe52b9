//! docs/SECURITY.md names the test that closes each line of the attack list: every line is there, and every test exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of the attack list.
const LINES: usize = 52;
/// What may stand instead of a test: a sentence of at least so many letters.
const REASON_LETTERS_LEAST: usize = 60;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of all functions that are tests: those below `#[test]` or `#[tokio::test…]`, and those inside `proptest!`.
fn tests_of(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(at) = line.find("fn ").filter(|_| is_test && !line.starts_with("//")) {
            let name = line[at + 3..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            names.insert(name.to_string());
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
    names
}

fn all_tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        rust_files(&root().join(folder), &mut files);
    }
    files.iter().flat_map(|file| tests_of(&fs::read_to_string(file).expect("a file"))).collect()
}

/// What stands between backticks and looks like the name of a test, or the beginning of one with a star.
fn named(text: &str) -> Vec<&str> {
    let is_name = |name: &&str| {
        let bare = name.trim_end_matches('*');
        bare.len() >= 4
            && bare.contains('_')
            && bare.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.split('`').skip(1).step_by(2).filter(is_name).collect()
}

/// Says what is wrong with one line's last column.
fn judge(closed_by: &str, tests: &BTreeSet<String>) -> Result<(), String> {
    let names = named(closed_by);
    for name in &names {
        let exists = match name.strip_suffix('*') {
            Some(start) => tests.iter().any(|test| test.starts_with(start)),
            None => tests.contains(*name),
        };
        if !exists {
            return Err(format!("there is no test `{name}`"));
        }
    }
    let letters = closed_by.split('`').step_by(2).flat_map(str::chars).filter(|c| c.is_alphabetic()).count();
    if names.is_empty() && letters < REASON_LETTERS_LEAST {
        return Err("neither a test nor a reason why it cannot happen".into());
    }
    Ok(())
}

/// Number and last column of each row of the attack list.
fn rows(document: &str) -> Vec<(usize, &str)> {
    let section = document.split("## The attack list").nth(1).unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells.filter_map(|cells| Some((cells.first()?.parse().ok()?, *cells.last()?))).collect()
}

#[test]
fn every_line_of_the_attack_list_has_tests_that_exist() {
    let document = fs::read_to_string(root().join("docs/SECURITY.md")).expect("docs/SECURITY.md");
    let tests = all_tests();
    assert!(tests.len() > 500, "found only {} tests", tests.len());
    let rows = rows(&document);
    let numbers: Vec<usize> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=LINES).collect::<Vec<_>>(), "each line once, in order");
    let problems: Vec<String> = rows
        .iter()
        .filter_map(|(number, closed_by)| {
            judge(closed_by, &tests).err().map(|problem| format!("line {number}: {problem}"))
        })
        .collect();
    assert!(problems.is_empty(), "docs/SECURITY.md:\n{}", problems.join("\n"));
}

#[test]
fn every_test_that_the_document_names_exists() {
    let document = fs::read_to_string(root().join("docs/SECURITY.md")).expect("docs/SECURITY.md");
    let tests = all_tests();
    let before = document.split("## Keys").next().unwrap_or_default();
    let section = before.split("## What each invariant rests on").nth(1).unwrap_or_default();
    let mut shown = 0;
    for line in section.lines().filter(|line| line.starts_with("| I")) {
        let closed_by = line.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        judge(closed_by, &tests).unwrap_or_else(|problem| panic!("{problem}: {line}"));
        shown += 1;
    }
    assert_eq!(shown, 9, "each invariant has a row");
}

#[test]
fn the_check_can_fail() {
    let tests =
        tests_of("#[test]\nfn a01_one() {}\n#[tokio::test]\n#[allow(x)]\nasync fn b_two() {}\nfn no_test() {}\n");
    assert_eq!(tests.iter().map(String::as_str).collect::<Vec<_>>(), ["a01_one", "b_two"]);
    assert!(judge("`a01_one`, `b_two`", &tests).is_ok());
    assert!(judge("`a01_*`", &tests).is_ok());
    assert!(judge("`a02_*`", &tests).is_err());
    assert!(judge("`a01_one`, `no_test`", &tests).is_err());
    assert!(judge("nothing", &tests).is_err());
    assert!(
        judge(
            "It cannot happen, because there is nothing at all in this program that could ever do such a thing.",
            &tests
        )
        .is_ok()
    );
    assert_eq!(rows("## The attack list\n| line | x |\n|---|---|\n| 1 | a | `b` |\n| x | c |"), [(1, "`b`")]);
}
