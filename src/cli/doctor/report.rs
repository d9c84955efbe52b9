//! What the doctor found: each with its place in the config, and the line to change.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::cli::output::{Failure, answer};
use crate::config::{self, Problem};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Checked, and as it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// The gateway does not start, or calls fail, or the cap is not safe.
    Error,
}

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Its kind: `docs/CLI.md` lists all.
    pub code: &'static str,
    /// The file that it is about.
    pub file: Option<PathBuf>,
    /// The line in it.
    pub line: Option<usize>,
    /// The field, as `providers.openai.key`, or the key or team.
    pub about: String,
    /// What was found.
    pub message: String,
    /// What to write, and where.
    pub fix: Option<String>,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Report {
    file: Option<PathBuf>,
    text: String,
    findings: Vec<Finding>,
}

impl Report {
    /// A report about a config file; `None` when there is none.
    pub fn new(file: Option<&Path>) -> Self {
        let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        Report { file: file.map(Path::to_path_buf), text, findings: Vec::new() }
    }

    /// Something is as it should be.
    pub fn ok(&mut self, code: &'static str, message: impl Into<String>) {
        let message = message.into();
        let (file, line, about) = (None, None, String::new());
        self.findings.push(Finding { severity: Severity::Ok, code, file, line, about, message, fix: None });
    }

    /// Somebody should look at a field of the config.
    pub fn warning(&mut self, code: &'static str, field: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.at(Severity::Warning, code, field, message.into(), fix.into());
    }

    /// A field of the config must be changed, or what it names.
    pub fn error(&mut self, code: &'static str, field: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.at(Severity::Error, code, field, message.into(), fix.into());
    }

    fn at(&mut self, severity: Severity, code: &'static str, field: &str, message: String, fix: String) {
        let line = config::line_of(&self.text, field);
        let (file, about, fix) = (self.file.clone(), field.to_string(), Some(fix));
        self.findings.push(Finding { severity, code, file, line, about, message, fix });
    }

    /// Something about a key or team, which stands in no file.
    pub fn node(&mut self, code: &'static str, name: &str, message: impl Into<String>, fix: impl Into<String>) {
        let (message, about, fix) = (message.into(), name.to_string(), Some(fix.into()));
        let (severity, file, line) = (Severity::Warning, None, None);
        self.findings.push(Finding { severity, code, file, line, about, message, fix });
    }

    /// What reading the config found.
    pub fn problem(&mut self, severity: Severity, problem: &Problem, fix: impl Into<String>) {
        self.findings.push(Finding {
            severity,
            code: problem.code,
            file: Some(problem.file.clone()),
            line: problem.line,
            about: problem.path.clone(),
            message: problem.problem.clone(),
            fix: Some(fix.into()),
        });
    }

    /// Takes over what another report found.
    pub fn extend(&mut self, other: Report) {
        self.findings.extend(other.findings);
    }

    /// A report about the same config, for a check that runs beside others.
    pub fn beside(&self) -> Report {
        Report { file: self.file.clone(), text: self.text.clone(), findings: Vec::new() }
    }

    /// True when something has to be changed.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Writes it to stdout.
    pub fn print(&self, json: bool) -> Result<(), Failure> {
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        let report = json!({ "ok": errors == 0, "errors": errors, "warnings": warnings, "findings": self.findings });
        answer(json, &report, |_| {
            let mut lines: Vec<String> = self.findings.iter().map(Finding::text).collect();
            let plural = |count: usize| if count == 1 { "" } else { "s" };
            lines.push(format!("{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings)));
            lines.join("\n")
        })
    }
}

impl Finding {
    fn text(&self) -> String {
        let mut place = String::new();
        if let Some(file) = &self.file {
            place.push_str(&file.display().to_string());
            if let Some(line) = self.line {
                place.push_str(&format!(":{line}"));
            }
            place.push_str(": ");
        }
        if !self.about.is_empty() {
            place.push_str(&self.about);
            place.push_str(": ");
        }
        let code = if self.severity == Severity::Ok { String::new() } else { format!(" [{}]", self.code) };
        let mut text = format!("{:<8}{place}{}{code}", self.severity.name(), self.message);
        for line in self.fix.iter().flat_map(|fix| fix.lines()) {
            text.push_str(&format!("\n          -> {line}"));
        }
        text
    }
}
