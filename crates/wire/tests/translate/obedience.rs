//! Whatever a client asks for, what is sent obeys the limits of its target. The limits are written
//! down here once more, as the providers state them: the table of the code is not asked.

use llm_router_domain::format::Format;
use llm_router_wire::translate::{RequestOptions, translate_request};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::fixtures::options;

/// A client's request, as no format has it.
#[derive(Clone, Debug)]
struct Asked {
    user: Option<String>,
    tools: Vec<Tool>,
    /// Id and index of the tool of each call in the history.
    calls: Vec<(String, usize)>,
    images: Vec<(&'static str, &'static str)>,
    begun: Option<String>,
    stops: Vec<String>,
    ceiling: Option<u64>,
    seed: Option<i64>,
    penalty: Option<f64>,
    choices: Option<u64>,
    temperature: Option<f64>,
    effort: Option<&'static str>,
    one_call: bool,
    logprobs: bool,
    cache_markers: usize,
    output: Option<Value>,
}

#[derive(Clone, Debug)]
struct Tool {
    name: String,
    schema: Value,
    strict: bool,
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9_.:/ é-]{1,20}",
        1 => "[a-z_]{60,140}",
        1 => select(vec!["7zip", "-x", ".hidden", "mcp__server__tool"]).prop_map(str::to_owned),
    ]
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9_-]{1,40}", "[a-z]{41,120}", "[a-z.:é]{1,50}"]
}

fn user() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9-]{1,40}",
        "[a-z0-9_é]{60,400}",
        "[a-z]{1,9}@[a-z]{1,9}\\.(com|org)",
        "\\+[0-9]{2} [0-9]{3} [0-9]{6}",
    ]
}

/// A schema below the top of one, with whatever keywords clients use.
fn schema() -> impl Strategy<Value = Value> {
    let kinds = select(vec![
        json!("string"),
        json!("array"),
        json!("object"),
        json!("integer"),
        json!(["array", "null"]),
        json!(["string", "null"]),
    ]);
    let leaf = prop_oneof![
        kinds.prop_map(|kind| json!({ "type": kind })),
        Just(json!({})),
        Just(json!({"type": "integer", "minimum": 1, "maximum": 9})),
        Just(json!({"type": "string", "format": "email", "maxLength": 9})),
        Just(json!({"type": "string", "format": "ipv9"})),
        Just(json!({"$ref": "#/$defs/a"})),
        Just(json!({"enum": ["a", "b"]})),
        Just(json!({"type": "array", "minItems": 3, "uniqueItems": true})),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..3);
        let combined = select(vec!["anyOf", "oneOf", "allOf"]);
        prop_oneof![
            inner
                .clone()
                .prop_map(|items| json!({"type": "array", "items": items})),
            (combined, list).prop_map(|(key, list)| json!({ key: list })),
            object(inner),
        ]
    })
}

fn object(inner: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    let names = select(vec!["a", "items", "input", "schema", "type", "b"]);
    (
        prop::collection::btree_map(names, inner, 0..4),
        prop::option::of(select(vec![
            json!(false),
            json!(true),
            json!({"type": "string"}),
        ])),
        any::<bool>(),
    )
        .prop_map(|(properties, more, all)| {
            let mut object = json!({"type": "object"});
            let names: Vec<&str> = properties.keys().copied().collect();
            let take = if all { names.len() } else { names.len() / 2 };
            object["required"] = json!(names[..take]);
            object["properties"] = json!(properties);
            if let Some(more) = more {
                object["additionalProperties"] = more;
            }
            object
        })
}

/// The schema of a tool: an object, or what may lead to one.
fn top() -> impl Strategy<Value = Value> {
    let alternatives = prop::collection::vec(object(schema()), 1..3);
    let key = select(vec!["anyOf", "oneOf", "allOf"]);
    prop_oneof![
        4 => object(schema()),
        1 => Just(json!({"type": "object"})),
        1 => Just(json!({})),
        1 => Just(json!({"type": ["object", "null"], "properties": {"a": {"type": "array"}}})),
        1 => Just(json!({"$ref": "#/$defs/a"})),
        1 => Just(json!({"type": "object", "not": {"required": ["a"]}, "enum": [{}]})),
        2 => (key, alternatives).prop_map(|(key, list)| json!({ key: list })),
    ]
    .prop_map(|mut schema| {
        if schema.to_string().contains("$ref") {
            schema["$defs"] =
                json!({"a": {"type": "object", "properties": {"x": {"type": "array"}}}});
        }
        schema
    })
}

