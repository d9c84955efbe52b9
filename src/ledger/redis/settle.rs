//! Settlements: those of one tree go into one call of `lua/settle.lua`, as many as a group holds.

use std::collections::HashMap;
use std::sync::Arc;

use ::redis::Pipeline;

use super::calls::{countable, no_chain};
use super::guard::Claim;
use super::link::RedisFault;
use super::reply::{self, Words};
use super::script::{Call, SETTLE};
use super::{RedisLedger, shape};
use crate::ledger::{Charge, HoldInfo, HoldRef, LedgerError, NodeId, Settled};
use crate::money::Money;

/// The most holds of one script call: while it runs, the server does nothing else.
const GROUP_MAX: usize = 32;

/// How a settlement names its charge: the words of `lua/settle.lua`.
#[derive(Clone, Copy)]
enum Ending {
    Charged(Charge),
    Expired,
}

/// Holds of one tree that end together, no two of them the same.
#[derive(Clone)]
struct Group {
    root: NodeId,
    /// Each with its place among the settlements that were asked for.
    ends: Vec<(usize, Arc<HoldRef>, Charge)>,
}

type Answers = Vec<(usize, Result<Settled, LedgerError>)>;

impl Group {
    fn takes(&self, hold: &HoldRef) -> bool {
        self.ends.len() < GROUP_MAX && self.ends.iter().all(|(_, other, _)| other.hold != hold.hold)
    }

    fn call<'a>(&'a self, claim: &'a Claim) -> Call<'a> {
        let ends = self.ends.iter().map(|(_, at, charge)| (&**at, Ending::Charged(*charge)));
        ending(&self.root, ends, claim)
    }

    /// The same error for each.
    fn failed(&self, error: &LedgerError) -> Answers {
        self.ends.iter().map(|(place, ..)| (*place, Err(error.clone()))).collect()
    }
}

impl RedisLedger {
    /// See [`crate::ledger::Ledger::settle`]. A gateway is stopped by its trees during a rebuild, a command is not.
    pub async fn settle(&self, at: &HoldRef, charge: Charge) -> Result<Settled, LedgerError> {
        if self.guard.is_none() {
            self.refuse_amid_rebuild().await?;
        }
        self.settle_now(at, charge).await
    }

    pub(super) async fn settle_now(&self, at: &HoldRef, charge: Charge) -> Result<Settled, LedgerError> {
        let (root, claim) = self.claim_of(&at.chain)?;
        let call = ending(root, std::iter::once((at, Ending::Charged(charge))), &claim);
        let reply = reply::text(self.timed_confirmed(&call).await?)?;
        settled(at, self.noted(root, &claim, &reply)?)
    }

    /// See [`crate::ledger::Ledger::settle_all`]: one write to a standalone server, one call for each group.
    pub async fn settle_all(&self, ends: &[(Arc<HoldRef>, Charge)]) -> Vec<Result<Settled, LedgerError>> {
        let mut answers: Vec<Result<Settled, LedgerError>> = ends.iter().map(|_| Err(no_chain())).collect();
        let groups = grouped(ends);
        let done = if self.link.is_cluster() {
            // The trees of a Cluster live on many servers, and one that cannot be reached is not to stop the others.
            let one = |ledger: RedisLedger, groups: Vec<Group>| async move {
                let mut answers = Vec::new();
                for group in &groups {
                    answers.extend(ledger.settle_group(group).await);
                }
                Ok(answers)
            };
            self.each(by_tree(&groups), one).await
        } else {
            self.settle_together(&groups).await
        };
        let done = done.unwrap_or_else(|error| groups.iter().map(|group| group.failed(&error)).collect());
        for (place, answer) in done.into_iter().flatten() {
            answers[place] = answer;
        }
        answers
    }

