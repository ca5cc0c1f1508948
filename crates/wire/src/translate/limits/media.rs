//! Fits images and documents: the names of their media types, and those that a target doesn't take.
//! It must not look into a file beyond its first bytes, but for text.

use std::borrow::Cow;

use base64::Engine as _;

use super::{TargetLimits, each_part};
use crate::translate::data_url::{is_textual, text_content};
use crate::translate::neutral::{File, Image, MediaSource, Message, PartKind};
use crate::translate::policy::{Feature, Losses};

/// Other names of media types, as clients write them.
const ALIASES: [(&str, &str); 7] = [
    ("image/jpg", "image/jpeg"),
    ("image/pjpeg", "image/jpeg"),
    ("image/jfif", "image/jpeg"),
    ("image/x-png", "image/png"),
    ("image/apng", "image/png"),
    ("image/x-webp", "image/webp"),
    ("application/x-pdf", "application/pdf"),
];

/// Fits the images and documents of a conversation.
pub(super) fn fit(messages: &mut [Message<'_>], limits: &TargetLimits, losses: &mut Losses) {
    each_part(messages, |part| match &mut part.kind {
        PartKind::Image(image) => fit_image(image, limits, losses),
        PartKind::File(file) => fit_file(file, limits, losses),
        _ => {}
    });
}

fn fit_image(image: &mut Image<'_>, limits: &TargetLimits, losses: &mut Losses) {
    let MediaSource::Base64 { media_type, data } = &mut image.source else {
        return;
    };
    let name = true_name(media_type, data);
    if limits.images.is_empty() || limits.images.contains(&name.as_ref()) {
        if name != *media_type {
            *media_type = Cow::Owned(name.into_owned());
        }
        return;
    }
    let limit = format!("no images of type {media_type}");
    losses.report_beyond(Feature::Images, losses.name(Feature::Images), &limit);
}

/// The name of an image's media type: what its first bytes say, for providers refuse an image whose
/// type is another, or the usual spelling of what the client says.
fn true_name<'m>(media_type: &'m str, data: &str) -> Cow<'m, str> {
    if let Some(known) = sniff(data) {
        return Cow::Borrowed(known);
    }
    usual_name(media_type)
}

fn usual_name(media_type: &str) -> Cow<'_, str> {
    let lower = media_type.to_ascii_lowercase();
    match ALIASES.iter().find(|(alias, _)| *alias == lower) {
        Some((_, usual)) => Cow::Borrowed(*usual),
        None if lower == media_type => Cow::Borrowed(media_type),
        None => Cow::Owned(lower),
    }
}

fn sniff(data: &str) -> Option<&'static str> {
    const SAMPLE: usize = 16;
    let sample = data.get(..SAMPLE)?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(sample)
        .ok()?;
    Some(match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => "image/webp",
        _ => return None,
    })
}

fn fit_file(file: &mut File<'_>, limits: &TargetLimits, losses: &mut Losses) {
    let MediaSource::Base64 { media_type, data } = &mut file.source else {
        return;
    };
    let name = usual_name(media_type);
    if limits.files.is_empty() || limits.files.iter().any(|known| name.starts_with(known)) {
        if name != *media_type {
            *media_type = Cow::Owned(name.into_owned());
        }
        return;
    }
    if is_textual(&name)
        && let Some(text) = text_content(&name, data)
    {
        file.source = MediaSource::Text(text.into());
        return;
    }
    let limit = format!("no documents of type {media_type}");
    losses.report_beyond(Feature::Files, losses.name(Feature::Files), &limit);
}
