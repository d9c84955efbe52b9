//! The provider: answers in bytes, in whatever pieces, well or badly; and keeps its own invoice in its own arithmetic.

use std::collections::VecDeque;

use crate::rng::Rng;

/// Rates in femto-dollars (10⁻¹⁵ USD) a token, as `prices()` tells the gateway: dear or odd ones, so that rounding matters.
pub struct Model {
    pub name: &'static str,
    pub provider: &'static str,
    input: u128,
    cached: u128,
    output: u128,
    /// It thinks without showing it.
    pub hides: bool,
    max_output: u64,
}

pub static MODELS: [Model; 3] = [
    Model {
        name: "gpt-4o-mini",
        provider: "openai",
        input: 150_000_123,
        cached: 75_000_061,
        output: 600_000_789,
        hides: false,
        max_output: 16_384,
    },
    Model {
        name: "o4-mini",
        provider: "openai",
        input: 1_100_000_001,
        cached: 275_000_007,
        output: 4_400_000_003,
        hides: true,
        max_output: 100_000,
    },
    Model {
        name: "claude-haiku-4-5",
        provider: "anthropic",
        input: 1_000_000_011,
        cached: 100_000_003,
        output: 5_000_000_017,
        hides: false,
        max_output: 64_000,
    },
];

/// The price file that says the same in the operator's words.
pub fn prices() -> String {
    let usd = |femto: u128| format!("\"{}.{:09}\"", femto / 1_000_000_000, femto % 1_000_000_000);
    let row = |model: &Model| {
        let tokenizer = if model.provider == "openai" { "\n  tokenizer: o200k_base" } else { "" };
        format!(
            "{}/{}:\n  input: {}\n  cache_read: {}\n  cache_write: {}\n  cache_write_1h: {}\n  output: {}\n  context_window: 128000\n  \
             max_output: {}\n  hidden_output: {}{tokenizer}\n  valid_from: \"2020-01-01\"\n  source: \"a simulation\"\n",
            model.provider,
            model.name,
            usd(model.input),
            usd(model.cached),
            usd(model.input * 5 / 4),
            usd(model.input * 2),
            usd(model.output),
            model.max_output,
            model.hides,
        )
    };
    MODELS.iter().map(row).collect()
}

