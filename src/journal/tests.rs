//! Random loads whose journals must give back the very books; and journals that something is wrong with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::line::{How, Line};
use super::*;
use crate::clock::{Calendar, Clock, Millis, Window};
use crate::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};
use crate::ledger::{
    Charge, Edit, HoldId, Journalled, KeyRecord, KeyView, Ledger, Limits, Policy, SessionAsk, SessionStatus,
    TeamRecord, Verdict,
};
use crate::money::Money;
use crate::secret::KeyHash;

const KEEP: Keep = Keep { file_bytes: 4_000, days: 62, queue: 8_192 };
const SESSIONS: [&str; 3] = ["a", "b", "c"];

/// SplitMix64: the same seed gives the same run.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

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

/// One ledger behind two gateways, each with a journal of its own.
struct Load {
    rng: Rng,
    clock: Clock,
    books: Ledger,
    gateways: Vec<Ledger>,
    nodes: Vec<NodeId>,
    hashes: Vec<KeyHash>,
    open: Vec<Arc<HoldRef>>,
}

impl Load {
    async fn new(seed: u64, state: &Path) -> Load {
        // A second in a minute that has begun in the last month, so that every window can roll.
        let mut rng = Rng(seed);
        let clock = Clock::manual(Clock::System.now() - rng.below(20_000_000) as Millis);
        let books = memory(&clock);
        let mut gateways = Vec::new();
        for writer in ["00000000000000aa", "00000000000000bb"] {
            let folder = state.join(format!("gateway-{writer}"));
            std::fs::create_dir_all(&folder).unwrap();
            let recorder = Arc::new(Journal::of_gateway(&folder, writer, KEEP).unwrap());
            gateways.push(Ledger::Journalled(Journalled { books: Arc::new(books.clone()), recorder }));
        }
        let recorder = Arc::new(Journal::of_operator(&state.join("operator.jsonl")));
        let operator = Ledger::Journalled(Journalled { books: Arc::new(books.clone()), recorder });
        let mut load = Load { rng, clock, books, gateways, nodes: Vec::new(), hashes: Vec::new(), open: Vec::new() };
        load.people(&operator).await;
        load.gateways.push(operator);
        load
    }

    async fn people(&mut self, operator: &Ledger) {
        let mut limits = Limits::default();
        limits.0[Window::Daily.index()] = Some(usd(1_000_000));
        for (i, parent) in [None, Some(0), None].into_iter().enumerate() {
            let id = NodeId::from(format!("t_{i}").as_str());
            let parent = parent.map(|at: usize| self.nodes[at].clone());
            let name = format!("team {i}");
            let team =
                TeamRecord { id: id.clone(), name, parent, created_at: i as Millis, state: State::Active, limits };
            operator.create_team(&team).await.unwrap();
            self.nodes.push(id);
        }
        for (i, team) in [Some(0), Some(1), Some(1), Some(2), None].into_iter().enumerate() {
            let id = NodeId::from(format!("k_{i}").as_str());
            let hash = KeyHash::from_hex(&format!("{i:064x}")).unwrap();
            let key = KeyRecord {
                id: id.clone(),
                name: format!("key {i}"),
                hash: hash.hex(),
                team: team.map(|at: usize| self.nodes[at].clone()),
                created_at: 10 + i as Millis,
                expires_at: None,
                state: State::Active,
                limits: Limits::default(),
                policy: Policy::default(),
            };
            operator.create_key(&key).await.unwrap();
            self.nodes.push(id);
            self.hashes.push(hash);
        }
    }

    async fn step(&mut self) {
        let gateway = self.gateways[self.rng.below(2) as usize].clone();
        match self.rng.below(20) {
            0..=8 => self.reserve(&gateway).await,
            9..=15 => self.settle(&gateway).await,
            16 => drop(gateway.sweep(10).await.unwrap()),
            17 => self.clock.set(self.clock.now() + self.rng.below(4_000_000) as Millis),
            18 => self.edit().await,
            _ => self.session().await,
        }
    }

    async fn reserve(&mut self, gateway: &Ledger) {
        let hash = self.hashes[self.rng.below(5) as usize];
        let view: KeyView = gateway.key_by_hash(&hash).await.unwrap().unwrap();
        let session = (self.rng.below(2) == 0).then(|| SessionAsk {
            id: SESSIONS[self.rng.below(3) as usize].into(),
            budget: (self.rng.below(3) == 0).then(|| usd(50_000 + self.rng.below(100_000))),
            steps: (self.rng.below(3) == 0).then(|| 20 + self.rng.below(60)),
        });
        let most = self.rng.below(3_000);
        let ask = Reserve {
            hold: HoldId::random().unwrap(),
            view: Arc::new(view),
            session,
            least: usd(most / 2),
            most: usd(most),
            ttl_ms: 1_000 + self.rng.below(8_000_000),
            note: "openai/gpt".into(),
        };
        if let Verdict::Held(_) = gateway.reserve(&ask).await.unwrap() {
            self.open.push(Arc::new(ask.hold_ref()));
        }
    }

