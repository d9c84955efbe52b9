//! The ledger as a whole: which books it holds, whether its servers may be trusted, and whether an operator has accepted it.

use ::redis::{Value, cmd};

use super::guard::Whole;
use super::reply::{self, Words};
use super::script::{BOOKS, Call};
use super::{RedisLedger, check};
use crate::clock::{Clock, Millis};
use crate::ledger::{BooksStatus, LedgerError, names};
use std::collections::BTreeMap;

/// Trees that are compared after a new connection.
const TREES_AFTER_CONNECT: usize = 1024;
/// Trees of a Cluster that are compared each time.
const TREES_OF_CLUSTER: usize = 16;

/// What the ledger says of its books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    id: Option<String>,
    generation: u64,
    lost: Option<String>,
    at: Option<Millis>,
    /// Who decided last: a rebuild that halted them, or whoever accepted them.
    by: Option<String>,
}

/// What follows from what is known and what is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    /// These books have no name yet.
    Begin,
    /// They are what they were.
    Same,
    /// An operator accepted them since: what was known of the books before says nothing of these.
    Accepted,
    /// They are lost.
    Lost(String),
}

impl RedisLedger {
    /// See [`crate::ledger::Ledger::inspect`].
    pub async fn inspect(&self, forget: &(dyn Fn() + Sync)) -> Result<(), LedgerError> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let mut whole = guard.whole();
        let generation = whole.generation;
        let (evicted, unfit) = self.servers().await?;
        if let Some(reason) = eviction(&whole, &evicted) {
            guard.lose(generation, reason);
            whole = guard.whole();
        }
        if self.look_at_trees().await? {
            whole = guard.whole();
        }
        let mut seen = self.whole_books("look", &[]).await?;
        if find(&whole, &seen) == Finding::Begin {
            seen = self.whole_books("begin", &[&*random_id()?]).await?;
        }
        let finding = find(&whole, &seen);
        let forgets = finding == Finding::Accepted;
        match finding {
            Finding::Begin => return Err(reply::unexpected("books that cannot be begun")),
            Finding::Same => (whole.id, whole.generation) = (seen.id, seen.generation),
            Finding::Accepted => {
                // Before anything may be taken again.
                forget();
                if seen.lost.is_none() {
                    log::warn!("the ledger's books were accepted by an operator: calls go out again");
                }
                (whole.id, whole.generation, whole.lost) = (seen.id, seen.generation, seen.lost);
            }
            Finding::Lost(reason) => {
                guard.lose(generation, reason.clone());
                // Also to tell of a later generation: what an operator accepts must be later still.
                if seen.lost.is_none() || seen.generation < generation {
                    self.whole_books("block", &[&*generation.to_string(), &*reason]).await?;
                }
                whole = guard.whole();
            }
        }
        whole.evicted = evicted;
        guard.looked(whole, unfit.map(LedgerError::Unavailable), forgets);
        let guard = guard.clone();
        tokio::task::spawn_blocking(move || guard.save())
            .await
            .map_err(|_| LedgerError::Unavailable("the runtime is shutting down".into()))??;
        self.guard.as_ref().map_or(Ok(()), |guard| guard.check())
    }

    /// Compares what is known of the trees used last: after a new connection, since another server may be behind it; in a Cluster,
    /// where nobody tells, a few of them each time. True when something was compared.
    async fn look_at_trees(&self) -> Result<bool, LedgerError> {
        let Some(guard) = &self.guard else { return Ok(false) };
        let connects = self.link.connects();
        let anew = guard.compared_at() != connects;
        let most = match (anew, self.link.is_cluster()) {
            (true, _) => TREES_AFTER_CONNECT,
            (false, true) => TREES_OF_CLUSTER,
            (false, false) => return Ok(false),
        };
        if guard.check().is_err() {
            return Ok(false);
        }
        let asked = self.each(guard.trees(most), |ledger, root| async move { ledger.ask_tree(root).await }).await;
        match asked {
            Ok(_) => guard.compared(connects),
            // The guard knows it by now.
            Err(LedgerError::Lost(_)) => {}
            Err(other) => return Err(other),
        }
        Ok(true)
    }

    /// A key was not found: is that because the books are gone?
    pub(super) async fn still_there(&self) -> Result<(), LedgerError> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let known = guard.whole();
        let seen = self.whole_books("look", &[]).await?;
        if let Finding::Lost(reason) = find(&known, &seen) {
            guard.lose(known.generation, reason);
        }
        guard.check()
    }

    /// See [`crate::ledger::Ledger::books`].
    pub async fn books(&self) -> Result<BooksStatus, LedgerError> {
        let seen = self.whole_books("look", &[]).await?;
        let (_, unfit) = self.servers().await?;
        Ok(BooksStatus { id: seen.id, generation: seen.generation, lost: seen.lost, lost_at: seen.at, unfit })
    }

    /// See [`crate::ledger::Ledger::accept`].
    pub async fn accept(&self) -> Result<BooksStatus, LedgerError> {
        let last = self.last_decision().await?;
        self.accept_after(&last).await?;
        self.books().await
    }

    /// Who decided last on books that nobody rebuilds now.
    pub(super) async fn last_decision(&self) -> Result<String, LedgerError> {
        // First of all: a rebuild that begins behind this look is noticed by who accepts.
        let seen = self.whole_books("look", &[]).await?;
        self.refuse_amid_rebuild().await?;
        Ok(seen.by.unwrap_or_default())
    }

    /// Accepts the books, unless somebody has decided on them since `last`: an accept that was on its way must not let calls out amid a
    /// rebuild, nor a rebuild that stood still end what others have decided.
    pub(super) async fn accept_after(&self, last: &str) -> Result<(), LedgerError> {
        let (own, now) = (random_id()?, Clock::System.now().to_string());
        let seen = self.whole_books("accept", &[&*own, &*now, last]).await?;
        if seen.by.as_deref() == Some(&*own) {
            return Ok(());
        }
        let say = "somebody else has just decided on these books: see `loopers ledger status`, and try again";
        Err(LedgerError::Conflict(say.into()))
    }

    /// Blocks the books for every gateway, for a rebuild. Returns the generation that was blocked.
    pub(super) async fn halt_books(&self, rebuild: &str, reason: &str) -> Result<u64, LedgerError> {
        Ok(self.whole_books("halt", &[rebuild, reason]).await?.generation)
    }

    /// True while the books are blocked for this rebuild, and nobody has decided since.
    pub(super) async fn is_halted_for(&self, rebuild: &str) -> Result<bool, LedgerError> {
        let seen = self.whole_books("look", &[]).await?;
        Ok(seen.lost.is_some() && seen.by.as_deref() == Some(rebuild))
    }

    async fn whole_books(&self, mode: &str, args: &[&str]) -> Result<Seen, LedgerError> {
        let call = Call::new(&BOOKS, vec![names::books()]).arg(mode);
        let call = args.iter().fold(call, |call, arg| call.arg(*arg));
        let [id, generation, lost, at, by] = reply::array(self.call(&call).await?)?;
        let number = |value: Value| -> Result<Option<u64>, LedgerError> {
            reply::optional_text(value)?.map(|text| Words::new(&text).number()).transpose()
        };
        Ok(Seen {
            id: reply::optional_text(id)?,
            generation: number(generation)?.unwrap_or(0),
            lost: reply::optional_text(lost)?,
            at: number(at)?.and_then(|at| i64::try_from(at).ok()),
            by: reply::optional_text(by)?,
        })
    }

    /// Keys that each master has evicted, and why a master must not be used, if it must not.
    async fn servers(&self) -> Result<(BTreeMap<String, u64>, Option<String>), LedgerError> {
        let mut evicted = BTreeMap::new();
        let mut unfit = None;
        for info in self.link.ask_masters(&cmd("INFO"), self.link.deadline()).await? {
            let info = reply::text(info)?;
            let field = |name| check::field(&info, name).ok_or_else(|| reply::unexpected("INFO without a field"));
            let count = Words::new(field("evicted_keys")?).number()?;
            evicted.insert(field("run_id")?.to_string(), count);
            if let Err(error) = check::eviction(field("maxmemory_policy")?) {
                unfit = Some(error.to_string());
            }
        }
        Ok((evicted, unfit))
    }
}

