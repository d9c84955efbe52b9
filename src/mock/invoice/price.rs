//! What a call consists of, and what it costs.

use super::super::prices::Terms;

/// The prompt of a call, split the way it is billed. The parts do not overlap; what is in none of them is plain text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// All prompt tokens but those of `tool_use`.
    pub total: u64,
    /// Those of them that were read from the cache.
    pub cached: u64,
    /// Those of them that were written to the cache (for five minutes, where there is a choice).
    pub cache_write: u64,
    /// Those of them that were written to the cache for an hour.
    pub cache_write_1h: u64,
    /// Those of them that are audio.
    pub audio: u64,
    /// Those of them that are images.
    pub image: u64,
    /// Tokens that tools put in, which Gemini counts apart. On top of `total`, billed as input.
    pub tool_use: u64,
}

impl Prompt {
    /// The tokens that no part but the whole counts.
    pub fn plain(&self) -> u64 {
        let parts = [self.cached, self.cache_write, self.cache_write_1h, self.audio, self.image];
        parts.iter().fold(self.total, |left, part| left.saturating_sub(*part))
    }
}

/// Which of the output tokens are not text. Audio comes last, images before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// Output tokens of all choices together, if nothing stops them.
    pub planned: u64,
    /// Those of them that are audio.
    pub audio: u64,
    /// Those of them that are images.
    pub image: u64,
}

/// The output of a call, split the way it is billed. The parts do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// All output tokens.
    pub total: u64,
    /// Those of them that were reasoning.
    pub reasoning: u64,
    /// Those of them that are audio.
    pub audio: u64,
    /// Those of them that are images.
    pub image: u64,
}

impl Output {
    /// Splits `total` generated tokens of which the first `reasoning` are silent.
    pub fn split(total: u64, reasoning: u64, media: &Media) -> Output {
        let before_audio = media.planned.saturating_sub(media.audio);
        let before_image = before_audio.saturating_sub(media.image);
        let audio = total.saturating_sub(before_audio).min(media.audio);
        let image = total.saturating_sub(before_image).min(media.image);
        let reasoning = reasoning.min(total - audio - image);
        Output { total, reasoning, audio, image }
    }
}

/// The price of a call in nano-dollars: exact in pico-dollars, multiplied, rounded up once.
pub fn price(terms: &Terms, prompt: &Prompt, output: &Output) -> u64 {
    let rates = &terms.rates;
    let text = output.total.saturating_sub(output.reasoning).saturating_sub(output.audio).saturating_sub(output.image);
    let lines = [
        (prompt.plain(), rates.input),
        (prompt.tool_use, rates.input),
        (prompt.cached, rates.cache_read),
        (prompt.cache_write, rates.cache_write),
        (prompt.cache_write_1h, rates.cache_write_1h),
        (prompt.audio, rates.audio_in),
        (prompt.image, rates.image_in),
        (text, rates.output),
        (output.reasoning, rates.reasoning),
        (output.audio, rates.audio_out),
        (output.image, rates.image_out),
    ];
    let pico: u128 = lines.iter().map(|(tokens, rate)| u128::from(*tokens) * u128::from(*rate)).sum();
    let (times, over) = (u128::from(terms.times), u128::from(terms.over));
    let total = pico * times + u128::from(terms.fees) * 1000 * over;
    u64::try_from(total.div_ceil(1000 * over)).unwrap_or(u64::MAX)
}

/// Nano-dollars as a decimal number of dollars.
pub fn usd(nano: u64) -> String {
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}
