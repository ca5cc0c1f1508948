//! Text as a model might write it, drawn from a seed, and the pieces it is streamed in. Knows
//! nothing of requests or formats.

use std::fmt::Write as _;

use fastrand::Rng;

/// Longest piece of a text without spaces, in bytes.
const LONGEST_WORD: usize = 32;

/// Size of the pieces that padding is streamed in.
const PAD_PIECE: usize = 1_024;

/// Sentences of an answer; `{}` is the topic. Some words take more than one byte a letter, as
/// they do in real answers.
const SENTENCES: [&str; 24] = [
    "The short version of {} is that one good measurement beats ten opinions.",
    "Start with the part of {} that you can test today and leave the rest for later.",
    "Most of the trouble with {} comes from two habits that look harmless on their own.",
    "A naïve approach works for a while, then the edge cases arrive all at once.",
    "It helps to write down what you expect before you look at the result.",
    "In practice the slow path matters more than the fast one, because people remember it.",
    "Think of it as a café with one barista: adding tables does not shorten the queue.",
    "There are three things to check, and the order in which you check them is important.",
    "First, make sure the inputs are what you believe they are.",
    "Second, keep the state in one place and give it one owner.",
    "Third, decide what should happen when a step fails halfway through.",
    "None of this is difficult, but it is easy to skip when time is short.",
    "Teams from Zürich to São Paulo report the same pattern with {}.",
    "The numbers vary — ten percent here, half there — yet the shape stays the same.",
    "If you only change one thing, change the default, since almost nobody overrides it.",
    "A small example makes the difference visible within a few minutes.",
    "You can undo the change at any point, so the risk of trying is low.",
    "What remains is a matter of taste, and reasonable people choose differently.",
    "The cost grows with the size of the history, not with the size of the question.",
    "Caching hides the problem at first and makes it harder to find later.",
    "When {} is involved, a clear name is worth more than a long comment.",
    "The older method still has its place where latency does not matter.",
    "Keep an eye on the slowest one percent, because that is where {} shows first.",
    "With that in mind, the rest of the plan follows almost by itself.",
];

/// Unit in which a text is split when streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    /// Words with the space before them.
    Word,
    /// Runs of so many bytes, to the next character boundary.
    Bytes(usize),
}

/// A text and how it is streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prose {
    text: String,
    grain: Grain,
    pieces: u64,
}

impl Prose {
    /// An answer of exactly `tokens` words about `topic`.
    pub(crate) fn about(topic: &str, tokens: u64, rng: &mut Rng) -> Self {
        let mut text = String::new();
        let mut left = tokens;
        let mut written = 0;
        while left > 0 {
            let sentence = SENTENCES[rng.usize(..SENTENCES.len())];
            push_gap(&mut text, written);
            left -= push_words(&mut text, sentence, topic, left);
            written += 1;
        }
        if text.ends_with(char::is_alphanumeric) {
            text.push('.');
        }
        Self {
            text,
            grain: Grain::Word,
            pieces: tokens,
        }
    }

    /// A given text, streamed word by word.
    pub(crate) fn plain(text: String) -> Self {
        Self::with_grain(text, Grain::Word)
    }

    /// JSON, streamed in short runs as models send it.
    pub(crate) fn json(text: String) -> Self {
        Self::with_grain(text, Grain::Bytes(8))
    }

    /// This text brought to exactly `bytes` bytes.
    pub(crate) fn pad_to(self, bytes: usize) -> Self {
        let mut text = self.text;
        text.truncate(text.floor_char_boundary(bytes));
        while text.len() < bytes {
            let filler = "all work and no play makes a long answer ";
            text.push_str(&filler[..filler.len().min(bytes - text.len())]);
        }
        Self::with_grain(text, Grain::Bytes(PAD_PIECE))
    }

    /// The text up to `end`, streamed as before.
    pub(crate) fn cut(mut self, end: usize) -> Self {
        self.text.truncate(end);
        Self::with_grain(self.text, self.grain)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the number of pieces in which the text is streamed.
    pub(crate) fn pieces(&self) -> u64 {
        self.pieces
    }

    /// Returns the tokens that a model would have spent on it.
    pub(crate) fn tokens(&self) -> u64 {
        match self.grain {
            Grain::Word => self.pieces,
            Grain::Bytes(_) => (self.text.len() as u64).div_ceil(4),
        }
    }

    /// The piece that starts at byte `at`; empty at the end.
    pub(crate) fn piece(&self, at: usize) -> &str {
        piece(&self.text, self.grain, at)
    }

    fn with_grain(text: String, grain: Grain) -> Self {
        let mut pieces = 0;
        let mut at = 0;
        while at < text.len() {
            at += piece(&text, grain, at).len();
            pieces += 1;
        }
        Self {
            text,
            grain,
            pieces,
        }
    }
}

/// Picks what a text seems to be about: its longest words, in their order.
pub(crate) fn topic(text: &str) -> String {
    let mut words: Vec<&str> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| (5..=16).contains(&word.len()))
        .take(64)
        .collect();
    let mut lengths: Vec<usize> = words.iter().map(|word| word.len()).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let shortest = lengths
        .get(1)
        .or(lengths.first())
        .copied()
        .unwrap_or_default();
    words.retain(|word| word.len() >= shortest);
    words.truncate(2);
    if words.is_empty() {
        "this".to_owned()
    } else {
        words.join(" ")
    }
}

