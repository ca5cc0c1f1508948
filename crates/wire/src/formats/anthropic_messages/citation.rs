//! Citations as text blocks have them. Only those with an address are read: a place in a document
//! that the client sent has no counterpart in other formats.

use crate::translate::emit::ObjectWriter;
use crate::translate::json::Json;
use crate::translate::neutral::Citation;

/// Reads an entry of a text block's `citations`.
pub(super) fn read(citation: Json<'_>) -> Option<Citation<'_>> {
    let mut citation = citation.into_object()?;
    Some(Citation {
        url: citation.take("url")?.into_text()?,
        title: citation.take_string("title"),
        quote: citation.take_string("cited_text"),
        span: None,
    })
}

/// Writes the fields of a `web_search_result_location`. Other providers have no index to encrypt.
pub(super) fn write(fields: &mut ObjectWriter<'_>, citation: &Citation<'_>) {
    fields.str("type", "web_search_result_location");
    fields.str("cited_text", citation.quote.as_deref().unwrap_or_default());
    fields.str("encrypted_index", "");
    fields.str_or_null("title", citation.title.as_deref());
    fields.str("url", &citation.url);
}
