//! Reads a responses request. It must not know what the target can express.

use std::collections::HashSet;

use bytes::BytesMut;

use super::foreign;
use crate::formats::openai_chat::{read_allowed, read_choice_word, read_schema};
use crate::translate::TranslateError;
use crate::translate::data_url;
use crate::translate::emit::{ObjectWriter, object as write_object};
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
    text,
};

/// The entry of `include` that asks for probabilities.
pub(super) const INCLUDE_LOGPROBS: &str = "message.output_text.logprobs";

/// Reads the body of `POST /v1/responses`.
pub(crate) fn read_request(body: Object<'_>) -> ReadResult<NeutralRequest<'_>> {
    let mut request = NeutralRequest {
        include_usage: true,
        ..NeutralRequest::default()
    };
    let mut instructions = None;
    for (key, value) in body.0 {
        match key.as_ref() {
            _ if value.is_null() => {}
            "instructions" => instructions = Some(text(value, "instructions")?),
            _ => read_field(&mut request, key, value)?,
        }
    }
    if let Some(text) = instructions {
        request
            .messages
            .insert(0, message(Role::System, vec![Part::text(text)]));
    }
    Ok(request)
}

/// The fields of the request that every answer repeats, ready to be written.
pub(crate) fn echo(body: &Object<'_>) -> String {
    let mut out = BytesMut::new();
    write_object(&mut out, |fields| {
        let mut copy = |key: &str, default: &str| match body.get(key) {
            Some(value) if !value.is_null() => fields.json(key, value),
            _ => fields.raw(key, default),
        };
        for (key, default) in [
            ("instructions", "null"),
            ("max_output_tokens", "null"),
            ("max_tool_calls", "null"),
            ("metadata", "{}"),
            ("parallel_tool_calls", "true"),
            ("prompt_cache_key", "null"),
            ("reasoning", r#"{"effort":null,"summary":null}"#),
            ("safety_identifier", "null"),
            ("temperature", "1.0"),
            ("text", r#"{"format":{"type":"text"}}"#),
            ("tool_choice", "\"auto\""),
            ("tools", "[]"),
            ("top_logprobs", "0"),
            ("top_p", "1.0"),
            ("truncation", "\"disabled\""),
            ("user", "null"),
        ] {
            copy(key, default);
        }
        write_constants(fields);
    });
    let inner = out.get(1..out.len() - 1).unwrap_or_default();
    String::from_utf8_lossy(inner).into_owned()
}

/// The router keeps nothing and does nothing later, whatever was asked.
fn write_constants(fields: &mut ObjectWriter<'_>) {
    fields.bool("background", false);
    fields.null("previous_response_id");
    fields.bool("store", false);
}

const fn message<'a>(role: Role, parts: Vec<Part<'a>>) -> Message<'a> {
    Message {
        role,
        parts,
        name: None,
    }
}

fn read_field<'a>(
    request: &mut NeutralRequest<'a>,
    key: Text<'a>,
    value: Json<'a>,
) -> ReadResult<()> {
    let sampling = &mut request.sampling;
    match key.as_ref() {
        "model" => {}
        "input" => read_input(request, value)?,
        "stream" => request.stream = boolean(&value, "stream")?,
        "stream_options" => {}
        "tools" => add_tools(request, each(value, "tools", read_tool)?),
        "tool_choice" => request.tool_choice = read_tool_choice(value)?,
        "parallel_tool_calls" => request.parallel_tools = Some(boolean(&value, &key)?),
        "max_output_tokens" => sampling.max_tokens = Some(count(&value, &key)?),
        "temperature" => sampling.temperature = Some(number(value, &key)?),
        "top_p" => sampling.top_p = Some(number(value, &key)?),
        "top_logprobs" => {
            let top = count(&value, &key)?;
            sampling.logprobs |= top > 0;
            sampling.top_logprobs = Some(top).filter(|top| *top > 0);
        }
        "text" => read_text(request, value)?,
        "reasoning" => reasoning::read_openai(&mut request.reasoning, &key, value)?,
        "user" => request.user = Some(text(value, "user")?),
        "include" => read_include(request, key, value),
        "service_tier" => match value.as_str() {
            Some("auto") => request.tier = Some(Tier::Auto),
            Some("default") => request.tier = Some(Tier::Standard),
            Some("flex") => request.tier = Some(Tier::Flex),
            Some("priority") => request.tier = Some(Tier::Priority),
            _ => keep(request, Feature::ServiceTier, key, value),
        },
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
        "previous_response_id" | "conversation" | "background" | "prompt" => Feature::ServerState,
        "truncation" | "context_management" => Feature::Truncation,
        "max_tool_calls" => Feature::MaxToolCalls,
        _ => openai_feature(name).unwrap_or(Feature::Unknown),
    }
}

