//! From rules as written to rules as run: every mistake is reported, none stops the search for
//! the next.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    decide::{CompiledRule, Rules},
    node::{
        ActionTarget, CompiledAction, ConditionNode, HeaderCondition, Sticky, Test, WeightedSplit,
    },
    pattern::{self, PatternCollector, PatternId},
    problem::{RuleFinding, RuleNames, Severity, whole},
    reach,
    spec::{Action, Block, Condition, HeaderTest, RuleSpec, ScoreRange, Share, TimeWindow},
    week::Week,
};
use crate::header::is_credential;
use crate::pattern::Pattern;

/// Conditions may nest this deep.
const MAX_DEPTH: usize = 32;
/// So many problems may come with a hint: each is searched among all names.
const MAX_HINTS: usize = 200;
/// Fields of a request that a rule may not set, and what to do instead.
const RESERVED: [(&str, &str); 3] = [
    ("model", "use `use_model`"),
    (
        "stream",
        "the client decides whether the answer is streamed",
    ),
    (
        "stream_options",
        "the client decides how the answer is streamed",
    ),
];

/// Result of [`compile`].
#[derive(Debug)]
pub struct CompiledRules {
    /// The rules without errors, ready to decide.
    pub rules: Rules,
    /// Every error and warning, in the order of the rules given.
    pub problems: Vec<RuleFinding>,
}

impl CompiledRules {
    /// Returns true if any problem is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }
}

/// Checks rules and compiles those without errors. Patterns that `previous` has compiled already
/// are taken from there.
#[must_use]
pub fn compile(
    specs: &[RuleSpec],
    names: &RuleNames<'_>,
    previous: Option<&Rules>,
) -> CompiledRules {
    let mut checker = RuleChecker {
        names,
        patterns: PatternCollector::new(previous.map(Rules::patterns)),
        problems: Vec::new(),
        broken: HashSet::new(),
        rule: (0, ""),
        path: String::new(),
    };
    let mut order: Vec<usize> = (0..specs.len()).collect();
    order.sort_by_key(|index| specs[*index].priority);
    checker.check_names(specs);
    let entries: Vec<CompiledRule> = order
        .iter()
        .filter_map(|index| checker.rule(*index, &specs[*index]))
        .collect();
    let RuleChecker {
        patterns,
        mut problems,
        ..
    } = checker;
    let rules = match patterns.finish() {
        Ok((patterns, shapes)) => {
            problems.extend(reach::check(&entries, &patterns, &shapes));
            Rules::new(entries, patterns)
        }
        Err(message) => {
            problems.push(whole(0, "", Severity::Error, message));
            Rules::default()
        }
    };
    problems.sort_by_key(|problem| problem.index);
    CompiledRules { rules, problems }
}

struct RuleChecker<'a, 'p> {
    names: &'a RuleNames<'a>,
    patterns: PatternCollector<'p>,
    problems: Vec<RuleFinding>,
    /// Rules with errors.
    broken: HashSet<usize>,
    rule: (usize, &'a str),
    path: String,
}

impl<'a> RuleChecker<'a, '_> {
    fn check_names(&mut self, specs: &'a [RuleSpec]) {
        let mut seen = HashMap::new();
        for (index, spec) in specs.iter().enumerate() {
            self.rule = (index, &spec.name);
            if spec.name.trim().is_empty() {
                self.error("name", "is empty: name the rule, logs and headers show it");
            } else if spec.name.chars().any(char::is_control) {
                self.error("name", "has a control character");
            } else if seen.insert(&spec.name, index).is_some() {
                self.error(
                    "name",
                    &format!("`{}` is the name of another rule too", spec.name),
                );
            }
        }
    }

    /// Compiles one rule, unless it has errors.
    fn rule(&mut self, index: usize, spec: &'a RuleSpec) -> Option<CompiledRule> {
        self.rule = (index, &spec.name);
        let node = self.in_field("when", |this| this.condition(&spec.when, 0));
        let outcome = self.in_field("then", |this| this.action(spec));
        if self.broken.contains(&index) {
            return None;
        }
        let (name, id) = (spec.name.clone(), spec.id.clone());
        Some(CompiledRule {
            index,
            name,
            id,
            enabled: spec.enabled,
            node,
            outcome,
        })
    }

    fn in_field<T>(&mut self, field: &str, check: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 && !field.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(field);
        let result = check(self);
        self.path.truncate(length);
        result
    }