pub(super) fn random_id() -> Result<String, LedgerError> {
    crate::secret::random_hex::<8>().map_err(|e| LedgerError::Unavailable(e.to_string()))
}

/// Why evictions mean that books are lost: a server threw keys away since it was looked at last, or, if this is its first time
/// and the books are older, ever.
fn eviction(known: &Whole, seen: &BTreeMap<String, u64>) -> Option<String> {
    known.id.as_ref()?;
    let more = |(run, count): (&String, &u64)| *count > known.evicted.get(run).copied().unwrap_or(0);
    seen.iter().any(more).then(|| "the server has thrown keys away because its memory was full".into())
}

fn find(known: &Whole, seen: &Seen) -> Finding {
    let lifted = known.id.is_none() && known.lost.is_some() && seen.lost.is_none();
    if lifted || seen.generation > known.generation && known.id.is_some() {
        return Finding::Accepted;
    }
    if let Some(reason) = &seen.lost {
        return Finding::Lost(reason.clone());
    }
    match (&known.id, &seen.id) {
        (None, None) => Finding::Begin,
        (None, Some(_)) => Finding::Same,
        (Some(_), None) => Finding::Lost("the ledger is empty, and was not before".into()),
        (Some(known), Some(seen)) if known != seen => {
            Finding::Lost("the ledger holds other books than those that this gateway has seen".into())
        }
        _ if seen.generation < known.generation => {
            Finding::Lost("the ledger is from before an operator accepted its books".into())
        }
        _ => match &known.lost {
            Some(reason) => Finding::Lost(reason.clone()),
            None => Finding::Same,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(id: Option<&str>, generation: u64) -> Whole {
        Whole { id: id.map(str::to_string), generation, ..Whole::default() }
    }

    fn seen(id: Option<&str>, generation: u64, lost: bool) -> Seen {
        let lost = lost.then(|| "said so".to_string());
        Seen { id: id.map(str::to_string), generation, lost, ..Seen::default() }
    }

    #[test]
    fn every_pair_of_what_is_known_and_what_is_seen() {
        let lost = |finding| matches!(finding, Finding::Lost(_));
        assert_eq!(find(&known(None, 0), &seen(None, 0, false)), Finding::Begin);
        assert_eq!(find(&known(None, 0), &seen(Some("a"), 9, false)), Finding::Same);
        assert!(lost(find(&known(None, 0), &seen(None, 0, true))));
        assert_eq!(find(&known(Some("a"), 5), &seen(Some("a"), 5, false)), Finding::Same);
        assert!(lost(find(&known(Some("a"), 5), &seen(None, 0, false))));
        assert!(lost(find(&known(Some("a"), 0), &seen(Some("b"), 0, false))));
        assert!(lost(find(&known(Some("a"), 5), &seen(Some("a"), 4, false))));
        assert!(lost(find(&known(Some("a"), 5), &seen(Some("a"), 5, true))));
        assert_eq!(find(&known(Some("a"), 5), &seen(Some("b"), 6, false)), Finding::Accepted);
        let mut blocked = known(Some("a"), 5);
        blocked.lost = Some("why".into());
        assert!(lost(find(&blocked, &seen(Some("a"), 5, false))));
        assert_eq!(find(&blocked, &seen(Some("a"), 6, false)), Finding::Accepted);
        blocked.id = None;
        assert!(lost(find(&blocked, &seen(None, 0, true))));
        assert_eq!(find(&blocked, &seen(Some("a"), 6, false)), Finding::Accepted);
    }

    #[test]
    fn evictions_count_from_the_first_look_and_only_for_books_that_were_known() {
        let server = |count| BTreeMap::from([("run".to_string(), count)]);
        assert_eq!(eviction(&known(None, 0), &server(7)), None);
        assert!(eviction(&known(Some("a"), 0), &server(7)).is_some());
        let mut before = known(Some("a"), 0);
        before.evicted = server(7);
        assert_eq!(eviction(&before, &server(7)), None);
        assert!(eviction(&before, &server(8)).is_some());
    }
}
