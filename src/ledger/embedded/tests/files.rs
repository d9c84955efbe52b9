//! What only a file can go through.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::ledger::{Edit, Refusal, Standing};

fn file() -> (tempfile::TempDir, PathBuf, Clock) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("loopers.db");
    (directory, path, Clock::manual(START))
}

fn refusal(result: Result<EmbeddedLedger, LedgerError>) -> String {
    result.expect_err("it was opened").to_string()
}

type Damage = Box<dyn Fn(&mut Vec<u8>)>;

/// Runs SQL on the gateway's own connection.
async fn sql(ledger: &EmbeddedLedger, sql: &'static str) {
    let super::super::Engine::File(writer) = &*ledger.engine else { panic!("no file") };
    let run = move |books: &mut super::super::Books<super::super::file::FileStore>| {
        let mut statement = books.store.connection.prepare(sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        while rows.next().unwrap().is_some() {}
        Ok(())
    };
    writer.ask(false, run).await.unwrap();
}

#[tokio::test]
async fn books_survive_a_restart() {
    let (_directory, path, clock) = file();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&ledger, 1, limit(Window::Daily, 100), None).await;
    let (first, second) = (take(&ledger, &key, 10).await, take(&ledger, &key, 20).await);
    ledger.settle(&first, Charge::Exact(usd(3))).await.unwrap();
    let call = in_session(ask(&key, 30, 30), Some(40), Some(9));
    ledger.reserve(&call).await.unwrap();
    let before = (
        ledger.status(&key.key.id).await.unwrap(),
        ledger.session(&key.key.id, "run-1").await.unwrap().unwrap(),
        ledger.holds(9).await.unwrap(),
        ledger.nodes().await.unwrap(),
    );
    drop(ledger);
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let after = (
        ledger.status(&key.key.id).await.unwrap(),
        ledger.session(&key.key.id, "run-1").await.unwrap().unwrap(),
        ledger.holds(9).await.unwrap(),
        ledger.nodes().await.unwrap(),
    );
    assert_eq!(after, before);
    assert_eq!(ledger.settle(&first, Charge::Full).await.unwrap(), Settled::Already { charged: usd(3) });
    assert_eq!(
        ledger.settle(&second, Charge::Full).await.unwrap(),
        Settled::Applied { charged: usd(20), held: usd(20) }
    );
    assert_eq!(view(&ledger, 1).await, key);
}

#[tokio::test]
async fn a_refusal_alone_has_seen_the_time_also_after_a_restart() {
    let (_directory, path, clock) = file();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&ledger, 1, limit(Window::Minute, 10), None).await;
    clock.set(START + 3_600_000);
    let late = ledger.reserve(&ask(&key, 11, 11)).await.unwrap();
    drop(ledger);
    clock.set(START);
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    assert_eq!(ledger.reserve(&ask(&key, 11, 11)).await.unwrap(), late);
}