    fn report(&mut self, severity: Severity, field: &str, message: &str) {
        let path = match (self.path.as_str(), field) {
            ("", field) => field.to_owned(),
            (path, "") => path.to_owned(),
            (path, field) => format!("{path}.{field}"),
        };
        let (index, rule) = (self.rule.0, self.rule.1.to_owned());
        self.problems.push(RuleFinding {
            index,
            rule,
            path,
            severity,
            message: message.to_owned(),
        });
    }

    /// A hint at the nearest known name, if one is near.
    fn near<'n>(&self, name: &str, known: impl Iterator<Item = &'n &'n str>) -> String {
        let distance = |known: &&&str| strsim::damerau_levenshtein(name, known);
        let near = if self.problems.len() < MAX_HINTS {
            known.min_by_key(distance)
        } else {
            None
        };
        match near {
            Some(known) if distance(&known) <= 1 + known.len() / 4 => {
                format!(" (did you mean `{known}`?)")
            }
            _ => String::new(),
        }
    }

    fn error(&mut self, field: &str, message: &str) {
        self.broken.insert(self.rule.0);
        self.report(Severity::Error, field, message);
    }

    fn warn(&mut self, field: &str, message: &str) {
        self.report(Severity::Warning, field, message);
    }
}

/// Conditions.
impl RuleChecker<'_, '_> {
    fn condition(&mut self, spec: &Condition, depth: usize) -> ConditionNode {
        if depth > MAX_DEPTH {
            self.error("", &format!("nests deeper than {MAX_DEPTH} conditions"));
            return ConditionNode::never();
        }
        let mut nodes = Vec::new();
        self.texts(spec, &mut nodes);
        self.client(spec, &mut nodes);
        self.ranges(spec, &mut nodes);
        self.groups(spec, depth, &mut nodes);
        ConditionNode::all(nodes)
    }

    fn texts(&mut self, spec: &Condition, nodes: &mut Vec<ConditionNode>) {
        match (&spec.regex, spec.area) {
            (Some(source), area) => {
                let area = area.unwrap_or_default();
                match self.patterns.add(source, area) {
                    Ok(pattern) => {
                        self.idle(pattern);
                        nodes.push(ConditionNode::Regex { area, pattern });
                    }
                    Err(message) => self.error("regex", &message),
                }
            }
            (None, Some(_)) => self.error("in", "is allowed beside `regex` only"),
            (None, None) => {}
        }
        for feature in spec.has.iter().flatten() {
            nodes.push(ConditionNode::Test(Test::Has(*feature)));
        }
        if spec.has.as_ref().is_some_and(Vec::is_empty) {
            self.warn("has", "names nothing, so every request has it");
        }
    }

    /// Warns of a pattern that matches every text.
    fn idle(&mut self, pattern: PatternId) {
        let shape = self.patterns.shape(pattern);
        if shape.matches_all {
            self.warn("regex", "matches every text");
        } else if shape.matches_none {
            self.warn("regex", "matches no text");
        }
    }

    fn client(&mut self, spec: &Condition, nodes: &mut Vec<ConditionNode>) {
        if let Some(pattern) = &spec.model {
            let glob = Pattern::new(pattern);
            let near = self.near(pattern, self.names.models.iter());
            // A provider that serves any name serves a misspelt one too.
            let is_misspelt =
                glob.is_literal() && !near.is_empty() && !self.names.routes_to(pattern);
            if !self.names.may_be_asked(&glob) || (is_misspelt && pattern != "auto") {
                let problem = format!(
                    "`{pattern}` matches neither a public model nor one that a provider lists{near}"
                );
                self.warn("model", &problem);
            }
            nodes.push(ConditionNode::Test(Test::Model(glob)));
        }
        if let Some(test) = &spec.header {
            nodes.extend(self.in_field("header", |this| this.header(test)));
        }
        if let Some(key) = &spec.key {
            if !self.names.keys.contains(key.as_str()) {
                let near = self.near(key, self.names.keys.iter());
                self.warn("key", &format!("no key is named `{key}`{near}"));
            }
            nodes.push(ConditionNode::Test(Test::Key(key.as_str().into())));
        }
        if let Some(owner) = &spec.owner {
            if !self.names.owners.contains(owner.as_str()) {
                let near = self.near(owner, self.names.owners.iter());
                self.warn("owner", &format!("no key belongs to `{owner}`{near}"));
            }
            nodes.push(ConditionNode::Test(Test::Owner(owner.as_str().into())));
        }
    }

