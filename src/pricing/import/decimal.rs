//! A JSON number, exactly: from its text to 10⁻¹⁵ USD, without a float on the way.

use crate::money::Rate;

/// Decimals of a femto-dollar.
const PLACES: i64 = 15;
/// A number with more significant digits than this was not typed by a person: a program added floats.
const DIGITS_TYPED: usize = 15;
/// What is left of such a number when its noise is rounded away must be this short, or it is no noise.
const DIGITS_CLEAN: usize = 10;
/// The most digits that are read.
const DIGITS_MAX: usize = 40;

/// A number of the file in 10⁻¹⁵ USD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    /// The value.
    pub rate: Rate,
    /// True when float noise such as `5.0000000000000004e-08` was rounded away.
    pub noise: bool,
}

/// Why a number is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExact {
    /// No number, or below zero.
    #[error("is not a number of at least 0")]
    Malformed,
    /// Finer than 10⁻¹⁵ USD, and not by float noise.
    #[error("is finer than 10^-15 USD")]
    TooFine,
    /// Larger than any price.
    #[error("is larger than any price")]
    TooLarge,
}

/// Reads a JSON number in USD.
pub fn usd(text: &str) -> Result<Exact, NotExact> {
    let (mut digits, mut exponent) = parts(text)?;
    let noise = digits.len() > DIGITS_TYPED;
    if noise {
        let dropped = digits.len() - DIGITS_TYPED;
        digits = rounded(&digits, DIGITS_TYPED)?;
        exponent += i64::try_from(dropped).map_err(|_| NotExact::TooLarge)?;
        let clean = digits.trim_end_matches('0');
        if clean.len() > DIGITS_CLEAN {
            return Err(NotExact::TooFine);
        }
    }
    let clean = digits.trim_end_matches('0');
    exponent += i64::try_from(digits.len() - clean.len()).map_err(|_| NotExact::TooLarge)?;
    if clean.is_empty() {
        return Ok(Exact { rate: Rate::ZERO, noise });
    }
    let shift = usize::try_from(exponent + PLACES).map_err(|_| NotExact::TooFine)?;
    if clean.len() + shift > 30 {
        return Err(NotExact::TooLarge);
    }
    let femto = format!("{clean}{}", "0".repeat(shift)).parse().map_err(|_| NotExact::TooLarge)?;
    Ok(Exact { rate: Rate::from_femto(femto), noise })
}

/// Digits without leading zeros, and the power of ten that they are multiplied by.
fn parts(text: &str) -> Result<(String, i64), NotExact> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().map_err(|_| NotExact::Malformed)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: String = [whole, fraction].concat();
    if whole.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotExact::Malformed);
    }
    if all.len() > DIGITS_MAX || exponent.abs() > 40 {
        return Err(NotExact::TooLarge);
    }
    let places = i64::try_from(fraction.len()).map_err(|_| NotExact::TooLarge)?;
    Ok((all.trim_start_matches('0').to_string(), exponent - places))
}

/// The first `keep` digits, rounded to the nearest.
fn rounded(digits: &str, keep: usize) -> Result<String, NotExact> {
    let (kept, rest) = digits.split_at(keep);
    let value: u128 = kept.parse().map_err(|_| NotExact::TooLarge)?;
    let up = rest.starts_with(|c: char| ('5'..='9').contains(&c));
    Ok((value + u128::from(up)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly_or_refused() {
        for (text, per_million) in [
            ("1.25e-06", "1.25"),
            ("5e-09", "0.005"),
            ("0.00012", "120"),
            ("3.4375e-05", "34.375"),
            ("1E-6", "1"),
            ("0.0", "0"),
            ("0", "0"),
            ("1.000e-07", "0.1"),
            ("0.0000000000001", "0.0000001"),
        ] {
            let exact = usd(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((exact.rate.to_per_million().as_str(), exact.noise), (per_million, false), "{text}");
        }
        for (text, why) in [
            ("-1e-6", NotExact::Malformed),
            ("1e", NotExact::Malformed),
            ("", NotExact::Malformed),
            ("NaN", NotExact::Malformed),
            (".5", NotExact::Malformed),
            ("1e-16", NotExact::TooFine),
            ("1.23456789012e-06", NotExact::TooFine),
            ("1e30", NotExact::TooLarge),
            ("1e999", NotExact::TooLarge),
        ] {
            assert_eq!(usd(text), Err(why), "{text}");
        }
    }

    #[test]
    fn float_noise_is_rounded_away_and_told() {
        for (text, per_million) in
            [("5.0000000000000004e-08", "0.05"), ("1.4999999999999998e-07", "0.15"), ("9.9999999999999995e-08", "0.1")]
        {
            let exact = usd(text).unwrap();
            assert_eq!((exact.rate.to_per_million().as_str(), exact.noise), (per_million, true), "{text}");
        }
        // So many digits that matter are no noise.
        assert_eq!(usd("1.2345678901234567e-06"), Err(NotExact::TooFine));
    }
}
