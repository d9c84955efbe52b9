//! Journals whose lines tell more than one story, and some that something is wrong with.

mod due;
mod load;
mod records;
mod tail;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::line::{How, Line, VERSION};
use super::*;
use crate::clock::{Calendar, Clock, Millis, Window};
use crate::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};
use crate::ledger::rules::Counters;
use crate::ledger::{
    Carried, Carrier, Charge, Edit, HoldId, HoldState, Journalled, KeyRecord, KeyView, Ledger, Limits, NodeBooks,
    Policy, SessionAsk, SessionStatus, Snapshot, TeamRecord, Verdict,
};
use crate::money::Money;
use crate::secret::KeyHash;

const KEEP: Keep = Keep { file_bytes: 4_000, days: 62, queue: 8_192 };
const PATIENCE: Duration = Duration::from_secs(60);
const SESSIONS: [&str; 3] = ["a", "b", "c"];

fn memory(clock: &Clock) -> Ledger {
    let options = EmbeddedOptions {
        path: None,
        calendar: Calendar::utc(),
        clock: clock.clone(),
        role: Role::Gateway,
        queue: 4_096,
    };
    Ledger::Embedded(EmbeddedLedger::open(options).unwrap())
}

fn usd(nano: u64) -> Money {
    Money::from_nano(nano)
}

/// A connection to the books that may lose settlements, or their answers.
#[derive(Debug)]
struct Lossy {
    books: Ledger,
    /// So many of the next settlements do not arrive.
    requests: AtomicUsize,
    /// So many of the next ones are made, and no answer comes back.
    answers: AtomicUsize,
}

impl Lossy {
    fn to(books: &Ledger) -> Arc<Lossy> {
        Arc::new(Lossy { books: books.clone(), requests: AtomicUsize::new(0), answers: AtomicUsize::new(0) })
    }

