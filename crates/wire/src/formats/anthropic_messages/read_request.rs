//! Reads a messages request. It must not know what the target can express.

use super::{foreign, thinking};
use crate::translate::TranslateError;
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

/// Reads the body of `POST /v1/messages`.
pub(crate) fn read_request(body: Object<'_>) -> ReadResult<NeutralRequest<'_>> {
    let mut request = NeutralRequest {
        include_usage: true,
        ..NeutralRequest::default()
    };
    let mut system = None;
    for (key, value) in body.0 {
        match key.as_ref() {
            _ if value.is_null() => {}
            "system" => system = Some(value),
            _ => read_field(&mut request, key, value)?,
        }
    }
    if let Some(system) = system {
        let parts = read_content(system, "system")?;
        request.messages.insert(
            0,
            Message {
                role: Role::System,
                parts,
                name: None,
            },
        );
    }
    Ok(request)
}

fn read_field<'a>(
    request: &mut NeutralRequest<'a>,
    key: Text<'a>,
    value: Json<'a>,
) -> ReadResult<()> {
    let sampling = &mut request.sampling;
    match key.as_ref() {
        "model" => {}
        "messages" => request.messages = read_messages(value)?,
        "max_tokens" => sampling.max_tokens = Some(count(&value, &key)?),
        "temperature" => sampling.temperature = Some(number(value, &key)?),
        "top_p" => sampling.top_p = Some(number(value, &key)?),
        "top_k" => sampling.top_k = Some(count(&value, &key)?),
        "stop_sequences" => sampling.stop = texts(value, &key)?,
        "stream" => request.stream = boolean(&value, "stream")?,
        "tools" => request.tools = each(value, "tools", read_tool)?,
        "tool_choice" => read_tool_choice(request, value)?,
        "thinking" => {
            let thinking = object(value, "thinking")?;
            reasoning::read_thinking(request.reasoning.get_or_insert_default(), thinking)?;
        }
        "output_config" => read_output_config(request, value)?,
        "output_format" => request.output = read_format(object(value, "output_format")?)?,
        "metadata" => request.user = optional_text(&mut object(value, &key)?, "user_id")?,
        "service_tier" => {
            request.tier = Some(match text(value, "service_tier")?.as_ref() {
                "standard_only" => Tier::Standard,
                _ => Tier::Auto,
            });
        }
        "cache_control" => request.cache = Some(value),
        name => {
            let feature = feature_of(name);
            request.extras.push(Extra {
                feature,
                name: key,
                value,
            });
        }
    }
    Ok(())
}

fn feature_of(name: &str) -> Feature {
    match name {
        "container" | "mcp_servers" => Feature::ServerState,
        "thread" => Feature::Thread,
        "context_management" => Feature::Truncation,
        "inference_geo" => Feature::Residency,
        "speed" | "diagnostics" | "user_profile_id" | "workspace_id" | "betas" => Feature::Hints,
        _ => Feature::Unknown,
    }
}

fn read_output_config<'a>(request: &mut NeutralRequest<'a>, value: Json<'a>) -> ReadResult<()> {
    let mut config = object(value, "output_config")?;
    if let Some(effort) = config.take("effort") {
        thinking::read_output_effort(&mut request.reasoning, effort)?;
    }
    if let Some(format) = config.take("format") {
        request.output = read_format(object(format, "output_config.format")?)?;
    }
    Ok(())
}

fn read_format(mut format: Object<'_>) -> ReadResult<OutputShape<'_>> {
    Ok(OutputShape::Schema {
        name: None,
        description: None,
        schema: format
            .take("schema")
            .ok_or_else(|| TranslateError::missing("output_config.format.schema"))?,
        // Anthropic always holds the model to the schema.
        strict: Some(true),
    })
}

/// Reads the turns. As at Anthropic, a summary replaces what comes before it.
fn read_messages(value: Json<'_>) -> ReadResult<Vec<Message<'_>>> {
    let read = each(value, "messages", |value| {
        let blocks = value.get("content").and_then(Json::as_array);
        let summary =
            blocks.and_then(|blocks| blocks.iter().rposition(|b| foreign::summary(b).is_some()));
        Ok((read_message(value)?, summary))
    })?;
    let last = read.iter().rposition(|(_, summary)| summary.is_some());
    let mut messages = Vec::with_capacity(read.len());
    for (at, (mut message, summary)) in read.into_iter().enumerate() {
        let replaced = last.is_some_and(|last| at < last);
        if replaced && !message.role.is_instruction() {
            continue;
        }
        if let (true, Some(summary)) = (Some(at) == last, summary) {
            message.parts.drain(..summary);
        }
        messages.push(message);
    }
    Ok(messages)
}

fn read_message(value: Json<'_>) -> ReadResult<Message<'_>> {
    let mut message = object(value, "")?;
    let role = match required_text(&mut message, "role")?.as_ref() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(TranslateError::invalid("role", "\"user\" or \"assistant\"")),
    };
    let content = message
        .take("content")
        .ok_or_else(|| TranslateError::missing("content"))?;
    Ok(Message {
        role,
        parts: read_content(content, "content")?,
        name: None,
    })
}

fn read_content<'a>(content: Json<'a>, param: &str) -> ReadResult<Vec<Part<'a>>> {
    match content {
        Json::String(text) => Ok(vec![Part::text(text)]),
        list => each(list, param, read_block),
    }
}