#[tokio::test]
async fn d40_a_second_gateway_is_refused_until_the_first_has_gone() {
    let (_directory, path, clock) = file();
    let first = open(Some(&path), &clock, Role::Gateway).unwrap();
    let clone = first.clone();
    assert!(refusal(open(Some(&path), &clock, Role::Gateway)).contains("another gateway is running"));
    open(Some(&path), &clock, Role::Visitor).unwrap();
    #[cfg(unix)]
    {
        let link = path.with_file_name("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(refusal(open(Some(&link), &clock, Role::Gateway)).contains("another gateway is running"));
    }
    drop(first);
    assert!(open(Some(&path), &clock, Role::Gateway).is_err());
    drop(clone);
    open(Some(&path), &clock, Role::Gateway).unwrap();
}

#[tokio::test]
async fn a_running_gateway_sees_what_the_command_line_does() {
    let (_directory, path, clock) = file();
    let gateway = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&gateway, 1, limit(Window::Daily, 100), None).await;
    let id = &key.key.id;
    let call = in_session(ask(&key, 60, 60), None, None);
    gateway.reserve(&call).await.unwrap();
    let visitor = open(Some(&path), &clock, Role::Visitor).unwrap();
    assert_eq!(visitor.status(id).await.unwrap().windows[0].held, usd(60));
    visitor.edit(id, &Edit::Limits(vec![(Window::Daily, Some(usd(50)))])).await.unwrap();
    assert_eq!(gateway.reserve(&ask(&key, 1, 1)).await.unwrap(), Verdict::Stale);
    let fresh = view(&gateway, 1).await;
    assert!(matches!(gateway.reserve(&ask(&fresh, 1, 1)).await.unwrap(), Verdict::Refused(Refusal::Budget(_))));
    // The command line settles a hold of the gateway: it is settled there too.
    visitor.settle(&call.hold_ref(), Charge::Exact(usd(5))).await.unwrap();
    assert_eq!(gateway.settle(&call.hold_ref(), Charge::Full).await.unwrap(), Settled::Already { charged: usd(5) });
    visitor.set_session_state(id, "run-1", State::Killed).await.unwrap();
    let standing = gateway.standing(&[call.hold_ref()]).await.unwrap();
    assert_eq!(standing, [Standing::Stopped(State::Killed)]);
    gateway.edit(id, &Edit::State(State::Paused)).await.unwrap();
    assert_eq!(visitor.standing(&[call.hold_ref()]).await.unwrap(), [Standing::Stopped(State::Paused)]);
    visitor.probe().await.unwrap();
    gateway.probe().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_gets_through_beside_a_busy_gateway() {
    let (_directory, path, clock) = file();
    let gateway = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&gateway, 1, Limits::default(), None).await;
    let other = make_key(&gateway, 2, Limits::default(), None).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (gateway, key) = (gateway.clone(), key.clone());
        callers.spawn(async move {
            for _ in 0..100 {
                let at = take(&gateway, &key, 10).await;
                gateway.settle(&at, Charge::Exact(usd(3))).await.unwrap();
            }
        });
    }
    let visitor = open(Some(&path), &clock, Role::Visitor).unwrap();
    for nano in 1..21 {
        visitor.edit(&other.key.id, &Edit::Limits(vec![(Window::Daily, Some(usd(nano)))])).await.unwrap();
    }
    callers.join_all().await;
    let month = gateway.status(&key.key.id).await.unwrap().windows[4];
    assert_eq!((month.spent, month.held), (usd(9_600), usd(0)));
    assert_eq!(view(&gateway, 2).await.revision, other.revision + 20);
}

#[tokio::test]
async fn d40_a_full_disk_answers_nobody_and_loses_and_invents_nothing() {
    let (_directory, path, clock) = file();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&ledger, 1, Limits::default(), None).await;
    take(&ledger, &key, 1).await;
    sql(&ledger, "PRAGMA max_page_count = 1").await;
    let mut held = 1;
    let refused = loop {
        let call = Reserve { note: "x".repeat(2_000), ..ask(&key, 1, 1) };
        match ledger.reserve(&call).await {
            Ok(_) => held += 1,
            Err(error) => break (call, error),
        }
        assert!(held < 1_000, "the disk never was full");
    };
    assert!(refused.1.to_string().contains("the disk is full"), "{}", refused.1);
    // Together with small ones in one batch: whoever is answered is in the file, and nobody else.
    let mut callers = tokio::task::JoinSet::new();
    for i in 0..64 {
        let (ledger, call) = (ledger.clone(), Reserve { note: "x".repeat(i % 8 * 1_000), ..ask(&key, 1, 1) });
        callers.spawn(async move { ledger.reserve(&call).await.is_ok() });
    }
    let answered = callers.join_all().await.into_iter().filter(|is_held| *is_held).count();
    assert!(answered < 64);
    held += answered as u64;
    assert_eq!(ledger.status(&key.key.id).await.unwrap().windows[0].held, usd(held));
    let visitor = open(Some(&path), &clock, Role::Visitor).unwrap();
    assert_eq!(visitor.status(&key.key.id).await.unwrap().windows[0].held, usd(held));
    assert_eq!(visitor.holds(usize::MAX).await.unwrap().len() as u64, held);
    // Space again: it goes on as if nothing had happened.
    sql(&ledger, "PRAGMA max_page_count = 1000000").await;
    assert!(matches!(ledger.reserve(&refused.0).await.unwrap(), Verdict::Held(_)));
    assert_eq!(ledger.status(&key.key.id).await.unwrap().windows[0].held, usd(held + 1));
}

