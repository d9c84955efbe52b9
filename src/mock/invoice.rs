//! The provider's books: what was generated, and what it costs. This is the judge of every money test.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;

use super::log::RequestInfo;
use super::prices::{MODELS, Rates};
use super::script::Tier;

/// How many calls `last` remembers.
const KEEP_LAST: usize = 100;

/// The prompt of a call, split the way it is billed. The three parts do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// All prompt tokens.
    pub total: u64,
    /// Those of them that were read from the cache.
    pub cached: u64,
    /// Those of them that were written to the cache.
    pub cache_write: u64,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Still generating.
    Running,
    /// Came to its natural end while somebody was there to read it.
    Completed,
    /// The caller left, or the provider broke off.
    Aborted,
}

/// What is known about a call when generation starts.
#[derive(Debug)]
pub struct CallStart {
    /// Index into the price list of the model that is billed.
    pub model: usize,
    /// The model named in the request.
    pub requested: String,
    /// The tier it runs in.
    pub tier: Tier,
    /// The rates it is billed at.
    pub rates: Rates,
    /// The prompt, billed now.
    pub prompt: Prompt,
    /// Output tokens that will be reasoning; they come first.
    pub reasoning: u64,
    /// Was a stream asked for?
    pub stream: bool,
    /// The request it belongs to.
    pub request: Arc<RequestInfo>,
}

/// A call whose prompt is billed and whose output is billed token by token.
#[derive(Debug)]
pub struct Call {
    id: u64,
    start: CallStart,
    completion: AtomicU64,
    orphan: AtomicBool,
}

impl Call {
    /// Bills `tokens` more output tokens.
    pub fn generate(&self, tokens: u64) {
        self.completion.fetch_add(tokens, Relaxed);
    }

    /// Output tokens billed so far.
    pub fn generated(&self) -> u64 {
        self.completion.load(Relaxed)
    }

    /// Was it taken off the books by a reset?
    pub fn is_orphan(&self) -> bool {
        self.orphan.load(Relaxed)
    }

    fn line(&self, outcome: Outcome) -> Line {
        let completion = self.generated();
        let nano = price(&self.start.rates, &self.start.prompt, completion);
        Line { completion, nano, outcome }
    }
}

/// The price of a call in nano-dollars: exact in pico-dollars, rounded up once.
pub fn price(rates: &Rates, prompt: &Prompt, completion: u64) -> u64 {
    let plain = prompt.total.saturating_sub(prompt.cached).saturating_sub(prompt.cache_write);
    let pico = u128::from(plain) * u128::from(rates.input)
        + u128::from(prompt.cached) * u128::from(rates.cache_read)
        + u128::from(prompt.cache_write) * u128::from(rates.cache_write)
        + u128::from(completion) * u128::from(rates.output);
    u64::try_from(pico.div_ceil(1000)).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy, Debug)]
struct Line {
    completion: u64,
    nano: u64,
    outcome: Outcome,
}

/// Totals of one model, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Billed calls.
    pub calls: u64,
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Prompt tokens read from the cache.
    pub cached_tokens: u64,
    /// Prompt tokens written to the cache.
    pub cache_write_tokens: u64,
    /// Output tokens, reasoning included.
    pub completion_tokens: u64,
    /// Output tokens that were reasoning.
    pub reasoning_tokens: u64,
    /// Nano-dollars.
    pub nano: u64,
}

impl Totals {
    fn add(&mut self, call: &Call, line: &Line) {
        self.calls += 1;
        self.prompt_tokens += call.start.prompt.total;
        self.cached_tokens += call.start.prompt.cached;
        self.cache_write_tokens += call.start.prompt.cache_write;
        self.completion_tokens += line.completion;
        self.reasoning_tokens += call.start.reasoning.min(line.completion);
        self.nano = self.nano.saturating_add(line.nano);
    }
}

/// One call, as the invoice shows it.
#[derive(Clone, Debug, Serialize)]
pub struct CallRecord {
    /// Counts from 1 since the last reset.
    pub id: u64,
    /// The model named in the request.
    pub model: String,
    /// The model that was billed.
    pub billed_model: &'static str,
    /// The tier that was billed.
    pub tier: &'static str,
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Output tokens, reasoning included.
    pub completion_tokens: u64,
    /// Prompt tokens read from the cache.
    pub cached_tokens: u64,
    /// Prompt tokens written to the cache.
    pub cache_write_tokens: u64,
    /// Output tokens that were reasoning.
    pub reasoning_tokens: u64,
    /// Nano-dollars billed (so far, if running).
    pub nano: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Path and query as they came over the wire.
    pub path: String,
    /// Names of the request headers, in order.
    pub headers: Vec<String>,
    /// Was a stream asked for?
    pub stream: bool,
    /// The bearer token if it looks like a test key, otherwise its SHA-256.
    pub authorization: String,
}