    fn header(&mut self, test: &HeaderTest) -> Option<ConditionNode> {
        if !is_field_name(&test.name) {
            self.error("name", &format!("`{}` is no header name", test.name));
        } else if is_credential(&test.name) {
            let remedy = "use `key` or `owner` to tell clients apart";
            self.error("name", &describe_credential(&test.name, remedy));
            return None;
        }
        let value = match (&test.equals, &test.regex) {
            (Some(value), None) => HeaderCondition::Equals(value.as_str().into()),
            (None, Some(source)) => match pattern::single(source) {
                Ok(regex) => HeaderCondition::Regex {
                    source: source.as_str().into(),
                    regex: Box::new(regex),
                },
                Err(message) => {
                    self.error("regex", &message);
                    return None;
                }
            },
            _ => {
                self.error("", "needs either `equals` or `regex`");
                return None;
            }
        };
        Some(ConditionNode::Test(Test::Header {
            name: test.name.to_ascii_lowercase().into(),
            value,
        }))
    }

    fn ranges(&mut self, spec: &Condition, nodes: &mut Vec<ConditionNode>) {
        if let Some(range) = spec.complexity {
            nodes.extend(self.complexity(range));
        }
        if let Some(range) = spec.tokens {
            let (min, max) = (range.min.unwrap_or(0), range.max.unwrap_or(u64::MAX));
            if min > max {
                self.error("tokens", &format!("min {min} is above max {max}"));
            } else if (min, max) == (0, u64::MAX) {
                self.warn("tokens", "has no bound, so it always holds");
            }
            nodes.push(ConditionNode::Test(Test::Tokens { min, max }));
        }
        if let Some(window) = &spec.time {
            nodes.extend(self.time(window));
        }
    }

    fn complexity(&mut self, range: ScoreRange) -> Option<ConditionNode> {
        let (min, max) = (range.min.unwrap_or(0.0), range.max.unwrap_or(1.0));
        for (field, bound) in [("min", min), ("max", max)] {
            if !(0.0..=1.0).contains(&bound) {
                let message = format!("must be between 0 and 1, got {bound}");
                self.in_field("complexity", |this| this.error(field, &message));
                return None;
            }
        }
        if min > max {
            self.error("complexity", &format!("min {min} is above max {max}"));
        } else if min <= 0.0 && max >= 1.0 {
            self.warn("complexity", "spans all scores, so it always holds");
        }
        Some(ConditionNode::Test(Test::Complexity { min, max }))
    }

    fn time(&mut self, window: &TimeWindow) -> Option<ConditionNode> {
        match Week::from_window(window) {
            Ok(week) => {
                if week.is_whole() {
                    self.warn("time", "spans the whole week, so it always holds");
                }
                Some(ConditionNode::Test(Test::Time(week)))
            }
            Err((field, message)) => {
                self.in_field("time", |this| this.error(field, &message));
                None
            }
        }
    }

    fn groups(&mut self, spec: &Condition, depth: usize, nodes: &mut Vec<ConditionNode>) {
        if let Some(all) = &spec.all {
            if all.is_empty() {
                self.warn("all", "is empty, so it always holds");
            }
            nodes.push(ConditionNode::all(self.list("all", all, depth)));
        }
        if let Some(any) = &spec.any {
            if any.is_empty() {
                self.error("any", "is empty, so it never holds");
            }
            nodes.push(ConditionNode::Any(
                self.list("any", any, depth).into_boxed_slice(),
            ));
        }
        if let Some(not) = &spec.not {
            let node = self.in_field("not", |this| this.condition(not, depth + 1));
            nodes.push(ConditionNode::Not(Box::new(node)));
        }
    }

    fn list(&mut self, field: &str, specs: &[Condition], depth: usize) -> Vec<ConditionNode> {
        let one = |this: &mut Self, at: usize, spec: &Condition| {
            this.in_field(&format!("{field}[{at}]"), |this| {
                this.condition(spec, depth + 1)
            })
        };
        specs
            .iter()
            .enumerate()
            .map(|(at, spec)| one(self, at, spec))
            .collect()
    }
}

