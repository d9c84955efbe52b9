//! The verbs of a call's life but its end: reserve, standing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ::redis::Pipeline;

use super::guard::Claim;
use super::link::RedisFault;
use super::reply::{self, Words};
use super::script::{Call, RESERVE, STANDING};
use super::{RedisLedger, shape, wrong_frame};
use crate::clock::Window;
use crate::ledger::names::Tree;
use crate::ledger::{
    BudgetRefusal, Held, HoldRef, LedgerError, Level, NodeId, Refusal, Remaining, Reserve, Standing, State, Verdict,
};
use crate::money::Money;

/// The longest life of a hold, about 35 years: keeps every time exact in Lua.
const TTL_MS_MAX: u64 = 1 << 40;
/// The most keys that one `standing` call looks at.
const STANDING_KEYS: usize = 256;

impl RedisLedger {
    /// See [`crate::ledger::Ledger::reserve`].
    pub async fn reserve(&self, ask: &Reserve) -> Result<Verdict, LedgerError> {
        let (root, claim) = self.claim_of(&ask.view.chain)?;
        let text = reply::text(self.framed_as(&taking(ask, root, &claim), true).await?)?;
        verdict(ask, Words::new(self.noted(root, &claim, &text)?))
    }

    /// See [`crate::ledger::Ledger::reserve_all`]: one write to a standalone server.
    pub async fn reserve_all(&self, asks: &[Arc<Reserve>]) -> Vec<Result<Verdict, LedgerError>> {
        let done = match asks {
            [] => return Vec::new(),
            [ask] => return vec![self.reserve(ask).await],
            // The trees of a Cluster live on many servers, and one that cannot be reached is not to stop the others.
            _ if self.link.is_cluster() => {
                let one = |ledger: RedisLedger, ask: Arc<Reserve>| async move { Ok(ledger.reserve(&ask).await) };
                self.each(asks.to_vec(), one).await
            }
            _ => self.reserve_together(asks).await,
        };
        done.unwrap_or_else(|error| asks.iter().map(|_| Err(error.clone())).collect())
    }

    async fn reserve_together(&self, asks: &[Arc<Reserve>]) -> Result<Vec<Result<Verdict, LedgerError>>, LedgerError> {
        let claims: Vec<(&NodeId, Claim)> =
            asks.iter().map(|ask| self.claim_of(&ask.view.chain)).collect::<Result<_, _>>()?;
        let (offset, frame) = (self.frames.offset().to_string(), self.frames.current()?);
        let deadline = self.link.deadline();
        let mut commands = Pipeline::with_capacity(asks.len() + 1);
        for (ask, (root, claim)) in asks.iter().zip(&claims) {
            commands.add_command(taking(ask, root, claim).command(&[offset.as_bytes(), &frame], false));
        }
        if self.wait_replicas > 0 {
            commands.add_command(self.wait(deadline));
        }
        let replies = self.link.send_all(&commands, deadline).await?;
        if let Some(replicas) = replies.get(asks.len()) {
            self.enough(replicas)?;
        }
        let mut done = Vec::with_capacity(asks.len());
        for ((ask, (root, claim)), reply) in asks.iter().zip(&claims).zip(replies) {
            done.push(match reply.extract_error().map_err(|error| RedisFault::from(&error)) {
                // Nothing was taken: it is asked once more, with the frame of the tree's time.
                Ok(reply) if wrong_frame(&reply)?.is_some() => self.reserve(ask).await,
                Ok(reply) => {
                    let text = reply::text(reply);
                    text.and_then(|text| verdict(ask, Words::new(self.noted(root, claim, &text)?)))
                }
                Err(RedisFault::NoScript) => self.reserve(ask).await,
                Err(fault) => Err(fault.into()),
            });
        }
        Ok(done)
    }

