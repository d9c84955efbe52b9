//! The config itself: read as `serve` would, and what to write instead of what is wrong.

use std::path::Path;

use super::report::{Report, Severity};
use crate::config::{self, DEFAULT_FILE, Problem, Purpose, Settings, environment, fault};

/// Reads the config. Without settings nothing else can be checked.
pub fn examine(config: Option<&Path>) -> (Report, Option<Settings>) {
    let usual = Path::new(DEFAULT_FILE);
    let file = config.or_else(|| usual.exists().then_some(usual));
    let mut report = Report::new(file);
    let Some(file) = file else {
        return match config::defaults(&environment) {
            Ok(loaded) => {
                report.ok("no_config", format!("no ./{DEFAULT_FILE}: the defaults hold; `loopers init` writes one"));
                if loaded.settings.providers.values().all(|provider| provider.key.is_none()) {
                    let message = "environment variable OPENAI_API_KEY is not set: calls must bring a key of their own";
                    report.warning(fault::MISSING_ENV, "providers.openai.key", message, "export OPENAI_API_KEY=sk-…");
                }
                (report, Some(loaded.settings))
            }
            Err(errors) => {
                errors.0.iter().for_each(|problem| report.problem(Severity::Error, problem, fix(problem)));
                (report, None)
            }
        };
    };
    match config::load(file, &environment, Purpose::Serve) {
        Ok(loaded) => {
            report.ok("config", format!("config {}", file.display()));
            loaded.warnings.iter().for_each(|problem| report.problem(Severity::Warning, problem, fix(problem)));
            (report, Some(loaded.settings))
        }
        Err(errors) => {
            errors.0.iter().for_each(|problem| report.problem(Severity::Error, problem, fix(problem)));
            // A secret that is missing keeps nobody from looking at the rest.
            let rest = config::load(file, &environment, Purpose::Books).ok().map(|loaded| loaded.settings);
            if rest.is_none() {
                report.ok("not_checked", "the rest can be checked when the config is right");
            }
            (report, rest)
        }
    }
}

/// The line to write.
fn fix(problem: &Problem) -> String {
    let field = problem.path.rsplit('.').next().unwrap_or_default();
    match problem.code {
        fault::UNKNOWN_FIELD => format!("correct the name `{field}`, or remove its line"),
        fault::DUPLICATE_FIELD => "remove one of the two lines".into(),
        fault::INVALID_YAML => "correct this line: names and values are `name: value`, indented by two blanks".into(),
        fault::MISSING_ENV => match name_of_variable(&problem.problem) {
            Some(name) => format!("export {name}=…    (or a line {name}=… in .env, where compose starts the gateway)"),
            None => "set the variable".into(),
        },
        fault::SECRET_IN_CONFIG => format!("{field}: env:NAME    (and change the secret: it stood in a file)"),
        fault::UNUSABLE_SECRET => "put the key alone into it: no blanks, quotes or further lines".into(),
        fault::UNREADABLE_FILE => {
            format!("{field}: the path of a file that is there, counted from the config's folder")
        }
        fault::INVALID_BASE_URL => "base_url: https://HOST    (no user, no query, and no /v1 at its end)".into(),
        fault::INVALID_LEDGER => {
            "ledger: file:loopers.db    (or env:NAME with redis://:PASSWORD@HOST:6379 in NAME)".into()
        }
        fault::INVALID_PRICE => "correct this row; `loopers prices check` reads the files again".into(),
        fault::SAME_PORT => "admin: { listen: 127.0.0.1:9090 }    (any port but that of listen)".into(),
        fault::WEAK_TOKEN => "openssl rand -hex 32    makes a token".into(),
        fault::CONFIG_UNREADABLE => "--config FILE    (a file that can be read; `loopers init` writes one)".into(),
        _ => format!("{field}: a value as the message says; docs and conf/loopers.yaml show each field"),
    }
}

fn name_of_variable(message: &str) -> Option<&str> {
    message.strip_prefix("environment variable ")?.split(' ').next()
}
