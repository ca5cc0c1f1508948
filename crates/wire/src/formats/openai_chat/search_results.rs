//! Sources beside the choices, as Perplexity gives them.

use crate::translate::json::Object;
use crate::translate::neutral::Citation;

/// Reads `search_results`, or `citations` where there are none.
pub(super) fn read<'a>(body: &mut Object<'a>) -> Vec<Citation<'a>> {
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
