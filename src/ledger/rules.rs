//! The arithmetic of the books: one window, one node, one session. Pure, and without a clock or a store.
//!
//! Nothing here becomes negative and nothing wraps: counters stop at [`Money::COUNTER_MAX`], which is above every limit.

use crate::clock::{Frame, Millis, WINDOWS, Window};
use crate::money::Money;

use super::{Limits, SessionAsk, State};

/// How long a settled hold or a tombstone is remembered.
pub const SETTLED_KEPT_MS: Millis = 24 * 3_600_000;
/// How long an expired hold is remembered, and may be corrected.
pub const EXPIRED_KEPT_MS: Millis = 35 * 24 * 3_600_000;
/// How long a session is remembered after its last use.
pub const SESSION_KEPT_MS: Millis = 30 * 24 * 3_600_000;

/// The limit in force: a window without one stops where counters stop, so that no sum is ever inexact.
pub fn in_force(limit: Option<Money>) -> Money {
    limit.unwrap_or(Money::COUNTER_MAX).min(Money::COUNTER_MAX)
}

/// A counter plus an amount, held at [`Money::COUNTER_MAX`].
pub fn counted(counter: Money, amount: Money) -> Money {
    counter.saturating_add(amount).min(Money::COUNTER_MAX)
}

/// True when `spent + held + least` is above the limit.
pub fn exceeds(limit: Money, spent: Money, held: Money, least: Money) -> bool {
    // A sum that does not fit an integer is above every limit.
    spent.checked_add(held).and_then(|sum| sum.checked_add(least)).is_none_or(|sum| sum > limit)
}

/// What is left of a limit; nothing when it is passed.
pub fn left(limit: Money, spent: Money, held: Money) -> Money {
    limit.saturating_sub(spent).saturating_sub(held)
}

/// True when a running call must be cut: the limit is below what is spent, or nothing may be spent at all.
pub fn cuts(limit: Money, spent: Money) -> bool {
    limit.is_zero() || limit < spent
}

/// One window of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowBook {
    /// Where the window started.
    pub start: Millis,
    /// Spent since then.
    pub spent: Money,
    /// Held by calls that run.
    pub held: Money,
}

impl WindowBook {
    /// Starts anew where the calendar's window of this kind starts later by [`Window::rolls_after`]. Any other start, before or after its own,
    /// is that of the same window in another zone: it goes on.
    pub fn roll(&mut self, window: Window, start: Millis) {
        if rolls(window, self.start, start) {
            *self = WindowBook { start, ..WindowBook::default() };
        }
    }
}

/// Counters of a node: five windows and two totals. For the root of a tree also the tree's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The five windows, shortest first.
    pub windows: [WindowBook; WINDOWS],
    /// Everything ever charged.
    pub charged_total: Money,
    /// Everything charged beyond what was held.
    pub overrun_total: Money,
    /// The latest time that the tree has seen; only used on its root.
    pub clock: Millis,
}

impl Counters {
    /// Empty books in the windows of a frame.
    pub fn starting(frame: &Frame) -> Counters {
        Counters::default().rolled(frame)
    }

    /// The books as they stand in a frame: every window that has ended starts anew.
    #[must_use]
    pub fn rolled(mut self, frame: &Frame) -> Counters {
        for window in Window::ALL {
            self.windows[window.index()].roll(window, frame.starts[window.index()]);
        }
        self
    }

    /// Where each window started: what a hold remembers.
    pub fn starts(&self) -> [Millis; WINDOWS] {
        self.windows.map(|book| book.start)
    }

    /// The first window, shortest first, that has no room for `least`.
    pub fn refusing(&self, limits: &Limits, least: Money) -> Option<Window> {
        Window::ALL.into_iter().find(|window| {
            let book = &self.windows[window.index()];
            exceeds(in_force(limits.of(*window)), book.spent, book.held, least)
        })
    }

    /// The least money left over all five windows, with those that have no limit.
    pub fn room(&self, limits: &Limits) -> Money {
        Window::ALL.into_iter().fold(Money::COUNTER_MAX, |least, window| {
            let book = &self.windows[window.index()];
            least.min(left(in_force(limits.of(window)), book.spent, book.held))
        })
    }

    /// The least money left over the limits that are set; the shortest window of equals.
    pub fn tightest(&self, limits: &Limits) -> Option<(Money, Window)> {
        let mut tightest: Option<(Money, Window)> = None;
        for window in Window::ALL {
            let Some(limit) = limits.of(window) else { continue };
            let book = &self.windows[window.index()];
            let amount = left(limit, book.spent, book.held);
            if tightest.is_none_or(|(least, _)| amount < least) {
                tightest = Some((amount, window));
            }
        }
        tightest
    }