    /// The root of a chain, and what this gateway knows of its tree.
    pub(super) fn claim_of<'a>(&self, chain: &'a [NodeId]) -> Result<(&'a NodeId, Claim), LedgerError> {
        let root = chain.last().ok_or_else(no_chain)?;
        Ok((root, self.claim(root)?))
    }

    /// A reply without the mark that may follow it, which is remembered; an error if this gateway knows better than the books.
    pub(super) fn noted<'a>(&self, root: &NodeId, claim: &Claim, reply: &'a str) -> Result<&'a str, LedgerError> {
        let Some(guard) = &self.guard else { return Ok(reply) };
        if let Some(found) = reply.strip_prefix("LOST ") {
            return Err(guard.contradicted(claim, root, found));
        }
        let Some((reply, mark)) = reply.split_once(" / ") else { return Ok(reply) };
        let mut words = Words::new(mark);
        let (books, count) = (words.word()?, words.number()?);
        guard.note(claim, root, books, count)?;
        words.end(reply)
    }

    /// See [`crate::ledger::Ledger::standing`].
    pub async fn standing(&self, holds: &[HoldRef]) -> Result<Vec<Standing>, LedgerError> {
        let mut trees: HashMap<&NodeId, Asked> = HashMap::new();
        for hold in holds {
            let root = hold.chain.last().ok_or_else(no_chain)?;
            trees.entry(root).or_default().add(hold);
        }
        let calls = trees.into_iter().flat_map(|(root, asked)| asked.calls(root)).collect();
        let answers = self.each_apart(calls, |ledger, call| async move { ledger.ask_standing(call).await }).await;
        // A tree that cannot be reached must not keep those of others from being stopped.
        let (answered, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        if let (true, Some(Err(error))) = (answered.is_empty(), failed.into_iter().next()) {
            return Err(error);
        }
        let words: HashMap<String, Word> = answered.into_iter().flatten().flatten().collect();
        holds.iter().map(|hold| stands(hold, &words)).collect()
    }

    /// Compares one tree with what is known of it.
    pub(super) async fn ask_tree(self, root: NodeId) -> Result<(), LedgerError> {
        let nodes = vec![Tree::of(&root).node(&root)];
        self.ask_standing(StandingCall { root, nodes, sessions: Vec::new() }).await.map(drop)
    }

    async fn ask_standing(self, ask: StandingCall) -> Result<Vec<(String, Word)>, LedgerError> {
        let keys: Vec<String> = ask.nodes.iter().chain(&ask.sessions).cloned().collect();
        let claim = self.claim(&ask.root)?;
        let call = Call::new(&STANDING, keys).arg(ask.nodes.len() as u64).arg(&*claim.field).bytes(&claim.known);
        let text = reply::text(self.framed(&call).await?)?;
        let mut words = Words::new(self.noted(&ask.root, &claim, &text)?);
        if words.word()? != "STANDING" {
            return Err(words.bad());
        }
        let mut answers = Vec::with_capacity(ask.nodes.len() + ask.sessions.len());
        for key in ask.nodes.into_iter().chain(ask.sessions) {
            answers.push((key, Word::read(&mut words)?));
        }
        words.end(answers)
    }
}

/// The call that takes a hold in the tree of `root`.
fn taking<'a>(ask: &'a Reserve, root: &NodeId, claim: &'a Claim) -> Call<'a> {
    let (view, tree) = (&*ask.view, Tree::of(root));
    let session = ask.session.as_ref();
    // No record has the revision 0: the view is stale, and says nothing against these books.
    let revision = if view.generation == claim.generation { view.revision } else { 0 };
    let mut keys = Vec::with_capacity(3 + view.chain.len());
    keys.push(tree.hold(&ask.hold));
    keys.push(tree.open());
    keys.extend(chain_keys(&tree, &view.chain, session.map(|session| &*session.id)));
    let most = countable(ask.most);
    let least = countable(ask.least).min(most);
    let call = Call::new(&RESERVE, keys)
        .arg(view.chain.len() as u64)
        .arg(&*ask.hold.0)
        .arg(view.hash.hex())
        .arg(revision)
        .arg(least)
        .arg(most)
        .arg(ask.ttl_ms.min(TTL_MS_MAX))
        .arg(shape::place(&view.chain, session.map(|session| &*session.id)))
        .arg(shape::short_note(&ask.note))
        .arg(&*claim.field)
        .bytes(&claim.known);
    let Some(session) = session else { return call };
    let most = Money::COUNTER_MAX;
    let budget = session.budget.map_or(shape::NONE, |budget| budget.min(most).nano());
    let steps = session.steps.map_or(shape::NONE, |steps| steps.min(most.nano()));
    call.arg(budget).arg(steps)
}

