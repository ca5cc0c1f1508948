//! Random rules against random requests: deciding agrees with the plain meaning of the conditions,
//! with explaining, and with what `compile` says can't be reached.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{borrow::Cow, collections::BTreeMap};

use llm_router_domain::{
    pattern::Pattern,
    rule::{
        Action, Area, Condition, Day, Facts, Feature, HeaderTest, RuleNames, RuleRoute, RuleSpec,
        ScoreRange, TimeWindow, TokenRange, WeekMinute, compile,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};

#[derive(Clone, Debug)]
struct Request {
    model: &'static str,
    texts: [String; 3],
    headers: BTreeMap<&'static str, &'static str>,
    key: &'static str,
    tokens: u64,
    features: [bool; 3],
    complexity: f64,
    hour: u16,
}

impl Facts for Request {
    fn model(&self) -> &str {
        self.model
    }

    fn text(&self, area: Area) -> &str {
        &self.texts[area as usize]
    }

    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.headers.get(name).map(|value| Cow::Borrowed(*value))
    }

    fn key(&self) -> &str {
        self.key
    }

    fn owner(&self) -> Option<&str> {
        (self.key == "a").then_some("team")
    }

    fn tokens(&self) -> u64 {
        self.tokens
    }

    fn has(&self, feature: Feature) -> bool {
        self.features[feature as usize]
    }

    fn complexity(&self) -> f64 {
        self.complexity
    }

    fn now(&self) -> WeekMinute {
        WeekMinute::at(Day::Mon, self.hour, 0)
    }

    fn random(&self) -> u64 {
        0
    }
}

const PATTERNS: [&str; 12] = [
    "foo",
    "(?i)foo",
    "foobar",
    "bar",
    "(?i)BAR|baz",
    r"\bfoo\b",
    "^foo",
    "fo+",
    r"\d{2}",
    "[ab]{2}",
    "",
    "FOO",
];
const WORDS: [&str; 10] = [
    "foo", "FOO", "foobar", "bar", "Baz", "12", " ", "ab", "k", "\n",
];
const MODELS: [&str; 5] = ["auto", "fast", "fast-2", "strong", "s"];
const GLOBS: [&str; 6] = ["*", "fast", "fast*", "s*", "*o*g", "strong"];
const TOKENS: [u64; 5] = [0, 1, 5, 6, 10];
const SCORES: [f64; 4] = [0.0, 0.25, 0.5, 1.0];
const HOURS: [u16; 5] = [0, 6, 8, 20, 23];

fn request() -> impl Strategy<Value = Request> {
    let text = || vec(select(&WORDS[..]), 0..4).prop_map(|words| words.concat());
    let headers = option::of(select(&["1", "2", "12"][..]));
    (
        select(&MODELS[..]),
        (text(), text()),
        headers,
        select(&["a", "b", "c"][..]),
        select(&TOKENS[..]),
        any::<[bool; 3]>(),
        select(&SCORES[..]),
        select(&HOURS[..]),
    )
        .prop_map(
            |(model, (last, system), header, key, tokens, features, complexity, hour)| {
                let any = format!("{system}\n{last}");
                let headers = header.into_iter().map(|value| ("x-h", value)).collect();
                let texts = [last, system, any];
                Request {
                    model,
                    texts,
                    headers,
                    key,
                    tokens,
                    features,
                    complexity,
                    hour,
                }
            },
        )
}

fn leaf() -> impl Strategy<Value = Condition> {
    let none = Condition::default;
    let area = option::of(select(&Area::ALL[..]));
    let hour = || select(&["00:00", "06:00", "08:00", "20:00"][..]);
    prop_oneof![
        4 => (select(&PATTERNS[..]), area).prop_map(move |(regex, area)| Condition {
            regex: Some(regex.to_owned()), area, ..none()
        }),
        1 => select(&GLOBS[..]).prop_map(move |glob| Condition { model: Some(glob.to_owned()), ..none() }),
        1 => select(&["a", "b"][..]).prop_map(move |key| Condition { key: Some(key.to_owned()), ..none() }),
        1 => Just(Condition { owner: Some("team".to_owned()), ..none() }),
        1 => (select(&TOKENS[..]), select(&TOKENS[..])).prop_map(move |(a, b)| Condition {
            tokens: Some(TokenRange { min: Some(a.min(b)), max: Some(a.max(b)) }), ..none()
        }),
        1 => (select(&SCORES[..]), select(&SCORES[..])).prop_map(move |(a, b)| Condition {
            complexity: Some(ScoreRange { min: Some(a.min(b)), max: Some(a.max(b)) }), ..none()
        }),
        1 => vec(select(&Feature::ALL[..]), 1..3).prop_map(move |has| Condition { has: Some(has), ..none() }),
        1 => (select(&["1", "2"][..]), any::<bool>()).prop_map(move |(value, equals)| {
            let value = Some(value.to_owned());
            let (equals, regex) = if equals { (value, None) } else { (None, value) };
            Condition { header: Some(HeaderTest { name: "X-H".to_owned(), equals, regex }), ..none() }
        }),
        1 => (hour(), hour()).prop_filter("not empty", |(a, b)| a != b).prop_map(move |(a, b)| {
            let (from, to) = (Some(a.to_owned()), Some(b.to_owned()));
            Condition { time: Some(TimeWindow { from, to, days: None }), ..none() }
        }),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    leaf().prop_recursive(3, 12, 3, |inner| {
        let none = Condition::default;
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(move |all| Condition {
                all: Some(all),
                ..none()
            }),
            vec(inner.clone(), 1..4).prop_map(move |any| Condition {
                any: Some(any),
                ..none()
            }),
            inner.clone().prop_map(move |not| Condition {
                not: Some(Box::new(not)),
                ..none()
            }),
            (inner, select(&["a", "b"][..])).prop_map(move |(not, key)| Condition {
                not: Some(Box::new(not)),
                key: Some(key.to_owned()),
                ..none()
            }),
        ]
    })
}

