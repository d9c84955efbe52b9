//! The YAML text: typed access that collects every problem, and the line of each.
//!
//! A missing field takes its default; a wrong one takes it too, after its problem was written down, so that reading goes
//! on to the next. What nobody asked for is an unknown field.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::Problem;
use super::fault::{self, Fault};
use super::lines::{line_of, second_of_a_pair};

/// One step from a YAML node to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The value of a key.
    Key(String),
    /// The item of a list.
    Item(usize),
}

/// What a field may hold, as far as reading it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Fields of its own.
    Section,
    /// Text of some form.
    Text,
    /// A whole number: what it is when it is missing, and its range.
    Number(u64, RangeInclusive<u64>),
    /// Whole numbers: what they are when they are missing, and the range of each.
    Numbers(Vec<u64>, RangeInclusive<u64>),
    /// True or false; what it is when it is missing.
    Flag(bool),
    /// A list of texts.
    Texts,
}

/// A config file that is being read.
pub(super) struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    root: Value,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    asked: RefCell<Vec<(String, Kind)>>,
}

impl<'a> Document<'a> {
    /// Parses the text. A text that is not YAML is one problem.
    pub fn new(file: &'a Path, text: &'a str) -> Result<Self, Problem> {
        let root = serde_yaml::from_str(text).map_err(|error| syntax_problem(file, text, &error))?;
        let (problems, warnings, asked) = Default::default();
        Ok(Document { file, text, root, problems, warnings, asked })
    }

    /// The whole file.
    pub fn root(&self) -> Section<'_> {
        Section::new(self, Vec::new(), self.root.clone())
    }

    /// A section in which every field is missing.
    pub fn nothing(&self) -> Section<'_> {
        Section::new(self, Vec::new(), Value::Null)
    }

    /// Everything found so far: problems, then warnings.
    pub fn findings(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.problems.into_inner(), self.warnings.into_inner())
    }

    /// Every field that was asked for, present or not, in the order of asking.
    pub fn asked(self) -> Vec<(String, Kind)> {
        self.asked.into_inner()
    }

    /// Writes down a problem of another file.
    pub fn foreign(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    fn finding(&self, path: &[Step], shown: String, fault: Fault) -> Problem {
        let line = (0..=path.len()).rev().find_map(|steps| line_of(self.text, &path[..steps]));
        let line = line.filter(|_| !path.is_empty());
        Problem { file: self.file.to_path_buf(), line, path: shown, problem: fault.text, code: fault.code }
    }
}

/// A value and where it stands.
pub(super) struct Entry<'d, T> {
    doc: &'d Document<'d>,
    path: Vec<Step>,
    /// The value.
    pub value: T,
}

impl<T> Entry<'_, T> {
    /// Writes down what is wrong with the value.
    pub fn problem(&self, problem: impl Into<Fault>) {
        let finding = self.doc.finding(&self.path, dotted(&self.path), problem.into());
        self.doc.problems.borrow_mut().push(finding);
    }

    /// Writes down what is probably not meant.
    pub fn warning(&self, problem: impl Into<Fault>) {
        let finding = self.doc.finding(&self.path, dotted(&self.path), problem.into());
        self.doc.warnings.borrow_mut().push(finding);
    }
}

/// A mapping whose fields are taken out one by one.
pub(super) struct Section<'d> {
    doc: &'d Document<'d>,
    path: Vec<Step>,
    fields: Mapping,
    asked: BTreeSet<String>,
}

impl<'d> Section<'d> {
    fn new(doc: &'d Document<'d>, path: Vec<Step>, value: Value) -> Self {
        let fields = match value {
            Value::Mapping(fields) => fields,
            Value::Null => Mapping::new(),
            other => {
                let wrong = Entry { doc, path: path.clone(), value: () };
                wrong.problem(format!("must be a section of `name: value` lines, not {}", kind(&other)));
                Mapping::new()
            }
        };
        Section { doc, path, fields, asked: BTreeSet::new() }
    }