fn read_block(value: Json<'_>) -> ReadResult<Part<'_>> {
    let mut block = object(value, "")?;
    let kind = required_text(&mut block, "type")?;
    let cache = block.take("cache_control");
    let kind = match kind.as_ref() {
        "text" => PartKind::Text(required_text(&mut block, "text")?),
        "image" => PartKind::Image(Image {
            source: read_source(&mut block)?,
            detail: None,
        }),
        "document" => PartKind::File(read_document(&mut block)?),
        "thinking" => PartKind::Thinking(Thinking {
            text: required_text(&mut block, "thinking")?,
            signature: optional_text(&mut block, "signature")?.and_then(Signature::from_block),
        }),
        "redacted_thinking" => PartKind::Thinking(Thinking {
            text: "".into(),
            signature: Some(Signature::Redacted(required_text(&mut block, "data")?)),
        }),
        "tool_use" => PartKind::ToolCall(read_call(&mut block)?),
        "tool_result" => PartKind::ToolResult(read_result(&mut block)?),
        "search_result" => PartKind::Text(search_result(&mut block).into()),
        _ => foreign::read(kind, &mut block),
    };
    Ok(Part { kind, cache })
}

fn read_call<'a>(block: &mut Object<'a>) -> ReadResult<ToolCall<'a>> {
    Ok(ToolCall {
        id: required_text(block, "id")?,
        name: required_text(block, "name")?,
        arguments: block
            .take("input")
            .map_or(Arguments::Text("".into()), |input| {
                Arguments::Object(input.to_text())
            }),
        signature: None,
        custom: false,
    })
}

fn read_result<'a>(block: &mut Object<'a>) -> ReadResult<ToolResult<'a>> {
    Ok(ToolResult {
        id: required_text(block, "tool_use_id")?,
        parts: match block.take("content") {
            Some(content) => read_content(content, "content")?,
            None => Vec::new(),
        },
        is_error: optional_bool(block, "is_error")?.unwrap_or(false),
        custom: false,
    })
}

/// A search result as text: formats without such blocks put it to the model like this.
fn search_result(block: &mut Object<'_>) -> String {
    let title = block.take_string("title").unwrap_or_default();
    let source = block.take_string("source").unwrap_or_default();
    let content = block.take_array("content");
    let texts: Vec<&str> = content.iter().filter_map(|item| item.str("text")).collect();
    format!("{title}\n{source}\n\n{}", texts.join("\n"))
}

fn read_document<'a>(block: &mut Object<'a>) -> ReadResult<File<'a>> {
    let name = optional_text(block, "title")?;
    let context = optional_text(block, "context")?;
    let citations = block
        .take_object("citations")
        .and_then(|citations| citations.get("enabled")?.as_bool())
        .unwrap_or(false);
    Ok(File {
        source: read_source(block)?,
        name,
        context,
        citations,
    })
}

fn read_source<'a>(block: &mut Object<'a>) -> ReadResult<MediaSource<'a>> {
    let Some(source) = block.take("source") else {
        return Err(TranslateError::missing("source"));
    };
    let mut source = object(source, "source")?;
    let within = |error: TranslateError| error.within("source");
    let kind = required_text(&mut source, "type").map_err(within)?;
    let read = match kind.as_ref() {
        "base64" => required_text(&mut source, "media_type").and_then(|media_type| {
            let data = required_text(&mut source, "data")?;
            Ok(MediaSource::Base64 { media_type, data })
        }),
        "url" => required_text(&mut source, "url").map(MediaSource::Url),
        "file" => required_text(&mut source, "file_id").map(MediaSource::Id),
        "text" => required_text(&mut source, "data").map(MediaSource::Text),
        "content" => Ok(MediaSource::Text(content_text(&mut source))),
        _ => Err(TranslateError::invalid(
            "type",
            "\"base64\", \"url\", \"file\", \"text\" or \"content\"",
        )),
    };
    read.map_err(within)
}

/// A document given as text blocks.
fn content_text<'a>(source: &mut Object<'a>) -> Text<'a> {
    match source.take("content") {
        Some(Json::String(text)) => text,
        Some(Json::Array(items)) => {
            let texts: Vec<&str> = items.iter().filter_map(|item| item.str("text")).collect();
            texts.join("\n").into()
        }
        _ => Text::default(),
    }
}

fn read_tool(value: Json<'_>) -> ReadResult<Tool<'_>> {
    let tool = object(value, "")?;
    let kind = tool.str("type").unwrap_or("custom").to_owned();
    if kind != "custom" {
        return Ok(Tool::BuiltIn { kind: kind.into() });
    }
    let mut function = Function {
        name: "".into(),
        description: None,
        schema: None,
        strict: None,
        cache: None,
        extras: Vec::new(),
    };
    for (key, value) in tool.0 {
        match key.as_ref() {
            _ if value.is_null() => {}
            "type" => {}
            "name" => function.name = text(value, "name")?,
            "description" => function.description = Some(text(value, "description")?),
            "input_schema" => function.schema = Some(value),
            "strict" => function.strict = Some(boolean(&value, "strict")?),
            "cache_control" => function.cache = Some(value),
            _ => function.extras.push(key),
        }
    }
    if function.name.is_empty() {
        return Err(TranslateError::missing("name"));
    }
    Ok(Tool::Function(function))
}

fn read_tool_choice<'a>(request: &mut NeutralRequest<'a>, value: Json<'a>) -> ReadResult<()> {
    let mut choice = object(value, "tool_choice")?;
    let within = |error: TranslateError| error.within("tool_choice");
    let kind = required_text(&mut choice, "type").map_err(within)?;
    request.tool_choice = Some(match kind.as_ref() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(required_text(&mut choice, "name").map_err(within)?),
        _ => {
            let expected = "\"auto\", \"any\", \"tool\" or \"none\"";
            return Err(TranslateError::invalid("tool_choice.type", expected));
        }
    });
    let single = optional_bool(&choice, "disable_parallel_tool_use").map_err(within)?;
    request.parallel_tools = single.map(|single| !single);
    Ok(())
}