/// Evaluates a condition in the simplest way.
fn holds(condition: &Condition, request: &Request) -> bool {
    let within = |window: &TimeWindow| {
        let hour = |text: &Option<String>| text.as_ref().unwrap()[..2].parse::<u16>().unwrap();
        let (from, to) = (hour(&window.from), hour(&window.to));
        let inside = from <= request.hour && request.hour < to;
        if from < to {
            inside
        } else {
            request.hour >= from || request.hour < to
        }
    };
    let found = |pattern: &str, text: &str| {
        regex_automata::meta::Regex::new(pattern)
            .unwrap()
            .is_match(text)
    };
    let Condition {
        regex,
        area,
        complexity,
        model,
        header,
        key,
        owner,
        tokens,
        has,
        time,
        all,
        any,
        not,
    } = condition;
    let text = &request.texts[area.unwrap_or_default() as usize];
    let bound = |range: &TokenRange| {
        range.min.unwrap() <= request.tokens && request.tokens <= range.max.unwrap()
    };
    let score = |range: &ScoreRange| {
        range.min.unwrap() <= request.complexity && request.complexity <= range.max.unwrap()
    };
    let header_holds = |test: &HeaderTest| match (request.headers.get("x-h"), &test.equals) {
        (None, _) => false,
        (Some(value), Some(want)) => value == want,
        (Some(value), None) => found(test.regex.as_ref().unwrap(), value),
    };
    regex.as_ref().is_none_or(|pattern| found(pattern, text))
        && complexity.as_ref().is_none_or(score)
        && model
            .as_ref()
            .is_none_or(|glob| Pattern::new(glob).matches(request.model))
        && header.as_ref().is_none_or(header_holds)
        && key.as_ref().is_none_or(|key| key == request.key)
        && owner.as_ref().is_none_or(|_| request.key == "a")
        && tokens.as_ref().is_none_or(bound)
        && has
            .iter()
            .flatten()
            .all(|feature| request.features[*feature as usize])
        && time.as_ref().is_none_or(within)
        && all.iter().flatten().all(|c| holds(c, request))
        && any
            .as_ref()
            .is_none_or(|any| any.iter().any(|c| holds(c, request)))
        && not.as_ref().is_none_or(|c| !holds(c, request))
}

fn specs() -> impl Strategy<Value = Vec<RuleSpec>> {
    vec((condition(), 0_i64..3, prop::bool::weighted(0.9)), 1..12).prop_map(|rules| {
        let rule = |(at, (when, priority, enabled))| RuleSpec {
            id: None,
            name: format!("rule-{at}"),
            priority,
            enabled,
            when,
            then: Action {
                use_model: Some("m".to_owned()),
                ..Action::default()
            },
        };
        rules.into_iter().enumerate().map(rule).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn decisions_mean_what_the_rules_say(specs in specs(), requests in vec(request(), 20)) {
        let names = RuleNames { models: ["m"].into(), ..RuleNames::default() };
        let compiled = compile(&specs, &names, None);
        prop_assert!(!compiled.has_errors(), "{:?}", compiled.problems);
        let again = compile(&specs, &names, Some(&compiled.rules));
        let mut order: Vec<&RuleSpec> = specs.iter().filter(|spec| spec.enabled).collect();
        order.sort_by_key(|spec| spec.priority);
        for request in &requests {
            let want = order.iter().find(|spec| holds(&spec.when, request)).map(|spec| &*spec.name);
            let decision = compiled.rules.decide(request);
            prop_assert_eq!(decision.rule.map(|rule| rule.name), want, "{:?}", request);
            prop_assert_eq!(again.rules.decide(request), decision.clone());
            let route = want.map_or(RuleRoute::AsAsked, |_| RuleRoute::Model("m"));
            prop_assert_eq!(decision.route, route);
            let (explained, tried) = compiled.rules.explain(request);
            prop_assert_eq!(explained, decision);
            prop_assert_eq!(tried.len(), specs.len());
            prop_assert!(tried.iter().all(|t| t.matched == (Some(&*t.name) == want)));
            prop_assert!(tried.iter().all(|t| !t.why.is_empty()));
            let idle = |p: &&llm_router_domain::rule::RuleFinding| p.message.starts_with("never");
            for problem in compiled.problems.iter().filter(idle) {
                prop_assert_ne!(Some(&*problem.rule), want, "{}", problem.message);
            }
        }
    }
}
