//! Looks at the books of whoever was charged, and sends what has crossed a threshold, once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{MissedTickBehavior, interval};

use super::notice::{Notice, Standing};
use super::webhook::Senders;
use super::{Cut, Inner, Notes, level_of};
use crate::clock::{Clock, Millis};
use crate::config::AlertSettings;
use crate::ledger::{Ledger, LedgerError, NodeId};
use crate::observe::metrics;

/// How often notes are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks for which a ledger may be silent before it is an alert.
const SILENT_LOOKS: u32 = 3;
const DAY: Millis = 24 * 3600 * 1000;

/// Watches for ever.
pub async fn watch(notes: Arc<Notes>, alerts: AlertSettings, ledger: Ledger) {
    let mut watcher = Watcher {
        most: notes.most,
        senders: Senders::start(&alerts),
        alerts,
        ledger,
        clock: Clock::System,
        said: HashMap::new(),
        used: HashMap::new(),
        silent: 0,
        down: false,
    };
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        watcher.ledger_state(&notes);
        watcher.look(&notes).await;
    }
}

/// An alert that was made, here or by another gateway.
struct Said {
    /// Its claim's place in the ledger.
    chain: Vec<NodeId>,
    /// When its window ends.
    until: Millis,
    /// The day of its last claim.
    day: Millis,
}

struct Watcher {
    alerts: AlertSettings,
    /// Budgets, and alerts that were made, that are remembered.
    most: usize,
    senders: Senders,
    ledger: Ledger,
    clock: Clock,
    said: HashMap<String, Said>,
    /// The share of each budget that is used: by node and window, in millionths, until the window ends.
    used: HashMap<(NodeId, &'static str), (u64, Millis)>,
    silent: u32,
    down: bool,
}

impl Watcher {
    /// Each gateway reports for itself: without a ledger there is no place to agree.
    fn ledger_state(&mut self, notes: &Notes) {
        let down = notes.ledger_down.load(std::sync::atomic::Ordering::Relaxed);
        self.silent = if down { self.silent.saturating_add(1) } else { 0 };
        let now = self.clock.now();
        if down && !self.down && self.silent >= SILENT_LOOKS {
            self.down = true;
            self.senders.send(&Notice::ledger(id_of(&format!("ledger-down/{now}")), now, false));
        } else if !down && self.down {
            self.down = false;
            self.senders.send(&Notice::ledger(id_of(&format!("ledger-up/{now}")), now, true));
        }
    }

    async fn look(&mut self, notes: &Notes) {
        let mut todo = notes.take();
        if let Err(error) = self.all_of(&mut todo).await {
            log::debug!("budgets were not looked at: {error}");
            notes.put_back(todo);
        }
        self.forget();
        if let Err(error) = self.renew().await {
            log::debug!("claims of alerts were not renewed: {error}");
        }
        self.publish();
    }

