//! What a gateway that was killed announced last.

use super::*;

const REACH: Millis = 600_000;

/// Holds and charges, as numbers.
fn last_of(folder: &Path) -> Vec<(String, Charge)> {
    let announced = announced_last(folder, REACH).unwrap();
    announced.into_iter().map(|one| (one.hold.hold.to_string(), one.charge)).collect()
}

fn exactly(nano: u64) -> Charge {
    Charge::Exact(usd(nano))
}

fn append(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn text_of(lines: &[Line]) -> String {
    lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
}

#[test]
fn it_is_found_with_its_hold_in_whatever_file_and_only_until_it_is_marked() {
    let (folder, now) = (tempfile::tempdir().unwrap(), Clock::System.now());
    let folder = folder.path();
    assert!(is_marked(folder).unwrap() && last_of(folder).is_empty(), "there is no journal");
    mark_answered(folder).unwrap();
    file(folder, "aa", 7, now, &[hold_line("a", 10, now, Some("s")), hold_line("b", 20, now, None)]);
    let lines = [settling("b", exactly(2), now), hold_line("c", 30, now, None), settling("unknown", exactly(9), now)];
    file(folder, "aa", 8, now, &lines);
    let last = file(folder, "aa", 9, now, &[settling("a", Charge::Full, now), settling("b", exactly(2), now)]);
    assert!(!is_marked(folder).unwrap());
    assert_eq!(last_of(folder), [("b".into(), exactly(2)), ("a".into(), Charge::Full)]);
    let a = announced_last(folder, REACH).unwrap().pop().unwrap().hold;
    assert_eq!(Line::Hold(a), hold_line("a", 10, now, Some("s")));
    mark_answered(folder).unwrap();
    assert!(is_marked(folder).unwrap() && last_of(folder).is_empty());
    // What comes after the mark is new, and its hold may be before it. Half a line says nothing.
    append(&last, &(text_of(&[settling("c", exactly(3), now)]) + r#"{"line":"settling","hold":"a""#));
    assert!(!is_marked(folder).unwrap());
    assert_eq!(last_of(folder), [("c".into(), exactly(3))]);
    file(folder, "aa", 10, now, &[hold_line("d", 5, now, None), settling("d", exactly(1), now)]);
    assert_eq!(last_of(folder), [("c".into(), exactly(3)), ("d".into(), exactly(1))]);
}

#[test]
fn a_mark_that_says_nothing_hides_nothing() {
    let (folder, now) = (tempfile::tempdir().unwrap(), Clock::System.now());
    let folder = folder.path();
    let lines = [hold_line("a", 10, now, None), settling("a", exactly(1), now)];
    let one = file(folder, "aa", 5, now, &lines);
    mark_answered(folder).unwrap();
    assert!(last_of(folder).is_empty());
    // Somebody removed the files, and their numbers began anew.
    std::fs::remove_file(one).unwrap();
    file(folder, "aa", 1, now, &lines);
    assert_eq!(last_of(folder), [("a".into(), exactly(1))]);
    mark_answered(folder).unwrap();
    assert!(last_of(folder).is_empty());
    for text in ["", "{\"file\":1", "{\"file\":1,\"bytes\":-1}"] {
        std::fs::write(folder.join("answered.json"), text).unwrap();
        assert_eq!(last_of(folder), [("a".into(), exactly(1))], "{text}");
        assert!(!is_marked(folder).unwrap());
    }
}

#[test]
fn of_many_those_of_the_last_seconds_are_found_across_files_and_a_thousand_in_any_case() {
    let now = Clock::System.now();
    for (step, count) in [(1, 3_000), (2, 2_501), (100, 1_024)] {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..6 {
            let lines: Vec<Line> = (0..500)
                .flat_map(|nth| {
                    let nth = number * 500 + nth;
                    let (id, at) = (nth.to_string(), now + step * nth);
                    [hold_line(&id, 10, at, None), settling(&id, exactly(1), at)]
                })
                .collect();
            file(folder.path(), "aa", u64::try_from(number).unwrap() + 1, now + step * number * 500, &lines);
        }
        let expected: Vec<(String, Charge)> = (3_000 - count..3_000).map(|nth| (nth.to_string(), exactly(1))).collect();
        assert_eq!(last_of(folder.path()), expected, "every {step} ms");
    }
}

#[test]
fn a_hold_that_cannot_have_been_open_is_not_looked_for() {
    let (folder, now) = (tempfile::tempdir().unwrap(), Clock::System.now());
    let folder = folder.path();
    file(folder, "aa", 1, now - 3 * REACH, &[hold_line("old", 10, now - 3 * REACH, None)]);
    file(folder, "aa", 2, now - 2 * REACH, &[hold_line("older", 10, now, None)]);
    file(folder, "aa", 3, now, &[settling("old", exactly(1), now), settling("older", exactly(1), now)]);
    assert_eq!(last_of(folder), [("older".into(), exactly(1))]);
}
