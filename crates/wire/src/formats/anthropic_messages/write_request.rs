//! Writes a messages request.

use std::collections::HashSet;

use bytes::BytesMut;
use serde_json::Number;

use super::thinking::{self, Situation, ThinkingField, ThinkingPlan};
use crate::translate::capability::{Claude, claude};
use crate::translate::data_url;
use crate::translate::emit::{ListWriter, ObjectWriter, object};
use crate::translate::extra;
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{
    Extra, File, Image, MediaSource, NeutralRequest, OutputShape, Part, PartKind, Sampling,
    Thinking, Tier, ToolCall, ToolChoice, ToolResult, is_one,
};
use crate::translate::options::RequestOptions;
use crate::translate::policy::{Feature, Losses};
use crate::translate::signature::Signature;
use crate::translate::tool_schema::{self, SentTool};
use crate::translate::turns::{Turn, Turns, is_blank, turns};

/// Stands in for the user's first turn where the client begins with the assistant: the API wants
/// the user to speak first.
const OPENING: &str = "…";

/// Writes the body of `POST /v1/messages`.
pub(crate) fn write_request(
    request: &NeutralRequest<'_>,
    model: &str,
    options: &RequestOptions,
    losses: &mut Losses,
    out: &mut BytesMut,
) {
    let knows = claude(model);
    let max_tokens = request
        .sampling
        .max_tokens
        .or(options.default_max_tokens)
        .unwrap_or(knows.max_tokens)
        .min(options.max_output.unwrap_or(u64::MAX));
    let talk = turns(&request.messages, is_written);
    for part in &talk.skipped {
        lose_part(part, losses);
    }
    let plan = plan(request, knows, max_tokens, &talk, losses);
    object(out, |fields| {
        fields.str("model", model);
        fields.num("max_tokens", max_tokens);
        write_talk(fields, &talk, losses);
        if request.stream {
            fields.bool("stream", true);
        }
        write_tools(fields, request, knows, losses);
        write_plan(fields, plan, &request.output, losses);
        write_sampling(fields, &request.sampling, knows, plan, losses);
        if let Some(user) = &request.user {
            fields.obj("metadata", |metadata| metadata.str("user_id", user));
        }
        match request.tier {
            Some(Tier::Auto) => fields.str("service_tier", "auto"),
            Some(Tier::Standard) => fields.str("service_tier", "standard_only"),
            Some(Tier::Flex | Tier::Priority) => losses.lose(Feature::ServiceTier),
            None => {}
        }
        if request.verbosity.is_some() {
            losses.lose(Feature::Verbosity);
        }
        fields.opt_json("cache_control", request.cache.as_ref());
        extra::write(fields, &request.extras, losses, takes);
    });
}

/// Returns true if anything of a part is written.
fn is_written(part: &Part<'_>) -> bool {
    match part.kind {
        PartKind::Thinking(_) => own_thought(part).is_some(),
        PartKind::Audio { .. } | PartKind::Foreign { .. } => false,
        _ => !is_blank(part),
    }
}

/// Reports a part that can't be written.
fn lose_part(part: &Part<'_>, losses: &mut Losses) {
    match &part.kind {
        PartKind::Thinking(_) => losses.lose(Feature::ForeignThinking),
        PartKind::Audio { .. } => losses.lose(Feature::Audio),
        PartKind::Foreign { kind, .. } => tool_schema::lose_content(kind, losses),
        _ => {}
    }
}

/// Anthropic's own fields, which clients of other formats add to their requests: only in its shape,
/// for OpenAI names fields alike (`anthropic` types of beta messages).
fn takes(extra: &Extra<'_>) -> bool {
    let value = &extra.value;
    match extra.name.as_ref() {
        "container" => match value {
            Json::Object(Object(fields)) => {
                let known = |name: &str| matches!(name, "id" | "skills");
                fields.iter().all(|(name, _)| known(name))
            }
            _ => value.as_str().is_some(),
        },
        "context_management" => value.get("edits").and_then(Json::as_array).is_some(),
        "inference_geo" => value.as_str().is_some(),
        "mcp_servers" => value
            .as_array()
            .is_some_and(|all| all.iter().all(|server| server.str("type") == Some("url"))),
        "speed" => matches!(value.as_str(), Some("standard" | "fast")),
        _ => false,
    }
}

fn plan(
    request: &NeutralRequest<'_>,
    model: Claude,
    max_tokens: u64,
    talk: &Turns<'_, '_>,
    losses: &mut Losses,
) -> ThinkingPlan {
    let situation = Situation {
        model,
        max_tokens,
        forced_tool: matches!(
            request.tool_choice,
            Some(
                ToolChoice::Required
                    | ToolChoice::Named(_)
                    | ToolChoice::Among { required: true, .. }
            )
        ),
        unsigned_calls: has_unsigned_calls(&talk.turns),
    };
    thinking::plan(request.reasoning, situation, losses)
}