fn read_include<'a>(request: &mut NeutralRequest<'a>, name: Text<'a>, value: Json<'a>) {
    let Json::Array(mut wanted) = value else {
        return keep(request, Feature::Include, name, value);
    };
    let before = wanted.len();
    wanted.retain(|item| item.as_str() != Some(INCLUDE_LOGPROBS));
    request.sampling.logprobs |= wanted.len() < before;
    keep(request, Feature::Include, name, Json::Array(wanted));
}

fn read_text<'a>(request: &mut NeutralRequest<'a>, value: Json<'a>) -> ReadResult<()> {
    let mut config = object(value, "text")?;
    request.verbosity = optional_text(&mut config, "verbosity").map_err(|e| e.within("text"))?;
    let Some(format) = config.take("format") else {
        return Ok(());
    };
    let mut format = object(format, "text.format")?;
    let within = |error: TranslateError| error.within("text.format");
    request.output = match required_text(&mut format, "type").map_err(within)?.as_ref() {
        "text" => OutputShape::Text,
        "json_object" => OutputShape::AnyJson,
        "json_schema" => read_schema(format).map_err(within)?,
        _ => {
            let expected = "\"text\", \"json_object\" or \"json_schema\"";
            return Err(TranslateError::invalid("text.format.type", expected));
        }
    };
    Ok(())
}

/// Adds tools but for functions that are there already: those that a search found may be listed too.
fn add_tools<'a>(request: &mut NeutralRequest<'a>, tools: Vec<Tool<'a>>) {
    let name = |tool: &Tool<'a>| match tool {
        Tool::Function(Function { name, .. }) | Tool::Custom { name, .. } => Some(name.clone()),
        Tool::BuiltIn { .. } => None,
    };
    let mut known: HashSet<Text<'a>> = request.tools.iter().filter_map(name).collect();
    for tool in tools {
        if name(&tool).is_none_or(|name| known.insert(name)) {
            request.tools.push(tool);
        }
    }
}

fn read_input<'a>(request: &mut NeutralRequest<'a>, value: Json<'a>) -> ReadResult<()> {
    if let Json::String(text) = value {
        request
            .messages
            .push(message(Role::User, vec![Part::text(text)]));
        return Ok(());
    }
    let mut conversation = Conversation::default();
    for item in each(value, "input", read_item)? {
        match item {
            Item::Message(message) => conversation.add(message),
            Item::Tools(tools) => add_tools(request, tools),
        }
    }
    request.messages.extend(conversation.messages);
    Ok(())
}

/// An item of the input.
enum Item<'a> {
    Message(Message<'a>),
    /// Tools that the model is given in the course of the conversation.
    Tools(Vec<Tool<'a>>),
}

/// Items put together as messages.
#[derive(Default)]
struct Conversation<'a> {
    messages: Vec<Message<'a>>,
    /// The last message with calls, and the ids of its calls.
    calling: Option<usize>,
    calls: HashSet<String>,
}

impl<'a> Conversation<'a> {
    /// Joins what the assistant said, thought and called in one go, and puts results behind their
    /// calls, as other formats have it.
    fn add(&mut self, item: Message<'a>) {
        if let Some(call) = result_id(&item) {
            let known = self.calling.filter(|_| self.calls.contains(call));
            return self.add_result(known, item);
        }
        let call = call_id(&item).map(str::to_owned);
        match self.messages.last_mut() {
            Some(last) if item.role == Role::Assistant && continues(last, &item) => {
                last.parts.extend(item.parts);
            }
            _ => self.messages.push(item),
        }
        if let Some(call) = call {
            let at = self.messages.len() - 1;
            if self.calling != Some(at) {
                self.calls.clear();
            }
            self.calling = Some(at);
            self.calls.insert(call);
        }
    }