    async fn settle_together(&self, groups: &[Group]) -> Result<Vec<Answers>, LedgerError> {
        let claims: Vec<Claim> = groups.iter().map(|group| self.claim(&group.root)).collect::<Result<_, _>>()?;
        let offset = self.frames.offset().to_string();
        let deadline = self.link.deadline();
        let mut commands = Pipeline::with_capacity(groups.len() + 1);
        for (group, claim) in groups.iter().zip(&claims) {
            commands.add_command(group.call(claim).command(&[offset.as_bytes()], false));
        }
        if self.wait_replicas > 0 {
            commands.add_command(self.wait(deadline));
        }
        let replies = self.link.send_all(&commands, deadline).await?;
        if let Some(replicas) = replies.get(groups.len()) {
            self.enough(replicas)?;
        }
        let mut done = Vec::with_capacity(groups.len());
        for ((group, claim), reply) in groups.iter().zip(&claims).zip(replies) {
            done.push(match reply.extract_error().map_err(|error| RedisFault::from(&error)) {
                Ok(reply) => self.answers(group, claim, reply).unwrap_or_else(|error| group.failed(&error)),
                Err(RedisFault::NoScript) => self.settle_group(group).await,
                Err(fault) => self.settle_each(group, fault.into()).await,
            });
        }
        Ok(done)
    }

    /// One group, in a call of its own.
    async fn settle_group(&self, group: &Group) -> Answers {
        let done = async {
            let claim = self.claim(&group.root)?;
            let reply = self.timed_confirmed(&group.call(&claim)).await?;
            self.answers(group, &claim, reply)
        };
        match done.await {
            Ok(answers) => answers,
            Err(error) => self.settle_each(group, error).await,
        }
    }

    /// After an error of a whole group: each on its own, so that one that cannot be settled stops no other.
    async fn settle_each(&self, group: &Group, error: LedgerError) -> Answers {
        if group.ends.len() == 1 || matches!(error, LedgerError::Lost(_)) {
            return group.failed(&error);
        }
        let one = |ledger: RedisLedger, (place, at, charge): (usize, Arc<HoldRef>, Charge)| async move {
            Ok((place, ledger.settle(&at, charge).await))
        };
        self.each(group.ends.clone(), one).await.unwrap_or_else(|error| group.failed(&error))
    }

    /// Reads the reply to a group.
    fn answers(&self, group: &Group, claim: &Claim, reply: ::redis::Value) -> Result<Answers, LedgerError> {
        let text = reply::text(reply)?;
        let mut lines = self.noted(&group.root, claim, &text)?.split('\n');
        let mut answers = Vec::with_capacity(group.ends.len());
        for (place, at, _) in &group.ends {
            let line = lines.next().ok_or_else(|| reply::unexpected("fewer answers than holds"))?;
            answers.push((*place, settled(at, line)));
        }
        match lines.next() {
            None => Ok(answers),
            Some(_) => Err(reply::unexpected("more answers than holds")),
        }
    }

    /// Charges one hold in full if it is due: how much, or `None` when it was not.
    pub(super) async fn expire(&self, hold: &HoldInfo) -> Result<Option<Money>, LedgerError> {
        let (root, claim) = self.claim_of(&hold.at.chain)?;
        let call = ending(root, std::iter::once((&hold.at, Ending::Expired)), &claim);
        let reply = reply::text(self.timed(&call).await?)?;
        // Nothing waits for replicas here: a failover that forgets this charge has lost no books, for the hold is found due again. So where
        // only confirmed writes count as seen, this one does not.
        let answer = if self.wait_replicas == 0 { &*reply } else { unmarked(&reply) };
        let mut words = Words::new(self.noted(root, &claim, answer)?);
        match words.word()? {
            "APPLIED" => {
                let (charged, _held) = (words.money()?, words.money()?);
                words.end(Some(charged))
            }
            "KEPT" => words.end(None),
            _ => Err(words.bad()),
        }
    }
}

/// A reply without the mark that may follow it.
fn unmarked(reply: &str) -> &str {
    reply.split_once(" / ").map_or(reply, |(answer, _)| answer)
}

/// Settlements by tree, in the order given: one that names a hold again comes in a later group of its tree. Those without a chain are in none.
fn grouped(ends: &[(Arc<HoldRef>, Charge)]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut last: HashMap<&NodeId, usize> = HashMap::new();
    for (place, (at, charge)) in ends.iter().enumerate() {
        let Some(root) = at.chain.last() else { continue };
        let end = (place, Arc::clone(at), *charge);
        match last.get(root).map(|group| &mut groups[*group]) {
            Some(group) if group.takes(at) => group.ends.push(end),
            _ => {
                last.insert(root, groups.len());
                groups.push(Group { root: root.clone(), ends: vec![end] });
            }
        }
    }
    groups
}

