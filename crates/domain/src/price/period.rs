//! The prices of a model from one day on, with everything that changes them: lengths, service tiers,
//! modes, factors, hours. It must not know other models.

use jiff::Timestamp;
use jiff::civil::Date;

use super::amount::{Amount, Factor};
use super::hours::HourWindow;
use super::rates::{RateChange, RateLadder, Rates, Threshold};
use crate::inexact::{Reason, Reasons};
use crate::usage::{ServiceTier, ShortName, Usage};

/// Property of an answer whose value multiplies the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorKind {
    /// Region that inference was bound to.
    InferenceGeo,
    /// Speed that the provider served at.
    Speed,
}

impl FactorKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::InferenceGeo, Self::Speed];

    /// The name used in prices files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InferenceGeo => "inference_geo",
            Self::Speed => "speed",
        }
    }

    /// The value that a usage has.
    const fn value(self, usage: &Usage) -> &ShortName {
        match self {
            Self::InferenceGeo => &usage.inference_geo,
            Self::Speed => &usage.speed,
        }
    }
}

/// Values that stand for the list price.
const NEUTRAL: [&str; 6] = ["", "global", "standard", "default", "not_available", "none"];

/// The size of a search context.
const CONTEXT_SIZES: [&str; 3] = ["low", "medium", "high"];

/// USD for a thousand requests by the size of the search context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchContextFees(pub [Option<Amount>; CONTEXT_SIZES.len()]);

impl SearchContextFees {
    /// The names of the sizes, in their order.
    pub const SIZES: [&'static str; CONTEXT_SIZES.len()] = CONTEXT_SIZES;

    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    fn find(&self, size: &str) -> Option<Amount> {
        let at = CONTEXT_SIZES.iter().position(|known| *known == size)?;
        self.0.get(at).copied().flatten()
    }

    fn highest(&self) -> Option<Amount> {
        self.0.iter().copied().flatten().max()
    }
}

/// What a prices file says of a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodSpec {
    /// The first day (UTC) these prices hold.
    pub from: Date,
    /// The day on which the figures were last compared with their source.
    pub checked: Option<Date>,
    /// Who says so.
    pub source: Vec<String>,
    /// Standard rates.
    pub rates: Rates,
    /// Rates of longer inputs.
    pub steps: Vec<(Threshold, Rates)>,
    /// Rates by service tier.
    pub service_tiers: Vec<(ServiceTier, RateChange)>,
    /// Rates of requests in which the model reasons.
    pub thinking: Option<RateChange>,
    /// Numbers that rates are multiplied by, by the value of a property.
    pub factors: Vec<(FactorKind, ShortName, Factor)>,
    /// Hours with other rates; the first that holds counts.
    pub hours: Vec<HourWindow>,
    /// Fees of a request by the size of its search context.
    pub search_context: SearchContextFees,
}

impl PeriodSpec {
    /// A period with standard rates only.
    #[must_use]
    pub fn new(from: Date, rates: Rates) -> Self {
        Self {
            from,
            checked: None,
            source: Vec::new(),
            rates,
            steps: Vec::new(),
            service_tiers: Vec::new(),
            thinking: None,
            factors: Vec::new(),
            hours: Vec::new(),
            search_context: SearchContextFees::default(),
        }
    }
}

/// The prices of a model from one day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricePeriod {
    /// The first day (UTC) these prices hold.
    pub from: Date,
    /// The day on which the figures were last compared with their source.
    pub checked: Option<Date>,
    /// Who says so.
    pub source: Vec<String>,
    standard: RateLadder,
    service_tiers: Vec<(ServiceTier, RateLadder)>,
    thinking: Option<RateLadder>,
    factors: Vec<(FactorKind, ShortName, Factor)>,
    hours: Vec<HourWindow>,
    search_context: SearchContextFees,
}

