//! Writes a stream of chat completion chunks.

use bytes::{BufMut as _, BytesMut};
use llm_router_domain::format::Format;

use super::write_response::{
    finish_reason, tier_name, write_google_signature, write_image, write_thinking, write_usage,
};
use crate::formats::openai::write_url_citation;
use crate::translate::emit::{ObjectWriter, object};
use crate::translate::event::{AnswerEvent, AnswerStart, BlockKind, WriteStream};
use crate::translate::json::Json;
use crate::translate::neutral::{Citation, Finish, TokenCounts};
use crate::translate::options::ResponseContext;
use crate::translate::provider_error::ProviderError;
use crate::translate::signature::Signature;
use crate::translate::tool_schema;

/// Writes the chunks of one answer.
#[derive(Debug)]
pub(crate) struct ChatStreamWriter {
    context: ResponseContext,
    /// The fields that begin every chunk.
    head: BytesMut,
    choices: Vec<ChoiceOutput>,
    usage: Option<TokenCounts>,
}

/// ChoiceOutput of a choice.
#[derive(Debug)]
struct ChoiceOutput {
    index: u64,
    open: Option<OpenPart>,
    calls: u64,
    thoughts: u64,
    refused: bool,
    citations: Vec<Citation<'static>>,
}

/// The block being written.
#[derive(Debug)]
struct OpenPart {
    block: usize,
    kind: OpenPartKind,
    /// Text that is written only once it is whole: a thought's block, a free-text tool's input.
    text: String,
    signature: Option<Signature<'static>>,
}

#[derive(Debug)]
enum OpenPartKind {
    Text,
    Refusal,
    Thinking,
    Call { number: u64, empty: bool },
    Custom { number: u64 },
    Image,
}

impl ChatStreamWriter {
    pub(crate) fn new(context: ResponseContext) -> Self {
        Self {
            context,
            head: BytesMut::new(),
            choices: Vec::new(),
            usage: None,
        }
    }

    fn start(&mut self, start: &AnswerStart<'_>, out: &mut BytesMut) {
        let context = &self.context;
        self.usage = start.usage;
        object(&mut self.head, |fields| {
            fields.str("id", &context.answer_id("chatcmpl-", start.id.as_deref()));
            fields.str("object", "chat.completion.chunk");
            fields.num("created", start.created.unwrap_or(context.now));
            fields.str("model", start.model.as_deref().unwrap_or(&context.model));
            fields.opt_str("service_tier", start.tier.as_deref().map(tier_name));
        });
        self.head.truncate(self.head.len() - 1);
        self.progress(0, out);
    }

    /// The choice's place; a new one begins with its role.
    fn progress(&mut self, index: u64, out: &mut BytesMut) -> usize {
        if let Some(at) = self.choices.iter().position(|choice| choice.index == index) {
            return at;
        }
        self.choices.push(ChoiceOutput {
            index,
            open: None,
            calls: 0,
            thoughts: 0,
            refused: false,
            citations: Vec::new(),
        });
        self.delta(index, None, out, |delta| {
            delta.str("role", "assistant");
            delta.str("content", "");
        });
        self.choices.len() - 1
    }

    /// Writes a chunk with one choice.
    fn chunk(&self, out: &mut BytesMut, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
        out.put_slice(b"data: ");
        out.put_slice(&self.head);
        out.put_slice(b",\"choices\":[");
        object(out, fill);
        out.put_slice(if self.context.include_usage {
            b"],\"usage\":null}\n\n"
        } else {
            b"]}\n\n"
        });
    }

