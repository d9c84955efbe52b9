//! Which of several records of a key or a team counts, and which tree a key belongs to.

use super::*;

#[test]
fn what_was_revoked_once_stays_so_also_where_revisions_were_given_twice() {
    let now = Clock::System.now();
    let lines = [record(9, key("k_1", None, State::Active)), record(5, key("k_1", None, State::Revoked))];
    for lines in [lines.clone(), [lines[1].clone(), lines[0].clone()]] {
        let rebuilt = books_of(now, now, 1, &lines).unwrap();
        let (node, revision) = rebuilt.books.nodes[0].record.clone().unwrap();
        assert_eq!((node.state(), revision), (State::Revoked, 5));
    }
}

/// A rotation, a kill and a lower limit, of which the books forgot two before the third: none of them is undone.
#[test]
fn of_records_under_one_revision_each_counts_where_it_allows_less() {
    let now = Clock::System.now();
    let with = |revision, hash: &str, state, daily| {
        let Node::Key(mut key) = key("k_1", None, state) else { unreachable!() };
        key.hash = hash.repeat(64);
        key.limits.0[Window::Daily.index()] = Some(usd(daily));
        Line::Key { revision, key }
    };
    let kept = |lines: &[Line]| {
        let (node, revision) = books_of(now, now, 1, lines).unwrap().books.nodes[0].record.clone().unwrap();
        let Node::Key(key) = node else { unreachable!() };
        (revision, key.hash, key.state, key.limits.of(Window::Daily))
    };
    let mut lines = vec![
        with(4, "a", State::Active, 10),
        with(5, "b", State::Active, 10),
        with(5, "a", State::Killed, 10),
        with(5, "a", State::Active, 5),
    ];
    for _ in 0..lines.len() {
        lines.rotate_left(1);
        let backwards: Vec<Line> = lines.iter().rev().cloned().collect();
        for lines in [&lines, &backwards] {
            assert_eq!(kept(lines), (5, "b".repeat(64), State::Killed, Some(usd(5))), "{lines:?}");
        }
    }
    lines.push(with(6, "b", State::Active, 7));
    assert_eq!(kept(&lines), (6, "b".repeat(64), State::Active, Some(usd(7))), "a later record stands alone");
    // Rotated, gone with the books, and rotated once more: the last one was handed out last.
    let twice = ["a", "b", "c"].map(|hash| with(if hash == "a" { 4 } else { 5 }, hash, State::Active, 10));
    assert_eq!(kept(&twice).1, "c".repeat(64));
}

#[test]
fn without_the_records_above_it_nobody_puts_a_key_into_a_wrong_tree() {
    let now = Clock::System.now();
    let below = record(1, key("k_1", Some("t_1"), State::Active));
    let rebuilt = books_of(now, now, 1, std::slice::from_ref(&below)).unwrap();
    assert_eq!((rebuilt.books.nodes.len(), rebuilt.without_record), (0, vec!["t_1".into()]));
    // A hold below the team tells what is above it.
    let mut hold = hold_line("h", 10, now, None);
    if let Line::Hold(hold) = &mut hold {
        hold.chain = ["k_2", "t_1", "t_0"].map(NodeId::from).to_vec();
    }
    let rebuilt = books_of(now, now, 1, &[below, hold]).unwrap();
    let chain = rebuilt.books.nodes.iter().find(|node| node.chain[0] == "k_1".into()).unwrap().chain.clone();
    assert_eq!(chain, ["k_1", "t_1", "t_0"].map(NodeId::from));
    let session = Line::Session { key: "k_9".into(), session: "s".into(), state: State::Killed, at: now };
    let rebuilt = books_of(now, now, 1, &[session]).unwrap();
    assert_eq!((rebuilt.books.sessions.len(), rebuilt.without_record), (0, vec!["k_9".into()]));
}
