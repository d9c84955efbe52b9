//! One row of a price file: what must be there, what may be there, and what a gap costs at worst.

use std::path::Path;
use std::sync::Arc;

use super::extras;
use super::lines::{Node, Pairs};
use crate::money::{MoneyError, Rate};
use crate::pricing::{Fees, ModelPrice, Rates, Tier, TierRates, Tokenizer};

/// The smallest price that is believed, in USD per million tokens (0.0001): anything below is a price per token.
const RATE_MIN: Rate = Rate::from_femto(100_000);
/// The largest price that is believed, in USD per million tokens (100,000).
const RATE_MAX: Rate = Rate::from_femto(100_000_000_000_000);
/// The largest count of tokens that is believed.
const TOKENS_MAX: u64 = 1 << 32;

/// The names of the meters in a price file. [`Meters::fill`] knows them by their place.
const METERS: [&str; 12] = [
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_in",
    "audio_in_cached",
    "image_in",
    "video_in",
    "output",
    "reasoning",
    "audio_out",
    "image_out",
];
const INPUT: usize = 0;
const OUTPUT: usize = 8;

/// Problems, each with the dotted path of its field within the row.
type Problems = Vec<(String, String)>;

/// Reads a row. There is a price only if there is no problem.
pub fn read(id: &Arc<str>, node: &Node, file: &Path) -> (Option<ModelPrice>, Problems) {
    let mut reader = Reader { problems: Vec::new(), is_embedding: false };
    let price = match node {
        Node::Map(fields) => reader.row(id, fields, file),
        _ => {
            reader.say("", "a row is a map of prices: write `input: \"1.25\"` and so on below it");
            None
        }
    };
    let price = if reader.problems.is_empty() { price } else { None };
    (price, reader.problems)
}

/// The prices of one tier, as far as they are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Meters([Option<Rate>; 12]);

/// What a tier may hold: its prices, and those above the long-context threshold.
#[derive(Clone, Copy, Default)]
struct TierMeters {
    short: Meters,
    long: Option<Meters>,
    above: Option<u64>,
}

struct Reader {
    problems: Problems,
    is_embedding: bool,
}

impl Reader {
    fn say(&mut self, path: &str, problem: impl Into<String>) {
        self.problems.push((path.into(), problem.into()));
    }

    fn row(&mut self, id: &Arc<str>, fields: &Pairs, file: &Path) -> Option<ModelPrice> {
        self.is_embedding = fields.iter().any(|(key, node)| key == "mode" && *node == Node::Text("embedding".into()));
        let mut tiers = Vec::new();
        let mut price = ModelPrice {
            id: id.clone(),
            standard: TierRates { short: Rates::default(), long: Rates::default() },
            tiers: Vec::new(),
            long_above: None,
            implicit_cache_writes: false,
            uplift_thousandths: 1000,
            context_window: 0,
            max_output: 0,
            tokenizer: None,
            hidden_output: false,
            embedding: self.is_embedding,
            valid_from: None,
            valid_to: None,
            source: file.display().to_string().into(),
            fees: Fees::default(),
            multipliers: Vec::new(),
            deprecation_date: None,
            note: None,
            next: None,
        };
        let mut change = None;
        let mut rest = Pairs::new();
        for (key, node) in fields {
            match key.as_str() {
                "flex" => tiers.push((Tier::Flex, "flex", self.tier("flex", node))),
                "priority" => tiers.push((Tier::Priority, "priority", self.tier("priority", node))),
                "ultrafast" => tiers.push((Tier::Ultrafast, "ultrafast", self.tier("ultrafast", node))),
                "change" => change = extras::change(node, &mut self.problems),
                _ if self.fact(&mut price, key, node) || extras::field(&mut price, key, node, &mut self.problems) => {}
                _ => rest.push((key.clone(), node.clone())),
            }
        }
        self.refuse_twins("", fields);
        let standard = self.meters("", &rest, true);
        self.complete(&mut price);
        self.rates(&mut price, standard, tiers);
        extras::announce(&mut price, change);
        Some(price)
    }