    fn delta(
        &self,
        index: u64,
        logprobs: Option<&Json<'_>>,
        out: &mut BytesMut,
        fill: impl FnOnce(&mut ObjectWriter<'_>),
    ) {
        self.chunk(out, |choice| {
            choice.num("index", index);
            choice.obj("delta", fill);
            if let Some(content) = logprobs {
                choice.obj("logprobs", |logprobs| {
                    logprobs.json("content", content);
                    logprobs.null("refusal");
                });
            }
            choice.null("finish_reason");
        });
    }

    fn open(&mut self, index: u64, block: usize, kind: &BlockKind<'_>, out: &mut BytesMut) {
        let at = self.progress(index, out);
        let Some(choice) = self.choices.get_mut(at) else {
            return;
        };
        let number = choice.calls;
        let opened = match kind {
            BlockKind::Text => OpenPartKind::Text,
            BlockKind::Thinking => OpenPartKind::Thinking,
            BlockKind::Refusal => {
                choice.refused = true;
                OpenPartKind::Refusal
            }
            BlockKind::Image { .. } => OpenPartKind::Image,
            BlockKind::Tool { name, .. } => {
                choice.calls += 1;
                if self.context.is_custom(self.context.client_name(name)) {
                    OpenPartKind::Custom { number }
                } else {
                    OpenPartKind::Call {
                        number,
                        empty: true,
                    }
                }
            }
        };
        let custom = matches!(opened, OpenPartKind::Custom { .. });
        choice.open = Some(OpenPart {
            block,
            kind: opened,
            text: String::new(),
            signature: None,
        });
        match kind {
            BlockKind::Tool {
                id,
                name,
                signature,
            } => {
                let name = self.context.client_name(name);
                self.delta(index, None, out, |delta| {
                    delta.list("tool_calls", |items| {
                        items.obj(|call| {
                            call.num("index", number);
                            call.str("id", id);
                            write_named(call, name, custom);
                            if let Some(signature) = signature {
                                write_google_signature(call, signature);
                            }
                        });
                    });
                });
            }
            BlockKind::Image { media_type, data } => self.delta(index, None, out, |delta| {
                delta.list("images", |items| {
                    items.obj(|item| write_image(item, media_type, data));
                });
            }),
            _ => {}
        }
    }

    fn text(&mut self, block: usize, text: &str, logprobs: Option<&Json<'_>>, out: &mut BytesMut) {
        let Some((index, open)) = self.choices.iter_mut().find_map(|choice| {
            let open = choice.open.as_mut().filter(|open| open.block == block)?;
            Some((choice.index, open))
        }) else {
            return;
        };
        match &mut open.kind {
            OpenPartKind::Text => self.delta(index, logprobs, out, |d| d.str("content", text)),
            OpenPartKind::Refusal => self.delta(index, None, out, |d| d.str("refusal", text)),
            OpenPartKind::Thinking => {
                open.text.push_str(text);
                if !text.is_empty() {
                    self.delta(index, None, out, |d| d.str("reasoning_content", text));
                }
            }
            OpenPartKind::Call { number, empty } => {
                *empty = false;
                let number = *number;
                self.arguments(index, number, text, out);
            }
            OpenPartKind::Custom { .. } => open.text.push_str(text),
            OpenPartKind::Image => {}
        }
    }

    fn arguments(&self, index: u64, number: u64, text: &str, out: &mut BytesMut) {
        self.delta(index, None, out, |delta| {
            delta.list("tool_calls", |items| {
                items.obj(|call| {
                    call.num("index", number);
                    call.obj("function", |function| function.str("arguments", text));
                });
            });
        });
    }

    fn close(&mut self, block: usize, out: &mut BytesMut) {
        let Some((index, number, open)) = self.choices.iter_mut().find_map(|choice| {
            let open = choice.open.take_if(|open| open.block == block)?;
            let number = choice.thoughts;
            choice.thoughts += u64::from(matches!(open.kind, OpenPartKind::Thinking));
            Some((choice.index, number, open))
        }) else {
            return;
        };
        match open.kind {
            // Whole, and with an index, so that SDKs that join lists by index and clients that
            // simply collect them both end up with the blocks they have to send back.
            OpenPartKind::Thinking => self.delta(index, None, out, |delta| {
                delta.list("thinking_blocks", |items| {
                    items.obj(|item| {
                        item.num("index", number);
                        write_thinking(item, &open.text, open.signature.as_ref());
                    });
                });
            }),
            OpenPartKind::Call {
                number,
                empty: true,
            } => self.arguments(index, number, "{}", out),
            OpenPartKind::Custom { number } => {
                let input = tool_schema::unwrap(&open.text);
                self.delta(index, None, out, |delta| {
                    delta.list("tool_calls", |items| {
                        items.obj(|call| {
                            call.num("index", number);
                            call.obj("custom", |custom| custom.str("input", &input));
                        });
                    });
                });
            }
            _ => {}
        }
    }

    fn finish(&mut self, index: u64, finish: &Finish<'_>, out: &mut BytesMut) {
        let at = self.progress(index, out);
        let Some(choice) = self.choices.get_mut(at) else {
            return;
        };
        let refused = choice.refused;
        let citations = std::mem::take(&mut choice.citations);
        if !citations.is_empty() {
            self.delta(index, None, out, |delta| {
                delta.list("annotations", |items| {
                    for citation in &citations {
                        items.obj(|item| {
                            item.str("type", "url_citation");
                            item.obj("url_citation", |c| write_url_citation(c, citation));
                        });
                    }
                });
            });
        }
        let reason = match finish {
            Finish::Refusal if refused => "stop",
            finish => finish_reason(finish),
        };
        self.chunk(out, |choice| {
            choice.num("index", index);
            choice.obj("delta", |_| {});
            choice.str("finish_reason", reason);
        });
    }
}

fn write_named(call: &mut ObjectWriter<'_>, name: &str, custom: bool) {
    if custom {
        call.str("type", "custom");
        call.obj("custom", |custom| {
            custom.str("name", name);
            custom.str("input", "");
        });
    } else {
        call.str("type", "function");
        call.obj("function", |function| {
            function.str("name", name);
            function.str("arguments", "");
        });
    }
}

impl WriteStream for ChatStreamWriter {
    fn write(&mut self, event: &AnswerEvent<'_>, out: &mut BytesMut) {
        match event {
            AnswerEvent::Start(start) => self.start(start, out),
            AnswerEvent::Open {
                choice,
                block,
                kind,
            } => self.open(*choice, *block, kind, out),
            AnswerEvent::Text {
                block,
                text,
                logprobs,
            } => self.text(*block, text, logprobs.as_ref(), out),
            AnswerEvent::Signature { block, signature } => {
                let open = self
                    .choices
                    .iter_mut()
                    .find_map(|choice| choice.open.as_mut());
                if let Some(open) = open.filter(|open| open.block == *block) {
                    open.signature = Some(signature.clone().into_owned());
                }
            }
            AnswerEvent::Close { block } => self.close(*block, out),
            AnswerEvent::Citation { choice, citation } => {
                let at = self.progress(*choice, out);
                if let Some(choice) = self.choices.get_mut(at) {
                    choice.citations.push(citation.clone().into_owned());
                }
            }
            AnswerEvent::Finish { choice, finish } => self.finish(*choice, finish, out),
            AnswerEvent::Usage(usage) => self.usage = Some(*usage),
            AnswerEvent::Failed(failure) => self.fail(failure, out),
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        if let Some(usage) = self.usage.filter(|_| self.context.include_usage) {
            out.put_slice(b"data: ");
            out.put_slice(&self.head);
            out.put_slice(b",\"choices\":[],\"usage\":");
            object(out, |fields| write_usage(fields, usage));
            out.put_slice(b"}\n\n");
        }
        out.put_slice(b"data: [DONE]\n\n");
    }

    fn fail(&mut self, failure: &ProviderError, out: &mut BytesMut) {
        out.put_slice(&failure.event(Format::OpenAiChat, &self.context.request_id));
    }
}
