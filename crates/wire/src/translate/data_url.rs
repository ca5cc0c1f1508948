//! Data URLs and media types: how inline files are spelled in each format.

use std::borrow::Cow;

use super::neutral::{MediaSource, Text};

/// Splits `data:image/png;base64,…` (RFC 2397); any other URL stays one. Data that is not base64
/// stays a URL too: no provider takes it apart from where it came.
pub(crate) fn read(url: Text<'_>) -> MediaSource<'_> {
    let Some((media_len, data_at)) = parts(&url) else {
        return MediaSource::Url(url);
    };
    const SCHEME: usize = "data:".len();
    match url {
        Cow::Borrowed(url) => MediaSource::Base64 {
            media_type: media_type(&url[SCHEME..SCHEME + media_len]).into(),
            data: Cow::Borrowed(&url[data_at..]),
        },
        Cow::Owned(mut url) => {
            let data = url.split_off(data_at);
            let media_type = media_type(&url[SCHEME..SCHEME + media_len]).to_owned();
            MediaSource::Base64 {
                media_type: media_type.into(),
                data: Cow::Owned(data),
            }
        }
    }
}

/// The same for the data of a file, which some clients send as bare base64.
pub(crate) fn read_file(data: Text<'_>) -> MediaSource<'_> {
    match read(data) {
        MediaSource::Url(url) if !url.contains(':') => MediaSource::Base64 {
            media_type: "application/pdf".into(),
            data: url,
        },
        source => source,
    }
}

/// The length of the media type and the offset of the data.
fn parts(url: &str) -> Option<(usize, usize)> {
    let rest = url
        .get(..5)
        .filter(|scheme| scheme.eq_ignore_ascii_case("data:"))
        .and(url.get(5..))?;
    let comma = memchr::memchr(b',', rest.as_bytes())?;
    let head = rest.get(..comma)?;
    let media = head.strip_suffix(";base64")?;
    Some((media.len(), 5 + comma + 1))
}

/// The media type without its parameters.
fn media_type(text: &str) -> &str {
    match text.split(';').next() {
        Some("") | None => "text/plain",
        Some(bare) => bare,
    }
}

/// The media type that a file's name or URL suggests.
pub(crate) fn media_type_of(name: &str) -> Option<&'static str> {
    let path = name.split(['?', '#']).next().unwrap_or(name);
    let (_, extension) = path.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "pdf" => "application/pdf",
        "txt" | "md" => "text/plain",
        "html" => "text/html",
        "csv" => "text/csv",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        _ => return None,
    })
}

/// Media types besides `text/…` whose files are text.
const TEXTUAL: [&str; 17] = [
    "json",
    "jsonl",
    "x-ndjson",
    "xml",
    "yaml",
    "x-yaml",
    "toml",
    "csv",
    "javascript",
    "x-javascript",
    "ecmascript",
    "typescript",
    "x-typescript",
    "x-python",
    "x-sh",
    "sql",
    "graphql",
];

/// Returns true if files of this media type are text.
pub(crate) fn is_textual(media_type: &str) -> bool {
    let of_application =
        |name: &str| TEXTUAL.contains(&name) || name.ends_with("+json") || name.ends_with("+xml");
    media_type.starts_with("text/")
        || media_type
            .strip_prefix("application/")
            .is_some_and(of_application)
}

/// The content of a text file, if it is one: base64 of UTF-8 under a type of text.
pub(crate) fn text_content(media_type: &str, data: &str) -> Option<String> {
    use base64::Engine as _;

    if !is_textual(media_type) {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(data)
        .ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_data_urls() {
        for (url, expected) in [
            ("data:image/png;base64,aGk=", Some(("image/png", "aGk="))),
            ("DATA:image/png;base64,", Some(("image/png", ""))),
            ("data:;base64,aGk=", Some(("text/plain", "aGk="))),
            (
                "data:image/svg+xml;charset=utf-8;base64,aGk=",
                Some(("image/svg+xml", "aGk=")),
            ),
            ("data:image/png,raw", None),
            ("data:image/png;base64", None),
            ("https://example.com/a,b;base64,c", None),
            ("", None),
            ("dätä:", None),
        ] {
            for url in [Cow::Borrowed(url), Cow::Owned(url.to_owned())] {
                match (read(url.clone()), expected) {
                    (MediaSource::Base64 { media_type, data }, Some((media, payload))) => {
                        assert_eq!((&*media_type, &*data), (media, payload));
                    }
                    (MediaSource::Url(same), None) => assert_eq!(same, url),
                    (other, _) => panic!("{url}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn knows_common_extensions() {
        assert_eq!(media_type_of("https://x/a.PNG?x=1.pdf"), Some("image/png"));
        assert_eq!(media_type_of("https://x/a"), None);
    }

    #[test]
    fn decodes_text_only() {
        assert_eq!(text_content("text/plain", "aGk=").as_deref(), Some("hi"));
        assert_eq!(
            text_content("application/ld+json", "aGk=").as_deref(),
            Some("hi")
        );
        assert_eq!(text_content("application/pdf", "aGk="), None);
        assert_eq!(text_content("text/plain", "!"), None);
    }
}
