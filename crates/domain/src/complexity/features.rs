//! The lexical scorer: features counted in one pass over bytes and one for words, weighed by one
//! table.
//!
//! Each feature is a count that levels off: `value = 1 - exp(-count / scale)`, so that the first
//! few matter most and a long text doesn't win by length alone. The score is the logistic function
//! of the weighted sum. The weights were fitted by logistic regression to `tests/corpus/tuning.jsonl`
//! and half of `tricky.jsonl`, and rounded; those of features that a bare prompt can't have (context,
//! turns, tools, images, output) are set by hand.
//!
//! Quotations aren't part of the task: they are left out, and so is a text that is only to be
//! translated, shortened or sorted.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::{
    Score, ScoreFeature, ScoreInput, Scorer,
    words::{Sign, WORDS},
};

/// A text longer than this is judged by its beginning and its end.
const MAX_TEXT: usize = 32 << 10;

/// A feature: its name, the count at which it is 63 % of full, and its weight.
struct WeightedFeature {
    name: &'static str,
    scale: f64,
    weight: f64,
}

const fn weighted_feature(name: &'static str, scale: f64, weight: f64) -> WeightedFeature {
    WeightedFeature {
        name,
        scale,
        weight,
    }
}

/// The sum that a request with no features has.
const BIAS: f64 = -1.6;

/// The table of weights. The order is that of [`SignCounts::features_of`].
const FEATURES: [WeightedFeature; 20] = [
    weighted_feature("reasoning_words", 2.0, 1.2),
    weighted_feature("math_words", 2.0, 0.8),
    weighted_feature("code_words", 3.0, 0.4),
    weighted_feature("constraint_words", 2.0, 0.5),
    weighted_feature("instruction_words", 3.0, 0.4),
    weighted_feature("output_words", 2.0, 0.4),
    weighted_feature("logic_words", 4.0, 1.5),
    weighted_feature("simple_words", 2.0, -1.0),
    weighted_feature("rework", 1.0, -1.3),
    weighted_feature("length", 40.0, 1.5),
    weighted_feature("context", 8_000.0, 0.4),
    weighted_feature("instructions_per_sentence", 1.0, 1.2),
    weighted_feature("long_words", 10.0, 0.4),
    weighted_feature("numbers", 4.0, 0.6),
    weighted_feature("questions", 2.0, 0.4),
    weighted_feature("code_symbols", 20.0, 0.4),
    weighted_feature("math_symbols", 6.0, 0.5),
    weighted_feature("turns", 6.0, 0.6),
    weighted_feature("tools_and_images", 4.0, 0.8),
    weighted_feature("output_demands", 1.0, 0.5),
];

/// Scores by counted features and fixed weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lexical;

impl Scorer for Lexical {
    fn score(&self, input: &ScoreInput<'_>) -> f64 {
        logistic(
            BIAS + contributions(input)
                .map(|(_, contribution)| contribution)
                .sum::<f64>(),
        )
    }

    fn explain(&self, input: &ScoreInput<'_>) -> Score {
        let named = FEATURES.iter().zip(contributions(input));
        let features = named
            .map(|(feature, (value, contribution))| ScoreFeature {
                name: feature.name,
                value,
                contribution,
            })
            .collect();
        Score {
            score: self.score(input),
            features,
        }
    }
}

fn contributions(input: &ScoreInput<'_>) -> impl Iterator<Item = (f64, f64)> {
    let counts = SignCounts::features_of(input);
    FEATURES.iter().zip(counts).map(|(feature, count)| {
        let value = 1.0 - (-count / feature.scale).exp();
        (value, value * feature.weight)
    })
}

fn logistic(sum: f64) -> f64 {
    1.0 / (1.0 + (-sum).exp())
}

/// Counts of the signs in a request.
struct SignCounts;

