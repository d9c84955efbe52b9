//! The price table: price files, read strictly, with every gap filled at the worst that it could cost.

mod explain;
mod extras;
mod lines;
mod notices;
mod regions;
mod row;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::ModelPrice;
use crate::clock::{Clock, Millis};
use lines::{Node, Pairs};

pub use notices::{About, Notice};

/// The table that comes with the program, and its name in messages.
const BUILTIN: (&str, &str) = ("conf/prices.yaml", include_str!("../../conf/prices.yaml"));

/// All prices in force, by `provider/model`.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {
    rows: BTreeMap<Arc<str>, Arc<ModelPrice>>,
    version: Arc<str>,
    read_at: Option<Millis>,
}

/// One thing that is wrong in a price file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {path}: {problem}", file.display())]
pub struct PriceError {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
    /// The model and field, e.g. `openai/gpt-5.flex.input`.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

impl PriceTable {
    /// Reads price files (their names and texts). Later files win, model by model. Either all is well, or every problem is told.
    pub fn load(files: &[(PathBuf, String)]) -> Result<PriceTable, Vec<PriceError>> {
        let texts: Vec<(&Path, &str)> = files.iter().map(|(path, text)| (path.as_path(), text.as_str())).collect();
        Self::read(&texts)
    }

    /// The table that comes with the program.
    pub fn builtin() -> Result<PriceTable, Vec<PriceError>> {
        Self::read(&[(Path::new(BUILTIN.0), BUILTIN.1)])
    }

    /// The text of the table that comes with the program.
    pub fn builtin_text() -> &'static str {
        BUILTIN.1
    }

    /// The name and text of the table that comes with the program, as [`PriceTable::load`] takes them.
    pub fn builtin_file() -> (PathBuf, String) {
        (BUILTIN.0.into(), BUILTIN.1.into())
    }

    /// The row of `provider/model`, at the price that holds now.
    pub fn get(&self, id: &str) -> Option<&Arc<ModelPrice>> {
        self.rows.get(id).map(|row| in_force(row, || Clock::System.now()))
    }

    /// The row of `provider/model`, at the price that holds at that instant.
    pub fn get_at(&self, id: &str, now: Millis) -> Option<&Arc<ModelPrice>> {
        self.rows.get(id).map(|row| in_force(row, || now))
    }

    /// The row that prices a model: its own, or else, for a dated snapshot (`…-YYYY-MM-DD`), that of the model without the date,
    /// and for a fine-tuned one (`ft:BASE:…`), that of `ft:BASE`.
    /// A snapshot with another price than its alias must have a row of its own, which then wins.
    pub fn for_model(&self, provider: &str, model: &str) -> Option<&Arc<ModelPrice>> {
        let mut id = String::with_capacity(provider.len() + 1 + model.len());
        id.push_str(provider);
        id.push('/');
        id.push_str(model);
        self.get(&id).or_else(|| self.get(without_date(&id)?)).or_else(|| self.get(without_owner(&id)?))
    }

    /// All rows, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ModelPrice>> {
        self.rows.values()
    }

    /// The providers that have rows.
    pub fn providers(&self) -> BTreeSet<&str> {
        self.rows.keys().filter_map(|id| id.split_once('/')).map(|(provider, _)| provider).collect()
    }

    /// The latest day from which any of a provider's prices is known to hold, as `YYYY-MM-DD`: when somebody last looked.
    pub fn looked_at(&self, provider: &str) -> Option<&str> {
        let rows = self.rows.values().filter(|row| row.id.split_once('/').is_some_and(|(name, _)| name == provider));
        rows.filter_map(|row| row.valid_from.as_deref()).max()
    }

    /// The SHA-256 of what was read, in hex.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// When the newest of its files was made from its source, where one says so.
    pub fn read_at(&self) -> Option<Millis> {
        self.read_at
    }

    fn read(files: &[(&Path, &str)]) -> Result<PriceTable, Vec<PriceError>> {
        let mut table = PriceTable::default();
        let mut errors = Vec::new();
        let mut hash = Sha256::new();
        for (path, text) in files {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
            table.read_at = table.read_at.max(read_on(text));
            match read_file(path, text, &mut errors) {
                Ok(rows) => table.rows.extend(rows),
                Err(error) => errors.push(error),
            }
        }
        table.version = hash
            .finalize()
            .iter()
            .fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            })
            .into();
        if errors.is_empty() { Ok(table) } else { Err(errors) }
    }
}

