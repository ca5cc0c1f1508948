//! Fields of a request read as the type they must have, or refused with the field's name.

use serde_json::Number;

use super::TranslateError;
use super::json::{Json, Object};
use super::neutral::Text;

/// A field that was read, or the error that names it.
pub(crate) type ReadResult<T> = Result<T, TranslateError>;

pub(crate) fn text<'a>(value: Json<'a>, param: &str) -> ReadResult<Text<'a>> {
    value
        .into_string()
        .ok_or_else(|| TranslateError::invalid(param, "a string"))
}

pub(crate) fn boolean(value: &Json<'_>, param: &str) -> ReadResult<bool> {
    value
        .as_bool()
        .ok_or_else(|| TranslateError::invalid(param, "a boolean"))
}

pub(crate) fn count(value: &Json<'_>, param: &str) -> ReadResult<u64> {
    value
        .as_u64()
        .ok_or_else(|| TranslateError::invalid(param, "a whole number, zero or more"))
}

pub(crate) fn number(value: Json<'_>, param: &str) -> ReadResult<Number> {
    match value {
        Json::Number(number) => Ok(number),
        _ => Err(TranslateError::invalid(param, "a number")),
    }
}

pub(crate) fn list<'a>(value: Json<'a>, param: &str) -> ReadResult<Vec<Json<'a>>> {
    value
        .into_array()
        .ok_or_else(|| TranslateError::invalid(param, "a list"))
}

pub(crate) fn object<'a>(value: Json<'a>, param: &str) -> ReadResult<Object<'a>> {
    value
        .into_object()
        .ok_or_else(|| TranslateError::invalid(param, "an object"))
}

/// One string, or a list of them.
pub(crate) fn texts<'a>(value: Json<'a>, param: &str) -> ReadResult<Vec<Text<'a>>> {
    match value {
        Json::String(text) => Ok(vec![text]),
        other => list(other, param)?
            .into_iter()
            .enumerate()
            .map(|(at, item)| text(item, &format!("{param}[{at}]")))
            .collect(),
    }
}

/// Reads every item of a list; errors name the item.
pub(crate) fn each<'a, T>(
    value: Json<'a>,
    param: &str,
    read: impl Fn(Json<'a>) -> ReadResult<T>,
) -> ReadResult<Vec<T>> {
    list(value, param)?
        .into_iter()
        .enumerate()
        .map(|(at, item)| read(item).map_err(|error| error.within(&format!("{param}[{at}]"))))
        .collect()
}

/// A string field that must be there.
pub(crate) fn required_text<'a>(object: &mut Object<'a>, key: &str) -> ReadResult<Text<'a>> {
    match object.take(key) {
        Some(value) => text(value, key),
        None => Err(TranslateError::missing(key)),
    }
}

/// A string field that may be missing.
pub(crate) fn optional_text<'a>(
    object: &mut Object<'a>,
    key: &str,
) -> ReadResult<Option<Text<'a>>> {
    object.take(key).map(|value| text(value, key)).transpose()
}

/// A boolean field that may be missing.
pub(crate) fn optional_bool(object: &Object<'_>, key: &str) -> ReadResult<Option<bool>> {
    match object.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(value) => boolean(value, key).map(Some),
    }
}
