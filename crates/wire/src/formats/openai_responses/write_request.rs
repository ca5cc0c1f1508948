//! Writes a responses request.

use std::collections::HashSet;

use bytes::BytesMut;

use super::read_request::INCLUDE_LOGPROBS;
use crate::formats::openai_chat::{lose_default, tier, write_schema};
use crate::translate::capability::{OpenAiThinking, openai_thinking};
use crate::translate::emit::{ListWriter, ObjectWriter, object};
use crate::translate::extra;
use crate::translate::json::Json;
use crate::translate::neutral::{
    File, Function, Image, MediaSource, Message, NeutralRequest, OutputShape, Part, PartKind, Role,
    Sampling, Thinking, ThinkingMode, Tool, ToolCall, ToolChoice, ToolResult,
};
use crate::translate::options::RequestOptions;
use crate::translate::policy::{Feature, Losses};
use crate::translate::signature::Signature;
use crate::translate::{reasoning, tool_schema};

/// Writes the body of `POST /v1/responses`.
pub(crate) fn write_request(
    request: &NeutralRequest<'_>,
    model: &str,
    _: &RequestOptions,
    losses: &mut Losses,
    out: &mut BytesMut,
) {
    let custom = custom_calls(request);
    object(out, |fields| {
        fields.str("model", model);
        fields.list("input", |items| {
            for message in &request.messages {
                write_message(items, message, &custom, losses);
            }
        });
        if request.stream {
            fields.bool("stream", true);
        }
        write_tools(fields, request, losses);
        write_sampling(fields, request, model, losses);
        write_text(fields, request);
        write_include(fields, request, model);
        fields.opt_str("user", request.user.as_deref());
        fields.opt_str("service_tier", request.tier.map(tier));
        if request.cache.is_some() {
            losses.lose(Feature::CacheControl);
        }
        if !request.extras.iter().any(|extra| extra.name == "store") {
            // Nothing is kept by default in the formats that requests come from.
            fields.bool("store", false);
        }
        extra::write(fields, &request.extras, losses, |extra| {
            extra::openai_feature(&extra.name).is_some()
        });
    });
}

/// The ids of calls of free-text tools, whose results have a type of their own.
fn custom_calls<'r>(request: &'r NeutralRequest<'_>) -> HashSet<&'r str> {
    let parts = request.messages.iter().flat_map(|message| &message.parts);
    parts
        .filter_map(|part| match &part.kind {
            PartKind::ToolCall(call) if call.custom => Some(call.id.as_ref()),
            _ => None,
        })
        .collect()
}

fn write_message(
    items: &mut ListWriter<'_>,
    message: &Message<'_>,
    custom: &HashSet<&str>,
    losses: &mut Losses,
) {
    if message.name.is_some() {
        losses.lose(Feature::Name);
    }
    match message.role {
        Role::Assistant => write_assistant(items, message, losses),
        Role::System => write_said(items, "system", &message.parts, losses),
        Role::Developer => write_said(items, "developer", &message.parts, losses),
        Role::User => {
            let mut rest = message.parts.iter().peekable();
            while let Some(part) = rest.next_if(|part| matches!(part.kind, PartKind::ToolResult(_)))
            {
                if let PartKind::ToolResult(result) = &part.kind {
                    lose_cache(part, losses);
                    write_result(items, result, custom, losses);
                }
            }
            let rest = message.parts.len() - rest.count();
            let said = message.parts.get(rest..).unwrap_or_default();
            if !said.is_empty() || message.parts.is_empty() {
                write_said(items, "user", said, losses);
            }
        }
    }
}

fn lose_cache(part: &Part<'_>, losses: &mut Losses) {
    if part.cache.is_some() {
        losses.lose(Feature::CacheControl);
    }
}

fn write_said(items: &mut ListWriter<'_>, role: &str, parts: &[Part<'_>], losses: &mut Losses) {
    items.obj(|item| {
        item.str("type", "message");
        item.str("role", role);
        match parts {
            [] => item.str("content", ""),
            [
                Part {
                    kind: PartKind::Text(text),
                    cache: None,
                },
            ] => item.str("content", text),
            parts => item.list("content", |items| write_parts(items, parts, losses)),
        }
    });
}

