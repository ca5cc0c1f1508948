//! Evaluation of rules: the one that matches a request, and the reasons for the others. The same
//! code tests conditions for deciding and for explaining. It must not compile rules.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use super::{
    node::{ActionTarget, CompiledAction, ConditionNode, HeaderCondition, Sticky, Test},
    pattern::{Bits, PatternId, Patterns, Search},
    spec::{Area, Feature},
    week::WeekMinute,
};

/// Facts about a request that rules test. Each is read only when a rule needs it, some more than
/// once: implementations cache what is expensive.
pub trait Facts {
    /// Returns the requested model.
    fn model(&self) -> &str;
    /// Returns the text of an area; empty if the request has none.
    fn text(&self, area: Area) -> &str;
    /// Returns a header's value; multiple lines of one header are joined by `, ` (RFC 9110 section
    /// 5.3). The name is in lower case. A header that carries a credential
    /// ([`is_credential`](crate::header::is_credential)) is absent for every rule.
    fn header(&self, name: &str) -> Option<Cow<'_, str>>;
    /// Returns the name of the client's key.
    fn key(&self) -> &str;
    /// Returns the owner of the client's key.
    fn owner(&self) -> Option<&str>;
    /// Returns the estimated input tokens.
    fn tokens(&self) -> u64;
    /// Returns true if the request has a feature.
    fn has(&self, feature: Feature) -> bool;
    /// Returns the complexity score, from 0 to 1.
    fn complexity(&self) -> f64;
    /// Returns the time.
    fn now(&self) -> WeekMinute;
    /// Returns a random number, for splits that aren't sticky.
    fn random(&self) -> u64;
}

/// Decision of the rules on a request.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleDecision<'r> {
    /// The rule that matched.
    pub rule: Option<Matched<'r>>,
    /// Route of the request.
    pub route: RuleRoute<'r>,
    /// Fields of the body to set.
    pub set: &'r [(String, Value)],
}

impl Default for RuleDecision<'_> {
    /// Decision without a rule: the request goes to the model it asked for.
    fn default() -> Self {
        Self {
            rule: None,
            route: RuleRoute::AsAsked,
            set: &[],
        }
    }
}

/// The rule that matched a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched<'r> {
    /// Its id, if it has one.
    pub id: Option<&'r str>,
    /// Its name.
    pub name: &'r str,
}

/// Route of a request by rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleRoute<'r> {
    /// To the model it asked for.
    AsAsked,
    /// To this model.
    Model(&'r str),
    /// To this provider.
    Provider(&'r str),
    /// Nowhere: it is answered with this error.
    Block {
        /// HTTP status.
        status: u16,
        /// The message the client sees.
        message: &'r str,
    },
}

/// Trace of one rule on a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleTrace {
    /// The rule's name.
    pub name: String,
    /// True if it decided the request, as at most one rule does.
    pub matched: bool,
    /// Conditions that caused the result.
    pub why: String,
}

/// A compiled rule.
#[derive(Clone, Debug)]
pub(super) struct CompiledRule {
    /// Position among the rules given.
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) enabled: bool,
    pub(super) node: ConditionNode,
    pub(super) outcome: CompiledAction,
}

/// Compiled rules, in the order they are tried.
#[derive(Default)]
pub struct Rules {
    entries: Vec<CompiledRule>,
    patterns: Patterns,
    guards: Guards,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules")
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl Rules {
    pub(super) fn new(entries: Vec<CompiledRule>, patterns: Patterns) -> Self {
        let guards = Guards::new(&entries, &patterns);
        Self {
            entries,
            patterns,
            guards,
        }
    }

    pub(super) const fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// Returns the number of rules.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if there are no rules.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the heap bytes of the compiled patterns, without the caches that searches grow.
    #[must_use]
    pub fn pattern_memory(&self) -> usize {
        self.patterns.memory()
    }

    /// Decides by the first rule that matches.
    pub fn decide<F: Facts>(&self, facts: &F) -> RuleDecision<'_> {
        let found = self.first(facts);
        found.map_or_else(RuleDecision::default, |(entry, _)| entry.decision(facts))
    }