/// The groups of each tree, in their order.
fn by_tree(groups: &[Group]) -> Vec<Vec<Group>> {
    let mut trees: Vec<Vec<Group>> = Vec::new();
    let mut known: HashMap<&NodeId, usize> = HashMap::new();
    for group in groups {
        let at = *known.entry(&group.root).or_insert(trees.len());
        if at == trees.len() {
            trees.push(Vec::new());
        }
        trees[at].push(group.clone());
    }
    trees
}

/// The nodes or sessions of a call, each once: their places are counted from 1.
struct Places<T>(Vec<T>);

impl<T: PartialEq> Places<T> {
    fn of(&mut self, item: T) -> usize {
        match self.0.iter().position(|known| *known == item) {
            Some(at) => at + 1,
            None => {
                self.0.push(item);
                self.0.len()
            }
        }
    }
}

/// The call that ends holds of the tree of `root`.
fn ending<'a>(root: &'a NodeId, ends: impl Iterator<Item = (&'a HoldRef, Ending)>, claim: &'a Claim) -> Call<'a> {
    let tree = crate::ledger::names::Tree::of(root);
    let (mut nodes, mut sessions, mut holds) = (Places(Vec::new()), Places(Vec::new()), Vec::new());
    let mut args = Vec::new();
    for (at, ending) in ends {
        let session = at.session.as_deref();
        let cost = match ending {
            Ending::Charged(Charge::Exact(cost)) => countable(cost).to_string(),
            Ending::Charged(Charge::Full) => String::from("full"),
            Ending::Expired => String::from("expire"),
        };
        holds.push(tree.hold(&at.hold));
        // Nodes are counted below the root, whose place is known at the end.
        let below = &at.chain[..at.chain.len().saturating_sub(1)];
        let chain: Vec<usize> = below.iter().map(|id| nodes.of(id)).collect();
        let place = session.and_then(|id| at.chain.first().map(|key| sessions.of((key, id))));
        args.push((&*at.hold.0, cost, shape::place(&at.chain, session), chain, place.unwrap_or(0)));
    }
    let n = nodes.0.len() + 1;
    let mut keys = Vec::with_capacity(2 + n + sessions.0.len() + holds.len());
    keys.extend([tree.open(), tree.expired()]);
    keys.extend(nodes.0.iter().map(|id| tree.node(id)));
    keys.push(tree.node(root));
    keys.extend(sessions.0.iter().map(|(key, session)| tree.session(key, session)));
    keys.extend(holds);
    let mut call =
        Call::new(&SETTLE, keys).arg(n as u64).arg(sessions.0.len() as u64).arg(&*claim.field).bytes(&claim.known);
    for (hold, cost, place, chain, session) in args {
        let places = chain.into_iter().chain([n]);
        let chain: Vec<u8> = places.flat_map(|place| u16::try_from(place).unwrap_or(0).to_be_bytes()).collect();
        call = call.arg(hold).arg(cost).arg(place).made(chain).arg(session as u64);
    }
    call
}

/// Reads one line of the reply of `lua/settle.lua` to a true settlement.
fn settled(at: &HoldRef, line: &str) -> Result<Settled, LedgerError> {
    let mut words = Words::new(line);
    match words.word()? {
        "APPLIED" => {
            let done = Settled::Applied { charged: words.money()?, held: words.money()? };
            words.end(done)
        }
        "CORRECTED" => {
            let done = Settled::Corrected { charged: words.money()?, before: words.money()? };
            words.end(done)
        }
        "ALREADY" => {
            let done = Settled::Already { charged: words.money()? };
            words.end(done)
        }
        "UNKNOWN" => words.end(Settled::Unknown),
        "PLACE" => Err(LedgerError::Conflict(format!("the hold {} was taken from another place", at.hold))),
        _ => Err(words.bad()),
    }
}
