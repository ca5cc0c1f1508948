//! Many rules, the same in every run.

use llm_router_domain::rule::{Action, Condition, RuleSpec};

/// Marsaglia's xorshift: the same words in every run.
pub(crate) struct Words(pub(crate) u64);

impl Words {
    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    pub(crate) fn word(&mut self) -> String {
        let length = 4 + self.next(6);
        (0..length)
            .map(|_| char::from(b'a' + self.next(26) as u8))
            .collect()
    }
}

/// Shapes of patterns as people write them; one in twenty has no literal to look for.
fn pattern(words: &mut Words, at: usize) -> String {
    let (a, b) = (words.word(), words.word());
    match at % 20 {
        0 => format!(
            r"\b[A-Z]{{2}}\d{{{}}}[A-{}]\b",
            2 + at / 20 % 20,
            char::from(b'B' + (at / 400) as u8)
        ),
        1..=5 => format!("(?i){a} {b}"),
        6..=9 => format!(r"(?i)\b(?:{a}|{b})\b"),
        10..=12 => format!(r"{a}\s+\w+\s+{b}"),
        13..=15 => format!(r"\b{a}-\d+\b"),
        _ => format!("{a} {b}"),
    }
}

/// The names of a thousand models.
pub(crate) fn models() -> Vec<String> {
    (0..1_000).map(|at| format!("model-{at}")).collect()
}

pub(crate) fn rule(name: String, when: Condition, at: usize) -> RuleSpec {
    let then = Action {
        use_model: Some(format!("model-{}", at % 1_000)),
        ..Action::default()
    };
    RuleSpec {
        id: None,
        name,
        priority: 0,
        enabled: true,
        when,
        then,
    }
}

/// Rules with a regular expression each.
pub(crate) fn regex_rules(count: usize) -> Vec<RuleSpec> {
    let mut words = Words(88_172_645_463_325_252);
    let one = |at: usize| {
        let regex = Some(pattern(&mut words, at));
        rule(
            format!("regex-{at}"),
            Condition {
                regex,
                ..Condition::default()
            },
            at,
        )
    };
    (0..count).map(one).collect()
}