    /// Decides and returns the reason of the match, if a rule matched. Facts found for the decision
    /// are reused, so this costs little more.
    pub fn decide_with_reason<F: Facts>(&self, facts: &F) -> (RuleDecision<'_>, Option<String>) {
        match self.first(facts) {
            Some((entry, mut trial)) => {
                let (_, why) = trial.explain(&entry.node);
                (entry.decision(facts), Some(why))
            }
            None => (RuleDecision::default(), None),
        }
    }

    fn first<'r, 'f, F: Facts>(
        &'r self,
        facts: &'f F,
    ) -> Option<(&'r CompiledRule, Trial<'r, 'f, F>)> {
        let mut trial = Trial::new(&self.patterns, facts);
        let mut possible = self.guards.enabled.clone();
        let mut next = possible.next(0);
        while let Some(at) = next {
            if let Some(area) = self.guards.by_rule[at]
                && trial.searches[area as usize].is_none()
            {
                self.guards.narrow(area, trial.search(area), &mut possible);
                next = possible.next(at);
                continue;
            }
            let entry = &self.entries[at];
            if trial.holds(&entry.node, &mut Silent) {
                return Some((entry, trial));
            }
            next = possible.next(at + 1);
        }
        None
    }

    /// Decides and returns the trace of every rule.
    pub fn explain<F: Facts>(&self, facts: &F) -> (RuleDecision<'_>, Vec<RuleTrace>) {
        let mut trial = Trial::new(&self.patterns, facts);
        let mut winner: Option<&CompiledRule> = None;
        let mut tried = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let (matched, why) = match winner {
                _ if !entry.enabled => (false, "is not enabled".to_owned()),
                Some(winner) => (
                    false,
                    format!("not tried: `{}` matched before", winner.name),
                ),
                None => trial.explain(&entry.node),
            };
            if matched {
                winner = Some(entry);
            }
            tried.push(RuleTrace {
                name: entry.name.clone(),
                matched,
                why,
            });
        }
        let decision = winner.map_or_else(RuleDecision::default, |entry| entry.decision(facts));
        (decision, tried)
    }

    /// Returns the trace of every rule when none is tried, with the reason for that.
    #[must_use]
    pub fn trace_untried(&self, why: &str) -> Vec<RuleTrace> {
        let tried = self.entries.iter().map(|entry| RuleTrace {
            name: entry.name.clone(),
            matched: false,
            why: why.to_owned(),
        });
        tried.collect()
    }
}

impl CompiledRule {
    fn decision<F: Facts>(&self, facts: &F) -> RuleDecision<'_> {
        let rule = Some(Matched {
            id: self.id.as_deref(),
            name: &self.name,
        });
        let route = match &self.outcome.target {
            ActionTarget::AsAsked => RuleRoute::AsAsked,
            ActionTarget::Model(model) => RuleRoute::Model(model),
            ActionTarget::Provider(provider) => RuleRoute::Provider(provider),
            ActionTarget::Block { status, message } => RuleRoute::Block {
                status: *status,
                message,
            },
            ActionTarget::Split(split) => RuleRoute::Model(match &split.sticky {
                Some(Sticky::Key) => split.side_of(facts.key()),
                // A request without the header has no side to stay on.
                Some(Sticky::Header(name)) => match facts.header(name) {
                    Some(value) => split.side_of(&value),
                    None => split.side_at(facts.random()),
                },
                None => split.side_at(facts.random()),
            }),
        };
        RuleDecision {
            rule,
            route,
            set: &self.outcome.set,
        }
    }
}

/// Skips rules that can't match: those that need one of several patterns of which no literal occurs
/// in the text.
#[derive(Default)]
struct Guards {
    enabled: Bits,
    /// Area whose literals the rule needs.
    by_rule: Vec<Option<Area>>,
    /// Rules guarded by an area.
    by_area: [Bits; 3],
    /// Rules that become possible when a pattern's literal occurs in an area.
    by_pattern: Vec<Vec<(Area, u32)>>,
}

