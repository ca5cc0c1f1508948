//! One text of the file as the JSON value that its schema asks for.

use std::path::Path;

use serde_json::{Number, Value as Json};

use super::nearest::nearest;
use super::tree::{Origin, Scalar};
use crate::findings::Wrong;
use crate::scalar;

/// Reads a text by the schema's `type`, `format`, `enum` and bounds. Relative paths in it are put
/// below the folder.
pub(super) fn read(schema: &Json, scalar: &Scalar, folder: &Path) -> Result<Json, Wrong> {
    if scalar.is_null() {
        let nullable = types(schema).any(|name| name == "null");
        return if nullable {
            Ok(Json::Null)
        } else {
            Err(no_value(schema))
        };
    }
    if let Some(words) = words(schema) {
        return word(&words, &scalar.text);
    }
    if let Some(format) = schema["format"].as_str().and_then(scalar::format) {
        (format.check)(&scalar.text)?;
        if types(schema).all(|name| matches!(name, "string" | "null")) {
            must_be_text(scalar)?;
        }
        return Ok((format.resolve)(&scalar.text, folder).into());
    }
    let mut wrong = None;
    for name in types(schema) {
        match as_type(name, schema, scalar) {
            Some(Ok(value)) => return Ok(value),
            Some(Err(why)) => wrong = wrong.or(Some(why)),
            None => {}
        }
    }
    Err(wrong.unwrap_or_else(|| Wrong::new("stands where no text may", "")))
}

/// What YAML itself takes the text for, where a schema allows anything.
pub(super) fn untyped(scalar: &Scalar) -> Json {
    let text = scalar.text.as_str();
    match scalar.origin {
        Origin::Quoted => text.into(),
        _ if scalar.is_null() => Json::Null,
        _ => truth(text)
            .map(Json::Bool)
            .or_else(|| number(text).map(Json::Number))
            .unwrap_or_else(|| text.into()),
    }
}

/// The names in the schema's `type`.
pub(super) fn types(schema: &Json) -> impl Iterator<Item = &str> {
    let (one, many) = match &schema["type"] {
        Json::String(name) => (Some(name.as_str()), None),
        Json::Array(names) => (None, Some(names.iter().filter_map(Json::as_str))),
        _ => (None, None),
    };
    one.into_iter().chain(many.into_iter().flatten())
}

/// The words to choose from, if the schema is a choice of words.
pub(super) fn words(schema: &Json) -> Option<Vec<&str>> {
    if let Some(word) = schema["const"].as_str() {
        return Some(vec![word]);
    }
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().filter_map(Json::as_str).collect());
    }
    let choices = schema["oneOf"].as_array()?;
    let choices = choices.iter().map(words).collect::<Option<Vec<_>>>()?;
    Some(choices.concat())
}

impl Scalar {
    /// Whether nothing is written, or YAML's word for nothing.
    pub(super) fn is_null(&self) -> bool {
        let nothing = matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL");
        self.origin == Origin::Plain && nothing
    }

    /// The text as people may see it: not what a variable holds, no password of a URL, no end.
    pub(super) fn shown(&self) -> String {
        const LONGEST: usize = 60;
        let written = without_password(&self.written);
        let mut text: String = written.chars().take(LONGEST).collect();
        if written.chars().count() > LONGEST {
            text.push('…');
        }
        format!("`{}`", text.escape_debug())
    }
}

fn as_type(name: &str, schema: &Json, scalar: &Scalar) -> Option<Result<Json, Wrong>> {
    match name {
        "string" => Some(string(schema, scalar)),
        "boolean" => Some(boolean(scalar)),
        "integer" => Some(integer(schema, scalar)),
        "number" => Some(float(schema, scalar)),
        _ => None,
    }
}

fn string(schema: &Json, scalar: &Scalar) -> Result<Json, Wrong> {
    let text = scalar.text.as_str();
    must_be_text(scalar)?;
    let shortest = schema["minLength"].as_u64().unwrap_or(0);
    if (text.chars().count() as u64) < shortest {
        return Err(Wrong::new("is too short", "write something"));
    }
    Ok(text.into())
}

/// Refuses what other readers of YAML, editors among them, take for a number or a truth value.
fn must_be_text(scalar: &Scalar) -> Result<(), Wrong> {
    let other = truth(&scalar.text).is_some() || number(&scalar.text).is_some();
    if other && scalar.origin == Origin::Plain {
        return Err(Wrong::new("is not text for YAML", "put it in quotes"));
    }
    Ok(())
}

