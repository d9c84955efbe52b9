//! The judge: the provider's invoice against the books, at every moment and at rest.
//!
//! It reads the books through a gateway of its own, which no call and no fault goes through, and the invoice from the mock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::load::{Role, detail};
use crate::support::json::{find_window, nano, read_window};
use crate::support::world::ADMIN_TOKEN;
use crate::support::{Answer, Conn, Key, Request};

/// How often the books are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long a look may take.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);
/// Breaches that are kept in full.
const BREACHES_KEPT: usize = 20;

/// A deliberate mistake of the judge or of what it judges, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The gateways charge half of what the provider bills.
    HalfPrices,
    /// The judge takes a tiny part of each limit for the limit.
    TinyLimits,
    /// A call still runs when everything should be at rest.
    OpenHold,
    /// The judge takes what is left of a budget for a thousand times as much.
    RichRefusals,
}

impl Mutant {
    pub const ALL: [(Mutant, &'static str, &'static str); 4] = [
        (Mutant::HalfPrices, "half-prices", "invoice"),
        (Mutant::TinyLimits, "tiny-limits", "over its limit"),
        (Mutant::OpenHold, "open-hold", "never comes to rest"),
        (Mutant::RichRefusals, "rich-refusals", "phantom refusal"),
    ];
}

/// What was counted.
#[derive(Default)]
pub struct Tally {
    pub faults: BTreeMap<&'static str, u64>,
    pub ends: BTreeMap<String, u64>,
    pub looks: u64,
    pub blind: u64,
    pub exact: u64,
    pub phantoms: u64,
    pub refusals_checked: u64,
    pub held_at_rest: u64,
    pub rests: u64,
    pub slowest_refusal: Duration,
    pub breaches: Vec<String>,
    pub breaches_beyond: u64,
}

/// One key's books (its month) beside its invoice, in nano-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub invoice: u64,
    pub spent: u64,
    pub held: u64,
    pub limit: u64,
}

pub struct Judge {
    witness: SocketAddr,
    mock: SocketAddr,
    /// Keys in use, and all that ever were.
    roles: Mutex<HashMap<Role, Key>>,
    keys: Mutex<Vec<(Role, Key)>>,
    /// Keys whose charge may differ from the invoice since the last rest.
    doubts: Mutex<HashSet<String>>,
    doubt_of_all: Mutex<Option<&'static str>>,
    /// `spent − invoice` of each key at the last rest.
    surplus: Mutex<HashMap<String, u64>>,
    /// Limits that were in force, where an operator has lowered one: (key, window) to nano-dollars.
    ceilings: Mutex<HashMap<(String, String), u64>>,
    /// Odd while the books are lost.
    lost: AtomicU64,
    pub mutant: Option<Mutant>,
    pub tally: Mutex<Tally>,
}

impl Judge {
    pub fn new(witness: SocketAddr, mock: SocketAddr, mutant: Option<Mutant>) -> Arc<Judge> {
        Arc::new(Judge {
            witness,
            mock,
            roles: Mutex::default(),
            keys: Mutex::default(),
            doubts: Mutex::default(),
            doubt_of_all: Mutex::default(),
            surplus: Mutex::default(),
            ceilings: Mutex::default(),
            lost: AtomicU64::new(0),
            mutant,
            tally: Mutex::default(),
        })
    }

    // --- What others tell it ---

    /// From now on calls of this role use this key.
    pub fn set_key(&self, role: Role, key: Key) {
        self.roles.lock().expect("roles").insert(role, key.clone());
        let mut keys = self.keys.lock().expect("keys");
        keys.retain(|(_, known)| known.id != key.id);
        keys.push((role, key));
    }

    pub fn key(&self, role: Role) -> Key {
        self.roles.lock().expect("roles")[&role].clone()
    }

    pub fn breach(&self, what: String) {
        eprintln!("BREACH: {what}");
        let mut tally = self.tally.lock().expect("tally");
        if tally.breaches.len() < BREACHES_KEPT {
            tally.breaches.push(what);
        } else {
            tally.breaches_beyond += 1;
        }
    }

    /// A panic is a breach.
    pub async fn guarded(self: &Arc<Self>, future: impl Future<Output = ()>) {
        use std::panic::AssertUnwindSafe;
        use std::pin::pin;
        let mut future = pin!(future);
        let ended = std::future::poll_fn(|cx| {
            let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            match polled {
                Ok(std::task::Poll::Ready(())) => std::task::Poll::Ready(true),
                Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
                Err(_) => std::task::Poll::Ready(false),
            }
        });
        if !ended.await {
            self.breach("a client of this test panicked".into());
        }
    }

