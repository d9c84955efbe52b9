//! Money as integers: nano-dollars for books, 10⁻¹⁵ dollars a token for rates.
//!
//! A price is an exact decimal; a call's cost is summed exactly and rounded up once.
//! Nothing here, and nothing that decides or records money elsewhere, uses a float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Nano-dollars in a dollar.
const NANO_PER_USD: u64 = 1_000_000_000;
/// Femto-dollars (10⁻¹⁵ USD) in a nano-dollar (10⁻⁹ USD).
const FEMTO_PER_NANO: u128 = 1_000_000;

/// An amount of money in nano-dollars (10⁻⁹ USD). Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(u64);

/// Why a text is not an amount or a price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not `10`, `10.00` or `$10.00`.
    #[error("`{0}` is not an amount in USD: write it like 10, 10.00 or $10.00")]
    NotAnAmount(String),
    /// More than nine decimals: finer than a nano-dollar.
    #[error("`{0}` has more than nine decimals; the smallest unit is 0.000000001 USD")]
    TooFine(String),
    /// Above [`Money::LIMIT_MAX`].
    #[error("`{0}` is above the largest limit, 9000000 USD")]
    TooLarge(String),
}

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);
    /// The largest limit that a budget may have: 9,000,000 USD.
    pub const LIMIT_MAX: Money = Money(9_000_000 * NANO_PER_USD);
    /// The largest amount that any counter may reach: 2⁵³ − 1 nano-dollars, what Redis Lua counts exactly.
    pub const COUNTER_MAX: Money = Money((1 << 53) - 1);

    /// An amount from nano-dollars.
    pub const fn from_nano(nano: u64) -> Self {
        Money(nano)
    }

    /// The amount in nano-dollars.
    pub const fn nano(self) -> u64 {
        self.0
    }

    /// True when the amount is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` when it does not fit.
    pub fn checked_add(self, other: Money) -> Option<Money> {
        self.0.checked_add(other.0).map(Money)
    }

    /// The sum, held at the largest value there is: an amount that only grows may never wrap.
    pub fn saturating_add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }

    /// The difference, or nothing when `other` is larger.
    pub fn saturating_sub(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }

    /// The amount with all nine decimals, e.g. `1.250000000`.
    pub fn fixed(self) -> String {
        format!("{}.{:09}", self.0 / NANO_PER_USD, self.0 % NANO_PER_USD)
    }

    /// A limit as a person types it: `10`, `10.00` or `$10.00`, at most 9,000,000 USD.
    pub fn parse_limit(text: &str) -> Result<Money, MoneyError> {
        let amount = Money::from_str(text)?;
        if amount > Money::LIMIT_MAX {
            return Err(MoneyError::TooLarge(text.into()));
        }
        Ok(amount)
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    /// Reads `10`, `10.00` or `$10.00`, with at most nine decimals; everything else is an error.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let nano = parse_decimal(text.strip_prefix('$').unwrap_or(text), 9).map_err(|e| match e {
            DecimalError::Malformed => MoneyError::NotAnAmount(text.into()),
            DecimalError::TooFine => MoneyError::TooFine(text.into()),
            DecimalError::TooLarge => MoneyError::TooLarge(text.into()),
        })?;
        u64::try_from(nano).map(Money).map_err(|_| MoneyError::TooLarge(text.into()))
    }
}

impl fmt::Display for Money {
    /// At most nine decimals, none of them trailing zeros: `1.25`, `10`, `0.000000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, mut fraction) = (self.0 / NANO_PER_USD, self.0 % NANO_PER_USD);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let mut digits = [b'0'; 9];
        for digit in digits.iter_mut().rev() {
            *digit += (fraction % 10) as u8;
            fraction /= 10;
        }
        let decimals = str::from_utf8(&digits).unwrap_or_default();
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

/// A price for one token (or other counted unit), in 10⁻¹⁵ USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u128);

impl Rate {
    /// A rate of nothing: for meters that a model does not bill.
    pub const ZERO: Rate = Rate(0);

    /// A rate from 10⁻¹⁵ USD a unit.
    pub const fn from_femto(femto: u128) -> Self {
        Rate(femto)
    }

    /// The rate in 10⁻¹⁵ USD a unit.
    pub const fn femto(self) -> u128 {
        self.0
    }

    /// A price as the price table has it: USD per million units, as a decimal with at most nine decimals.
    pub fn per_million(text: &str) -> Result<Rate, MoneyError> {
        // 1 USD per million units = 10⁻⁶ USD a unit = 10⁹ femto-dollars a unit: nine decimals are exact.
        parse_decimal(text, 9).map(Rate).map_err(|e| match e {
            DecimalError::Malformed => MoneyError::NotAnAmount(text.into()),
            DecimalError::TooFine => MoneyError::TooFine(text.into()),
            DecimalError::TooLarge => MoneyError::TooLarge(text.into()),
        })
    }

    /// The rate in USD per million units, as the price table has it.
    pub fn to_per_million(self) -> String {
        let whole = self.0 / u128::from(NANO_PER_USD);
        let text = format!("{whole}.{:09}", self.0 % u128::from(NANO_PER_USD));
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    }

    /// The rate times a factor given in thousandths (1250 is ×1.25), rounded up.
    pub fn scaled(self, thousandths: u64) -> Rate {
        Rate(self.0.saturating_mul(u128::from(thousandths)).div_ceil(1000))
    }
}

/// An exact sum of units × rates, before its one rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExactCost(u128);

impl ExactCost {
    /// Nothing.
    pub const ZERO: ExactCost = ExactCost(0);

