//! Fits the schemas of tools: an object at the top, arrays that say what they hold. A schema that
//! fits keeps its bytes. It must not judge whether a schema can be kept to strictly.

use std::borrow::Cow;

use memchr::memmem;

use super::TargetLimits;
use super::schema_walk::{each_schema, has_type};
use crate::json;
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{Function, NeutralRequest, Tool};
use crate::translate::policy::{Feature, Losses};

/// Keywords that OpenAI refuses at the top of a schema, and `$ref`, which leaves no `type` there.
const REFUSED_AT_TOP: [&str; 6] = ["$ref", "allOf", "anyOf", "oneOf", "enum", "not"];

/// The most alternatives that are merged; of more, nothing is kept but that there were some.
const MOST_ALTERNATIVES: usize = 64;

/// The longest schema that is merged, in bytes: merging copies what references lead to.
const LONGEST_MERGED: usize = 64 * 1024;

/// The most references and combinators that are followed in a request; they may lead in circles.
const MOST_MERGES: usize = 512;

/// Fits the schema of every tool.
pub(super) fn fit(request: &mut NeutralRequest<'_>, limits: &TargetLimits, losses: &mut Losses) {
    let mut merges = MOST_MERGES;
    for (at, tool) in request.tools.iter_mut().enumerate() {
        if let Tool::Function(function) = tool {
            fit_top(function, at, limits, &mut merges, losses);
            fit_arrays(function, limits);
        }
    }
}

fn fit_top(
    function: &mut Function<'_>,
    at: usize,
    limits: &TargetLimits,
    merges: &mut usize,
    losses: &mut Losses,
) {
    let Some(schema) = function.schema.take() else {
        return;
    };
    let text = schema.to_text();
    let top = Top::of(text.as_bytes());
    if top.is_plain() || (top.has_refused && !limits.plain_tool_schema) {
        function.schema = Some(schema);
        return;
    }
    let follow = text.len() <= LONGEST_MERGED;
    let object = match schema {
        Json::Object(_) | Json::Opaque(_) => schema.into_object().unwrap_or_default(),
        // `true` takes anything, an object too.
        Json::Null | Json::Bool(_) => Object::default(),
        other => {
            function.schema = Some(other);
            return;
        }
    };
    let mut none = 0;
    let merges = if follow { merges } else { &mut none };
    let Some(mut merged) = merge(object.clone(), &object, merges) else {
        // No object at all: no change would make it one.
        function.schema = Some(Json::Object(object));
        return;
    };
    merged.describe_removed();
    if merged.looser {
        let name = losses.name(Feature::ToolSchema);
        let name = name.replacen("tools", &format!("tools[{at}]"), 1);
        let limit = "an object at the top of the schema, without alternatives";
        losses.report_beyond(Feature::ToolSchema, &name, limit);
    }
    function.schema = Some(Json::Object(merged.into_object()));
}

/// Facts of a schema's top, found without parsing what is below.
#[derive(Default)]
struct Top {
    is_object: bool,
    has_properties: bool,
    has_refused: bool,
}

impl Top {
    fn of(text: &[u8]) -> Self {
        let mut top = Self::default();
        for (key, value) in json::entries(text) {
            match key {
                b"type" => top.is_object = value == b"\"object\"",
                b"properties" => top.has_properties = value.starts_with(b"{"),
                _ => {
                    let mut refused = REFUSED_AT_TOP.iter();
                    top.has_refused |= refused.any(|name| name.as_bytes() == key);
                }
            }
        }
        top
    }

    const fn is_plain(&self) -> bool {
        self.is_object && self.has_properties && !self.has_refused
    }
}

type Properties<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// An object schema whose references and combinators at the top are resolved.
struct Merged<'a> {
    /// Everything but `type`, `properties`, `required` and what was removed.
    rest: Object<'a>,
    properties: Properties<'a>,
    required: Vec<Cow<'a, str>>,
    /// Keywords that could only be told to the model, as JSON text.
    removed: Vec<(String, String)>,
    /// The schema allows more than before.
    looser: bool,
}

