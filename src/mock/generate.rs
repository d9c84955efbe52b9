//! Generation, whatever the dialect: how many tokens, how fast, who is reading, and what is billed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::invoice::{Books, Call, Outcome};
use super::script::{OnLeave, Script};
use super::words::{mix, word};

/// Beats that may wait for a slow reader when generation has a rate of its own.
const AHEAD_PACED: usize = 1024;
/// The same when generation is as fast as its reader.
const AHEAD_UNPACED: usize = 8;

/// What generation tells the one who renders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The answer begins.
    Start,
    /// Thought tokens `from..to` of every choice exist now (and are billed).
    Thoughts {
        /// First token.
        from: u64,
        /// One past the last token.
        to: u64,
    },
    /// Visible tokens `from..to` of every choice exist now (and are billed).
    Tokens {
        /// First token.
        from: u64,
        /// One past the last token.
        to: u64,
    },
    /// The provider reports an error in mid-stream.
    Error,
    /// The provider drops the connection.
    Die,
    /// Everything is generated.
    End,
}

/// What a call is going to generate. Token counts are per choice unless they say otherwise.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides which words come out.
    pub seed: u64,
    /// Number of choices.
    pub choices: u64,
    /// Tokens it wants to generate, reasoning included.
    pub wanted: u64,
    /// Tokens it is allowed to generate.
    pub limit: u64,
    /// Tokens of silent reasoning before the first visible one.
    pub reasoning: u64,
    /// Visible tokens in the first event, if that is a large one.
    pub first_event: u64,
    /// Generate as long as somebody reads; without a reader, up to this many tokens.
    pub endless: Option<u64>,
}

/// What a request asks for, in so far as it decides how much is generated.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Number of choices.
    pub choices: u64,
    /// The output limit of the request, or else the model's own.
    pub limit: u64,
    /// The model's own limit.
    pub max_output: u64,
    /// Is the answer a stream?
    pub stream: bool,
    /// Does it think unless told otherwise?
    pub thinks: bool,
}

impl Plan {
    /// What a call generates that wishes for `wish` and whose script is `script`.
    pub fn new(seed: u64, wish: &Wish, script: &Script) -> Plan {
        let wanted = script.tokens.unwrap_or(5 + mix(seed) % 56);
        let thinks = wish.thinks && script.tokens.is_none();
        let implied = if thinks { mix(seed ^ 1) % 32 } else { 0 };
        let reasoning = script.reasoning.unwrap_or(implied);
        // A scripted total includes its reasoning; otherwise reasoning comes on top.
        let mut wanted = if script.tokens.is_some() { wanted.max(reasoning) } else { wanted + reasoning };
        let first_event = first_event(seed, script);
        wanted += first_event;
        let obeys = script.obey.unwrap_or(u64::from(!script.endless)) == 1;
        if script.endless && wish.stream {
            wanted = u64::MAX;
        }
        Plan {
            seed,
            choices: wish.choices,
            wanted,
            limit: if obeys { wish.limit } else { u64::MAX },
            reasoning,
            first_event,
            endless: (script.endless && wish.stream && !obeys).then_some(wish.max_output),
        }
    }

    /// A call that generates nothing.
    pub fn nothing(seed: u64) -> Plan {
        Plan { seed, choices: 1, wanted: 0, limit: 0, reasoning: 0, first_event: 0, endless: None }
    }

    /// Tokens that it will generate.
    pub fn total(&self) -> u64 {
        self.wanted.min(self.limit)
    }

    /// Did the limit end it?
    pub fn is_cut_short(&self) -> bool {
        self.wanted > self.limit
    }

    /// Reasoning tokens that it will generate.
    pub fn silent(&self) -> u64 {
        self.reasoning.min(self.total())
    }

    /// Visible tokens that it will generate.
    pub fn visible(&self) -> u64 {
        self.total() - self.silent()
    }
}

/// How many words make up a first event of that many bytes.
fn first_event(seed: u64, script: &Script) -> u64 {
    let size = script.large_event.unwrap_or(0);
    let (mut bytes, mut count) = (0, 0);
    while bytes < size {
        bytes += word(seed, script.unicode, 0, count).len() as u64;
        count += 1;
    }
    count
}

/// A generation that is about to run.
pub struct Job {
    /// Where it is billed.
    pub books: Arc<Books>,
    /// What is billed.
    pub call: Arc<Call>,
    /// What to generate.
    pub plan: Plan,
    /// Pace and accidents.
    pub script: Script,
    /// What to do when the reader leaves.
    pub leave: OnLeave,
}

impl Job {
    /// Can everything be generated at once, without waiting and without accidents?
    pub fn is_instant(&self) -> bool {
        let s = &self.script;
        let waits = [s.rate, s.first_ms, s.pause_ms, s.delay_headers_ms].iter().any(|v| v.unwrap_or(0) > 0);
        !waits && s.error_at.is_none() && s.die_at.is_none() && self.plan.endless.is_none()
    }

    /// Generates and bills everything now.
    pub fn finish_now(&self) {
        self.call.generate(self.plan.total().saturating_mul(self.plan.choices));
        self.books.close(&self.call, Outcome::Completed);
    }