/// The tree of a chain.
fn tree_of(chain: &[NodeId]) -> Result<Tree, LedgerError> {
    chain.last().map(Tree::of).ok_or_else(no_chain)
}

pub(super) fn no_chain() -> LedgerError {
    LedgerError::Conflict("a hold must be taken from at least one node".into())
}

/// The keys of the nodes of a chain, and of the session of its first node.
fn chain_keys(tree: &Tree, chain: &[NodeId], session: Option<&str>) -> impl Iterator<Item = String> {
    let session = session.and_then(|session| chain.first().map(|key| tree.session(key, session)));
    chain.iter().map(|id| tree.node(id)).chain(session)
}

/// An amount as the scripts can count it. Whatever is above every limit stays above every limit.
pub(super) fn countable(amount: Money) -> u64 {
    amount.nano().min(shape::NONE)
}

/// Reads the reply of `lua/reserve.lua`.
fn verdict(ask: &Reserve, mut words: Words<'_>) -> Result<Verdict, LedgerError> {
    let chain = &ask.view.chain;
    let refusal = match words.word()? {
        "HELD" => return held(ask, words),
        "STALE" => return words.end(Verdict::Stale),
        "SPENT" => return words.end(Verdict::Spent),
        "STATE" => {
            let (level, id) = match node(chain, &mut words)? {
                Some(node) => (level_of(node), node.to_string()),
                None => (Level::Session, ask.session.as_ref().map(|s| s.id.to_string()).ok_or_else(|| words.bad())?),
            };
            Refusal::Stopped { level, id, state: words.state()? }
        }
        "EXPIRED" => Refusal::Expired(words.number()?),
        "STEPS" => Refusal::SessionSteps { limit: words.number()?, used: words.number()? },
        "SESSION" => Refusal::SessionBudget { limit: words.money()?, spent: words.money()?, held: words.money()? },
        "BUDGET" => {
            let id = node(chain, &mut words)?.ok_or_else(|| words.bad())?.clone();
            Refusal::Budget(BudgetRefusal {
                level: level_of(&id),
                id,
                window: window(&mut words)?.ok_or_else(|| words.bad())?,
                limit: words.money()?,
                spent: words.money()?,
                held: words.money()?,
                resets_at: words.number()?,
            })
        }
        _ => return Err(words.bad()),
    };
    words.end(Verdict::Refused(refusal))
}

fn held(ask: &Reserve, mut words: Words<'_>) -> Result<Verdict, LedgerError> {
    let (granted, now) = (words.money()?, words.number()?);
    let remaining = match words.next() {
        None => return Ok(Verdict::Held(Held { granted, remaining: None, now })),
        Some(amount) => Words::new(amount).money()?,
    };
    let level = node(&ask.view.chain, &mut words)?.map_or(Level::Session, level_of);
    let window = window(&mut words)?;
    if (level == Level::Session) != window.is_none() {
        return Err(words.bad());
    }
    let remaining = Some(Remaining { amount: remaining, level, window });
    words.end(Verdict::Held(Held { granted, remaining, now }))
}

/// The node at the place that the next word names, `None` for 0: the session.
fn node<'a>(chain: &'a [NodeId], words: &mut Words<'_>) -> Result<Option<&'a NodeId>, LedgerError> {
    match words.number::<usize>()? {
        0 => Ok(None),
        place => chain.get(place - 1).map(Some).ok_or_else(|| words.bad()),
    }
}

/// The window that the next word names, `None` for 0.
fn window(words: &mut Words<'_>) -> Result<Option<Window>, LedgerError> {
    match words.number::<usize>()? {
        0 => Ok(None),
        place => Window::ALL.get(place - 1).copied().map(Some).ok_or_else(|| words.bad()),
    }
}

/// The level of a node.
pub(super) fn level_of(id: &NodeId) -> Level {
    if id.is_team() { Level::Team } else { Level::Key }
}

/// What `lua/standing.lua` says of one node or session.
#[derive(Clone, Copy)]
enum Word {
    Good,
    Over,
    Stopped(State),
}

