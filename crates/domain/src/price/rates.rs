//! Rows of figures: rates by class and fees by use, and how they depend on the length of the input.
//! It must not know which row holds for a usage.

use super::amount::{Amount, Factor};
use crate::usage::{Class, Fee};

/// One row of figures: USD per million tokens by class, and what is billed by the piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    tokens: [Option<Amount>; Class::COUNT],
    /// USD for a thousand uses.
    fees: [Option<Amount>; Fee::COUNT],
    /// USD for a request, whatever its size.
    pub per_request: Option<Amount>,
}

impl Rates {
    /// Sets the price of a class.
    pub fn set(&mut self, class: Class, price: Amount) {
        if let Some(rate) = self.tokens.get_mut(class as usize) {
            *rate = Some(price);
        }
    }

    /// The same rates with the price of a class replaced.
    #[must_use]
    pub fn with(mut self, class: Class, price: Amount) -> Self {
        self.set(class, price);
        self
    }

    /// Sets the price of a thousand uses.
    pub fn set_fee(&mut self, fee: Fee, per_1k: Amount) {
        if let Some(price) = self.fees.get_mut(fee as usize) {
            *price = Some(per_1k);
        }
    }

    /// The price a class has of its own.
    #[must_use]
    pub fn own(&self, class: Class) -> Option<Amount> {
        self.tokens.get(class as usize).copied().flatten()
    }

    /// The price of a thousand uses.
    #[must_use]
    pub fn fee(&self, fee: Fee) -> Option<Amount> {
        self.fees.get(fee as usize).copied().flatten()
    }

    /// The price a class costs: its own, else that of the class it is billed as, else that of plain
    /// input or output.
    #[must_use]
    pub fn rate(&self, class: Class) -> Option<Amount> {
        self.exact_rate(class).or_else(|| {
            self.own(if class.is_input() {
                Class::Input
            } else {
                Class::Output
            })
        })
    }

    /// The price of a class: its own, else that of the class that every provider bills it as.
    #[must_use]
    pub fn exact_rate(&self, class: Class) -> Option<Amount> {
        let mut class = class;
        loop {
            if let Some(price) = self.own(class) {
                return Some(price);
            }
            class = class.priced_as()?;
        }
    }

    /// These rates where they say something, else those of `base`.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        let mut rates = base.clone();
        for (rate, own) in rates.tokens.iter_mut().zip(self.tokens) {
            *rate = own.or(*rate);
        }
        for (price, own) in rates.fees.iter_mut().zip(self.fees) {
            *price = own.or(*price);
        }
        rates.per_request = self.per_request.or(base.per_request);
        rates
    }

    /// These rates with those of tokens multiplied.
    #[must_use]
    pub fn scaled(&self, factor: Factor) -> Self {
        let mut rates = self.clone();
        for rate in rates.tokens.iter_mut().flatten() {
            *rate = rate.scaled(factor);
        }
        rates
    }
}

/// Number of input tokens from which on other rates hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(u64);

impl Threshold {
    /// Holds for more tokens than this.
    #[must_use]
    pub const fn above(tokens: u64) -> Self {
        Self(tokens.saturating_add(1))
    }

    /// Holds for this many tokens and more.
    #[must_use]
    pub const fn at_least(tokens: u64) -> Self {
        Self(tokens)
    }
}

/// Rates by the length of the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLadder {
    base: Rates,
    /// By ascending threshold.
    steps: Vec<(Threshold, Rates)>,
}

impl RateLadder {
    /// A ladder. A step that says nothing of a class leaves it at the base's price.
    #[must_use]
    pub fn new(base: Rates, steps: impl IntoIterator<Item = (Threshold, Rates)>) -> Self {
        let mut steps: Vec<_> = steps
            .into_iter()
            .map(|(from, own)| (from, own.over(&base)))
            .collect();
        steps.sort_by_key(|(from, _)| *from);
        Self { base, steps }
    }

    /// The rates of the shortest input.
    #[must_use]
    pub const fn base(&self) -> &Rates {
        &self.base
    }

    /// The rates of an input of this many tokens.
    #[must_use]
    pub fn at(&self, input: u64) -> &Rates {
        let step = self.steps.iter().rev().find(|(from, _)| input >= from.0);
        step.map_or(&self.base, |(_, rates)| rates)
    }

    /// Every row, the shortest input's first.
    pub fn rows(&self) -> impl Iterator<Item = &Rates> {
        std::iter::once(&self.base).chain(self.steps.iter().map(|(_, rates)| rates))
    }

    /// The ladder with the rates of tokens multiplied.
    #[must_use]
    pub fn scaled(&self, factor: Factor) -> Self {
        let steps = self.steps.iter();
        Self {
            base: self.base.scaled(factor),
            steps: steps
                .map(|(from, rates)| (*from, rates.scaled(factor)))
                .collect(),
        }
    }
}

/// Rates of a service tier or a mode, as a prices file says them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateChange {
    /// Number that every standard rate is multiplied by, those of long inputs included.
    pub factor: Option<Factor>,
    /// Rates that replace those.
    pub rates: Rates,
    /// Rates of longer inputs.
    pub steps: Vec<(Threshold, Rates)>,
}

impl RateChange {
    /// Applies the change to the standard rates. With a factor the steps of the standard rates stay;
    /// with rates alone its own hold for every length, but for steps of its own.
    #[must_use]
    pub fn apply(&self, standard: &RateLadder) -> RateLadder {
        let scaled = standard.scaled(self.factor.unwrap_or_default());
        let base = self.rates.over(&scaled.base);
        if self.factor.is_some() && self.steps.is_empty() {
            let steps = scaled.steps.into_iter();
            let steps = steps.map(|(from, rates)| (from, self.rates.over(&rates)));
            return RateLadder {
                base,
                steps: steps.collect(),
            };
        }
        RateLadder::new(base, self.steps.iter().cloned())
    }
}
