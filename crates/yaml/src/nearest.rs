//! Finds the known name that was probably meant by a mistyped one.

/// Returns the candidate most similar to `name`, if any is similar enough. Case is ignored.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// The least Jaro-Winkler similarity at which a suggestion helps.
    const SIMILAR: f64 = 0.75;
    let lower = name.to_lowercase();
    let scored = candidates.into_iter().map(|candidate| {
        let similarity = strsim::jaro_winkler(&lower, &candidate.to_lowercase());
        (similarity, candidate)
    });
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= SIMILAR).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_names_are_matched_to_known_ones() {
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