    fn add_result(&mut self, calling: Option<usize>, item: Message<'a>) {
        let at = calling.map_or(self.messages.len(), |at| at + 1);
        match self.messages.get_mut(at) {
            Some(results) if result_id(results).is_some() => results.parts.extend(item.parts),
            _ => self.messages.insert(at, item),
        }
    }
}

fn result_id<'m>(message: &'m Message<'_>) -> Option<&'m str> {
    match &message.parts.first()?.kind {
        PartKind::ToolResult(result) => Some(&result.id),
        _ => None,
    }
}

fn call_id<'m>(message: &'m Message<'_>) -> Option<&'m str> {
    match &message.parts.first()?.kind {
        PartKind::ToolCall(call) => Some(&call.id),
        _ => None,
    }
}

/// Returns true if an item belongs to the assistant's message before it. Two texts are two messages.
fn continues(last: &Message<'_>, item: &Message<'_>) -> bool {
    let is_text = |part: Option<&Part<'_>>| matches!(part, Some(part) if matches!(part.kind, PartKind::Text(_) | PartKind::Refusal(_)));
    last.role == Role::Assistant && !(is_text(last.parts.last()) && is_text(item.parts.first()))
}

fn read_item(value: Json<'_>) -> ReadResult<Item<'_>> {
    let mut item = object(value, "")?;
    let kind = optional_text(&mut item, "type")?.unwrap_or_else(|| "message".into());
    let read = match kind.as_ref() {
        "additional_tools" | "tool_search_output" => {
            let tools = item.take("tools").unwrap_or(Json::Array(Vec::new()));
            return each(tools, "tools", read_tool).map(Item::Tools);
        }
        "message" => read_message(item),
        "function_call" => read_call(item, "arguments", false),
        "custom_tool_call" => read_call(item, "input", true),
        "function_call_output" => read_result(item, false),
        "custom_tool_call_output" => read_result(item, true),
        "reasoning" => Ok(read_reasoning(item)),
        _ => Ok(foreign::read(kind, &mut item)),
    };
    read.map(Item::Message)
}

fn read_message(mut item: Object<'_>) -> ReadResult<Message<'_>> {
    let role = match required_text(&mut item, "role")?.as_ref() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return Err(TranslateError::invalid("role", "a known role")),
    };
    let parts = match item.take("content") {
        None => Vec::new(),
        Some(content) => read_content(content, "content")?,
    };
    Ok(message(role, parts))
}

fn read_content<'a>(content: Json<'a>, param: &str) -> ReadResult<Vec<Part<'a>>> {
    match content {
        Json::String(text) => Ok(vec![Part::text(text)]),
        list => each(list, param, read_part),
    }
}

fn read_part(value: Json<'_>) -> ReadResult<Part<'_>> {
    let mut part = object(value, "")?;
    let kind = required_text(&mut part, "type")?;
    Ok(Part::new(match kind.as_ref() {
        "input_text" | "output_text" | "text" => PartKind::Text(required_text(&mut part, "text")?),
        "refusal" => PartKind::Refusal(required_text(&mut part, "refusal")?),
        "input_image" => PartKind::Image(Image {
            source: match optional_text(&mut part, "image_url")? {
                Some(url) => data_url::read(url),
                None => MediaSource::Id(required_text(&mut part, "file_id")?),
            },
            detail: optional_text(&mut part, "detail")?.filter(|detail| detail != "auto"),
        }),
        "input_file" => PartKind::File(read_file(&mut part)?),
        "input_audio" => read_audio(&mut part)?,
        _ => PartKind::Foreign { kind, id: None },
    }))
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
    let name = optional_text(part, "filename")?;
    let source = if let Some(data) = optional_text(part, "file_data")? {
        data_url::read_file(data)
    } else if let Some(url) = optional_text(part, "file_url")? {
        MediaSource::Url(url)
    } else {
        MediaSource::Id(required_text(part, "file_id")?)
    };
    Ok(File {
        source,
        name,
        context: None,
        citations: false,
    })
}

fn read_call<'a>(mut item: Object<'a>, argument: &str, custom: bool) -> ReadResult<Message<'a>> {
    let arguments = match item.take(argument) {
        Some(Json::String(text)) => Arguments::Text(text),
        Some(value) => Arguments::Object(value.to_text()),
        None => Arguments::Text("".into()),
    };
    let call = ToolCall {
        id: required_text(&mut item, "call_id")?,
        name: required_text(&mut item, "name")?,
        arguments,
        signature: None,
        custom,
    };
    Ok(message(
        Role::Assistant,
        vec![Part::new(PartKind::ToolCall(call))],
    ))
}

