//! How often built-in tools ran, by the items of an answer.

use std::collections::{BTreeMap, BTreeSet};

use crate::money::Money;
use crate::provider::Fee;
use crate::wire::json::Value;

/// The most items that are kept apart; each one beyond counts as a use of its own whenever it is named.
const ITEMS_MAX: usize = 4096;

/// Items of tools that run inside the provider, with the names of the fees that may apply to them.
const ITEMS: [(&str, &[&str]); 3] = [
    ("web_search_call", &["web_search", "web_search_preview"]),
    ("file_search_call", &["file_search"]),
    ("code_interpreter_call", &["code_interpreter"]),
];
/// Items of tools that are never asked for, because they are billed in ways that have no bound.
const UNASKED: [&str; 3] = ["image_generation_call", "mcp_call", "mcp_list_tools"];

/// Counts uses.
pub struct Uses {
    held: Vec<(&'static str, Fee)>,
    /// Uses by the place of their item in the output.
    items: BTreeMap<u64, (usize, u64)>,
    /// Containers, each of which is billed once.
    containers: BTreeSet<String>,
    beyond: u64,
    is_unknown: bool,
}

impl Uses {
    /// Nothing yet, of tools that are held for at these fees.
    pub fn new(held: &[(&'static str, Fee)]) -> Uses {
        let (items, containers) = (BTreeMap::new(), BTreeSet::new());
        Uses { held: held.to_vec(), items, containers, beyond: 0, is_unknown: false }
    }

    /// Takes an item, as far as it is by now.
    pub fn item(&mut self, at: u64, kind: &str, item: Value<'_>) {
        self.is_unknown |= UNASKED.contains(&kind);
        let Some(tool) = ITEMS.iter().position(|(known, _)| *known == kind) else { return };
        self.is_unknown |= self.usd(tool).is_none();
        let container = item.get("container_id").and_then(Value::as_str);
        if let Some(container) = container.filter(|_| self.containers.len() < ITEMS_MAX) {
            self.containers.insert(container.into_owned());
            // Counted as a container, not as a call.
            self.items.remove(&at);
            return;
        }
        // Whether each query of one search is billed is not documented: each counts.
        let queries = item.get("action").and_then(|action| action.get("queries"));
        let uses = queries.map_or(1, |queries| queries.items().count() as u64).max(1);
        if self.items.len() >= ITEMS_MAX && !self.items.contains_key(&at) {
            self.beyond = self.beyond.saturating_add(uses);
            return;
        }
        let known = self.items.entry(at).or_insert((tool, uses));
        *known = (tool, known.1.max(uses));
    }

    /// Items were not read: how often the tools ran that are held for is not known.
    pub fn lose(&mut self) {
        self.is_unknown |= !self.held.is_empty();
    }

    /// Takes what cannot be read, and may have been an item.
    pub fn garbage(&mut self, data: &[u8]) {
        let names = |name: &str| data.windows(name.len()).any(|window| window == name.as_bytes());
        if ITEMS.iter().any(|(kind, _)| names(kind)) {
            self.lose();
        }
    }

    /// What all uses cost. `None`: something ran whose price nobody knows, or nobody knows how often.
    pub fn fees(&self) -> Option<Money> {
        if self.is_unknown {
            return None;
        }
        let mut nano: u64 = 0;
        for (tool, uses) in self.items.values() {
            nano = nano.saturating_add(self.usd(*tool)?.nano().saturating_mul(*uses));
        }
        let of_containers = self.usd(2).map_or(0, Money::nano).saturating_mul(self.containers.len() as u64);
        let dearest = self.held.iter().map(|(_, fee)| fee.usd.nano()).max().unwrap_or(0);
        let beyond = dearest.saturating_mul(self.beyond);
        Some(Money::from_nano(nano.saturating_add(of_containers).saturating_add(beyond)))
    }

    /// The dearest fee that may apply to a tool.
    fn usd(&self, tool: usize) -> Option<Money> {
        let (_, names) = ITEMS[tool];
        self.held.iter().filter(|(name, _)| names.contains(name)).map(|(_, fee)| fee.usd).max()
    }
}
