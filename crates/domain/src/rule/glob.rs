//! Globs over model names: `*` and `?`, nothing more. It knows names only as text.

/// A pattern over a whole name: `*` stands for any characters, `?` for one (ASCII) character,
/// everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Glob {
    pattern: Box<str>,
    literal: bool,
}

impl Glob {
    /// Every text is a glob, so this can't fail.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self {
            pattern: pattern.into(),
            literal: !pattern.contains(['*', '?']),
        }
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Whether the pattern stands for itself only.
    #[must_use]
    pub const fn is_literal(&self) -> bool {
        self.literal
    }

    /// Whether the whole name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if self.literal {
            return *self.pattern == *name;
        }
        wild(self.pattern.as_bytes(), name.as_bytes(), |p, t| {
            p == b'?' || p == t
        })
    }

    /// Whether every name that `other` matches is matched by this one too. `false` may also mean
    /// that it could not be shown.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        wild(self.pattern.as_bytes(), other.pattern.as_bytes(), |p, t| {
            t != b'*' && (p == b'?' || p == t)
        })
    }

    /// Whether it is certain that no name is matched by both: two different literals, or a literal
    /// that the other doesn't match.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.literal && !other.matches(&self.pattern)
            || other.literal && !self.matches(&other.pattern)
    }
}

/// Matches with one remembered star: linear in the usual case, `pattern × text` at worst.
fn wild(pattern: &[u8], text: &[u8], one: impl Fn(u8, u8) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(&c) if one(c, text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    p = after;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_match() {
        for (pattern, name, want) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "gpt-", true),
            ("gpt-*", "GPT-4o", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("*mini", "gpt-4o-mini", true),
            ("*-4*-*", "gpt-4o-mini", true),
            ("gpt-?o", "gpt-4o", true),
            ("gpt-?o", "gpt-o", false),
            ("a*b*c", "abbbcbc", true),
            ("a*b*c", "abbbcbd", false),
            ("meta/*", "meta/llama-3", true),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn covering_is_shown_or_not() {
        for (wide, narrow, want) in [
            ("*", "gpt-*", true),
            ("gpt-*", "*", false),
            ("gpt-*", "gpt-4?", true),
            ("gpt-?", "gpt-*", false),
            ("*mini", "gpt-*-mini", true),
            ("a*c", "a?c", true),
            ("a", "a", true),
            ("?", "?", true),
        ] {
            assert_eq!(
                Glob::new(wide).covers(&Glob::new(narrow)),
                want,
                "{wide} {narrow}"
            );
        }
        assert!(Glob::new("a").excludes(&Glob::new("b*")));
        assert!(
            !Glob::new("a*").excludes(&Glob::new("b*")),
            "not certain without a literal"
        );
    }

    proptest! {
        #[test]
        fn what_covers_matches_all(wide in "[ab*?]{0,6}", narrow in "[ab*?]{0,6}", name in "[ab]{0,6}") {
            let (wide, narrow) = (Glob::new(&wide), Glob::new(&narrow));
            if wide.covers(&narrow) && narrow.matches(&name) {
                prop_assert!(wide.matches(&name));
            }
            if wide.excludes(&narrow) {
                prop_assert!(!(wide.matches(&name) && narrow.matches(&name)));
            }
        }

        #[test]
        fn globs_agree_with_regular_expressions(pattern in "[ab*?]{0,6}", name in "[ab]{0,8}") {
            let source = pattern.replace('*', ".*").replace('?', ".");
            let regex = regex_automata::meta::Regex::new(&format!("^(?:{source})$")).unwrap();
            prop_assert_eq!(Glob::new(&pattern).matches(&name), regex.is_match(&name));
        }
    }
}