/// The day that the import wrote at the head of its file, as `# read: 2026-11-23`.
fn read_on(text: &str) -> Option<Millis> {
    let head = text.lines().take_while(|line| line.starts_with('#'));
    head.filter_map(|line| line.strip_prefix("# read: ")).find_map(|day| extras::start_of(day.trim()))
}

type Rows = BTreeMap<Arc<str>, Arc<ModelPrice>>;

fn read_file(file: &Path, text: &str, errors: &mut Vec<PriceError>) -> Result<Rows, PriceError> {
    let error = |line, path: &str, problem: String| PriceError { file: file.into(), line, path: path.into(), problem };
    let root: Node = serde_yaml::from_str(text).map_err(|e| {
        let line = e.location().map_or(1, |location| location.line());
        error(line, "(file)", format!("this is not YAML that can be read: {e}"))
    })?;
    let models: Pairs = match root {
        Node::Map(models) => models,
        Node::Null => Vec::new(),
        _ => {
            return Err(error(
                1,
                "(file)",
                "a price file is a map: write `provider/model:` with its prices below".into(),
            ));
        }
    };
    let (mut rows, mut seen) = (Rows::new(), HashSet::new());
    for (id, node) in models {
        if !is_model_id(&id) {
            let problem =
                "a row is named `provider/model`, e.g. `openai/gpt-5`, in letters, digits and `._:@/-`".into();
            // Lines are looked for only where there is something to tell: that reads the whole text.
            errors.push(error(lines::find(text, &[&id]), &id, problem));
            continue;
        }
        if !seen.insert(id.clone()) {
            errors.push(error(
                lines::find_last(text, &id),
                &id,
                "this row stands twice in the file: delete one".into(),
            ));
            continue;
        }
        let name: Arc<str> = id.as_str().into();
        let (price, problems) = row::read(&name, &node, file);
        for (path, problem) in problems {
            let mut keys = vec![id.as_str()];
            keys.extend(path.split('.').filter(|key| !key.is_empty()));
            errors.push(error(lines::find(text, &keys), &keys.join("."), problem));
        }
        rows.extend(price.map(|price| (name, Arc::new(price))));
    }
    Ok(rows)
}

/// The row, or the one that follows it once its time has come. The clock is read only where there is one.
fn in_force(row: &Arc<ModelPrice>, now: impl Fn() -> Millis) -> &Arc<ModelPrice> {
    match &row.next {
        Some((from, next)) if now() >= *from => next,
        _ => row,
    }
}

/// True for `provider/model` in the characters that names of models have.
pub(super) fn is_model_id(id: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@/-".contains(&b));
    id.len() <= 256 && id.split_once('/').is_some_and(|(provider, model)| is_name(provider) && is_name(model))
}

/// `gpt-5` for `gpt-5-2025-08-07`.
fn without_date(id: &str) -> Option<&str> {
    let (alias, date) = id.split_at_checked(id.len().checked_sub(11)?)?;
    let is_date =
        date.bytes().enumerate().all(|(at, b)| if matches!(at, 0 | 5 | 8) { b == b'-' } else { b.is_ascii_digit() });
    // A name with two dates is nobody's snapshot.
    (is_date && without_date(alias).is_none()).then_some(alias)
}

/// `openai/ft:gpt-4o-2024-08-06` for `openai/ft:gpt-4o-2024-08-06:acme::a1b2`.
fn without_owner(id: &str) -> Option<&str> {
    let base = id.find("/ft:").filter(|_| is_model_id(id))? + "/ft:".len();
    let end = base + id.get(base..)?.find(':')?;
    id.get(..end)
}

#[cfg(test)]
mod tests;
