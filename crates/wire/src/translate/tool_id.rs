//! Ids and names of tools in the alphabets that the formats demand. It must not decide which tools
//! are offered.

use std::borrow::Cow;

use super::neutral::{NeutralRequest, Tool};

/// Marks ids that a provider left out and the router made.
const MADE: &str = "call_made_";

/// The longest tool name that most formats take, in bytes.
pub(crate) const NAME_LIMIT: usize = 64;

/// An id for a call whose provider gave none: unique within the conversation as long as `answer`,
/// the id of the answer it is in, is.
pub(crate) fn make(answer: &str, at: usize) -> String {
    format!("{MADE}{:016x}_{at}", hash(answer))
}

/// Returns true if the router made the id.
pub(crate) fn is_made(id: &str) -> bool {
    id.starts_with(MADE)
}

/// The id in Anthropic's alphabet (letters, digits, `_` and `-`); equal ids stay equal and
/// different ones different.
pub(crate) fn fit(id: &str) -> Cow<'_, str> {
    if !id.is_empty() && id.bytes().all(is_plain) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(format!("{}_{:016x}", plain(id), hash(id)))
}

/// The name in the alphabet of all formats and within `limit`.
pub(crate) fn fit_name(name: &str, limit: usize) -> Cow<'_, str> {
    if name.len() <= limit && !name.is_empty() && name.bytes().all(is_plain) {
        return Cow::Borrowed(name);
    }
    let mut short = plain(name);
    short.truncate(limit - 17);
    Cow::Owned(format!("{short}_{:016x}", hash(name)))
}

/// The names that go out differently: as sent, and as the client knows them.
pub(crate) fn renames(request: &NeutralRequest<'_>, limit: usize) -> Vec<(String, String)> {
    let changed = |tool: &Tool<'_>| {
        let (Tool::Function(super::neutral::Function { name, .. }) | Tool::Custom { name, .. }) =
            tool
        else {
            return None;
        };
        match fit_name(name, limit) {
            Cow::Owned(sent) => Some((sent, name.to_string())),
            Cow::Borrowed(_) => None,
        }
    };
    request.tools.iter().filter_map(changed).collect()
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect()
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

    #[test]
    fn ids_fit_the_alphabet_and_stay_apart() {
        assert_eq!(fit("toolu_01-A"), "toolu_01-A");
        let (one, two) = (fit("functions.f:0"), fit("functions.f_0"));
        assert!(one.bytes().all(is_plain) && one != "functions_f_0");
        assert_ne!(one, two);
        assert_eq!(one, fit("functions.f:0"));
        assert!(!fit("").is_empty());
    }

    #[test]
    fn names_fit_the_limit() {
        let long = "mcp__server__".repeat(8);
        let short = fit_name(&long, NAME_LIMIT);
        assert_eq!(short.len(), NAME_LIMIT);
        assert_eq!(fit_name("get_weather", NAME_LIMIT), "get_weather");
        assert_eq!(fit_name(&long, 128), long);
        assert!(fit_name("wetter.münchen", NAME_LIMIT).bytes().all(is_plain));
    }

    #[test]
    fn made_ids_are_known() {
        assert!(is_made(&make("resp", 0)) && !is_made("call_1"));
        assert_ne!(make("a", 0), make("b", 0));
    }
}