    /// True when a limit that is set is below what is spent, or is nothing.
    pub fn over_limit(&self, limits: &Limits) -> bool {
        Window::ALL
            .into_iter()
            .any(|window| limits.of(window).is_some_and(|limit| cuts(limit, self.windows[window.index()].spent)))
    }

    /// Holds an amount in every window.
    pub fn take(&mut self, amount: Money) {
        for book in &mut self.windows {
            book.held = counted(book.held, amount);
        }
    }

    /// Ends a hold: frees `amount` and charges `cost` in the windows that it was taken from and that still run.
    pub fn charge(&mut self, starts: &[Millis; WINDOWS], amount: Money, cost: Money) {
        for book in self.still(starts) {
            book.held = book.held.saturating_sub(amount);
            book.spent = counted(book.spent, cost);
        }
        self.charged_total = counted(self.charged_total, cost);
        self.overrun_total = counted(self.overrun_total, cost.saturating_sub(amount));
    }

    /// Puts the true cost in the place of a full charge that was `before`.
    pub fn correct(&mut self, starts: &[Millis; WINDOWS], before: Money, cost: Money) {
        for book in self.still(starts) {
            book.spent = replaced(book.spent, before, cost);
        }
        self.charged_total = replaced(self.charged_total, before, cost);
        self.overrun_total = counted(self.overrun_total, cost.saturating_sub(before));
    }

    /// The windows that have not rolled since a hold was taken.
    fn still<'a>(&'a mut self, starts: &'a [Millis; WINDOWS]) -> impl Iterator<Item = &'a mut WindowBook> {
        self.windows.iter_mut().zip(starts).filter(|(book, start)| book.start == **start).map(|(book, _)| book)
    }
}

/// A counter in which `cost` takes the place of `before`.
fn replaced(counter: Money, before: Money, cost: Money) -> Money {
    // Up and down apart: at the end of the range, adding first would lose what it saturates.
    if cost >= before {
        counted(counter, cost.saturating_sub(before))
    } else {
        counter.saturating_sub(before.saturating_sub(cost))
    }
}

/// When a window of a node ends: the next start of the calendar that makes it roll.
pub fn resets_at(frame: &Frame, window: Window, start: Millis) -> Millis {
    let i = window.index();
    // A window that started at another time than the calendar's (another zone was configured) may have to wait for the start after next.
    if rolls(window, start, frame.ends[i]) { frame.ends[i] } else { frame.next_ends[i] }
}

fn rolls(window: Window, own: Millis, start: Millis) -> bool {
    start.saturating_sub(own) >= window.rolls_after()
}

/// The books of one session of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionBook {
    /// Spent.
    pub spent: Money,
    /// Held by calls that run.
    pub held: Money,
    /// Calls made.
    pub steps: u64,
    /// Whether it may spend.
    pub state: State,
    /// The tightest budget ever asked for.
    pub budget: Option<Money>,
    /// The fewest steps ever asked for.
    pub steps_limit: Option<u64>,
    /// Holds that are open: with one of them the session is not forgotten.
    pub open: u64,
    /// When it was used last.
    pub used_at: Millis,
    /// When it began: tells it from an earlier one of the same name that was forgotten.
    pub born: Millis,
}

impl SessionBook {
    /// A session that begins now.
    pub fn new(now: Millis) -> SessionBook {
        SessionBook { born: now, ..SessionBook::default() }
    }

    /// The session with the limits of a call: the least ever asked for stays.
    #[must_use]
    pub fn tightened(mut self, ask: &SessionAsk) -> SessionBook {
        self.budget = least_of(self.budget, ask.budget);
        self.steps_limit = least_of(self.steps_limit, ask.steps);
        self
    }

    /// The step limit that has no room for one more call.
    pub fn refusing_step(&self) -> Option<u64> {
        // At the end of the range there is no next step to count, so there is none to take.
        self.steps_limit.filter(|limit| self.steps.checked_add(1).is_none_or(|next| next > *limit))
    }

    /// The budget that has no room for `least`.
    pub fn refusing(&self, least: Money) -> Option<Money> {
        self.budget.filter(|budget| exceeds(in_force(Some(*budget)), self.spent, self.held, least))
    }

    /// What is left of the budget; `None` without one.
    pub fn left(&self) -> Option<Money> {
        self.budget.map(|budget| left(in_force(Some(budget)), self.spent, self.held))
    }

    /// True when the budget is below what is spent, or is nothing.
    pub fn over_limit(&self) -> bool {
        self.budget.is_some_and(|budget| cuts(budget, self.spent))
    }