/// Returns true if the conversation ends in results of calls that no thought of Anthropic's
/// precedes.
fn has_unsigned_calls(turns: &[Turn<'_, '_>]) -> bool {
    let [.., calls, results] = turns else {
        return false;
    };
    let answered =
        matches!(results.parts.first(), Some(part) if matches!(part.kind, PartKind::ToolResult(_)));
    let first = calls
        .parts
        .iter()
        .find(|part| matches!(part.kind, PartKind::ToolCall(_)) || own_thought(part).is_some());
    answered && matches!(first, Some(part) if matches!(part.kind, PartKind::ToolCall(_)))
}

/// A thought that Anthropic signed.
fn own_thought<'p, 'a>(part: &'p Part<'a>) -> Option<&'p Thinking<'a>> {
    match &part.kind {
        PartKind::Thinking(thinking)
            if matches!(
                thinking.signature,
                Some(Signature::Anthropic(_) | Signature::Redacted(_))
            ) =>
        {
            Some(thinking)
        }
        _ => None,
    }
}

fn write_talk(fields: &mut ObjectWriter<'_>, talk: &Turns<'_, '_>, losses: &mut Losses) {
    let instructions: Vec<&Part<'_>> = talk
        .instructions
        .iter()
        .copied()
        .filter(|part| !is_blank(part))
        .collect();
    if talk.turns.is_empty() {
        // Instructions alone are what the client says.
        fields.list("messages", |items| {
            items.obj(|item| write_turn(item, "user", &instructions, losses));
        });
        return;
    }
    write_system(fields, &instructions, losses);
    fields.list("messages", |items| {
        if talk.turns.first().is_some_and(|turn| turn.assistant) {
            items.obj(|item| {
                item.str("role", "user");
                item.str("content", OPENING);
            });
        }
        for turn in &talk.turns {
            if turn.named {
                losses.lose(Feature::Name);
            }
            let role = if turn.assistant { "assistant" } else { "user" };
            items.obj(|item| write_turn(item, role, &turn.parts, losses));
        }
    });
}

fn write_system(fields: &mut ObjectWriter<'_>, parts: &[&Part<'_>], losses: &mut Losses) {
    match parts {
        [] => {}
        [one] if plain_text(one).is_some() => fields.opt_str("system", plain_text(one)),
        _ => fields.list("system", |items| {
            for part in parts {
                match &part.kind {
                    PartKind::Text(_) => write_part(items, part, losses),
                    _ => losses.lose(Feature::ForeignContent),
                }
            }
        }),
    }
}

fn write_turn(item: &mut ObjectWriter<'_>, role: &str, parts: &[&Part<'_>], losses: &mut Losses) {
    item.str("role", role);
    match parts {
        [one] if plain_text(one).is_some() => item.opt_str("content", plain_text(one)),
        _ => item.list("content", |items| {
            for part in parts.iter().filter(|part| !is_blank(part)) {
                write_part(items, part, losses);
            }
        }),
    }
}

/// The text of a part that is nothing else.
fn plain_text<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    match &part.kind {
        PartKind::Text(text) if part.cache.is_none() => Some(text),
        _ => None,
    }
}

fn write_part(items: &mut ListWriter<'_>, part: &Part<'_>, losses: &mut Losses) {
    let cache = |item: &mut ObjectWriter<'_>| item.opt_json("cache_control", part.cache.as_ref());
    match &part.kind {
        PartKind::Text(text) | PartKind::Refusal(text) => items.obj(|item| {
            item.str("type", "text");
            item.str("text", text);
            cache(item);
        }),
        PartKind::Image(image) => write_image(items, image, cache, losses),
        PartKind::File(file) => write_file(items, file, cache, losses),
        PartKind::Thinking(thinking) if own_thought(part).is_some() => {
            write_thinking(items, thinking)
        }
        PartKind::ToolCall(call) => write_call(items, call, cache),
        PartKind::ToolResult(result) => write_result(items, result, cache, losses),
        PartKind::Thinking(_) | PartKind::Audio { .. } | PartKind::Foreign { .. } => {
            lose_part(part, losses)
        }
    }
}

fn write_thinking(items: &mut ListWriter<'_>, thinking: &Thinking<'_>) {
    items.obj(|item| match &thinking.signature {
        Some(Signature::Redacted(data)) => {
            item.str("type", "redacted_thinking");
            item.str("data", data);
        }
        signature => {
            item.str("type", "thinking");
            item.str("thinking", &thinking.text);
            item.opt_str(
                "signature",
                signature.as_ref().map(Signature::to_block).as_deref(),
            );
        }
    });
}

