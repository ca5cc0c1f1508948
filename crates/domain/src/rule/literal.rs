//! The literals a regular expression can't match without. From its syntax tree only: it never
//! searches.
//!
//! The idea is that of RE2's `FilteredRE2`: one pass over a text for the literals of all patterns
//! tells which few of them are worth running.

use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

/// More variants than this of one stretch of a pattern, and the stretch is cut.
const MAX_PRODUCT: usize = 16;
/// More alternatives than this, and nothing is said about the pattern.
const MAX_SET: usize = 4096;
/// Characters a class may have and still be spelled out.
const MAX_CLASS: usize = 8;
/// A literal is cut to this many bytes: enough to be rare, and the automaton stays small.
const MAX_LEN: usize = 40;
/// A shorter literal occurs too often to spare work.
const MIN_LEN: usize = 3;

/// A set of literals in ASCII lower case. Every text that the pattern matches contains at least
/// one of them, but for the case of ASCII letters. `None`: no useful set is known.
pub(super) fn required_literals(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    let mut set = literals(hir).into_set()?;
    for literal in &mut set {
        literal.truncate(MAX_LEN);
    }
    set.sort_unstable();
    set.dedup();
    set.iter()
        .all(|literal| literal.len() >= MIN_LEN)
        .then_some(set)
}

/// Properties of the texts that a pattern is found in, by its syntax.
pub(super) struct PatternShape {
    /// It is found in every text.
    pub(super) matches_all: bool,
    /// It is found in no text.
    pub(super) matches_none: bool,
    /// True if a match depends only on the matched text, not on its surroundings.
    pub(super) local: bool,
    /// ASCII letters of either case are the same to it.
    pub(super) caseless: bool,
    /// Texts such that what it matches is one of them but for the case of ASCII letters; or
    /// exactly, if there is one only and the pattern isn't `caseless`. Empty: not known.
    pub(super) literals: Vec<String>,
}

impl PatternShape {
    pub(super) fn from_hir(hir: &Hir) -> Self {
        let properties = hir.properties();
        let local = properties.look_set().is_empty();
        let caseless = is_caseless(hir);
        Self {
            matches_all: local && properties.minimum_len() == Some(0),
            matches_none: properties.minimum_len().is_none(),
            local,
            caseless,
            literals: whole(hir, local, caseless),
        }
    }
}

