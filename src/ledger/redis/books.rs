//! Looking at the books: status, sessions, holds; and what keeps them true: sweep and probe.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::redis::{Value, cmd};

use super::calls::level_of;
use super::directory::{new_books, not_found, read_record};
use super::reply::{self, Words};
use super::script::{CREATE, Call, DUE, SESSION, STATUS};
use super::{RedisLedger, shape};
use crate::clock::{WINDOWS, Window};
use crate::ledger::names::{self, Tree};
use crate::ledger::{
    Charge, HoldBooks, HoldId, HoldInfo, HoldState, KeyRecord, KeyView, LedgerError, Limits, NodeId, NodeStatus,
    Policy, Recorder, Reserve, SessionStatus, Settled, State, Sweep, Verdict, WindowStatus,
};
use crate::money::Money;
use crate::secret::KeyHash;

/// The most trees that one sweep looks at; the next sweep goes on behind them.
const SWEEP_TREES: usize = 1024;
/// How many trees are listed at once.
const SCAN_COUNT: usize = 256;
/// After so long a probe's hold that was not released is charged to the probe's own budget.
const PROBE_TTL_MS: u64 = 60_000;

impl RedisLedger {
    /// See [`crate::ledger::Ledger::status`].
    pub async fn status(&self, id: &NodeId) -> Result<NodeStatus, LedgerError> {
        let chain = self.made_chain(id).await?;
        let (names, root_node) = tree_of(&chain)?;
        let call = Call::new(&STATUS, vec![root_node, names.node(id)]);
        let reply = self.framed(&call).await?;
        if reply == Value::BulkString(b"GONE".to_vec()) {
            return Err(not_found(id));
        }
        let [text, state, record] = reply::array(reply)?;
        let (text, state, record) = (reply::text(text)?, reply::text(state)?, reply::text(record)?);
        let name = read_record(id, &record)?.name().to_string();
        let state = State::from_name(&state).ok_or_else(|| reply::unexpected("a state that does not exist"))?;
        node_status(id, name, state, Words::new(&text))
    }

    /// See [`crate::ledger::Ledger::session`].
    pub async fn session(&self, key: &NodeId, session: &str) -> Result<Option<SessionStatus>, LedgerError> {
        self.session_call(key, session, None).await
    }

    /// See [`crate::ledger::Ledger::set_session_state`].
    pub async fn set_session_state(&self, key: &NodeId, session: &str, state: State) -> Result<(), LedgerError> {
        self.refuse_amid_rebuild().await?;
        self.refuse_on_lost_books().await?;
        self.session_call(key, session, Some(state)).await.map(drop)
    }

    async fn session_call(
        &self,
        key: &NodeId,
        session: &str,
        state: Option<State>,
    ) -> Result<Option<SessionStatus>, LedgerError> {
        if key.is_team() {
            return Err(not_found(key));
        }
        let chain = self.made_chain(key).await?;
        let (names, root_node) = tree_of(&chain)?;
        let mut call = Call::new(&SESSION, vec![root_node, names.session(key, session)]);
        if let Some(state) = state {
            call = call.arg(state.name());
        }
        let text = reply::text(self.timed(&call).await?)?;
        let mut words = Words::new(&text);
        match words.word()? {
            "SESSION" => {
                let state = words.state()?;
                let (spent, held, steps) = (words.money()?, words.money()?, words.number()?);
                let limit = words.optional_number()?.map(Money::from_nano);
                let steps_limit = words.optional_number()?;
                words.end(Some(SessionStatus { id: session.into(), state, limit, steps_limit, spent, held, steps }))
            }
            "NONE" => words.end(None),
            "REVOKED" => Err(LedgerError::Conflict(format!("session {session} is revoked, and stays so"))),
            _ => Err(words.bad()),
        }
    }

