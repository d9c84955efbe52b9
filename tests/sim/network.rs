//! The wire's moods: what becomes of a message between a gateway and the ledger.

use crate::world::{Message, What, World, down};

/// What the network does with a message.
pub fn network(world: &mut World, message: Message) {
    let faults = if world.is_healing { 0 } else { world.plan.faults };
    let fate = if world.rng.chance(faults) { world.rng.below(6) } else { 6 + world.rng.below(4) };
    world.note("wire", message.gateway as u64, fate);
    match (&message.what, fate) {
        (What::Reserved(..) | What::Settled(..), fate) => {
            let is_lost = world.is_out || fate == 1;
            world.counts.answers_lost += u64::from(is_lost);
            message.answer(is_lost);
        }
        _ if message.is_late() && !world.is_out => carry_out(world, message),
        // Who waits for nothing is not told; the message is lost with the connection.
        _ if world.is_out => message.fail(),
        (_, 0) => {
            world.counts.requests_lost += 1;
            message.fail();
        }
        (_, 1) => {
            world.counts.answers_lost += 1;
            let copy = message.copy();
            message.fail();
            copy.into_iter().for_each(|copy| carry_out(world, copy));
        }
        // Whoever has no answer may send again; only the last answer comes back.
        (_, 2) => {
            world.counts.repeated += 1;
            message.copy().into_iter().for_each(|copy| carry_out(world, copy));
            world.net.push(message);
        }
        (_, 3 | 4) => {
            world.counts.delayed += 1;
            world.net.extend(message.copy());
            message.fail();
        }
        (_, 5) => {
            world.counts.refused_by_network += 1;
            message.fail();
        }
        _ => carry_out(world, message),
    }
}

/// More time has passed than a gateway waits for the ledger: what has no answer by now gets none, done or not.
pub fn time_out(world: &mut World) {
    let (late, waiting) = std::mem::take(&mut world.net).into_iter().partition(Message::is_late);
    world.net = late;
    for message in waiting {
        if world.rng.chance(50) {
            message.copy().into_iter().for_each(|copy| carry_out(world, copy));
        }
        match message.what {
            What::Reserved(..) | What::Settled(..) => message.answer(true),
            _ => message.fail(),
        }
    }
}

/// The ledger does what a message says; the answer goes at once, or later.
pub fn carry_out(world: &mut World, message: Message) {
    let gateway = message.gateway;
    let is_slow = !world.is_healing && world.rng.chance(30);
    match message.what {
        What::Reserve(ask, slot) => {
            let verdict = world.reserve(gateway, &ask);
            match slot {
                Some(slot) if is_slow => world.later(gateway, What::Reserved(verdict, slot)),
                Some(slot) => slot.put(verdict),
                None => {}
            }
        }
        What::Settle(ends, slot) => {
            let settled = world.settle(gateway, &ends);
            match slot {
                Some(slot) if is_slow => world.later(gateway, What::Settled(settled, slot)),
                Some(slot) => slot.put(settled),
                None => {}
            }
        }
        What::Pass(slot) => slot.put(Ok(())),
        what @ (What::Reserved(..) | What::Settled(..)) => Message { gateway, what }.answer(false),
    }
}

impl Message {
    /// Answers what waits for it, or tells it that there is no answer.
    fn answer(self, is_lost: bool) {
        match self.what {
            What::Reserved(verdict, slot) => slot.put(if is_lost { Err(down()) } else { verdict }),
            What::Settled(settled, slot) => {
                slot.put(if is_lost { settled.iter().map(|_| Err(down())).collect() } else { settled });
            }
            _ => {}
        }
    }

    /// Tells the sender that the ledger does not answer.
    fn fail(self) {
        match self.what {
            What::Reserve(_, Some(slot)) => slot.put(Err(down())),
            What::Settle(ends, Some(slot)) => slot.put(ends.iter().map(|_| Err(down())).collect()),
            What::Pass(slot) => slot.put(Err(down())),
            _ => {}
        }
    }

    /// The same for whom nobody waits any more.
    fn copy(&self) -> Option<Message> {
        let what = match &self.what {
            What::Reserve(ask, _) => What::Reserve(ask.clone(), None),
            What::Settle(ends, _) => What::Settle(ends.clone(), None),
            _ => return None,
        };
        Some(Message { gateway: self.gateway, what })
    }

    /// Nobody waits for it any more.
    pub fn forget_sender(&mut self) {
        match &mut self.what {
            What::Reserve(_, slot) => *slot = None,
            What::Settle(_, slot) => *slot = None,
            _ => {}
        }
    }
}
