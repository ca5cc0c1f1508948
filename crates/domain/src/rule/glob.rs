//! Relations between two name patterns that are decidable without trying names: one covers the
//! other, or they exclude each other.

use crate::pattern::Pattern;

/// Returns true if every name that `narrow` matches is matched by `wide` too. `false` may also mean
/// that this can't be shown.
pub(super) fn covers(wide: &Pattern, narrow: &Pattern) -> bool {
    // Of the narrow pattern's characters, its own stars can only be taken by a star.
    let one = |wide: u8, narrow: u8| narrow != b'*' && wide == narrow;
    wild(wide.as_str().as_bytes(), narrow.as_str().as_bytes(), one)
}

/// Returns true if certainly no name is matched by both: one is literal and the other doesn't match
/// it.
pub(super) fn exclude(a: &Pattern, b: &Pattern) -> bool {
    a.is_literal() && !b.matches(a.as_str()) || b.is_literal() && !a.matches(b.as_str())
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
    fn covering_is_shown_or_not() {
        for (wide, narrow, want) in [
            ("*", "gpt-*", true),
            ("gpt-*", "*", false),
            ("gpt-*", "gpt-4*", true),
            ("*mini", "gpt-*-mini", true),
            ("a*c", "ac", true),
            ("a", "a", true),
            ("a", "a*", false),
        ] {
            assert_eq!(
                covers(&Pattern::new(wide), &Pattern::new(narrow)),
                want,
                "{wide} {narrow}"
            );
        }
        assert!(exclude(&Pattern::new("a"), &Pattern::new("b*")));
        assert!(
            !exclude(&Pattern::new("a*"), &Pattern::new("b*")),
            "not certain without a literal"
        );
    }

    proptest! {
        #[test]
        fn what_covers_matches_all(
            wide in "[ab*]{0,6}",
            narrow in "[ab*]{0,6}",
            name in "[ab]{0,6}",
        ) {
            let (wide, narrow) = (Pattern::new(&wide), Pattern::new(&narrow));
            if covers(&wide, &narrow) && narrow.matches(&name) {
                prop_assert!(wide.matches(&name));
            }
            if exclude(&wide, &narrow) {
                prop_assert!(!(wide.matches(&name) && narrow.matches(&name)));
            }
        }
    }
}
