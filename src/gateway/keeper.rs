//! What a gateway does beside serving calls: cut what must stop, charge what expired, know whether the ledger is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::app::App;
use super::running::{CutSwitch, cut_reason, deadline_reason};
use crate::ledger::{HoldRef, Ledger, Standing};
use crate::observe::metrics;

/// How often running calls are checked. A stop must bite within a second everywhere.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// Calls younger than this are not checked: their own reserve just did.
const CHECK_FROM: Duration = Duration::from_millis(200);
/// Calls asked about in one ledger operation.
const CHECK_BATCH: usize = 256;
/// How often the ledger as a whole is looked after: it must be usable again within two seconds of its return.
const INSPECT_EVERY: Duration = Duration::from_millis(500);
/// How often expired holds are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How often all keys and teams are written down.
const TELL_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Expired holds charged in one step.
const SWEEP_BATCH: usize = 200;

/// Watches the running calls for ever.
pub async fn watch(app: Arc<App>, ledger: Ledger) {
    let mut tick = interval(CHECK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        failpoint!("watching");
        let longest = Duration::from_secs(app.settings.load().limits.call_seconds);
        for (_, switch) in app.running.older_than(longest) {
            switch.cut(deadline_reason(longest));
        }
        check_all(&app.running.older_than(CHECK_FROM), &ledger).await;
    }
}

/// Checks calls in batches beside each other: those whose part of the ledger is away hold up no others.
async fn check_all(calls: &[(Arc<HoldRef>, Arc<CutSwitch>)], ledger: &Ledger) {
    let mut batches = JoinSet::new();
    for batch in calls.chunks(CHECK_BATCH) {
        let (batch, ledger) = (batch.to_vec(), ledger.clone());
        batches.spawn(async move { check(&batch, &ledger).await });
    }
    batches.join_all().await;
}

/// Cuts those of these calls whose standing is no longer good: one ledger operation.
pub async fn check(calls: &[(Arc<HoldRef>, Arc<CutSwitch>)], ledger: &Ledger) {
    let holds: Vec<HoldRef> = calls.iter().map(|(at, _)| HoldRef::clone(at)).collect();
    let standings = match ledger.standing(&holds).await {
        Ok(standings) => standings,
        Err(error) => {
            metrics::ledger_up(false);
            log::warn!("running calls could not be checked: {error}");
            return;
        }
    };
    let unknown = standings.iter().filter(|standing| **standing == Standing::Unknown).count();
    if unknown > 0 {
        metrics::ledger_up(false);
        log::warn!("{unknown} running calls could not be checked: their part of the ledger does not answer");
    }
    for ((at, switch), standing) in calls.iter().zip(standings) {
        if let Some(reason) = cut_reason(standing, at) {
            switch.cut(reason);
        }
    }
}

/// Looks after the ledger as a whole, for ever: lost books, and servers that may not be used, block every call; what an operator has
/// accepted lets them go again.
pub async fn guard(app: Arc<App>, ledger: Ledger) {
    let mut tick = interval(INSPECT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told_at, mut problem): (Option<Instant>, _) = (None, None);
    loop {
        tick.tick().await;
        let found = ledger.inspect(&|| app.keys.forget_all()).await.err();
        metrics::ledger_up(found.is_none());
        app.notes.ledger(found.is_none());
        if found != problem {
            match &found {
                Some(error) => log::error!("no call goes out: {error}"),
                None => log::warn!("the ledger is available again"),
            }
            problem = found;
        }
        // A journal begins with the records that are there: commands may have made them elsewhere. And since old files are removed, it
        // gets them again.
        if problem.is_none() && told_at.is_none_or(|at| at.elapsed() > TELL_EVERY) {
            let told = ledger.tell_all().await.inspect_err(|e| log::warn!("the journal lacks some records: {e}"));
            told_at = told.is_ok().then(Instant::now).or(told_at);
        }
    }
}

/// Charges expired holds in full, for ever: they belong to gateways that died.
pub async fn sweep(app: Arc<App>, ledger: Ledger) {
    let mut tick = interval(SWEEP_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        failpoint!("sweeping");
        match ledger.sweep(SWEEP_BATCH).await {
            Ok(swept) => {
                metrics::ledger_up(true);
                app.notes.ledger(true);
                if swept.expired > 0 {
                    log::warn!(
                        "{} expired holds were charged in full: {} USD; `loopers holds list` shows them",
                        swept.expired,
                        swept.charged
                    );
                }
            }
            Err(error) => {
                metrics::ledger_up(false);
                app.notes.ledger(false);
                log::warn!("expired holds could not be looked for: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::sync::Barrier;

    use super::*;
    use crate::clock::{Calendar, Clock};
    use crate::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};
    use crate::ledger::{Carried, Carrier, Charge, HoldId, LedgerError, Reserve, Settled, Verdict};

    /// A ledger that answers when so many operations wait for it.
    #[derive(Debug)]
    struct Slow {
        books: Ledger,
        together: Barrier,
    }

    #[async_trait]
    impl Carrier for Slow {
        fn books(&self) -> &Ledger {
            &self.books
        }

        async fn reserve(&self, ask: &Reserve) -> Result<Verdict, LedgerError> {
            self.books.reserve(ask).await
        }

        async fn settle_all(&self, ends: &[(Arc<HoldRef>, Charge)]) -> Vec<Result<Settled, LedgerError>> {
            self.books.settle_all(ends).await
        }

        async fn pass(&self) -> Result<(), LedgerError> {
            self.together.wait().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn many_running_calls_are_checked_beside_each_other() {
        let (calendar, clock, role) = (Calendar::utc(), Clock::System, Role::Gateway);
        let options = EmbeddedOptions { path: None, calendar, clock, role, queue: 64 };
        let books = Ledger::Embedded(EmbeddedLedger::open(options).unwrap());
        let slow = Slow { books, together: Barrier::new(4) };
        let call = |nth: usize| {
            let at = HoldRef { hold: HoldId(nth.to_string().into()), chain: vec!["k_gone".into()], session: None };
            (Arc::new(at), CutSwitch::new(None))
        };
        let calls: Vec<_> = (0..3 * CHECK_BATCH + 1).map(call).collect();
        let ledger = Ledger::Carried(Carried(Arc::new(slow)));
        let checked = check_all(&calls, &ledger);
        tokio::time::timeout(Duration::from_secs(60), checked).await.expect("one waits for the other");
        assert!(calls.iter().all(|(_, switch)| switch.reason().is_some()), "their key is gone: all are cut");
    }
}