impl Word {
    fn read(words: &mut Words<'_>) -> Result<Word, LedgerError> {
        match words.word()? {
            "good" => Ok(Word::Good),
            "over" => Ok(Word::Over),
            // A key that is gone may spend nothing, now or later.
            "gone" => Ok(Word::Stopped(State::Revoked)),
            name => match State::from_name(name) {
                Some(state) if state != State::Active => Ok(Word::Stopped(state)),
                _ => Err(words.bad()),
            },
        }
    }
}

/// Where one hold stands, of what is known of its nodes and session.
fn stands(hold: &HoldRef, words: &HashMap<String, Word>) -> Result<Standing, LedgerError> {
    let tree = tree_of(&hold.chain)?;
    let mut standing = Standing::Good;
    for key in chain_keys(&tree, &hold.chain, hold.session.as_deref()) {
        match words.get(&key) {
            Some(Word::Stopped(state)) => return Ok(Standing::Stopped(*state)),
            Some(Word::Over) => standing = Standing::OverLimit,
            // What one part does not say hides nothing that another one says.
            None if standing == Standing::Good => standing = Standing::Unknown,
            None | Some(Word::Good) => {}
        }
    }
    Ok(standing)
}

/// The nodes and sessions of one tree that are asked for.
#[derive(Default)]
struct Asked {
    nodes: HashSet<String>,
    sessions: HashSet<String>,
}

/// One call of `lua/standing.lua`; its first node is the root.
struct StandingCall {
    root: NodeId,
    nodes: Vec<String>,
    sessions: Vec<String>,
}

impl Asked {
    fn add(&mut self, hold: &HoldRef) {
        let Some(root) = hold.chain.last() else { return };
        let tree = Tree::of(root);
        self.nodes.extend(hold.chain.iter().map(|id| tree.node(id)));
        if let (Some(key), Some(session)) = (hold.chain.first(), hold.session.as_deref()) {
            self.sessions.insert(tree.session(key, session));
        }
    }

    fn calls(mut self, tree: &NodeId) -> Vec<StandingCall> {
        let root = Tree::of(tree).node(tree);
        self.nodes.remove(&root);
        let nodes: Vec<String> = self.nodes.into_iter().collect();
        let sessions: Vec<String> = self.sessions.into_iter().collect();
        let mut calls: Vec<StandingCall> = Vec::new();
        let with_root = |more: &[String]| [std::slice::from_ref(&root), more].concat();
        for part in nodes.chunks(STANDING_KEYS) {
            calls.push(StandingCall { root: tree.clone(), nodes: with_root(part), sessions: Vec::new() });
        }
        for part in sessions.chunks(STANDING_KEYS) {
            calls.push(StandingCall { root: tree.clone(), nodes: with_root(&[]), sessions: part.to_vec() });
        }
        if calls.is_empty() {
            calls.push(StandingCall { root: tree.clone(), nodes: with_root(&[]), sessions: Vec::new() });
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::HoldId;

    #[test]
    fn a_part_that_does_not_answer_hides_no_stop() {
        let hold =
            HoldRef { hold: HoldId("h".into()), chain: vec!["k_1".into(), "t_1".into()], session: Some("s".into()) };
        let tree = tree_of(&hold.chain).unwrap();
        let session = tree.session(&"k_1".into(), "s");
        let [key, team] = ["k_1", "t_1"].map(|id| tree.node(&id.into()));
        let standing = |words: &[(&String, Word)]| {
            stands(&hold, &words.iter().map(|(key, word)| ((*key).clone(), *word)).collect()).unwrap()
        };
        assert_eq!(standing(&[(&key, Word::Good), (&team, Word::Good), (&session, Word::Good)]), Standing::Good);
        assert_eq!(standing(&[(&key, Word::Good), (&team, Word::Good)]), Standing::Unknown);
        assert_eq!(standing(&[(&team, Word::Stopped(State::Killed))]), Standing::Stopped(State::Killed));
        assert_eq!(standing(&[(&session, Word::Stopped(State::Paused))]), Standing::Stopped(State::Paused));
        assert_eq!(standing(&[(&session, Word::Over)]), Standing::OverLimit);
        assert_eq!(standing(&[(&key, Word::Over), (&team, Word::Good)]), Standing::OverLimit);
    }
}