fn write_parts(items: &mut ListWriter<'_>, parts: &[Part<'_>], losses: &mut Losses) {
    for part in parts {
        lose_cache(part, losses);
        match &part.kind {
            PartKind::Text(text) | PartKind::Refusal(text) => write_input_text(items, text),
            PartKind::Image(image) => write_image(items, image, losses),
            PartKind::File(file) => write_file(items, file, losses),

            PartKind::Audio { .. } => losses.lose(Feature::Audio),
            PartKind::Foreign { kind, .. } => tool_schema::lose_content(kind, losses),
            PartKind::Thinking(_) => losses.lose(Feature::ForeignThinking),
            PartKind::ToolCall(_) | PartKind::ToolResult(_) => losses.lose(Feature::ForeignContent),
        }
    }
}

fn write_input_text(items: &mut ListWriter<'_>, text: &str) {
    items.obj(|item| {
        item.str("type", "input_text");
        item.str("text", text);
    });
}

fn write_image(items: &mut ListWriter<'_>, image: &Image<'_>, losses: &mut Losses) {
    if matches!(image.source, MediaSource::Id(_)) {
        return losses.lose(Feature::FileId);
    }
    items.obj(|item| {
        item.str("type", "input_image");
        match &image.source {
            MediaSource::Base64 { media_type, data } => {
                item.data_url("image_url", media_type, data)
            }
            MediaSource::Url(url) | MediaSource::Text(url) | MediaSource::Id(url) => {
                item.str("image_url", url)
            }
        }
        // The API demands what chat leaves to its default.
        item.str("detail", image.detail.as_deref().unwrap_or("auto"));
    });
}

fn write_file(items: &mut ListWriter<'_>, file: &File<'_>, losses: &mut Losses) {
    if file.context.is_some() {
        losses.lose(Feature::FileContext);
    }
    if file.citations {
        losses.lose(Feature::FileCitations);
    }
    match &file.source {
        MediaSource::Text(text) => return write_input_text(items, text),
        MediaSource::Id(_) if !losses.same_vendor() => {
            return losses.lose(Feature::FileId);
        }
        _ => {}
    }
    items.obj(|item| {
        item.str("type", "input_file");
        match &file.source {
            MediaSource::Base64 { media_type, data } => {
                item.str("filename", file.name.as_deref().unwrap_or("document.pdf"));
                item.data_url("file_data", media_type, data);
            }
            MediaSource::Url(url) => item.str("file_url", url),
            MediaSource::Id(id) | MediaSource::Text(id) => item.str("file_id", id),
        }
    });
}

fn write_result(
    items: &mut ListWriter<'_>,
    result: &ToolResult<'_>,
    custom: &HashSet<&str>,
    losses: &mut Losses,
) {
    if result.is_error {
        losses.lose(Feature::ToolError);
    }
    let custom = result.custom || custom.contains(result.id.as_ref());
    items.obj(|item| {
        let kind = if custom {
            "custom_tool_call_output"
        } else {
            "function_call_output"
        };
        item.str("type", kind);
        item.str("call_id", &result.id);
        match &result.parts[..] {
            [] => item.str("output", ""),
            [
                Part {
                    kind: PartKind::Text(text),
                    ..
                },
            ] => item.str("output", text),
            parts => item.list("output", |items| write_parts(items, parts, losses)),
        }
    });
}

/// Every call and thought is an item of its own, in the order they came.
fn write_assistant(items: &mut ListWriter<'_>, message: &Message<'_>, losses: &mut Losses) {
    let mut said: Vec<&str> = Vec::new();
    for part in &message.parts {
        lose_cache(part, losses);
        match &part.kind {
            // An empty message would part a thought from the call it led to.
            PartKind::Text(text) if text.is_empty() && message.parts.len() > 1 => continue,
            PartKind::Text(text) | PartKind::Refusal(text) => {
                said.push(text);
                continue;
            }
            PartKind::Foreign { kind, .. } => tool_schema::lose_content(kind, losses),
            _ => flush(items, &mut said),
        }
        match &part.kind {
            PartKind::Thinking(thinking) => write_thinking(items, thinking, losses),
            PartKind::ToolCall(call) => write_call(items, call),
            PartKind::Image(_)
            | PartKind::File(_)
            | PartKind::Audio { .. }
            | PartKind::ToolResult(_) => {
                losses.lose(Feature::ForeignContent);
            }
            _ => {}
        }
    }
    flush(items, &mut said);
}