#[tokio::test]
async fn d40_a_commit_that_fails_has_done_nothing() {
    let (_directory, path, clock) = file();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&ledger, 1, Limits::default(), None).await;
    let first = take(&ledger, &key, 5).await;
    // A constraint that SQLite checks at the commit, and not before.
    sql(&ledger, "CREATE TEMP TABLE parent(id INTEGER PRIMARY KEY)").await;
    sql(&ledger, "CREATE TEMP TABLE child(id INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)").await;
    sql(&ledger, "CREATE TEMP TRIGGER fail AFTER INSERT ON main.holds BEGIN INSERT INTO child VALUES(1); END").await;
    let call = ask(&key, 1, 1);
    for _ in 0..3 {
        assert!(matches!(ledger.reserve(&call).await, Err(LedgerError::Unavailable(_))));
        assert_eq!(ledger.status(&key.key.id).await.unwrap().windows[0].held, usd(5));
        assert_eq!(ledger.holds(9).await.unwrap().len(), 1);
    }
    // What needs no new hold still works, and a hold again when the trouble is over.
    assert!(matches!(ledger.settle(&first, Charge::Full).await.unwrap(), Settled::Applied { .. }));
    sql(&ledger, "DROP TRIGGER fail").await;
    assert!(matches!(ledger.reserve(&call).await.unwrap(), Verdict::Held(_)));
    assert_eq!(ledger.status(&key.key.id).await.unwrap().windows[0].held, usd(1));
}

#[tokio::test]
async fn d40_a_damaged_file_is_refused() {
    let (_directory, path, clock) = file();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&ledger, 1, limit(Window::Daily, 7_777_777), None).await;
    for _ in 0..500 {
        take(&ledger, &key, 1).await;
    }
    drop(ledger);
    let good = fs::read(&path).unwrap();
    let amount = 500u64.to_le_bytes();
    let place = good.windows(8).position(|bytes| bytes == amount).unwrap();
    let limit = good.windows(7).position(|bytes| bytes == b"7777777").unwrap();
    let damages: [(&str, Damage); 6] = [
        ("cut short", Box::new(|file| file.truncate(file.len() / 2))),
        ("a torn page", Box::new(|file| file[4_096 * 3..4_096 * 3 + 512].fill(0xA5))),
        ("a page of nothing", Box::new(|file| file[4_096..8_192].fill(0))),
        ("the header", Box::new(|file| file[..16].fill(b'x'))),
        ("a bit of an amount", Box::new(move |file| file[place] ^= 4)),
        ("a digit of a limit", Box::new(move |file| file[limit] = b'9')),
    ];
    for (what, damage) in damages {
        let mut bad = good.clone();
        damage(&mut bad);
        fs::write(&path, &bad).unwrap();
        let said = refusal(open(Some(&path), &clock, Role::Gateway));
        assert!(said.contains("damaged"), "{what}: {said}");
        assert_eq!(fs::read(&path).unwrap(), bad, "{what}: a damaged file is left as it is");
    }
    fs::write(&path, &good).unwrap();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    assert_eq!(ledger.status(&key.key.id).await.unwrap().windows[0].held, usd(500));
}

/// Holds of a key whose row cannot be read are due first, and more than a sweep looks at in one piece.
#[tokio::test]
async fn d40_holds_that_cannot_be_charged_keep_no_other_from_its_end() {
    let (_directory, path, clock) = file();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let bad = make_key(&ledger, 1, Limits::default(), None).await;
    let good = make_key(&ledger, 2, Limits::default(), None).await;
    let asks: Vec<Arc<Reserve>> = (0..300).map(|_| Arc::new(ask(&bad, 1, 1))).collect();
    assert!(ledger.reserve_all(&asks).await.iter().all(|verdict| matches!(verdict, Ok(Verdict::Held(_)))));
    clock.set(START + 1);
    for _ in 0..7 {
        take(&ledger, &good, 1).await;
    }
    let other = rusqlite::Connection::open(&path).unwrap();
    let damage = "UPDATE counters SET body = x'00' WHERE seq = (SELECT seq FROM nodes WHERE id = ?1)";
    assert_eq!(other.execute(damage, [bad.key.id.as_str()]).unwrap(), 1);
    clock.set(START + 61_000);
    for _ in 0..3 {
        let said = ledger.sweep(100, None).await.unwrap_err().to_string();
        assert!(said.contains("the row of"), "{said}");
    }
    assert_eq!(ledger.status(&good.key.id).await.unwrap().charged_total, usd(7));
    assert_eq!(ledger.holds(400).await.unwrap().iter().filter(|hold| hold.charged.is_zero()).count(), 300);
}

