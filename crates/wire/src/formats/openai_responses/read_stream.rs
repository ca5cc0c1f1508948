//! Reads a stream of response events.

use std::borrow::Cow;

use super::read_request::reasoning_text;
use super::read_response::{finish_of, read_usage, signature_of};
use crate::formats::openai;
use crate::translate::event::{AnswerEvent, AnswerStart, BlockKind, ReadStream, Sink};
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{Finish, Text};
use crate::translate::provider_error::{self, ProviderError};
use crate::translate::stream::parse_event;
use crate::translate::tool_schema;

/// Reads the events of one response.
#[derive(Debug, Default)]
pub(crate) struct ResponsesStreamReader {
    started: bool,
    next: usize,
    items: Vec<ItemState>,
    refused: bool,
    calls: bool,
    finish: Option<Finish<'static>>,
}

/// An output item whose end hasn't come.
#[derive(Debug)]
struct ItemState {
    index: u64,
    kind: ItemKind,
    /// The open block, and the number of its part.
    open: Option<(usize, u64)>,
    /// Text came: servers that don't stream a part give it at its end.
    filled: bool,
    /// A call whose name or id hasn't come yet.
    held: HeldCall,
}

/// Pieces of a call that clients can't be told of yet.
#[derive(Debug, Default)]
struct HeldCall {
    id: String,
    name: String,
    arguments: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemKind {
    Message,
    Reasoning,
    Call,
    Custom,
    Other,
}

impl ResponsesStreamReader {
    fn start(&mut self, event: &Object<'_>, sink: &mut Sink<'_>) {
        self.started = true;
        let response = event.get("response");
        let word = |key: &str| {
            let word = response.and_then(|response| response.str(key));
            word.filter(|word| !word.is_empty()).map(Cow::Borrowed)
        };
        sink(AnswerEvent::Start(AnswerStart {
            id: word("id"),
            created: response
                .and_then(|response| response.u64("created_at"))
                .filter(|created| *created > 0),
            model: word("model"),
            tier: word("service_tier").filter(|tier| tier != "auto"),
            usage: None,
        }));
    }

    fn add(&mut self, index: u64, mut item: Object<'_>, sink: &mut Sink<'_>) {
        let kind = match item.str("type") {
            Some("message") => ItemKind::Message,
            Some("reasoning") => ItemKind::Reasoning,
            Some("function_call") => ItemKind::Call,
            Some("custom_tool_call") => ItemKind::Custom,
            _ => ItemKind::Other,
        };
        let (mut open, mut held) = (None, HeldCall::default());
        if matches!(kind, ItemKind::Call | ItemKind::Custom) {
            let (id, name) = (
                call_id(&mut item),
                item.take_string("name").unwrap_or_default(),
            );
            if id.is_empty() || name.is_empty() {
                held.id = id.into_owned();
                held.name = name.into_owned();
            } else {
                open = Some((self.open(tool(id, name), sink), 0));
            }
        }
        self.items.push(ItemState {
            index,
            kind,
            open,
            filled: false,
            held,
        });
    }

    fn open(&mut self, kind: BlockKind<'_>, sink: &mut Sink<'_>) -> usize {
        let block = self.next;
        self.next += 1;
        self.calls |= matches!(kind, BlockKind::Tool { .. });
        sink(AnswerEvent::Open {
            choice: 0,
            block,
            kind,
        });
        block
    }

    fn item(&mut self, index: u64) -> Option<&mut ItemState> {
        self.items.iter_mut().find(|item| item.index == index)
    }

    /// The block of a part, opened if it is new.
    fn block(
        &mut self,
        index: u64,
        part: u64,
        kind: BlockKind<'static>,
        sink: &mut Sink<'_>,
    ) -> usize {
        let open = self.item(index).and_then(|item| item.open);
        match open {
            Some((block, known)) if known == part => return block,
            Some((block, _)) => sink(AnswerEvent::Close { block }),
            None => {}
        }
        let block = self.open(kind, sink);
        if let Some(item) = self.item(index) {
            item.open = Some((block, part));
            item.filled = false;
        }
        block
    }

    fn text(
        &mut self,
        event: &mut Object<'_>,
        part: &str,
        kind: BlockKind<'static>,
        sink: &mut Sink<'_>,
    ) {
        let index = event.u64("output_index").unwrap_or(0);
        if self.item(index).is_none() {
            let item = Object(vec![("type".into(), Json::String("message".into()))]);
            self.add(index, item, sink);
        }
        let part = event.u64(part).unwrap_or(0);
        let Some(text) = event.take("delta").and_then(Json::into_text) else {
            return;
        };
        let logprobs = event
            .take("logprobs")
            .filter(|list| list.as_array().is_some_and(|list| !list.is_empty()));
        self.refused |= kind == BlockKind::Refusal;
        let block = self.block(index, part, kind, sink);
        if let Some(item) = self.item(index) {
            item.filled = true;
        }
        sink(AnswerEvent::Text {
            block,
            text,
            logprobs,
        });
    }

