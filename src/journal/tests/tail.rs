//! What a gateway that was killed announced last.

use super::*;

const MOST: usize = 50_000;

/// Holds and charges.
fn last_of(folder: &Path, most: usize) -> Vec<(String, Charge)> {
    let tail = Tail::read(folder, most).unwrap();
    tail.ends.into_iter().map(|(at, charge)| (at.hold.to_string(), charge)).collect()
}

fn one(id: &str, nano: u64) -> (String, Charge) {
    (id.into(), exactly(nano))
}

fn exactly(nano: u64) -> Charge {
    Charge::Exact(usd(nano))
}

fn append(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn it_is_found_in_whatever_file_and_only_until_it_is_marked() {
    let (folder, now) = (tempfile::tempdir().unwrap(), Clock::System.now());
    let folder = folder.path();
    assert!(is_answered(folder).unwrap() && last_of(folder, MOST).is_empty(), "there is no journal");
    mark_answered(folder).unwrap();
    let in_session = Line::Settling {
        hold: HoldId("a".into()),
        chain: vec!["k_1".into(), "t_1".into()],
        session: Some("s".into()),
        charge: Charge::Full,
        at: now,
    };
    file(folder, "aa", 8, now, &[hold_line("b", 20, now, None), settling("b", exactly(2), now)]);
    let last = file(folder, "aa", 9, now, &[in_session, settling("b", exactly(2), now)]);
    assert!(!is_answered(folder).unwrap());
    assert_eq!(last_of(folder, MOST), [one("b", 2), ("a".into(), Charge::Full), one("b", 2)]);
    let chain = vec!["k_1".into(), "t_1".into()];
    let tail = Tail::read(folder, MOST).unwrap();
    assert_eq!(tail.ends[1].0, HoldRef { hold: HoldId("a".into()), chain, session: Some("s".into()) });
    // A gateway begins to write there before the mark is set: that is not covered by it. Half a line says nothing.
    let line = serde_json::to_string(&settling("c", exactly(3), now)).unwrap();
    append(&last, &format!("{line}\n{}", &line[..40]));
    tail.mark_answered().unwrap();
    assert!(!is_answered(folder).unwrap());
    assert_eq!(last_of(folder, MOST), [one("c", 3)]);
    file(folder, "aa", 10, now, &[settling("d", exactly(1), now)]);
    assert_eq!(last_of(folder, MOST), [one("c", 3), one("d", 1)]);
    mark_answered(folder).unwrap();
    assert!(is_answered(folder).unwrap() && last_of(folder, MOST).is_empty());
}

#[test]
fn a_mark_that_says_nothing_hides_nothing() {
    let (folder, now) = (tempfile::tempdir().unwrap(), Clock::System.now());
    let folder = folder.path();
    let lines = [settling("a", exactly(1), now)];
    let five = file(folder, "aa", 5, now, &lines);
    mark_answered(folder).unwrap();
    assert!(last_of(folder, MOST).is_empty());
    // Somebody removed the files, and their numbers began anew.
    std::fs::remove_file(five).unwrap();
    file(folder, "aa", 1, now, &lines);
    assert_eq!(last_of(folder, MOST), [one("a", 1)]);
    mark_answered(folder).unwrap();
    assert!(last_of(folder, MOST).is_empty());
    for text in ["", "{\"file\":1", "{\"file\":1,\"bytes\":-1}"] {
        std::fs::write(folder.join("answered.json"), text).unwrap();
        assert_eq!(last_of(folder, MOST), [one("a", 1)], "{text}");
        assert!(!is_answered(folder).unwrap());
    }
}

#[test]
fn of_many_those_of_the_last_seconds_are_found_across_files_and_a_thousand_in_any_case() {
    let now = Clock::System.now();
    let most = 2_900;
    for (step, count) in [(1, 2_900), (2, 2_501), (100, 1_024), (-1, 2_900)] {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..6 {
            let lines = |nth: Millis| settling(&nth.to_string(), exactly(1), now + step * nth);
            let lines: Vec<Line> = (500 * number..500 * (number + 1)).map(lines).collect();
            file(folder.path(), "aa", number as u64 + 1, now + step * number * 500, &lines);
        }
        let expected: Vec<(String, Charge)> = (3_000 - count..3_000).map(|nth| one(&nth.to_string(), 1)).collect();
        assert_eq!(last_of(folder.path(), most), expected, "every {step} ms");
        assert_eq!(last_of(folder.path(), 7), expected[expected.len() - 7..]);
    }
}

#[test]
fn lines_without_a_place_of_earlier_versions_are_nobodys() {
    let (folder, now) = (tempfile::tempdir().unwrap(), Clock::System.now());
    let path = file(folder.path(), "aa", 1, now, &[]);
    append(&path, &format!("{{\"line\":\"settling\",\"hold\":\"a\",\"charge\":\"full\",\"at\":{now}}}\n"));
    assert!(last_of(folder.path(), MOST).is_empty());
}