    fn loses(count: &AtomicUsize) -> bool {
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

#[async_trait]
impl Carrier for Lossy {
    fn books(&self) -> &Ledger {
        &self.books
    }

    async fn reserve(&self, ask: &Reserve) -> Result<Verdict, LedgerError> {
        self.books.reserve(ask).await
    }

    async fn settle_all(&self, ends: &[(Arc<HoldRef>, Charge)]) -> Vec<Result<Settled, LedgerError>> {
        let lost = || ends.iter().map(|_| Err(LedgerError::Unavailable("lost".into()))).collect();
        if Lossy::loses(&self.requests) {
            return lost();
        }
        let done = self.books.settle_all(ends).await;
        if Lossy::loses(&self.answers) { lost() } else { done }
    }

    async fn pass(&self) -> Result<(), LedgerError> {
        Ok(())
    }
}

type Ends = Vec<(Arc<HoldRef>, Charge)>;

fn hold_line(id: &str, amount: u64, now: Millis, session: Option<&str>) -> Line {
    let session = session.map(|id| SessionLine { id: id.into(), budget: None, steps: None });
    Line::Hold(HoldLine {
        hold: HoldId(id.into()),
        chain: vec!["k_1".into()],
        session,
        amount: usd(amount),
        now,
        expires_at: now + 600_000,
        note: "openai/gpt".into(),
    })
}

fn due(id: &str, amount: u64, now: Millis) -> Line {
    let Line::Hold(hold) = hold_line(id, amount, now, None) else { unreachable!() };
    Line::Due(hold)
}

fn settling(id: &str, charge: Charge, at: Millis) -> Line {
    Line::Settling { hold: HoldId(id.into()), chain: vec!["k_1".into()], session: None, charge, at }
}

fn settle_of(id: &str, how: How, charged: u64, at: Millis) -> Line {
    Line::Settle { hold: HoldId(id.into()), how, charged: usd(charged), at }
}

fn file(folder: &Path, writer: &str, number: u64, at: Millis, lines: &[Line]) -> PathBuf {
    let path = folder.join(format!("journal-{number:06}.jsonl"));
    let mut text = String::new();
    for line in [&[Line::File { version: VERSION, writer: writer.into(), number, at }], lines].concat() {
        text += &(serde_json::to_string(&line).unwrap() + "\n");
    }
    std::fs::write(&path, text).unwrap();
    path
}

/// The books of `k_1` in its month, spent and held.
fn month(rebuilt: &Rebuilt) -> (u64, u64) {
    let books = rebuilt.books.nodes[0].counters.windows[Window::Monthly.index()];
    (books.spent.nano(), books.held.nano())
}

/// What each of these journals says of `k_1` in its month, spent and held, at `now`.
fn assert_told(now: Millis, journals: Vec<(Vec<Line>, (u64, u64))>) {
    // Not across the start of a month.
    if Calendar::utc().frame(now - 700_000).unwrap().starts[4] != Calendar::utc().frame(now).unwrap().starts[4] {
        return;
    }
    for (lines, expected) in journals {
        let lines = [&[record(1, key("k_1", None, State::Active))], &lines[..]].concat();
        assert_eq!(month(&books_of(now, now, 1, &lines).unwrap()), expected, "{lines:?}");
    }
}

#[test]
fn what_became_of_a_hold_is_told_whatever_the_order_of_the_lines() {
    let now = Clock::System.now();
    let exactly = |charge| settling("h", Charge::Exact(usd(charge)), now);
    let journals = vec![
        (vec![hold_line("h", 10, now, None)], (0, 10)),
        (vec![hold_line("h", 10, now - 700_000, None)], (10, 0)),
        (vec![settle_of("h", How::Applied, 4, now), hold_line("h", 10, now, None)], (4, 0)),
        (vec![hold_line("h", 10, now, None), settle_of("h", How::Already, 4, now)], (4, 0)),
        (
            vec![
                hold_line("h", 10, now, None),
                settle_of("h", How::Applied, 4, now),
                settle_of("h", How::Already, 4, now),
            ],
            (4, 0),
        ),
        (
            vec![
                settle_of("h", How::Already, 10, now),
                hold_line("h", 10, now - 700_000, None),
                settle_of("h", How::Corrected, 3, now),
            ],
            (3, 0),
        ),
        (vec![settle_of("h", How::Applied, 4, now)], (0, 0)),
        // Announced: made, whether or not its answer came back.
        (vec![hold_line("h", 10, now, None), exactly(4)], (4, 0)),
        (vec![exactly(4), hold_line("h", 10, now, None)], (4, 0)),
        (vec![hold_line("h", 10, now - 700_000, None), exactly(4)], (4, 0)),
        (vec![hold_line("h", 10, now, None), exactly(14)], (14, 0)),
        (vec![hold_line("h", 10, now, None), settling("h", Charge::Full, now)], (10, 0)),
        // The ledger said otherwise.
        (vec![hold_line("h", 10, now, None), exactly(4), settle_of("h", How::Already, 3, now)], (3, 0)),
        (vec![settle_of("h", How::Corrected, 3, now), exactly(4), hold_line("h", 10, now, None)], (3, 0)),
        // An operator was first.
        (vec![exactly(4), settle_of("h", How::Applied, 0, now), hold_line("h", 10, now, None)], (0, 0)),
        (vec![hold_line("h", 10, now, None), exactly(4), settle_of("h", How::Applied, 6, now)], (6, 0)),
        // The books did not know the hold, and said so twice.
        (vec![hold_line("h", 10, now, None), exactly(4), settle_of("h", How::Already, 0, now)], (4, 0)),
        (vec![settle_of("h", How::Already, 0, now), exactly(4), hold_line("h", 10, now, None)], (4, 0)),
        (vec![hold_line("h", 10, now, None), exactly(4), exactly(6), settle_of("h", How::Already, 0, now)], (6, 0)),
    ];
    assert_told(now, journals);
}

#[test]
fn what_was_told_twice_or_by_others_counts_once() {
    let now = Clock::System.now();
    let exactly = |charge| settling("h", Charge::Exact(usd(charge)), now);
    let journals = vec![
        // Sent again after its first answer was lost: in full, or as an operator wanted it.
        (
            vec![
                hold_line("h", 10, now - 700_000, None),
                settling("h", Charge::Full, now),
                settle_of("h", How::Already, 10, now),
            ],
            (10, 0),
        ),
        // Books that went back, and were accepted: what was done last counts.
        (
            vec![
                hold_line("h", 10, now, None),
                settle_of("h", How::Corrected, 3, now),
                settle_of("h", How::Corrected, 2, now - 1),
            ],
            (3, 0),
        ),
        (
            vec![
                hold_line("h", 10, now, None),
                settle_of("h", How::Corrected, 3, now - 1),
                settle_of("h", How::Corrected, 2, now),
            ],
            (2, 0),
        ),
        (
            vec![
                hold_line("h", 10, now, None),
                settle_of("h", How::Corrected, 3, now - 1),
                settle_of("h", How::Applied, 5, now),
            ],
            (5, 0),
        ),
        // Found due: by a gateway that may know of no line of it, and whatever its taker said or says.
        (vec![due("h", 10, now - 700_000)], (10, 0)),
        (vec![due("h", 10, now - 700_000), hold_line("h", 10, now - 690_000, None)], (10, 0)),
        (vec![hold_line("h", 10, now - 690_000, None), exactly(4), due("h", 10, now - 700_000)], (4, 0)),
        (vec![due("h", 10, now - 700_000), exactly(0)], (0, 0)),
        (
            vec![
                hold_line("h", 10, now - 690_000, None),
                exactly(4),
                settle_of("h", How::Corrected, 3, now),
                due("h", 10, now - 700_000),
                due("h", 10, now - 700_000),
            ],
            (3, 0),
        ),
    ];
    assert_told(now, journals);
}

/// The lines of a journal about the ends of holds, as JSON.
fn ends_in(folder: &Path) -> Vec<String> {
    let mut ends = Vec::new();
    for path in Files::find(&[folder.to_path_buf()]).unwrap().paths {
        let text = std::fs::read_to_string(path).unwrap();
        ends.extend(text.lines().filter(|line| line.starts_with(r#"{"line":"settl"#)).map(String::from));
    }
    ends
}

#[tokio::test]
async fn a_settlement_has_one_line_however_often_it_is_sent_and_one_more_if_it_did_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let books = memory(&Clock::System);
    let line = Lossy::to(&books);
    let gateway = Ledger::Journalled(Journalled {
        books: Arc::new(Ledger::Carried(Carried(line.clone()))),
        recorder: Arc::new(Journal::of_gateway(folder.path(), "aa", KEEP).unwrap()),
        patience: PATIENCE,
    });
    let hold = |id: &str| Arc::new(HoldRef { hold: HoldId(id.into()), chain: vec!["k_1".into()], session: None });
    let exactly = |charge| Charge::Exact(usd(charge));
    // Nobody knows these holds: the first settlement leaves a tombstone of nothing, the next one finds it.
    line.requests.store(3, Ordering::SeqCst);
    line.answers.store(1, Ordering::SeqCst);
    for sent in 1..=5 {
        let done = gateway.settle_all(&[(hold("sent-again"), exactly(0))]).await.remove(0);
        assert_eq!(done.is_ok(), sent == 5, "{done:?}");
        assert_eq!(ends_in(folder.path()).len(), 1, "sent {sent} times");
    }
    assert!(
        ends_in(folder.path())[0]
            .starts_with(r#"{"line":"settling","hold":"sent-again","chain":["k_1"],"charge":{"exact":0},"at":"#)
    );
    // It had been settled at another charge.
    gateway.settle_all(&[(hold("sent-again"), exactly(7))]).await.remove(0).unwrap();
    let ends = ends_in(folder.path());
    assert!(
        ends[1].contains(r#""charge":{"exact":7}"#) && ends[2].contains(r#""how":"already","charged":0"#),
        "{ends:?}"
    );
    // By an operator: what became of it is told, and nothing before.
    line.requests.store(6, Ordering::SeqCst);
    gateway.settle(&hold("sent-again"), exactly(0)).await.unwrap_err();
    assert_eq!(ends_in(folder.path()).len(), 3);
    gateway.settle(&hold("sent-again"), exactly(5)).await.unwrap();
    let ends = ends_in(folder.path());
    assert!(ends[3].contains(r#""how":"already","charged":0"#) && ends.len() == 4, "{ends:?}");
    // The answer to the first one is lost: the second finds what the first one did.
    line.answers.store(1, Ordering::SeqCst);
    gateway.settle(&hold("of-an-operator"), exactly(0)).await.unwrap();
    let ends = ends_in(folder.path());
    assert!(ends[4].contains(r#""how":"corrected","charged":0"#) && ends.len() == 5, "{ends:?}");
}

#[tokio::test]
async fn what_could_not_be_announced_is_told_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::of_gateway(folder.path(), "aa", KEEP).unwrap();
    let at = HoldRef { hold: HoldId("h".into()), chain: vec!["k_1".into()], session: None };
    let applied = Ok(Settled::Applied { charged: usd(4), held: usd(10) });
    journal.settled(&[(&at, Charge::Exact(usd(4)), &applied)], true).await;
    assert!(ends_in(folder.path()).is_empty());
    journal.settled(&[(&at, Charge::Exact(usd(4)), &applied)], false).await;
    assert!(ends_in(folder.path())[0].contains(r#""how":"applied","charged":4"#));
    let full = Journal::of_operator(Path::new("/dev/full"));
    assert!(!full.settling(&[(&at, Charge::Full)]).await);
}

#[test]
fn a_missing_file_a_doubled_one_and_a_late_beginning_are_refused() {
    let now = Clock::System.now();
    let month = Calendar::utc().frame(now).unwrap().starts[Window::Monthly.index()];
    let folder = tempfile::tempdir().unwrap();
    let paths = [1, 2, 3].map(|number| file(folder.path(), "aa", number, month + number as Millis, &[]));
    assert!(
        Files::find(&[paths[0].clone(), paths[2].clone()]).unwrap_err().contains("file 2 of gateway aa is missing")
    );
    let copy = folder.path().join("copy.jsonl");
    std::fs::copy(&paths[1], &copy).unwrap();
    assert!(Files::find(&[folder.path().to_path_buf()]).unwrap_err().contains("the same file"));
    assert!(Files::find(&[]).unwrap_err().contains("there is no journal"));
    let late = Files::find(&paths[1..]).unwrap();
    assert!(rebuild(&late, &Calendar::utc(), now).unwrap_err().contains("start of the month"));
}

#[test]
fn files_of_earlier_versions_are_read_and_later_ones_than_ours_are_not() {
    let now = Clock::System.now();
    let folder = tempfile::tempdir().unwrap();
    let lines = [hold_line("h", 10, now, None), settle_of("h", How::Applied, 4, now)];
    let path = file(folder.path(), "aa", 1, now, &lines);
    let text = std::fs::read_to_string(&path).unwrap();
    let with = |version: u32| {
        std::fs::write(&path, text.replace("\"version\":3", &format!("\"version\":{version}"))).unwrap();
        Files::find(&[folder.path().to_path_buf()])
    };
    for version in 1..=3 {
        let rebuilt = rebuild(&with(version).unwrap(), &Calendar::utc(), now).unwrap();
        assert_eq!(month(&rebuilt), (4, 0));
    }
    assert!(with(4).unwrap_err().contains("has version 4; this program reads versions 1 to 3"));
}

#[test]
fn a_session_that_may_be_older_than_the_journal_is_paused() {
    let now = Clock::System.now();
    let begun = now - 40 * 86_400_000;
    let folder = tempfile::tempdir().unwrap();
    let old = hold_line("h", 10, begun + 86_400_000, Some("old"));
    let used = hold_line("i", 10, begun + 25 * 86_400_000, Some("old"));
    let new = hold_line("j", 10, now - 5 * 86_400_000, Some("new"));
    file(folder.path(), "aa", 2, begun, &[old, used, new]);
    let files = Files::find(&[folder.path().to_path_buf()]).unwrap();
    let rebuilt = rebuild(&files, &Calendar::utc(), now).unwrap();
    assert_eq!(rebuilt.paused, [("k_1".into(), "old".into())]);
    assert_eq!(rebuilt.without_record, ["k_1".into()]);
    let states: Vec<(&str, State)> =
        rebuilt.books.sessions.iter().map(|session| (&*session.id, session.book.state)).collect();
    assert!(states.contains(&("old", State::Paused)) && states.contains(&("new", State::Active)), "{states:?}");
}

fn key(id: &str, team: Option<&str>, state: State) -> Node {
    Node::Key(KeyRecord {
        id: id.into(),
        name: id.into(),
        hash: "0".repeat(64),
        team: team.map(NodeId::from),
        created_at: 1,
        expires_at: None,
        state,
        limits: Limits::default(),
        policy: Policy::default(),
    })
}

fn record(revision: u64, node: Node) -> Line {
    match node {
        Node::Key(key) => Line::Key { revision, key },
        Node::Team(team) => Line::Team { revision, team },
    }
}

/// The books that one file of these lines makes.
fn books_of(now: Millis, since: Millis, number: u64, lines: &[Line]) -> Result<Rebuilt, String> {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "aa", number, since, lines);
    rebuild(&Files::find(&[folder.path().to_path_buf()])?, &Calendar::utc(), now)
}

#[test]
fn a_journal_that_begins_in_a_week_that_began_before_the_month_is_refused() {
    // Wednesday, 2 December 2026: its week began on Monday, 30 November.
    let now = 1_796_212_800_000;
    let monday = 1_795_996_800_000;
    let frame = Calendar::utc().frame(now).unwrap();
    assert_eq!(frame.starts[Window::Weekly.index()], monday);
    let lines = [hold_line("h", 10, monday + 80_000_000, None)];
    assert!(books_of(now, monday + 70_000_000, 2, &lines).unwrap_err().contains("and of the week"));
    assert!(books_of(now, monday, 2, &lines).is_ok());
}

#[test]
fn a_clock_that_was_put_back_hides_no_hold() {
    let hour = 3_600_000;
    let taken = Clock::System.now() / hour * hour + 1_000;
    let rebuilt = books_of(taken - 5_000, taken - 5_000, 1, &[hold_line("h", 10, taken, None)]).unwrap();
    let books = rebuilt.books.nodes[0].counters;
    assert_eq!((books.clock, books.windows[Window::Hourly.index()].held), (taken, usd(10)));
}

#[test]
fn only_the_end_of_a_file_may_be_cut_short() {
    let now = Clock::System.now();
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "aa", 1, now, &[hold_line("h", 10, now, None)]);
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, whole.clone() + "{\"line\":\"settle\",\"hold\":\"h\"").unwrap();
    let mut lines = 0;
    read::read(&path, |_| lines += 1).unwrap();
    assert_eq!(lines, 2);
    std::fs::write(&path, whole + "{\"line\":\"settle\"\n").unwrap();
    let problem = read::read(&path, |_| ()).unwrap_err();
    assert!(problem.contains("jsonl:3:"), "{problem}");
}

#[tokio::test]
async fn a_disk_that_takes_nothing_refuses_the_call() {
    let journal = Journal::of_operator(Path::new("/dev/full"));
    let problem = journal.write(&[settle_of("h", How::Applied, 1, 0)]).await.unwrap_err();
    assert!(problem.to_string().contains("the journal cannot be written"), "{problem}");
}