    /// Counts a call and its hold.
    pub fn take(&mut self, amount: Money, now: Millis) {
        self.held = counted(self.held, amount);
        self.steps = self.steps.saturating_add(1);
        self.open = self.open.saturating_add(1);
        self.used_at = now;
    }

    /// Ends a hold.
    pub fn charge(&mut self, amount: Money, cost: Money, now: Millis) {
        self.held = self.held.saturating_sub(amount);
        self.spent = counted(self.spent, cost);
        self.open = self.open.saturating_sub(1);
        self.used_at = now;
    }

    /// Puts the true cost in the place of a full charge that was `before`.
    pub fn correct(&mut self, before: Money, cost: Money, now: Millis) {
        self.spent = replaced(self.spent, before, cost);
        self.used_at = now;
    }

    /// True when nothing needs the session any more.
    pub fn is_forgotten(&self, now: Millis) -> bool {
        self.open == 0 && self.used_at.saturating_add(SESSION_KEPT_MS) <= now
    }
}

/// The least of two limits, either of which may be missing.
fn least_of<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = Money::COUNTER_MAX.nano();

    fn usd(nano: u64) -> Money {
        Money::from_nano(nano)
    }

    fn frame(starts: Millis) -> Frame {
        Frame { starts: [starts; WINDOWS], ends: [starts + 100; WINDOWS], next_ends: [starts + 200; WINDOWS] }
    }

    #[test]
    fn a_sum_beside_its_limit() {
        for (limit, spent, held, least, refused, remains) in [
            (10, 0, 0, 10, false, 10),
            (10, 0, 0, 11, true, 10),
            (10, 4, 5, 1, false, 1),
            (10, 4, 5, 2, true, 1),
            (10, 10, 0, 0, false, 0),
            (10, 11, 0, 0, true, 0),
            (0, 0, 0, 0, false, 0),
            (0, 0, 0, 1, true, 0),
            (MAX, MAX, 0, 1, true, 0),
            (MAX, MAX - 1, 0, 1, false, 1),
            (MAX, 1, 1, u64::MAX, true, MAX - 2),
            (5, MAX, MAX, 0, true, 0),
        ] {
            assert_eq!(
                exceeds(usd(limit), usd(spent), usd(held), usd(least)),
                refused,
                "{limit} {spent} {held} {least}"
            );
            assert_eq!(left(usd(limit), usd(spent), usd(held)), usd(remains), "{limit} {spent} {held}");
        }
    }

    #[test]
    fn a_window_rolls_forward_only() {
        for window in Window::ALL {
            let least = window.rolls_after();
            for (own, calendar, rolled) in
                [(0, least, true), (0, least - 1, false), (5, 5, false), (9 * least, 5, false)]
            {
                let mut book = WindowBook { start: own, spent: usd(7), held: usd(3) };
                book.roll(window, calendar);
                let after = if rolled { (calendar, usd(0), usd(0)) } else { (own, usd(7), usd(3)) };
                assert_eq!((book.start, book.spent, book.held), after, "{window:?} {own} {calendar}");
            }
        }
    }

    #[test]
    fn a_window_ends_at_the_next_start_that_rolls_it() {
        let day = 24 * 3_600_000;
        let frame = Frame { starts: [0; WINDOWS], ends: [day; WINDOWS], next_ends: [2 * day; WINDOWS] };
        let hours = |hours: i64| hours * 3_600_000;
        for (start, end) in [(0, day), (hours(-5), day), (hours(2), day), (hours(3), 2 * day), (day, 2 * day)] {
            assert_eq!(resets_at(&frame, Window::Daily, start), end, "{start}");
        }
    }

    #[test]
    fn a_charge_reaches_only_the_windows_of_its_hold() {
        let mut node = Counters::starting(&frame(100));
        let starts = node.starts();
        node.take(usd(10));
        node.windows[0].roll(Window::Minute, 60_100);
        node.charge(&starts, usd(10), usd(4));
        assert_eq!(node.windows[0], WindowBook { start: 60_100, ..WindowBook::default() });
        assert!(node.windows[1..].iter().all(|book| book.spent == usd(4) && book.held.is_zero()));
        assert_eq!((node.charged_total, node.overrun_total), (usd(4), Money::ZERO));
    }

    #[test]
    fn costs_beside_holds() {
        // held, cost of the charge, corrected to → spent, total, overrun
        for (amount, cost, truth, spent, total, overrun) in [
            (10, 10, None, 10, 10, 0),
            (10, 0, None, 0, 0, 0),
            (10, 13, None, 13, 13, 3),
            (10, 10, Some(4), 4, 4, 0),
            (10, 10, Some(0), 0, 0, 0),
            (10, 10, Some(12), 12, 12, 2),
            (10, MAX, None, MAX, MAX, MAX - 10),
            (0, 0, Some(5), 5, 5, 5),
        ] {
            let mut node = Counters::starting(&frame(0));
            let starts = node.starts();
            node.take(usd(amount));
            node.charge(&starts, usd(amount), usd(cost));
            if let Some(truth) = truth {
                node.correct(&starts, usd(amount), usd(truth));
            }
            let seen = (node.windows[4].spent, node.charged_total, node.overrun_total);
            assert_eq!(seen, (usd(spent), usd(total), usd(overrun)), "{amount} {cost} {truth:?}");
            assert!(node.windows.iter().all(|book| book.held.is_zero()));
        }
    }

    #[test]
    fn counters_saturate_and_never_become_negative() {
        let mut node = Counters::starting(&frame(0));
        let starts = node.starts();
        node.charge(&starts, usd(50), usd(u64::MAX));
        node.charge(&starts, usd(50), usd(1));
        assert_eq!(node.windows[0].spent, Money::COUNTER_MAX);
        assert_eq!(node.overrun_total, Money::COUNTER_MAX);
        node.correct(&starts, usd(u64::MAX), usd(0));
        assert_eq!((node.windows[0].spent, node.charged_total), (Money::ZERO, Money::ZERO));
        node.take(usd(u64::MAX));
        assert_eq!(node.windows[0].held, Money::COUNTER_MAX);
    }

    #[test]
    fn limits_are_checked_shortest_first_and_ties_go_to_the_first() {
        let limits = Limits([None, Some(usd(10)), Some(usd(8)), None, Some(usd(8))]);
        let mut node = Counters::starting(&frame(0));
        node.take(usd(5));
        assert_eq!(node.refusing(&limits, usd(3)), None);
        assert_eq!(node.refusing(&limits, usd(4)), Some(Window::Daily));
        assert_eq!(node.refusing(&limits, usd(6)), Some(Window::Hourly));
        assert_eq!(node.refusing(&Limits::default(), usd(MAX)), Some(Window::Minute));
        assert_eq!(node.room(&limits), usd(3));
        assert_eq!(node.room(&Limits::default()), usd(MAX - 5));
        assert_eq!(node.tightest(&limits), Some((usd(3), Window::Daily)));
        assert_eq!(node.tightest(&Limits::default()), None);
    }

    #[test]
    fn a_running_call_is_cut_by_a_limit_below_what_is_spent_or_of_nothing() {
        for (limit, spent, cut) in [(10, 10, false), (9, 10, true), (0, 0, true), (1, 0, false)] {
            assert_eq!(cuts(usd(limit), usd(spent)), cut, "{limit} {spent}");
        }
    }

    #[test]
    fn a_session_keeps_the_tightest_limits() {
        let ask = |budget: Option<u64>, steps| SessionAsk { id: "s".into(), budget: budget.map(usd), steps };
        let book = SessionBook::default().tightened(&ask(Some(10), None)).tightened(&ask(None, Some(2)));
        let book = book.tightened(&ask(Some(20), Some(5)));
        assert_eq!((book.budget, book.steps_limit), (Some(usd(10)), Some(2)));
        let mut book = book.tightened(&ask(Some(6), None));
        book.take(usd(4), 1);
        assert_eq!((book.refusing_step(), book.refusing(usd(2)), book.left()), (None, None, Some(usd(2))));
        assert_eq!(book.refusing(usd(3)), Some(usd(6)));
        book.take(usd(2), 2);
        assert_eq!(book.refusing_step(), Some(2));
        book.charge(usd(4), usd(7), 3);
        book.charge(usd(2), usd(2), 4);
        assert_eq!((book.spent, book.held, book.open, book.over_limit()), (usd(9), Money::ZERO, 0, true));
        book.correct(usd(2), usd(0), 5);
        assert_eq!((book.spent, book.used_at), (usd(7), 5));
    }

    #[test]
    fn a_session_is_forgotten_thirty_days_after_its_last_use_but_never_with_a_hold_open() {
        let mut book = SessionBook::default();
        book.take(usd(0), 0);
        assert!(!book.is_forgotten(SESSION_KEPT_MS * 2));
        book.charge(usd(0), usd(0), 5);
        assert!(!book.is_forgotten(SESSION_KEPT_MS + 4));
        assert!(book.is_forgotten(SESSION_KEPT_MS + 5));
    }
}