    /// Takes a field that is not a price. False if it is none that is known here.
    fn fact(&mut self, price: &mut ModelPrice, key: &str, node: &Node) -> bool {
        match key {
            "mode" => {
                if !matches!(node, Node::Text(mode) if mode == "chat" || mode == "embedding") {
                    self.say(key, "write `chat` or `embedding`");
                }
            }
            "implicit_cache_writes" => price.implicit_cache_writes = self.truth(key, node),
            "hidden_output" => price.hidden_output = self.truth(key, node),
            "context_window" => price.context_window = self.count(key, node),
            "max_output" => price.max_output = self.count(key, node),
            "uplift" => price.uplift_thousandths = self.uplift(key, node),
            "tokenizer" => match node {
                Node::Text(name) if name == "o200k_base" => price.tokenizer = Some(Tokenizer::O200kBase),
                Node::Text(name) if name == "cl100k_base" => price.tokenizer = Some(Tokenizer::Cl100kBase),
                _ => self.say(
                    key,
                    "write `o200k_base` or `cl100k_base`, or leave it out where no public tokenizer is exact",
                ),
            },
            "valid_from" => price.valid_from = self.day(key, node),
            "valid_to" => price.valid_to = self.day(key, node),
            "source" => match node {
                Node::Text(source) => price.source = source.as_str().into(),
                _ => self.say(key, "write where the price was read, as text"),
            },
            _ => return false,
        }
        true
    }

    fn truth(&mut self, key: &str, node: &Node) -> bool {
        match node {
            Node::Bool(value) => *value,
            _ => {
                self.say(key, "write `true` or `false`");
                false
            }
        }
    }

    fn count(&mut self, key: &str, node: &Node) -> u64 {
        match node {
            Node::Whole(count) if (1..=TOKENS_MAX).contains(count) => *count,
            _ => {
                self.say(key, "write a whole number of tokens, e.g. 128000");
                0
            }
        }
    }

    fn uplift(&mut self, key: &str, node: &Node) -> u64 {
        extras::factor(node).unwrap_or_else(|| {
            self.say(key, extras::FACTOR);
            1000
        })
    }

    fn day(&mut self, key: &str, node: &Node) -> Option<Arc<str>> {
        match node {
            Node::Text(text) if extras::is_day(text) => Some(text.as_str().into()),
            _ => {
                self.say(key, extras::DAY);
                None
            }
        }
    }

    fn refuse_twins(&mut self, path: &str, fields: &Pairs) {
        for (at, (key, _)) in fields.iter().enumerate() {
            if fields[..at].iter().any(|(before, _)| before == key) {
                self.say(&join(path, key), "this field stands twice: delete one");
            }
        }
    }

    fn complete(&mut self, price: &mut ModelPrice) {
        let has_problem = |problems: &Problems, key: &str| problems.iter().any(|(path, _)| path == key);
        if price.context_window == 0 && !has_problem(&self.problems, "context_window") {
            self.say(
                "context_window",
                "missing: write the most tokens that a call may have, e.g. `context_window: 128000`",
            );
        }
        if price.embedding && price.max_output > 0 {
            self.say("max_output", "an embedding has no output: delete it");
        }
        if !price.embedding && price.max_output == 0 {
            price.max_output = price.context_window;
        }
        if price.max_output > price.context_window && price.context_window > 0 {
            self.say("max_output", "above context_window, which counts input and output together: correct one of them");
        }
        if let (Some(from), Some(to)) = (&price.valid_from, &price.valid_to)
            && from >= to
        {
            self.say("valid_to", "not after valid_from: it is the first day on which the price no longer holds");
        }
    }

    fn tier(&mut self, name: &str, node: &Node) -> TierMeters {
        match node {
            Node::Map(fields) => {
                self.refuse_twins(name, fields);
                self.meters(name, fields, true)
            }
            _ => {
                self.say(name, "a tier is a map of prices: write `{input: \"0.625\", output: \"5\"}`");
                TierMeters::default()
            }
        }
    }