    async fn settle(&mut self, gateway: &Ledger) {
        if self.open.is_empty() {
            return;
        }
        let mut ends = Vec::new();
        for _ in 0..=self.rng.below(3) {
            let at = self.open[self.rng.below(self.open.len() as u64) as usize].clone();
            // Now and then more than was held, and now and then a second time.
            let charge = if self.rng.below(5) == 0 { Charge::Full } else { Charge::Exact(usd(self.rng.below(3_100))) };
            ends.push((at, charge));
        }
        for done in gateway.settle_all(&ends).await {
            done.unwrap();
        }
        if self.rng.below(4) > 0 {
            self.open.retain(|at| *at != ends[0].0);
        }
    }

    async fn edit(&mut self) {
        let node = self.nodes[self.rng.below(8) as usize].clone();
        let limit = usd(500_000 + self.rng.below(1_000_000));
        let edit = Edit::Limits(vec![(Window::ALL[self.rng.below(5) as usize], Some(limit))]);
        self.gateways[2].edit(&node, &edit).await.unwrap();
    }

    async fn session(&mut self) {
        let key = self.nodes[3 + self.rng.below(5) as usize].clone();
        let session = SESSIONS[self.rng.below(3) as usize];
        let state = if self.rng.below(3) == 0 { State::Paused } else { State::Active };
        self.gateways[2].set_session_state(&key, session, state).await.unwrap();
    }

    async fn sessions(&self, ledger: &Ledger) -> Vec<Option<SessionStatus>> {
        let mut sessions = Vec::new();
        for key in &self.nodes[3..] {
            for session in SESSIONS {
                sessions.push(ledger.session(key, session).await.unwrap());
            }
        }
        sessions
    }

    /// Both ledgers have the same books, to the nano-dollar, in every level and window.
    async fn assert_same(&self, other: &Ledger) {
        assert_eq!(self.books.nodes().await, other.nodes().await);
        for id in &self.nodes {
            assert_eq!(self.books.status(id).await, other.status(id).await);
            assert_eq!(self.books.record(id).await, other.record(id).await);
        }
        assert_eq!(self.sessions(&self.books).await, self.sessions(other).await);
        let mut holds = [self.books.holds(10_000).await.unwrap(), other.holds(10_000).await.unwrap()];
        for list in &mut holds {
            list.sort_by(|a, b| a.at.hold.cmp(&b.at.hold));
        }
        assert_eq!(holds[0].len(), holds[1].len());
        for (here, there) in holds[0].iter().zip(&holds[1]) {
            assert_eq!(here, there);
        }
    }
}

#[tokio::test]
async fn a_random_load_is_rebuilt_to_the_nano_dollar() {
    for seed in 0..12 {
        let state = tempfile::tempdir().unwrap();
        let mut load = Load::new(seed, state.path()).await;
        for _ in 0..400 {
            load.step().await;
        }
        load.books.sweep(100_000).await.unwrap();
        let files = Files::find(&[state.path().to_path_buf()]).unwrap();
        assert_eq!((files.writers, files.complete_since), (2, None));
        assert!(files.paths.len() > 4, "the files rotate");
        let rebuilt = rebuild(&files, &Calendar::utc(), load.clock.now()).unwrap();
        assert!(rebuilt.holds > 100 && rebuilt.without_record.is_empty() && rebuilt.paused.is_empty());
        let other = memory(&load.clock);
        other.restore(&rebuilt.books).await.unwrap();
        load.assert_same(&other).await;
        // What is open is settled there as it would have been here.
        for at in load.open.clone() {
            let charge = Charge::Exact(usd(7));
            assert_eq!(load.books.settle(&at, charge).await, other.settle(&at, charge).await, "{at:?}");
        }
        load.assert_same(&other).await;
    }
}

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

fn settle_of(id: &str, how: How, charged: u64, at: Millis) -> Line {
    Line::Settle { hold: HoldId(id.into()), how, charged: usd(charged), at }
}

fn file(folder: &Path, writer: &str, number: u64, at: Millis, lines: &[Line]) -> PathBuf {
    let path = folder.join(format!("journal-{number:06}.jsonl"));
    let mut text = String::new();
    for line in [&[Line::File { version: 1, writer: writer.into(), number, at }], lines].concat() {
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

#[test]
fn what_became_of_a_hold_is_told_whatever_the_order_of_the_lines() {
    let now = Clock::System.now();
    for (lines, expected) in [
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
    ] {
        // Not across the start of a month.
        let folder = tempfile::tempdir().unwrap();
        let record = KeyRecord {
            id: "k_1".into(),
            name: "one".into(),
            hash: "0".repeat(64),
            team: None,
            created_at: 1,
            expires_at: None,
            state: State::Active,
            limits: Limits::default(),
            policy: Policy::default(),
        };
        let lines = [&[Line::Key { revision: 1, key: record }], &lines[..]].concat();
        file(folder.path(), "aa", 1, now, &lines);
        let files = Files::find(&[folder.path().to_path_buf()]).unwrap();
        let rebuilt = rebuild(&files, &Calendar::utc(), now).unwrap();
        if Calendar::utc().frame(now - 700_000).unwrap().starts[4] == Calendar::utc().frame(now).unwrap().starts[4] {
            assert_eq!(month(&rebuilt), expected, "{lines:?}");
        }
    }
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
