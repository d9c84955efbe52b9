//! The public LiteLLM price file, made into a price table: each entry of the six providers is understood in full, or
//! refused by name. Numbers are read from their text; no float takes part.

mod added;
mod corrections;
mod decimal;
mod entry;
mod family;
mod grammar;
mod keys;
mod row;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::wire::json::{Duplicates, JsonError, Value, scan};
use corrections::{Kin, Known};
use grammar::Meter;
use row::Row;

pub use entry::Refusal;
pub use keys::PROVIDERS;

/// Entries of the file that are no models: an explanation, and rules by which to guess prices. Prices are never guessed.
const NO_MODELS: [&str; 2] = ["sample_spec", "fallback_generalizations"];

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its name and version, e.g. `litellm 1.106.2`.
    pub name: String,
    /// The SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// The day on which it was read, `YYYY-MM-DD`: the prices were in force then.
    pub day: String,
}

/// What a file came to.
#[derive(Clone, Debug)]
pub struct Import {
    origin: Origin,
    rows: Vec<Row>,
    refused: Vec<(String, Refusal)>,
    /// The names of all rows, and of the entries that say the same.
    imported: BTreeMap<String, Vec<String>>,
    contested: BTreeSet<String>,
    entries: usize,
    entries_sha256: String,
    noise: usize,
}

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No strict JSON.
    #[error("this is not JSON that can be read in one way only: {0}")]
    Json(#[from] JsonError),
    /// JSON of another shape.
    #[error("this is not the LiteLLM price file: it should be an object with an entry for each model")]
    Shape,
    /// None of the providers asked for is in it.
    #[error("no entry of {0} is in this file")]
    Nothing(String),
}

impl Import {
    /// Reads the text of a file, for these of the six providers.
    pub fn read(text: &str, origin: Origin, providers: &[&str]) -> Result<Import, ImportError> {
        let mut nodes = Vec::new();
        let root = scan(text, Duplicates::Refused, &mut nodes)?;
        if !root.is_object() {
            return Err(ImportError::Shape);
        }
        let mut import = Import {
            origin,
            rows: Vec::new(),
            refused: Vec::new(),
            imported: BTreeMap::new(),
            contested: BTreeSet::new(),
            entries: 0,
            entries_sha256: String::new(),
            noise: 0,
        };
        let mut found: BTreeMap<String, (String, Row)> = BTreeMap::new();
        let mut hash = Sha256::new();
        for (name, value) in root.fields() {
            let Some(theirs) = theirs(&name, value, providers) else { continue };
            import.entries += 1;
            hash.update(name.as_bytes());
            hash.update(value.raw().as_bytes());
            match import.one(&theirs, &name, value) {
                Ok(row) => import.keep(&mut found, &name, row),
                Err(refusal) => import.refused.push((name.to_string(), refusal)),
            }
        }
        if import.entries == 0 {
            return Err(ImportError::Nothing(providers.join(", ")));
        }
        import.entries_sha256 = hex(&hash.finalize());
        import.drop_contested(&mut found);
        import.finish(found, providers);
        Ok(import)
    }

    /// The names of the rows, each with the entries that it was made of; none for a row that the file lacks.
    pub fn imported(&self) -> &BTreeMap<String, Vec<String>> {
        &self.imported
    }

    /// The entries that made no row, and why.
    pub fn refused(&self) -> &[(String, Refusal)] {
        &self.refused
    }

    /// How many rows each correction changed: its name, its reason, the rows.
    pub fn corrected(&self) -> Vec<(&'static str, &'static str, Vec<&str>)> {
        let rows = |name: &str| {
            self.rows.iter().filter(|row| row.corrected.contains(&name)).map(|row| row.id.as_str()).collect()
        };
        corrections::RULES.iter().map(|rule| (rule.name, rule.why, rows(rule.name))).collect()
    }

    /// How many entries of the providers there were.
    pub fn entries(&self) -> usize {
        self.entries
    }

    fn one(&mut self, theirs: &str, name: &str, value: Value<'_>) -> Result<Row, Refusal> {
        // The mode first: it is the plainest reason.
        let id = keys::row(theirs, name);
        let (mut row, facts) = entry::read(id.clone().unwrap_or_default(), value).map_err(|refusal| match refusal {
            Refusal::Mode(_) | Refusal::NoMode => refusal,
            other => id.clone().err().unwrap_or(other),
        })?;
        id?;
        if row.standard(Meter::Input).is_none() {
            return Err(Refusal::NoPrice("input"));
        }
        if row.standard(Meter::Output).is_none() && !row.embedding {
            return Err(Refusal::NoPrice("output"));
        }
        self.noise += usize::from(facts.noise);
        // Reasoning at the output price is no price of its own.
        for prices in row.tiers.values_mut() {
            for meters in [&mut prices.short, &mut prices.long] {
                if meters.get(&Meter::Reasoning) == meters.get(&Meter::Output) {
                    meters.remove(&Meter::Reasoning);
                }
            }
        }
        family::describe(&mut row, &facts);
        Ok(row)
    }

    /// Two entries of one model must have the same prices; of what else they say, the worst is taken.
    fn keep(&mut self, found: &mut BTreeMap<String, (String, Row)>, name: &str, row: Row) {
        let id = row.id.clone();
        if let Some((first, before)) = found.get_mut(&id) {
            if !before.merge(&row) {
                self.refused.push((name.to_string(), Refusal::Twin(first.clone())));
                self.contested.insert(id.clone());
            }
        } else {
            found.insert(id.clone(), (name.to_string(), row));
        }
        self.imported.entry(id).or_default().push(name.to_string());
    }

    /// Where entries contradict each other, nobody knows the price: none of them is a row.
    fn drop_contested(&mut self, found: &mut BTreeMap<String, (String, Row)>) {
        for id in std::mem::take(&mut self.contested) {
            found.remove(&id);
            for name in self.imported.remove(&id).unwrap_or_default() {
                if !self.refused.iter().any(|(refused, _)| *refused == name) {
                    self.refused.push((name, Refusal::Twin(id.clone())));
                }
            }
        }
    }

    fn finish(&mut self, found: BTreeMap<String, (String, Row)>, providers: &[&str]) {
        let known = |row: &Row| Known {
            input: row.standard(Meter::Input).unwrap_or_default(),
            context_window: row.context_window,
            max_output: row.max_output,
        };
        let kin: Kin = found.values().map(|(_, row)| (row.id.clone(), known(row))).collect();
        let mut rows: BTreeMap<String, Row> = found.into_values().map(|(_, row)| (row.id.clone(), row)).collect();
        rows.values_mut().for_each(|row| corrections::apply(row, &kin));
        for row in added::rows() {
            if providers.contains(&row.provider()) && !rows.contains_key(&row.id) {
                self.imported.insert(row.id.clone(), Vec::new());
                rows.insert(row.id.clone(), row);
            }
        }
        self.rows = rows.into_values().collect();
    }
}

/// The provider as the file calls it, of an entry that is asked for.
fn theirs(name: &str, value: Value<'_>, providers: &[&str]) -> Option<String> {
    if NO_MODELS.contains(&name) {
        return None;
    }
    let theirs = value.get("litellm_provider")?.as_str()?;
    let ours = keys::provider(&theirs)?;
    providers.contains(&ours).then(|| theirs.into_owned())
}

/// The SHA-256 of a file's bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests;