    /// See [`crate::ledger::Ledger::sweep`]. One call looks at up to 1,024 trees; the next one goes on behind them. A hold or tree that fails
    /// keeps no other from its end: the first such error is returned when all were seen. `told` hears of the holds before they are charged.
    pub async fn sweep(&self, most: usize, told: Option<&dyn Recorder>) -> Result<Sweep, LedgerError> {
        let usable = || self.guard.as_ref().map_or(Ok(()), |guard| guard.check());
        usable()?;
        let (mut done, mut failed) = (Sweep::default(), None);
        let mut cursor = self.sweep_cursor.load(Ordering::Relaxed);
        if cursor == 0 {
            let forgotten = self.due_of(vec![NodeId::from(names::PROBE)], SCAN_COUNT, &mut failed).await;
            self.expire_all(forgotten, &mut failed).await;
        }
        let mut seen = 0;
        while seen < SWEEP_TREES {
            let (next, roots) = self.scan_trees(cursor).await?;
            seen += roots.len().max(1);
            for part in roots.chunks(super::FAN_OUT) {
                let left = most.saturating_sub(usize::try_from(done.expired).unwrap_or(usize::MAX));
                if left == 0 {
                    // The trees behind are still to be seen: begin with these again.
                    self.sweep_cursor.store(cursor, Ordering::Relaxed);
                    return Ok(done);
                }
                let mut due = self.due_of(part.to_vec(), left, &mut failed).await;
                due.truncate(left);
                if let Some(recorder) = told {
                    // A rebuild that has begun meanwhile must not find a line of a hold that is not charged.
                    usable()?;
                    recorder.due(&due).await?;
                }
                for charged in self.expire_all(due, &mut failed).await {
                    done.expired += 1;
                    done.charged = done.charged.saturating_add(charged);
                }
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        self.sweep_cursor.store(cursor, Ordering::Relaxed);
        failed.map_or(Ok(done), Err)
    }

    /// Expires holds; the charges of those that were due.
    async fn expire_all(&self, holds: Vec<HoldBooks>, failed: &mut Option<LedgerError>) -> Vec<Money> {
        let charges = self.each_apart(holds, |ledger, hold| async move { ledger.expire(&hold.info).await }).await;
        succeeded(charges, failed).into_iter().flatten().collect()
    }

    /// The open holds of several trees that are due, at most `most` of each.
    async fn due_of(&self, roots: Vec<NodeId>, most: usize, failed: &mut Option<LedgerError>) -> Vec<HoldBooks> {
        let due = self.each_apart(roots, |ledger, root| async move { ledger.due(&root, most).await }).await;
        succeeded(due, failed).into_iter().flatten().collect()
    }

    /// The open holds of a tree that are due, at most `most`.
    async fn due(&self, root: &NodeId, most: usize) -> Result<Vec<HoldBooks>, LedgerError> {
        let names = Tree::of(root);
        let call = Call::new(&DUE, vec![names.node(root), names.open(), names.expired()]).arg(most as u64);
        let ids = reply::texts(self.timed(&call).await?)?;
        self.read_holds(&names, ids).await
    }

    /// See [`crate::ledger::Ledger::holds`].
    pub async fn holds(&self, most: usize) -> Result<Vec<HoldInfo>, LedgerError> {
        let mut holds = Vec::new();
        let mut cursor = 0;
        while holds.len() < most {
            let (next, roots) = self.scan_trees(cursor).await?;
            let found = self.each(roots, |ledger, root| async move { ledger.holds_of(&root, most).await }).await?;
            holds.extend(found.into_iter().flatten());
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        holds.truncate(most);
        Ok(holds)
    }

    pub(super) async fn holds_of(&self, root: &NodeId, most: usize) -> Result<Vec<HoldInfo>, LedgerError> {
        let names = Tree::of(root);
        let mut ids = Vec::new();
        for index in [names.open(), names.expired()] {
            let last = i64::try_from(most).map_or(-1, |most| most - 1);
            ids.extend(reply::texts(self.command(cmd("ZRANGE").arg(index).arg(0).arg(last)).await?)?);
        }
        let holds = self.read_holds(&names, ids).await?;
        let mut holds: Vec<HoldInfo> = holds.into_iter().map(|hold| hold.info).collect();
        holds.retain(|hold| hold.state != HoldState::Settled);
        Ok(holds)
    }

    /// Reads holds of one tree by id; those that have ended meanwhile are left out.
    async fn read_holds(&self, names: &Tree, ids: Vec<String>) -> Result<Vec<HoldBooks>, LedgerError> {
        let mut holds = Vec::with_capacity(ids.len());
        for part in ids.chunks(SCAN_COUNT) {
            let part: Vec<HoldId> = part.iter().map(|id| HoldId(id.as_str().into())).collect();
            let mut get = cmd("MGET");
            for id in &part {
                get.arg(names.hold(id));
            }
            let values = reply::list(self.command(&get).await?)?;
            if values.len() != part.len() {
                return Err(reply::unexpected("wrong number of holds"));
            }
            for (id, value) in part.iter().zip(values) {
                if let Some(packed) = reply::optional_bytes(value)? {
                    holds.extend(shape::read_hold(id, &packed)?);
                }
            }
        }
        Ok(holds)
    }

    /// Some roots of trees, and where to go on; 0 at the end.
    pub(super) async fn scan_trees(&self, cursor: u64) -> Result<(u64, Vec<NodeId>), LedgerError> {
        let reply = self.command(cmd("SSCAN").arg(names::trees()).arg(cursor).arg("COUNT").arg(SCAN_COUNT)).await?;
        let [next, roots] = reply::array(reply)?;
        let next = reply::text(next)?;
        let next = Words::new(&next).number()?;
        Ok((next, reply::texts(roots)?.iter().map(|root| NodeId::from(root.as_str())).collect()))
    }

    /// See [`crate::ledger::Ledger::probe`].
    pub async fn probe(&self) -> Result<(), LedgerError> {
        let ask = probe_ask(self.generation())?;
        let mut verdict = self.reserve(&ask).await?;
        if verdict == Verdict::Stale {
            self.create_probe(&ask.view).await?;
            verdict = self.reserve(&ask).await?;
        }
        if !matches!(verdict, Verdict::Held(_)) {
            return Err(LedgerError::Unavailable(format!("the probe's hold was not taken: {verdict:?}")));
        }
        let settled = self.settle(&ask.hold_ref(), Charge::Exact(Money::ZERO)).await?;
        if !matches!(settled, Settled::Applied { .. }) {
            return Err(LedgerError::Unavailable(format!("the probe's hold was not released: {settled:?}")));
        }
        // Nobody asks for this hold again: it need not be remembered.
        self.command(cmd("DEL").arg(Tree::of(&ask.view.key.id).hold(&ask.hold))).await.map(drop)
    }

    async fn create_probe(&self, view: &KeyView) -> Result<(), LedgerError> {
        let names = Tree::of(&view.key.id);
        let (hash, limits) = (view.hash.hex(), shape::pack_limits(&Limits::default())?);
        let call = Call::new(&CREATE, vec![names.node(&view.key.id), names.members()]).arg(view.key.id.as_str());
        let call = call.arg("v").arg(view.revision).arg("s").arg(State::Active.name()).arg("h").arg(&*hash);
        let call = call.arg("l").bytes(&limits).arg("w").bytes(&shape::EMPTY_BOOKS).arg("m").arg("1");
        let call = call.arg("b").arg(new_books()?);
        // EXISTS means that another gateway was first.
        self.call(&call).await.map(drop)
    }
}

/// A hold of one nano-dollar on the probe's own budget.
fn probe_ask(generation: u64) -> Result<Reserve, LedgerError> {
    let id = NodeId::from(names::PROBE);
    let hash = KeyHash::from_hex(&"0".repeat(64)).ok_or_else(|| reply::unexpected("a hash of zeros"))?;
    let key = KeyRecord {
        id: id.clone(),
        name: names::PROBE.into(),
        hash: hash.hex(),
        team: None,
        created_at: 0,
        expires_at: None,
        state: State::Active,
        limits: Limits::default(),
        policy: Policy::default(),
    };
    let one = Money::from_nano(1);
    Ok(Reserve {
        hold: HoldId::random()?,
        view: Arc::new(KeyView { hash, chain: vec![id], revision: 1, generation, key }),
        session: None,
        least: one,
        most: one,
        ttl_ms: PROBE_TTL_MS,
        note: names::PROBE.into(),
    })
}

/// The names of a chain's tree, and the key of its root node.
fn tree_of(chain: &[NodeId]) -> Result<(Tree, String), LedgerError> {
    let root = chain.last().ok_or_else(|| reply::unexpected("an empty chain"))?;
    let names = Tree::of(root);
    let root_node = names.node(root);
    Ok((names, root_node))
}

/// Reads the text of `lua/status.lua`.
fn node_status(id: &NodeId, name: String, state: State, mut words: Words<'_>) -> Result<NodeStatus, LedgerError> {
    if words.word()? != "BOOKS" {
        return Err(words.bad());
    }
    let mut windows: Vec<WindowStatus> = Vec::with_capacity(WINDOWS);
    for window in Window::ALL {
        let (started_at, spent, held) = (words.number()?, words.money()?, words.money()?);
        let (resets_at, limit) = (words.number()?, words.optional_number()?.map(Money::from_nano));
        windows.push(WindowStatus { window, limit, spent, held, started_at, resets_at });
    }
    let windows = windows.try_into().map_err(|_| words.bad())?;
    let (charged_total, overrun_total) = (words.money()?, words.money()?);
    words.end(NodeStatus { id: id.clone(), level: level_of(id), name, state, windows, charged_total, overrun_total })
}

/// What succeeded; the first error is kept.
fn succeeded<T>(results: Vec<Result<T, LedgerError>>, failed: &mut Option<LedgerError>) -> Vec<T> {
    let mut values = Vec::with_capacity(results.len());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) if failed.is_none() => *failed = Some(error),
            Err(_) => {}
        }
    }
    values
}
