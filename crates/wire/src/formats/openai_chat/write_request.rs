//! Writes a chat completions request.

use std::borrow::Cow;

use bytes::BytesMut;
use serde_json::Number;

use crate::translate::emit::{ListWriter, ObjectWriter, object};
use crate::translate::extra;
use crate::translate::neutral::{
    Extra, File, Image, MediaSource, Message, NeutralRequest, OutputShape, Part, PartKind, Role,
    Tier, Tool, ToolCall, ToolChoice, ToolResult, is_one,
};
use crate::translate::options::{ChatDialect, RequestOptions};
use crate::translate::policy::{Feature, Losses};
use crate::translate::{data_url, reasoning, tool_schema};

/// Writes the body of `POST /v1/chat/completions`.
pub(crate) fn write_request(
    request: &NeutralRequest<'_>,
    model: &str,
    options: &RequestOptions,
    losses: &mut Losses,
    out: &mut BytesMut,
) {
    let dialect = options.dialect;
    object(out, |fields| {
        fields.str("model", model);
        fields.list("messages", |items| {
            for message in &request.messages {
                write_message(items, message, dialect, losses);
            }
        });
        if request.stream {
            fields.bool("stream", true);
            if !options.no_usage_chunk {
                fields.obj("stream_options", |o| o.bool("include_usage", true));
            }
        }
        write_tools(fields, request, losses);
        write_sampling(fields, request, model, dialect, losses);
        write_output(fields, &request.output);
        fields.opt_str("verbosity", request.verbosity.as_deref());
        fields.opt_str("user", request.user.as_deref());
        fields.opt_str("service_tier", request.tier.map(tier));
        if request.cache.is_some() {
            losses.lose(Feature::CacheControl);
        }
        extra::write(fields, &request.extras, losses, |extra| {
            takes(extra, dialect)
        });
    });
}

fn takes(extra: &Extra<'_>, dialect: ChatDialect) -> bool {
    extra::openai_feature(&extra.name).is_some()
        || (extra.feature == Feature::Unknown && dialect == ChatDialect::Compatible)
}

/// The name of a tier, in both of OpenAI's formats.
pub(crate) const fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Auto => "auto",
        Tier::Standard => "default",
        Tier::Flex => "flex",
        Tier::Priority => "priority",
    }
}

fn write_sampling(
    fields: &mut ObjectWriter<'_>,
    request: &NeutralRequest<'_>,
    model: &str,
    dialect: ChatDialect,
    losses: &mut Losses,
) {
    let sampling = &request.sampling;
    let compatible = dialect == ChatDialect::Compatible;
    let effort = reasoning::openai_effort(request.reasoning, model, losses);
    fields.opt_str("reasoning_effort", effort);
    let limit = if compatible {
        "max_tokens"
    } else {
        "max_completion_tokens"
    };
    fields.opt_num(limit, sampling.max_tokens);
    if reasoning::openai_refuses_sampling(model, effort) {
        lose_default(losses, Feature::Temperature, sampling.temperature.as_ref());
        lose_default(losses, Feature::TopP, sampling.top_p.as_ref());
    } else {
        fields.opt_num("temperature", sampling.temperature.as_ref());
        fields.opt_num("top_p", sampling.top_p.as_ref());
    }
    if compatible {
        fields.opt_num("top_k", sampling.top_k);
    } else {
        lose_if(losses, Feature::TopK, sampling.top_k.is_some());
    }
    fields.opt_num("n", sampling.choices);
    fields.opt_num("seed", sampling.seed.as_ref());
    fields.opt_num("frequency_penalty", sampling.frequency_penalty.as_ref());
    fields.opt_num("presence_penalty", sampling.presence_penalty.as_ref());
    fields.opt_json("logit_bias", sampling.logit_bias.as_ref());
    if sampling.logprobs {
        fields.bool("logprobs", true);
        fields.opt_num("top_logprobs", sampling.top_logprobs);
    }
    if !sampling.stop.is_empty() {
        fields.strings("stop", &sampling.stop);
    }
}

fn lose_if(losses: &mut Losses, feature: Feature, lost: bool) {
    if lost {
        losses.lose(feature);
    }
}

/// Reports a number that the target doesn't take, unless it is the target's default of one.
pub(crate) fn lose_default(losses: &mut Losses, feature: Feature, number: Option<&Number>) {
    lose_if(
        losses,
        feature,
        number.is_some_and(|number| !is_one(number)),
    );
}

