//! The queue of settlements, and who waits for whom.

use super::*;
use crate::clock::{Calendar, Clock};
use crate::ledger::NodeId;
use crate::ledger::embedded::{EmbeddedLedger, EmbeddedOptions, Role};

fn job(chain: Vec<NodeId>, ending: u64) -> Job {
    let at = Arc::new(HoldRef { hold: HoldId::random().unwrap(), chain, session: None });
    Job { at, charge: Charge::Full, provider: "openai".into(), model: "openai/gpt".into(), taken: false, ending }
}

fn ledger() -> Ledger {
    let options = EmbeddedOptions {
        path: None,
        calendar: Calendar::utc(),
        clock: Clock::System,
        role: Role::Gateway,
        queue: 4_096,
    };
    Ledger::Embedded(EmbeddedLedger::open(options).unwrap())
}

#[tokio::test]
async fn a_settlement_that_fails_stops_no_other_and_stays_owed() {
    let (settler, ledger) = (Settler::default(), ledger());
    // Without a chain no ledger can take it; the others are holds that nobody knows.
    settler.push(job(Vec::new(), settler.announce()));
    for _ in 0..2 * BATCH {
        settler.push(job(vec!["k_1".into()], settler.announce()));
    }
    while settler.settle_some(&ledger, Instant::now).await {}
    assert_eq!(settler.pending(), 1);
    assert_eq!(settler.queue().failed.len(), 1);
    assert!(!settler.settle_some(&ledger, || Instant::now() + RETRY_AFTER).await, "it was refused: not so soon");
    assert!(settler.settle_some(&ledger, || Instant::now() + REFUSED_RETRY_AFTER).await, "it was not sent again");
    assert_eq!(settler.pending(), 1);
}

#[tokio::test]
async fn what_a_gateway_left_is_adopted_once_and_the_spool_says_more_than_the_journal() {
    let (own, orphan) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (left, announced) = (job(vec!["k_1".into()], 7), job(vec!["k_1".into()], 8));
    let gone = Spool::default();
    gone.open(orphan.path(), Vec::new()).unwrap();
    gone.owes(&left, false);
    gone.save(Duration::ZERO).unwrap();
    let settler = Settler::default();
    settler.keep_in(own.path(), Vec::new()).unwrap();
    let poorer = Job { model: "unknown".into(), ..left.clone() };
    for _ in 0..2 {
        settler.adopt(orphan.path(), vec![poorer.clone(), announced.clone()]).unwrap();
        assert_eq!(settler.pending(), 2);
        assert!(!spool::is_owing(orphan.path()));
    }
    let kept = spool::read(&own.path().join(spool::FILE)).unwrap();
    assert_eq!((kept.len(), &kept[&left.at.hold].model), (2, &left.model));
    // Beside what the gateway has to settle itself.
    settler.push(job(vec!["k_1".into()], settler.announce()));
    assert_eq!(settler.queue().take(Instant::now()).len(), 3);
}

#[test]
fn what_cannot_be_settled_does_not_hold_up_what_can() {
    let (settler, now) = (Settler::default(), Instant::now());
    for ending in 0..4 * BATCH as u64 {
        settler.queue().wait(now, job(Vec::new(), ending));
    }
    let (few, many) = (10, BATCH as u64);
    for ending in 0..few + many {
        settler.push(job(Vec::new(), 10_000 + ending));
    }
    let fresh = |jobs: &VecDeque<Job>| jobs.iter().filter(|job| job.ending >= 10_000).count();
    let batches: Vec<VecDeque<Job>> = (0..4).map(|_| settler.queue().take(now)).collect();
    assert!(batches.iter().all(|jobs| jobs.len() == BATCH));
    let count: Vec<usize> = batches.iter().map(fresh).collect();
    assert_eq!(count, [BATCH / 2, BATCH / 2, few as usize, 0]);
}

#[tokio::test]
async fn what_waits_is_sent_again_when_it_is_due_whatever_failed_before() {
    let (settler, now) = (Settler::default(), Instant::now());
    for seconds in [30, 1, 2, 30, 1] {
        settler.queue().wait(now + Duration::from_secs(seconds), job(Vec::new(), seconds));
    }
    let due = |after: u64| -> Vec<u64> {
        let jobs = settler.queue().take(now + Duration::from_secs(after));
        jobs.iter().map(|job| job.ending).collect()
    };
    assert_eq!((due(0), due(1), due(2), due(29), due(30)), (vec![], vec![1, 1], vec![2], vec![], vec![30, 30]));
    settler.queue().wait(now + Duration::from_millis(20), job(vec!["k_1".into()], 1));
    tokio::time::timeout(Duration::from_secs(10), settler.something_to_do()).await.expect("nobody was woken");
}

#[tokio::test]
async fn who_waits_for_earlier_endings_waits_for_no_later_one() {
    let (settler, ledger) = (Settler::default(), ledger());
    let far = || sleep(Duration::from_secs(600));
    assert!(!settler.earlier_endings(far()).await, "nothing was open");
    let first = job(vec!["k_1".into()], settler.announce());
    let waits = settler.earlier_endings(far());
    tokio::pin!(waits);
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut waits).await.is_err(), "it is still open");
    let later = settler.announce();
    settler.push(first);
    settler.settle_some(&ledger, Instant::now).await;
    assert!(waits.await, "it had to wait");
    assert_eq!((settler.ended_so_far(), later), (1, 1));
    assert!(settler.earlier_endings(sleep(Duration::from_millis(20))).await, "until the deadline");
}

#[test]
fn jobs_in_work_go_back_to_the_queue_when_their_task_is_dropped() {
    let settler = Settler::default();
    settler.push(job(vec!["k_1".into()], settler.announce()));
    settler.push(job(vec!["k_1".into()], settler.announce()));
    let jobs = settler.queue().take(Instant::now());
    let mut work = InWork { jobs, settler: &settler };
    assert!(settler.queue().take(Instant::now()).is_empty());
    // Fewer answers than jobs: what has none is still owed.
    work.end(vec![Ok(Settled::Unknown)], Duration::ZERO, Instant::now());
    drop(work);
    assert_eq!((settler.pending(), settler.queue().take(Instant::now()).len()), (1, 1));
}