/// The invoice at one instant, running calls included.
#[derive(Clone, Debug, Serialize)]
pub struct InvoiceSnapshot {
    /// The sum in USD, nine decimals.
    pub invoice_usd: String,
    /// The sum in nano-dollars.
    pub invoice_nano: u64,
    /// Billed calls, running ones included.
    pub calls: u64,
    /// POST requests that arrived, billed or not.
    pub posts: u64,
    /// Requests that arrived on any route but the control routes.
    pub requests: u64,
    /// Generations that still run.
    pub in_flight: u64,
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Output tokens, reasoning included.
    pub completion_tokens: u64,
    /// Calls that did not reach their natural end with a reader present.
    pub aborted: u64,
    /// Totals by billed model.
    pub by_model: BTreeMap<&'static str, Totals>,
    /// The last calls, oldest first; running ones at the end.
    pub last: Vec<CallRecord>,
}

#[derive(Debug, Default)]
struct Ledger {
    next_id: u64,
    by_model: [Totals; MODELS.len()],
    aborted: u64,
    running: HashMap<u64, Arc<Call>>,
    last: VecDeque<(Arc<Call>, Line)>,
    posts: u64,
    requests: u64,
}

/// All calls since the start or the last reset.
#[derive(Debug, Default)]
pub struct Books {
    ledger: Mutex<Ledger>,
}

impl Books {
    /// Opens a call and bills its prompt.
    pub fn open(&self, start: CallStart) -> Arc<Call> {
        let mut ledger = self.lock();
        ledger.next_id += 1;
        let id = ledger.next_id;
        let call = Arc::new(Call { id, start, completion: AtomicU64::new(0), orphan: AtomicBool::new(false) });
        ledger.running.insert(id, call.clone());
        call
    }

    /// Closes a call. A call opened before the last reset is no longer on the books; closing it does nothing.
    pub fn close(&self, call: &Arc<Call>, outcome: Outcome) {
        let mut ledger = self.lock();
        match ledger.running.get(&call.id) {
            Some(known) if Arc::ptr_eq(known, call) => ledger.running.remove(&call.id),
            _ => return,
        };
        let line = call.line(outcome);
        if let Some(totals) = ledger.by_model.get_mut(call.start.model) {
            totals.add(call, &line);
        }
        ledger.aborted += u64::from(outcome == Outcome::Aborted);
        if ledger.last.len() >= KEEP_LAST {
            ledger.last.pop_front();
        }
        ledger.last.push_back((call.clone(), line));
    }

    /// Counts a request.
    pub fn request(&self, is_post: bool) {
        let mut ledger = self.lock();
        ledger.requests += 1;
        ledger.posts += u64::from(is_post);
    }

    /// Forgets everything. Running generations end, and bill nobody.
    pub fn reset(&self) {
        let mut ledger = self.lock();
        for call in ledger.running.values() {
            call.orphan.store(true, Relaxed);
        }
        *ledger = Ledger::default();
    }

