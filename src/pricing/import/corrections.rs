//! Known errors and gaps of the file, each corrected by a rule with its reason. A rule looks at what the file says: once
//! the file is right, the rule no longer finds anything.

use std::collections::BTreeMap;

use super::family::openai_name;
use super::grammar::Meter;
use super::keys::without_geography;
use super::row::Row;
use crate::money::Rate;
use crate::pricing::Tier;

/// One correction.
pub struct Rule {
    /// Its name, as rows and reports show it.
    pub name: &'static str,
    /// What is wrong in the file, and what is done about it.
    pub why: &'static str,
    apply: fn(&mut Row, &Kin) -> bool,
}

/// What the file says of all rows, before any correction.
pub type Kin = BTreeMap<String, Known>;

/// What a rule may ask of another row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The input price.
    pub input: Rate,
    /// The most tokens of a call.
    pub context_window: u64,
    /// The most output tokens.
    pub max_output: u64,
}

/// All rules, in the order in which they are applied.
pub const RULES: [Rule; 12] = [
    Rule {
        name: "priority-slip",
        why: "gpt-5-nano: a priority input of 2.50 (50 x the base) and no priority output is a slip; 2.5 x the base is taken, the most of any model",
        apply: priority_slip,
    },
    Rule {
        name: "half-tier",
        why: "a flex tier with only one of its two prices: the other one is taken from the standard tier, as if it had no discount",
        apply: half_tier,
    },
    Rule {
        name: "write-below-input",
        why: "a cache write that is cheaper than plain input is a misplaced cache read: it is left out, so that 1.25 x input is taken",
        apply: write_below_input,
    },
    Rule {
        name: "bare-bedrock",
        why: "Bedrock ids without a geography carry the global price; in a region they are billed 10 % higher, like their us. row",
        apply: bare_bedrock,
    },
    Rule {
        name: "mantle-global",
        why: "Claude on bedrock_mantle at Anthropic's own price: its regional endpoints are billed 10 % higher, like the other rows",
        apply: mantle_global,
    },
    Rule {
        name: "limits-of-kin",
        why: "no limits in the file: those of the same model without its data zone are taken, or else the largest window of the provider",
        apply: limits_of_kin,
    },
    Rule {
        name: "window-8191",
        why: "embeddings of OpenAI take 8,192 tokens; the file is one short",
        apply: window_8191,
    },
    Rule {
        name: "long-tier",
        why: "GPT-5.4 and later bill prompts above 272,000 tokens at 2 x input and 1.5 x output; this row lacks it though its window is larger",
        apply: long_tier,
    },
    Rule {
        name: "search-price",
        why: "the model can search the web but has no price for it: the provider's dearest is taken (OpenAI and Azure 25, Anthropic 10 USD per 1,000)",
        apply: search_price,
    },
    Rule {
        name: "doubles-2027",
        why: "Gemini 3.6, 3.7 and 3.8 Flash, and the alias that points at them, double on 2027-01-01",
        apply: doubles_2027,
    },
    Rule {
        name: "promotion",
        why: "GPT-5.6 Sol costs 4/20 instead of 5/30 as a promotion, promised until 2026-11-21 at least: the row says so",
        apply: promotion,
    },
    Rule {
        name: "hop-output",
        why: "Gemini 4 Argon: the output limit is a sum over continuations; it is kept, since it bounds the bill",
        apply: hop_output,
    },
];

/// Applies every rule to a row.
pub fn apply(row: &mut Row, kin: &Kin) {
    for rule in &RULES {
        if (rule.apply)(row, kin) {
            row.corrected.push(rule.name);
        }
    }
}

fn priority_slip(row: &mut Row, _: &Kin) -> bool {
    let (Some(input), Some(output)) = (row.standard(Meter::Input), row.standard(Meter::Output)) else { return false };
    let Some(priority) = row.tiers.get_mut(&Tier::Priority) else { return false };
    let given = priority.short.get(&Meter::Input).copied().unwrap_or(Rate::ZERO);
    let is_slip = given >= input.scaled(10_000) && !priority.short.contains_key(&Meter::Output);
    if is_slip {
        priority.short.insert(Meter::Input, input.scaled(2500));
        priority.short.insert(Meter::Output, output.scaled(2500));
    }
    is_slip
}

fn half_tier(row: &mut Row, _: &Kin) -> bool {
    let base = row.tiers.get(&Tier::Standard).cloned().unwrap_or_default();
    let Some(flex) = row.tiers.get_mut(&Tier::Flex) else { return false };
    let mut is_half = false;
    for (own, base) in [(&mut flex.short, &base.short), (&mut flex.long, &base.long)] {
        for meter in [Meter::Input, Meter::Output] {
            // No long prices at all are no half: they follow from the others.
            let is_gap = !own.is_empty() && !own.contains_key(&meter);
            if let (true, Some(rate)) = (is_gap, base.get(&meter)) {
                own.insert(meter, *rate);
                is_half = true;
            }
        }
    }
    is_half
}

