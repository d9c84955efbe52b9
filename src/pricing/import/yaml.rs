//! Rows as text: the same rows always make the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::added;
use super::corrections::RULES;
use super::grammar::Meter;
use super::keys::PROVIDERS;
use super::row::{Meters, Row};
use super::{Import, Origin};
use crate::money::Rate;
use crate::pricing::Tier;

/// The most characters of a line of names.
const WIDTH: usize = 118;

impl Import {
    /// The price table that this import makes.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        self.head(&mut text);
        for row in &self.rows {
            text.push('\n');
            write_row(&mut text, row, &self.origin);
        }
        self.tail(&mut text);
        text
    }

    fn head(&self, text: &mut String) {
        let Origin { name, sha256, day, .. } = &self.origin;
        let mut line = |words: std::fmt::Arguments<'_>| _ = writeln!(text, "{}", format!("# {words}").trim_end());
        line(format_args!(
            "Prices in USD per million tokens, as decimal strings. One row per provider/model; later price files win, row by row."
        ));
        line(format_args!(
            "Made by `loopers prices import`: do not edit it, put rows of your own into a file that the config lists after this one."
        ));
        line(format_args!("docs/PRICES.md says what the fields mean, and what a missing one is taken for."));
        line(format_args!(""));
        line(format_args!("source: {name}"));
        line(format_args!("sha256: {sha256}"));
        line(format_args!("sha256 of the entries used: {}", self.entries_sha256));
        line(format_args!("read: {day}"));
        let providers: Vec<String> = PROVIDERS
            .iter()
            .map(|(ours, _)| (ours, self.count(ours)))
            .map(|(ours, count)| format!("{ours} {count}"))
            .collect();
        line(format_args!("rows: {} ({})", self.rows.len(), providers.join(", ")));
        line(format_args!("entries: {} read, {} without a row (listed at the end)", self.entries, self.refused.len()));
        line(format_args!(""));
        line(format_args!("Rules for known errors and gaps, and the rows that they touched:"));
        for rule in &RULES {
            let count = self.rows.iter().filter(|row| row.corrected.contains(&rule.name)).count();
            if count > 0 {
                line(format_args!("  {} ({count}): {}", rule.name, rule.why));
            }
        }
        if self.noise > 0 {
            line(format_args!(
                "  float-noise ({}): prices such as 5.0000000000000004e-08 are rounded to what was meant",
                self.noise
            ));
        }
    }

    fn count(&self, provider: &str) -> usize {
        let is_its = |row: &&Row| row.provider().split('_').next() == Some(provider);
        self.rows.iter().filter(is_its).count()
    }

    /// What is no row, by reason.
    fn tail(&self, text: &mut String) {
        let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (entry, refusal) in &self.refused {
            by_reason.entry(refusal.to_string()).or_default().push(entry);
        }
        let _ = writeln!(text, "\n# Entries without a row, by reason:");
        for (reason, mut entries) in by_reason {
            entries.sort_unstable();
            names(text, &format!("{reason} ({})", entries.len()), &entries);
        }
        names(text, "not in the file, and without a published price", &added::UNPRICED);
    }
}

fn names(text: &mut String, head: &str, names: &[&str]) {
    let _ = writeln!(text, "#\n# {head}:");
    let mut line = String::from("#  ");
    for name in names {
        if line.len() + name.len() + 2 > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#  ");
        }
        let _ = write!(line, " {name}");
    }
    let _ = writeln!(text, "{line}");
}

fn write_row(text: &mut String, row: &Row, origin: &Origin) {
    let _ = writeln!(text, "{}:", row.id);
    let mut field = |name: &str, value: std::fmt::Arguments<'_>| _ = writeln!(text, "  {name}: {value}");
    if row.embedding {
        field("mode", format_args!("embedding"));
    }
    let empty = Meters::new();
    let standard = row.tiers.get(&Tier::Standard);
    for (meter, rate) in standard.map_or(&empty, |tier| &tier.short) {
        field(meter.name(), format_args!("\"{}\"", rate.to_per_million()));
    }
    if let (Some(above), Some(tier)) = (row.above, standard) {
        field("long_context", format_args!("{{above: {above}, {}}}", flow(&tier.long)));
    }
    for (tier, prices) in row.tiers.iter().filter(|(tier, _)| **tier != Tier::Standard) {
        let long =
            if prices.long.is_empty() { String::new() } else { format!(", long_context: {{{}}}", flow(&prices.long)) };
        field(tier.name(), format_args!("{{{}{long}}}", flow(&prices.short)));
    }
    if let Some(fees) = fees(row) {
        field("fees", format_args!("{{{fees}}}"));
    }
    if !row.multipliers.is_empty() {
        let factors: Vec<String> =
            row.multipliers.iter().map(|(name, factor)| format!("{name}: \"{factor}\"")).collect();
        field("multipliers", format_args!("{{{}}}", factors.join(", ")));
    }
    for (name, is_so) in [("implicit_cache_writes", row.implicit_cache_writes), ("hidden_output", row.hidden_output)] {
        if is_so {
            field(name, format_args!("true"));
        }
    }
    field("context_window", format_args!("{}", row.context_window));
    if !row.embedding {
        field("max_output", format_args!("{}", row.max_output));
    }
    if let Some(tokenizer) = row.tokenizer {
        field("tokenizer", format_args!("{tokenizer}"));
    }
    if let Some(day) = &row.deprecation_date {
        field("deprecation_date", format_args!("\"{day}\""));
    }
    if let Some((day, times)) = row.change {
        field("change", format_args!("{{day: \"{day}\", times: \"{times}\"}}"));
    }
    if let Some(note) = row.note {
        field("note", format_args!("\"{note}\""));
    }
    field("valid_from", format_args!("\"{}\"", origin.day));
    let corrected =
        if row.corrected.is_empty() { String::new() } else { format!("; rules: {}", row.corrected.join(", ")) };
    let source = if row.added { added::SOURCE } else { &origin.name };
    field("source", format_args!("\"{source}{corrected}\""));
}

fn flow(meters: &Meters) -> String {
    let texts: Vec<String> = meters
        .iter()
        .map(|(meter, rate): (&Meter, &Rate)| format!("{}: \"{}\"", meter.name(), rate.to_per_million()))
        .collect();
    texts.join(", ")
}

fn fees(row: &Row) -> Option<String> {
    let mut parts = Vec::new();
    // A fee is USD a call: a million of them cost its rate per million.
    let mut fee = |name: &str, rate: Rate| parts.push(format!("{name}: \"{}\"", per_call(rate)));
    if let Some([low, medium, high]) = row.web_search {
        if low == medium && medium == high {
            fee("web_search", low);
        } else {
            fee("web_search_low", low);
            fee("web_search_medium", medium);
            fee("web_search_high", high);
        }
    }
    if let Some(maps) = row.maps {
        fee("maps", maps);
    }
    if row.web_search_per_query {
        parts.push("per_query: true".into());
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// USD a unit, with as many decimals as it takes.
fn per_call(rate: Rate) -> String {
    let one = 1_000_000_000_000_000;
    let text = format!("{}.{:015}", rate.femto() / one, rate.femto() % one);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
