//! Holds that are found due, and what is told of them.

use super::*;

/// Books with `k_1`, and holds that are due: those of a key without a record are due first.
async fn books_with_due_holds(of_nobody: usize, of_key: usize) -> Ledger {
    let (books, calendar, now) = (memory(&Clock::System), Calendar::utc(), Clock::System.now());
    let frame = calendar.frame(now).unwrap();
    let hold = |key: &str, nth: usize, ago: Millis| {
        let at = HoldRef { hold: HoldId(format!("{key}-{nth}").into()), chain: vec![key.into()], session: None };
        let (state, expires_at) = (HoldState::Open, now - ago);
        let info = HoldInfo { at, state, amount: usd(1), charged: Money::ZERO, expires_at, note: String::new() };
        HoldBooks { info, born: 0, starts: frame.starts }
    };
    let mut counters = Counters::starting(&frame);
    counters.windows.iter_mut().for_each(|window| window.held = usd(of_key as u64));
    let record = Some((key("k_1", None, State::Active), 1));
    let mut snapshot = Snapshot { now, ..Snapshot::default() };
    snapshot.nodes.push(NodeBooks { chain: vec!["k_1".into()], record, counters });
    snapshot.holds.extend((0..of_nobody).map(|nth| hold("k_gone", nth, 2_000)));
    snapshot.holds.extend((0..of_key).map(|nth| hold("k_1", nth, 1_000)));
    books.restore(&snapshot, &books.halt(&[]).await.unwrap()).await.unwrap();
    books
}

fn told(books: &Ledger, journal: Journal) -> Ledger {
    let recorder = Arc::new(journal);
    Ledger::Journalled(Journalled { books: Arc::new(books.clone()), recorder, patience: PATIENCE })
}

/// Lines in the files of a gateway that tell of holds found due.
fn due_lines(folder: &Path) -> usize {
    let is_due = |line: &&str| line.starts_with(r#"{"line":"due","#);
    let paths = Files::find(&[folder.to_path_buf()]).unwrap().paths;
    paths.iter().map(|path| std::fs::read_to_string(path).unwrap().lines().filter(is_due).count()).sum()
}

#[tokio::test]
async fn holds_of_a_key_without_a_record_end_as_all_others_do_and_have_one_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let books = books_with_due_holds(600, 7).await;
    let gateway = told(&books, Journal::of_gateway(folder.path(), "aa", KEEP).unwrap());
    for expired in [100, 100, 100, 100, 100, 100, 7, 0] {
        assert_eq!(gateway.sweep(100).await.unwrap().expired, expired);
    }
    assert_eq!(books.status(&"k_1".into()).await.unwrap().charged_total, usd(7));
    assert_eq!(due_lines(folder.path()), 607);
}

/// As those that cannot be charged: each sweep finds them once more. That they keep no other from its end is tested where the books are.
#[tokio::test]
async fn holds_that_are_found_due_again_have_one_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::of_gateway(folder.path(), "aa", KEEP).unwrap();
    let calendar = Calendar::utc();
    let starts = calendar.frame(Clock::System.now()).unwrap().starts;
    let hold = |nth: usize| {
        let at = HoldRef { hold: HoldId(format!("h-{nth}").into()), chain: vec!["k_1".into()], session: None };
        let (amount, charged, note) = (usd(1), Money::ZERO, String::new());
        let info = HoldInfo { at, state: HoldState::Open, amount, charged, expires_at: 1, note };
        HoldBooks { info, born: 0, starts }
    };
    let holds: Vec<HoldBooks> = (0..607).map(hold).collect();
    for page in [&holds[..256], &holds[..], &holds[100..]] {
        Recorder::due(&journal, page).await.unwrap();
    }
    assert_eq!(due_lines(folder.path()), 607);
}

#[tokio::test]
async fn a_hold_whose_line_cannot_be_written_is_not_charged_yet() {
    let books = books_with_due_holds(0, 7).await;
    let gateway = told(&books, Journal::of_operator(Path::new("/dev/full")));
    assert!(gateway.sweep(100).await.unwrap_err().to_string().contains("the journal cannot be written"));
    assert_eq!(books.status(&"k_1".into()).await.unwrap().charged_total, Money::ZERO);
    assert_eq!(books.sweep(100).await.unwrap().expired, 7);
}

/// Whether a hold that was charged in full can still be corrected after a rebuild: only where it expired.
#[test]
fn a_full_settlement_that_was_sent_twice_is_final_and_an_expiry_is_not() {
    let now = Clock::System.now();
    let taken = now - 700_000;
    let sent_again = [settling("h", Charge::Full, now), settle_of("h", How::Already, 10, now)];
    for (found_due, state) in [(false, None), (true, Some(HoldState::Expired))] {
        let mut lines = vec![record(1, key("k_1", None, State::Active)), hold_line("h", 10, taken, None)];
        lines.extend(found_due.then(|| due("h", 10, taken)));
        lines.extend(sent_again.clone());
        let rebuilt = books_of(now, now, 1, &lines).unwrap();
        assert_eq!(rebuilt.books.holds.first().map(|hold| hold.info.state), state);
        assert_eq!(rebuilt.books.settled.len(), usize::from(state.is_none()));
    }
}
