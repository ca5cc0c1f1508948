//! Reasons for which a cost isn't exactly what the provider bills, as a set that fits a word. It
//! must not decide when a reason holds: the meter, the price and the settlement of an attempt do.

use std::borrow::Cow;
use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::usage::Class;

/// A reason for which a cost isn't exact. Users see its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The provider served a tier that has no price.
    UnknownServiceTier,
    /// The provider ran a tool that has no price.
    UnpricedTool,
    /// A multiplier of the price has a value that has no figure.
    UnknownFactor,
    /// Another model than the one asked served the request, and its price isn't known.
    ServedModelDiffers,
    /// The provider reported no usage, or only a part of it.
    UsageMissing,
    /// The provider reported a count that the meter doesn't know, or counts that contradict each
    /// other.
    UnknownUsage,
    /// A part is billed at the rates of a model without a price.
    UnpricedPart,
    /// No answer came in time, but the provider may bill the request.
    TimeoutMayHaveBilled,
    /// The response goes on at the provider: its usage wasn't known at the end of the request.
    BackgroundUnsettled,
    /// The provider's own figure differs from ours by more than 1 %.
    ReportedCostDiffers,
    /// A class of tokens has no rate.
    MissingRate(Class),
}

/// Bits below this one are for reasons without a class.
const FIRST_CLASS: u32 = 32;

impl Reason {
    /// Every reason without a class, in the order of its bit. The order is that of stored sets and
    /// never changes; new reasons come last.
    const PLAIN: [(Self, &'static str); 10] = [
        (Self::UnknownServiceTier, "unknown_service_tier"),
        (Self::UnpricedTool, "unpriced_tool"),
        (Self::UnknownFactor, "unknown_factor"),
        (Self::ServedModelDiffers, "served_model_differs"),
        (Self::UsageMissing, "usage_missing"),
        (Self::UnknownUsage, "unknown_usage"),
        (Self::UnpricedPart, "unpriced_part"),
        (Self::TimeoutMayHaveBilled, "timeout_may_have_billed"),
        (Self::BackgroundUnsettled, "background_unsettled"),
        (Self::ReportedCostDiffers, "reported_cost_differs"),
    ];

    /// Returns every reason.
    pub fn all() -> impl Iterator<Item = Self> {
        let plain = Self::PLAIN.into_iter().map(|(reason, _)| reason);
        plain.chain(Class::ALL.into_iter().map(Self::MissingRate))
    }

    /// Returns the name that users see.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Self::MissingRate(class) => Cow::Owned(format!("missing_rate:{}", class.name())),
            plain => Cow::Borrowed(plain.kind()),
        }
    }

    /// Returns the name without the class: a label of metrics.
    #[must_use]
    pub fn kind(self) -> &'static str {
        let found = Self::PLAIN.into_iter().find(|(reason, _)| *reason == self);
        found.map_or("missing_rate", |(_, name)| name)
    }

    /// Returns the reason with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some(class) = name.strip_prefix("missing_rate:") {
            return Class::from_name(class).map(Self::MissingRate);
        }
        let found = Self::PLAIN.into_iter().find(|(_, known)| *known == name);
        found.map(|(reason, _)| reason)
    }

    fn bit(self) -> u64 {
        let number = match self {
            Self::MissingRate(class) => FIRST_CLASS as usize + class as usize,
            plain => Self::PLAIN
                .into_iter()
                .position(|(reason, _)| reason == plain)
                .unwrap_or_default(),
        };
        1 << number
    }
}

/// A set of [`Reason`]s; empty if a cost is exact.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Reasons(u64);

impl Reasons {
    /// No reason: the cost is exact.
    pub const NONE: Self = Self(0);

    /// Returns true if there is no reason.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds a reason.
    pub fn add(&mut self, reason: Reason) {
        self.0 |= reason.bit();
    }

    /// Removes a reason.
    pub fn remove(&mut self, reason: Reason) {
        self.0 &= !reason.bit();
    }

    /// The same set with a reason.
    #[must_use]
    pub fn with(mut self, reason: Reason) -> Self {
        self.add(reason);
        self
    }

    /// Returns true if the reason is in the set.
    #[must_use]
    pub fn contains(self, reason: Reason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// The reasons, in the order of [`Reason::all`].
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::all().filter(move |reason| self.contains(*reason))
    }

    /// Returns the names, separated by commas: the form of the store. Empty if there is none.
    #[must_use]
    pub fn to_text(self) -> String {
        let names: Vec<_> = self.iter().map(Reason::name).collect();
        names.join(",")
    }

    /// Reads the form of the store. Names that are not known are left out.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let known = text.split(',').filter_map(Reason::from_name);
        known.fold(Self::NONE, Self::with)
    }
}

impl BitOr for Reasons {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Reasons {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl FromIterator<Reason> for Reasons {
    fn from_iter<I: IntoIterator<Item = Reason>>(reasons: I) -> Self {
        reasons.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(Reason::name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_to_one_and_survive_the_store() {
        let mut all = Reasons::NONE;
        for (number, reason) in Reason::all().enumerate() {
            assert_eq!(Reason::from_name(&reason.name()), Some(reason));
            assert!(!all.contains(reason), "{reason:?} shares its bit");
            all.add(reason);
            assert_eq!(all.iter().count(), number + 1);
        }
        assert_eq!(Reasons::from_text(&all.to_text()), all);
        assert_eq!(Reasons::from_text("nonsense,"), Reasons::NONE);
    }

    #[test]
    fn sets_add_and_remove() {
        let tool = Reasons::NONE.with(Reason::UnpricedTool);
        let rate = Reasons::NONE.with(Reason::MissingRate(Class::AudioInput));
        let mut both = tool | rate;
        assert_eq!(both.to_text(), "unpriced_tool,missing_rate:audio_input");
        both.remove(Reason::UnpricedTool);
        assert_eq!(both, rate);
        assert!(Reasons::default().is_empty());
    }
}
