//! kill -9: whatever was answered is in the file, exactly.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

const PATH: &str = "LOOPERS_TEST_LEDGER";

/// By itself nothing. With a ledger's path it is the process that is killed: it prints what was answered, after the answer.
#[test]
fn child_that_spends_until_it_is_killed() {
    let Ok(path) = std::env::var(PATH) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let ledger = open(Some(Path::new(&path)), &Clock::System, Role::Gateway).unwrap();
        let view = view(&ledger, 1).await;
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (ledger, view) = (ledger.clone(), view.clone());
            callers.spawn(async move {
                for i in 0.. {
                    let at = take(&ledger, &view, 10).await;
                    println!("\nheld {}", at.hold);
                    if i % 2 == 0 {
                        ledger.settle(&at, Charge::Exact(usd(3))).await.unwrap();
                        println!("\nsettled {}", at.hold);
                    }
                }
            });
        }
        callers.join_all().await;
    });
}

#[tokio::test]
async fn d40_what_was_answered_before_kill_9_is_there_exactly() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("loopers.db");
    let ledger = open(Some(&path), &Clock::System, Role::Gateway).unwrap();
    let id = make_key(&ledger, 1, Limits::default(), None).await.key.id.clone();
    drop(ledger);
    let (mut held, mut settled) = (Vec::new(), std::collections::HashSet::new());
    for round in 1..4 {
        let child = "ledger::embedded::tests::crash::child_that_spends_until_it_is_killed";
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", child, "--nocapture", "--test-threads=1"])
            .env(PATH, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        for line in lines.by_ref().map_while(Result::ok) {
            note(&line, &mut held, &mut settled);
            if held.len() >= 150 * round {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(round as u64));
        process.kill().unwrap();
        process.wait().unwrap();
        // Whatever it could still print was answered too; a line that the kill has cut is not counted.
        lines.map_while(Result::ok).for_each(|line| note(&line, &mut held, &mut settled));
        let ledger = open(Some(&path), &Clock::System, Role::Gateway).unwrap();
        let open_holds = ledger.holds(usize::MAX).await.unwrap();
        let known: std::collections::HashMap<_, _> =
            open_holds.iter().map(|hold| (hold.at.hold.to_string(), hold.amount.nano())).collect();
        for hold in held.iter().filter(|hold| !settled.contains(*hold) && !known.contains_key(*hold)) {
            // Settled without having been told so: it must be settled, and not gone.
            let at = HoldRef { hold: HoldId(hold.as_str().into()), chain: vec![id.clone()], session: None };
            let answer = ledger.settle(&at, Charge::Full).await.unwrap();
            assert_eq!(answer, Settled::Already { charged: usd(3) });
        }
        assert!(settled.iter().all(|hold| !known.contains_key(hold)), "a settled hold is open again");
        let status = ledger.status(&id).await.unwrap();
        let month = status.windows[Window::Monthly.index()];
        assert_eq!(month.held.nano(), known.values().sum::<u64>());
        assert_eq!(month.spent, status.charged_total);
        assert!(month.spent.nano() >= 3 * settled.len() as u64);
        assert_eq!(month.spent.nano() % 3, 0);
    }
    assert!(held.len() >= 450 && settled.len() >= 100);
}

fn note(line: &str, held: &mut Vec<String>, settled: &mut std::collections::HashSet<String>) {
    match line.split_once(' ') {
        Some(("held", hold)) if hold.len() == 32 => held.push(hold.into()),
        Some(("settled", hold)) if hold.len() == 32 => drop(settled.insert(hold.into())),
        _ => {}
    }
}
