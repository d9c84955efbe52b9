//! A request, read and bounded.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use super::Fee;
use crate::money::Money;
use crate::pricing::{ModelPrice, Terms};

/// A metered call, read and bounded. Input and output are counted in tokens.
pub struct Call {
    /// The model, as the request names it.
    pub model: Arc<str>,
    /// Its row of the price table at this moment: reserve and settle see the same prices.
    pub price: Arc<ModelPrice>,
    /// What may be billed beside plain text.
    pub terms: Terms,
    /// True when the answer is streamed.
    pub stream: bool,
    /// False when the client did not ask for the usage that a stream ends with: it is then kept from it.
    pub shows_usage: bool,
    /// Answers asked for (`n`); each may have the whole output. At least 1.
    pub samples: u64,
    /// The most input tokens that the body can make, in one pass of the model.
    pub input_max: u64,
    /// The most output tokens of one sample as the request stands: its own limit, or the model's.
    pub output_max: u64,
    /// The least output limit that a clamp may set: 16, or less when the request asks for less; 0 for embeddings. `output_max` where
    /// the limit cannot be lowered.
    pub output_min: u64,
    /// True when the cut mode may run it: streamed, and nothing billed is hidden from the stream.
    pub cuttable: bool,
    /// The provider's own part: the parsed body.
    pub body: Box<dyn CallBody>,
}

/// A request to a provider's own route that counts the input of a call exactly, and free of charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountAsk {
    /// The path, below the provider's base URL.
    pub path: String,
    /// The body, JSON.
    pub body: Bytes,
    /// The field of the answer that holds the number of tokens.
    pub field: &'static str,
    /// What is held for beyond the tokens counted: so many in a hundred, and so many more.
    pub slack: (u64, u64),
}

impl CountAsk {
    /// The most input tokens of a call of which so many were counted.
    pub fn bound(&self, counted: u64) -> u64 {
        let (per_cent, more) = self.slack;
        counted.saturating_add(counted.saturating_mul(per_cent).div_ceil(100)).saturating_add(more)
    }
}

/// The provider's part of a call.
pub trait CallBody: Send + Sync {
    /// A smaller bound of the input by an exact tokenizer, or `None` where there is none for this call. Costs CPU time.
    fn exact_input(&self) -> Option<u64>;

    /// How the provider itself counts the input of this call, sent to `path`. `None` where it does not, or not all that is billed, or
    /// where the input may be another one when the call is made.
    fn count(&self, _path: &str) -> Option<CountAsk> {
        None
    }

    /// The body to forward: what was parsed, with what must be forced, and `output_limit` tokens a sample if given.
    fn render(&self, output_limit: Option<u64>) -> Bytes;

    /// The output limit a sample to forward so that no more than `output` tokens are billed, where providers overshoot their limit.
    fn limit_within(&self, output: u64) -> u64 {
        output
    }

    /// The tools that the provider runs itself, by their names in `fees`: what one use costs, and how many are held for.
    fn held_tools(&self) -> &[(&'static str, Fee)] {
        &[]
    }

    /// What the provider's own reader of the answer must know of the request.
    fn facts(&self) -> Option<&dyn Any> {
        None
    }

    /// True when the answer repeats the prompt: text that is shown, but not among the output tokens.
    fn repeats_prompt(&self) -> bool {
        false
    }
}

impl Call {
    /// The most that the call can cost with at most `input` input tokens and `output` output tokens a sample.
    pub fn bound(&self, input: u64, output: u64) -> Money {
        self.worst(input, output.saturating_mul(self.samples))
    }

    /// The most that at most `input` input tokens and `output` output tokens, all samples together, can cost.
    pub fn worst(&self, input: u64, output: u64) -> Money {
        self.price.worst(&self.terms, input, output).rounded_up()
    }

    /// The largest output limit a sample whose bound stays within `money`, at most `output_max`. `None`: not even none fits.
    pub fn output_within(&self, input: u64, money: Money) -> Option<u64> {
        if self.worst(input, 0) > money {
            return None;
        }
        Some((self.output_paid(input, money) / self.samples.max(1)).min(self.output_max))
    }

    /// Output tokens, all samples together, that `money` pays for beside `input` input tokens.
    pub fn output_paid(&self, input: u64, money: Money) -> u64 {
        let spent = self.price.worst(&self.terms, input, 0);
        spent.units_within(money, self.price.worst_output_rate(&self.terms, input)).unwrap_or(u64::MAX)
    }
}