fn write_image(
    items: &mut ListWriter<'_>,
    image: &Image<'_>,
    cache: impl Fn(&mut ObjectWriter<'_>),
    losses: &mut Losses,
) {
    if image.detail.is_some() {
        losses.lose(Feature::ImageDetail);
    }
    if matches!(image.source, MediaSource::Id(_)) {
        return losses.lose(Feature::FileId);
    }
    items.obj(|item| {
        item.str("type", "image");
        item.obj("source", |source| write_source(source, &image.source));
        cache(item);
    });
}

fn write_source(fields: &mut ObjectWriter<'_>, source: &MediaSource<'_>) {
    match source {
        MediaSource::Base64 { media_type, data } => {
            fields.str("type", "base64");
            fields.str("media_type", media_type);
            fields.str("data", data);
        }
        MediaSource::Url(url) => {
            fields.str("type", "url");
            fields.str("url", url);
        }
        MediaSource::Id(id) => {
            fields.str("type", "file");
            fields.str("file_id", id);
        }
        MediaSource::Text(text) => {
            fields.str("type", "text");
            fields.str("media_type", "text/plain");
            fields.str("data", text);
        }
    }
}

fn write_file(
    items: &mut ListWriter<'_>,
    file: &File<'_>,
    cache: impl Fn(&mut ObjectWriter<'_>),
    losses: &mut Losses,
) {
    let decoded;
    let source = match &file.source {
        MediaSource::Id(_) => return losses.lose(Feature::FileId),
        MediaSource::Base64 { media_type, data } if media_type != "application/pdf" => {
            match data_url::text_content(media_type, data) {
                Some(text) => {
                    decoded = MediaSource::Text(text.into());
                    &decoded
                }
                None => return losses.lose(Feature::Files),
            }
        }
        source => source,
    };
    items.obj(|item| {
        item.str("type", "document");
        item.obj("source", |fields| write_source(fields, source));
        item.opt_str("title", file.name.as_deref());
        cache(item);
    });
}

fn write_call(
    items: &mut ListWriter<'_>,
    call: &ToolCall<'_>,
    cache: impl Fn(&mut ObjectWriter<'_>),
) {
    items.obj(|item| {
        item.str("type", "tool_use");
        item.str("id", &call.id);
        item.str("name", &call.name);
        if call.custom {
            item.raw("input", &tool_schema::wrap(call.arguments.as_is()));
        } else {
            item.raw("input", &call.arguments.as_object());
        }
        cache(item);
    });
}

fn write_result(
    items: &mut ListWriter<'_>,
    result: &ToolResult<'_>,
    cache: impl Fn(&mut ObjectWriter<'_>),
    losses: &mut Losses,
) {
    items.obj(|item| {
        item.str("type", "tool_result");
        item.str("tool_use_id", &result.id);
        match &result.parts[..] {
            [] => {}
            [one] if plain_text(one).is_some() => item.opt_str("content", plain_text(one)),
            parts => item.list("content", |items| {
                for part in parts.iter().filter(|part| !is_blank(part)) {
                    write_part(items, part, losses);
                }
            }),
        }
        if result.is_error {
            item.bool("is_error", true);
        }
        cache(item);
    });
}

fn write_tools(
    fields: &mut ObjectWriter<'_>,
    request: &NeutralRequest<'_>,
    model: Claude,
    losses: &mut Losses,
) {
    if !tool_schema::any_sent(request, losses) {
        return;
    }
    let among = match &request.tool_choice {
        Some(ToolChoice::Among { names, .. }) => {
            Some(names.iter().map(AsRef::as_ref).collect::<HashSet<&str>>())
        }
        _ => None,
    };
    fields.list("tools", |items| {
        for sent in request
            .tools
            .iter()
            .filter_map(|tool| SentTool::of(tool, losses))
            .collect::<Vec<_>>()
        {
            if among.as_ref().is_none_or(|names| names.contains(sent.name)) {
                write_tool(items, &sent, model, losses);
            }
        }
    });
    write_choice(fields, request);
}

fn write_tool(items: &mut ListWriter<'_>, sent: &SentTool<'_>, model: Claude, losses: &mut Losses) {
    items.obj(|item| {
        item.str("name", sent.name);
        item.opt_str("description", sent.description.as_deref());
        let schema = sent.schema.as_deref().unwrap_or(tool_schema::NO_ARGUMENTS);
        item.raw("input_schema", schema);
        if sent.strict == Some(true) {
            if model.structured {
                item.bool("strict", true);
            } else {
                losses.lose(Feature::ToolStrict);
            }
        }
        item.opt_json("cache_control", sent.cache);
    });
}

fn write_choice(fields: &mut ObjectWriter<'_>, request: &NeutralRequest<'_>) {
    let single = request.parallel_tools == Some(false);
    let (kind, name) = match &request.tool_choice {
        None if single => ("auto", None),
        None => return,
        Some(
            ToolChoice::Auto
            | ToolChoice::Among {
                required: false, ..
            },
        ) => ("auto", None),
        Some(ToolChoice::Required | ToolChoice::Among { required: true, .. }) => ("any", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name)),
    };
    fields.obj("tool_choice", |choice| {
        choice.str("type", kind);
        if let Some(name) = name {
            choice.str("name", name);
        }
        if single && kind != "none" {
            choice.bool("disable_parallel_tool_use", true);
        }
    });
}

fn write_plan(
    fields: &mut ObjectWriter<'_>,
    plan: ThinkingPlan,
    output: &OutputShape<'_>,
    losses: &mut Losses,
) {
    match plan.thinking {
        ThinkingField::Unset => {}
        ThinkingField::Adaptive { display } => fields.obj("thinking", |thinking| {
            thinking.str("type", "adaptive");
            thinking.opt_str("display", display.then_some("summarized"));
        }),
        ThinkingField::Budget(budget) => fields.obj("thinking", |thinking| {
            thinking.str("type", "enabled");
            thinking.num("budget_tokens", budget);
        }),
    }
    let schema = match output {
        OutputShape::Schema { schema, .. } => Some(schema),
        OutputShape::AnyJson => {
            losses.lose(Feature::JsonObject);
            None
        }
        OutputShape::Text => None,
    };
    if schema.is_none() && plan.effort.is_none() {
        return;
    }
    fields.obj("output_config", |config| {
        config.opt_str("effort", plan.effort);
        if let Some(schema) = schema {
            config.obj("format", |format| {
                format.str("type", "json_schema");
                format.json("schema", schema);
            });
        }
    });
}

/// Thinking leaves only `top_p` from 0.95 (docs.claude.com, "Extended thinking"); the newest models
/// take none of the three.
fn write_sampling(
    fields: &mut ObjectWriter<'_>,
    sampling: &Sampling<'_>,
    model: Claude,
    plan: ThinkingPlan,
    losses: &mut Losses,
) {
    let thinks = plan.thinking != ThinkingField::Unset;
    let free = model.sampling && !thinks;
    let temperature = sampling.temperature.as_ref();
    match temperature.and_then(Number::as_f64) {
        Some(value) if value > 1.0 && free => {
            losses.lose(Feature::Temperature);
            fields.num("temperature", 1);
        }
        Some(_) if free => fields.opt_num("temperature", temperature),
        _ if temperature.is_some_and(|value| !is_one(value)) => losses.lose(Feature::Temperature),
        _ => {}
    }
    if let Some(top_p) = &sampling.top_p {
        let alone = model.both || temperature.is_none();
        let whole = top_p.as_f64().is_some_and(|top_p| top_p >= 0.95);
        if model.sampling && alone && (free || whole) {
            fields.num("top_p", top_p);
        } else if !whole {
            losses.lose(Feature::TopP);
        }
    }
    match sampling.top_k {
        Some(top_k) if free => fields.num("top_k", top_k),
        Some(_) => losses.lose(Feature::TopK),
        None => {}
    }
    if !sampling.stop.is_empty() {
        fields.strings("stop_sequences", &sampling.stop);
    }
    lose_openai_sampling(sampling, losses);
}

/// Reports what only OpenAI and Gemini have.
fn lose_openai_sampling(sampling: &Sampling<'_>, losses: &mut Losses) {
    for (feature, asked) in [
        (Feature::Choices, sampling.choices.is_some()),
        (Feature::Seed, sampling.seed.is_some()),
        (
            Feature::FrequencyPenalty,
            not_zero(sampling.frequency_penalty.as_ref()),
        ),
        (
            Feature::PresencePenalty,
            not_zero(sampling.presence_penalty.as_ref()),
        ),
        (Feature::LogitBias, sampling.logit_bias.is_some()),
        (Feature::Logprobs, sampling.logprobs),
    ] {
        if asked {
            losses.lose(feature);
        }
    }
}

/// A penalty of zero is none.
fn not_zero(penalty: Option<&Number>) -> bool {
    penalty
        .and_then(Number::as_f64)
        .is_some_and(|penalty| penalty != 0.0)
}