impl Model {
    /// Nano-dollars, rounded up once.
    pub fn cost(&self, input: u64, cached: u64, output: u64) -> u64 {
        let fresh = u128::from(input - cached);
        let femto = fresh * self.input + u128::from(cached) * self.cached + u128::from(output) * self.output;
        u64::try_from(femto.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// How the provider takes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Honest,
    /// No connection comes to be.
    Unreachable,
    /// An error that is documented as free.
    FreeError,
    /// An error after the model has run, which is billed.
    BilledError,
    /// The connection breaks before the answer, which is billed.
    BreaksEarly,
    /// The connection breaks in the answer.
    BreaksLate,
    /// The answer says nothing of its usage.
    Silent,
    /// The answer says of its usage what cannot be.
    Odd,
    /// The answer says less than was generated, and it shows.
    Lies,
    /// More is generated than was allowed.
    Disobeys,
    /// The answer stops in the middle and the connection stays.
    Stalls,
}

impl Fate {
    pub fn any(rng: &mut Rng) -> Fate {
        use Fate::*;
        match rng.below(100) {
            0..56 => Honest,
            56..60 => Unreachable,
            60..65 => FreeError,
            65..69 => BilledError,
            69..73 => BreaksEarly,
            73..79 => BreaksLate,
            79..83 => Silent,
            83..86 => Odd,
            86..89 => Lies,
            89..94 => Disobeys,
            _ => Stalls,
        }
    }
}

/// A piece of an answer, and the output tokens that exist once it does.
#[derive(Clone, Debug)]
struct Piece {
    bytes: Vec<u8>,
    tokens: u64,
}

/// What comes on the gateway's connection.
#[derive(Clone, Debug)]
pub enum Arrival {
    Head { status: u16, content_type: &'static str },
    Bytes(Vec<u8>),
    End,
    Broken,
}

/// A call that the provider has accepted.
pub struct Served {
    model: &'static Model,
    pub fate: Fate,
    input: u64,
    cached: u64,
    /// All that will be generated, if nobody drops it.
    total: u64,
    generated: u64,
    /// A dropped connection ends the bill.
    pub drop_stops: bool,
    head: Option<(u16, &'static str)>,
    pieces: VecDeque<Piece>,
    /// Generated and on the way.
    flight: VecDeque<Piece>,
    /// What the bill is in the end, where it is not a matter of tokens.
    fixed: Option<u64>,
    pub is_over: bool,
}

/// Tokens that may be on the way to the gateway, unread: less than the allowance that the gateway documents (64).
const LEAD_MAX: u64 = 40;
/// Tokens of a piece of a stream.
const PIECE_TOKENS_MAX: u64 = 16;

/// What the client asked for, apart from its body.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub model: usize,
    pub fate: Fate,
    /// Words of the prompt, one token each.
    pub words: u64,
    pub cached: u64,
    /// Tokens that the model would generate without a limit, and how many of them in hiding.
    pub length: u64,
    pub hidden: u64,
}

impl Wish {
    /// The prompt's tokens, frame included.
    fn input(&self) -> u64 {
        self.words + 8
    }
}

/// The number behind a field's name in a JSON text.
fn number(body: &str, field: &str) -> Option<u64> {
    let at = body.find(&format!("\"{field}\":"))? + field.len() + 3;
    let digits: String = body[at..].trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The most that a body can be billed, as the provider reads it.
pub fn worst(wish: &Wish, body: &str) -> u64 {
    MODELS[wish.model].cost(wish.input(), 0, limit(&MODELS[wish.model], body))
}

fn limit(model: &Model, body: &str) -> u64 {
    number(body, "max_completion_tokens").or(number(body, "max_tokens")).unwrap_or(model.max_output)
}

impl Served {
    /// Reads a body and decides on the answer. `is_cut` when its hold does not cover what it asks for.
    pub fn accept(wish: &Wish, body: &str, is_cut: bool, rng: &mut Rng) -> Served {
        let model = &MODELS[wish.model];
        let limit = limit(model, body);
        let stream = body.contains("\"stream\":true");
        let fate = match wish.fate {
            // An error that Anthropic documents as free, all of them.
            Fate::BilledError if model.provider == "anthropic" => Fate::FreeError,
            Fate::Lies if model.hides || model.provider == "anthropic" => Fate::Honest,
            Fate::Disobeys if is_cut => Fate::Honest,
            fate => fate,
        };
        let extra = if fate == Fate::Disobeys { rng.within(1, 400) } else { 0 };
        let wished = if fate == Fate::Disobeys { limit.min(600) } else { wish.length.min(limit) };
        let total = wished + extra;
        let hidden = if model.hides { wish.hidden.min(total) } else { 0 };
        let mut served = Served {
            model,
            fate,
            input: wish.input(),
            cached: wish.cached.min(wish.input()),
            total,
            generated: 0,
            drop_stops: model.provider == "anthropic" || is_cut,
            head: Some((200, if stream { "text/event-stream" } else { "application/json" })),
            pieces: VecDeque::new(),
            flight: VecDeque::new(),
            fixed: None,
            is_over: false,
        };
        match fate {
            Fate::FreeError | Fate::BilledError => {
                let is_billed = fate == Fate::BilledError;
                served.head = Some((if is_billed { 500 } else { 429 }, "application/json"));
                // In cut mode nothing may be billed that could not be cut.
                let unseen = total.min(if is_cut { LEAD_MAX } else { limit });
                served.fixed = Some(if is_billed { served.at(unseen) } else { 0 });
                served.pieces.push_back(Piece { bytes: b"{\"error\":{\"message\":\"no\"}}".to_vec(), tokens: 0 });
            }
            Fate::BreaksEarly => {
                served.head = None;
                served.fixed = Some(served.at(rng.below(total + 1).min(LEAD_MAX)));
            }
            _ if stream => served.stream(hidden, rng),
            _ => served.whole(hidden, rng),
        }
        if matches!(fate, Fate::BreaksLate | Fate::Stalls) {
            let keep = rng.place(served.pieces.len());
            served.pieces.truncate(keep);
        }
        served
    }

    fn at(&self, output: u64) -> u64 {
        self.model.cost(self.input, self.cached, output)
    }

    /// What is billed so far.
    pub fn invoice(&self) -> u64 {
        self.fixed.unwrap_or_else(|| self.at(self.generated))
    }

    /// The gateway has dropped the connection.
    pub fn dropped(&mut self) {
        if !self.is_over {
            self.is_over = true;
            if !self.drop_stops && self.fixed.is_none() {
                self.generated = self.total;
            }
        }
    }

    /// The next thing that happens: more is generated, or what was arrives. `unread` tokens wait at the gateway.
    pub fn step(&mut self, unread: u64, rng: &mut Rng) -> Option<(Arrival, u64)> {
        if self.is_over || (self.head.is_none() && self.flight.is_empty() && self.fate == Fate::BreaksEarly) {
            let was_over = std::mem::replace(&mut self.is_over, true);
            return (!was_over).then_some((Arrival::Broken, 0));
        }
        if let Some((status, content_type)) = self.head.take() {
            return Some((Arrival::Head { status, content_type }, 0));
        }
        let lead: u64 = self.flight.iter().map(|piece| piece.tokens).sum::<u64>() + unread;
        let has_room = !self.drop_stops || lead + PIECE_TOKENS_MAX * 2 <= LEAD_MAX;
        if has_room
            && !self.pieces.is_empty()
            && (self.flight.is_empty() || rng.chance(30))
            && let Some(piece) = self.pieces.pop_front()
        {
            self.generated += piece.tokens;
            self.flight.push_back(piece);
            // Now and then generated and sent in one step.
            if rng.chance(40) {
                return None;
            }
        }
        if let Some(piece) = self.flight.pop_front() {
            return Some((Arrival::Bytes(piece.bytes), piece.tokens));
        }
        if self.pieces.is_empty() && self.fate != Fate::Stalls {
            self.is_over = true;
            if self.fate == Fate::BreaksLate {
                // What was generated without being sent is billed all the same, unless a broken connection ends the bill.
                if !self.drop_stops && self.fixed.is_none() {
                    self.generated = self.total;
                }
                return Some((Arrival::Broken, 0));
            }
            return Some((Arrival::End, 0));
        }
        None
    }

    /// True when the whole answer, with a usage that is true, was sent.
    pub fn tells_usage(&self) -> bool {
        self.fixed.is_none() && matches!(self.fate, Fate::Honest | Fate::Disobeys | Fate::Lies)
    }

    /// The usage object, as this provider writes it.
    fn usage(&self, output: u64) -> String {
        let (input, cached) = (self.input, self.cached);
        if self.model.provider == "anthropic" {
            let output = if self.fate == Fate::Odd { "-3".into() } else { output.to_string() };
            return format!(
                "{{\"input_tokens\":{},\"cache_read_input_tokens\":{cached},\"output_tokens\":{output}}}",
                input - cached
            );
        }
        let said = if self.fate == Fate::Lies { output / 3 } else { output };
        let total = input + said + u64::from(self.fate == Fate::Odd);
        format!(
            "{{\"prompt_tokens\":{input},\"completion_tokens\":{said},\"total_tokens\":{total},\
             \"prompt_tokens_details\":{{\"cached_tokens\":{cached}}}}}"
        )
    }

    /// An answer in one piece of JSON, sent in several of bytes.
    fn whole(&mut self, hidden: u64, rng: &mut Rng) {
        let text = " go".repeat((self.total - hidden) as usize);
        let name = self.model.name;
        let usage = match self.fate {
            Fate::Silent => "null".into(),
            _ => self.usage(self.total),
        };
        let body = if self.model.provider == "anthropic" {
            format!(
                "{{\"type\":\"message\",\"model\":\"{name}\",\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}],\
                 \"stop_reason\":\"end_turn\",\"usage\":{usage}}}"
            )
        } else {
            format!(
                "{{\"object\":\"chat.completion\",\"model\":\"{name}\",\"choices\":[{{\"index\":0,\"message\":\
                 {{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{usage}}}"
            )
        };
        // It is generated before its first byte.
        self.generated = self.total;
        self.split(vec![(body, 0)], rng);
    }

    /// A stream of events.
    fn stream(&mut self, hidden: u64, rng: &mut Rng) {
        let name = self.model.name;
        let is_claude = self.model.provider == "anthropic";
        let mut events = Vec::new();
        if is_claude {
            let start = self.usage(1);
            events.push((
                format!("event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"model\":\"{name}\",\"usage\":{start}}}}}\n\n"),
                0,
            ));
            events.push(("event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n".into(), 0));
        }
        let mut left = self.total - hidden;
        let mut before = hidden;
        while left > 0 {
            let words = rng.within(1, PIECE_TOKENS_MAX).max(left / 24).min(left);
            left -= words;
            let text = " go".repeat(words as usize);
            let event = if is_claude {
                format!(
                    "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
                )
            } else {
                format!(
                    "data: {{\"object\":\"chat.completion.chunk\",\"model\":\"{name}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
                )
            };
            events.push((event, words + std::mem::take(&mut before)));
        }
        let usage = self.usage(self.total);
        let is_told = self.fate != Fate::Silent;
        if is_claude {
            events.push((
                "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n".into(),
                before,
            ));
            let usage = if is_told { format!(",\"usage\":{usage}") } else { String::new() };
            events.push((format!("event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}}{usage}}}\n\n"), 0));
            events.push(("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".into(), 0));
        } else {
            events.push(("data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n".into(), before));
            if is_told {
                events.push((format!("data: {{\"object\":\"chat.completion.chunk\",\"model\":\"{name}\",\"choices\":[],\"usage\":{usage}}}\n\n"), 0));
            }
            events.push(("data: [DONE]\n\n".into(), 0));
        }
        self.split(events, rng);
    }

    /// Cuts events into pieces anywhere; the tokens of an event exist with its first byte.
    fn split(&mut self, events: Vec<(String, u64)>, rng: &mut Rng) {
        let mut piece = Piece { bytes: Vec::new(), tokens: 0 };
        let pieces = &mut self.pieces;
        let mut close = |piece: &mut Piece| {
            if !piece.bytes.is_empty() {
                let fresh = Piece { bytes: Vec::new(), tokens: 0 };
                pieces.push_back(std::mem::replace(piece, fresh));
            }
        };
        for (event, tokens) in events {
            if piece.tokens + tokens > PIECE_TOKENS_MAX || rng.chance(30) {
                close(&mut piece);
            }
            piece.tokens += tokens;
            let bytes = event.as_bytes();
            let at = rng.place(bytes.len());
            if rng.chance(25) && at > 0 {
                piece.bytes.extend_from_slice(&bytes[..at]);
                close(&mut piece);
                piece.bytes.extend_from_slice(&bytes[at..]);
            } else {
                piece.bytes.extend_from_slice(bytes);
            }
        }
        close(&mut piece);
    }
}