impl Guards {
    fn new(entries: &[CompiledRule], patterns: &Patterns) -> Self {
        let len = entries.len();
        let mut guards = Self {
            enabled: Bits::new(len),
            by_rule: vec![None; len],
            by_area: std::array::from_fn(|_| Bits::new(len)),
            by_pattern: vec![Vec::new(); patterns.len()],
        };
        for (at, entry) in entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.enabled)
        {
            guards.enabled.insert(at);
            if let Some((area, needed)) = guard(&entry.node, patterns) {
                guards.by_rule[at] = Some(area);
                guards.by_area[area as usize].insert(at);
                for pattern in needed {
                    guards.by_pattern[pattern as usize].push((area, at as u32));
                }
            }
        }
        guards
    }

    /// Keeps, of the rules guarded by an area, those that the search makes possible.
    fn narrow(&self, area: Area, search: &Search<'_, '_>, possible: &mut Bits) {
        possible.remove_all(&self.by_area[area as usize]);
        for pattern in search.candidates() {
            for (_, rule) in self.by_pattern[pattern as usize]
                .iter()
                .filter(|(a, _)| *a == area)
            {
                possible.insert(*rule as usize);
            }
        }
    }
}

/// Patterns of one area, all with literals, of which the condition needs at least one.
fn guard(node: &ConditionNode, patterns: &Patterns) -> Option<(Area, Vec<PatternId>)> {
    match node {
        ConditionNode::Regex { area, pattern } if patterns.has_literals(*pattern) => {
            Some((*area, vec![*pattern]))
        }
        ConditionNode::All(nodes) => nodes.iter().find_map(|node| guard(node, patterns)),
        ConditionNode::Any(nodes) => {
            let (first, rest) = nodes.split_first()?;
            let (area, mut needed) = guard(first, patterns)?;
            for node in rest {
                let (other, more) = guard(node, patterns)?;
                if other != area {
                    return None;
                }
                needed.extend(more);
            }
            Some((area, needed))
        }
        _ => None,
    }
}

/// Sink of reasons: ignored when deciding, a list when explaining.
trait ReasonSink {
    fn say(&mut self, reason: impl FnOnce() -> String);
    /// Returns the number of reasons.
    fn count(&self) -> usize;
    /// Forgets those said between `from` and `to`.
    fn forget(&mut self, from: usize, to: usize);
}

struct Silent;

impl ReasonSink for Silent {
    fn say(&mut self, _: impl FnOnce() -> String) {}

    fn count(&self) -> usize {
        0
    }

    fn forget(&mut self, _: usize, _: usize) {}
}

impl ReasonSink for Vec<String> {
    fn say(&mut self, reason: impl FnOnce() -> String) {
        self.push(reason());
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn forget(&mut self, from: usize, to: usize) {
        self.drain(from..to);
    }
}

/// One request tried against conditions, with what its texts were searched for.
struct Trial<'p, 'f, F> {
    patterns: &'p Patterns,
    facts: &'f F,
    searches: [Option<Search<'p, 'f>>; 3],
}

impl<'p, 'f, F: Facts> Trial<'p, 'f, F> {
    fn new(patterns: &'p Patterns, facts: &'f F) -> Self {
        Self {
            patterns,
            facts,
            searches: [None, None, None],
        }
    }

    fn search(&mut self, area: Area) -> &mut Search<'p, 'f> {
        self.searches[area as usize]
            .get_or_insert_with(|| Search::new(self.patterns, area, self.facts.text(area)))
    }

    fn explain(&mut self, node: &ConditionNode) -> (bool, String) {
        let mut reasons = Vec::new();
        let matched = self.holds(node, &mut reasons);
        let why = if reasons.is_empty() {
            "has no conditions".to_owned()
        } else {
            reasons.join("; ")
        };
        (matched, why)
    }