fn write_output(fields: &mut ObjectWriter<'_>, output: &OutputShape<'_>) {
    match output {
        OutputShape::Text => {}
        OutputShape::AnyJson => fields.obj("response_format", |o| o.str("type", "json_object")),
        OutputShape::Schema { .. } => fields.obj("response_format", |o| {
            o.str("type", "json_schema");
            o.obj("json_schema", |schema| write_schema(schema, output));
        }),
    }
}

/// The fields of a named schema, in both of OpenAI's formats, which demand a name. Anthropic has
/// none, and always keeps to the schema.
pub(crate) fn write_schema(fields: &mut ObjectWriter<'_>, output: &OutputShape<'_>) {
    if let OutputShape::Schema {
        name,
        description,
        schema,
        strict,
    } = output
    {
        fields.str("name", name.as_deref().unwrap_or("answer"));
        fields.opt_str("description", description.as_deref());
        fields.json("schema", schema);
        fields.opt_bool("strict", *strict);
    }
}

fn write_tools(fields: &mut ObjectWriter<'_>, request: &NeutralRequest<'_>, losses: &mut Losses) {
    if !tool_schema::any_sent(request, losses) {
        return;
    }
    fields.list("tools", |items| {
        for tool in &request.tools {
            write_tool(items, tool, losses);
        }
    });
    if let Some(choice) = &request.tool_choice {
        write_choice(fields, choice);
    }
    fields.opt_bool("parallel_tool_calls", request.parallel_tools);
}

fn write_tool(items: &mut ListWriter<'_>, tool: &Tool<'_>, losses: &mut Losses) {
    let Some(sent) = tool_schema::SentTool::of(tool, losses) else {
        return;
    };
    lose_if(losses, Feature::CacheControl, sent.cache.is_some());
    items.obj(|item| {
        item.str("type", "function");
        item.obj("function", |fields| {
            fields.str("name", sent.name);
            fields.opt_str("description", sent.description.as_deref());
            if let Some(schema) = &sent.schema {
                fields.raw("parameters", schema);
            }
            fields.opt_bool("strict", sent.strict);
        });
    });
}

fn write_choice(fields: &mut ObjectWriter<'_>, choice: &ToolChoice<'_>) {
    match choice {
        ToolChoice::Auto => fields.str("tool_choice", "auto"),
        ToolChoice::None => fields.str("tool_choice", "none"),
        ToolChoice::Required => fields.str("tool_choice", "required"),
        ToolChoice::Named(name) => fields.obj("tool_choice", |o| write_named(o, name)),
        ToolChoice::Among { names, required } => fields.obj("tool_choice", |o| {
            o.str("type", "allowed_tools");
            o.obj("allowed_tools", |allowed| {
                allowed.str("mode", if *required { "required" } else { "auto" });
                allowed.list("tools", |tools| {
                    for name in names {
                        tools.obj(|tool| write_named(tool, name));
                    }
                });
            });
        }),
    }
}

fn write_named(fields: &mut ObjectWriter<'_>, name: &str) {
    fields.str("type", "function");
    fields.obj("function", |f| f.str("name", name));
}

fn write_message(
    items: &mut ListWriter<'_>,
    message: &Message<'_>,
    dialect: ChatDialect,
    losses: &mut Losses,
) {
    lose_caches(&message.parts, losses);
    match message.role {
        Role::Assistant => write_assistant(items, message, dialect, losses),
        Role::User => write_user(items, message, dialect, losses),
        Role::System | Role::Developer => items.obj(|item| {
            let developer = message.role == Role::Developer && dialect == ChatDialect::OpenAi;
            item.str("role", if developer { "developer" } else { "system" });
            item.opt_str("name", message.name.as_deref());
            let parts: Vec<_> = message.parts.iter().collect();
            write_content(item, &parts, dialect, losses);
        }),
    }
}

