//! Single figures of a price: checked decimals and what a count of them costs.

use std::fmt;

use rust_decimal::Decimal;

/// Digits after the point that a price may have, in USD per million tokens. With it every cost
/// is a whole number of 10⁻¹⁵ USD, which is what the stores keep.
pub const MAX_SCALE: u32 = 9;

/// Highest price accepted, in USD per million tokens.
pub const MAX_PRICE: u32 = 1_000_000;

/// Highest factor accepted: ten times the highest that a provider has.
pub const MAX_FACTOR: u32 = 100;

/// Powers of ten that a price is for: a million tokens, a thousand uses.
pub(super) const TOKENS_PER_PRICE: u32 = 6;
pub(super) const USES_PER_PRICE: u32 = 3;

/// Reason for which a number is not a valid price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Below zero.
    #[error("a price can't be below 0")]
    Negative,
    /// Above [`MAX_PRICE`].
    #[error("a price above {MAX_PRICE} USD is surely a slip")]
    TooLarge,
    /// More digits than [`MAX_SCALE`].
    #[error("a price has at most {MAX_SCALE} digits after the point")]
    TooFine,
}

/// A price that was checked: not negative, not absurd, fine enough to be exact everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(Decimal);

impl Amount {
    /// Checks a price in USD.
    ///
    /// # Errors
    /// Returns an error if it is negative, above [`MAX_PRICE`], or has more than [`MAX_SCALE`]
    /// digits.
    pub fn new(usd: Decimal) -> Result<Self, AmountError> {
        let usd = usd.normalize();
        if usd.is_sign_negative() && !usd.is_zero() {
            Err(AmountError::Negative)
        } else if usd > Decimal::from(MAX_PRICE) {
            Err(AmountError::TooLarge)
        } else if usd.scale() > MAX_SCALE {
            Err(AmountError::TooFine)
        } else {
            Ok(Self(usd))
        }
    }

    /// The price in USD.
    #[must_use]
    pub const fn usd(self) -> Decimal {
        self.0
    }

    /// The price multiplied by a factor, with at most [`MAX_SCALE`] digits and at most
    /// [`MAX_PRICE`].
    #[must_use]
    pub fn scaled(self, factor: Factor) -> Self {
        if factor.is_one() {
            return self;
        }
        let product = self.0.checked_mul(factor.0);
        let product = product.unwrap_or(Decimal::from(MAX_PRICE));
        let product = product.min(Decimal::from(MAX_PRICE));
        Self(product.round_dp(MAX_SCALE).normalize())
    }

    /// `count` times this price, which is for 10^`per` of them.
    pub(super) fn times(self, count: u64, per: u32) -> Decimal {
        // Neither can overflow: a price has at most 15 digits in all, a count at most 11.
        let mut product = self.0 * Decimal::from(count);
        let scale = product.scale() + per;
        if product.set_scale(scale).is_err() {
            return Decimal::ZERO;
        }
        product
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Reason for which a number is not a valid factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a factor is more than 0 and at most {MAX_FACTOR}, with at most {MAX_SCALE} digits")]
pub struct FactorError;

/// A number that rates are multiplied by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Factor(Decimal);

impl Factor {
    /// Changes nothing.
    pub const ONE: Self = Self(Decimal::ONE);

    /// Checks a factor.
    ///
    /// # Errors
    /// Returns an error if it isn't above 0, is above [`MAX_FACTOR`], or has more than
    /// [`MAX_SCALE`] digits.
    pub fn new(number: Decimal) -> Result<Self, FactorError> {
        let number = number.normalize();
        let is_sane = number > Decimal::ZERO
            && number <= Decimal::from(MAX_FACTOR)
            && number.scale() <= MAX_SCALE;
        is_sane.then_some(Self(number)).ok_or(FactorError)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> Decimal {
        self.0
    }

    /// Returns true if it changes nothing.
    #[must_use]
    pub fn is_one(self) -> bool {
        self.0 == Decimal::ONE
    }

    /// Both factors, one after the other.
    pub(super) fn and(self, other: Self) -> Self {
        // Each has at most 12 digits, so a handful of them fits.
        Self(self.0.checked_mul(other.0).unwrap_or(self.0))
    }
}

impl Default for Factor {
    fn default() -> Self {
        Self::ONE
    }
}

impl fmt::Debug for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "×{}", self.0)
    }
}
