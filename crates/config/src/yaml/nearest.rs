//! The known name that somebody probably meant.

/// The candidate most like `name`, if one is like it at all.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Below this Jaro-Winkler similarity two names have little in common.
    const LIKE: f64 = 0.75;
    let lower = name.to_lowercase();
    let rated = candidates.into_iter().map(|candidate| {
        let likeness = strsim::jaro_winkler(&lower, &candidate.to_lowercase());
        (likeness, candidate)
    });
    let best = rated.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= LIKE).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_find_the_name_meant() {
        let known = [
            "listen",
            "admin_paths",
            "max_body",
            "tls",
            "header_timeout",
            "body_timeout",
        ];
        for (typed, meant) in [
            ("lisen", Some("listen")),
            ("Listen", Some("listen")),
            ("adminPaths", Some("admin_paths")),
            ("maxbody", Some("max_body")),
            ("body_timout", Some("body_timeout")),
            ("xyz", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
        assert_eq!(nearest("anything", []), None);
    }
}