    /// The invoice now.
    pub fn snapshot(&self) -> InvoiceSnapshot {
        let ledger = self.lock();
        let mut by_model = ledger.by_model;
        let mut running: Vec<_> = ledger.running.values().cloned().collect();
        running.sort_by_key(|call| call.id);
        let running: Vec<_> = running.into_iter().map(|call| (call.line(Outcome::Running), call)).collect();
        let mut last: Vec<_> = ledger.last.iter().map(|(call, line)| record(call, line)).collect();
        for (line, call) in &running {
            if let Some(totals) = by_model.get_mut(call.start.model) {
                totals.add(call, line);
            }
            last.push(record(call, line));
        }
        last.drain(..last.len().saturating_sub(KEEP_LAST));
        let sum = |pick: fn(&Totals) -> u64| by_model.iter().map(pick).fold(0, u64::saturating_add);
        let invoice_nano = sum(|t| t.nano);
        InvoiceSnapshot {
            invoice_usd: usd(invoice_nano),
            invoice_nano,
            calls: sum(|t| t.calls),
            posts: ledger.posts,
            requests: ledger.requests,
            in_flight: running.len() as u64,
            prompt_tokens: sum(|t| t.prompt_tokens),
            completion_tokens: sum(|t| t.completion_tokens),
            aborted: ledger.aborted,
            by_model: MODELS.iter().map(|m| m.name).zip(by_model).filter(|(_, t)| t.calls > 0).collect(),
            last,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn record(call: &Call, line: &Line) -> CallRecord {
    let start = &call.start;
    CallRecord {
        id: call.id,
        model: start.requested.clone(),
        billed_model: MODELS.get(start.model).map_or("", |m| m.name),
        tier: start.tier.name(),
        prompt_tokens: start.prompt.total,
        completion_tokens: line.completion,
        cached_tokens: start.prompt.cached,
        cache_write_tokens: start.prompt.cache_write,
        reasoning_tokens: start.reasoning.min(line.completion),
        nano: line.nano,
        outcome: line.outcome,
        path: start.request.path.to_string(),
        headers: start.request.header_names(),
        stream: start.stream,
        authorization: start.request.authorization(),
    }
}

/// Nano-dollars as a decimal number of dollars.
pub fn usd(nano: u64) -> String {
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::super::prices::find;
    use super::*;

    fn start(model: &str, tier: Tier, prompt: Prompt) -> CallStart {
        let (index, model) = find(model).unwrap();
        let (rates, tier) = model.rates(tier, prompt.total);
        let request = Arc::new(RequestInfo::default());
        CallStart {
            model: index,
            requested: model.name.into(),
            tier,
            rates,
            prompt,
            reasoning: 2,
            stream: false,
            request,
        }
    }

    fn cost(model: &str, tier: Tier, total: u64, cached: u64, cache_write: u64, completion: u64) -> u64 {
        let prompt = Prompt { total, cached, cache_write };
        let rates = find(model).unwrap().1.rates(tier, total).0;
        price(&rates, &prompt, completion)
    }

    #[test]
    fn prices_computed_by_hand() {
        // 10 x $0.15/M + 5 x $0.60/M = $1.5e-6 + $3.0e-6
        assert_eq!(cost("gpt-4o-mini", Tier::Default, 10, 0, 0, 5), 4_500);
        // 1 x $0.05/M + 0 = 50 nano; 1 cached at $0.005/M = 5 nano
        assert_eq!(cost("gpt-5-nano", Tier::Default, 1, 1, 0, 0), 5);
        // 1 x $0.075/M cached = 75 nano; 3 x $0.02/M embedding = 60 nano
        assert_eq!(cost("text-embedding-3-small", Tier::Default, 3, 0, 0, 0), 60);
        // 1000: 600 plain x 2 + 300 cached x 0.2 + 100 written x 2.5, + 50 out x 10 (micro-dollars)
        assert_eq!(cost("gpt-6-sol", Tier::Default, 1000, 300, 100, 50), 1_200_000 + 60_000 + 250_000 + 500_000);
        // Long: 300,000 x $4/M + 10 x $15/M
        assert_eq!(cost("gpt-6-sol", Tier::Default, 300_000, 0, 0, 10), 1_200_150_000);
        // Priority: 7 x $12.5/M + 3 x $75/M
        assert_eq!(cost("gpt-5.5", Tier::Priority, 7, 0, 0, 3), 87_500 + 225_000);
        // Flex halves $0.005/M to 2.5 nano: rounded up once, at the end (3 x 2.5 = 7.5 -> 8).
        assert_eq!(cost("gpt-5-nano", Tier::Flex, 3, 3, 0, 0), 8);
        assert_eq!(cost("gpt-5-nano", Tier::Flex, 1, 1, 0, 0), 3);
    }

    #[test]
    fn running_calls_count_and_orphans_do_not() {
        let books = Books::default();
        let first = books.open(start("gpt-4o-mini", Tier::Default, Prompt { total: 10, ..Prompt::default() }));
        assert_eq!(books.snapshot().invoice_nano, 1_500);
        first.generate(5);
        let now = books.snapshot();
        assert_eq!((now.invoice_nano, now.in_flight, now.calls), (4_500, 1, 1));
        assert_eq!(now.invoice_usd, "0.000004500");
        assert_eq!(now.last[0].outcome, Outcome::Running);
        books.close(&first, Outcome::Aborted);
        books.close(&first, Outcome::Completed);
        let now = books.snapshot();
        assert_eq!((now.invoice_nano, now.in_flight, now.aborted, now.calls), (4_500, 0, 1, 1));
        assert_eq!(now.by_model["gpt-4o-mini"].reasoning_tokens, 2);

        let orphan = books.open(start("gpt-4o", Tier::Default, Prompt::default()));
        books.reset();
        let fresh = books.open(start("gpt-4o", Tier::Default, Prompt::default()));
        orphan.generate(1_000);
        books.close(&orphan, Outcome::Completed);
        let now = books.snapshot();
        assert_eq!((now.invoice_nano, now.in_flight), (0, 1));
        assert!(orphan.is_orphan() && !fresh.is_orphan());
    }

    #[test]
    fn memory_of_calls_is_bounded() {
        let books = Books::default();
        for _ in 0..250 {
            let call = books.open(start("gpt-4o", Tier::Default, Prompt::default()));
            books.close(&call, Outcome::Completed);
        }
        let now = books.snapshot();
        assert_eq!((now.last.len(), now.last[99].id, now.calls), (100, 250, 250));
    }

    #[test]
    fn dollars() {
        assert_eq!(usd(1_234_567), "0.001234567");
        assert_eq!(usd(12_000_000_001), "12.000000001");
    }
}