    /// Takes each thing out of `todo` once it is done, so that what the ledger did not answer stays.
    async fn all_of(&mut self, todo: &mut Inner) -> Result<(), LedgerError> {
        while let Some(node) = todo.charged.keys().next().cloned() {
            let chain = todo.charged.get(&node).cloned().unwrap_or_default();
            match self.node(&node, &chain, &todo.full).await {
                Ok(()) | Err(LedgerError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            todo.charged.remove(&node);
            todo.full.retain(|(full, _)| *full != node);
        }
        while let Some(((key, session), chain)) =
            todo.sessions.iter().next().map(|(at, chain)| (at.clone(), chain.clone()))
        {
            let full = todo.full_sessions.contains(&(key.clone(), session.clone()));
            match self.session(&chain, &session, full).await {
                Ok(()) | Err(LedgerError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            todo.full_sessions.remove(&(key.clone(), session.clone()));
            todo.sessions.remove(&(key, session));
        }
        while let Some(cut) = todo.cuts.iter().next().cloned() {
            self.cut(&cut).await?;
            todo.cuts.remove(&cut);
        }
        Ok(())
    }

    async fn node(
        &mut self,
        node: &NodeId,
        chain: &[NodeId],
        full: &HashSet<(NodeId, Option<crate::clock::Window>)>,
    ) -> Result<(), LedgerError> {
        let status = self.ledger.status(node).await?;
        for window in &status.windows {
            let Some(limit) = window.limit else { continue };
            let name = window.window.name();
            let full = full.contains(&(node.clone(), Some(window.window)));
            let used = millionths(window.spent.nano(), limit.nano(), full);
            if self.used.len() < self.most || self.used.contains_key(&(node.clone(), name)) {
                self.used.insert((node.clone(), name), (used, window.resets_at));
            }
            let standing = Standing {
                level: status.level,
                id: node.as_str(),
                name: &status.name,
                window: Some((name, window.resets_at)),
                limit,
                spent: window.spent,
                held: window.held,
            };
            let mark = format!("{node}/{name}/{}/{}", window.started_at, limit.nano());
            self.thresholds(&mark, chain, used, full, &standing).await?;
        }
        Ok(())
    }

    async fn session(&mut self, chain: &[NodeId], session: &str, full: bool) -> Result<(), LedgerError> {
        let Some(key) = chain.first() else { return Ok(()) };
        let Some(status) = self.ledger.session(key, session).await? else { return Ok(()) };
        let Some(limit) = status.limit else { return Ok(()) };
        let used = millionths(status.spent.nano(), limit.nano(), full);
        let standing = Standing {
            level: crate::ledger::Level::Session,
            id: session,
            name: session,
            window: None,
            limit,
            spent: status.spent,
            held: status.held,
        };
        let mark = format!("{key}/session/{session}/{}", limit.nano());
        self.thresholds(&mark, chain, used, full, &standing).await
    }

    /// Sends the highest threshold that is reached, unless it, or a higher one, was said before.
    async fn thresholds(
        &mut self,
        mark: &str,
        chain: &[NodeId],
        used: u64,
        full: bool,
        standing: &Standing<'_>,
    ) -> Result<(), LedgerError> {
        if !self.senders.any() {
            return Ok(());
        }
        let now = self.clock.now();
        let until = standing.window.map_or(now + DAY, |(_, end)| end);
        let reached: Vec<u64> = self.alerts.thresholds.iter().copied().filter(|per| used >= per * 10_000).collect();
        let mut highest = None;
        for percent in reached {
            let mark = format!("{mark}/{percent}");
            if self.claim(&mark, chain, until).await? {
                highest = highest.max(Some((percent, mark)));
            }
        }
        if let Some((percent, mark)) = highest {
            self.senders.send(&Notice::threshold(id_of(&mark), now, percent, full && percent == 100, standing));
        }
        Ok(())
    }

    /// Once a key, reason and minute.
    async fn cut(&mut self, cut: &Cut) -> Result<(), LedgerError> {
        if !self.senders.any() {
            return Ok(());
        }
        let now = self.clock.now();
        let minute = now - now % 60_000;
        let key = cut.chain.first().map_or("", NodeId::as_str);
        let mark = format!("{key}/cut/{}/{minute}", cut.reason);
        if self.claim(&mark, &cut.chain, minute + 60_000).await? {
            self.senders.send(&Notice::cut(id_of(&mark), now, cut.clone()));
        }
        Ok(())
    }

    /// True for the one gateway that may send this alert. A claim is remembered by the ledger for a day; where the window is
    /// longer, every gateway that knows of it renews it each day.
    async fn claim(&mut self, mark: &str, chain: &[NodeId], until: Millis) -> Result<bool, LedgerError> {
        let day = self.clock.now() / DAY;
        if self.said.contains_key(mark) {
            return Ok(false);
        }
        // Yesterday's first: of two gateways that ask at once, only one finds it free.
        let mut free = true;
        for day in [day - 1, day] {
            free &= self.ledger.mark(chain, &id_of(&format!("{mark}@{day}"))).await?;
        }
        self.remember(mark, chain.to_vec(), until, day);
        Ok(free)
    }

    fn remember(&mut self, mark: &str, chain: Vec<NodeId>, until: Millis, day: Millis) {
        if self.said.len() >= self.most {
            self.said.clear();
        }
        self.said.insert(mark.to_string(), Said { chain, until, day });
    }

    /// Claims that a window longer than a day still needs are made anew.
    async fn renew(&mut self) -> Result<(), LedgerError> {
        let day = self.clock.now() / DAY;
        let old: Vec<String> =
            self.said.iter().filter(|(_, said)| said.day != day).map(|(mark, _)| mark.clone()).collect();
        for mark in old {
            let Some(said) = self.said.get_mut(&mark) else { continue };
            self.ledger.mark(&said.chain, &id_of(&format!("{mark}@{day}"))).await?;
            said.day = day;
        }
        Ok(())
    }

    fn forget(&mut self) {
        let now = self.clock.now();
        self.said.retain(|_, said| said.until > now);
        self.used.retain(|_, (_, until)| *until > now);
    }

    fn publish(&self) {
        let mut most: HashMap<(&str, &str), u64> = HashMap::new();
        for ((node, window), (used, _)) in &self.used {
            let max = most.entry((level_of(node).name(), window)).or_default();
            *max = (*max).max(*used);
        }
        metrics::budget_used(&most);
    }
}

/// How much of a limit is used. A limit that had no room for a call is used up, whatever is spent.
fn millionths(spent: u64, limit: u64, full: bool) -> u64 {
    if full {
        return 1_000_000.max(if limit == 0 { 0 } else { share(spent, limit) });
    }
    // A limit of nothing is reached by the first call that it refuses, not before.
    if limit == 0 { 0 } else { share(spent, limit) }
}

fn share(spent: u64, limit: u64) -> u64 {
    u64::try_from(u128::from(spent) * 1_000_000 / u128::from(limit.max(1))).unwrap_or(u64::MAX)
}

fn id_of(mark: &str) -> String {
    let digest = Sha256::digest(mark.as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