    /// Thoughts: the parts of a summary are paragraphs of one thought.
    fn thought(&mut self, event: &mut Object<'_>, sink: &mut Sink<'_>) {
        let index = event.u64("output_index").unwrap_or(0);
        let part = event
            .u64("summary_index")
            .or_else(|| event.u64("content_index"))
            .unwrap_or(0);
        let Some(text) = event.take("delta").and_then(Json::into_text) else {
            return;
        };
        if self.item(index).is_none() {
            let item = Object(vec![("type".into(), Json::String("reasoning".into()))]);
            self.add(index, item, sink);
        }
        let open = self.item(index).and_then(|item| item.open);
        let (block, text) = match open {
            Some((block, known)) if known == part => (block, text),
            Some((block, _)) => (block, format!("\n\n{text}").into()),
            None => (self.open(BlockKind::Thinking, sink), text),
        };
        if let Some(item) = self.item(index) {
            item.open = Some((block, part));
            item.filled = true;
        }
        sink(AnswerEvent::Text {
            block,
            text,
            logprobs: None,
        });
    }

    fn arguments(&mut self, event: &mut Object<'_>, sink: &mut Sink<'_>) {
        let index = event.u64("output_index").unwrap_or(0);
        if self.item(index).is_none() {
            let item = Object(vec![("type".into(), Json::String("function_call".into()))]);
            self.add(index, item, sink);
        }
        let Some(item) = self.item(index).filter(|item| item.kind == ItemKind::Call) else {
            return;
        };
        let Some(text) = event.take("delta").and_then(Json::into_text) else {
            return;
        };
        item.filled = true;
        match item.open {
            Some((block, _)) => sink(AnswerEvent::Text {
                block,
                text,
                logprobs: None,
            }),
            None => item.held.arguments.push_str(&text),
        }
    }

    /// Opens a call that was held, if it has a name by now. One without id gets one later on.
    fn open_held(&mut self, item: &mut ItemState, whole: &mut Object<'_>, sink: &mut Sink<'_>) {
        let call = matches!(item.kind, ItemKind::Call | ItemKind::Custom);
        if !call || item.open.is_some() {
            return;
        }
        let held = std::mem::take(&mut item.held);
        let id = Some(call_id(whole)).filter(|id| !id.is_empty());
        let name = whole.take_string("name").filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| held.name.into());
        if name.is_empty() {
            return;
        }
        let block = self.open(tool(id.unwrap_or_else(|| held.id.into()), name), sink);
        item.open = Some((block, 0));
        if !held.arguments.is_empty() {
            sink(AnswerEvent::Text {
                block,
                text: held.arguments.into(),
                logprobs: None,
            });
        }
    }

    /// The end of an item, which holds it whole.
    fn end_item(&mut self, index: u64, mut whole: Object<'_>, sink: &mut Sink<'_>) {
        if self.item(index).is_none() {
            let copy = whole.clone();
            self.add(index, copy, sink);
        }
        let Some(at) = self.items.iter().position(|item| item.index == index) else {
            return;
        };
        let mut item = self.items.swap_remove(at);
        self.open_held(&mut item, &mut whole, sink);
        match item.kind {
            ItemKind::Message => self.done_message(&item, whole, sink),
            ItemKind::Reasoning => self.done_reasoning(&item, whole, sink),
            ItemKind::Call => {
                let text = whole.take("arguments").and_then(Json::into_text);
                close_with(&item, text.filter(|_| !item.filled), sink);
            }
            ItemKind::Custom => {
                let input = whole.take_string("input").unwrap_or_default();
                close_with(&item, Some(tool_schema::wrap(&input).into()), sink);
            }
            ItemKind::Other => {}
        }
    }

    fn done_message(&mut self, item: &ItemState, mut whole: Object<'_>, sink: &mut Sink<'_>) {
        if let Some((block, _)) = item.open {
            sink(AnswerEvent::Close { block });
        }
        if item.filled {
            return;
        }
        for part in whole.take_array("content") {
            let Some(mut part) = part.into_object() else {
                continue;
            };
            let refusal = part.take_string("refusal");
            let kind = if refusal.is_some() {
                BlockKind::Refusal
            } else {
                BlockKind::Text
            };
            self.refused |= refusal.is_some();
            if let Some(text) = refusal.or_else(|| part.take_string("text")) {
                let block = self.open(kind, sink);
                sink(AnswerEvent::Text {
                    block,
                    text,
                    logprobs: None,
                });
                sink(AnswerEvent::Close { block });
            }
        }
    }