impl SignCounts {
    fn features_of(input: &ScoreInput<'_>) -> [f64; FEATURES.len()] {
        let (text, rework) = own_words(input.text);
        let (head, tail) = ends(&text);
        let mut counts = TextCounts::default();
        counts.add(head);
        counts.add(tail);
        let mut signs = counts.signs.map(f64::from);
        if rework {
            for sign in GIVEN_WITH_REWORK {
                signs[sign as usize] *= GIVEN_SHARE;
            }
        }
        let sign = |sign: Sign| signs[sign as usize];
        let whole = text.len() as f64 / (head.len() + tail.len()).max(1) as f64;
        let tasks = sign(Sign::Reasoning) + sign(Sign::Instruction);
        let demands = u32::from(input.json_schema)
            + u32::from(input.output_limit.is_some_and(|limit| limit > LONG_OUTPUT));
        [
            sign(Sign::Reasoning),
            sign(Sign::Math),
            sign(Sign::Code),
            sign(Sign::Constraint),
            sign(Sign::Instruction),
            sign(Sign::Output),
            sign(Sign::Logic),
            sign(Sign::Simple),
            f64::from(rework),
            counts.words() * whole,
            input.tokens as f64,
            tasks / f64::from(counts.sentences.max(1)),
            f64::from(counts.long_words),
            f64::from(counts.numbers),
            f64::from(counts.questions),
            f64::from(counts.code_symbols + FENCE * counts.fences),
            f64::from(counts.math_symbols),
            f64::from(input.turns.saturating_sub(1)),
            f64::from(input.tools) + 2.0 * f64::from(input.images),
            f64::from(demands),
        ]
    }
}

/// Signs that a text to be worked over gives rather than the task.
const GIVEN_WITH_REWORK: [Sign; 5] = [
    Sign::Reasoning,
    Sign::Math,
    Sign::Code,
    Sign::Constraint,
    Sign::Logic,
];
/// Share of the signs of a given text that still counts.
const GIVEN_SHARE: f64 = 0.3;
/// An answer of more tokens than this is a long one.
const LONG_OUTPUT: u64 = 4_000;
/// Number of symbols that a fence of a code block counts as.
const FENCE: u32 = 8;
/// A task of working over is named so early in the text, in bytes …
const OPENING: usize = 40;
/// … or anywhere in a text this short.
const SHORT: usize = 120;
/// Position up to which a colon starts the text that a task works on.
const EARLY_COLON: usize = 160;
/// A quotation is at most this long, in bytes.
const QUOTATION: usize = 600;

/// The text without what it quotes and, if its task is to work a text over, without that text;
/// and whether that is its task.
fn own_words(text: &str) -> (Cow<'_, str>, bool) {
    let limit = if text.len() < SHORT { SHORT } else { OPENING };
    let rework = LEXICON.first(text, limit, Sign::Rework);
    let colon = text.char_indices().take_while(|(at, _)| *at < EARLY_COLON);
    let colon = colon
        .filter(|(_, c)| matches!(c, ':' | '\u{ff1a}'))
        .map(|(at, _)| at)
        .next();
    match (rework, colon) {
        (true, Some(colon)) => (strip_quotes(&text[..colon]), true),
        (rework, _) => (strip_quotes(text), rework),
    }
}

/// Leaves quotations out. Code is full of quotes, so a text with a code block stays as it is.
fn strip_quotes(text: &str) -> Cow<'_, str> {
    if !text.contains(is_opening_quote) || text.contains("```") {
        return Cow::Borrowed(text);
    }
    let mut own = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find(is_opening_quote) {
        own.push_str(&rest[..open]);
        let mut inside = rest[open..].chars();
        let close = inside.next().map_or('"', closing_quote);
        let inside = inside.as_str();
        rest = match inside.find(close) {
            Some(end) if end <= QUOTATION => &inside[end + close.len_utf8()..],
            _ => inside,
        };
        own.push(' ');
    }
    own.push_str(rest);
    Cow::Owned(own)
}

fn is_opening_quote(c: char) -> bool {
    matches!(c, '"' | '“' | '„' | '«' | '「' | '『')
}

const fn closing_quote(open: char) -> char {
    match open {
        '“' => '”',
        '„' => '“',
        '«' => '»',
        '「' => '」',
        '『' => '』',
        _ => '"',
    }
}

/// The whole text, or its beginning and its end.
fn ends(text: &str) -> (&str, &str) {
    if text.len() <= MAX_TEXT {
        return (text, "");
    }
    let head = text.floor_char_boundary(MAX_TEXT / 2);
    let tail = text.ceil_char_boundary(text.len() - MAX_TEXT / 2);
    (&text[..head], &text[tail..])
}

#[derive(Default)]
struct TextCounts {
    signs: [u32; Sign::COUNT],
    alphabetic_words: u32,
    long_words: u32,
    ideographs: u32,
    sentences: u32,
    questions: u32,
    numbers: u32,
    code_symbols: u32,
    math_symbols: u32,
    fences: u32,
}

/// Letters of a word that is long.
const LONG_WORD: u32 = 9;

impl TextCounts {
    fn add(&mut self, text: &str) {
        self.add_words(text);
        self.add_characters(text);
        self.fences += text.matches("```").count() as u32;
    }

    /// An ideograph carries about as much as two thirds of a word.
    fn words(&self) -> f64 {
        f64::from(self.alphabetic_words) + f64::from(self.ideographs) / 1.5
    }