    pub fn injected(&self, name: &'static str) {
        *self.tally.lock().expect("tally").faults.entry(name).or_default() += 1;
    }

    pub fn count(&self, end: &str) {
        *self.tally.lock().expect("tally").ends.entry(end.into()).or_default() += 1;
    }

    /// From now until the next rest this key may be charged more than its invoice.
    pub fn doubt(&self, key: &Key, end: &str) {
        self.count(end);
        self.doubts.lock().expect("doubts").insert(key.id.clone());
    }

    /// The same for all keys.
    pub fn doubt_all(&self, why: &'static str) {
        *self.doubt_of_all.lock().expect("doubts") = Some(why);
    }

    /// What a refusal took at most.
    pub fn took(&self, time: Duration, answer: &Answer) {
        if answer.status == 503 {
            let mut tally = self.tally.lock().expect("tally");
            tally.slowest_refusal = tally.slowest_refusal.max(time);
        }
    }

    /// A limit is lowered: what is above the new one was below `before`.
    pub fn lowered(&self, key: &Key, window: &str, before: u64) {
        self.ceilings.lock().expect("ceilings").insert((key.id.clone(), window.into()), before);
    }

    /// The books are lost, or found again.
    pub fn books_lost(&self, yes: bool) {
        let now = self.lost.load(SeqCst);
        if yes != (now % 2 == 1) {
            self.lost.fetch_add(1, SeqCst);
        }
    }

    /// Looks at an answer: does it leave a doubt, and is it a refusal without a reason?
    pub fn answer(&self, key: &Key, answer: &Answer, cut: &str) {
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let loopers = detail(&value).cloned().unwrap_or_default();
        let code = loopers["code"].as_str().unwrap_or_default();
        let tail = String::from_utf8_lossy(&answer.body[answer.body.len().saturating_sub(1000)..]);
        let is_cut = answer.status == 200 && tail.contains(cut);
        let end = match (answer.status, code) {
            (200, _) if is_cut => "200, cut".into(),
            (status, "") => format!("{status}{}", if answer.complete { "" } else { ", broken off" }),
            (status, code) => format!("{status} {code}"),
        };
        let free = match code {
            // With a reason in it, it came instead of the call and not in its midst.
            "budget_exceeded" => loopers["requested_usd"].is_string(),
            "" => answer.status == 200 && answer.complete && !is_cut,
            "draining" | "upstream_timeout" | "upstream_unreachable" | "key_paused" | "key_revoked" => false,
            _ => true,
        };
        if free {
            self.count(&end);
        } else {
            self.doubt(key, &end);
        }
        self.refusal(&loopers, false);
    }

    /// Checks a refusal by its own numbers; with `at_rest`, what is held counts as free.
    pub fn refusal(&self, loopers: &Value, at_rest: bool) {
        let amount = |name: &str| loopers[name].is_string().then(|| nano(&loopers[name]));
        let (Some(limit), Some(spent), Some(held), Some(requested)) =
            (amount("limit_usd"), amount("spent_usd"), amount("held_usd"), amount("requested_usd"))
        else {
            return;
        };
        self.tally.lock().expect("tally").refusals_checked += 1;
        let limit = if self.mutant == Some(Mutant::RichRefusals) { limit.saturating_mul(1000) } else { limit };
        if !needless(limit, spent, if at_rest { 0 } else { held }, requested) {
            return;
        }
        self.tally.lock().expect("tally").phantoms += 1;
        self.breach(format!("phantom refusal{}: {loopers}", if at_rest { " at rest" } else { "" }));
    }

    // --- What it sees ---

    /// The invoice, first, and then the books of every key; `None` when they cannot be read, or are lost.
    pub async fn look(&self) -> Option<Vec<(Role, Key, Line)>> {
        let lost = self.lost.load(SeqCst);
        if lost % 2 == 1 {
            return None;
        }
        let invoice = self.invoice().await?;
        let keys = self.keys.lock().expect("keys").clone();
        let mut lines = Vec::with_capacity(keys.len());
        for (role, key) in keys {
            let path = format!("/admin/v1/budgets/{}", key.id);
            let request = Request::get(&path).header("host", "localhost").bearer(ADMIN_TOKEN);
            let view = get(self.witness, &request).await?;
            let month = find_window(&view, "key", "monthly")?;
            let mut line =
                Line { invoice: 0, spent: month.spent, held: month.held, limit: month.limit.unwrap_or(u64::MAX) };
            line.invoice = invoice["by_account"][&key.id]["nano"].as_u64().unwrap_or(0);
            if self.lost.load(SeqCst) != lost {
                return None;
            }
            self.check_moment(&key, &line, &view);
            lines.push((role, key, line));
        }
        Some(lines)
    }