fn tools() -> impl Strategy<Value = Vec<Tool>> {
    let tool = (name(), top(), any::<bool>()).prop_map(|(name, schema, strict)| Tool {
        name,
        schema,
        strict,
    });
    let plain = |at: usize| Tool {
        name: format!("f{at}"),
        schema: json!({"type": "object", "properties": {}}),
        strict: false,
    };
    prop_oneof![
        8 => prop::collection::vec(tool, 0..4),
        1 => (120_usize..600).prop_map(move |count| (0..count).map(plain).collect()),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let png = "iVBORw0KGgoAAAANSUhEUg==";
    let images = select(vec![
        ("image/jpg", "/9j/4AAQSkZJRgABAQ=="),
        ("image/png", png),
        ("image/png", "/9j/4AAQSkZJRgABAQ=="),
        ("IMAGE/X-PNG", png),
    ]);
    let what = (
        prop::option::of(user()),
        tools(),
        prop::collection::vec((id(), any::<prop::sample::Index>()), 0..3),
        prop::collection::vec(images, 0..2),
        prop::option::of("[a-z]{0,3}[ \n\t]{0,3}"),
        prop::option::of(object(schema())),
    );
    let how = (
        prop::collection::vec("[a-z ]{1,3}", 0..8),
        prop::option::of(1_u64..200_000),
        prop::option::of(any::<i64>()),
        prop::option::of(-2.0..2.0_f64),
        prop::option::of(2_u64..12),
        prop::option::of(0.0..2.0_f64),
        prop::option::of(select(vec!["none", "low", "high"])),
        any::<[bool; 2]>(),
        0_usize..9,
    );
    (what, how).prop_map(|(what, how)| {
        let (user, tools, calls, images, begun, output) = what;
        let (stops, ceiling, seed, penalty, choices, temperature, effort, flags, marks) = how;
        let [one_call, logprobs] = flags;
        let index = |at: prop::sample::Index| {
            if tools.is_empty() {
                0
            } else {
                at.index(tools.len())
            }
        };
        let calls = calls.into_iter().map(|(id, at)| (id, index(at))).collect();
        Asked {
            user,
            calls,
            tools,
            images,
            begun,
            stops,
            ceiling,
            seed,
            penalty,
            choices: choices.filter(|choices| choices % 3 == 0),
            temperature,
            effort,
            one_call,
            logprobs,
            cache_markers: marks,
            output,
        }
    })
}

impl Asked {
    fn tool_name(&self, at: usize) -> &str {
        self.tools.get(at).map_or("gone", |tool| &tool.name)
    }

    fn write(&self, format: Format) -> Value {
        let mut body = match format {
            Format::OpenAiChat => self.chat(),
            Format::OpenAiResponses => self.responses(),
            _ => self.messages(),
        };
        if let Value::Object(fields) = &mut body {
            fields.retain(|_, value| !value.is_null());
        }
        body
    }

    fn chat(&self) -> Value {
        let mut texts: Vec<Value> = (0..self.cache_markers)
            .map(|at| json!({"type": "text", "text": format!("t{at}"), "cache_control": {"type": "ephemeral"}}))
            .collect();
        texts.push(json!({"type": "text", "text": "x"}));
        texts.extend(self.images.iter().map(|(kind, data)| {
            json!({"type": "image_url", "image_url": {"url": format!("data:{kind};base64,{data}")}})
        }));
        let mut messages = vec![json!({"role": "user", "content": texts})];
        for (id, at) in &self.calls {
            messages.push(
                json!({"role": "assistant", "tool_calls": [{"id": id, "type": "function",
                "function": {"name": self.tool_name(*at), "arguments": "{}"}}]}),
            );
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": "r"}));
        }
        messages.extend(
            self.begun
                .iter()
                .map(|text| json!({"role": "assistant", "content": text})),
        );
        let tools: Vec<Value> = self.tools.iter().map(|tool| {
            json!({"type": "function", "function": {"name": tool.name, "parameters": tool.schema,
                "strict": tool.strict}})
        }).collect();
        json!({"model": "m", "messages": messages, "tools": tools, "user": self.user,
            "stop": self.stops, "max_tokens": self.ceiling, "seed": self.seed,
            "frequency_penalty": self.penalty, "n": self.choices, "temperature": self.temperature,
            "reasoning_effort": self.effort, "parallel_tool_calls": !self.one_call,
            "logprobs": self.logprobs,
            "response_format": self.output.as_ref().map(|schema| json!({"type": "json_schema",
                "json_schema": {"name": "a", "schema": schema, "strict": true}}))})
    }

    fn responses(&self) -> Value {
        let mut content = vec![json!({"type": "input_text", "text": "x"})];
        content.extend(self.images.iter().map(|(kind, data)| {
            json!({"type": "input_image", "image_url": format!("data:{kind};base64,{data}")})
        }));
        let mut input = vec![json!({"role": "user", "content": content})];
        for (id, at) in &self.calls {
            input.push(json!({"type": "function_call", "call_id": id,
                "name": self.tool_name(*at), "arguments": "{}"}));
            input.push(json!({"type": "function_call_output", "call_id": id, "output": "r"}));
        }
        input.extend(
            self.begun
                .iter()
                .map(|text| json!({"role": "assistant", "content": text})),
        );
        let tools: Vec<Value> = self
            .tools
            .iter()
            .map(|tool| {
                json!({"type": "function", "name": tool.name, "parameters": tool.schema,
                "strict": tool.strict})
            })
            .collect();
        json!({"model": "m", "input": input, "tools": tools, "user": self.user,
            "max_output_tokens": self.ceiling, "temperature": self.temperature,
            "reasoning": self.effort.map(|effort| json!({"effort": effort})),
            "parallel_tool_calls": !self.one_call,
            "include": self.logprobs.then(|| json!(["message.output_text.logprobs"])),
            "text": self.output.as_ref().map(|schema| json!({"format": {"type": "json_schema",
                "name": "a", "schema": schema, "strict": true}}))})
    }

    fn messages(&self) -> Value {
        let mut content = vec![json!({"type": "text", "text": "x"})];
        content.extend(self.images.iter().map(|(kind, data)| {
            json!({"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}})
        }));
        let mut messages = vec![json!({"role": "user", "content": content})];
        for (id, at) in &self.calls {
            messages.push(json!({"role": "assistant", "content": [
                {"type": "tool_use", "id": id, "name": self.tool_name(*at), "input": {}}]}));
            messages.push(json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": id, "content": "r"}]}));
        }
        messages.extend(
            self.begun
                .iter()
                .map(|text| json!({"role": "assistant", "content": text})),
        );
        let tools: Vec<Value> = self.tools.iter().map(|tool| {
            json!({"name": tool.name, "input_schema": tool.schema, "strict": tool.strict})
        }).collect();
        json!({"model": "m", "max_tokens": self.ceiling.unwrap_or(9_000), "messages": messages,
            "tools": tools, "metadata": self.user.as_ref().map(|user| json!({"user_id": user})),
            "stop_sequences": self.stops, "temperature": self.temperature.map(|value| value / 2.0),
            "tool_choice": self.one_call.then(|| json!({"type": "auto", "disable_parallel_tool_use": true})),
            "output_config": self.output.as_ref().map(|schema| json!({"format":
                {"type": "json_schema", "schema": schema}}))})
    }
}

/// Calls `check` for every value of a field of this name, wherever it stands.
fn each_field(value: &Value, name: &str, check: &mut impl FnMut(&Value)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| each_field(item, name, check)),
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == name {
                    check(value);
                }
                each_field(value, name, check);
            }
        }
        _ => {}
    }
}

