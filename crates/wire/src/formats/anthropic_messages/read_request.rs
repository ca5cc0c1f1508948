//! Reads a messages request. It must not know what the target can express.

use super::thinking;
use crate::translate::TranslateError;
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{
    Arguments, Extra, File, Function, Image, Kind, Message, Output, Part, Request, Role, Source,
    Text, Thinking, Tier, Tool, ToolCall, ToolChoice, ToolResult,
};
use crate::translate::policy::Feature;
use crate::translate::reasoning;
use crate::translate::signature::Signature;
use crate::translate::typed::{
    boolean, count, each, number, object, optional, optional_bool, required, text, texts,
};

type Read<T> = Result<T, TranslateError>;

/// Reads the body of `POST /v1/messages`.
pub(crate) fn read_request(body: Object<'_>) -> Read<Request<'_>> {
    let mut request = Request {
        include_usage: true,
        ..Request::default()
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

fn read_field<'a>(request: &mut Request<'a>, key: Text<'a>, value: Json<'a>) -> Read<()> {
    let sampling = &mut request.sampling;
    match key.as_ref() {
        "model" => {}
        "messages" => request.messages = each(value, "messages", read_message)?,
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
        "metadata" => request.user = optional(&mut object(value, &key)?, "user_id")?,
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
        "context_management" => Feature::Truncation,
        "inference_geo" => Feature::Residency,
        "speed" | "diagnostics" | "user_profile_id" | "workspace_id" | "betas" => Feature::Hints,
        _ => Feature::Unknown,
    }
}

fn read_output_config<'a>(request: &mut Request<'a>, value: Json<'a>) -> Read<()> {
    let mut config = object(value, "output_config")?;
    if let Some(effort) = config.take("effort") {
        thinking::read_output_effort(&mut request.reasoning, effort)?;
    }
    if let Some(format) = config.take("format") {
        request.output = read_format(object(format, "output_config.format")?)?;
    }
    Ok(())
}

fn read_format(mut format: Object<'_>) -> Read<Output<'_>> {
    Ok(Output::Schema {
        name: None,
        description: None,
        schema: format
            .take("schema")
            .ok_or_else(|| TranslateError::missing("output_config.format.schema"))?,
        // Anthropic always holds the model to the schema.
        strict: Some(true),
    })
}

fn read_message(value: Json<'_>) -> Read<Message<'_>> {
    let mut message = object(value, "")?;
    let role = match required(&mut message, "role")?.as_ref() {
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

fn read_content<'a>(content: Json<'a>, param: &str) -> Read<Vec<Part<'a>>> {
    match content {
        Json::String(text) => Ok(vec![Part::text(text)]),
        list => each(list, param, read_block),
    }
}

fn read_block(value: Json<'_>) -> Read<Part<'_>> {
    let mut block = object(value, "")?;
    let kind = required(&mut block, "type")?;
    let cache = block.take("cache_control");
    let kind = match kind.as_ref() {
        "text" => Kind::Text(required(&mut block, "text")?),
        "image" => Kind::Image(Image {
            source: read_source(&mut block)?,
            detail: None,
        }),
        "document" => Kind::File(read_document(&mut block)?),
        "thinking" => Kind::Thinking(Thinking {
            text: required(&mut block, "thinking")?,
            signature: optional(&mut block, "signature")?.and_then(Signature::from_block),
        }),
        "redacted_thinking" => Kind::Thinking(Thinking {
            text: "".into(),
            signature: Some(Signature::Redacted(required(&mut block, "data")?)),
        }),
        "tool_use" => Kind::ToolCall(read_call(&mut block)?),
        "tool_result" => Kind::ToolResult(read_result(&mut block)?),
        "search_result" => Kind::Text(search_result(&mut block).into()),
        _ => Kind::Foreign { kind },
    };
    Ok(Part { kind, cache })
}

fn read_call<'a>(block: &mut Object<'a>) -> Read<ToolCall<'a>> {
    Ok(ToolCall {
        id: required(block, "id")?,
        name: required(block, "name")?,
        arguments: block
            .take("input")
            .map_or(Arguments::Text("".into()), |input| {
                Arguments::Object(input.to_text())
            }),
        signature: None,
        custom: false,
    })
}

fn read_result<'a>(block: &mut Object<'a>) -> Read<ToolResult<'a>> {
    Ok(ToolResult {
        id: required(block, "tool_use_id")?,
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

fn read_document<'a>(block: &mut Object<'a>) -> Read<File<'a>> {
    let name = optional(block, "title")?;
    let context = optional(block, "context")?;
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

fn read_source<'a>(block: &mut Object<'a>) -> Read<Source<'a>> {
    let Some(source) = block.take("source") else {
        return Err(TranslateError::missing("source"));
    };
    let mut source = object(source, "source")?;
    let within = |error: TranslateError| error.within("source");
    let kind = required(&mut source, "type").map_err(within)?;
    let read = match kind.as_ref() {
        "base64" => required(&mut source, "media_type").and_then(|media_type| {
            let data = required(&mut source, "data")?;
            Ok(Source::Base64 { media_type, data })
        }),
        "url" => required(&mut source, "url").map(Source::Url),
        "file" => required(&mut source, "file_id").map(Source::Id),
        "text" => required(&mut source, "data").map(Source::Text),
        "content" => Ok(Source::Text(content_text(&mut source))),
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

fn read_tool(value: Json<'_>) -> Read<Tool<'_>> {
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

fn read_tool_choice<'a>(request: &mut Request<'a>, value: Json<'a>) -> Read<()> {
    let mut choice = object(value, "tool_choice")?;
    let within = |error: TranslateError| error.within("tool_choice");
    let kind = required(&mut choice, "type").map_err(within)?;
    request.tool_choice = Some(match kind.as_ref() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(required(&mut choice, "name").map_err(within)?),
        _ => {
            let expected = "\"auto\", \"any\", \"tool\" or \"none\"";
            return Err(TranslateError::invalid("tool_choice.type", expected));
        }
    });
    let single = optional_bool(&choice, "disable_parallel_tool_use").map_err(within)?;
    request.parallel_tools = single.map(|single| !single);
    Ok(())
}
