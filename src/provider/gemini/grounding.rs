//! What an answer says of the searches that Google ran for it.

use std::collections::HashSet;

use super::tools::times;
use crate::money::Money;
use crate::provider::Fee;
use crate::wire::json::Value;

/// More different queries than this are counted each time that they are seen.
const QUERIES_MAX: usize = 4096;

/// What `groundingMetadata` said, over all candidates and chunks.
#[derive(Debug, Default)]
pub struct Counts {
    queries: HashSet<String>,
    /// Queries beyond [`QUERIES_MAX`].
    more: u64,
    /// The answer rests on a search.
    is_searched: bool,
    /// The answer rests on maps.
    is_mapped: bool,
}

impl Counts {
    /// Takes one `groundingMetadata`.
    pub fn take(&mut self, metadata: Value<'_>) {
        for (key, value) in metadata.fields().filter(|(_, value)| !value.is_null()) {
            match key.as_ref() {
                "webSearchQueries" | "imageSearchQueries" => {
                    for query in value.items().filter_map(Value::as_str).filter(|query| !query.trim().is_empty()) {
                        self.query(&query);
                    }
                }
                "searchEntryPoint" => self.is_searched = true,
                "googleMapsWidgetContextToken" => self.is_mapped = true,
                "groundingChunks" => {
                    for chunk in value.items() {
                        self.is_searched |= chunk.get("web").is_some();
                        self.is_mapped |= chunk.get("maps").is_some();
                    }
                }
                _ => {}
            }
        }
    }

    fn query(&mut self, query: &str) {
        self.is_searched = true;
        if self.queries.contains(query) {
            return;
        }
        if self.queries.len() < QUERIES_MAX {
            self.queries.insert(query.to_string());
        } else {
            self.more += 1;
        }
    }

    /// What the uses cost, at these prices. `per_query`: each query is billed, and not the prompt once. Where the answer does not
    /// tell how often a tool ran, it ran as often as was held for.
    pub fn fees(&self, served: &[(&'static str, Fee)], per_query: bool) -> Money {
        let queries = self.queries.len() as u64 + self.more;
        let uses = |name: &str, held: u64| match name {
            "web_search" if per_query => queries,
            "web_search" => u64::from(self.is_searched),
            "maps" if !self.is_mapped => 0,
            "maps" if per_query => held.max(queries),
            "maps" => 1,
            // Not told in a way that can be counted.
            _ => held,
        };
        served.iter().fold(Money::ZERO, |sum, (name, fee)| sum.saturating_add(times(fee.usd, uses(name, fee.calls))))
    }
}