    fn add_characters(&mut self, text: &str) {
        let (mut letters, mut digit) = (0, false);
        let mut ended = true;
        for c in text.chars() {
            let was_digit = std::mem::replace(&mut digit, c.is_ascii_digit());
            match c {
                'a'..='z' | 'A'..='Z' => letters += 1,
                '0'..='9' => self.numbers += u32::from(!was_digit),
                '.' | '!' | '?' | '\n' | '。' | '\u{ff01}' | '\u{ff1f}' if !ended => {
                    self.sentences += 1;
                    self.questions += u32::from(matches!(c, '?' | '\u{ff1f}'));
                    ended = true;
                    self.end_word(&mut letters);
                    continue;
                }
                '{' | '}' | ';' | '<' | '>' | '[' | ']' | '|' | '&' | '_' | '\\' | '#' | '@' => {
                    self.code_symbols += 1;
                }
                '^' | '=' | '+' | '*' | '/' | '±' | '×' | '÷' | '≤' | '≥' | '≠' | '∈' | '∑'
                | '∫' | '√' | '∞' | '∀' | '∃' | '→' | '≡' | '≈' | 'π' | '²' | '³' =>
                {
                    self.math_symbols += 1;
                }
                c if is_unspaced(c) => self.ideographs += 1,
                c if !c.is_ascii() && c.is_alphabetic() => letters += 1,
                _ => {}
            }
            if c == ' ' || c.is_ascii_punctuation() {
                self.end_word(&mut letters);
            } else {
                ended = false;
            }
        }
        self.end_word(&mut letters);
        self.sentences += u32::from(!ended);
    }

    fn end_word(&mut self, letters: &mut u32) {
        self.alphabetic_words += u32::from(*letters > 0);
        self.long_words += u32::from(*letters >= LONG_WORD);
        *letters = 0;
    }

    fn add_words(&mut self, text: &str) {
        for (_, word) in LEXICON.find(text) {
            for sign in 0..Sign::COUNT {
                self.signs[sign] += u32::from(word.signs >> sign & 1);
            }
        }
    }
}

/// The words of all signs, in one automaton.
struct Lexicon {
    /// There is none only if the table is too large for one, which a test rules out.
    automaton: Option<AhoCorasick>,
    words: Vec<Word>,
}

struct Word {
    /// One bit a sign.
    signs: u16,
    /// It begins and ends where words of its script do.
    spaced: bool,
    /// It is the beginning of longer words too.
    stem: bool,
}

impl Word {
    fn stands_in(&self, text: &str, start: usize, end: usize) -> bool {
        let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        !self.spaced
            || !letter(text[..start].chars().next_back())
                && (self.stem || !letter(text[end..].chars().next()))
    }
}

static LEXICON: LazyLock<Lexicon> = LazyLock::new(Lexicon::new);

impl Lexicon {
    /// The words found in a text, and where.
    fn find<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (usize, &'t Word)> {
        let found = self
            .automaton
            .iter()
            .flat_map(move |automaton| automaton.find_iter(text));
        found.filter_map(move |found| {
            let word = &self.words[found.pattern().as_usize()];
            word.stands_in(text, found.start(), found.end())
                .then_some((found.start(), word))
        })
    }

    /// Returns true if a word with this sign begins within the first `limit` bytes.
    fn first(&self, text: &str, limit: usize, sign: Sign) -> bool {
        let text = &text[..text.floor_char_boundary(limit + 40)];
        let early = self.find(text).take_while(|(start, _)| *start < limit);
        early
            .into_iter()
            .any(|(_, word)| word.signs >> sign as u16 & 1 == 1)
    }

    fn new() -> Self {
        let mut signs: BTreeMap<String, (u16, bool)> = BTreeMap::new();
        for (sign, _, words) in &WORDS {
            for word in words.split('|') {
                let stem = word.ends_with('*');
                for form in forms(word.trim_end_matches('*')) {
                    let entry = signs.entry(form).or_default();
                    entry.0 |= 1 << *sign as u8;
                    entry.1 |= stem;
                }
            }
        }
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(signs.keys())
            .ok();
        let word = |(form, (signs, stem)): (&String, &(u16, bool))| Word {
            signs: *signs,
            spaced: !form.starts_with(is_unspaced),
            stem: *stem,
        };
        let words = signs.iter().map(word).collect();
        Self { automaton, words }
    }
}

