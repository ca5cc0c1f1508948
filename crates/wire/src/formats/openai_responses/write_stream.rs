//! Writes a stream of response events.

use bytes::{BufMut as _, BytesMut};

use super::write_response::{
    ResponseHead, call_prefix, incomplete_reason, reasoning_id, response_finish, write_annotation,
    write_called, write_image, write_reasoning, write_refusal, write_text, write_usage,
};
use crate::translate::emit::{ObjectWriter, object};
use crate::translate::event::{AnswerEvent, AnswerStart, BlockKind, WriteStream};
use crate::translate::json::Json;
use crate::translate::neutral::{Citation, Finish, TokenCounts};
use crate::translate::options::ResponseContext;
use crate::translate::provider_error::ProviderError;
use crate::translate::signature::Signature;
use crate::translate::tool_schema;

/// Writes the events of one response.
#[derive(Debug)]
pub(crate) struct ResponsesStreamWriter {
    context: ResponseContext,
    head: ResponseHead,
    sequence: u64,
    /// Whole items, for the last event repeats them all.
    output: BytesMut,
    items: usize,
    message: Option<OpenMessage>,
    open: Option<OpenItem>,
    usage: Option<TokenCounts>,
    /// The model declined in words of a part of their own.
    refused: bool,
    finish: Finish<'static>,
}

/// The message being written: texts that follow one another are its parts.
#[derive(Debug)]
struct OpenMessage {
    id: String,
    index: usize,
    parts: usize,
    /// Its whole parts, separated by commas.
    content: BytesMut,
}

/// The block being written.
#[derive(Debug)]
struct OpenItem {
    block: usize,
    kind: OpenItemKind,
    text: String,
}

#[derive(Debug)]
enum OpenItemKind {
    Text {
        citations: Vec<Citation<'static>>,
        /// The items of the list of probabilities, written out.
        tokens: String,
    },
    Refusal,
    Thinking {
        begun: Option<String>,
        signature: Option<Signature<'static>>,
    },
    Call {
        id: String,
        call_id: String,
        name: String,
        custom: bool,
    },
    Done,
}

impl ResponsesStreamWriter {
    pub(crate) fn new(context: ResponseContext) -> Self {
        Self {
            context,
            head: ResponseHead::default(),
            sequence: 0,
            output: BytesMut::new(),
            items: 0,
            message: None,
            open: None,
            usage: None,
            refused: false,
            finish: Finish::Stop,
        }
    }

    /// Writes an event: its name twice, for some clients go by the first and others by the second.
    fn event(&mut self, out: &mut BytesMut, name: &str, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
        out.put_slice(b"event: ");
        out.put_slice(name.as_bytes());
        out.put_slice(b"\ndata: ");
        let sequence = self.sequence;
        object(out, |fields| {
            fields.str("type", name);
            fields.num("sequence_number", sequence);
            fill(fields);
        });
        out.put_slice(b"\n\n");
        self.sequence += 1;
    }

    fn start(&mut self, start: &AnswerStart<'_>, out: &mut BytesMut) {
        self.head = ResponseHead {
            id: self.context.answer_id("resp_", start.id.as_deref()),
            created: start.created.unwrap_or(self.context.now),
            model: start
                .model
                .as_deref()
                .unwrap_or(&self.context.model)
                .to_owned(),
            tier: start.tier.as_deref().map(str::to_owned),
        };
        self.usage = start.usage;
        let mut snapshot = BytesMut::new();
        object(&mut snapshot, |response| {
            self.head.write(response, None, &self.context);
            response.list("output", |_| {});
            response.null("usage");
        });
        let snapshot = String::from_utf8_lossy(&snapshot).into_owned();
        for name in ["response.created", "response.in_progress"] {
            self.event(out, name, |fields| fields.raw("response", &snapshot));
        }
    }

    fn open(&mut self, block: usize, kind: &BlockKind<'_>, out: &mut BytesMut) {
        if !matches!(kind, BlockKind::Text | BlockKind::Refusal) {
            self.close_message(out);
        }
        let kind = match kind {
            BlockKind::Text => {
                self.open_part(out, |part| write_text(part, "", &[], ""));
                OpenItemKind::Text {
                    citations: Vec::new(),
                    tokens: String::new(),
                }
            }
            BlockKind::Refusal => {
                self.refused = true;
                self.open_part(out, |part| write_refusal(part, ""));
                OpenItemKind::Refusal
            }
            BlockKind::Thinking => OpenItemKind::Thinking {
                begun: None,
                signature: None,
            },
            BlockKind::Tool { id, name, .. } => self.open_call(id, name, out),
            BlockKind::Image { data, .. } => {
                let id = self.head.item_id("ig", self.items);
                self.whole_item(out, |item| write_image(item, &id, data));
                OpenItemKind::Done
            }
        };
        self.open = Some(OpenItem {
            block,
            kind,
            text: String::new(),
        });
    }