/// Resolves the top of a schema; none if it isn't one of objects. Every schema below it that is
/// followed takes one of `merges`.
fn merge<'a>(mut schema: Object<'a>, root: &Object<'a>, merges: &mut usize) -> Option<Merged<'a>> {
    if !may_be_object(schema.get("type")) {
        return None;
    }
    let mut merged = Merged {
        properties: take_object(&mut schema, "properties"),
        required: take_texts(&mut schema, "required"),
        rest: Object::default(),
        removed: Vec::new(),
        looser: false,
    };
    schema.remove("type");
    for (key, value) in schema.0 {
        match key.as_ref() {
            "properties" | "required" => {}
            "$ref" => {
                let target = value.as_str().and_then(|pointer| resolve(root, pointer));
                merged.add(target.and_then(|target| follow(target, root, merges)));
            }
            "allOf" => {
                for part in all_objects(value) {
                    merged.add(part.and_then(|part| follow(part, root, merges)));
                }
            }
            "anyOf" | "oneOf" => merged.add_alternatives(&key, value, root, merges),
            "enum" | "not" => merged.remove(&key, &value),
            _ => merged.rest.0.push((key, value)),
        }
    }
    Some(merged)
}

fn follow<'a>(schema: Object<'a>, root: &Object<'a>, merges: &mut usize) -> Option<Merged<'a>> {
    *merges = merges.checked_sub(1)?;
    merge(schema, root, merges)
}

impl<'a> Merged<'a> {
    /// Adds what must hold too; nothing if it couldn't be resolved.
    fn add(&mut self, part: Option<Self>) {
        let Some(part) = part else {
            self.looser = true;
            return;
        };
        for (name, schema) in part.properties {
            match self.properties.iter_mut().find(|(known, _)| *known == name) {
                None => self.properties.push((name, schema)),
                Some((_, known)) if known.to_text() == schema.to_text() => {}
                Some((_, known)) => {
                    let both = vec![std::mem::replace(known, Json::Null), schema];
                    *known = keyword("allOf", both);
                }
            }
        }
        for name in part.required {
            if !self.required.contains(&name) {
                self.required.push(name);
            }
        }
        for (name, value) in part.rest.0 {
            if self.rest.get(&name).is_none() {
                self.rest.0.push((name, value));
            }
        }
        self.removed.extend(part.removed);
        self.looser |= part.looser;
    }

    /// Adds the properties of all alternatives, and requires those that all of them require.
    fn add_alternatives(
        &mut self,
        key: &str,
        value: Json<'a>,
        root: &Object<'a>,
        merges: &mut usize,
    ) {
        self.remove(key, &value);
        let few = |all: &[Json<'_>]| all.len() <= MOST_ALTERNATIVES;
        if !value.as_array().is_some_and(few) {
            return;
        }
        let mut any: Vec<(Cow<'a, str>, Vec<Json<'a>>)> = Vec::new();
        let mut required: Option<Vec<Cow<'a, str>>> = None;
        for part in all_objects(value).flatten() {
            let Some(part) = follow(part, root, merges) else {
                continue;
            };
            for (name, schema) in part.properties {
                match any.iter_mut().find(|(known, _)| *known == name) {
                    None => any.push((name, vec![schema])),
                    Some((_, known)) => {
                        let text = schema.to_text();
                        if known.iter().all(|known| known.to_text() != text) {
                            known.push(schema);
                        }
                    }
                }
            }
            match &mut required {
                None => required = Some(part.required),
                Some(all) => all.retain(|name| part.required.contains(name)),
            }
        }
        for (name, mut schemas) in any {
            if self.properties.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let schema = match schemas.len() {
                1 => schemas.swap_remove(0),
                _ => keyword("anyOf", schemas),
            };
            self.properties.push((name, schema));
        }
        for name in required.unwrap_or_default() {
            if !self.required.contains(&name) {
                self.required.push(name);
            }
        }
    }

    fn remove(&mut self, key: &str, value: &Json<'_>) {
        self.looser = true;
        self.removed
            .push((key.to_owned(), value.to_text().into_owned()));
    }

    /// Tells the model, in the description, what nothing enforces any more.
    fn describe_removed(&mut self) {
        if self.removed.is_empty() {
            return;
        }
        let removed = std::mem::take(&mut self.removed);
        let description = describe(self.rest.str("description"), &removed);
        self.rest.remove("description");
        let description = Json::String(description.into());
        self.rest.0.push(("description".into(), description));
    }

    fn into_object(self) -> Object<'a> {
        let mut fields = vec![("type".into(), Json::String("object".into()))];
        fields.extend(self.rest.0);
        fields.push(("properties".into(), Json::Object(Object(self.properties))));
        if !self.required.is_empty() {
            let names = self.required.into_iter().map(Json::String).collect();
            fields.push(("required".into(), Json::Array(names)));
        }
        Object(fields)
    }
}