fn flush(items: &mut ListWriter<'_>, said: &mut Vec<&str>) {
    if said.is_empty() {
        return;
    }
    items.obj(|item| {
        item.str("type", "message");
        item.str("role", "assistant");
        item.concat("content", said);
    });
    said.clear();
}

fn write_thinking(items: &mut ListWriter<'_>, thinking: &Thinking<'_>, losses: &mut Losses) {
    let Some(Signature::OpenAi { id, encrypted }) = &thinking.signature else {
        return losses.lose(Feature::ForeignThinking);
    };
    items.obj(|item| {
        item.str("type", "reasoning");
        item.str("id", id);
        item.list("summary", |items| {
            if !thinking.text.is_empty() {
                items.obj(|summary| {
                    summary.str("type", "summary_text");
                    summary.str("text", &thinking.text);
                });
            }
        });
        item.str_or_null(
            "encrypted_content",
            Some(encrypted.as_ref()).filter(|text| !text.is_empty()),
        );
    });
}

fn write_call(items: &mut ListWriter<'_>, call: &ToolCall<'_>) {
    items.obj(|item| {
        let kind = if call.custom {
            "custom_tool_call"
        } else {
            "function_call"
        };
        item.str("type", kind);
        item.str("call_id", &call.id);
        item.str("name", &call.name);
        if call.custom {
            item.str("input", call.arguments.as_is());
        } else {
            item.str("arguments", call.arguments.as_text());
        }
    });
}

fn write_tools(fields: &mut ObjectWriter<'_>, request: &NeutralRequest<'_>, losses: &mut Losses) {
    if !tool_schema::any_sent(request, losses) {
        return;
    }
    fields.list("tools", |items| {
        for tool in &request.tools {
            match tool {
                Tool::Function(function) => write_function(items, function, losses),
                Tool::Custom {
                    name,
                    description,
                    format,
                } => items.obj(|item| {
                    item.str("type", "custom");
                    item.str("name", name);
                    item.opt_str("description", description.as_deref());
                    if let Some(format) = format {
                        write_format(item, format);
                    }
                }),
                Tool::BuiltIn { kind } => tool_schema::lose_kind(kind, losses),
            }
        }
    });
    if let Some(choice) = &request.tool_choice {
        write_choice(fields, choice);
    }
    fields.opt_bool("parallel_tool_calls", request.parallel_tools);
}

fn write_function(items: &mut ListWriter<'_>, function: &Function<'_>, losses: &mut Losses) {
    for extra in &function.extras {
        losses.lose_as(Feature::ToolExtras, &format!("tools.{extra}"));
    }
    if function.cache.is_some() {
        losses.lose(Feature::CacheControl);
    }
    items.obj(|item| {
        item.str("type", "function");
        item.str("name", &function.name);
        item.opt_str("description", function.description.as_deref());
        match &function.schema {
            Some(schema) => item.json("parameters", schema),
            None => item.raw("parameters", tool_schema::NO_ARGUMENTS),
        }
        // Responses is strict unless told not to be; the other formats are the other way round.
        item.bool("strict", function.strict.unwrap_or(false));
    });
}

/// Chat has the grammar one level further down.
fn write_format(fields: &mut ObjectWriter<'_>, format: &Json<'_>) {
    match format.get("grammar") {
        Some(grammar) => fields.obj("format", |o| {
            o.str("type", "grammar");
            o.opt_json("syntax", grammar.get("syntax"));
            o.opt_json("definition", grammar.get("definition"));
        }),
        None => fields.json("format", format),
    }
}

