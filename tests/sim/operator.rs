//! Operators: the keys and teams of a plan, and edits in the middle of everything.

use loopers::clock::Window;
use loopers::ledger::{Edit, KeyRecord, Limits, NodeId, Policy, State, TeamRecord};
use loopers::money::Money;

use crate::mutant::Mutant;
use crate::plan::{self, KeyPlan};
use crate::task::at_once;
use crate::world::{World, hash_of};

fn limits(limits: [Option<u64>; 5]) -> Limits {
    Limits(limits.map(|limit| limit.map(Money::from_nano)))
}

/// Makes the teams and keys of the plan.
pub fn records(world: &mut World) {
    let clock = world.set_clock(0);
    for at in 0..world.plan.teams.len() {
        let (parent, of) = world.plan.teams[at];
        let record = TeamRecord {
            id: NodeId::from(&*format!("t_{at:016x}")),
            name: format!("team-{at}"),
            parent: parent.map(|parent| world.ids[parent].clone()),
            created_at: clock,
            state: State::Active,
            limits: limits(of),
        };
        let made = at_once(world.books.create_team(&record));
        world.judge(made.map_err(|error| error.to_string()));
        world.ids.push(record.id);
        world.audit.add_node(parent, of, 0, clock);
    }
    for key in 0..world.plan.keys.len() {
        let at = world.ids.len();
        world.secrets += 1;
        let KeyPlan { team, limits: of, overflow, session_budget, session_steps } = &world.plan.keys[key];
        let record = KeyRecord {
            id: NodeId::from(&*format!("k_{at:016x}")),
            name: format!("key-{at}"),
            hash: hash_of(world.secrets).hex(),
            team: team.map(|team| world.ids[team].clone()),
            created_at: clock,
            expires_at: None,
            state: State::Active,
            limits: limits(*of),
            policy: Policy {
                overflow: *overflow,
                session_budget: session_budget.map(Money::from_nano),
                session_steps: *session_steps,
                unlimited: true,
                ..Policy::default()
            },
        };
        let (team, of, secret) = (*team, *of, world.secrets);
        let made = at_once(world.books.create_key(&record));
        world.judge(made.map_err(|error| error.to_string()));
        world.ids.push(record.id);
        world.audit.add_node(team, of, secret, clock);
    }
    world.inspect(clock);
}

/// An operator changes something.
pub fn edit(world: &mut World) {
    let clock = world.set_clock(0);
    let node = world.rng.place(world.ids.len());
    let is_key = node >= world.plan.teams.len();
    world.counts.edits += 1;
    let pick = world.rng.below(10);
    world.note("edit", node as u64, pick);
    let id = world.ids[node].clone();
    if pick >= 9 && is_key {
        let (session, active) = (format!("run-{}", world.rng.below(3)), world.rng.chance(60));
        let state = if active { State::Active } else { State::Killed };
        let done = at_once(world.books.set_session_state(&id, &session, state));
        world.judge(done.map_err(|error| error.to_string()));
        world.audit.set_session(node, &session, active, clock);
        return world.inspect(clock);
    }
    let edit = match pick {
        0..5 => {
            let window = world.rng.place(5);
            let limit = world.rng.chance(75).then(|| plan::amount(&mut world.rng, 1, 10));
            world.audit.set_limit(node, window, limit, clock);
            Edit::Limits(vec![(Window::ALL[window], limit.map(Money::from_nano))])
        }
        5 if is_key => {
            world.secrets += 1;
            let secret = world.secrets;
            world.audit.set_secret(node, secret);
            Edit::Rotate(hash_of(secret))
        }
        _ => {
            // Revoking is for ever: one key in many.
            let states = [State::Active, State::Active, State::Active, State::Paused, State::Killed];
            let state = states[world.rng.place(5)];
            let state = if is_key && world.rng.chance(1) { State::Revoked } else { state };
            if world.audit.is_revoked(node) {
                return;
            }
            world.audit.set_state(node, state == State::Active, state == State::Revoked);
            let ignores = world.is(Mutant::IgnoresStops) && state != State::Active;
            if ignores { Edit::Limits(Vec::new()) } else { Edit::State(state) }
        }
    };
    let done = at_once(world.books.edit(&id, &edit));
    world.tell(|| format!("edit {id}: {edit:?} -> {done:?}"));
    world.judge(done.map_err(|error| error.to_string()));
    world.audit.edited(node, clock);
    world.inspect(clock);
}