/// A description with the keywords that were taken out of its schema, as Anthropic's SDK writes them.
pub(super) fn describe(description: Option<&str>, removed: &[(String, String)]) -> String {
    let removed = removed.iter().map(|(key, value)| format!("{key}: {value}"));
    let removed = removed.collect::<Vec<_>>().join(", ");
    match description.filter(|text| !text.is_empty()) {
        Some(text) => format!("{text}\n\n{{{removed}}}"),
        None => format!("{{{removed}}}"),
    }
}

fn keyword<'a>(name: &'static str, schemas: Vec<Json<'a>>) -> Json<'a> {
    Json::Object(Object(vec![(name.into(), Json::Array(schemas))]))
}

fn may_be_object(kind: Option<&Json<'_>>) -> bool {
    let is_object = |kind: &Json<'_>| kind.as_str() == Some("object");
    match kind {
        None | Some(Json::Null) => true,
        Some(Json::Array(kinds)) => kinds.iter().any(is_object),
        Some(kind) => is_object(kind),
    }
}

fn take_object<'a>(schema: &mut Object<'a>, key: &str) -> Properties<'a> {
    schema.take_object(key).unwrap_or_default().0
}

fn take_texts<'a>(schema: &mut Object<'a>, key: &str) -> Vec<Cow<'a, str>> {
    let items = schema.take_array(key).into_iter();
    items.filter_map(Json::into_string).collect()
}

/// The members of a list, none for what is no object.
fn all_objects<'a>(list: Json<'a>) -> impl Iterator<Item = Option<Object<'a>>> {
    let items = list.into_array().unwrap_or_default().into_iter();
    items.map(Json::into_object)
}

/// The schema that a reference inside the document leads to (RFC 6901).
fn resolve<'a>(root: &Object<'a>, pointer: &str) -> Option<Object<'a>> {
    let unescape = |step: &str| step.replace("~1", "/").replace("~0", "~");
    let mut steps = pointer.strip_prefix("#/")?.split('/').map(unescape);
    let mut at = root.get(&steps.next()?)?;
    while let Json::Object(object) = at {
        let Some(step) = steps.next() else {
            return Some(object.clone());
        };
        at = object.get(&step)?;
    }
    // What is below wasn't looked into yet.
    let mut at = at.clone();
    for step in steps {
        at = at.into_object()?.take(&step)?;
    }
    at.into_object()
}

fn fit_arrays(function: &mut Function<'_>, limits: &TargetLimits) {
    if !limits.array_items {
        return;
    }
    if let Some(schema) = &mut function.schema
        && memmem::find(schema.to_text().as_bytes(), b"\"array\"").is_some()
    {
        each_schema(schema, &mut |object| {
            let says = object.has("items") || object.has("prefixItems");
            let lacks = has_type(object, "array") && !says;
            if lacks {
                object.remove("items");
                let anything = Json::Object(Object::default());
                object.0.push(("items".into(), anything));
            }
            lacks
        });
    }
}
