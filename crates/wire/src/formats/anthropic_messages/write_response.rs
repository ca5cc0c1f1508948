//! Writes a plain message.

use bytes::BytesMut;

use super::citation;
use crate::translate::emit::{ListWriter, ObjectWriter, object};
use crate::translate::neutral::{
    Choice, Citation, Finish, NeutralResponse, Part, PartKind, Thinking, TokenCounts, ToolCall,
};
use crate::translate::options::ResponseContext;
use crate::translate::signature::Signature;

/// Writes the body of an answer. Of several choices the first one is the message.
pub(crate) fn write_response(
    response: &NeutralResponse<'_>,
    context: &ResponseContext,
    out: &mut BytesMut,
) {
    let choice = response.choices.first();
    object(out, |fields| {
        fields.str("id", &context.answer_id("msg_", response.id.as_deref()));
        fields.str("type", "message");
        fields.str("role", "assistant");
        fields.str("model", response.model.as_deref().unwrap_or(&context.model));
        fields.list("content", |items| {
            if let Some(choice) = choice {
                write_content(items, choice, context);
            }
        });
        let finish = choice.map_or(&Finish::Stop, |choice| &choice.finish);
        write_stop(fields, finish);
        fields.obj("usage", |fields| {
            write_usage(fields, response.usage.unwrap_or_default())
        });
    });
}

/// Writes `stop_reason` and `stop_sequence`.
pub(super) fn write_stop(fields: &mut ObjectWriter<'_>, finish: &Finish<'_>) {
    fields.str("stop_reason", stop_reason(finish));
    match finish {
        Finish::StopSequence(Some(text)) => fields.str("stop_sequence", text),
        _ => fields.null("stop_sequence"),
    }
}

/// The name of a stop reason. Without its text, a stop sequence is an end like any other.
pub(crate) const fn stop_reason(finish: &Finish<'_>) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(None) => "end_turn",
        Finish::StopSequence(Some(_)) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::Context => "model_context_window_exceeded",
        Finish::Tools => "tool_use",
        Finish::Filtered | Finish::Refusal => "refusal",
        Finish::Pause => "pause_turn",
    }
}

/// Writes token counts; input is split as Anthropic does it.
pub(crate) fn write_usage(fields: &mut ObjectWriter<'_>, usage: TokenCounts) {
    fields.num("input_tokens", usage.uncached_input());
    fields.num("cache_creation_input_tokens", usage.cache_write);
    fields.num("cache_read_input_tokens", usage.cached);
    fields.num("output_tokens", usage.output);
    if usage.reasoning > 0 {
        fields.obj("output_tokens_details", |details| {
            details.num("thinking_tokens", usage.reasoning);
        });
    }
}

fn write_content(items: &mut ListWriter<'_>, choice: &Choice<'_>, context: &ResponseContext) {
    let mut citations = choice.citations.as_slice();
    for Part { kind, .. } in &choice.parts {
        match kind {
            PartKind::Text(text) | PartKind::Refusal(text) => items.obj(|item| {
                item.str("type", "text");
                item.str("text", text);
                write_citations(item, std::mem::take(&mut citations));
            }),
            PartKind::Thinking(thinking) => items.obj(|item| write_thinking(item, thinking)),
            PartKind::ToolCall(call) => items.obj(|item| write_call(item, call, context)),
            // Messages of the assistant have no place for anything else.
            _ => {}
        }
    }
}

fn write_citations(item: &mut ObjectWriter<'_>, citations: &[Citation<'_>]) {
    if citations.is_empty() {
        return;
    }
    item.list("citations", |items| {
        for citation in citations {
            items.obj(|item| write_citation(item, citation));
        }
    });
}

/// Writes the fields of a citation.
pub(crate) fn write_citation(item: &mut ObjectWriter<'_>, citation: &Citation<'_>) {
    citation::write(item, citation);
}

fn write_thinking(item: &mut ObjectWriter<'_>, thinking: &Thinking<'_>) {
    if let Some(Signature::Redacted(data)) = &thinking.signature {
        item.str("type", "redacted_thinking");
        item.str("data", data);
        return;
    }
    item.str("type", "thinking");
    item.str("thinking", &thinking.text);
    let signature = thinking.signature.as_ref().map(Signature::to_block);
    item.str("signature", signature.as_deref().unwrap_or_default());
}

fn write_call(item: &mut ObjectWriter<'_>, call: &ToolCall<'_>, context: &ResponseContext) {
    item.str("type", "tool_use");
    item.str("id", &call.id);
    item.str("name", context.client_name(&call.name));
    item.raw("input", &call.arguments.as_object());
}
