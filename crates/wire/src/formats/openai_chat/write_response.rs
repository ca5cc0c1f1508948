//! Writes a plain chat completion.

use bytes::BytesMut;

use crate::formats::openai::write_url_citation;
use crate::translate::emit::{ListWriter, ObjectWriter, object};
use crate::translate::neutral::{
    Choice, Finish, Image, MediaSource, NeutralResponse, Part, PartKind, Thinking, TokenCounts,
    ToolCall,
};
use crate::translate::options::ResponseContext;
use crate::translate::signature::Signature;
use crate::translate::tool_schema;

/// Writes the body of an answer.
pub(crate) fn write_response(
    response: &NeutralResponse<'_>,
    context: &ResponseContext,
    out: &mut BytesMut,
) {
    object(out, |fields| {
        fields.str(
            "id",
            &context.answer_id("chatcmpl-", response.id.as_deref()),
        );
        fields.str("object", "chat.completion");
        fields.num("created", response.created.unwrap_or(context.now));
        fields.str("model", response.model.as_deref().unwrap_or(&context.model));
        fields.list("choices", |items| {
            for choice in &response.choices {
                items.obj(|item| write_choice(item, choice, context));
            }
        });
        if let Some(usage) = response.usage {
            fields.obj("usage", |fields| write_usage(fields, usage));
        }
        fields.opt_str("service_tier", response.tier.as_deref().map(tier_name));
    });
}

/// OpenAI's name of a tier.
pub(super) fn tier_name(tier: &str) -> &str {
    if tier == "standard" { "default" } else { tier }
}

/// Writes token counts.
pub(super) fn write_usage(fields: &mut ObjectWriter<'_>, usage: TokenCounts) {
    fields.num("prompt_tokens", usage.input);
    fields.num("completion_tokens", usage.output);
    fields.num("total_tokens", usage.total());
    fields.obj("prompt_tokens_details", |details| {
        details.num("cached_tokens", usage.cached);
        if usage.cache_write > 0 {
            details.num("cache_write_tokens", usage.cache_write);
        }
    });
    fields.obj("completion_tokens_details", |details| {
        details.num("reasoning_tokens", usage.reasoning);
    });
}

/// The name of a finish reason (table of WIRE, "finish").
pub(super) const fn finish_reason(finish: &Finish<'_>) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::Pause => "stop",
        Finish::Length | Finish::Context => "length",
        Finish::Tools => "tool_calls",
        Finish::Filtered | Finish::Refusal => "content_filter",
    }
}

fn write_choice(item: &mut ObjectWriter<'_>, choice: &Choice<'_>, context: &ResponseContext) {
    item.num("index", choice.index);
    item.obj("message", |message| write_message(message, choice, context));
    item.opt_json("logprobs", choice.logprobs.as_ref());
    item.str("finish_reason", finish_of(choice));
}

/// OpenAI's own refusals end in `stop` and say so in the message.
fn finish_of(choice: &Choice<'_>) -> &'static str {
    let says_so = choice
        .parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::Refusal(_)));
    match choice.finish {
        Finish::Refusal if says_so => "stop",
        ref finish => finish_reason(finish),
    }
}

fn write_message(message: &mut ObjectWriter<'_>, choice: &Choice<'_>, context: &ResponseContext) {
    message.str("role", "assistant");
    let texts: Vec<&str> = choice.parts.iter().filter_map(text_of).collect();
    if texts.is_empty() {
        message.null("content");
    } else {
        message.concat("content", &texts);
    }
    message.str_or_null("refusal", choice.parts.iter().find_map(refusal_of));
    write_thoughts(message, &choice.parts);
    if !choice.citations.is_empty() {
        message.list("annotations", |items| {
            for citation in &choice.citations {
                items.obj(|item| {
                    item.str("type", "url_citation");
                    item.obj("url_citation", |fields| {
                        write_url_citation(fields, citation)
                    });
                });
            }
        });
    }
    let images: Vec<_> = choice.parts.iter().filter_map(image_of).collect();
    if !images.is_empty() {
        message.list("images", |items| {
            for (media_type, data) in images {
                items.obj(|item| write_image(item, media_type, data));
            }
        });
    }
    let calls: Vec<_> = choice.parts.iter().filter_map(call_of).collect();
    if !calls.is_empty() {
        message.list("tool_calls", |items| {
            for call in calls {
                write_call(items, call, context);
            }
        });
    }
}

fn write_thoughts(message: &mut ObjectWriter<'_>, parts: &[Part<'_>]) {
    let thoughts: Vec<&Thinking<'_>> = parts.iter().filter_map(thinking_of).collect();
    if thoughts.is_empty() {
        return;
    }
    let texts: Vec<&str> = thoughts
        .iter()
        .map(|thinking| thinking.text.as_ref())
        .collect();
    message.concat("reasoning_content", &texts);
    message.list("thinking_blocks", |items| {
        for thinking in thoughts {
            items.obj(|item| {
                write_thinking(item, &thinking.text, thinking.signature.as_ref());
            });
        }
    });
}

/// The fields of an entry of `thinking_blocks`.
pub(super) fn write_thinking(
    item: &mut ObjectWriter<'_>,
    text: &str,
    signature: Option<&Signature<'_>>,
) {
    if let Some(Signature::Redacted(data)) = signature {
        item.str("type", "redacted_thinking");
        item.str("data", data);
        return;
    }
    item.str("type", "thinking");
    item.str("thinking", text);
    item.opt_str("signature", signature.map(Signature::to_block).as_deref());
}

/// The fields of an entry of `images`, as OpenRouter has them: OpenAI's chat has no images.
pub(super) fn write_image(item: &mut ObjectWriter<'_>, media_type: &str, data: &str) {
    item.str("type", "image_url");
    item.obj("image_url", |image| image.data_url("url", media_type, data));
}

fn write_call(items: &mut ListWriter<'_>, call: &ToolCall<'_>, context: &ResponseContext) {
    items.obj(|item| {
        item.str("id", &call.id);
        let name = context.client_name(&call.name);
        if context.is_custom(name) {
            item.str("type", "custom");
            item.obj("custom", |custom| {
                custom.str("name", name);
                custom.str("input", &tool_schema::unwrap(call.arguments.as_text()));
            });
        } else {
            item.str("type", "function");
            item.obj("function", |function| {
                function.str("name", name);
                function.str("arguments", call.arguments.as_text());
            });
        }
        if let Some(signature) = &call.signature {
            write_google_signature(item, signature);
        }
    });
}

/// Gemini's signature of a call, as Google's own OpenAI endpoint spells it.
pub(super) fn write_google_signature(item: &mut ObjectWriter<'_>, signature: &str) {
    item.obj("extra_content", |extra| {
        extra.obj("google", |google| {
            google.str("thought_signature", signature)
        });
    });
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

const fn thinking_of<'p, 'a>(part: &'p Part<'a>) -> Option<&'p Thinking<'a>> {
    match &part.kind {
        PartKind::Thinking(thinking) => Some(thinking),
        _ => None,
    }
}

const fn call_of<'p, 'a>(part: &'p Part<'a>) -> Option<&'p ToolCall<'a>> {
    match &part.kind {
        PartKind::ToolCall(call) => Some(call),
        _ => None,
    }
}

fn image_of<'p>(part: &'p Part<'_>) -> Option<(&'p str, &'p str)> {
    match &part.kind {
        PartKind::Image(Image {
            source: MediaSource::Base64 { media_type, data },
            ..
        }) => Some((media_type, data)),
        _ => None,
    }
}