    pub async fn invoice(&self) -> Option<Value> {
        get(self.mock, &Request::get("/invoice")).await
    }

    fn check_moment(&self, key: &Key, line: &Line, view: &Value) {
        if line.invoice > line.spent.saturating_add(line.held) {
            self.breach(format!("{}: invoice > charged + held: {line:?}", key.name));
        }
        let ceilings = self.ceilings.lock().expect("ceilings").clone();
        for level in view["levels"].as_array().into_iter().flatten() {
            for window in level["windows"].as_array().into_iter().flatten() {
                let (books, name) = (read_window(window), window["window"].as_str().unwrap_or_default());
                let Some(mut limit) = books.limit else { continue };
                if self.mutant == Some(Mutant::TinyLimits) {
                    limit /= 100_000;
                }
                let id = level["id"].as_str().unwrap_or_default();
                let before = ceilings.get(&(id.to_string(), name.to_string())).copied().unwrap_or(0);
                if books.spent.saturating_add(books.held) > limit.max(before) {
                    self.breach(format!("{}: {id} is over its limit: {window}", key.name));
                }
            }
        }
    }

    /// Looks for ever.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let seen = timeout(LOOK_PATIENCE, self.look()).await.ok().flatten().is_some();
            {
                let mut tally = self.tally.lock().expect("tally");
                if seen { tally.looks += 1 } else { tally.blind += 1 }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until nothing runs, nothing is held and nothing is owed; then charged must be the invoice wherever no doubt arose.
    pub async fn rest(&self, admins: &[SocketAddr], patience: Duration) -> Option<Vec<(Role, Key, Line)>> {
        let deadline = Instant::now() + patience;
        let lines = loop {
            let lines = timeout(LOOK_PATIENCE, self.look()).await.ok().flatten();
            let held = lines.as_ref().map(|lines| lines.iter().map(|(_, _, line)| line.held).sum::<u64>());
            let running = self.invoice().await.and_then(|invoice| invoice["in_flight"].as_u64());
            let owed = owed(admins).await;
            if let (Some(lines), Some(0), Some(0), Some(0)) = (&lines, held, running, owed) {
                break lines.clone();
            }
            if Instant::now() > deadline {
                self.tally.lock().expect("tally").held_at_rest += held.unwrap_or(0);
                self.breach(format!("never comes to rest: held {held:?}, running {running:?}, owed {owed:?}"));
                return lines;
            }
            sleep(Duration::from_millis(200)).await;
        };
        // What the mock billed last may be later than what was read before it: once more, now that nothing moves.
        let lines = self.look().await.unwrap_or(lines);
        let doubts = std::mem::take(&mut *self.doubts.lock().expect("doubts"));
        let doubt_of_all = self.doubt_of_all.lock().expect("doubts").take();
        for (role, key, line) in &lines {
            let surplus = line.spent.saturating_sub(line.invoice);
            let before = self.surplus.lock().expect("surplus").insert(key.id.clone(), surplus).unwrap_or(0);
            if line.invoice > line.spent {
                self.breach(format!("{}: at rest, invoice > charged: {line:?}", key.name));
            }
            if !role.is_fair() || doubts.contains(&key.id) || doubt_of_all.is_some() {
                continue;
            }
            self.tally.lock().expect("tally").exact += 1;
            if surplus != before {
                self.breach(format!(
                    "{}: at rest, charged is not the invoice although nothing was in doubt: {line:?}, surplus before {before}",
                    key.name
                ));
            }
        }
        self.tally.lock().expect("tally").rests += 1;
        Some(lines)
    }
}

/// A refusal that no number explains: what was asked for would have fitted.
pub fn needless(limit: u64, spent: u64, held: u64, requested: u64) -> bool {
    spent.saturating_add(held).saturating_add(requested) <= limit
}

/// Settlements that the gateways still have to make.
async fn owed(admins: &[SocketAddr]) -> Option<u64> {
    let mut sum = 0;
    for admin in admins {
        let mut conn = Conn::try_open(*admin).await.ok()?;
        let answer = timeout(LOOK_PATIENCE, conn.try_call(&Request::get("/metrics").header("host", "localhost")))
            .await
            .ok()??;
        let text = answer.text();
        let line = text.lines().find_map(|line| line.strip_prefix("loopers_unsettled_holds "))?;
        sum += line.trim().parse::<u64>().ok()?;
    }
    Some(sum)
}

async fn get(addr: SocketAddr, request: &Request) -> Option<Value> {
    let mut conn = Conn::try_open(addr).await.ok()?;
    let answer = timeout(LOOK_PATIENCE, conn.try_call(request)).await.ok()??;
    (answer.status == 200).then(|| serde_json::from_slice(&answer.body).ok()).flatten()
}
