//! `generationConfig`: how much may be generated, and of what.

use super::{fields, names, tools};
use crate::pricing::ModelPrice;
use crate::provider::{Reading, Reject, reject};
use crate::wire::json::Value;

/// The most candidates that the API makes.
const CANDIDATES_MAX: u64 = 8;
/// The most output tokens of one hop of models that go on by continuation; their `max_output` is a sum over hops.
const HOP_TOKENS_MAX: u64 = 65_536;
/// Small overshoots of the limit are known: so many tokens, and so many per cent on top.
const OVERSHOOT_TOKENS: u64 = 64;

/// What a generation may make.
#[derive(Debug)]
pub struct Config {
    /// The limit of a candidate, if there is one.
    pub limit: Option<u64>,
    /// The field of the limit, as the request spells it.
    pub limit_field: Option<String>,
    /// Candidates.
    pub samples: u64,
    /// What schemas add to the prompt beyond their bytes. `None`: no bound.
    pub extra: Option<u64>,
    /// Whether images may be made.
    pub images: bool,
    /// Whether audio may be made.
    pub audio: bool,
}

/// Reads `generationConfig`.
pub fn read(value: Option<Value<'_>>, reading: &Reading<'_>, price: &ModelPrice) -> Result<Config, Reject> {
    // A model that can make media makes it unasked.
    let mut config = Config {
        limit: None,
        limit_field: None,
        samples: 1,
        extra: Some(0),
        images: prices_images(price),
        audio: prices_audio(price),
    };
    let Some(value) = value else { return Ok(config) };
    for field in names::read(reading, value, "generationConfig", fields::CONFIG)? {
        match field.name {
            "maxOutputTokens" => {
                config.limit = Some(names::whole(field.name, field.value)?);
                config.limit_field = Some(field.spelled.into_owned());
            }
            "candidateCount" => match names::whole(field.name, field.value) {
                Ok(samples @ 1..=CANDIDATES_MAX) => config.samples = samples,
                _ => {
                    let message = "`candidateCount` is not a whole number from 1 to 8";
                    return Err(reject::invalid(message, "leave it out for one candidate"));
                }
            },
            "thinkingConfig" => {
                drop(names::read(reading, field.value, "generationConfig.thinkingConfig", fields::THINKING)?)
            }
            "responseModalities" => modalities(&mut config, field.value, price)?,
            _ => config.extra = config.extra.and_then(|sum| sum.checked_add(tools::expansion(field.value)?)),
        }
    }
    Ok(config)
}

fn modalities(config: &mut Config, value: Value<'_>, price: &ModelPrice) -> Result<(), Reject> {
    let (mut images, mut audio) = (false, false);
    for (at, item) in names::items(value).enumerate() {
        let name = item.as_str().unwrap_or_default().to_ascii_uppercase();
        match name.as_str() {
            "TEXT" => {}
            "IMAGE" if prices_images(price) => images = true,
            "AUDIO" if prices_audio(price) => audio = true,
            "IMAGE" | "AUDIO" => {
                let meter = if name == "IMAGE" { "image_out" } else { "audio_out" };
                return Err(Reject {
                    code: "unpriced_model",
                    message: format!("`responseModalities`: {} has no price of {meter}", price.id),
                    hint: format!(
                        "add `{meter}: \"…\"`, above the price of text, to the row {} of a price file",
                        price.id
                    ),
                });
            }
            _ => {
                let message = format!("`responseModalities[{at}]` is none of TEXT, IMAGE, AUDIO");
                return Err(reject::unpriceable(message, "send [\"TEXT\"], or leave it out"));
            }
        }
        (config.images, config.audio) = (images, audio);
    }
    Ok(())
}

/// True when the row prices images apart from text. A filled gap costs what text does.
fn prices_images(price: &ModelPrice) -> bool {
    let rates = &price.standard.short;
    rates.image_out > rates.output.max(rates.reasoning)
}

fn prices_audio(price: &ModelPrice) -> bool {
    let rates = &price.standard.short;
    rates.audio_out > rates.output.max(rates.reasoning)
}

impl Config {
    /// The most tokens of a candidate, overshoot included.
    pub fn output_max(&self, price: &ModelPrice) -> u64 {
        let most = price.max_output.min(price.context_window);
        let most = if price.id.contains("/gemini-4") { most.min(HOP_TOKENS_MAX) } else { most };
        // Whether the limit holds for images and audio is not documented.
        let limit = if self.makes_media() { most } else { self.limit.unwrap_or(most).min(most) };
        with_overshoot(limit)
    }

    /// True when more than text may be made.
    pub fn makes_media(&self) -> bool {
        self.images || self.audio
    }
}

/// What a limit may be overshot to.
pub fn with_overshoot(limit: u64) -> u64 {
    limit.saturating_add(limit.div_ceil(100)).saturating_add(OVERSHOOT_TOKENS)
}

/// The largest limit, of at least 1, that is not overshot beyond `output`.
pub fn without_overshoot(output: u64) -> u64 {
    let rest = u128::from(output.saturating_sub(OVERSHOOT_TOKENS));
    u64::try_from(rest * 100 / 101).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overshoot_is_taken_off_again() {
        for limit in (1..5_000).chain([65_536, 1_048_576, u64::from(u32::MAX)]) {
            let most = with_overshoot(limit);
            assert_eq!(without_overshoot(most), limit);
            assert!(without_overshoot(most - 1) < limit.max(2));
            assert!(most >= limit + 64 && most * 100 >= limit * 101 + 6400);
        }
    }
}
