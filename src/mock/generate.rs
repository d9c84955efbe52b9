//! Generation, whatever the dialect: how many tokens, how fast, who is reading, and what is billed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::invoice::{Books, Call, Outcome};
use super::script::{OnLeave, Script};

/// Beats that may wait for a slow reader when generation has a rate of its own.
const AHEAD_PACED: usize = 1024;
/// The same when generation is as fast as its reader.
const AHEAD_UNPACED: usize = 8;

/// What generation tells the one who renders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The answer begins.
    Start,
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

impl Plan {
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
            if reader.told_to_stop || self.call.is_orphan() {
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
            let from = done.saturating_sub(self.plan.reasoning);
            done += step;
            let to = done.saturating_sub(self.plan.reasoning);
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

/// Common words. Each, with a space before it, is one token in OpenAI's encodings (a test counts them).
static WORDS: [&str; 128] = [
    " time",
    " year",
    " people",
    " way",
    " day",
    " man",
    " thing",
    " woman",
    " life",
    " child",
    " world",
    " school",
    " state",
    " family",
    " student",
    " group",
    " country",
    " problem",
    " hand",
    " part",
    " place",
    " case",
    " week",
    " company",
    " system",
    " program",
    " question",
    " work",
    " government",
    " number",
    " night",
    " point",
    " home",
    " water",
    " room",
    " mother",
    " area",
    " money",
    " story",
    " fact",
    " month",
    " lot",
    " right",
    " study",
    " book",
    " eye",
    " job",
    " word",
    " business",
    " issue",
    " side",
    " kind",
    " head",
    " house",
    " service",
    " friend",
    " father",
    " power",
    " hour",
    " game",
    " line",
    " end",
    " member",
    " law",
    " car",
    " city",
    " community",
    " name",
    " president",
    " team",
    " minute",
    " idea",
    " kid",
    " body",
    " information",
    " back",
    " parent",
    " face",
    " others",
    " level",
    " office",
    " door",
    " health",
    " person",
    " art",
    " war",
    " history",
    " party",
    " result",
    " change",
    " morning",
    " reason",
    " research",
    " girl",
    " guy",
    " moment",
    " air",
    " teacher",
    " force",
    " education",
    " the",
    " of",
    " and",
    " that",
    " with",
    " from",
    " this",
    " they",
    " have",
    " would",
    " there",
    " what",
    " about",
    " which",
    " when",
    " make",
    " like",
    " just",
    " know",
    " take",
    " into",
    " good",
    " some",
    " could",
    " them",
    " other",
    " than",
    " then",
];

/// Words of more bytes than letters; one token each as well.
static UNICODE_WORDS: [&str; 8] = [" más", " für", " été", " är", " é", " à", " não", " está"];

/// Token number `index` of a choice.
pub fn word(seed: u64, is_unicode: bool, choice: u64, index: u64) -> &'static str {
    let list: &[&str] = if is_unicode { &UNICODE_WORDS } else { &WORDS };
    let mixed = mix(seed ^ mix(choice.wrapping_add(1)) ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    list[(mixed % list.len() as u64) as usize]
}

/// Scrambles 64 bits.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A hash of the request body: the same body always gets the same answer.
pub fn seed_of(body: &[u8]) -> u64 {
    let mut chunks = body.chunks_exact(8);
    let mut hash = 0x243F_6A88_85A3_08D3 ^ body.len() as u64;
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
    for byte in chunks.remainder() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    }
    mix(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_one_token() {
        for word in WORDS.iter().chain(&UNICODE_WORDS) {
            assert_eq!(bpe_openai::o200k_base().count(word), 1, "{word}");
            assert_eq!(bpe_openai::cl100k_base().count(word), 1, "{word}");
        }
        for is_unicode in [false, true] {
            let text: String = (0..500).map(|i| word(7, is_unicode, 0, i)).collect();
            assert_eq!(bpe_openai::o200k_base().count(&text), 500);
            assert_eq!(bpe_openai::cl100k_base().count(&text), 500);
        }
    }

    #[test]
    fn seeds_and_words_depend_on_everything() {
        assert_eq!(seed_of(b"abc"), seed_of(b"abc"));
        assert_ne!(seed_of(b"abc"), seed_of(b"abd"));
        assert_ne!(seed_of(b"12345678"), seed_of(b"123456789"));
        let text = |seed, choice| (0..20).map(|i| word(seed, false, choice, i)).collect::<String>();
        assert_eq!(text(1, 0), text(1, 0));
        assert_ne!(text(1, 0), text(1, 1));
        assert_ne!(text(1, 0), text(2, 0));
    }
}
