//! Writes a stream of message events.

use bytes::{BufMut as _, BytesMut};
use llm_router_domain::format::Format;

use super::write_response::{write_citation, write_stop, write_usage};
use crate::translate::emit::{ObjectWriter, object};
use crate::translate::event::{AnswerEvent, AnswerStart, BlockKind, WriteStream};
use crate::translate::neutral::{Citation, Finish, TokenCounts};
use crate::translate::options::ResponseContext;
use crate::translate::provider_error::ProviderError;
use crate::translate::signature::Signature;

/// Writes the events of one message.
#[derive(Debug)]
pub(crate) struct MessagesStreamWriter {
    context: ResponseContext,
    open: Option<OpenBlock>,
    next: u64,
    usage: TokenCounts,
    finish: Finish<'static>,
}

/// The block being written.
#[derive(Debug)]
struct OpenBlock {
    block: usize,
    index: u64,
    kind: OpenBlockKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenBlockKind {
    Text,
    Call,
    /// Not begun: whether it is redacted shows only when its signature comes.
    NewThinking,
    Thinking,
    Redacted,
    /// Has no place in a message.
    Unseen,
}

impl MessagesStreamWriter {
    pub(crate) fn new(context: ResponseContext) -> Self {
        Self {
            context,
            open: None,
            next: 0,
            usage: TokenCounts::default(),
            finish: Finish::Stop,
        }
    }

    fn start(&mut self, start: &AnswerStart<'_>, out: &mut BytesMut) {
        self.usage = start.usage.unwrap_or_default();
        if self.usage == TokenCounts::default() {
            // Clients show what the first event says; the last one has the provider's count.
            self.usage.input = self.context.estimated_input.unwrap_or(0);
        }
        let context = &self.context;
        event(out, "message_start", |fields| {
            fields.obj("message", |message| {
                message.str("id", &context.answer_id("msg_", start.id.as_deref()));
                message.str("type", "message");
                message.str("role", "assistant");
                message.str("model", start.model.as_deref().unwrap_or(&context.model));
                message.list("content", |_| {});
                message.null("stop_reason");
                message.null("stop_sequence");
                message.obj("usage", |usage| write_usage(usage, self.usage));
            });
        });
    }

    fn open(&mut self, block: usize, kind: &BlockKind<'_>, out: &mut BytesMut) {
        let index = self.next;
        let kind = match kind {
            BlockKind::Text | BlockKind::Refusal => {
                begin(out, index, |content| {
                    content.str("type", "text");
                    content.str("text", "");
                });
                OpenBlockKind::Text
            }
            BlockKind::Tool { id, name, .. } => {
                begin(out, index, |content| {
                    content.str("type", "tool_use");
                    content.str("id", id);
                    content.str("name", self.context.client_name(name));
                    content.raw("input", "{}");
                });
                OpenBlockKind::Call
            }
            BlockKind::Thinking => OpenBlockKind::NewThinking,
            BlockKind::Image { .. } => OpenBlockKind::Unseen,
        };
        self.next += u64::from(kind != OpenBlockKind::Unseen);
        self.open = Some(OpenBlock { block, index, kind });
    }

    fn text(&mut self, block: usize, text: &str, out: &mut BytesMut) {
        let Some(open) = self.open.as_mut().filter(|open| open.block == block) else {
            return;
        };
        if text.is_empty() {
            return;
        }
        if open.kind == OpenBlockKind::NewThinking {
            begin_thinking(open, out);
        }
        let (kind, key) = match open.kind {
            OpenBlockKind::Text => ("text_delta", "text"),
            OpenBlockKind::Call => ("input_json_delta", "partial_json"),
            OpenBlockKind::Thinking => ("thinking_delta", "thinking"),
            _ => return,
        };
        delta(out, open.index, kind, |fields| fields.str(key, text));
    }

