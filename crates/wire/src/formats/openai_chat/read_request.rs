//! Reads a chat completions request. It must not know what the target can express.

use crate::translate::TranslateError;
use crate::translate::data_url;
use crate::translate::extra::openai_feature;
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{
    Arguments, Extra, File, Function, Image, MediaSource, Message, NeutralRequest, OutputShape,
    Part, PartKind, Role, Text, Thinking, Tier, Tool, ToolCall, ToolChoice, ToolResult,
};
use crate::translate::policy::Feature;
use crate::translate::reasoning;
use crate::translate::signature::Signature;
use crate::translate::typed::{
    ReadResult, boolean, count, each, number, object, optional_bool, optional_text, required_text,
    text, texts,
};

/// Reads the body of `POST /v1/chat/completions`.
pub(crate) fn read_request(body: Object<'_>) -> ReadResult<NeutralRequest<'_>> {
    let mut request = NeutralRequest::default();
    for (key, value) in body.0 {
        if !value.is_null() {
            read_field(&mut request, key, value)?;
        }
    }
    Ok(request)
}

fn read_field<'a>(
    request: &mut NeutralRequest<'a>,
    key: Text<'a>,
    value: Json<'a>,
) -> ReadResult<()> {
    match key.as_ref() {
        "model" => {}
        "messages" => request.messages = read_messages(value)?,
        "stream" => request.stream = boolean(&value, "stream")?,
        "stream_options" => {
            let options = object(value, "stream_options")?;
            request.include_usage = optional_bool(&options, "include_usage")?.unwrap_or(false);
        }
        "tools" => request.tools = each(value, "tools", read_tool)?,
        "tool_choice" => request.tool_choice = read_tool_choice(value)?,
        "parallel_tool_calls" => request.parallel_tools = Some(boolean(&value, &key)?),
        "response_format" => request.output = read_format(value)?,
        "verbosity" => request.verbosity = Some(text(value, "verbosity")?),
        "reasoning_effort" | "reasoning" | "thinking" => {
            reasoning::read_openai(&mut request.reasoning, &key, value)?;
        }
        "user" => request.user = Some(text(value, "user")?),
        "service_tier" => match read_tier(&value) {
            Some(tier) => request.tier = Some(tier),
            None => keep(request, Feature::ServiceTier, key, value),
        },
        "cache_control" => request.cache = Some(value),
        _ => return read_sampling(request, key, value),
    }
    Ok(())
}

fn read_sampling<'a>(
    request: &mut NeutralRequest<'a>,
    key: Text<'a>,
    value: Json<'a>,
) -> ReadResult<()> {
    let sampling = &mut request.sampling;
    match key.as_ref() {
        "max_completion_tokens" => sampling.max_tokens = Some(count(&value, &key)?),
        "max_tokens" => {
            let limit = count(&value, "max_tokens")?;
            sampling.max_tokens.get_or_insert(limit);
        }
        "temperature" => sampling.temperature = Some(number(value, &key)?),
        "top_p" => sampling.top_p = Some(number(value, &key)?),
        "top_k" => sampling.top_k = Some(count(&value, &key)?),
        "n" => sampling.choices = Some(count(&value, &key)?).filter(|choices| *choices != 1),
        "seed" => sampling.seed = Some(number(value, &key)?),
        "stop" => sampling.stop = texts(value, &key)?,
        "frequency_penalty" => sampling.frequency_penalty = Some(number(value, &key)?),
        "presence_penalty" => sampling.presence_penalty = Some(number(value, &key)?),
        "logit_bias" => sampling.logit_bias = Some(value),
        "logprobs" => sampling.logprobs = boolean(&value, &key)?,
        "top_logprobs" => sampling.top_logprobs = Some(count(&value, &key)?),
        name => {
            let feature = feature_of(name);
            keep(request, feature, key, value);
        }
    }
    Ok(())
}

fn keep<'a>(request: &mut NeutralRequest<'a>, feature: Feature, name: Text<'a>, value: Json<'a>) {
    request.extras.push(Extra {
        feature,
        name,
        value,
    });
}

fn feature_of(name: &str) -> Feature {
    match name {
        "prediction" => Feature::Hints,
        "modalities" | "audio" => Feature::AudioOutput,
        "web_search_options" => Feature::WebSearch,
        "functions" | "function_call" => Feature::LegacyFunctions,
        _ => openai_feature(name).unwrap_or(Feature::Unknown),
    }
}

fn read_tier(value: &Json<'_>) -> Option<Tier> {
    Some(match value.as_str()? {
        "auto" => Tier::Auto,
        "default" => Tier::Standard,
        "flex" => Tier::Flex,
        "priority" => Tier::Priority,
        _ => return None,
    })
}

