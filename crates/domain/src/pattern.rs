//! Name patterns: literal text with `*` for any run of characters. Nothing else is special.

use std::fmt;
use std::sync::Arc;

/// A pattern over model names, such as `gpt-4o*` or `*`.
///
/// `*` matches any run of characters, the empty one included; every other character matches
/// itself. Matching is linear in the name for each `*`, so no pattern can be made slow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
    parts: Vec<String>,
}

impl Pattern {
    /// Compiles a pattern. Every text is a valid one.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            parts: text.split('*').map(str::to_owned).collect(),
        }
    }

    /// Returns true if the whole of `name` matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.parts.split_first() else {
            return name.is_empty();
        };
        let Some((last, middle)) = rest.split_last() else {
            return name == first;
        };
        let Some(name) = name.strip_prefix(first.as_str()) else {
            return false;
        };
        let Some(mut name) = name.strip_suffix(last.as_str()) else {
            return false;
        };
        for part in middle {
            match name.find(part.as_str()) {
                Some(at) => name = &name[at + part.len()..],
                None => return false,
            }
        }
        true
    }

    /// Returns true if the pattern is a plain name without `*`.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.parts.len() == 1
    }

    /// Returns true if the pattern matches every name.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.parts.len() > 1 && self.parts.iter().all(String::is_empty)
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A list of patterns; a name is on the list when any pattern matches it. Clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatternList(Arc<[Pattern]>);

impl PatternList {
    /// Compiles the patterns in the order given.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(texts.into_iter().map(Pattern::new).collect())
    }

    /// Returns true if any pattern matches `name`.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }

    /// Returns true if every name is on the list.
    #[must_use]
    pub fn allows_any(&self) -> bool {
        self.0.iter().any(Pattern::is_any)
    }

    /// The patterns, in order.
    #[must_use]
    pub fn patterns(&self) -> &[Pattern] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("*", &["", "gpt-4o", "a/b"], &[]),
            ("gpt-4o", &["gpt-4o"], &["gpt-4o-mini", "xgpt-4o", ""]),
            ("gpt-*", &["gpt-", "gpt-4o"], &["gpt", "agpt-4"]),
            (
                "*-mini",
                &["-mini", "gpt-4o-mini"],
                &["mini", "gpt-4o-minis"],
            ),
            ("a*b*c", &["abc", "aXbYc", "abbc"], &["ac", "acb", "ab"]),
            ("aa*aa", &["aaaa", "aaXaa"], &["aaa", "aa"]),
            ("**", &["", "x"], &[]),
            ("", &[""], &["x"]),
        ];
        for (pattern, yes, no) in cases {
            let compiled = Pattern::new(pattern);
            for name in *yes {
                assert!(compiled.matches(name), "{pattern} should match {name:?}");
            }
            for name in *no {
                assert!(
                    !compiled.matches(name),
                    "{pattern} should not match {name:?}"
                );
            }
        }
    }

    #[test]
    fn lists_allow_when_any_pattern_does() {
        let list = PatternList::new(["gpt-*", "claude-haiku-4-5"]);
        assert!(list.allows("gpt-4o") && list.allows("claude-haiku-4-5"));
        assert!(!list.allows("claude-opus-4") && !list.allows_any());
        assert!(PatternList::new(["a", "*"]).allows_any());
        assert!(!PatternList::default().allows("a"));
    }
}