    /// A whole amount.
    pub fn of(amount: Money) -> ExactCost {
        ExactCost(u128::from(amount.0) * FEMTO_PER_NANO)
    }

    /// This cost plus `units` at `rate`. Saturates: a cost may never wrap to something cheap.
    #[must_use]
    pub fn plus(self, units: u64, rate: Rate) -> ExactCost {
        ExactCost(self.0.saturating_add(u128::from(units).saturating_mul(rate.0)))
    }

    /// The sum of two exact costs.
    #[must_use]
    pub fn and(self, other: ExactCost) -> ExactCost {
        ExactCost(self.0.saturating_add(other.0))
    }

    /// The cost in nano-dollars, rounded up. Saturates at the largest amount.
    pub fn rounded_up(self) -> Money {
        Money(u64::try_from(self.0.div_ceil(FEMTO_PER_NANO)).unwrap_or(u64::MAX))
    }

    /// How many more units at `rate` fit, so that the rounded cost stays within `ceiling`. `None`: any number.
    pub fn units_within(self, ceiling: Money, rate: Rate) -> Option<u64> {
        if rate == Rate::ZERO {
            return None;
        }
        let room = (u128::from(ceiling.0) * FEMTO_PER_NANO).saturating_sub(self.0);
        Some(u64::try_from(room / rate.0).unwrap_or(u64::MAX))
    }
}

enum DecimalError {
    Malformed,
    TooFine,
    TooLarge,
}

/// Digits, optionally a point and up to `places` digits, as an integer scaled by 10^places.
fn parse_decimal(text: &str, places: usize) -> Result<u128, DecimalError> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(DecimalError::Malformed),
        None => (text, ""),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(DecimalError::Malformed);
    }
    if fraction.len() > places {
        return Err(DecimalError::TooFine);
    }
    let scaled = format!("{whole}{fraction:0<places$}");
    // 30 digits fit a u128 with room for every later multiplication by a token count.
    if scaled.trim_start_matches('0').len() > 24 {
        return Err(DecimalError::TooLarge);
    }
    scaled.parse().map_err(|_| DecimalError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_refused() {
        for (text, nano) in [
            ("10", 10_000_000_000),
            ("10.00", 10_000_000_000),
            ("$10.00", 10_000_000_000),
            ("0", 0),
            ("0.000000001", 1),
            ("$0.1", 100_000_000),
        ] {
            assert_eq!(text.parse::<Money>(), Ok(Money(nano)), "{text}");
        }
        for text in [
            "",
            "$",
            " 10 ",
            "10,00",
            "1e3",
            "-1",
            "+1",
            "NaN",
            "Infinity",
            "10.",
            ".5",
            "1_000",
            "$$1",
            "1.0.0",
            "0x10",
            "١",
            "0.0000000001",
            "10 USD",
            "9999999999999999999999999",
        ] {
            assert!(text.parse::<Money>().is_err(), "{text:?} was accepted");
        }
        assert!(Money::parse_limit("9000000").is_ok());
        assert!(Money::parse_limit("9000000.000000001").is_err());
    }

    #[test]
    fn amounts_are_shown_without_losing_a_digit() {
        assert_eq!(Money(1_250_000_000).to_string(), "1.25");
        assert_eq!(Money(10_000_000_000).to_string(), "10");
        assert_eq!(Money(1).to_string(), "0.000000001");
        assert_eq!(Money(0).to_string(), "0");
        assert_eq!(Money(0).fixed(), "0.000000000");
    }

    #[test]
    fn a_cost_is_exact_and_rounded_up_once() {
        let rate = Rate::per_million("0.15").unwrap();
        assert_eq!(rate.femto(), 150_000_000);
        // 7 tokens at $0.15 per million = 1050 nano-dollars exactly.
        assert_eq!(ExactCost::ZERO.plus(7, rate).rounded_up(), Money(1050));
        // 1 token at $0.075 per million = 75 nano-dollars; at $0.0005 = 0.5, rounded up to 1.
        assert_eq!(ExactCost::ZERO.plus(1, Rate::per_million("0.0005").unwrap()).rounded_up(), Money(1));
        // two halves are one: rounded once, at the end.
        let half = Rate::per_million("0.0005").unwrap();
        assert_eq!(ExactCost::ZERO.plus(1, half).plus(1, half).rounded_up(), Money(1));
        assert_eq!(rate.to_per_million(), "0.15");
    }

    #[test]
    fn units_within_is_the_largest_count_that_fits() {
        let rate = Rate::per_million("0.6").unwrap();
        let spent = ExactCost::ZERO.plus(10, Rate::per_million("0.15").unwrap());
        let units = spent.units_within(Money(10_000), rate).unwrap();
        assert!(spent.plus(units, rate).rounded_up() <= Money(10_000));
        assert!(spent.plus(units + 1, rate).rounded_up() > Money(10_000));
        assert_eq!(spent.units_within(Money(0), rate), Some(0));
    }

    #[test]
    fn overflow_saturates_upwards() {
        let cost = ExactCost::ZERO.plus(u64::MAX, Rate(u128::MAX)).plus(1, Rate(1));
        assert_eq!(cost.rounded_up(), Money(u64::MAX));
    }
}
