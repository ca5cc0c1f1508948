//! Compiled conditions and actions: references checked, patterns numbered. It must not test
//! requests: `decide` does.

use regex_automata::meta::Regex;
use serde_json::Value;

use super::{
    pattern::PatternId,
    spec::{Area, Feature},
    week::Week,
};
use crate::{pattern::Pattern, rendezvous};

/// A compiled condition.
#[derive(Clone, Debug)]
pub(super) enum ConditionNode {
    All(Box<[ConditionNode]>),
    Any(Box<[ConditionNode]>),
    Not(Box<ConditionNode>),
    Regex { area: Area, pattern: PatternId },
    Test(Test),
}

/// A compiled condition on something else than text.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Complexity {
        min: f64,
        max: f64,
    },
    Tokens {
        min: u64,
        max: u64,
    },
    Model(Pattern),
    Header {
        name: Box<str>,
        value: HeaderCondition,
    },
    Key(Box<str>),
    Owner(Box<str>),
    Has(Feature),
    Time(Week),
}

/// Condition on a header's value.
#[derive(Clone, Debug)]
pub(super) enum HeaderCondition {
    Equals(Box<str>),
    Regex { source: Box<str>, regex: Box<Regex> },
}

impl HeaderCondition {
    pub(super) fn holds(&self, value: &str) -> bool {
        match self {
            Self::Equals(want) => **want == *value,
            Self::Regex { regex, .. } => regex.is_match(value),
        }
    }
}

impl ConditionNode {
    /// Creates the condition that no request meets.
    pub(super) fn never() -> Self {
        Self::Any(Box::default())
    }

    /// Combines conditions that must all hold; a single one stays as it is.
    pub(super) fn all(mut nodes: Vec<Self>) -> Self {
        match nodes.len() {
            1 => nodes.remove(0),
            _ => Self::All(nodes.into_boxed_slice()),
        }
    }
}

/// A compiled action.
#[derive(Clone, Debug)]
pub(super) struct CompiledAction {
    pub(super) target: ActionTarget,
    pub(super) set: Vec<(String, Value)>,
}

/// Target of an action.
#[derive(Clone, Debug)]
pub(super) enum ActionTarget {
    AsAsked,
    Model(Box<str>),
    Provider(Box<str>),
    Split(WeightedSplit),
    Block { status: u16, message: Box<str> },
}

/// Weighted shares among models.
#[derive(Clone, Debug)]
pub(super) struct WeightedSplit {
    shares: Vec<(Box<str>, u32)>,
    /// Keeps one rule's split independent of another's.
    salt: u64,
    pub(super) sticky: Option<Sticky>,
}

/// Value that keeps a request on its side of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sticky {
    Key,
    Header(Box<str>),
}

impl WeightedSplit {
    /// At least one share must have a weight.
    pub(super) fn new(rule: &str, shares: Vec<(Box<str>, u32)>, sticky: Option<Sticky>) -> Self {
        Self {
            shares,
            salt: rendezvous::stable_hash(rule.as_bytes()),
            sticky,
        }
    }

    /// The side that a sticky value always gets. A share that grows draws values only to itself.
    pub(super) fn side_of(&self, value: &str) -> &str {
        let value = rendezvous::mix(rendezvous::stable_hash(value.as_bytes()) ^ self.salt);
        let score = |(model, weight): &(Box<str>, u32)| {
            let member = rendezvous::stable_hash(model.as_bytes());
            rendezvous::attraction(value, member, f64::from(*weight))
        };
        let best = self
            .shares
            .iter()
            .max_by(|a, b| score(a).total_cmp(&score(b)));
        best.map_or("", |(model, _)| model)
    }

    /// The side that a random number falls on.
    pub(super) fn side_at(&self, random: u64) -> &str {
        let total: u64 = self
            .shares
            .iter()
            .map(|(_, weight)| u64::from(*weight))
            .sum();
        let mut point = ((u128::from(random) * u128::from(total)) >> 64) as u64;
        for (model, weight) in &self.shares {
            match point.checked_sub(u64::from(*weight)) {
                Some(rest) => point = rest,
                None => return model,
            }
        }
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(weights: &[(&str, u32)]) -> WeightedSplit {
        let shares = weights
            .iter()
            .map(|(model, weight)| ((*model).into(), *weight))
            .collect();
        WeightedSplit::new("canary", shares, None)
    }

    #[test]
    fn random_sides_follow_weights() {
        let split = split(&[("a", 1), ("b", 0), ("c", 3)]);
        for (random, want) in [
            (0, "a"),
            (u64::MAX / 4, "a"),
            (u64::MAX / 4 + 1, "c"),
            (u64::MAX, "c"),
        ] {
            assert_eq!(split.side_at(random), want, "{random}");
        }
    }

    #[test]
    fn sticky_sides_follow_weights_and_stay() {
        let (small, large) = (
            split(&[("old", 95), ("new", 5)]),
            split(&[("old", 80), ("new", 20)]),
        );
        let users: Vec<String> = (0..20_000).map(|i| format!("user-{i}")).collect();
        let new = users
            .iter()
            .filter(|user| small.side_of(user) == "new")
            .count();
        assert!((900..1100).contains(&new), "{new} of 20,000 at 5 %");
        for user in users.iter().filter(|user| small.side_of(user) == "new") {
            assert_eq!(large.side_of(user), "new");
        }
    }
}