/// Actions.
impl RuleChecker<'_, '_> {
    fn action(&mut self, spec: &RuleSpec) -> CompiledAction {
        let then = &spec.then;
        let fields = [
            ("use_model", then.use_model.is_some()),
            ("use_provider", then.use_provider.is_some()),
            ("split", then.split.is_some()),
            ("block", then.block.is_some()),
        ];
        let given: Vec<&str> = fields
            .iter()
            .filter(|(_, given)| *given)
            .map(|f| f.0)
            .collect();
        if given.len() > 1 {
            self.error(
                "",
                &format!("has {}: only one of them can be", given.join(" and ")),
            );
        }
        if given.is_empty() && then.set.as_ref().is_none_or(BTreeMap::is_empty) {
            self.error(
                "",
                "does nothing: use_model, use_provider, split, block or set is needed",
            );
        }
        if then.sticky_by.is_some() && then.split.is_none() {
            self.error("sticky_by", "is allowed beside `split` only");
        }
        CompiledAction {
            target: self.target(spec),
            set: self.set(then),
        }
    }

    fn target(&mut self, spec: &RuleSpec) -> ActionTarget {
        let then = &spec.then;
        if let Some(model) = &then.use_model {
            self.model("use_model", model);
            ActionTarget::Model(model.as_str().into())
        } else if let Some(provider) = &then.use_provider {
            self.provider(provider);
            ActionTarget::Provider(provider.as_str().into())
        } else if let Some(shares) = &then.split {
            self.split(&spec.name, shares, then.sticky_by.as_deref())
        } else if let Some(block) = &then.block {
            self.block(block)
        } else {
            ActionTarget::AsAsked
        }
    }

    fn model(&mut self, field: &str, name: &str) {
        if !self.names.routes_to(name) {
            let near = self.near(name, self.names.models.iter());
            self.error(field, &format!("there is no model `{name}`{near}"));
        }
    }

    fn provider(&mut self, id: &str) {
        if !self.names.providers.contains_key(id) {
            let near = self.near(id, self.names.providers.keys());
            self.error(
                "use_provider",
                &format!("there is no provider `{id}`{near}"),
            );
        }
    }

    fn split(&mut self, rule: &str, shares: &[Share], sticky_by: Option<&str>) -> ActionTarget {
        if shares.is_empty() {
            self.error("split", "is empty");
        } else if shares.iter().all(|share| share.weight == 0) {
            self.error("split", "has no share with a weight above 0");
        }
        let mut seen = BTreeSet::new();
        for (at, share) in shares.iter().enumerate() {
            self.in_field(&format!("split[{at}]"), |this| {
                this.model("model", &share.model);
                if share.weight == 0 {
                    this.warn("weight", "is 0, so this share is never chosen");
                }
                if !seen.insert(&share.model) {
                    this.error("model", &format!("`{}` has a share already", share.model));
                }
            });
        }
        let sticky = sticky_by.and_then(|text| self.sticky(text));
        let shares = shares
            .iter()
            .map(|s| (s.model.as_str().into(), s.weight))
            .collect();
        ActionTarget::Split(WeightedSplit::new(rule, shares, sticky))
    }

    fn sticky(&mut self, text: &str) -> Option<Sticky> {
        let header = text.strip_prefix("header ").map(str::trim);
        match header {
            Some(name) if is_credential(name) => {
                let remedy = "write `key`, or name another header";
                self.error("sticky_by", &describe_credential(name, remedy));
                None
            }
            Some(name) if is_field_name(name) => {
                Some(Sticky::Header(name.to_ascii_lowercase().into()))
            }
            None if text == "key" => Some(Sticky::Key),
            _ => {
                let message = format!("`{text}` is neither `key` nor `header NAME`");
                self.error("sticky_by", &message);
                None
            }
        }
    }

    fn block(&mut self, block: &Block) -> ActionTarget {
        if !(400..600).contains(&block.status) {
            let message = format!("must be between 400 and 599, got {}", block.status);
            self.in_field("block", |this| this.error("status", &message));
        }
        ActionTarget::Block {
            status: block.status,
            message: block.message.as_str().into(),
        }
    }

    fn set(&mut self, then: &Action) -> Vec<(String, serde_json::Value)> {
        let Some(set) = &then.set else {
            return Vec::new();
        };
        if set.is_empty() {
            self.warn("set", "sets nothing");
        }
        if then.block.is_some() {
            self.warn("set", "has no effect beside `block`");
        }
        for (field, instead) in RESERVED {
            if set.contains_key(field) {
                self.in_field("set", |this| {
                    this.error(field, &format!("can't be set by a rule: {instead}"));
                });
            }
        }
        set.iter()
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect()
    }
}

/// Describes a header that no rule may look at: who reads which rule matched would learn the credential,
/// one question at a time.
fn describe_credential(header: &str, remedy: &str) -> String {
    format!("`{header}` carries a credential, and no rule may look at one: {remedy}")
}

/// RFC 9110 section 5.1: a token.
fn is_field_name(name: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_token)
}