fn read_messages(value: Json<'_>) -> ReadResult<Vec<Message<'_>>> {
    let mut messages: Vec<Message<'_>> = Vec::new();
    for message in each(value, "messages", read_message)? {
        match messages.last_mut() {
            // Results of parallel calls are one turn, in formats that have turns.
            Some(last) if is_results(last) && is_results(&message) => {
                last.parts.extend(message.parts);
            }
            _ => messages.push(message),
        }
    }
    Ok(messages)
}

fn is_results(message: &Message<'_>) -> bool {
    matches!(message.parts.first(), Some(part) if matches!(part.kind, PartKind::ToolResult(_)))
}

fn read_message(value: Json<'_>) -> ReadResult<Message<'_>> {
    let mut message = object(value, "")?;
    let role = match required_text(&mut message, "role")?.as_ref() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        // The forerunners of tools have no ids: results answer calls in their order.
        "tool" | "function" => return read_result(message),
        other => {
            let expected = format!("a known role, not \"{other}\"");
            return Err(TranslateError::invalid("role", &expected));
        }
    };
    let name = optional_text(&mut message, "name")?;
    let cache = message.take("cache_control");
    let mut parts = Vec::new();
    if role == Role::Assistant {
        read_thoughts(&mut message, &mut parts)?;
    }
    parts.extend(read_content(message.take("content"))?);
    if role == Role::Assistant {
        read_calls(&mut message, &mut parts)?;
    }
    if let (Some(cache), Some(last)) = (cache, parts.last_mut()) {
        last.cache.get_or_insert(cache);
    }
    Ok(Message { role, parts, name })
}

fn read_result(mut message: Object<'_>) -> ReadResult<Message<'_>> {
    let cache = message.take("cache_control");
    let result = ToolResult {
        id: optional_text(&mut message, "tool_call_id")?.unwrap_or_default(),
        parts: read_content(message.take("content"))?,
        is_error: false,
        custom: false,
    };
    Ok(Message {
        role: Role::User,
        parts: vec![Part {
            kind: PartKind::ToolResult(result),
            cache,
        }],
        name: None,
    })
}

/// Thoughts as this router hands them out, or as text from servers that sign nothing.
fn read_thoughts<'a>(message: &mut Object<'a>, parts: &mut Vec<Part<'a>>) -> ReadResult<()> {
    let said = message
        .take_string("reasoning_content")
        .or_else(|| message.take_string("reasoning"));
    let blocks = message.take_array("thinking_blocks");
    if blocks.is_empty() {
        if let Some(text) = said.filter(|text| !text.is_empty()) {
            let signature = None;
            parts.push(Part::new(PartKind::Thinking(Thinking { text, signature })));
        }
        return Ok(());
    }
    for block in blocks {
        let mut block = object(block, "thinking_blocks")?;
        let signature = match block.take_string("data") {
            Some(data) => Some(Signature::Redacted(data)),
            None => block
                .take_string("signature")
                .and_then(Signature::from_block),
        };
        let text = block.take_string("thinking").unwrap_or_default();
        parts.push(Part::new(PartKind::Thinking(Thinking { text, signature })));
    }
    Ok(())
}

fn read_calls<'a>(message: &mut Object<'a>, parts: &mut Vec<Part<'a>>) -> ReadResult<()> {
    if let Some(refusal) = message
        .take_string("refusal")
        .filter(|text| !text.is_empty())
    {
        parts.push(Part::new(PartKind::Refusal(refusal)));
    }
    if let Some(calls) = message.take("tool_calls") {
        parts.extend(each(calls, "tool_calls", read_call)?);
    }
    if let Some(mut function) = message.take_object("function_call") {
        let call = read_function(&mut function, "arguments")
            .map_err(|error| error.within("function_call"))?;
        parts.push(Part::new(PartKind::ToolCall(call)));
    }
    Ok(())
}