impl From<PeriodSpec> for PricePeriod {
    fn from(spec: PeriodSpec) -> Self {
        let standard = RateLadder::new(spec.rates, spec.steps);
        let tiers = spec.service_tiers.iter();
        Self {
            from: spec.from,
            checked: spec.checked,
            source: spec.source,
            service_tiers: tiers
                .map(|(tier, change)| (*tier, change.apply(&standard)))
                .collect(),
            thinking: spec.thinking.map(|change| change.apply(&standard)),
            standard,
            factors: spec.factors,
            hours: spec.hours,
            search_context: spec.search_context,
        }
    }
}

impl PricePeriod {
    /// The list price: no tier applied.
    #[must_use]
    pub const fn list(&self) -> &Rates {
        self.standard.base()
    }

    /// The tiers that have rates.
    pub fn service_tiers(&self) -> impl Iterator<Item = ServiceTier> {
        self.service_tiers.iter().map(|(tier, _)| *tier)
    }

    /// Every row of figures.
    pub fn rows(&self) -> impl Iterator<Item = &Rates> {
        self.ladders().flat_map(RateLadder::rows)
    }

    /// Returns true if hours of the day change the price.
    #[must_use]
    pub const fn has_hours(&self) -> bool {
        !self.hours.is_empty()
    }

    /// The ladder of a usage's tier or mode; none if the tier isn't known.
    pub(super) fn ladder(&self, usage: &Usage) -> Option<&RateLadder> {
        if usage.service_tier.is_standard() {
            let thinking = self.thinking.as_ref().filter(|_| usage.thinking);
            return Some(thinking.unwrap_or(&self.standard));
        }
        let mut tiers = self.service_tiers.iter();
        let found = tiers.find(|(tier, _)| *tier == usage.service_tier);
        found.map(|(_, ladder)| ladder)
    }

    /// Every ladder: the standard one, the mode's, the tiers'.
    pub(super) fn ladders(&self) -> impl Iterator<Item = &RateLadder> {
        let tiers = self.service_tiers.iter().map(|(_, ladder)| ladder);
        std::iter::once(&self.standard)
            .chain(&self.thinking)
            .chain(tiers)
    }

    /// The product of all factors of a usage at a moment. One that isn't known is taken for the
    /// highest known, and marked.
    pub(super) fn factor(&self, usage: &Usage, at: Timestamp, inexact: &mut Reasons) -> Factor {
        let window = self.hours.iter().find(|window| window.contains(at));
        let mut factor = window.map_or(Factor::ONE, |window| window.factor);
        for kind in FactorKind::ALL {
            let value = kind.value(usage);
            let mut known = self.factors.iter().filter(|(of, _, _)| *of == kind);
            if let Some((_, _, by)) = known.clone().find(|(_, name, _)| name == value) {
                factor = factor.and(*by);
            } else if !NEUTRAL.contains(&value.as_str()) {
                inexact.add(Reason::UnknownFactor);
                factor = factor.and(highest(known.by_ref().map(|(_, _, by)| *by)));
            }
        }
        factor
    }

    /// The highest product of factors that any usage at any moment can have.
    pub(super) fn highest_factor(&self) -> Factor {
        let hours = highest(self.hours.iter().map(|window| window.factor));
        FactorKind::ALL.into_iter().fold(hours, |factor, kind| {
            let of_kind = self.factors.iter().filter(|(of, _, _)| *of == kind);
            factor.and(highest(of_kind.map(|(_, _, by)| *by)))
        })
    }

    /// The fee of a request by its search context, for a thousand of them.
    pub(super) fn search_context_fee(
        &self,
        usage: &Usage,
        inexact: &mut Reasons,
    ) -> Option<Amount> {
        if self.search_context.is_empty() {
            return None;
        }
        let known = self.search_context.find(usage.search_context.as_str());
        known.or_else(|| {
            inexact.add(Reason::UnknownFactor);
            self.search_context.highest()
        })
    }
}

/// The highest of factors, at least 1.
fn highest(factors: impl Iterator<Item = Factor>) -> Factor {
    factors.fold(Factor::ONE, Factor::max)
}