    /// The prices of a tier; `long_context` inside where `may_be_long`.
    fn meters(&mut self, path: &str, fields: &Pairs, may_be_long: bool) -> TierMeters {
        let mut tier = TierMeters::default();
        for (key, node) in fields {
            let path = join(path, key);
            if let Some(meter) = METERS.iter().position(|name| name == key) {
                tier.short.0[meter] = self.price(&path, meter, node);
            } else if key == "long_context" && may_be_long {
                let Node::Map(fields) = node else {
                    self.say(&path, "write `{above: 272000, input: \"10\", output: \"45\"}`");
                    continue;
                };
                self.refuse_twins(&path, fields);
                let long = self.meters(&path, fields, false);
                (tier.long, tier.above) = (Some(long.short), long.above);
            } else if key == "above" && !may_be_long {
                tier.above = Some(self.count(&path, node));
            } else {
                self.say(
                    &path,
                    format!("unknown field: a row has {}, and the fields that docs/PRICES.md lists", METERS.join(", ")),
                );
            }
        }
        tier
    }

    fn price(&mut self, path: &str, meter: usize, node: &Node) -> Option<Rate> {
        let text = match node {
            Node::Text(text) => text,
            Node::Null => {
                self.say(path, "empty: write a price, or leave the field out");
                return None;
            }
            Node::Whole(_) | Node::Number => {
                self.say(
                    path,
                    "a price is a decimal string, so that no digit is lost: write it in quotes, e.g. \"1.25\"",
                );
                return None;
            }
            _ => {
                self.say(path, "write a price in USD per million tokens as a string, e.g. \"1.25\"");
                return None;
            }
        };
        let rate = match Rate::per_million(text) {
            Ok(rate) => rate,
            Err(MoneyError::TooFine(_)) => {
                self.say(
                    path,
                    format!("{text} is finer than nine decimals; prices are in USD per million tokens, not per token"),
                );
                return None;
            }
            Err(_) => {
                self.say(
                    path,
                    format!("{text:?} is not a price: write USD per million tokens in digits, e.g. \"1.25\""),
                );
                return None;
            }
        };
        if rate == Rate::ZERO && self.is_embedding && meter >= OUTPUT {
            return Some(rate);
        }
        if rate == Rate::ZERO {
            self.say(
                path,
                "a price of zero would let calls through for nothing: write the real price, or delete the row",
            );
        } else if rate < RATE_MIN {
            let per_million = Rate::from_femto(rate.femto().saturating_mul(1_000_000)).to_per_million();
            self.say(
                path,
                format!(
                    "{text} is below 0.0001 USD per million tokens; if it is a price per token, write \"{per_million}\""
                ),
            );
        } else if rate > RATE_MAX {
            self.say(path, format!("{text} is above 100000 USD per million tokens: prices are per million tokens"));
        } else {
            return Some(rate);
        }
        None
    }

    /// Fills the gaps of all tiers.
    fn rates(&mut self, price: &mut ModelPrice, standard: TierMeters, tiers: Vec<(Tier, &str, TierMeters)>) {
        for (meter, name) in [(INPUT, "input"), (OUTPUT, "output")] {
            let is_needed = meter == INPUT || !price.embedding;
            let is_told = self.problems.iter().any(|(path, _)| path == name);
            if standard.short.0[meter].is_none() && is_needed && !is_told {
                self.say(name, format!("missing: write `{name}: \"…\"` in USD per million tokens"));
            }
        }
        let short = standard.short.fill();
        let long = standard.long.map_or(short, |long| long.in_proportion(&short, &short));
        if standard.long.is_some()
            && standard.above.is_none()
            && !self.problems.iter().any(|(path, _)| path == "long_context.above")
        {
            self.say(
                "long_context.above",
                "missing: write the number of input tokens above which these prices hold, e.g. 272000",
            );
        }
        price.long_above = standard.above;
        price.standard = TierRates { short: short.rates(), long: long.rates() };
        for (tier, name, meters) in tiers {
            if meters.short.0[INPUT].is_none() && meters.short.0[OUTPUT].is_none() && self.problems.is_empty() {
                self.say(name, "a tier needs its input or output price at least");
            }
            if meters.long.is_some()
                && (standard.long.is_none() || meters.above.is_some_and(|above| standard.above != Some(above)))
            {
                self.say(
                    &join(name, "long_context"),
                    "the row must have a `long_context` of its own, with the same `above`",
                );
            }
            let tier_short = meters.short.in_proportion(&short, &short);
            let tier_long = match meters.long {
                Some(given) => given.in_proportion(&tier_short, &long),
                // What the whole tier costs more when short, it costs more when long.
                None => Meters::default().in_proportion_of(&tier_short, &short, &long),
            };
            if tier == Tier::Flex && !(tier_short.is_within(&short) && tier_long.is_within(&long)) {
                self.say(name, "dearer than the standard tier in some meter: calls are held at standard prices, so flex may not be dearer");
            }
            price.tiers.push((tier, TierRates { short: tier_short.rates(), long: tier_long.rates() }));
        }
    }
}