fn read_call(value: Json<'_>) -> ReadResult<Part<'_>> {
    let mut call = object(value, "")?;
    let id = optional_text(&mut call, "id")?.unwrap_or_default();
    let cache = call.take("cache_control");
    let signature = call.take("extra_content").and_then(read_google_signature);
    let (mut function, argument, custom) = match call.take_object("custom") {
        Some(custom) => (custom, "input", true),
        None => match call.take("function") {
            Some(function) => (object(function, "function")?, "arguments", false),
            None => return Err(TranslateError::missing("function")),
        },
    };
    let called = read_function(&mut function, argument)?;
    Ok(Part {
        kind: PartKind::ToolCall(ToolCall {
            id,
            signature,
            custom,
            ..called
        }),
        cache,
    })
}

/// The name and the arguments of a call.
fn read_function<'a>(function: &mut Object<'a>, argument: &str) -> ReadResult<ToolCall<'a>> {
    Ok(ToolCall {
        id: "".into(),
        arguments: match function.take(argument) {
            Some(value @ Json::String(_)) => Arguments::Text(text(value, argument)?),
            Some(value) => Arguments::Object(value.to_text()),
            None => Arguments::Text("".into()),
        },
        name: required_text(function, "name")?,
        signature: None,
        custom: false,
    })
}

/// `extra_content.google.thought_signature`, as Google's own OpenAI endpoint spells it.
pub(super) fn read_google_signature(extra: Json<'_>) -> Option<Text<'_>> {
    extra
        .into_object()?
        .take_object("google")?
        .take("thought_signature")?
        .into_text()
}

fn read_content(content: Option<Json<'_>>) -> ReadResult<Vec<Part<'_>>> {
    match content {
        None => Ok(Vec::new()),
        Some(Json::String(text)) => Ok(vec![Part::text(text)]),
        Some(list @ Json::Array(_)) => each(list, "content", read_part),
        Some(_) => Err(TranslateError::invalid("content", "a string or a list")),
    }
}

fn read_part(value: Json<'_>) -> ReadResult<Part<'_>> {
    if let Json::String(text) = value {
        return Ok(Part::text(text));
    }
    let mut part = object(value, "")?;
    let cache = part.take("cache_control");
    let kind = required_text(&mut part, "type")?;
    let kind = match kind.as_ref() {
        "text" | "input_text" | "output_text" => PartKind::Text(required_text(&mut part, "text")?),
        "refusal" => PartKind::Refusal(required_text(&mut part, "refusal")?),
        "image_url" => PartKind::Image(read_image(&mut part)?),
        "input_audio" => read_audio(&mut part)?,
        "file" => PartKind::File(read_file(&mut part)?),
        "thinking" => PartKind::Thinking(read_mistral_thinking(&mut part)),
        _ => PartKind::Foreign { kind, id: None },
    };
    Ok(Part { kind, cache })
}

fn read_image<'a>(part: &mut Object<'a>) -> ReadResult<Image<'a>> {
    let mut image = match part.take("image_url") {
        Some(Json::String(url)) => {
            let source = data_url::read(url);
            return Ok(Image {
                source,
                detail: None,
            });
        }
        Some(value) => object(value, "image_url")?,
        None => return Err(TranslateError::missing("image_url")),
    };
    let url = required_text(&mut image, "url").map_err(|error| error.within("image_url"))?;
    Ok(Image {
        source: data_url::read(url),
        detail: optional_text(&mut image, "detail")?.filter(|detail| detail != "auto"),
    })
}

fn read_audio<'a>(part: &mut Object<'a>) -> ReadResult<PartKind<'a>> {
    let Some(audio) = part.take("input_audio") else {
        return Err(TranslateError::missing("input_audio"));
    };
    let mut audio = object(audio, "input_audio")?;
    Ok(PartKind::Audio {
        data: required_text(&mut audio, "data")?,
        format: required_text(&mut audio, "format")?,
    })
}

fn read_file<'a>(part: &mut Object<'a>) -> ReadResult<File<'a>> {
    let Some(file) = part.take("file") else {
        return Err(TranslateError::missing("file"));
    };
    let mut file = object(file, "file")?;
    let name = optional_text(&mut file, "filename")?;
    let data = optional_text(&mut file, "file_data")?.map(data_url::read_file);
    let source = match data {
        Some(source) => source,
        None => MediaSource::Id(required_text(&mut file, "file_id").map_err(|e| e.within("file"))?),
    };
    Ok(File {
        source,
        name,
        context: None,
        citations: false,
    })
}

/// Mistral's thoughts: a list of texts within the content.
fn read_mistral_thinking<'a>(part: &mut Object<'a>) -> Thinking<'a> {
    let text = match part.take("thinking") {
        Some(Json::String(text)) => text,
        Some(Json::Array(items)) => items
            .iter()
            .filter_map(|item| item.str("text"))
            .collect::<String>()
            .into(),
        _ => Text::default(),
    };
    let signature = part
        .take_string("signature")
        .and_then(Signature::from_block);
    Thinking { text, signature }
}