    /// Returns true if a condition holds. The last reasons are the conditions that decided it.
    fn holds(&mut self, node: &ConditionNode, reasons: &mut impl ReasonSink) -> bool {
        match node {
            ConditionNode::All(nodes) => self.every(nodes, true, reasons),
            ConditionNode::Any(nodes) => !self.every(nodes, false, reasons),
            ConditionNode::Not(node) => !self.holds(node, reasons),
            ConditionNode::Regex { area, pattern } => {
                let hit = self.search(*area).is_match(*pattern);
                let source = self.patterns.source(*pattern);
                reasons.say(|| format!("`{source}` {} in {}", is(hit, "found"), area.name()));
                hit
            }
            ConditionNode::Test(test) => self.test(test, reasons),
        }
    }

    /// Returns true if every condition evaluates to `want`. Stops at the first that doesn't, and
    /// gives only that one as a reason.
    fn every(
        &mut self,
        nodes: &[ConditionNode],
        want: bool,
        reasons: &mut impl ReasonSink,
    ) -> bool {
        let start = reasons.count();
        for node in nodes {
            let before = reasons.count();
            if self.holds(node, reasons) != want {
                reasons.forget(start, before);
                return false;
            }
        }
        true
    }

    fn header(&self, name: &str, value: &HeaderCondition, reasons: &mut impl ReasonSink) -> bool {
        let found = self.facts.header(name);
        let hit = found.as_deref().is_some_and(|found| value.holds(found));
        // The request's value is the client's own: only the rule's is shown.
        reasons.say(|| match (found, value) {
            (None, _) => format!("header {name} is absent"),
            (_, HeaderCondition::Equals(want)) => format!("header {name} {} `{want}`", is(hit, "")),
            (_, HeaderCondition::Regex { source, .. }) => {
                format!("`{source}` {} in header {name}", is(hit, "found"))
            }
        });
        hit
    }

    fn test(&self, test: &Test, reasons: &mut impl ReasonSink) -> bool {
        let facts = self.facts;
        match test {
            Test::Header { name, value } => self.header(name, value, reasons),
            Test::Complexity { min, max } => {
                let score = facts.complexity();
                let hit = (*min..=*max).contains(&score);
                reasons
                    .say(|| format!("complexity {score:.3} {} {min} to {max}", is(hit, "within")));
                hit
            }
            Test::Tokens { min, max } => {
                let tokens = facts.tokens();
                let hit = (*min..=*max).contains(&tokens);
                reasons.say(|| format!("{tokens} tokens, {}", bounds(hit, *min, *max)));
                hit
            }
            Test::Model(glob) => {
                let model = facts.model();
                let hit = glob.matches(model);
                let verb = if hit { "matches" } else { "doesn't match" };
                reasons.say(|| format!("model `{model}` {verb} `{}`", glob.as_str()));
                hit
            }
            Test::Key(want) => equal("key", facts.key() == &**want, want, reasons),
            Test::Owner(want) => equal("owner", facts.owner() == Some(want), want, reasons),
            Test::Has(feature) => {
                let hit = facts.has(*feature);
                let has = if hit { "has" } else { "has no" };
                reasons.say(|| format!("{has} {}", feature.name()));
                hit
            }
            Test::Time(week) => {
                let now = facts.now();
                let hit = week.contains(now);
                reasons.say(|| format!("{now} UTC {} the window", is(hit, "within")));
                hit
            }
        }
    }
}

fn equal(what: &str, hit: bool, want: &str, reasons: &mut impl ReasonSink) -> bool {
    reasons.say(|| format!("{what} {} `{want}`", is(hit, "")));
    hit
}

fn is(hit: bool, what: &str) -> String {
    let space = if what.is_empty() { "" } else { " " };
    format!("{}{space}{what}", if hit { "is" } else { "isn't" })
}

fn bounds(hit: bool, min: u64, max: u64) -> String {
    let not = if hit { "" } else { "not " };
    match (min, max) {
        (0, max) => format!("{not}at most {max}"),
        (min, u64::MAX) => format!("{not}at least {min}"),
        (min, max) => format!("{not}between {min} and {max}"),
    }
}
