//! Sources of an answer, as `groundingMetadata` has them.

use crate::translate::json::Json;
use crate::translate::neutral::Citation;

/// Reads `groundingMetadata`: each source with the text that it supports.
pub(super) fn read(metadata: &Json<'_>) -> Vec<Citation<'static>> {
    let chunks = metadata
        .get("groundingChunks")
        .and_then(Json::as_array)
        .unwrap_or_default();
    let supports = metadata
        .get("groundingSupports")
        .and_then(Json::as_array)
        .unwrap_or_default();
    let at = |index: u64, quote: Option<&str>| {
        let web = chunks.get(usize::try_from(index).ok()?)?.get("web")?;
        Some(Citation {
            url: web.str("uri")?.to_owned().into(),
            title: web.str("title").map(|title| title.to_owned().into()),
            quote: quote.map(|quote| quote.to_owned().into()),
            span: None,
        })
    };
    if supports.is_empty() {
        return (0..)
            .zip(chunks)
            .filter_map(|(index, _)| at(index, None))
            .collect();
    }
    let mut found = Vec::new();
    for support in supports {
        let quote = support
            .get("segment")
            .and_then(|segment| segment.str("text"));
        let indices = support
            .get("groundingChunkIndices")
            .and_then(Json::as_array)
            .unwrap_or_default();
        found.extend(
            indices
                .iter()
                .filter_map(|index| at(index.as_u64()?, quote)),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_grounding_by_support() {
        let text = r#"{"groundingChunks":[{"web":{"uri":"a"}},{"web":{"uri":"b","title":"B"}}],
            "groundingSupports":[{"segment":{"text":"q"},"groundingChunkIndices":[1,9]}]}"#;
        let found = read(&Json::parse(text).unwrap());
        assert_eq!(found.len(), 1);
        assert_eq!(
            (&*found[0].url, found[0].quote.as_deref()),
            ("b", Some("q"))
        );
    }
}
