//! What all requests of a gateway share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use arc_swap::ArcSwap;
use pingora::connectors::http::Connector;
use tokio::sync::watch;

use super::attempts::Attempts;
use super::counts::Counts;
use super::door::{Door, Files};
use super::refusal::Refusal;
use super::reserver::Reserver;
use super::resolver::Resolver;
use super::running::Running;
use super::settler::Settler;
use super::trust::Trust;
use crate::alerts::Notes;
use crate::config::Settings;
use crate::control::http::Readiness;
use crate::ledger::{KeyView, Ledger};
use crate::observe::calls::Reports;
use crate::observe::metrics;
use crate::secret::KeyHash;

/// The shared state of one gateway process.
pub struct App {
    /// What the operator configured. A request takes one snapshot and keeps it.
    pub settings: ArcSwap<Settings>,
    /// The books.
    pub ledger: Ledger,
    /// What is known of keys; checked against the ledger in every reserve.
    pub keys: KeyCache,
    /// Takes holds.
    pub reserver: Reserver,
    /// Ends holds.
    pub settler: Arc<Settler>,
    /// Calls that hold money right now.
    pub running: Arc<Running>,
    /// What the task that sends alerts is told.
    pub notes: Arc<Notes>,
    /// Who is told of calls that have ended.
    pub reports: Reports,
    /// Addresses of providers.
    pub resolver: Resolver,
    /// Certificate authorities of providers that bring their own.
    pub trust: Trust,
    /// Connections on which providers are asked to count; made when the first one is.
    pub counts: LazyLock<Connector>,
    /// Requests being served.
    pub in_flight: AtomicUsize,
    /// How many clients are let in, and what they may take of memory.
    pub door: Arc<Door>,
    /// How the files that this process may open are divided.
    pub files: Files,
    /// Requests without a valid key, by address.
    pub attempts: Attempts,
    /// What the last readiness check of the data plane found: anybody may ask, the ledger is asked five times a second at most.
    pub readiness: Readiness,
    /// Request bodies that came lately, where loops are looked for.
    pub bodies: Counts,
    /// Set at shutdown: nothing new is admitted.
    pub draining: Arc<AtomicBool>,
    /// Set when the time to drain is over: nothing is waited for any more.
    pub over: watch::Sender<bool>,
}

impl App {
    /// A gateway over a ledger.
    pub fn new(settings: Settings, ledger: Ledger) -> Arc<App> {
        App::telling(settings, ledger, Reports::none())
    }

    /// A gateway over a ledger that tells of its calls.
    pub fn telling(settings: Settings, ledger: Ledger, reports: Reports) -> Arc<App> {
        let notes = Arc::new(Notes::new(settings.limits.alert_notes));
        let files = Files::divided(&settings.limits);
        metrics::prices_at(settings.prices.read_at().unwrap_or(0) / 1000);
        Arc::new(App {
            keys: KeyCache::new(size(settings.limits.key_cache)),
            reserver: Reserver::default(),
            settler: Arc::new(Settler::new(notes.clone())),
            notes,
            reports,
            running: Arc::new(Running::default()),
            resolver: Resolver::default(),
            trust: Trust::default(),
            counts: LazyLock::new(|| Connector::new(None)),
            in_flight: AtomicUsize::new(0),
            door: Door::new(files.clients, &settings.limits),
            files,
            attempts: Attempts::default(),
            readiness: Readiness::default(),
            bodies: Counts::default(),
            draining: Arc::new(AtomicBool::new(false)),
            over: watch::Sender::new(false),
            settings: ArcSwap::from_pointee(settings),
            ledger,
        })
    }

    /// True once the gateway shuts down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Returns when the time to drain is over.
    pub async fn told_to_end(&self) {
        if self.over.subscribe().wait_for(|over| *over).await.is_err() {
            // Its sender is here, so this cannot be.
            std::future::pending::<()>().await;
        }
    }

    /// Whether a new call may begin: not when the gateway shuts down, nor when too many that ended wait for the ledger.
    pub fn takes_calls(&self, settings: &Settings) -> Result<(), Refusal> {
        if self.is_draining() {
            return Err(Refusal::draining());
        }
        if self.settler.is_failing() {
            return Err(Refusal::new(
                503,
                "overloaded",
                "Calls that ended wait for the ledger, and cannot be written down meanwhile.",
                "Give the folder that `state:` names in loopers.yaml room, and let the gateway write there.",
            ));
        }
        if self.settler.pending() >= size(settings.limits.unsettled) {
            return Err(Refusal::overloaded("limits.unsettled"));
        }
        Ok(())
    }
}

/// A limit of the config as a size in memory.
pub fn size(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// A share of a bounded number (requests, buffered bytes); given back when dropped.
pub struct Permit {
    counter: Arc<App>,
    of: fn(&App) -> &AtomicUsize,
    amount: usize,
}

impl Permit {
    /// Takes `amount` if no more than `max` are out then.
    pub fn take(app: &Arc<App>, of: fn(&App) -> &AtomicUsize, amount: usize, max: usize) -> Option<Permit> {
        let before = of(app).fetch_add(amount, Ordering::AcqRel);
        let permit = Permit { counter: app.clone(), of, amount };
        (before.saturating_add(amount) <= max).then_some(permit)
    }

    /// Lets one more call run, unless there are too many.
    pub fn of_a_call(app: &Arc<App>, settings: &Settings) -> Result<Permit, Refusal> {
        // Over HTTP/2 one client has many calls, each with a connection to its provider.
        let (most, files) = (size(settings.limits.in_flight), app.files.calls);
        let permit = Permit::take(app, |app| &app.in_flight, 1, most.min(files));
        permit.ok_or_else(|| match files < most {
            true => Refusal::too_few_files(),
            false => Refusal::overloaded("limits.in_flight"),
        })
    }

    /// Takes so many more, if no more than `max` are out then.
    #[must_use]
    pub fn grow(&mut self, more: usize, max: usize) -> bool {
        let before = (self.of)(&self.counter).fetch_add(more, Ordering::AcqRel);
        self.amount += more;
        before.saturating_add(more) <= max
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        (self.of)(&self.counter).fetch_sub(self.amount, Ordering::AcqRel);
    }
}

/// Remembered keys. Only a hint of where a key lives and what it may do; never trusted without its revision.
pub struct KeyCache {
    views: RwLock<HashMap<KeyHash, Arc<KeyView>>>,
    max: usize,
}

impl KeyCache {
    fn new(max: usize) -> Self {
        KeyCache { views: RwLock::default(), max: max.max(1) }
    }

    /// What is remembered of a key.
    pub fn get(&self, hash: &KeyHash) -> Option<Arc<KeyView>> {
        self.views.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    /// Remembers a key. A full cache forgets everything: it refills by one look-up per live key.
    pub fn put(&self, view: Arc<KeyView>) {
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        if views.len() >= self.max {
            views.clear();
        }
        views.insert(view.hash, view);
    }

    /// Forgets every key: another ledger may be behind the same name.
    pub fn forget_all(&self) {
        self.views.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Forgets a key.
    pub fn forget(&self, hash: &KeyHash) {
        self.views.write().unwrap_or_else(PoisonError::into_inner).remove(hash);
    }
}