    fn open_part(&mut self, out: &mut BytesMut, part: impl Fn(&mut ObjectWriter<'_>)) {
        if self.message.is_none() {
            let (index, id) = (self.items, self.head.item_id("msg", self.items));
            self.event(out, "response.output_item.added", |fields| {
                fields.num("output_index", index);
                fields.obj("item", |item| {
                    item.str("type", "message");
                    item.str("id", &id);
                    item.str("status", "in_progress");
                    item.str("role", "assistant");
                    item.list("content", |_| {});
                });
            });
            self.message = Some(OpenMessage {
                id,
                index,
                parts: 0,
                content: BytesMut::new(),
            });
        }
        self.part_event(out, "response.content_part.added", |fields| {
            fields.obj("part", part);
        });
    }

    /// Writes an event about the current part of the message.
    fn part_event(
        &mut self,
        out: &mut BytesMut,
        name: &str,
        fill: impl FnOnce(&mut ObjectWriter<'_>),
    ) {
        let Some(message) = self.message.take() else {
            return;
        };
        self.event(out, name, |fields| {
            fields.str("item_id", &message.id);
            fields.num("output_index", message.index);
            fields.num("content_index", message.parts);
            fill(fields);
        });
        self.message = Some(message);
    }

    fn open_call(&mut self, call_id: &str, name: &str, out: &mut BytesMut) -> OpenItemKind {
        let name = self.context.client_name(name).to_owned();
        let custom = self.context.is_custom(&name);
        let id = self.head.item_id(call_prefix(custom), self.items);
        let index = self.items;
        self.event(out, "response.output_item.added", |fields| {
            fields.num("output_index", index);
            fields.obj("item", |item| {
                write_called(item, &id, call_id, &name, "", custom, "in_progress");
            });
        });
        OpenItemKind::Call {
            id,
            call_id: call_id.to_owned(),
            name,
            custom,
        }
    }

    fn text(&mut self, block: usize, text: &str, logprobs: Option<&Json<'_>>, out: &mut BytesMut) {
        let Some(mut open) = self.open.take_if(|open| open.block == block) else {
            return;
        };
        open.text.push_str(text);
        match &mut open.kind {
            OpenItemKind::Text { tokens, .. } => {
                if let Some(list) = logprobs {
                    add_tokens(tokens, list);
                }
                self.part_event(out, "response.output_text.delta", |fields| {
                    fields.str("delta", text);
                    match logprobs {
                        Some(logprobs) => fields.json("logprobs", logprobs),
                        None => fields.list("logprobs", |_| {}),
                    }
                });
            }
            OpenItemKind::Refusal => self.part_event(out, "response.refusal.delta", |fields| {
                fields.str("delta", text);
            }),
            OpenItemKind::Thinking { begun, .. } if !text.is_empty() => {
                let id = self.begin_thinking(begun, out);
                self.thought_event(
                    out,
                    "response.reasoning_summary_text.delta",
                    &id,
                    |fields| {
                        fields.str("delta", text);
                    },
                );
            }
            OpenItemKind::Call {
                id, custom: false, ..
            } => {
                let (index, id) = (self.items, &*id);
                self.event(out, "response.function_call_arguments.delta", |fields| {
                    fields.str("item_id", id);
                    fields.num("output_index", index);
                    fields.str("delta", text);
                });
            }
            _ => {}
        }
        self.open = Some(open);
    }

    /// Begins a reasoning item and its summary with the first text of a thought.
    fn begin_thinking(&mut self, begun: &mut Option<String>, out: &mut BytesMut) -> String {
        if let Some(id) = begun {
            return id.clone();
        }
        let id = self.head.item_id("rs", self.items);
        self.add_reasoning(&id, out);
        self.thought_event(
            out,
            "response.reasoning_summary_part.added",
            &id,
            |fields| {
                write_summary(fields, "");
            },
        );
        *begun = Some(id.clone());
        id
    }

    fn add_reasoning(&mut self, id: &str, out: &mut BytesMut) {
        let index = self.items;
        self.event(out, "response.output_item.added", |fields| {
            fields.num("output_index", index);
            fields.obj("item", |item| {
                item.str("type", "reasoning");
                item.str("id", id);
                item.list("summary", |_| {});
                item.str("status", "in_progress");
            });
        });
    }

    fn thought_event(
        &mut self,
        out: &mut BytesMut,
        name: &str,
        id: &str,
        fill: impl FnOnce(&mut ObjectWriter<'_>),
    ) {
        let index = self.items;
        self.event(out, name, |fields| {
            fields.str("item_id", id);
            fields.num("output_index", index);
            fields.num("summary_index", 0);
            fill(fields);
        });
    }

    fn cite(&mut self, citation: &Citation<'_>, out: &mut BytesMut) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        if let OpenItemKind::Text { citations, .. } = &mut open.kind {
            let number = citations.len();
            self.part_event(out, "response.output_text.annotation.added", |fields| {
                fields.num("annotation_index", number);
                fields.obj("annotation", |item| write_annotation(item, citation));
            });
            citations.push(citation.clone().into_owned());
        }
        self.open = Some(open);
    }

    fn close(&mut self, block: usize, out: &mut BytesMut) {
        let Some(open) = self.open.take_if(|open| open.block == block) else {
            return;
        };
        let text = open.text;
        match open.kind {
            OpenItemKind::Text { citations, tokens } => {
                self.part_event(out, "response.output_text.done", |fields| {
                    fields.str("text", &text);
                    fields.list("logprobs", |items| {
                        if !tokens.is_empty() {
                            items.raw(&tokens);
                        }
                    });
                });
                self.close_part(out, |part| write_text(part, &text, &citations, &tokens));
            }
            OpenItemKind::Refusal => {
                self.part_event(out, "response.refusal.done", |fields| {
                    fields.str("refusal", &text);
                });
                self.close_part(out, |part| write_refusal(part, &text));
            }
            OpenItemKind::Thinking { begun, signature } => {
                self.close_thinking(begun, signature.as_ref(), &text, out);
            }
            OpenItemKind::Call {
                id,
                call_id,
                name,
                custom,
            } => self.close_call(&id, &call_id, &name, custom, text, out),
            OpenItemKind::Done => {}
        }
    }

    fn close_part(&mut self, out: &mut BytesMut, part: impl Fn(&mut ObjectWriter<'_>)) {
        self.part_event(out, "response.content_part.done", |fields| {
            fields.obj("part", &part);
        });
        if let Some(message) = &mut self.message {
            if message.parts > 0 {
                message.content.put_u8(b',');
            }
            object(&mut message.content, part);
            message.parts += 1;
        }
    }

    fn close_message(&mut self, out: &mut BytesMut) {
        let Some(message) = self.message.take() else {
            return;
        };
        let content = String::from_utf8_lossy(&message.content).into_owned();
        self.finish_item(out, |item| {
            item.str("type", "message");
            item.str("id", &message.id);
            item.str("status", "completed");
            item.str("role", "assistant");
            item.list("content", |items| {
                if !content.is_empty() {
                    items.raw(&content);
                }
            });
        });
    }

    fn close_thinking(
        &mut self,
        begun: Option<String>,
        signature: Option<&Signature<'_>>,
        text: &str,
        out: &mut BytesMut,
    ) {
        let id = match begun {
            Some(id) => {
                self.thought_event(out, "response.reasoning_summary_text.done", &id, |fields| {
                    fields.str("text", text);
                });
                self.thought_event(out, "response.reasoning_summary_part.done", &id, |fields| {
                    write_summary(fields, text);
                });
                id
            }
            None => {
                let id = reasoning_id(signature, &self.head, self.items);
                self.add_reasoning(&id, out);
                id
            }
        };
        self.finish_item(out, |item| write_reasoning(item, &id, text, signature));
    }

    fn close_call(
        &mut self,
        id: &str,
        call_id: &str,
        name: &str,
        custom: bool,
        text: String,
        out: &mut BytesMut,
    ) {
        let index = self.items;
        let empty = text.trim().is_empty();
        let text = match custom {
            true => tool_schema::unwrap(&text),
            false if empty => "{}".to_owned(),
            false => text,
        };
        let (kind, key) = if custom {
            ("response.custom_tool_call_input", "input")
        } else {
            ("response.function_call_arguments", "arguments")
        };
        let mut about = |this: &mut Self, name: &str, key: &str| {
            this.event(out, name, |fields| {
                fields.str("item_id", id);
                fields.num("output_index", index);
                fields.str(key, &text);
            });
        };
        if custom || empty {
            about(self, &format!("{kind}.delta"), "delta");
        }
        about(self, &format!("{kind}.done"), key);
        self.finish_item(out, |item| {
            write_called(item, id, call_id, name, &text, custom, "completed")
        });
    }

    fn whole_item(&mut self, out: &mut BytesMut, item: impl Fn(&mut ObjectWriter<'_>)) {
        let index = self.items;
        self.event(out, "response.output_item.added", |fields| {
            fields.num("output_index", index);
            fields.obj("item", &item);
        });
        self.finish_item(out, item);
    }

    /// Ends an item and keeps it for the last event.
    fn finish_item(&mut self, out: &mut BytesMut, item: impl FnOnce(&mut ObjectWriter<'_>)) {
        let mut whole = BytesMut::new();
        object(&mut whole, item);
        let index = self.items;
        let text = String::from_utf8_lossy(&whole);
        self.event(out, "response.output_item.done", |fields| {
            fields.num("output_index", index);
            fields.raw("item", &text);
        });
        if self.items > 0 {
            self.output.put_u8(b',');
        }
        self.output.put_slice(&whole);
        self.items += 1;
    }
}

fn add_tokens(tokens: &mut String, list: &Json<'_>) {
    for token in list.as_array().unwrap_or_default() {
        if !tokens.is_empty() {
            tokens.push(',');
        }
        tokens.push_str(&token.to_text());
    }
}

fn write_summary(fields: &mut ObjectWriter<'_>, text: &str) {
    fields.obj("part", |part| {
        part.str("type", "summary_text");
        part.str("text", text);
    });
}

impl WriteStream for ResponsesStreamWriter {
    fn write(&mut self, event: &AnswerEvent<'_>, out: &mut BytesMut) {
        match event {
            AnswerEvent::Start(start) => self.start(start, out),
            AnswerEvent::Open {
                choice: 0,
                block,
                kind,
            } => self.open(*block, kind, out),
            AnswerEvent::Text {
                block,
                text,
                logprobs,
            } => self.text(*block, text, logprobs.as_ref(), out),
            AnswerEvent::Signature { block, signature } => {
                let open = self.open.as_mut().filter(|open| open.block == *block);
                if let Some(OpenItemKind::Thinking {
                    signature: kept, ..
                }) = open.map(|open| &mut open.kind)
                {
                    *kept = Some(signature.clone().into_owned());
                }
            }
            AnswerEvent::Close { block } => self.close(*block, out),
            AnswerEvent::Citation {
                choice: 0,
                citation,
            } => self.cite(citation, out),
            AnswerEvent::Finish { choice: 0, finish } => self.finish = finish.clone().into_owned(),
            AnswerEvent::Usage(usage) => self.usage = Some(*usage),
            AnswerEvent::Failed(failure) => self.fail(failure, out),
            // A response is one choice.
            AnswerEvent::Open { .. }
            | AnswerEvent::Citation { .. }
            | AnswerEvent::Finish { .. } => {}
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.close_message(out);
        let finish = response_finish(&self.finish, self.refused).clone();
        let name = match incomplete_reason(&finish) {
            None => "response.completed",
            Some(_) => "response.incomplete",
        };
        let output = String::from_utf8_lossy(&self.output).into_owned();
        let head = std::mem::take(&mut self.head);
        let (context, usage) = (self.context.clone(), self.usage);
        self.event(out, name, |fields| {
            fields.obj("response", |response| {
                head.write(response, Some(&finish), &context);
                response.list("output", |items| {
                    if !output.is_empty() {
                        items.raw(&output);
                    }
                });
                write_usage(response, usage);
            });
        });
    }

    fn fail(&mut self, failure: &ProviderError, out: &mut BytesMut) {
        self.event(out, "error", |fields| {
            fields.str("code", &failure.code);
            fields.str("message", &failure.message);
            fields.str_or_null("param", failure.param.as_deref());
        });
    }
}
