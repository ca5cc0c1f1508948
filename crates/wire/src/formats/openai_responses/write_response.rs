//! Writes a plain response, and the parts of it that streams write too.

use bytes::BytesMut;

use crate::formats::openai::write_url_citation;
use crate::translate::emit::{ListWriter, ObjectWriter, object};
use crate::translate::json::Json;
use crate::translate::neutral::{
    Choice, Citation, Finish, Image, MediaSource, NeutralResponse, Part, PartKind, TokenCounts,
    ToolCall,
};
use crate::translate::options::ResponseContext;
use crate::translate::signature::Signature;
use crate::translate::tool_schema;

/// Writes the body of an answer. Of several choices the first one is the response.
pub(crate) fn write_response(
    response: &NeutralResponse<'_>,
    context: &ResponseContext,
    out: &mut BytesMut,
) {
    let head = ResponseHead {
        id: context.answer_id("resp_", response.id.as_deref()),
        created: response.created.unwrap_or(context.now),
        model: response
            .model
            .as_deref()
            .unwrap_or(&context.model)
            .to_owned(),
        tier: response.tier.as_deref().map(str::to_owned),
    };
    let choice = response.choices.first();
    let refusal = choice.is_some_and(|choice| {
        let mut parts = choice.parts.iter();
        parts.any(|part| matches!(part.kind, PartKind::Refusal(_)))
    });
    let finish = choice.map_or(&Finish::Stop, |choice| {
        response_finish(&choice.finish, refusal)
    });
    object(out, |fields| {
        head.write(fields, Some(finish), context);
        fields.list("output", |items| {
            if let Some(choice) = choice {
                write_output(items, choice, &head, context);
            }
        });
        write_usage(fields, response.usage);
    });
}

/// The fields that every snapshot of a response begins with.
#[derive(Debug, Default)]
pub(super) struct ResponseHead {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) tier: Option<String>,
}

impl ResponseHead {
    /// Writes everything but output and usage; without a finish the response is in progress.
    pub(super) fn write(
        &self,
        fields: &mut ObjectWriter<'_>,
        finish: Option<&Finish<'_>>,
        context: &ResponseContext,
    ) {
        fields.str("id", &self.id);
        fields.str("object", "response");
        fields.num("created_at", self.created);
        let reason = finish.and_then(incomplete_reason);
        fields.str(
            "status",
            match (finish, reason) {
                (None, _) => "in_progress",
                (Some(_), None) => "completed",
                (Some(_), Some(_)) => "incomplete",
            },
        );
        fields.null("error");
        match reason {
            Some(reason) => fields.obj("incomplete_details", |o| o.str("reason", reason)),
            None => fields.null("incomplete_details"),
        }
        fields.str("model", &self.model);
        let tier = self
            .tier
            .as_deref()
            .map(|tier| if tier == "standard" { "default" } else { tier });
        fields.opt_str("service_tier", tier);
        fields.raw_fields(&context.echo);
    }

    /// An id for an item, unique within the conversation.
    pub(super) fn item_id(&self, prefix: &str, number: usize) -> String {
        let own = self.id.strip_prefix("resp_").unwrap_or(&self.id);
        format!("{prefix}_{own}_{number}")
    }
}

/// The finish as a response has it: a refusal without a refusal's words is a filtered answer.
pub(super) const fn response_finish<'f, 'a>(finish: &'f Finish<'a>, words: bool) -> &'f Finish<'a> {
    match finish {
        Finish::Refusal if !words => &Finish::Filtered,
        finish => finish,
    }
}