    fn signature(&mut self, block: usize, signature: &Signature<'_>, out: &mut BytesMut) {
        let Some(open) = self.open.as_mut().filter(|open| open.block == block) else {
            return;
        };
        if let (OpenBlockKind::NewThinking, Signature::Redacted(data)) = (open.kind, signature) {
            begin(out, open.index, |content| {
                content.str("type", "redacted_thinking");
                content.str("data", data);
            });
            open.kind = OpenBlockKind::Redacted;
            return;
        }
        if open.kind == OpenBlockKind::NewThinking {
            begin_thinking(open, out);
        }
        if open.kind == OpenBlockKind::Thinking {
            delta(out, open.index, "signature_delta", |fields| {
                fields.str("signature", &signature.to_block());
            });
        }
    }

    fn cite(&self, citation: &Citation<'_>, out: &mut BytesMut) {
        if let Some(open) = &self.open
            && open.kind == OpenBlockKind::Text
        {
            delta(out, open.index, "citations_delta", |fields| {
                fields.obj("citation", |item| write_citation(item, citation));
            });
        }
    }

    fn close(&mut self, block: usize, out: &mut BytesMut) {
        let Some(mut open) = self.open.take_if(|open| open.block == block) else {
            return;
        };
        if open.kind == OpenBlockKind::NewThinking {
            begin_thinking(&mut open, out);
        }
        if open.kind != OpenBlockKind::Unseen {
            event(out, "content_block_stop", |fields| {
                fields.num("index", open.index)
            });
        }
    }
}

fn begin_thinking(open: &mut OpenBlock, out: &mut BytesMut) {
    begin(out, open.index, |content| {
        content.str("type", "thinking");
        content.str("thinking", "");
        content.str("signature", "");
    });
    open.kind = OpenBlockKind::Thinking;
}

/// Writes an event: its name twice, for the SDKs go by the first and others by the second.
fn event(out: &mut BytesMut, name: &str, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: ");
    object(out, |fields| {
        fields.str("type", name);
        fill(fields);
    });
    out.put_slice(b"\n\n");
}

fn begin(out: &mut BytesMut, index: u64, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
    event(out, "content_block_start", |fields| {
        fields.num("index", index);
        fields.obj("content_block", fill);
    });
}

fn delta(out: &mut BytesMut, index: u64, kind: &str, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
    event(out, "content_block_delta", |fields| {
        fields.num("index", index);
        fields.obj("delta", |delta| {
            delta.str("type", kind);
            fill(delta);
        });
    });
}

impl WriteStream for MessagesStreamWriter {
    fn write(&mut self, event: &AnswerEvent<'_>, out: &mut BytesMut) {
        match event {
            AnswerEvent::Start(start) => self.start(start, out),
            AnswerEvent::Open {
                choice: 0,
                block,
                kind,
            } => self.open(*block, kind, out),
            AnswerEvent::Text { block, text, .. } => self.text(*block, text, out),
            AnswerEvent::Signature { block, signature } => self.signature(*block, signature, out),
            AnswerEvent::Close { block } => self.close(*block, out),
            AnswerEvent::Citation {
                choice: 0,
                citation,
            } => self.cite(citation, out),
            AnswerEvent::Finish { choice: 0, finish } => self.finish = finish.clone().into_owned(),
            AnswerEvent::Usage(usage) => self.usage = *usage,
            AnswerEvent::Failed(failure) => self.fail(failure, out),
            // A message is one choice.
            AnswerEvent::Open { .. }
            | AnswerEvent::Citation { .. }
            | AnswerEvent::Finish { .. } => {}
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        event(out, "message_delta", |fields| {
            fields.obj("delta", |delta| write_stop(delta, &self.finish));
            fields.obj("usage", |usage| write_usage(usage, self.usage));
        });
        event(out, "message_stop", |_| {});
    }

    fn fail(&mut self, failure: &ProviderError, out: &mut BytesMut) {
        out.put_slice(&failure.event(Format::AnthropicMessages, &self.context.request_id));
    }
}
