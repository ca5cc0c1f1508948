//! Reads one scalar of the file as the JSON value that its schema asks for.

use std::path::Path;

use llm_router_yaml::{Origin, Scalar, ValueError, nearest};
use serde_json::{Number, Value as Json};

use crate::mask::MASK;
use crate::scalar;

/// Reads a scalar by the schema's `type`, `format`, `enum` and bounds. Relative paths in it are
/// put below the folder.
pub(super) fn read(schema: &Json, scalar: &Scalar, folder: &Path) -> Result<Json, ValueError> {
    if scalar.is_null() {
        let nullable = types(schema).any(|name| name == "null");
        return if nullable {
            Ok(Json::Null)
        } else {
            Err(no_value(schema))
        };
    }
    if let Some(words) = choice_words(schema) {
        return read_word(&words, &scalar.text);
    }
    if let Some(format) = schema["format"].as_str().and_then(scalar::find_format) {
        (format.check)(&scalar.text)?;
        if types(schema).all(|name| matches!(name, "string" | "null")) {
            require_string(scalar)?;
        }
        return Ok((format.resolve)(&scalar.text, folder).into());
    }
    let mut first_error = None;
    for name in types(schema) {
        match read_as(name, schema, scalar) {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => first_error = first_error.or(Some(error)),
            None => {}
        }
    }
    Err(first_error.unwrap_or_else(|| ValueError::new("is not allowed here", "")))
}

/// Reads a scalar by YAML's own rules, where the schema allows anything.
pub(super) fn read_untyped(scalar: &Scalar) -> Json {
    let text = scalar.text.as_str();
    match scalar.origin {
        Origin::Quoted => text.into(),
        _ if scalar.is_null() => Json::Null,
        _ => parse_bool(text)
            .map(Json::Bool)
            .or_else(|| parse_number(text).map(Json::Number))
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

/// Returns the words to choose from, if the schema is a choice of words.
pub(super) fn choice_words(schema: &Json) -> Option<Vec<&str>> {
    if let Some(word) = schema["const"].as_str() {
        return Some(vec![word]);
    }
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().filter_map(Json::as_str).collect());
    }
    let choices = schema["oneOf"].as_array()?;
    let choices = choices
        .iter()
        .map(choice_words)
        .collect::<Option<Vec<_>>>()?;
    Some(choices.concat())
}

/// Quotes a scalar for a message: shortened, without the values of variables and without the user,
/// password and query of a URL.
pub(super) fn quote(scalar: &Scalar) -> String {
    const MOST: usize = 60;
    let text = mask_url(scalar.as_written());
    let mut shortened: String = text.chars().take(MOST).collect();
    if shortened.len() < text.len() {
        shortened.push('…');
    }
    format!("`{}`", shortened.escape_debug())
}

fn read_as(name: &str, schema: &Json, scalar: &Scalar) -> Option<Result<Json, ValueError>> {
    match name {
        "string" => Some(read_string(schema, scalar)),
        "boolean" => Some(read_bool(scalar)),
        "integer" => Some(read_integer(schema, scalar)),
        "number" => Some(read_float(schema, scalar)),
        _ => None,
    }
}

fn read_string(schema: &Json, scalar: &Scalar) -> Result<Json, ValueError> {
    let text = scalar.text.as_str();
    require_string(scalar)?;
    let shortest = schema["minLength"].as_u64().unwrap_or(0);
    if (text.chars().count() as u64) < shortest {
        return Err(ValueError::new(
            "is too short",
            format!("write at least {shortest} characters"),
        ));
    }
    Ok(text.into())
}

/// Refuses unquoted text that other YAML readers, editors among them, take for a number or boolean.
fn require_string(scalar: &Scalar) -> Result<(), ValueError> {
    let other = parse_bool(&scalar.text).is_some() || parse_number(&scalar.text).is_some();
    if other && scalar.origin == Origin::Plain {
        return Err(ValueError::new(
            "is not a string in YAML",
            "put it in quotes",
        ));
    }
    Ok(())
}

fn read_bool(scalar: &Scalar) -> Result<Json, ValueError> {
    let value = parse_bool(&scalar.text).filter(|_| scalar.origin != Origin::Quoted);
    value.map(Json::Bool).ok_or_else(|| {
        ValueError::new(
            "is neither true nor false",
            "write true or false, without quotes",
        )
    })
}

fn read_integer(schema: &Json, scalar: &Scalar) -> Result<Json, ValueError> {
    let whole = parse_number(&scalar.text).filter(|number| !number.is_f64());
    let Some(whole) = whole.filter(|_| scalar.origin != Origin::Quoted) else {
        return Err(ValueError::new(
            "is not a whole number",
            "write digits only and no quotes",
        ));
    };
    check_bounds(schema, &whole)?;
    Ok(Json::Number(whole))
}