fn boolean(scalar: &Scalar) -> Result<Json, Wrong> {
    let wrong = || {
        Wrong::new(
            "is neither true nor false",
            "write true or false, without quotes",
        )
    };
    let value = truth(&scalar.text).filter(|_| scalar.origin != Origin::Quoted);
    value.map(Json::Bool).ok_or_else(wrong)
}

fn integer(schema: &Json, scalar: &Scalar) -> Result<Json, Wrong> {
    let whole = number(&scalar.text).filter(|number| !number.is_f64());
    let Some(whole) = whole.filter(|_| scalar.origin != Origin::Quoted) else {
        return Err(Wrong::new(
            "is not a whole number",
            "write digits only, without quotes",
        ));
    };
    within_bounds(schema, &whole)?;
    Ok(Json::Number(whole))
}

fn float(schema: &Json, scalar: &Scalar) -> Result<Json, Wrong> {
    let number = number(&scalar.text).filter(|_| scalar.origin != Origin::Quoted);
    let Some(number) = number else {
        return Err(Wrong::new(
            "is not a number",
            "write it with a point, without quotes: 0.35",
        ));
    };
    within_bounds(schema, &number)?;
    Ok(Json::Number(number))
}

fn within_bounds(schema: &Json, number: &Number) -> Result<(), Wrong> {
    let value = number.as_f64().unwrap_or(f64::NAN);
    let low = schema["minimum"].as_f64();
    let high = schema["maximum"].as_f64().or_else(|| type_maximum(schema));
    if low.is_none_or(|low| value >= low) && high.is_none_or(|high| value <= high) {
        return Ok(());
    }
    Err(match (low, high) {
        (Some(low), Some(high)) => Wrong::new(
            "is out of range",
            format!("write a number from {low} to {high}"),
        ),
        (Some(low), None) => Wrong::new("is too small", format!("write {low} or more")),
        (None, Some(high)) => Wrong::new("is too large", format!("write {high} or less")),
        (None, None) => Wrong::new("is not a number", "write digits only"),
    })
}

/// The largest number of the Rust type that the schema was made from.
fn type_maximum(schema: &Json) -> Option<f64> {
    match schema["format"].as_str()? {
        "uint8" => Some(u8::MAX.into()),
        "uint16" => Some(u16::MAX.into()),
        "uint32" => Some(u32::MAX.into()),
        "int32" => Some(i32::MAX.into()),
        _ => None,
    }
}

fn word(words: &[&str], text: &str) -> Result<Json, Wrong> {
    if words.contains(&text) {
        return Ok(text.into());
    }
    let all = words.join(", ");
    Err(match (words, nearest(text, words.iter().copied())) {
        (_, Some(meant)) => Wrong::new(
            "is not a choice here",
            format!("did you mean `{meant}`? There are: {all}"),
        ),
        ([one], None) => Wrong::new("is not a choice here", format!("write {one}")),
        (_, None) => Wrong::new("is not a choice here", format!("write one of: {all}")),
    })
}

fn no_value(schema: &Json) -> Wrong {
    Wrong::new(
        "has no value",
        format!("write {} or remove the line", expected(schema)),
    )
}

/// What to write, in words.
pub(super) fn expected(schema: &Json) -> String {
    if let Some(words) = words(schema) {
        return format!("one of {}", words.join(", "));
    }
    if let Some(example) = schema["examples"][0].as_str() {
        return format!("a value like {example}");
    }
    let named = types(schema).find_map(|name| match name {
        "object" => Some("a mapping"),
        "array" => Some("a list"),
        "boolean" => Some("true or false"),
        "integer" => Some("a whole number"),
        "number" => Some("a number"),
        _ => None,
    });
    named.unwrap_or("a value").to_owned()
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A decimal number as YAML's core schema and JSON both have it.
fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let whole = unsigned.parse::<u64>().ok().map(Number::from);
    let whole = whole.or_else(|| unsigned.parse::<i64>().ok().map(Number::from));
    whole.or_else(|| Number::from_f64(unsigned.parse().ok()?))
}