    /// Starts generating; the beats go to the receiver. Dropping the receiver is leaving.
    pub fn spawn(self) -> mpsc::Receiver<Beat> {
        let ahead = if self.rate() == 0 { AHEAD_UNPACED } else { AHEAD_PACED };
        let (tx, rx) = mpsc::channel(ahead);
        let reader = Reader { tx: Some(tx), leave: self.leave, told_to_stop: false };
        tokio::spawn(self.run(reader));
        rx
    }

    /// Starts generating with nobody there to read. Billed to its end.
    pub fn spawn_unread(self) {
        let reader = Reader { tx: None, leave: OnLeave::Complete, told_to_stop: false };
        tokio::spawn(self.run(reader));
    }

    async fn run(self, mut reader: Reader) {
        let broke_off = self.generate(&mut reader).await;
        let outcome = if broke_off || reader.tx.is_none() { Outcome::Aborted } else { Outcome::Completed };
        self.books.close(&self.call, outcome);
        if let Some(last) = self.last_beat(broke_off) {
            reader.send(last).await;
        }
    }

    /// Runs to the end; true if that end is not the natural one.
    async fn generate(&self, reader: &mut Reader) -> bool {
        let mut shift = Duration::from_millis(self.script.first_ms.unwrap_or(0));
        let started = Instant::now();
        reader.wait(started + shift).await;
        reader.send(Beat::Start).await;
        let pause = self.script.pause_ms.map(Duration::from_millis);
        let mut pause_left = pause.filter(|_| self.script.pause_at.is_some());
        let mut done = 0;
        loop {
            if reader.told_to_stop || self.call.must_stop() {
                return true;
            }
            if let Some(pause) = pause_left.take_if(|_| Some(done) >= self.script.pause_at) {
                shift += pause;
                reader.wait(started + shift + self.time_for(done)).await;
            }
            let end = self.end(done, reader.tx.is_some());
            if done >= end {
                break;
            }
            let step = self.step(done, reader.tx.is_some(), pause_left.is_some()).min(end - done);
            reader.wait(started + shift + self.time_for(done + step)).await;
            if reader.told_to_stop {
                return true;
            }
            self.call.generate(step.saturating_mul(self.plan.choices));
            let before = done;
            done += step;
            let thoughts = self.plan.reasoning;
            if before < thoughts {
                reader.send(Beat::Thoughts { from: before, to: done.min(thoughts) }).await;
            }
            let (from, to) = (before.saturating_sub(thoughts), done.saturating_sub(thoughts));
            if to > from {
                reader.send(Beat::Tokens { from, to }).await;
            }
        }
        self.script.error_at.is_some() || self.script.die_at.is_some()
    }

    fn last_beat(&self, broke_off: bool) -> Option<Beat> {
        if !broke_off {
            Some(Beat::End)
        } else if self.script.error_at.is_some() {
            Some(Beat::Error)
        } else {
            self.script.die_at.map(|_| Beat::Die)
        }
    }

    fn rate(&self) -> u64 {
        self.script.rate.unwrap_or(0)
    }

    fn time_for(&self, tokens: u64) -> Duration {
        match self.rate() {
            0 => Duration::ZERO,
            rate => Duration::from_nanos((u128::from(tokens) * 1_000_000_000 / u128::from(rate)) as u64),
        }
    }

    /// Where generation stops, as things stand after `done` tokens.
    fn end(&self, done: u64, is_read: bool) -> u64 {
        let natural = match self.plan.endless {
            Some(_) if is_read => u64::MAX,
            Some(without_reader) => without_reader.max(done),
            None => self.plan.total(),
        };
        let accident = |at: Option<u64>| at.unwrap_or(u64::MAX);
        natural.min(accident(self.script.error_at)).min(accident(self.script.die_at))
    }

    /// How many tokens come at once after `done` tokens.
    fn step(&self, done: u64, is_read: bool, pauses_later: bool) -> u64 {
        let to_pause = match self.script.pause_at {
            Some(at) if pauses_later && at > done => at - done,
            _ => u64::MAX,
        };
        let silent = self.plan.reasoning.saturating_sub(done);
        let step = match (silent, self.rate()) {
            (_, 0) if !is_read => u64::MAX,
            (0, _) if done == self.plan.reasoning && self.plan.first_event > 0 => self.plan.first_event,
            (0, _) => self.script.chunk.unwrap_or(1).max(1),
            (silent, 0) => silent,
            (silent, rate) => silent.min((rate / 50).max(1)),
        };
        step.min(to_pause)
    }
}

/// The one who reads, as generation sees it.
struct Reader {
    tx: Option<mpsc::Sender<Beat>>,
    leave: OnLeave,
    told_to_stop: bool,
}

impl Reader {
    fn left(&mut self) {
        self.tx = None;
        self.told_to_stop = self.leave == OnLeave::Stop;
    }

    async fn send(&mut self, beat: Beat) {
        if let Some(tx) = &self.tx
            && tx.send(beat).await.is_err()
        {
            self.left();
        }
    }

    /// Waits until then, or until the reader leaves and that means stop.
    async fn wait(&mut self, until: Instant) {
        if until <= Instant::now() {
            return;
        }
        if let Some(tx) = &self.tx {
            let has_left = tokio::select! {
                () = tx.closed() => true,
                () = sleep_until(until) => false,
            };
            if has_left {
                self.left();
            }
            if !has_left || self.told_to_stop {
                return;
            }
        }
        sleep_until(until).await;
    }
}
