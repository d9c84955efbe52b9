//! What a sum keeps in memory.

use std::collections::HashSet;

use super::*;
use crate::clock::Clock;

#[test]
fn holds_that_have_ended_take_no_memory() {
    let (calendar, now) = (Calendar::utc(), Clock::System.now());
    let frame = calendar.frame(now).unwrap();
    let later = HoldId("later".into());
    let disputed = Disputed { ends: HashSet::from([later.clone()]), ..Disputed::default() };
    let mut sum = Sum::new(&calendar, &frame, now, &disputed);
    for nth in 0..1000 {
        let hold = if nth == 500 { later.clone() } else { HoldId(format!("h{nth}").into()) };
        let (amount, chain) = (Money::from_nano(10), vec!["k_1".into()]);
        let (expires_at, note) = (now + 1_000, String::new());
        let line = HoldLine { hold: hold.clone(), chain, session: None, amount, now, expires_at, note };
        sum.take(Line::Hold(line));
        sum.take(Line::Settling {
            hold,
            chain: Vec::new(),
            session: None,
            charge: Charge::Exact(Money::from_nano(4)),
            at: now,
        });
    }
    assert_eq!((sum.open.len(), sum.ends.len(), sum.rebuilt.holds), (1, 1, 999));
    sum.take(Line::Settle { hold: later, how: How::Corrected, charged: Money::ZERO, at: now });
    assert_eq!((sum.open.len(), sum.ends.len(), sum.rebuilt.holds), (0, 0, 1000));
}