fn read_result(mut item: Object<'_>, custom: bool) -> ReadResult<Message<'_>> {
    let result = ToolResult {
        id: required_text(&mut item, "call_id")?,
        parts: match item.take("output") {
            None => Vec::new(),
            Some(output) => read_content(output, "output")?,
        },
        is_error: false,
        custom,
    };
    Ok(message(
        Role::User,
        vec![Part::new(PartKind::ToolResult(result))],
    ))
}

fn read_reasoning(mut item: Object<'_>) -> Message<'_> {
    let id = item.take_string("id").unwrap_or_default();
    let encrypted = item.take_string("encrypted_content").unwrap_or_default();
    let text = reasoning_text(&mut item);
    let signature =
        (!(id.is_empty() && encrypted.is_empty())).then(|| Signature::from_item(id, encrypted));
    let thinking = Thinking { text, signature };
    message(
        Role::Assistant,
        vec![Part::new(PartKind::Thinking(thinking))],
    )
}

/// The summary of a reasoning item, or the thoughts themselves where there is none.
pub(super) fn reasoning_text<'a>(item: &mut Object<'a>) -> Text<'a> {
    let mut parts = item.take_array("summary");
    if parts.is_empty() {
        parts = item.take_array("content");
    }
    let mut texts: Vec<Text<'a>> = parts
        .into_iter()
        .filter_map(|part| part.into_object()?.take_string("text"))
        .collect();
    if texts.len() == 1 {
        return texts.swap_remove(0);
    }
    texts.join("\n\n").into()
}

fn read_tool(value: Json<'_>) -> ReadResult<Tool<'_>> {
    let mut tool = object(value, "")?;
    let kind = required_text(&mut tool, "type")?;
    match kind.as_ref() {
        "function" => Ok(Tool::Function(Function {
            name: required_text(&mut tool, "name")?,
            description: optional_text(&mut tool, "description")?,
            strict: optional_bool(&tool, "strict")?,
            schema: tool.take("parameters"),
            cache: None,
            extras: Vec::new(),
        })),
        "custom" => Ok(Tool::Custom {
            name: required_text(&mut tool, "name")?,
            description: optional_text(&mut tool, "description")?,
            format: tool.take("format"),
        }),
        _ => Ok(Tool::BuiltIn { kind }),
    }
}

fn read_tool_choice(value: Json<'_>) -> ReadResult<Option<ToolChoice<'_>>> {
    if let Some(word) = value.as_str() {
        return read_choice_word(word).map(Some);
    }
    let mut choice = object(value, "tool_choice")?;
    let within = |error: TranslateError| error.within("tool_choice");
    match required_text(&mut choice, "type").map_err(within)?.as_ref() {
        "function" | "custom" => {
            let name = required_text(&mut choice, "name").map_err(within)?;
            Ok(Some(ToolChoice::Named(name)))
        }
        "allowed_tools" => read_allowed(choice).map(Some).map_err(within),
        // A tool that the provider runs: reported as lost together with the tool.
        kind => {
            let message = format!("The tool \"{kind}\" can't be chosen at this model's provider.");
            Err(TranslateError::unsupported_field(
                "tool_choice.type",
                message,
            ))
        }
    }
}