fn whole(hir: &Hir, local: bool, caseless: bool) -> Vec<String> {
    let set = match (hir.kind(), caseless) {
        (HirKind::Literal(literal), _) => vec![literal.0.to_vec()],
        (_, true) if local => match literals(hir) {
            Literals::Exact(set) if set.len() <= MAX_PRODUCT => set,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let texts: Result<Vec<String>, _> = set.into_iter().map(String::from_utf8).collect();
    texts.unwrap_or_default()
}

fn is_caseless(hir: &Hir) -> bool {
    let same = |has: &dyn Fn(u8) -> bool| {
        (b'a'..=b'z').all(|letter| has(letter) == has(letter.to_ascii_uppercase()))
    };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => !literal.0.iter().any(u8::is_ascii_alphabetic),
        HirKind::Class(Class::Unicode(class)) => same(&|byte| {
            let c = char::from(byte);
            class
                .ranges()
                .iter()
                .any(|range| (range.start()..=range.end()).contains(&c))
        }),
        HirKind::Class(Class::Bytes(class)) => same(&|byte| {
            class
                .ranges()
                .iter()
                .any(|range| (range.start()..=range.end()).contains(&byte))
        }),
        HirKind::Repetition(repetition) => is_caseless(&repetition.sub),
        HirKind::Capture(capture) => is_caseless(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(is_caseless),
    }
}

/// Literals of the texts that a part of a pattern matches.
enum Literals {
    /// Each is one of these.
    Exact(Vec<Vec<u8>>),
    /// Each contains one of these.
    Within(Vec<Vec<u8>>),
    /// Nothing.
    Unknown,
}

impl Literals {
    fn empty() -> Self {
        Self::Exact(vec![Vec::new()])
    }

    fn into_set(self) -> Option<Vec<Vec<u8>>> {
        match self {
            Self::Exact(set) | Self::Within(set) => Some(set),
            Self::Unknown => None,
        }
    }
}

fn literals(hir: &Hir) -> Literals {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Literals::empty(),
        HirKind::Literal(literal) => Literals::Exact(vec![literal.0.to_ascii_lowercase()]),
        HirKind::Class(class) => class_literals(class),
        HirKind::Repetition(repetition) => repetition_literals(repetition),
        HirKind::Capture(capture) => literals(&capture.sub),
        HirKind::Concat(parts) => concat_literals(parts),
        HirKind::Alternation(parts) => alternation_literals(parts),
    }
}

fn class_literals(class: &Class) -> Literals {
    let size: usize = match class {
        Class::Unicode(class) => class.ranges().iter().map(|range| range.len()).sum(),
        Class::Bytes(class) => class.ranges().iter().map(|range| range.len()).sum(),
    };
    if size > 2 * MAX_CLASS {
        return Literals::Unknown;
    }
    let mut set: Vec<Vec<u8>> = match class {
        Class::Unicode(class) => class
            .ranges()
            .iter()
            .flat_map(|range| range.start()..=range.end())
            .map(case_folds)
            .collect(),
        Class::Bytes(class) => {
            let bytes = class
                .ranges()
                .iter()
                .flat_map(|range| range.start()..=range.end());
            bytes.map(|byte| vec![byte.to_ascii_lowercase()]).collect()
        }
    };
    set.sort_unstable();
    set.dedup();
    if set.len() > MAX_CLASS {
        Literals::Unknown
    } else {
        Literals::Exact(set)
    }
}

fn case_folds(c: char) -> Vec<u8> {
    c.to_ascii_lowercase()
        .encode_utf8(&mut [0; 4])
        .as_bytes()
        .to_vec()
}

fn repetition_literals(repetition: &Repetition) -> Literals {
    let inner = literals(&repetition.sub);
    match (repetition.min, repetition.max, inner) {
        (1, Some(1), inner) => inner,
        (0, Some(1), Literals::Exact(mut set)) => {
            set.push(Vec::new());
            Literals::Exact(set)
        }
        (0, ..) => Literals::Unknown,
        (_, _, Literals::Exact(set) | Literals::Within(set)) => Literals::Within(set),
        (_, _, Literals::Unknown) => Literals::Unknown,
    }
}

/// Multiplies neighbouring exact parts while that stays small, and keeps the best stretch.
fn concat_literals(parts: &[Hir]) -> Literals {
    let mut stretch = vec![Vec::new()];
    let mut best: Option<Vec<Vec<u8>>> = None;
    let mut whole = true;
    for part in parts {
        let part = literals(part);
        match part {
            Literals::Exact(set) if stretch.len() * set.len() <= MAX_PRODUCT => {
                stretch = product(&stretch, &set);
            }
            Literals::Exact(set) => {
                whole = false;
                best = better(best, std::mem::replace(&mut stretch, set));
            }
            other => {
                whole = false;
                best = better(best, std::mem::replace(&mut stretch, vec![Vec::new()]));
                if let Literals::Within(set) = other {
                    best = better(best, set);
                }
            }
        }
    }
    if whole {
        return Literals::Exact(stretch);
    }
    better(best, stretch).map_or(Literals::Unknown, Literals::Within)
}

fn product(left: &[Vec<u8>], right: &[Vec<u8>]) -> Vec<Vec<u8>> {
    left.iter()
        .flat_map(|l| right.iter().map(|r| [l.as_slice(), r].concat()))
        .collect()
}

/// The set whose shortest literal is longer, up to a length that is rare enough; then the smaller.
fn better(best: Option<Vec<Vec<u8>>>, set: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let rank = |set: &[Vec<u8>]| {
        let shortest = set.iter().map(Vec::len).min().unwrap_or(0);
        (shortest.min(8), usize::MAX - set.len(), shortest)
    };
    match best {
        Some(best) if rank(&best) >= rank(&set) => Some(best),
        _ => Some(set),
    }
}

fn alternation_literals(parts: &[Hir]) -> Literals {
    let (mut union, mut exact) = (Vec::new(), true);
    for part in parts {
        let part = literals(part);
        exact &= matches!(part, Literals::Exact(_));
        match part.into_set() {
            Some(set) if union.len() + set.len() <= MAX_SET => union.extend(set),
            _ => return Literals::Unknown,
        }
    }
    if exact {
        Literals::Exact(union)
    } else {
        Literals::Within(union)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(pattern: &str) -> Option<Vec<String>> {
        let hir = regex_syntax::parse(pattern).unwrap();
        let set = required_literals(&hir)?;
        Some(
            set.into_iter()
                .map(|l| String::from_utf8(l).unwrap())
                .collect(),
        )
    }

    #[test]
    fn literals_of_patterns() {
        for (pattern, want) in [
            ("foobar", Some(vec!["foobar"])),
            ("Foo|BAR", Some(vec!["bar", "foo"])),
            ("(?i)abc", Some(vec!["abc"])),
            ("colou?r", Some(vec!["color", "colour"])),
            (r"\berror \d+: disk", Some(vec!["error "])),
            (r"\d+ (?:apples|pears)", Some(vec![" apples", " pears"])),
            (r"(?:abc)+x*", Some(vec!["abc"])),
            (r"[ab]cd\w+", Some(vec!["acd", "bcd"])),
            (r"\d{3}-\d{2}", None),
            ("ab", None),
            ("abc|d*", None),
            (".*", None),
            ("数据", Some(vec!["数据"])),
            (
                "(?i)task",
                Some(vec![
                    "task",
                    "tas\u{212a}",
                    "ta\u{17f}k",
                    "ta\u{17f}\u{212a}",
                ]),
            ),
        ] {
            let want = want.map(|w| w.into_iter().map(str::to_owned).collect::<Vec<_>>());
            let sorted = want.map(|mut w| {
                w.sort();
                w
            });
            assert_eq!(of(pattern), sorted, "{pattern}");
        }
    }

    proptest! {
        /// Soundness: whatever a pattern matches contains one of its literals.
        #[test]
        fn a_match_has_a_literal(
            pattern in "(?:\\(\\?i\\))?(?:[abk]|[abk]{3,5}|a\\?|b\\+|\\(abk\\|kab\\)|\\[ab\\]|\\.|\\(\\?:ab\\)\\{2\\}){1,6}",
            text in "[abABkK\u{212a}]{0,24}",
        ) {
            let Ok(hir) = regex_syntax::parse(&pattern) else { return Ok(()) };
            let regex = regex_automata::meta::Regex::new(&pattern).unwrap();
            let Some(set) = required_literals(&hir) else { return Ok(()) };
            if let Some(found) = regex.find(&text) {
                let folded = text[found.range()].to_ascii_lowercase();
                prop_assert!(
                    set.iter().any(|l| folded.contains(std::str::from_utf8(l).unwrap())),
                    "{} in {}", pattern, text
                );
            }
        }
    }
}