#[tokio::test]
async fn d40_a_torn_log_loses_only_what_was_never_answered() {
    let (directory, path, clock) = file();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&ledger, 1, Limits::default(), None).await;
    take(&ledger, &key, 1).await;
    let whole = fs::read(directory.path().join("loopers.db-wal")).unwrap();
    take(&ledger, &key, 2).await;
    let longer = fs::read(directory.path().join("loopers.db-wal")).unwrap();
    // As a power cut leaves it: the file, and its log cut inside the last commit.
    let copy = directory.path().join("copy.db");
    for cut in [whole.len(), whole.len() + 10, longer.len() - 1] {
        fs::copy(&path, &copy).unwrap();
        fs::write(directory.path().join("copy.db-wal"), &longer[..cut]).unwrap();
        let ledger = open(Some(&copy), &clock, Role::Gateway).unwrap();
        assert_eq!(ledger.status(&key.key.id).await.unwrap().windows[0].held, usd(1), "{cut}");
        drop(ledger);
        fs::remove_file(&copy).unwrap();
    }
}

#[tokio::test]
async fn d40_other_files_versions_and_places_are_refused_with_a_reason() {
    let (directory, path, clock) = file();
    open(Some(&path), &clock, Role::Gateway).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    for role in [Role::Gateway, Role::Visitor] {
        assert!(refusal(open(Some(&path), &clock, role)).contains("newer"));
    }
    let other = directory.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE x(y)").unwrap();
    assert!(refusal(open(Some(&other), &clock, Role::Gateway)).contains("another program's"));
    let text = directory.path().join("text.db");
    fs::write(&text, "not a database at all, but long enough to be one".repeat(100)).unwrap();
    assert!(refusal(open(Some(&text), &clock, Role::Gateway)).contains("not a ledger"));
    for place in ["missing/loopers.db", "text.db/loopers.db", ""] {
        assert!(
            refusal(open(Some(&directory.path().join(place)), &clock, Role::Gateway)).contains("cannot be"),
            "{place}"
        );
    }
    // A directory in which nobody can make a file.
    #[cfg(target_os = "linux")]
    assert!(refusal(open(Some(Path::new("/proc/loopers.db")), &clock, Role::Gateway)).contains("cannot be"));
}

#[tokio::test]
async fn d40_a_version_changed_under_a_running_gateway_stops_it() {
    let (_directory, path, clock) = file();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&ledger, 1, Limits::default(), None).await;
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let said = ledger.reserve(&ask(&key, 1, 1)).await.unwrap_err().to_string();
    assert!(said.contains("newer"), "{said}");
}

#[cfg(unix)]
#[tokio::test]
async fn d40_a_file_deleted_under_a_running_gateway_takes_no_more_money() {
    let (_directory, path, clock) = file();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&ledger, 1, Limits::default(), None).await;
    fs::remove_file(&path).unwrap();
    let said = ledger.reserve(&ask(&key, 1, 1)).await.unwrap_err().to_string();
    assert!(said.contains("moved or deleted"), "{said}");
}

#[tokio::test]
async fn d40_another_program_in_the_way_is_waited_for() {
    let (_directory, path, clock) = file();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&ledger, 1, Limits::default(), None).await;
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let call = ask(&key, 1, 1);
    let waiting = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.reserve(&call).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    other.execute_batch("COMMIT").unwrap();
    assert!(matches!(waiting.await.unwrap(), Ok(Verdict::Held(_))));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d41_memory_stays_flat_over_100_000_calls() {
    fn resident_kib() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    // Other tests of this process would be measured too, so the measuring is done by a process of its own.
    if std::env::var_os("LOOPERS_MEASURED_ALONE").is_none() {
        let name = "ledger::embedded::tests::files::d41_memory_stays_flat_over_100_000_calls";
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("LOOPERS_MEASURED_ALONE", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&alone.stdout).into_owned() + &String::from_utf8_lossy(&alone.stderr);
        assert!(alone.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let (_directory, path, clock) = file();
    let ledger = open(Some(&path), &clock, Role::Gateway).unwrap();
    let key = make_key(&ledger, 1, Limits::default(), None).await;
    let round = async || {
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..64 {
            let (ledger, key) = (ledger.clone(), key.clone());
            callers.spawn(async move {
                for i in 0..25_000 / 64 {
                    let mut call = ask(&key, 1, 1);
                    call.session = Some(SessionAsk { id: format!("{caller}.{i}").into(), budget: None, steps: None });
                    ledger.reserve(&call).await.unwrap();
                    ledger.settle(&call.hold_ref(), Charge::Full).await.unwrap();
                }
            });
        }
        callers.join_all().await;
    };
    round().await;
    round().await;
    let before = resident_kib();
    round().await;
    round().await;
    let grown = resident_kib().saturating_sub(before);
    // A leak of each hold would be 25 MiB.
    assert!(grown < 20_000, "{grown} KiB more");
    assert_eq!(ledger.status(&key.key.id).await.unwrap().charged_total, usd(25_000 / 64 * 64 * 4));
}