/// Letters and digits drawn from `rng`, as in the providers' ids.
pub(crate) fn id(prefix: &str, length: usize, rng: &mut Rng) -> String {
    let mut id = String::with_capacity(prefix.len() + length);
    id.push_str(prefix);
    id.extend((0..length).map(|_| rng.alphanumeric()));
    id
}

/// `bytes` in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn piece(text: &str, grain: Grain, at: usize) -> &str {
    let rest = &text[at..];
    let end = match grain {
        Grain::Bytes(run) => rest.ceil_char_boundary(run),
        Grain::Word => rest.ceil_char_boundary(word_end(rest).min(LONGEST_WORD)),
    };
    &rest[..end]
}

/// The end of the first word together with the white space before it.
fn word_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let start = bytes
        .iter()
        .position(|b| !b.is_ascii_whitespace())
        .unwrap_or(bytes.len());
    let word = bytes[start..].iter().position(u8::is_ascii_whitespace);
    word.map_or(bytes.len(), |length| start + length)
}

fn push_gap(text: &mut String, sentences: u32) {
    match sentences {
        0 => {}
        n if n % 5 == 0 => text.push_str("\n\n"),
        _ => text.push(' '),
    }
}

/// Writes the words of `sentence` while there are any `left`, and says how many it wrote.
fn push_words(text: &mut String, sentence: &str, topic: &str, left: u64) -> u64 {
    let mut written = 0;
    for word in sentence.split(' ') {
        for (i, word) in expand(word, topic).enumerate() {
            if written == left {
                return written;
            }
            if written > 0 || i > 0 {
                text.push(' ');
            }
            text.push_str(word.0);
            text.push_str(word.1);
            written += 1;
        }
    }
    written
}

/// A word as it stands, or the topic's words in place of `{}`, each with what follows it.
fn expand<'a>(word: &'a str, topic: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let slot = word.strip_prefix("{}");
    let mut words = match slot {
        Some(_) => topic.split(' '),
        None => word.split(' '),
    }
    .peekable();
    std::iter::from_fn(move || {
        let word = words.next()?;
        let tail = if words.peek().is_none() {
            slot.unwrap_or_default()
        } else {
            ""
        };
        Some((word, tail))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(prose: &Prose) -> Vec<&str> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < prose.text().len() {
            pieces.push(prose.piece(at));
            at += prose.piece(at).len();
        }
        pieces
    }

    #[test]
    fn an_answer_has_exactly_the_tokens_asked_for() {
        for tokens in [1, 2, 3, 17, 40, 500] {
            let prose = Prose::about("slow queues", tokens, &mut Rng::with_seed(tokens));
            assert_eq!(pieces(&prose).len() as u64, tokens, "{}", prose.text());
            assert_eq!(prose.tokens(), tokens);
            assert_eq!(pieces(&prose).concat(), prose.text());
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_answer() {
        let write = |seed| Prose::about("rust", 60, &mut Rng::with_seed(seed));
        assert_eq!(write(1), write(1));
        assert_ne!(write(1), write(2));
    }

    #[test]
    fn long_answers_have_paragraphs_and_letters_beyond_ascii() {
        let prose = Prose::about("rust", 2_000, &mut Rng::with_seed(3));
        assert!(prose.text().contains("\n\n"));
        assert!(!prose.text().is_ascii());
        assert!(!prose.text().contains("{}"));
    }

    #[test]
    fn padding_is_exact_and_streamed_in_large_pieces() {
        for bytes in [0, 1, 5, 100, 5_000, 1 << 20] {
            let prose = Prose::about("naïve", 30, &mut Rng::with_seed(1)).pad_to(bytes);
            assert_eq!(prose.text().len(), bytes);
            assert_eq!(pieces(&prose).len() as u64, prose.pieces());
            assert!(prose.pieces() <= (bytes / PAD_PIECE + 1) as u64);
        }
    }

    #[test]
    fn pieces_never_split_a_character() {
        let text = "é".repeat(100);
        for prose in [Prose::plain(text.clone()), Prose::json(text.clone())] {
            assert_eq!(pieces(&prose).concat(), text);
        }
    }

    #[test]
    fn the_topic_is_made_of_the_longest_words() {
        for (text, wanted) in [
            ("What is the capital of Portugal?", "capital Portugal"),
            ("Hi", "this"),
            ("", "this"),
            ("Explain backpressure", "Explain backpressure"),
        ] {
            assert_eq!(topic(text), wanted);
        }
    }
}