impl Meters {
    fn get(&self, meter: usize) -> Rate {
        self.0[meter].unwrap_or(Rate::ZERO)
    }

    /// Every gap at the worst that it could cost.
    fn fill(mut self) -> Meters {
        let input = self.get(INPUT);
        let mut fill = |meter: usize, rate: Rate| *self.0[meter].get_or_insert(rate);
        let cache_read = fill(1, input);
        let cache_write = fill(2, input.scaled(1250));
        fill(3, input.scaled(2000));
        let dearest_in = input.max(cache_read).max(cache_write);
        let audio = fill(4, dearest_in);
        fill(5, audio);
        fill(6, dearest_in);
        fill(7, dearest_in);
        let output = fill(OUTPUT, Rate::ZERO);
        let reasoning = fill(9, output);
        fill(10, output.max(reasoning));
        fill(11, output.max(reasoning));
        self
    }

    /// Gaps filled from `base`, times what input (or output) costs here as against `like`; where only one of the two is
    /// given, it speaks for the other.
    fn in_proportion(mut self, base: &Meters, like: &Meters) -> Meters {
        let given = self;
        let ratio = |meter: usize| Some((given.0[meter]?, base.0[meter].filter(|rate| *rate != Rate::ZERO)?));
        for meter in 0..METERS.len() {
            let (own, other) = if meter < OUTPUT { (INPUT, OUTPUT) } else { (OUTPUT, INPUT) };
            if self.0[meter].is_none() {
                let rate = base.get(meter);
                let worst = ratio(own)
                    .or_else(|| ratio(other))
                    .map_or(rate.max(like.get(meter)), |(new, old)| times(rate, new, old));
                self.0[meter] = Some(worst);
            }
        }
        self
    }

    /// `tier × long ÷ short`, meter by meter.
    fn in_proportion_of(mut self, tier: &Meters, short: &Meters, long: &Meters) -> Meters {
        for meter in 0..METERS.len() {
            let old = short.get(meter);
            self.0[meter] =
                Some(if old == Rate::ZERO { Rate::ZERO } else { times(tier.get(meter), long.get(meter), old) });
        }
        self
    }

    fn is_within(&self, other: &Meters) -> bool {
        (0..METERS.len()).all(|meter| self.get(meter) <= other.get(meter))
    }

    fn rates(&self) -> Rates {
        Rates {
            input: self.get(INPUT),
            cache_read: self.get(1),
            cache_write_5m: self.get(2),
            cache_write_1h: self.get(3),
            audio_in: self.get(4),
            audio_in_cached: self.get(5),
            image_in: self.get(6),
            video_in: self.get(7),
            output: self.get(OUTPUT),
            reasoning: self.get(9),
            audio_out: self.get(10),
            image_out: self.get(11),
        }
    }
}

/// `rate × new ÷ old`, rounded up. No rate is above 10¹⁴, so the product fits; a filled one may be somewhat larger.
fn times(rate: Rate, new: Rate, old: Rate) -> Rate {
    Rate::from_femto(rate.femto().saturating_mul(new.femto()).div_ceil(old.femto().max(1)))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}