fn write_below_input(row: &mut Row, _: &Kin) -> bool {
    let Some(input) = row.standard(Meter::Input) else { return false };
    let is_wrong = row.standard(Meter::CacheWrite).is_some_and(|write| write < input);
    if is_wrong {
        for tier in row.tiers.values_mut() {
            tier.short.remove(&Meter::CacheWrite);
            tier.long.remove(&Meter::CacheWrite);
        }
        row.implicit_cache_writes = false;
    }
    is_wrong
}

fn bare_bedrock(row: &mut Row, kin: &Kin) -> bool {
    let Some(model) = row.id.strip_prefix("bedrock/") else { return false };
    if model.contains('/') || without_geography(model) != model {
        return false;
    }
    let (Some(input), us) = (row.standard(Meter::Input), kin.get(&format!("bedrock/us.{model}"))) else { return false };
    let is_global = match us {
        Some(us) => us.input == input.scaled(1100),
        // Claude 4.5 and later; before, there was one price.
        None => model.contains("claude") && model.contains("-4-5"),
    };
    if is_global {
        row.scale(1100);
    }
    is_global
}

fn mantle_global(row: &mut Row, kin: &Kin) -> bool {
    let Some(model) = row.id.strip_prefix("bedrock_mantle/anthropic.") else { return false };
    let own = kin.get(&format!("anthropic/{model}")).map(|known| known.input);
    let is_global = own.is_some() && own == row.standard(Meter::Input);
    if is_global {
        row.scale(1100);
    }
    is_global
}

fn limits_of_kin(row: &mut Row, kin: &Kin) -> bool {
    if row.context_window > 0 {
        return false;
    }
    let provider = row.provider();
    let names = [format!("{provider}/{}", row.model()), format!("openai/{}", row.model())];
    let known = names.iter().filter_map(|name| kin.get(name)).find(|known| known.context_window > 0);
    let (window, output) = match known {
        Some(known) => (known.context_window, known.max_output),
        None => {
            let own = kin.iter().filter(|(id, _)| id.split('/').next() == Some(provider));
            let largest = own.map(|(_, known)| known.context_window).max().unwrap_or(0);
            (largest, largest)
        }
    };
    row.context_window = window;
    if !row.embedding && row.max_output == 0 {
        row.max_output = output;
    }
    window > 0
}

fn window_8191(row: &mut Row, _: &Kin) -> bool {
    let is_short = row.embedding && row.context_window == 8191 && openai_name(row).is_some();
    if is_short {
        row.context_window = 8192;
    }
    is_short
}

fn long_tier(row: &mut Row, _: &Kin) -> bool {
    let later = ["gpt-5.4", "gpt-5.5", "gpt-5.6", "gpt-6"];
    let is_later = openai_name(row).is_some_and(|name| later.iter().any(|start| name.starts_with(start)));
    if !is_later || row.above.is_some() || row.context_window <= 400_000 {
        return false;
    }
    let prices = row.tiers.entry(Tier::Standard).or_default();
    prices.long = prices
        .short
        .iter()
        .map(|(meter, rate)| (*meter, rate.scaled(if meter.is_output() { 1500 } else { 2000 })))
        .collect();
    row.above = Some(272_000);
    true
}

fn search_price(row: &mut Row, _: &Kin) -> bool {
    // 10⁻¹⁵ USD a search.
    let femto = match row.provider() {
        "openai" | "azure" => 25_000_000_000_000,
        "anthropic" => 10_000_000_000_000,
        _ => return false,
    };
    let searches = ["gpt-4o", "gpt-4.1", "gpt-5", "gpt-6", "o3", "o4", "chat-latest", "claude-"];
    let is_one = searches.iter().any(|start| row.model().starts_with(start)) && !row.model().contains("audio");
    let is_missing = is_one && row.web_search.is_none();
    if is_missing {
        row.web_search = Some([Rate::from_femto(femto); 3]);
    }
    is_missing
}

fn doubles_2027(row: &mut Row, _: &Kin) -> bool {
    let names = ["gemini-3.6-flash", "gemini-3.7-flash", "gemini-3.8-flash", "gemini-flash-latest"];
    let is_one = row.provider() == "gemini" && names.contains(&row.model());
    // 0.75 USD per million tokens; once the file has the new price, there is nothing to announce.
    let is_old = is_one && row.standard(Meter::Input) == Some(Rate::from_femto(750_000_000));
    if is_old {
        row.change = Some(("2027-01-01", "2"));
    }
    is_old
}

fn promotion(row: &mut Row, _: &Kin) -> bool {
    // 4 USD per million tokens.
    let is_promoted = matches!(row.id.as_str(), "openai/gpt-5.6" | "openai/gpt-5.6-sol")
        && row.standard(Meter::Input) == Some(Rate::from_femto(4_000_000_000));
    if is_promoted {
        row.note = Some("a promotion from 5/30, promised until 2026-11-21 at least: compare with the provider's page");
    }
    is_promoted
}

fn hop_output(row: &mut Row, _: &Kin) -> bool {
    let is_sum = row.id == "gemini/gemini-4-argon" && row.max_output == 1_048_576;
    if is_sum {
        row.note = Some("the output limit is a sum over continuations");
    }
    is_sum
}