fn read_float(schema: &Json, scalar: &Scalar) -> Result<Json, ValueError> {
    let number = parse_number(&scalar.text).filter(|_| scalar.origin != Origin::Quoted);
    let Some(number) = number else {
        return Err(ValueError::new(
            "is not a number",
            "write it with a decimal point and without quotes, for example 0.35",
        ));
    };
    check_bounds(schema, &number)?;
    Ok(Json::Number(number))
}

fn check_bounds(schema: &Json, number: &Number) -> Result<(), ValueError> {
    let value = number.as_f64().unwrap_or(f64::NAN);
    let low = schema["minimum"].as_f64();
    let high = schema["maximum"].as_f64().or_else(|| type_maximum(schema));
    if low.is_none_or(|low| value >= low) && high.is_none_or(|high| value <= high) {
        return Ok(());
    }
    Err(match (low, high) {
        (Some(low), Some(high)) => ValueError::new(
            "is out of range",
            format!("write a number from {low} to {high}"),
        ),
        (Some(low), None) => ValueError::new("is too small", format!("write {low} or more")),
        (None, Some(high)) => ValueError::new("is too large", format!("write {high} or less")),
        (None, None) => ValueError::new("is not a number", "write digits only"),
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

fn read_word(words: &[&str], text: &str) -> Result<Json, ValueError> {
    if words.contains(&text) {
        return Ok(text.into());
    }
    let remedy = match (words, nearest(text, words.iter().copied())) {
        ([one], _) => format!("write {one}"),
        (_, Some(meant)) => {
            let all = words.join(", ");
            format!("did you mean `{meant}`? Allowed: {all}")
        }
        (_, None) => format!("write one of: {}", words.join(", ")),
    };
    Err(ValueError::new("is not an allowed value", remedy))
}

fn no_value(schema: &Json) -> ValueError {
    ValueError::new(
        "has no value",
        format!("write {} or remove the line", describe(schema)),
    )
}

/// Describes in words a value that matches the schema.
pub(super) fn describe(schema: &Json) -> String {
    if let Some(words) = choice_words(schema) {
        return format!("one of {}", words.join(", "));
    }
    if let Some(example) = schema["examples"][0].as_str() {
        return format!("a value such as {example}");
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

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Parses a decimal number that YAML's core schema and JSON agree on.
fn parse_number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let whole = unsigned.parse::<u64>().ok().map(Number::from);
    let whole = whole.or_else(|| unsigned.parse::<i64>().ok().map(Number::from));
    whole.or_else(|| Number::from_f64(unsigned.parse().ok()?))
}

/// Masks everything between `://` and the last `@`, for a mistyped URL may have a password anywhere,
/// and the query, where keys are.
fn mask_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (user, host) = match rest.rsplit_once('@') {
        Some((_, host)) => (format!("{MASK}@"), host),
        None => (String::new(), rest),
    };
    match host.split_once('?') {
        Some((host, _)) => format!("{scheme}://{user}{host}?{MASK}"),
        None => format!("{scheme}://{user}{host}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scalar(text: &str, origin: Origin) -> Scalar {
        Scalar::literal(text.to_owned(), origin)
    }

    #[track_caller]
    fn check(schema: &Json, text: &str, origin: Origin, expected: Result<Json, &str>) {
        let got = read(schema, &scalar(text, origin), Path::new(""));
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, expected) => panic!("{text}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn literal_text_must_have_the_type() {
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
        check(&boolean, "true", Quoted, Err("quotes"));
        check(&boolean, "yes", Plain, Err("write true or false"));
        check(&integer, "600", Plain, Ok(json!(600)));
        check(&integer, "600", Quoted, Err("quotes"));
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
    fn substituted_text_takes_the_type_of_the_setting() {
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
            assert_eq!(read_untyped(&scalar(text, origin)), expected, "{text}");
        }
    }

    #[test]
    fn quoted_texts_are_short_and_have_no_password() {
        let long = quote(&scalar(&"x".repeat(500), Origin::Plain));
        assert!(long.chars().count() < 70, "{long}");
        let url = quote(&scalar("https://user:pass@host/a", Origin::Plain));
        assert_eq!(url, "`https://***@host/a`");
        let url = quote(&scalar("https://host/a?key=secret", Origin::Plain));
        assert_eq!(url, "`https://host/a?***`");
        assert_eq!(quote(&scalar("a\nb", Origin::Quoted)), "`a\\nb`");
    }
}
