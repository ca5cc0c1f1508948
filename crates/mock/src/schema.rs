//! Values that fit a JSON Schema: tool arguments and structured answers. It generates values and
//! must not validate any; of the keywords that models are given it leaves out `pattern` only.

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Depth of nesting from which values are as small as the schema allows.
const DEEP: usize = 6;

/// Depth at which a schema with endless references is cut off.
const TOO_DEEP: usize = 24;

/// Most values generated for one schema.
const MOST_VALUES: usize = 4_000;

/// A value that fits `schema`.
pub(crate) fn value(schema: &Value, rng: &mut Rng) -> Value {
    SchemaSampler {
        root: schema,
        rng,
        left: MOST_VALUES,
    }
    .value(schema, "", 0)
}

struct SchemaSampler<'a> {
    root: &'a Value,
    rng: &'a mut Rng,
    left: usize,
}

impl<'a> SchemaSampler<'a> {
    fn value(&mut self, schema: &'a Value, name: &str, depth: usize) -> Value {
        self.left = self.left.saturating_sub(1);
        if depth > TOO_DEEP || self.left == 0 {
            return Value::Null;
        }
        if let Some(target) = schema["$ref"].as_str() {
            return self.reference(target, name, depth);
        }
        if let Some(fixed) = self.fixed_value(schema) {
            return fixed;
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return self.merge_parts(schema, parts, name, depth);
        }
        match alternatives(schema) {
            Some(options) => self.alternative(options, name, depth),
            None => self.value_of_type(schema, name, depth),
        }
    }

    fn reference(&mut self, target: &str, name: &str, depth: usize) -> Value {
        let root = self.root;
        match target
            .strip_prefix('#')
            .and_then(|pointer| root.pointer(pointer))
        {
            Some(schema) => self.value(schema, name, depth + 1),
            None => Value::Null,
        }
    }

    fn fixed_value(&mut self, schema: &Value) -> Option<Value> {
        if let Some(value) = schema.get("const") {
            return Some(value.clone());
        }
        let options = schema["enum"]
            .as_array()
            .filter(|options| !options.is_empty())?;
        Some(options[self.rng.usize(..options.len())].clone())
    }

    fn merge_parts(
        &mut self,
        schema: &'a Value,
        parts: &'a [Value],
        name: &str,
        depth: usize,
    ) -> Value {
        let mut merged = self.value_of_type(schema, name, depth);
        for part in parts {
            match (&mut merged, self.value(part, name, depth + 1)) {
                (Value::Object(all), Value::Object(more)) => all.extend(more),
                (all, more) => *all = more,
            }
        }
        merged
    }

    /// Takes the first option that is not null, or null where the value is deep already.
    fn alternative(&mut self, options: &'a [Value], name: &str, depth: usize) -> Value {
        let is_null = |option: &&Value| option["type"] == "null";
        if depth > DEEP && options.iter().any(|option| is_null(&option)) {
            return Value::Null;
        }
        let chosen = options
            .iter()
            .find(|option| !is_null(option))
            .or(options.first());
        chosen.map_or(Value::Null, |option| self.value(option, name, depth + 1))
    }