/// Calls `check` for a schema and every schema inside of it.
fn each_schema(schema: &Value, check: &mut impl FnMut(&Map<String, Value>)) {
    match schema {
        Value::Array(schemas) => schemas.iter().for_each(|schema| each_schema(schema, check)),
        Value::Object(fields) => {
            check(fields);
            for (key, value) in fields {
                match key.as_str() {
                    "properties" | "$defs" | "definitions" => {
                        let named = value.as_object().into_iter().flat_map(Map::values);
                        named.for_each(|schema| each_schema(schema, check));
                    }
                    "items"
                    | "prefixItems"
                    | "anyOf"
                    | "oneOf"
                    | "allOf"
                    | "not"
                    | "additionalProperties" => each_schema(value, check),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn is(schema: &Map<String, Value>, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|found| found == kind),
        found => found.is_some_and(|found| found == kind),
    }
}

fn check_top(schema: &Value) {
    assert_eq!(schema["type"], "object", "{schema}");
    assert!(schema["properties"].is_object(), "{schema}");
    for key in ["$ref", "anyOf", "oneOf", "allOf", "enum", "not"] {
        assert!(schema.get(key).is_none(), "{key} in {schema}");
    }
}

fn check_arrays(schema: &Value) {
    each_schema(schema, &mut |object| {
        let says = object.contains_key("items") || object.contains_key("prefixItems");
        assert!(!is(object, "array") || says, "{schema}");
    });
}

/// OpenAI's rules for strict schemas.
fn check_strict(schema: &Value) {
    each_schema(schema, &mut |object| {
        if is(object, "object") {
            assert_eq!(
                object.get("additionalProperties"),
                Some(&json!(false)),
                "{schema}"
            );
        }
        for name in object
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::keys)
        {
            let required = object.get("required").and_then(Value::as_array).unwrap();
            assert!(required.iter().any(|one| one == name), "{name} in {schema}");
        }
        for key in ["allOf", "oneOf", "not"] {
            assert!(!object.contains_key(key), "{schema}");
        }
    });
}

/// Anthropic's rules for schemas that it compiles.
fn check_compiled(schema: &Value) {
    each_schema(schema, &mut |object| {
        if is(object, "object") {
            assert_eq!(
                object.get("additionalProperties"),
                Some(&json!(false)),
                "{schema}"
            );
        }
        for key in ["minimum", "maximum", "maxLength", "uniqueItems"] {
            assert!(!object.contains_key(key), "{key} in {schema}");
        }
        let least = object.get("minItems").and_then(Value::as_u64);
        assert!(least.is_none_or(|least| least < 2), "{schema}");
        assert!(
            object.get("format").is_none_or(|format| format == "email"),
            "{schema}"
        );
    });
}

fn plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn reasons(model: &str) -> bool {
    ["o1", "o3", "o4", "gpt-5"]
        .iter()
        .any(|prefix| model.starts_with(prefix))
}

fn check_openai_common(body: &Value, model: &str) {
    if let Some(user) = body["user"].as_str() {
        assert!(user.chars().count() <= 64, "{user}");
    }
    assert!(list(&body["tools"]).count() <= 128);
    for tool in list(&body["tools"]) {
        let tool = tool.get("function").unwrap_or(tool);
        let name = tool["name"].as_str().unwrap();
        assert!(plain(name) && name.len() <= 64, "{name}");
        check_top(&tool["parameters"]);
        check_arrays(&tool["parameters"]);
        if tool["strict"] == true {
            check_strict(&tool["parameters"]);
        }
    }
    let many = ["o1", "o3", "o4"]
        .iter()
        .any(|prefix| model.starts_with(prefix));
    assert!(!many || body.get("parallel_tool_calls").is_none());
    each_field(body, "url", &mut check_image_url);
    each_field(body, "image_url", &mut check_image_url);
}

fn check_image_url(url: &Value) {
    if let Some(url) = url.as_str() {
        let known = ["png", "jpeg", "webp", "gif"];
        let is = |kind: &&str| url.starts_with(&format!("data:image/{kind};base64,"));
        assert!(known.iter().any(is), "{url}");
    }
}

fn check_chat(body: &Value, model: &str, most: u64) {
    check_openai_common(body, model);
    assert!(
        body["max_completion_tokens"]
            .as_u64()
            .is_none_or(|tokens| tokens <= most)
    );
    let stops = list(&body["stop"]).count();
    assert!(
        stops <= 4 && (stops == 0 || !reasons(model) || model == "o1"),
        "{body}"
    );
    let free = model.starts_with("gpt-5.") && body["reasoning_effort"] == "none";
    assert!(
        body.get("logprobs").is_none() || !reasons(model) || free,
        "{body}"
    );
    let mut ids = Vec::new();
    for call in list(&body["messages"]).flat_map(|message| list(&message["tool_calls"])) {
        let id = call["id"].as_str().unwrap();
        assert!(id.chars().count() <= 40, "{id}");
        ids.push(id);
    }
    for message in list(&body["messages"]).filter(|message| message["role"] == "tool") {
        assert!(
            ids.contains(&message["tool_call_id"].as_str().unwrap()),
            "{body}"
        );
    }
    let schema = &body["response_format"]["json_schema"];
    if schema["strict"] == true {
        check_strict(&schema["schema"]);
    }
}

fn check_responses(body: &Value, model: &str, most: u64) {
    check_openai_common(body, model);
    let ceiling = body["max_output_tokens"].as_u64();
    assert!(ceiling.is_none_or(|tokens| (16..=most).contains(&tokens)));
    each_field(&body["input"], "call_id", &mut |id| {
        assert!(id.as_str().unwrap().chars().count() <= 64);
    });
    let format = &body["text"]["format"];
    if format["strict"] == true {
        check_strict(&format["schema"]);
    }
}

fn check_messages(body: &Value, model: &str, most: u64) {
    assert!(body["max_tokens"].as_u64().unwrap() <= most);
    if let Some(user) = body["metadata"]["user_id"].as_str() {
        assert!(
            user.chars().count() <= 256 && !user.contains('@') && !user.starts_with('+'),
            "{user}"
        );
    }
    for tool in list(&body["tools"]) {
        let name = tool["name"].as_str().unwrap();
        assert!(plain(name) && name.len() <= 128, "{name}");
        check_top(&tool["input_schema"]);
        if tool["strict"] == true {
            check_compiled(&tool["input_schema"]);
        }
    }
    if let Some(format) = body["output_config"].get("format") {
        check_compiled(&format["schema"]);
    }
    assert!(list(&body["stop_sequences"]).all(|text| !text.as_str().unwrap().trim().is_empty()));
    assert!(
        body["temperature"]
            .as_f64()
            .is_none_or(|value| value <= 1.0)
    );
    assert!(body.to_string().matches("\"cache_control\"").count() <= 4);
    for message in list(&body["messages"]) {
        for part in list(&message["content"]) {
            for id in [&part["id"], &part["tool_use_id"]] {
                assert!(id.as_str().is_none_or(plain), "{id}");
            }
        }
    }
    each_field(body, "media_type", &mut |kind| {
        assert!(
            ["image/png", "image/jpeg", "image/webp", "image/gif"]
                .contains(&kind.as_str().unwrap())
        );
    });
    let last = list(&body["messages"]).last().unwrap();
    if last["role"] == "assistant" {
        let text = match &last["content"] {
            Value::String(text) => text,
            content => list(content).last().unwrap()["text"]
                .as_str()
                .unwrap_or("call"),
        };
        assert_eq!(text, text.trim_end(), "{body}");
        assert_eq!(model, "claude-haiku-4-5", "{body}");
        assert_eq!(body.get("thinking"), None, "{body}");
    }
}

fn check_gemini(body: &Value, most: u64) {
    let config = &body["generationConfig"];
    assert!(
        config["maxOutputTokens"]
            .as_u64()
            .is_none_or(|tokens| tokens <= most)
    );
    assert!(list(&config["stopSequences"]).count() <= 5);
    assert!(
        config["candidateCount"]
            .as_u64()
            .is_none_or(|count| count <= 8)
    );
    assert!(config.get("frequencyPenalty").is_none());
    let seed = config["seed"].as_i64();
    assert!(seed.is_none_or(|seed| i32::try_from(seed).is_ok()));
    let tools = &body["tools"][0]["functionDeclarations"];
    assert!(list(tools).count() <= 512);
    for tool in list(tools) {
        let name = tool["name"].as_str().unwrap();
        let first = name.chars().next().unwrap();
        assert!(first.is_ascii_alphabetic() || first == '_', "{name}");
        assert!(plain(&name.replace('.', "_")) && name.len() <= 64, "{name}");
        check_top(&tool["parametersJsonSchema"]);
        check_arrays(&tool["parametersJsonSchema"]);
    }
    each_field(&body["contents"], "mimeType", &mut |kind| {
        assert!(
            ["image/png", "image/jpeg"].contains(&kind.as_str().unwrap()),
            "{kind}"
        );
    });
}

const CLIENTS: [Format; 3] = [
    Format::OpenAiChat,
    Format::OpenAiResponses,
    Format::AnthropicMessages,
];

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn every_request_obeys_the_limits_of_its_target(
        asked in asked(),
        openai in select(vec!["gpt-4o", "o1", "o3", "gpt-5-mini", "gpt-5.1"]),
        claude in select(vec!["claude-haiku-4-5", "claude-opus-4-6", "claude-opus-4-8"]),
        gemini in select(vec!["gemini-2.5-flash", "gemini-3-pro-preview"]),
        most in 64_u64..70_000,
    ) {
        let options = RequestOptions { max_output: Some(most), ..options() };
        for from in CLIENTS {
            let body = asked.write(from).to_string();
            for to in Format::ALL.into_iter().filter(|to| *to != from) {
                let model = match to {
                    Format::AnthropicMessages => claude,
                    Format::Gemini => gemini,
                    _ => openai,
                };
                let sent = match translate_request(from, to, body.as_bytes(), model, &options) {
                    Ok(sent) => sent,
                    Err(error) => {
                        // Several answers, which most formats haven't.
                        prop_assert_eq!(error.param.as_deref(), Some("n"), "{}", error);
                        continue;
                    }
                };
                let sent: Value = serde_json::from_slice(&sent.body).unwrap();
                match to {
                    Format::OpenAiChat => check_chat(&sent, model, most),
                    Format::OpenAiResponses => check_responses(&sent, model, most),
                    Format::AnthropicMessages => check_messages(&sent, model, most),
                    Format::Gemini => check_gemini(&sent, most),
                }
            }
        }
    }
}
