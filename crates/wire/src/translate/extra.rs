//! Fields that no neutral one stands for: carried by name where the target has them too.

use super::emit::ObjectWriter;
use super::json::{Json, Object};
use super::neutral::Extra;
use super::policy::{Feature, Losses};

/// Writes the fields that the target takes and reports the others, but for those whose value asks
/// for what would happen anyway.
pub(crate) fn write(
    fields: &mut ObjectWriter<'_>,
    extras: &[Extra<'_>],
    losses: &mut Losses,
    takes: impl Fn(&Extra<'_>) -> bool,
) {
    for extra in extras {
        if takes(extra) {
            fields.field_from_outside(&extra.name, &extra.value);
        } else if !asks_nothing(extra) {
            losses.lose_as(extra.feature, &extra.name);
        }
    }
}

fn asks_nothing(extra: &Extra<'_>) -> bool {
    let is = |text: &str| extra.value.as_str() == Some(text);
    if extra.value.as_array().is_some_and(<[_]>::is_empty) {
        return true;
    }
    match extra.name.as_ref() {
        "store" | "background" | "moderation" => extra.value.as_bool() == Some(false),
        "truncation" => is("disabled"),
        "speed" => is("standard"),
        "include" => all(&extra.value, "reasoning.encrypted_content"),
        "modalities" => all(&extra.value, "text"),
        "context_management" => {
            let edits = extra.value.get("edits");
            is_empty(&extra.value) || edits.and_then(Json::as_array).is_some_and(<[_]>::is_empty)
        }
        "container" | "metadata" => is_empty(&extra.value),
        _ => false,
    }
}

fn is_empty(value: &Json<'_>) -> bool {
    matches!(value, Json::Object(Object(fields)) if fields.is_empty())
}

fn all(list: &Json<'_>, text: &str) -> bool {
    list.as_array()
        .is_some_and(|items| items.iter().all(|item| item.as_str() == Some(text)))
}

/// Which of the fields that OpenAI's two formats spell alike this is.
pub(crate) fn openai_feature(name: &str) -> Option<Feature> {
    Some(match name {
        "metadata" => Feature::Metadata,
        "store" => Feature::Store,
        "prompt_cache_key"
        | "prompt_cache_retention"
        | "prompt_cache_options"
        | "safety_identifier"
        | "moderation" => Feature::Hints,
        _ => return None,
    })
}