/// Replaces what stands between `://` and `@` in a URL.
fn without_password(text: &str) -> String {
    let user = text.split_once("://").and_then(|(scheme, rest)| {
        let (_, host) = rest.rsplit_once('@')?;
        Some(format!("{scheme}://***@{host}"))
    });
    user.unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scalar(text: &str, origin: Origin) -> Scalar {
        let (written, text) = (text.to_owned(), text.to_owned());
        Scalar {
            written,
            text,
            origin,
        }
    }

    #[track_caller]
    fn check(schema: &Json, text: &str, origin: Origin, expected: Result<Json, &str>) {
        let got = read(schema, &scalar(text, origin), Path::new(""));
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(wrong), Err(part)) => assert!(wrong.to_string().contains(part), "{wrong}"),
            (got, expected) => panic!("{text}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_is_written_must_have_the_type() {
        use Origin::{Plain, Quoted};
        let (string, boolean) = (json!({"type": "string"}), json!({"type": "boolean"}));
        let integer = json!({"type": "integer", "format": "uint32", "minimum": 1});
        let number = json!({"type": ["number", "null"], "minimum": 0, "maximum": 1});
        check(&string, "a", Plain, Ok(json!("a")));
        check(&string, "5", Quoted, Ok(json!("5")));
        check(&string, "5", Plain, Err("put it in quotes"));
        check(&string, "true", Plain, Err("put it in quotes"));
        check(&string, "", Plain, Err("has no value"));
        check(&string, "", Quoted, Ok(json!("")));
        check(&boolean, "true", Plain, Ok(json!(true)));
        check(&boolean, "true", Quoted, Err("without quotes"));
        check(&boolean, "yes", Plain, Err("write true or false"));
        check(&integer, "600", Plain, Ok(json!(600)));
        check(&integer, "600", Quoted, Err("without quotes"));
        check(&integer, "0", Plain, Err("from 1 to 4294967295"));
        check(&integer, "4294967296", Plain, Err("from 1 to 4294967295"));
        check(&integer, "1.5", Plain, Err("not a whole number"));
        check(&integer, "many", Plain, Err("not a whole number"));
        check(&number, "0.35", Plain, Ok(json!(0.35)));
        check(&number, "1", Plain, Ok(json!(1)));
        check(&number, "1.01", Plain, Err("from 0 to 1"));
        check(&number, ".inf", Plain, Err("not a number"));
        check(&number, "~", Plain, Ok(Json::Null));
    }

    #[test]
    fn what_is_substituted_takes_the_type_asked_for() {
        use Origin::{Environment, Substituted};
        check(&json!({"type": "string"}), "5", Substituted, Ok(json!("5")));
        check(&json!({"type": "string"}), "", Environment, Ok(json!("")));
        check(&json!({"type": "integer"}), "5", Environment, Ok(json!(5)));
        check(
            &json!({"type": "boolean"}),
            "false",
            Substituted,
            Ok(json!(false)),
        );
    }

    #[test]
    fn words_are_suggested() {
        let schema = json!({"oneOf": [{"const": "openai"}, {"enum": ["anthropic", "mock"]}]});
        check(&schema, "mock", Origin::Plain, Ok(json!("mock")));
        check(
            &schema,
            "antropic",
            Origin::Plain,
            Err("did you mean `anthropic`?"),
        );
        check(
            &schema,
            "xyz",
            Origin::Plain,
            Err("one of: openai, anthropic, mock"),
        );
    }

    #[test]
    fn untyped_texts_are_read_as_yaml_does() {
        for (text, origin, expected) in [
            ("5", Origin::Plain, json!(5)),
            ("5", Origin::Quoted, json!("5")),
            ("-0.5", Origin::Plain, json!(-0.5)),
            ("false", Origin::Plain, json!(false)),
            ("null", Origin::Plain, Json::Null),
            ("infinity", Origin::Plain, json!("infinity")),
            ("18446744073709551615", Origin::Plain, json!(u64::MAX)),
        ] {
            assert_eq!(untyped(&scalar(text, origin)), expected, "{text}");
        }
    }

    #[test]
    fn shown_texts_are_short_and_have_no_password() {
        let long = scalar(&"x".repeat(500), Origin::Plain).shown();
        assert!(long.chars().count() < 70, "{long}");
        let url = scalar("https://user:pass@host/a", Origin::Plain).shown();
        assert_eq!(url, "`https://***@host/a`");
        assert_eq!(scalar("a\nb", Origin::Quoted).shown(), "`a\\nb`");
    }
}