fn lose_caches(parts: &[Part<'_>], losses: &mut Losses) {
    for part in parts {
        lose_if(losses, Feature::CacheControl, part.cache.is_some());
        if let PartKind::ToolResult(result) = &part.kind {
            lose_caches(&result.parts, losses);
        }
    }
}

/// Tool results are messages of their own here, and before what the user adds to them.
fn write_user(
    items: &mut ListWriter<'_>,
    message: &Message<'_>,
    dialect: ChatDialect,
    losses: &mut Losses,
) {
    let mut rest: Vec<&Part<'_>> = Vec::new();
    let mut labels: Vec<Part<'_>> = Vec::new();
    for part in &message.parts {
        if let PartKind::ToolResult(result) = &part.kind {
            write_result(items, result, dialect, losses);
            if result.parts.iter().any(is_media) {
                labels.push(Part::text(
                    format!("Result of tool call {}:", result.id).into(),
                ));
            }
        }
    }
    let mut label = labels.iter();
    for part in &message.parts {
        match &part.kind {
            PartKind::ToolResult(result) if result.parts.iter().any(is_media) => {
                rest.extend(label.next());
                rest.extend(result.parts.iter().filter(|part| is_media(part)));
            }
            PartKind::ToolResult(_) => {}
            _ => rest.push(part),
        }
    }
    if rest.is_empty() && !message.parts.is_empty() {
        return;
    }
    items.obj(|item| {
        item.str("role", "user");
        item.opt_str("name", message.name.as_deref());
        write_content(item, &rest, dialect, losses);
    });
}

const fn is_media(part: &Part<'_>) -> bool {
    matches!(
        part.kind,
        PartKind::Image(_) | PartKind::File(_) | PartKind::Audio { .. }
    )
}

fn write_result(
    items: &mut ListWriter<'_>,
    result: &ToolResult<'_>,
    dialect: ChatDialect,
    losses: &mut Losses,
) {
    lose_if(losses, Feature::ToolError, result.is_error);
    let parts: Vec<_> = result.parts.iter().filter(|part| !is_media(part)).collect();
    items.obj(|item| {
        item.str("role", "tool");
        item.str("tool_call_id", &result.id);
        write_content(item, &parts, dialect, losses);
    });
}

/// Content: a string where one is enough, for not every server takes lists.
fn write_content(
    fields: &mut ObjectWriter<'_>,
    parts: &[&Part<'_>],
    dialect: ChatDialect,
    losses: &mut Losses,
) {
    let texts: Vec<&str> = parts.iter().filter_map(|part| as_text(part)).collect();
    let plain = texts.len() == parts.len();
    match (plain, &texts[..]) {
        (true, []) => fields.str("content", ""),
        (true, [text]) => fields.str("content", text),
        (true, _) if dialect == ChatDialect::Compatible => {
            fields.str("content", &texts.join("\n\n"));
        }
        _ => fields.list("content", |items| {
            for part in parts {
                write_part(items, part, losses);
            }
        }),
    }
}

fn as_text<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    match &part.kind {
        PartKind::Text(text) | PartKind::Refusal(text) => Some(text),
        _ => None,
    }
}

fn write_part(items: &mut ListWriter<'_>, part: &Part<'_>, losses: &mut Losses) {
    match &part.kind {
        PartKind::Text(text) | PartKind::Refusal(text) => write_text(items, text),
        PartKind::Image(image) => write_image(items, image, losses),
        PartKind::File(file) => write_file(items, file, losses),
        PartKind::Audio { data, format } => items.obj(|item| {
            item.str("type", "input_audio");
            item.obj("input_audio", |audio| {
                audio.str("data", data);
                audio.str("format", format);
            });
        }),
        PartKind::Thinking(_) => losses.lose(Feature::ForeignThinking),
        PartKind::Foreign { kind, .. } => tool_schema::lose_content(kind, losses),
        PartKind::ToolCall(_) | PartKind::ToolResult(_) => losses.lose(Feature::ForeignContent),
    }
}

fn write_text(items: &mut ListWriter<'_>, text: &str) {
    items.obj(|item| {
        item.str("type", "text");
        item.str("text", text);
    });
}

fn write_image(items: &mut ListWriter<'_>, image: &Image<'_>, losses: &mut Losses) {
    if matches!(image.source, MediaSource::Id(_)) {
        return losses.lose(Feature::FileId);
    }
    items.obj(|item| {
        item.str("type", "image_url");
        item.obj("image_url", |fields| {
            match &image.source {
                MediaSource::Url(url) | MediaSource::Text(url) | MediaSource::Id(url) => {
                    fields.str("url", url)
                }
                MediaSource::Base64 { media_type, data } => {
                    fields.data_url("url", media_type, data)
                }
            }
            fields.opt_str("detail", image.detail.as_deref());
        });
    });
}

fn write_file(items: &mut ListWriter<'_>, file: &File<'_>, losses: &mut Losses) {
    lose_if(losses, Feature::FileContext, file.context.is_some());
    lose_if(losses, Feature::FileCitations, file.citations);
    match &file.source {
        MediaSource::Text(text) => write_text(items, text),
        MediaSource::Url(_) => losses.lose(Feature::FileUrl),
        MediaSource::Id(id) if losses.same_vendor() => items.obj(|item| {
            item.str("type", "file");
            item.obj("file", |fields| fields.str("file_id", id));
        }),
        MediaSource::Id(_) => losses.lose(Feature::FileId),
        MediaSource::Base64 { media_type, data } => {
            match data_url::text_content(media_type, data) {
                Some(text) => write_text(items, &text),
                None => items.obj(|item| {
                    item.str("type", "file");
                    item.obj("file", |fields| {
                        fields.str("filename", file.name.as_deref().unwrap_or("document.pdf"));
                        fields.data_url("file_data", media_type, data);
                    });
                }),
            }
        }
    }
}

fn write_assistant(
    items: &mut ListWriter<'_>,
    message: &Message<'_>,
    dialect: ChatDialect,
    losses: &mut Losses,
) {
    let parts = &message.parts;
    if dialect == ChatDialect::OpenAi && parts.iter().all(|part| thought_of(part).is_some()) {
        // A message of thoughts alone is none where thoughts have no place.
        return lose_if(losses, Feature::ForeignThinking, !parts.is_empty());
    }
    items.obj(|item| {
        item.str("role", "assistant");
        item.opt_str("name", message.name.as_deref());
        write_thoughts(item, parts, dialect, losses);
        let said: Vec<&str> = parts.iter().filter_map(text_of).collect();
        let calls = parts.iter().any(|part| call_of(part).is_some());
        match &said[..] {
            [] if calls => item.null("content"),
            [one] => item.str("content", one),
            pieces => item.concat("content", pieces),
        }
        if let Some(refusal) = parts.iter().find_map(refusal_of) {
            item.str("refusal", refusal);
        }
        if calls {
            item.list("tool_calls", |items| {
                for call in parts.iter().filter_map(call_of) {
                    write_call(items, call);
                }
            });
        }
        for part in parts {
            match &part.kind {
                PartKind::Foreign { kind, .. } => tool_schema::lose_content(kind, losses),
                PartKind::Image(_) | PartKind::File(_) | PartKind::Audio { .. } => {
                    losses.lose(Feature::ForeignContent);
                }
                _ => {}
            }
        }
    });
}

/// Servers that think in the open want the thoughts of a turn with tools back; OpenAI refuses the
/// field.
fn write_thoughts(
    item: &mut ObjectWriter<'_>,
    parts: &[Part<'_>],
    dialect: ChatDialect,
    losses: &mut Losses,
) {
    let thoughts: Vec<&str> = parts.iter().filter_map(thought_of).collect();
    if thoughts.is_empty() {
        return;
    }
    if dialect == ChatDialect::OpenAi {
        losses.lose(Feature::ForeignThinking);
    } else if thoughts.iter().any(|text| !text.is_empty()) {
        item.concat("reasoning_content", &thoughts);
    }
}

fn thought_of<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    match &part.kind {
        PartKind::Thinking(thinking) => Some(&thinking.text),
        _ => None,
    }
}

fn text_of<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    match &part.kind {
        PartKind::Text(text) => Some(text),
        _ => None,
    }
}

fn refusal_of<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    match &part.kind {
        PartKind::Refusal(text) => Some(text),
        _ => None,
    }
}

const fn call_of<'p, 'a>(part: &'p Part<'a>) -> Option<&'p ToolCall<'a>> {
    match &part.kind {
        PartKind::ToolCall(call) => Some(call),
        _ => None,
    }
}

fn write_call(items: &mut ListWriter<'_>, call: &ToolCall<'_>) {
    let arguments = if call.custom {
        Cow::Owned(tool_schema::wrap(call.arguments.as_is()))
    } else {
        Cow::Borrowed(call.arguments.as_text())
    };
    items.obj(|item| {
        item.str("id", &call.id);
        item.str("type", "function");
        item.obj("function", |function| {
            function.str("name", &call.name);
            function.str("arguments", &arguments);
        });
    });
}