/// Returns the word as in the table and as at the start of a sentence.
fn forms(word: &str) -> Vec<String> {
    let mut chars = word.chars();
    let Some(first) = chars.next() else {
        return Vec::new();
    };
    let capital: String = first.to_uppercase().chain(chars).collect();
    if first.is_ascii() {
        vec![word.to_owned()]
    } else {
        vec![word.to_owned(), capital]
    }
}

/// Returns true if a character belongs to a script without spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_is_documented() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rules.md");
        let docs = std::fs::read_to_string(docs).unwrap();
        assert!(docs.contains(&format!("logistic function of {BIAS} plus")));
        for WeightedFeature {
            name,
            scale,
            weight,
        } in &FEATURES
        {
            let row = format!("| {name} | {scale} | {weight} | ");
            assert!(docs.contains(&row), "docs/rules.md lacks {row}");
        }
        let weight = |row: &str| row.split('|').nth(3)?.trim().parse::<f64>().ok();
        assert_eq!(docs.lines().filter_map(weight).count(), FEATURES.len());
    }

    fn values(text: &str) -> Vec<(&'static str, f64)> {
        let explained = Lexical.explain(&ScoreInput {
            text,
            ..ScoreInput::default()
        });
        let present = explained
            .features
            .iter()
            .filter(|feature| feature.value > 0.0);
        present
            .map(|feature| (feature.name, feature.value))
            .collect()
    }

    fn has(text: &str, name: &str) -> bool {
        values(text).iter().any(|(present, _)| *present == name)
    }

    #[test]
    fn features_are_seen() {
        for (text, name, want) in [
            ("Prove it.", "reasoning_words", true),
            ("Improved it.", "reasoning_words", false),
            ("Analysis of it", "reasoning_words", true),
            ("请证明", "reasoning_words", true),
            ("Докажи это", "reasoning_words", true),
            ("the integral of x", "math_words", true),
            ("a mutex", "code_words", true),
            ("It must hold", "constraint_words", true),
            ("Translate this", "rework", true),
            ("\u{8bf7}翻译", "rework", true),
            ("Is it right? And this\u{ff1f}", "questions", true),
            ("12 and 13", "numbers", true),
            ("fn f() { g(); }", "code_symbols", true),
            ("x ≤ y", "math_symbols", true),
            ("extraordinarily", "long_words", true),
        ] {
            assert_eq!(has(text, name), want, "{text}: {name}: {:?}", values(text));
        }
    }

    #[test]
    fn given_texts_are_not_the_task() {
        for text in [
            "What does \"prove the theorem\" mean in French?",
            "Was heißt „Beweis“ auf Englisch?",
            "Shorten this: Prove that every integral domain that is finite is a field.",
            "「証明」とは?",
        ] {
            assert!(
                !has(text, "reasoning_words") && !has(text, "math_words"),
                "{text}"
            );
        }
        assert!(
            has("Say \"open and prove it", "reasoning_words"),
            "a quotation never closed"
        );
    }

    #[test]
    fn what_a_request_has_besides_text_counts() {
        let bare = ScoreInput {
            text: "Look at this.",
            ..ScoreInput::default()
        };
        let base = Lexical.score(&bare);
        for more in [
            ScoreInput { turns: 6, ..bare },
            ScoreInput { tools: 5, ..bare },
            ScoreInput { images: 1, ..bare },
            ScoreInput {
                json_schema: true,
                ..bare
            },
            ScoreInput {
                output_limit: Some(16_000),
                ..bare
            },
            ScoreInput {
                tokens: 50_000,
                ..bare
            },
        ] {
            assert!(Lexical.score(&more) > base, "{more:?}");
        }
    }

    #[test]
    fn the_lexicon_is_built() {
        assert!(LEXICON.automaton.is_some());
    }

    #[test]
    fn long_texts_are_judged_by_their_ends() {
        let filler = "la ".repeat(100_000);
        let text = format!("Prove it. {filler} Then derive the bound.");
        assert!(has(&text, "reasoning_words"));
        let (head, tail) = ends(&text);
        assert!(head.starts_with("Prove") && tail.ends_with("bound."));
        assert!(head.len() + tail.len() <= MAX_TEXT);
    }

    proptest! {
        #[test]
        fn any_text_has_a_score(text in "\\PC{0,300}", quotes in "[\"“”「」:a \u{ff1a}`]{0,60}") {
            for text in [&text, &quotes, &format!("translate {quotes}{text}")] {
                let input = ScoreInput { text, tokens: 7, ..ScoreInput::default() };
                let score = Lexical.score(&input);
                prop_assert!((0.0..=1.0).contains(&score));
                prop_assert_eq!(score, Lexical.explain(&input).score);
            }
        }
    }
}