    fn value_of_type(&mut self, schema: &'a Value, name: &str, depth: usize) -> Value {
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, name, depth),
            "integer" => self.integer(schema),
            "number" => self.number(schema),
            "boolean" => Value::Bool(self.rng.bool()),
            "null" => Value::Null,
            _ => Value::String(self.string(schema, name)),
        }
    }

    /// The required properties; all of them where the schema does not say which.
    fn object(&mut self, schema: &'a Value, depth: usize) -> Value {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let names: Vec<&str> = match schema["required"].as_array() {
            Some(required) => required.iter().filter_map(Value::as_str).collect(),
            None if depth > DEEP => Vec::new(),
            None => properties.keys().map(String::as_str).collect(),
        };
        let schemas = &schema["properties"];
        let values = names
            .into_iter()
            .map(|name| (name.to_owned(), self.value(&schemas[name], name, depth + 1)));
        Value::Object(values.collect())
    }

    fn array(&mut self, schema: &'a Value, name: &str, depth: usize) -> Value {
        let first = schema["prefixItems"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let usual = if depth > DEEP {
            0
        } else {
            self.rng.usize(1..=2)
        };
        let least = size(schema, "minItems").unwrap_or(0).min(64);
        let most = size(schema, "maxItems").unwrap_or(usize::MAX);
        let length = usual.max(least).min(most).max(first.len());
        let items = (0..length)
            .map(|i| self.value(first.get(i).unwrap_or(&schema["items"]), name, depth + 1));
        Value::Array(items.collect())
    }

    fn integer(&mut self, schema: &Value) -> Value {
        let (low, high) = bounds(schema);
        let (low, high) = (low.ceil(), high.floor());
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a cast from float saturates"
        )]
        let (low, high) = (low as i64, high as i64);
        let drawn = self.rng.i64(low..=high.max(low));
        match schema["multipleOf"].as_i64().filter(|step| *step > 0) {
            Some(step) => json!(multiple(drawn, step, low)),
            None => json!(drawn),
        }
    }

    fn number(&mut self, schema: &Value) -> Value {
        let (low, high) = bounds(schema);
        let drawn = low + self.rng.f64() * (high - low).max(0.0);
        let rounded = (drawn * 100.0).round() / 100.0;
        let fits = (low..=high).contains(&rounded);
        json!(if fits { rounded } else { drawn })
    }

    fn string(&mut self, schema: &Value, name: &str) -> String {
        let mut text = match schema["format"].as_str() {
            Some(format) => self.text_of_format(format),
            None => self.text_for_name(name),
        };
        let least = size(schema, "minLength").unwrap_or(0).min(65_536);
        let most = size(schema, "maxLength").unwrap_or(usize::MAX);
        let length = text.chars().count();
        text.extend(std::iter::repeat_n('x', least.saturating_sub(length)));
        if length > most {
            text = text.chars().take(most).collect();
        }
        text
    }

    fn text_of_format(&mut self, format: &str) -> String {
        let day = self.rng.u8(1..=28);
        match format {
            "date" => format!("2026-03-{day:02}"),
            "date-time" => format!("2026-03-{day:02}T09:30:00Z"),
            "time" => "09:30:00Z".to_owned(),
            "duration" => format!("P{day}D"),
            "email" | "idn-email" => format!("reader{day}@example.com"),
            "hostname" | "idn-hostname" => "www.example.com".to_owned(),
            "ipv4" => format!("192.0.2.{day}"),
            "ipv6" => format!("2001:db8::{day}"),
            "uri" | "url" | "iri" | "uri-reference" => format!("https://example.com/{day}"),
            "uuid" => self.uuid(),
            _ => "value".to_owned(),
        }
    }

    fn uuid(&mut self) -> String {
        let (high, low) = (self.rng.u64(..), self.rng.u64(..));
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            low >> 48 & 0xfff,
            low & 0xffff_ffff_ffff
        )
    }

    /// A string that suits the property's name.
    fn text_for_name(&mut self, name: &str) -> String {
        let name = name.to_ascii_lowercase();
        let known = WORDS.iter().find(|(part, _)| name.contains(part));
        let words = known.map_or(
            &["quiet harbour", "north gate", "paper lantern"],
            |(_, w)| w,
        );
        words[self.rng.usize(..words.len())].to_owned()
    }
}

/// Words for values, by a part of the property's name.
const WORDS: [(&str, &[&str; 3]); 13] = [
    (
        "email",
        &["ada@example.com", "lin@example.com", "sam@example.com"],
    ),
    (
        "url",
        &[
            "https://example.com/a",
            "https://example.com/b",
            "https://example.org",
        ],
    ),
    ("timezone", &["Europe/Lisbon", "Asia/Tokyo", "America/Lima"]),
    ("city", &["Lisbon", "Kyoto", "Zürich"]),
    ("location", &["Lisbon", "Kyoto", "Zürich"]),
    ("country", &["Portugal", "Japan", "Peru"]),
    ("name", &["Ada", "Lin", "Samuel"]),
    ("date", &["2026-03-14", "2026-04-02", "2026-05-21"]),
    ("language", &["Portuguese", "Japanese", "German"]),
    ("currency", &["EUR", "JPY", "CHF"]),
    (
        "query",
        &[
            "opening hours",
            "train to the coast",
            "weather this weekend",
        ],
    ),
    ("unit", &["celsius", "metres", "litres"]),
    ("id", &["a-1042", "b-2291", "c-3310"]),
];

fn alternatives(schema: &Value) -> Option<&[Value]> {
    let options = schema["anyOf"]
        .as_array()
        .or_else(|| schema["oneOf"].as_array());
    options
        .map(Vec::as_slice)
        .filter(|options| !options.is_empty())
}

fn kind(schema: &Value) -> &str {
    let named = match &schema["type"] {
        Value::String(kind) => Some(kind.as_str()),
        Value::Array(kinds) => {
            let mut kinds = kinds.iter().filter_map(Value::as_str);
            kinds.clone().find(|kind| *kind != "null").or(kinds.next())
        }
        _ => None,
    };
    named.unwrap_or_else(|| {
        if schema.get("properties").is_some() {
            "object"
        } else if schema.get("items").is_some() || schema.get("prefixItems").is_some() {
            "array"
        } else {
            "string"
        }
    })
}

fn size(schema: &Value, keyword: &str) -> Option<usize> {
    schema[keyword]
        .as_u64()
        .and_then(|n| usize::try_from(n).ok())
}