fn read_tool(value: Json<'_>) -> ReadResult<Tool<'_>> {
    let mut tool = object(value, "")?;
    let kind = optional_text(&mut tool, "type")?.unwrap_or_else(|| "function".into());
    let cache = tool.take("cache_control");
    match kind.as_ref() {
        "function" => {
            let Some(function) = tool.take("function") else {
                return Err(TranslateError::missing("function"));
            };
            let mut function = object(function, "function")?;
            let inner_cache = function.take("cache_control");
            Ok(Tool::Function(Function {
                name: required_text(&mut function, "name").map_err(|e| e.within("function"))?,
                description: optional_text(&mut function, "description")?,
                schema: function.take("parameters"),
                strict: optional_bool(&function, "strict")?,
                cache: cache.or(inner_cache),
                extras: Vec::new(),
            }))
        }
        "custom" => {
            let Some(custom) = tool.take("custom") else {
                return Err(TranslateError::missing("custom"));
            };
            let mut custom = object(custom, "custom")?;
            Ok(Tool::Custom {
                name: required_text(&mut custom, "name").map_err(|e| e.within("custom"))?,
                description: optional_text(&mut custom, "description")?,
                format: custom.take("format"),
            })
        }
        _ => Ok(Tool::BuiltIn { kind }),
    }
}

/// A tool choice that is one word, as both of OpenAI's formats write it.
pub(crate) fn read_choice_word(word: &str) -> ReadResult<ToolChoice<'static>> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        _ => Err(TranslateError::invalid(
            "tool_choice",
            "\"auto\", \"none\", \"required\" or an object",
        )),
    }
}

fn read_tool_choice(value: Json<'_>) -> ReadResult<Option<ToolChoice<'_>>> {
    if let Some(word) = value.as_str() {
        return read_choice_word(word).map(Some);
    }
    let mut choice = object(value, "tool_choice")?;
    let within = |error: TranslateError| error.within("tool_choice");
    let kind = required_text(&mut choice, "type").map_err(within)?;
    match kind.as_ref() {
        "function" | "custom" => {
            let mut named = match choice.take(&kind) {
                Some(named) => object(named, &kind).map_err(within)?,
                None => return Err(within(TranslateError::missing(&kind))),
            };
            let name = required_text(&mut named, "name").map_err(within)?;
            Ok(Some(ToolChoice::Named(name)))
        }
        "allowed_tools" => {
            let inner = choice.take_object("allowed_tools").unwrap_or(choice);
            read_allowed(inner).map(Some).map_err(within)
        }
        _ => Err(TranslateError::invalid(
            "tool_choice.type",
            "\"function\", \"custom\" or \"allowed_tools\"",
        )),
    }
}

/// `{mode, tools: [{type, name | function: {name}}]}`, which both of OpenAI's formats have.
pub(crate) fn read_allowed(mut allowed: Object<'_>) -> ReadResult<ToolChoice<'_>> {
    let required_one = allowed.str("mode") == Some("required");
    let names = allowed
        .take_array("tools")
        .into_iter()
        .filter_map(|tool| {
            let mut tool = tool.into_object()?;
            tool.take_string("name")
                .or_else(|| tool.take_object("function")?.take_string("name"))
                .or_else(|| tool.take_object("custom")?.take_string("name"))
        })
        .collect();
    Ok(ToolChoice::Among {
        names,
        required: required_one,
    })
}

fn read_format(value: Json<'_>) -> ReadResult<OutputShape<'_>> {
    let mut format = object(value, "response_format")?;
    let within = |error: TranslateError| error.within("response_format");
    match required_text(&mut format, "type").map_err(within)?.as_ref() {
        "text" => Ok(OutputShape::Text),
        "json_object" => Ok(OutputShape::AnyJson),
        "json_schema" => match format.take("json_schema") {
            Some(schema) => {
                let schema = object(schema, "json_schema").map_err(within)?;
                read_schema(schema).map_err(|error| within(error.within("json_schema")))
            }
            None => Err(within(TranslateError::missing("json_schema"))),
        },
        _ => Err(TranslateError::invalid(
            "response_format.type",
            "\"text\", \"json_object\" or \"json_schema\"",
        )),
    }
}

/// `{name, description, schema, strict}`, which both of OpenAI's formats have.
pub(crate) fn read_schema(mut format: Object<'_>) -> ReadResult<OutputShape<'_>> {
    Ok(OutputShape::Schema {
        name: optional_text(&mut format, "name")?,
        description: optional_text(&mut format, "description")?,
        strict: optional_bool(&format, "strict")?,
        schema: format
            .take("schema")
            .ok_or_else(|| TranslateError::missing("schema"))?,
    })
}
