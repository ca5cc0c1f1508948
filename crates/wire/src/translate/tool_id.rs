//! Ids and names of tools in the alphabets that the formats demand. It must not decide which tools
//! are offered.

use super::neutral::Text;

/// Marks ids that a provider left out and the router made.
const MADE: &str = "call_made_";

/// An id for a call whose provider gave none: unique within the conversation as long as `answer`,
/// the id of the answer it is in, is.
pub(crate) fn make(answer: &str, at: usize) -> String {
    format!("{MADE}{:016x}_{at}", hash(answer))
}

/// Returns true if the router made the id.
pub(crate) fn is_made(id: &str) -> bool {
    id.starts_with(MADE)
}

/// The way that a target spells a name or an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spelling {
    /// The most characters.
    pub(crate) most: Option<usize>,
    pub(crate) alphabet: Alphabet,
}

/// Characters that a name or an id may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    Any,
    /// Letters, digits, `_` and `-`; at least one.
    Plain,
    /// The same and dots, a letter or `_` first.
    DottedFromLetter,
}

/// The length of a hash and the `_` before it.
const HASH: usize = 17;

impl Spelling {
    /// The text as the target spells it, or none if it fits: a readable part and a hash, so that
    /// equal texts stay equal and different ones different.
    pub(crate) fn fit(self, text: &str) -> Option<String> {
        let short = self.most.is_none_or(|most| text.chars().count() <= most);
        if short && self.alphabet.has(text) {
            return None;
        }
        let mut plain = self.alphabet.transcribe(text);
        if let Some(most) = self.most {
            plain.truncate(most.saturating_sub(HASH));
        }
        Some(format!("{plain}_{:016x}", hash(text)))
    }

    /// Fits a text in its place.
    pub(crate) fn apply(self, text: &mut Text<'_>) {
        if let Some(fitted) = self.fit(text) {
            *text = fitted.into();
        }
    }

    /// The spelling as the documentation describes it.
    pub(crate) fn describe(self) -> String {
        let alphabet = match self.alphabet {
            Alphabet::Any => "",
            Alphabet::Plain => "letters, digits, `_`, `-`",
            Alphabet::DottedFromLetter => "letters, digits, `_`, `-`, `.`; a letter or `_` first",
        };
        match (self.most, alphabet) {
            (None, "") => "–".to_owned(),
            (None, alphabet) => alphabet.to_owned(),
            (Some(most), "") => format!("{most} characters"),
            (Some(most), alphabet) => format!("{most} of {alphabet}"),
        }
    }
}

impl Alphabet {
    fn has(self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Plain => !text.is_empty() && text.bytes().all(is_plain),
            Self::DottedFromLetter => {
                let letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
                text.bytes().next().as_ref().is_some_and(letter)
                    && text.bytes().all(|byte| is_plain(byte) || byte == b'.')
            }
        }
    }

    /// The text with `_` in place of what isn't in the alphabet: ASCII.
    fn transcribe(self, text: &str) -> String {
        let dots = self == Self::DottedFromLetter;
        let taken = |c: char| c.is_ascii_alphanumeric() || c == '-' || (dots && c == '.');
        let plain = text.chars().map(|c| if taken(c) { c } else { '_' });
        let mut out = String::with_capacity(text.len());
        if dots && !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            out.push('_');
        }
        out.extend(plain);
        out
    }
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits: short, and the same on every machine and in every release.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn spelling(most: Option<usize>, alphabet: Alphabet) -> Spelling {
        Spelling { most, alphabet }
    }

    #[test]
    fn ids_fit_the_alphabet_and_stay_apart() {
        let plain = spelling(None, Alphabet::Plain);
        assert_eq!(plain.fit("toolu_01-A"), None);
        let (one, two) = (plain.fit("functions.f:0"), plain.fit("functions.f.0"));
        assert!(one.as_ref().unwrap().bytes().all(is_plain));
        assert_ne!(one, two);
        assert_eq!(one, plain.fit("functions.f:0"));
        assert!(!plain.fit("").unwrap().is_empty());
    }

    #[test]
    fn names_fit_the_limit() {
        let long = "mcp__server__".repeat(8);
        let name = spelling(Some(64), Alphabet::Plain);
        assert_eq!(name.fit(&long).unwrap().len(), 64);
        assert_eq!(name.fit("get_weather"), None);
        assert_eq!(spelling(Some(128), Alphabet::Plain).fit(&long), None);
        assert!(name.fit("wetter.münchen").unwrap().bytes().all(is_plain));
    }

    #[test]
    fn names_begin_as_the_target_wants() {
        let name = spelling(Some(64), Alphabet::DottedFromLetter);
        for (given, expected) in [
            ("files.read", None),
            ("_x", None),
            ("7zip", Some("_7zip_")),
            ("-x", Some("_-x_")),
            (".x", Some("_.x_")),
            ("é", Some("__")),
            ("", Some("_")),
        ] {
            let found = name.fit(given);
            assert_eq!(found.is_some(), expected.is_some(), "{given}");
            if let (Some(found), Some(expected)) = (found, expected) {
                assert!(found.starts_with(expected) && name.fit(&found).is_none());
            }
        }
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        let id = spelling(Some(40), Alphabet::Any);
        assert_eq!(id.fit(&"é".repeat(40)), None);
        assert_eq!(id.fit(&"é".repeat(41)).unwrap().len(), 40);
    }

    #[test]
    fn made_ids_are_known() {
        assert!(is_made(&make("resp", 0)) && !is_made("call_1"));
        assert_ne!(make("a", 0), make("b", 0));
    }
}