/// The reason that a response is incomplete, if it is.
pub(super) const fn incomplete_reason(finish: &Finish<'_>) -> Option<&'static str> {
    match finish {
        Finish::Length | Finish::Context => Some("max_output_tokens"),
        Finish::Filtered => Some("content_filter"),
        _ => None,
    }
}

/// Writes token counts, or null.
pub(super) fn write_usage(fields: &mut ObjectWriter<'_>, usage: Option<TokenCounts>) {
    let Some(usage) = usage else {
        return fields.null("usage");
    };
    fields.obj("usage", |fields| {
        fields.num("input_tokens", usage.input);
        fields.obj("input_tokens_details", |details| {
            details.num("cached_tokens", usage.cached);
            details.num("cache_write_tokens", usage.cache_write);
        });
        fields.num("output_tokens", usage.output);
        fields.obj("output_tokens_details", |details| {
            details.num("reasoning_tokens", usage.reasoning);
        });
        fields.num("total_tokens", usage.total());
    });
}

fn write_output(
    items: &mut ListWriter<'_>,
    choice: &Choice<'_>,
    head: &ResponseHead,
    context: &ResponseContext,
) {
    let mut citations = choice.citations.as_slice();
    let mut tokens = choice.logprobs.as_ref().map(tokens_of).unwrap_or_default();
    let mut parts = choice.parts.as_slice();
    let mut number = 0;
    while let Some((part, rest)) = parts.split_first() {
        let said = parts.iter().take_while(|part| is_said(part)).count();
        if said > 0 {
            let (spoken, rest) = parts.split_at(said);
            let cited = std::mem::take(&mut citations);
            let tokens = std::mem::take(&mut tokens);
            let id = head.item_id("msg", number);
            items.obj(|item| write_message(item, &id, spoken, cited, &tokens));
            parts = rest;
        } else {
            write_item(items, part, head, number, context);
            parts = rest;
        }
        number += 1;
    }
}

const fn is_said(part: &Part<'_>) -> bool {
    matches!(part.kind, PartKind::Text(_) | PartKind::Refusal(_))
}

/// The items of the list of probabilities of a chat's choice, written out.
fn tokens_of(logprobs: &Json<'_>) -> String {
    let list = logprobs
        .get("content")
        .map(Json::to_text)
        .unwrap_or_default();
    let items = list
        .strip_prefix('[')
        .and_then(|list| list.strip_suffix(']'));
    items.unwrap_or_default().to_owned()
}

fn write_message(
    item: &mut ObjectWriter<'_>,
    id: &str,
    parts: &[Part<'_>],
    citations: &[Citation<'_>],
    tokens: &str,
) {
    let mut citations = citations;
    let mut tokens = tokens;
    item.str("type", "message");
    item.str("id", id);
    item.str("status", "completed");
    item.str("role", "assistant");
    item.list("content", |items| {
        for part in parts {
            items.obj(|content| match &part.kind {
                PartKind::Refusal(text) => write_refusal(content, text),
                PartKind::Text(text) => {
                    let cited = std::mem::take(&mut citations);
                    write_text(content, text, cited, std::mem::take(&mut tokens));
                }
                _ => {}
            });
        }
    });
}

/// The fields of a text part.
///
/// `tokens` are the items of the list of probabilities, written out.
pub(super) fn write_text(
    content: &mut ObjectWriter<'_>,
    text: &str,
    citations: &[Citation<'_>],
    tokens: &str,
) {
    content.str("type", "output_text");
    content.list("annotations", |items| {
        for citation in citations {
            items.obj(|item| write_annotation(item, citation));
        }
    });
    content.list("logprobs", |items| {
        if !tokens.is_empty() {
            items.raw(tokens);
        }
    });
    content.str("text", text);
}

/// The fields of an annotation.
pub(super) fn write_annotation(item: &mut ObjectWriter<'_>, citation: &Citation<'_>) {
    item.str("type", "url_citation");
    write_url_citation(item, citation);
}

/// The fields of a refusal part.
pub(super) fn write_refusal(content: &mut ObjectWriter<'_>, text: &str) {
    content.str("type", "refusal");
    content.str("refusal", text);
}

fn write_item(
    items: &mut ListWriter<'_>,
    part: &Part<'_>,
    head: &ResponseHead,
    number: usize,
    context: &ResponseContext,
) {
    match &part.kind {
        PartKind::Thinking(thinking) => items.obj(|item| {
            let id = reasoning_id(thinking.signature.as_ref(), head, number);
            write_reasoning(item, &id, &thinking.text, thinking.signature.as_ref());
        }),
        PartKind::ToolCall(call) => items.obj(|item| write_call(item, call, head, number, context)),
        PartKind::Image(Image {
            source: MediaSource::Base64 { data, .. },
            ..
        }) => items.obj(|item| write_image(item, &head.item_id("ig", number), data)),
        _ => {}
    }
}

/// The fields of a generated image.
pub(super) fn write_image(item: &mut ObjectWriter<'_>, id: &str, data: &str) {
    item.str("type", "image_generation_call");
    item.str("id", id);
    item.str("status", "completed");
    item.str("result", data);
}

/// OpenAI's own id where there is one.
pub(super) fn reasoning_id(
    signature: Option<&Signature<'_>>,
    head: &ResponseHead,
    number: usize,
) -> String {
    match signature {
        Some(Signature::OpenAi { id, .. }) if !id.is_empty() => id.to_string(),
        _ => head.item_id("rs", number),
    }
}

/// The fields of a whole reasoning item.
pub(super) fn write_reasoning(
    item: &mut ObjectWriter<'_>,
    id: &str,
    text: &str,
    signature: Option<&Signature<'_>>,
) {
    item.str("type", "reasoning");
    item.str("id", id);
    item.list("summary", |items| {
        if !text.is_empty() {
            items.obj(|summary| {
                summary.str("type", "summary_text");
                summary.str("text", text);
            });
        }
    });
    item.opt_str(
        "encrypted_content",
        signature.map(Signature::to_item).as_deref(),
    );
    item.str("status", "completed");
}

fn write_call(
    item: &mut ObjectWriter<'_>,
    call: &ToolCall<'_>,
    head: &ResponseHead,
    number: usize,
    context: &ResponseContext,
) {
    let name = context.client_name(&call.name);
    let custom = context.is_custom(name);
    let id = head.item_id(call_prefix(custom), number);
    let text = call.arguments.as_text();
    let text = if custom {
        &tool_schema::unwrap(text)
    } else {
        text
    };
    write_called(item, &id, &call.id, name, text, custom, "completed");
}

/// The prefix of calls' ids.
pub(super) const fn call_prefix(custom: bool) -> &'static str {
    if custom { "ctc" } else { "fc" }
}

/// The fields of a call.
pub(super) fn write_called(
    item: &mut ObjectWriter<'_>,
    id: &str,
    call_id: &str,
    name: &str,
    text: &str,
    custom: bool,
    status: &str,
) {
    item.str(
        "type",
        if custom {
            "custom_tool_call"
        } else {
            "function_call"
        },
    );
    item.str("id", id);
    item.str("status", status);
    item.str(if custom { "input" } else { "arguments" }, text);
    item.str("call_id", call_id);
    item.str("name", name);
}
