//! Questions: one line on stderr, one line from stdin. Works in a terminal and from a pipe.

use std::io::{BufRead as _, Write as _};

use super::files::KNOWN;
use crate::cli::output::{Failure, say};
use crate::config::BaseUrl;
use crate::control::ops::Amounts;

/// How often a question is asked before the person is left in peace.
const TRIES: usize = 5;

/// Whoever answers.
pub struct Terminal {
    input: std::io::StdinLock<'static>,
}

impl Terminal {
    /// Standard input.
    pub fn new() -> Self {
        Terminal { input: std::io::stdin().lock() }
    }

    /// One answer that `read` understands; an empty line is the default.
    fn ask<T>(
        &mut self,
        question: &str,
        default: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        for _ in 0..TRIES {
            let mut screen = std::io::stderr().lock();
            let _ = write!(screen, "{question} [{default}]: ").and_then(|()| screen.flush());
            drop(screen);
            let mut line = String::new();
            let bytes = self.input.read_line(&mut line)?;
            if bytes == 0 {
                say("");
                let hint = "answer in a terminal, or say --yes to take the defaults";
                return Err(Failure::new("nothing was written: there was no answer", hint));
            }
            let typed = line.trim();
            match read(if typed.is_empty() { default } else { typed }) {
                Ok(answer) => return Ok(answer),
                Err(problem) => say(&format!("  {problem}")),
            }
        }
        Err(Failure::new("nothing was written: no answer could be understood", "loopers init --help lists the flags"))
    }

    /// Yes or no; no where nothing is said.
    pub fn yes(&mut self, question: &str) -> Result<bool, Failure> {
        self.ask(question, "n", |text| match text.to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(true),
            "n" | "no" => Ok(false),
            _ => Err("y or n".into()),
        })
    }

    /// Which providers may be called.
    pub fn providers(&mut self, usual: &[&str]) -> Result<Vec<String>, Failure> {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
        say(&format!(
            "\nWhich providers may programs call? Any of {}, with commas between.\n\
             Default: those whose key this shell has, else openai. More can be added to loopers.yaml later.",
            names.join(", ")
        ));
        self.ask("Providers", &usual.join(","), |text| {
            let typed: Vec<String> = text.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
            match typed.iter().find(|name| !names.contains(&name.as_str())) {
                Some(unknown) => Err(format!("there is no provider `{unknown}`: {}", names.join(", "))),
                None => Ok(typed),
            }
        })
    }

    /// Where a provider without one address for everybody is.
    pub fn base_url(&mut self, name: &str, bases: &mut Vec<(String, String)>) -> Result<(), Failure> {
        let known = KNOWN.iter().find(|known| known.name == name && !known.is_public);
        let Some(known) = known.filter(|_| !bases.iter().any(|(of, _)| of == name)) else { return Ok(()) };
        say(&format!("\nWhere is {name}? {}", known.where_is_it));
        let url = self.ask("Address", known.base_url, |text| BaseUrl::parse(text).map(|_| text.to_string()))?;
        bases.push((name.to_string(), url));
        Ok(())
    }

    /// Whether the books are in Redis.
    pub fn redis(&mut self) -> Result<bool, Failure> {
        say("\nWhere are the books? file: one gateway, nothing to install, a file beside loopers.yaml.\n\
             redis: several gateways share them; needs Redis 7 or Valkey with maxmemory-policy noeviction.\n\
             Default: file. Books do not move from one to the other.");
        self.ask("Ledger", "file", |text| match text {
            "file" => Ok(false),
            "redis" => Ok(true),
            _ => Err("file or redis".into()),
        })
    }

    /// The first key's limits.
    pub fn limits(&mut self, daily: &str) -> Result<Amounts, Failure> {
        say("\nHow much may the first key spend, in USD? A call that does not fit is made smaller or refused.\n\
             Default: a small sum a day, and none a month; `loopers budget set` changes it at any time.");
        let check = |amounts: Amounts| amounts.limits().map(|_| amounts).map_err(|error| error.message);
        let day = self.ask("A day", daily, |text| check(Amounts { daily: some(text), ..Amounts::default() }))?;
        let month = self.ask("A month", "none", |text| check(Amounts { monthly: some(text), ..Amounts::default() }))?;
        if day.daily.is_none() && month.monthly.is_none() {
            say("  A key needs a limit: the default holds.");
            return Ok(Amounts { daily: Some(daily.into()), ..Amounts::default() });
        }
        Ok(Amounts { monthly: month.monthly, ..day })
    }
}

fn some(text: &str) -> Option<String> {
    (text != "none").then(|| text.to_string())
}