fn write_choice(fields: &mut ObjectWriter<'_>, choice: &ToolChoice<'_>) {
    let named = |o: &mut ObjectWriter<'_>, name: &str| {
        o.str("type", "function");
        o.str("name", name);
    };
    match choice {
        ToolChoice::Auto => fields.str("tool_choice", "auto"),
        ToolChoice::None => fields.str("tool_choice", "none"),
        ToolChoice::Required => fields.str("tool_choice", "required"),
        ToolChoice::Named(name) => fields.obj("tool_choice", |o| named(o, name)),
        ToolChoice::Among { names, required } => fields.obj("tool_choice", |o| {
            o.str("type", "allowed_tools");
            o.str("mode", if *required { "required" } else { "auto" });
            o.list("tools", |tools| {
                for name in names {
                    tools.obj(|tool| named(tool, name));
                }
            });
        }),
    }
}

fn write_sampling(
    fields: &mut ObjectWriter<'_>,
    request: &NeutralRequest<'_>,
    model: &str,
    losses: &mut Losses,
) {
    let sampling = &request.sampling;
    let effort = reasoning::openai_effort(request.reasoning, model, losses);
    let show = request.reasoning.is_some_and(|reasoning| {
        matches!(reasoning.mode, ThinkingMode::On | ThinkingMode::Adaptive)
            || reasoning.show == Some(true)
    });
    let thinks = openai_thinking(model) != OpenAiThinking::No;
    if effort.is_some() || (show && thinks) {
        fields.obj("reasoning", |o| {
            o.opt_str("effort", effort);
            o.opt_str("summary", show.then_some("auto"));
        });
    }
    fields.opt_num("max_output_tokens", sampling.max_tokens);
    if reasoning::openai_refuses_sampling(model, effort) {
        lose_default(losses, Feature::Temperature, sampling.temperature.as_ref());
        lose_default(losses, Feature::TopP, sampling.top_p.as_ref());
    } else {
        fields.opt_num("temperature", sampling.temperature.as_ref());
        fields.opt_num("top_p", sampling.top_p.as_ref());
    }
    if sampling.logprobs {
        fields.opt_num("top_logprobs", sampling.top_logprobs);
    }
    lose_chat_sampling(sampling, losses);
}

/// Reports what chat has and responses hasn't.
fn lose_chat_sampling(sampling: &Sampling<'_>, losses: &mut Losses) {
    for (feature, asked) in [
        (Feature::TopK, sampling.top_k.is_some()),
        (Feature::Choices, sampling.choices.is_some()),
        (Feature::Seed, sampling.seed.is_some()),
        (Feature::Stop, !sampling.stop.is_empty()),
        (
            Feature::FrequencyPenalty,
            sampling.frequency_penalty.is_some(),
        ),
        (
            Feature::PresencePenalty,
            sampling.presence_penalty.is_some(),
        ),
        (Feature::LogitBias, sampling.logit_bias.is_some()),
    ] {
        if asked {
            losses.lose(feature);
        }
    }
}

fn write_text(fields: &mut ObjectWriter<'_>, request: &NeutralRequest<'_>) {
    if request.verbosity.is_none() && matches!(request.output, OutputShape::Text) {
        return;
    }
    fields.obj("text", |text| {
        match &request.output {
            OutputShape::Text => {}
            OutputShape::AnyJson => text.obj("format", |o| o.str("type", "json_object")),
            output @ OutputShape::Schema { .. } => text.obj("format", |o| {
                o.str("type", "json_schema");
                write_schema(o, output);
            }),
        }
        text.opt_str("verbosity", request.verbosity.as_deref());
    });
}

/// Without storage the thoughts come back only encrypted, and only models that think have any.
fn write_include(fields: &mut ObjectWriter<'_>, request: &NeutralRequest<'_>, model: &str) {
    let thinks = matches!(openai_thinking(model), OpenAiThinking::Yes { .. });
    if !thinks && !request.sampling.logprobs {
        return;
    }
    fields.list("include", |items| {
        if thinks {
            items.str("reasoning.encrypted_content");
        }
        if request.sampling.logprobs {
            items.str(INCLUDE_LOGPROBS);
        }
    });
}
