//! Sources of what a text says, in the shapes of each format. Only sources with an address travel:
//! a place in a document that the client sent has no counterpart in the other formats.

use super::emit::Fields;
use super::json::{Json, Object};
use super::neutral::Citation;

/// Reads OpenAI's `url_citation`: in chat it stands in a field of that name, in responses not.
pub(crate) fn read_annotation(annotation: Json<'_>) -> Option<Citation<'_>> {
    let mut annotation = annotation.into_object()?;
    if annotation.str("type") != Some("url_citation") {
        return None;
    }
    let mut inner = annotation.take_object("url_citation").unwrap_or(annotation);
    Some(Citation {
        url: inner.take("url")?.into_text()?,
        title: inner.take_string("title"),
        quote: inner.take_string("content"),
        span: inner.u64("start_index").zip(inner.u64("end_index")),
    })
}

/// Reads an entry of a text block's `citations`.
pub(crate) fn read_anthropic(citation: Json<'_>) -> Option<Citation<'_>> {
    let mut citation = citation.into_object()?;
    Some(Citation {
        url: citation.take("url")?.into_text()?,
        title: citation.take_string("title"),
        quote: citation.take_string("cited_text"),
        span: None,
    })
}

/// Reads what Perplexity puts beside its choices.
pub(crate) fn read_search_results<'a>(body: &mut Object<'a>) -> Vec<Citation<'a>> {
    let results = body.take_array("search_results");
    let addresses = body.take_array("citations");
    let mut found: Vec<Citation<'a>> = results
        .into_iter()
        .filter_map(|result| {
            let mut result = result.into_object()?;
            Some(Citation {
                url: result.take("url")?.into_text()?,
                title: result.take_string("title"),
                quote: None,
                span: None,
            })
        })
        .collect();
    if found.is_empty() {
        found.extend(addresses.into_iter().filter_map(|url| {
            Some(Citation {
                url: url.into_text()?,
                title: None,
                quote: None,
                span: None,
            })
        }));
    }
    found
}

/// Reads Gemini's `groundingMetadata`.
pub(crate) fn read_grounding(metadata: &Json<'_>) -> Vec<Citation<'static>> {
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

/// Writes the fields of a `url_citation`. Where the place is unknown it is zero: the SDKs demand a
/// number.
pub(crate) fn write_url_citation(fields: &mut Fields<'_>, citation: &Citation<'_>) {
    let (start, end) = citation.span.unwrap_or_default();
    fields.num("start_index", start);
    fields.num("end_index", end);
    fields.str("title", citation.title.as_deref().unwrap_or_default());
    fields.str("url", &citation.url);
}

/// Writes the fields of a `web_search_result_location`. Other providers have no index to encrypt.
pub(crate) fn write_anthropic(fields: &mut Fields<'_>, citation: &Citation<'_>) {
    fields.str("type", "web_search_result_location");
    fields.str("cited_text", citation.quote.as_deref().unwrap_or_default());
    fields.str("encrypted_index", "");
    fields.str_or_null("title", citation.title.as_deref());
    fields.str("url", &citation.url);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_of_openais_shapes() {
        for text in [
            r#"{"type":"url_citation","url_citation":{"url":"u","title":"t","start_index":1,"end_index":2}}"#,
            r#"{"type":"url_citation","url":"u","title":"t","start_index":1,"end_index":2}"#,
        ] {
            let citation = read_annotation(Json::parse(text).unwrap()).unwrap();
            assert_eq!((&*citation.url, citation.span), ("u", Some((1, 2))));
        }
        let file = r#"{"type":"file_citation","file_id":"f"}"#;
        assert_eq!(read_annotation(Json::parse(file).unwrap()), None);
    }

    #[test]
    fn reads_grounding_by_support() {
        let text = r#"{"groundingChunks":[{"web":{"uri":"a"}},{"web":{"uri":"b","title":"B"}}],
            "groundingSupports":[{"segment":{"text":"q"},"groundingChunkIndices":[1,9]}]}"#;
        let found = read_grounding(&Json::parse(text).unwrap());
        assert_eq!(found.len(), 1);
        assert_eq!(
            (&*found[0].url, found[0].quote.as_deref()),
            ("b", Some("q"))
        );
    }
}
