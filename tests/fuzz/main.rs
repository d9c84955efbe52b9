//! Fuzz targets: what comes from outside, against what must always hold.
//!
//! In `cargo test` each target runs for two seconds. `make fuzz` runs each for ten minutes (`LOOPERS_FUZZ_SECONDS`). Every run
//! prints its seed; `LOOPERS_FUZZ_SEED` repeats it. A failure is shrunk to a small input before it is shown.

mod answers;
mod files;
mod requests;
mod texts;

use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant, SystemTime};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// What a check answers: nothing, or what does not hold.
type Check = Result<(), TestCaseError>;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Feeds values of `strategy` to `check` until the time is up. `floor`: of a thousand inputs so many must have been accepted as good,
/// which `check` tells by `Ok(true)`; a fuzzer whose inputs are all refused at the door tests nothing.
fn fuzz<S: Strategy>(name: &str, floor: u64, strategy: S, check: impl Fn(&S::Value) -> Result<bool, TestCaseError>)
where
    S::Value: Debug + Clone,
{
    let limit = Duration::from_secs(setting("LOOPERS_FUZZ_SECONDS").unwrap_or(2));
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let seed = setting("LOOPERS_FUZZ_SEED").unwrap_or(now);
    println!("{name}: seed {seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let (start, mut inputs, accepted) = (Instant::now(), 0u64, std::cell::Cell::new(0u64));
    while start.elapsed() < limit {
        let tree = strategy.new_tree(&mut runner).unwrap_or_else(|why| panic!("{name}: no input: {why}"));
        inputs += 1;
        let outcome = runner.run_one(tree, |input| {
            // A panic is a finding like any other, and is shrunk like one.
            match panic::catch_unwind(AssertUnwindSafe(|| check(&input))) {
                Ok(outcome) => outcome.map(|good| accepted.set(accepted.get() + u64::from(good))),
                Err(_) => Err(TestCaseError::fail("it panicked")),
            }
        });
        match outcome {
            Ok(_) => {}
            Err(TestError::Fail(why, input)) => panic!("{name}, seed {seed}, input {inputs}: {why}\n{input:#?}"),
            Err(TestError::Abort(why)) => panic!("{name}, seed {seed}, input {inputs}: {why}"),
        }
    }
    let accepted = accepted.get();
    println!("{name}: {inputs} inputs, {accepted} of them accepted, in {:.1} s", start.elapsed().as_secs_f32());
    assert!(accepted * 1000 >= inputs * floor, "{name}: only {accepted} of {inputs} inputs were accepted");
}