    /// The value of a field, unless it is missing or empty.
    fn take(&mut self, name: &str, kind: Kind) -> Option<Entry<'d, Value>> {
        let mut path = self.path.clone();
        path.push(Step::Key(name.to_string()));
        if self.asked.insert(name.to_string()) {
            self.doc.asked.borrow_mut().push((dotted(&path), kind));
        }
        let value = self.fields.remove(name)?;
        (!value.is_null()).then_some(Entry { doc: self.doc, path, value })
    }

    /// A field that is a section of its own; empty when it is missing.
    pub fn section(&mut self, name: &str) -> Section<'d> {
        self.given(name).unwrap_or_else(|| {
            let mut path = self.path.clone();
            path.push(Step::Key(name.to_string()));
            Section::new(self.doc, path, Value::Null)
        })
    }

    /// A field that is a section of its own, if it is there.
    pub fn given(&mut self, name: &str) -> Option<Section<'d>> {
        self.take(name, Kind::Section).map(|entry| Section::new(entry.doc, entry.path, entry.value))
    }

    /// The names of all fields that were not taken yet and look like names.
    pub fn names(&self) -> Vec<String> {
        self.fields.keys().filter_map(|key| plain_name(key).map(str::to_string)).collect()
    }

    /// The names of all fields that were not taken yet, also those that are no plain words: other people's names for things.
    pub fn keys(&self) -> Vec<String> {
        self.fields.keys().filter_map(Value::as_str).map(str::to_string).collect()
    }

    /// A field that is text.
    pub fn text(&mut self, name: &str) -> Option<Entry<'d, String>> {
        text(self.take(name, Kind::Text)?)
    }

    /// A field that is text of a certain form; `default` when it is missing or wrong.
    pub fn parsed<T, E: Into<Fault>>(&mut self, name: &str, default: T, parse: impl FnOnce(&str) -> Result<T, E>) -> T {
        let Some(entry) = self.text(name) else { return default };
        parse(&entry.value).unwrap_or_else(|problem| {
            entry.problem(problem);
            default
        })
    }

    /// A field that is a whole number.
    pub fn number(&mut self, name: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(entry) = self.take(name, Kind::Number(default, range.clone())) else { return default };
        match entry.value.as_u64() {
            Some(number) if range.contains(&number) => number,
            _ => {
                entry.problem(format!("must be a whole number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    /// A field that is a list of whole numbers.
    pub fn numbers(&mut self, name: &str, default: &[u64], range: RangeInclusive<u64>) -> Vec<u64> {
        let kind = Kind::Numbers(default.to_vec(), range.clone());
        let Some(entry) = self.take(name, kind) else { return default.to_vec() };
        let items = entry.value.as_sequence().map(Vec::as_slice).unwrap_or_default();
        let numbers: Vec<u64> =
            items.iter().filter_map(Value::as_u64).filter(|number| range.contains(number)).collect();
        if numbers.is_empty() || numbers.len() != items.len() {
            let (least, most) = range.into_inner();
            entry.problem(format!("must be a list such as [50, 80] of whole numbers from {least} to {most}"));
            return default.to_vec();
        }
        numbers
    }

    /// A field that is `true` or `false`.
    pub fn flag(&mut self, name: &str, default: bool) -> bool {
        let Some(entry) = self.take(name, Kind::Flag(default)) else { return default };
        entry.value.as_bool().unwrap_or_else(|| {
            entry.problem("must be true or false");
            default
        })
    }

    /// A field that is a list of texts.
    pub fn texts(&mut self, name: &str) -> Vec<Entry<'d, String>> {
        let Some(entry) = self.take(name, Kind::Texts) else { return Vec::new() };
        let Value::Sequence(items) = entry.value else {
            let wrong = kind(&entry.value);
            entry.problem(format!("must be a list such as [a, b], not {wrong}"));
            return Vec::new();
        };
        let located = items.into_iter().enumerate().map(|(i, value)| {
            let mut path = entry.path.clone();
            path.push(Step::Item(i));
            Entry { doc: entry.doc, path, value }
        });
        located.filter_map(text).collect()
    }

    /// Writes down a problem of one field, present or not.
    pub fn problem(&self, name: &str, problem: impl Into<Fault>) {
        let mut path = self.path.clone();
        path.push(Step::Key(name.to_string()));
        Entry { doc: self.doc, path, value: () }.problem(problem);
    }

    /// Every field that is left is unknown.
    pub fn close(self) {
        for key in self.fields.keys() {
            let mut path = self.path.clone();
            // A name that is no plain word may be a secret that was typed without a space after its colon: never shown.
            let Some(name) = plain_name(key) else {
                let entry = Entry { doc: self.doc, path, value: () };
                let problem = "a field name must be a plain word, followed by a colon and a space";
                entry.problem(Fault::new(fault::UNKNOWN_FIELD, problem));
                continue;
            };
            path.push(Step::Key(name.to_string()));
            let near =
                self.asked.iter().min_by_key(|known| distance(known, name)).filter(|known| distance(known, name) <= 2);
            let all: Vec<&str> = self.asked.iter().map(String::as_str).collect();
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", all.join(", ")),
            };
            let problem = Fault::new(fault::UNKNOWN_FIELD, format!("unknown field; {hint}"));
            Entry { doc: self.doc, path, value: () }.problem(problem);
        }
    }
}

fn text(entry: Entry<'_, Value>) -> Option<Entry<'_, String>> {
    match entry.value {
        Value::String(value) => Some(Entry { doc: entry.doc, path: entry.path, value }),
        ref other => {
            entry.problem(format!("must be text, not {}; put it in quotes if it is meant so", kind(other)));
            None
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a section",
        Value::Tagged(_) => "a tagged value",
    }
}

fn plain_name(key: &Value) -> Option<&str> {
    let name = key.as_str()?;
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    (plain && !name.is_empty() && name.len() <= 24).then_some(name)
}

fn dotted(path: &[Step]) -> String {
    let mut shown = String::new();
    for step in path {
        match step {
            Step::Key(key) if shown.is_empty() => shown.push_str(key),
            Step::Key(key) => shown.push_str(&format!(".{key}")),
            Step::Item(i) => shown.push_str(&format!("[{i}]")),
        }
    }
    shown
}

/// Letters to insert, remove or replace to get from one name to the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn syntax_problem(file: &Path, text: &str, error: &serde_yaml::Error) -> Problem {
    // The parser's own words name a place and a rule, never a value; a duplicate key is the exception, and is kept short.
    let said = error.to_string();
    let problem = |line, code, problem| Problem { file: file.to_path_buf(), line, path: String::new(), problem, code };
    let line = error.location().map(|at| at.line());
    if said.contains("duplicate entry") {
        let second = second_of_a_pair(text).or(line);
        return problem(second, fault::DUPLICATE_FIELD, "not valid YAML: a field is given twice".into());
    }
    let typed = line.and_then(|line| text.lines().nth(line - 1)).unwrap_or_default();
    let hint = if typed.contains("memory:") { "; write the ledger as \"memory:\", in quotes" } else { "" };
    problem(line, fault::INVALID_YAML, format!("not valid YAML: {said}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, expected) in
            [("listen", "listen", 0), ("listen", "lissen", 1), ("admin", "amdin", 2), ("", "abc", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