    fn done_reasoning(&mut self, item: &ItemState, mut whole: Object<'_>, sink: &mut Sink<'_>) {
        let signature = signature_of(&mut whole);
        let text = reasoning_text(&mut whole);
        if item.open.is_none() && text.is_empty() && signature.is_none() {
            return;
        }
        let block = match item.open {
            Some((block, _)) => block,
            None => self.open(BlockKind::Thinking, sink),
        };
        if !item.filled && !text.is_empty() {
            sink(AnswerEvent::Text {
                block,
                text,
                logprobs: None,
            });
        }
        if let Some(signature) = signature {
            sink(AnswerEvent::Signature { block, signature });
        }
        sink(AnswerEvent::Close { block });
    }

    fn end_response(&mut self, event: &Object<'_>, sink: &mut Sink<'_>) {
        let Some(response) = event.get("response") else {
            return;
        };
        if let Some(usage) = response.get("usage").filter(|usage| !usage.is_null()) {
            sink(AnswerEvent::Usage(read_usage(usage)));
        }
        let details = response.get("incomplete_details");
        let reason = details.and_then(|details| details.str("reason"));
        let status = response.str("status");
        self.finish = Some(finish_of(status, reason, self.calls, self.refused));
    }
}

fn call_id<'a>(item: &mut Object<'a>) -> Text<'a> {
    let id = item.take("call_id").and_then(Json::into_text);
    id.or_else(|| item.take_string("id")).unwrap_or_default()
}

const fn tool<'a>(id: Text<'a>, name: Text<'a>) -> BlockKind<'a> {
    BlockKind::Tool {
        id,
        name,
        signature: None,
    }
}

fn close_with(item: &ItemState, text: Option<Cow<'_, str>>, sink: &mut Sink<'_>) {
    let Some((block, _)) = item.open else {
        return;
    };
    if let Some(text) = text {
        sink(AnswerEvent::Text {
            block,
            text,
            logprobs: None,
        });
    }
    sink(AnswerEvent::Close { block });
}

impl ReadStream for ResponsesStreamReader {
    fn read(&mut self, _: Option<&str>, data: &str, sink: &mut Sink<'_>) {
        parse_event(data, sink, |json, sink| {
            if provider_error::is_error(&json) {
                return sink(AnswerEvent::Failed(ProviderError::read(None, &json)));
            }
            let Json::Object(mut event) = json else {
                return;
            };
            let kind = event.take_string("type").unwrap_or_default();
            let index = event.u64("output_index").unwrap_or(0);
            if !self.started && kind.starts_with("response.") && kind != "response.failed" {
                self.start(&event, sink);
            }
            match kind.as_ref() {
                "response.output_item.added" => {
                    if let Some(item) = event.take_object("item") {
                        self.add(index, item, sink);
                    }
                }
                "response.output_text.delta" => {
                    self.text(&mut event, "content_index", BlockKind::Text, sink);
                }
                "response.refusal.delta" => {
                    self.text(&mut event, "content_index", BlockKind::Refusal, sink);
                }
                "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                    self.thought(&mut event, sink);
                }
                "response.function_call_arguments.delta" => self.arguments(&mut event, sink),
                "response.output_text.annotation.added" => {
                    let found = event.take("annotation").and_then(openai::read_annotation);
                    if let Some(citation) = found {
                        sink(AnswerEvent::Citation {
                            choice: 0,
                            citation,
                        });
                    }
                }
                "response.output_item.done" => {
                    if let Some(item) = event.take_object("item") {
                        self.end_item(index, item, sink);
                    }
                }
                "response.completed" | "response.incomplete" => self.end_response(&event, sink),
                "response.failed" => {
                    let json = Json::Object(event);
                    sink(AnswerEvent::Failed(ProviderError::read(None, &json)));
                }
                _ => {}
            }
        });
    }

    fn is_complete(&self) -> bool {
        self.started && self.finish.is_some()
    }

    fn end(&mut self, sink: &mut Sink<'_>) {
        for mut item in std::mem::take(&mut self.items) {
            self.open_held(&mut item, &mut Object::default(), sink);
            close_with(&item, None, sink);
        }
        sink(AnswerEvent::Finish {
            choice: 0,
            finish: self.finish.take().unwrap_or(Finish::Stop),
        });
    }
}