/// The least and greatest number a schema lets through; exclusive bounds are moved in by one,
/// or to the middle where that leaves no room.
fn bounds(schema: &Value) -> (f64, f64) {
    let limit = |keyword: &str| schema[keyword].as_f64();
    let low = limit("minimum").or(limit("exclusiveMinimum").map(|n| n + 1.0));
    let high = limit("maximum").or(limit("exclusiveMaximum").map(|n| n - 1.0));
    match (low, high) {
        (Some(low), Some(high)) if low > high => ((low + high) / 2.0, (low + high) / 2.0),
        (Some(low), Some(high)) => (low, high),
        (Some(low), None) => (low, low + 99.0),
        (None, Some(high)) => (high - 99.0, high),
        (None, None) => (1.0, 100.0),
    }
}

/// The multiple of `step` at or below `drawn`, or the next above where that is below `low`.
fn multiple(drawn: i64, step: i64, low: i64) -> i64 {
    let below = drawn.saturating_sub(drawn.rem_euclid(step));
    if below < low {
        below.saturating_add(step)
    } else {
        below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(schema: &Value, seed: u64) -> Value {
        value(schema, &mut Rng::with_seed(seed))
    }

    #[test]
    fn required_properties_are_filled_and_others_left_out() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "minimum": 2, "maximum": 4},
                "unit": {"enum": ["celsius", "fahrenheit"]},
                "note": {"type": "string"}
            },
            "required": ["city", "days", "unit"]
        });
        for seed in 0..50 {
            let made = make(&schema, seed);
            assert!(made["city"].is_string(), "{made}");
            assert!((2..=4).contains(&made["days"].as_i64().unwrap()), "{made}");
            assert!(["celsius", "fahrenheit"].contains(&made["unit"].as_str().unwrap()));
            assert!(made.get("note").is_none());
        }
    }

    #[test]
    fn keywords_are_kept() {
        type Check = fn(&Value) -> bool;
        let cases: [(Value, Check); 15] = [
            (json!({"const": 7}), |v| v == 7),
            (json!({"type": ["null", "boolean"]}), Value::is_boolean),
            (
                json!({"anyOf": [{"type": "null"}, {"type": "integer"}]}),
                Value::is_i64,
            ),
            (
                json!({"allOf": [{"properties": {"a": {"type": "null"}}}, {"properties": {"b": {}}}]}),
                |v| v["a"].is_null() && v["b"].is_string(),
            ),
            (
                json!({"type": "array", "items": {"type": "number"}, "minItems": 3}),
                |v| v.as_array().unwrap().len() == 3 && v[2].is_f64(),
            ),
            (
                json!({"type": "array", "items": {"type": "number"}, "maxItems": 0}),
                |v| v.as_array().unwrap().is_empty(),
            ),
            (
                json!({"prefixItems": [{"type": "boolean"}, {"type": "string"}]}),
                |v| v[0].is_boolean() && v[1].is_string(),
            ),
            (json!({"type": "string", "minLength": 40}), |v| {
                v.as_str().unwrap().len() >= 40
            }),
            (json!({"type": "string", "maxLength": 2}), |v| {
                v.as_str().unwrap().len() <= 2
            }),
            (json!({"type": "string", "format": "uuid"}), |v| {
                v.as_str().unwrap().len() == 36
            }),
            (
                json!({"type": "integer", "multipleOf": 5, "minimum": 6, "maximum": 14}),
                |v| v == 10,
            ),
            (
                json!({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}),
                |v| v == 4,
            ),
            (
                json!({"$ref": "#/$defs/x", "$defs": {"x": {"type": "boolean"}}}),
                Value::is_boolean,
            ),
            (json!({"$ref": "elsewhere.json"}), Value::is_null),
            (json!(true), Value::is_string),
        ];
        for (schema, check) in &cases {
            for seed in 0..20 {
                let made = make(schema, seed);
                assert!(check(&made), "{schema} made {made}");
            }
        }
    }

    #[test]
    fn schemas_without_an_end_come_to_one() {
        let list = json!({
            "type": "object", "required": ["next"],
            "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}
        });
        assert!(make(&list, 1)["next"].is_object());
        let endless =
            json!({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}});
        make(&endless, 1);
        let wide = json!({"type": "array", "minItems": 64, "items": {"$ref": "#"}});
        assert!(make(&wide, 1).to_string().len() < 100_000);
        make(&json!({"$ref": "#"}), 1);
    }

    #[test]
    fn extreme_bounds_do_not_overflow() {
        for schema in [
            json!({"type": "integer", "minimum": 1e300}),
            json!({"type": "integer", "maximum": -1e300, "multipleOf": i64::MAX}),
            json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX}),
            json!({"type": "number", "minimum": -1e308, "maximum": 1e308}),
            json!({"type": "integer", "minimum": 5, "maximum": 4}),
        ] {
            make(&schema, 3);
        }
    }
}
