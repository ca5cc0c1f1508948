//! Reads a stream of message events.

use super::citation;
use super::read_response::{read_stop, read_usage};
use crate::translate::event::{AnswerEvent, AnswerStart, BlockKind, ReadStream, Sink};
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{Finish, Text, TokenCounts};
use crate::translate::provider_error::{self, ProviderError};
use crate::translate::signature::Signature;
use crate::translate::stream::parse_event;

/// Reads the events of one message.
#[derive(Debug, Default)]
pub(crate) struct MessagesStreamReader {
    started: bool,
    /// Blocks opened so far, by their index; those of server tools have no number.
    blocks: Vec<(u64, Option<usize>)>,
    next: usize,
    calls: bool,
    usage: TokenCounts,
    stop: Option<Finish<'static>>,
    ended: bool,
}

impl MessagesStreamReader {
    fn start(&mut self, mut message: Object<'_>, sink: &mut Sink<'_>) {
        // Some proxies begin again within a stream: what they sent before stays valid.
        self.blocks.clear();
        if let Some(usage) = message.get("usage") {
            read_usage(usage, &mut self.usage);
        }
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let tier = message
            .get("usage")
            .and_then(|usage| usage.str("service_tier"))
            .map(|tier| tier.to_owned().into());
        sink(AnswerEvent::Start(AnswerStart {
            id: message.take("id").and_then(Json::into_text),
            created: None,
            model: message.take("model").and_then(Json::into_text),
            tier,
            usage: Some(self.usage),
        }));
    }

    fn open(&mut self, index: u64, mut block: Object<'_>, sink: &mut Sink<'_>) {
        let number = self.next;
        let (kind, text, signature) = match block.str("type") {
            Some("text") => (BlockKind::Text, block.take_string("text"), None),
            Some("thinking") => {
                let signature = block.take_string("signature");
                let signature = signature.and_then(Signature::from_block);
                (
                    BlockKind::Thinking,
                    block.take_string("thinking"),
                    signature,
                )
            }
            Some("redacted_thinking") => {
                let data = block.take_string("data").map(Signature::Redacted);
                (BlockKind::Thinking, None, data)
            }
            Some("tool_use") => {
                self.calls = true;
                // Servers that don't stream arguments give them here.
                let input = block.take("input").map(|input| input.to_text());
                let input = input.filter(|input| input != "{}" && input.starts_with('{'));
                let tool = BlockKind::Tool {
                    id: block.take_string("id").unwrap_or_default(),
                    name: block.take_string("name").unwrap_or_default(),
                    signature: None,
                };
                (tool, input, None)
            }
            _ => {
                self.blocks.push((index, None));
                return;
            }
        };
        self.next += 1;
        self.blocks.push((index, Some(number)));
        sink(AnswerEvent::Open {
            choice: 0,
            block: number,
            kind,
        });
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            text_event(number, text, sink);
        }
        if let Some(signature) = signature {
            sink(AnswerEvent::Signature {
                block: number,
                signature,
            });
        }
        for citation in block.take_array("citations") {
            cite(citation, sink);
        }
    }

    fn number(&self, index: u64) -> Option<usize> {
        let (_, number) = self.blocks.iter().rfind(|(known, _)| *known == index)?;
        *number
    }

    fn delta(&self, index: u64, mut delta: Object<'_>, sink: &mut Sink<'_>) {
        let Some(block) = self.number(index) else {
            return;
        };
        let text = match delta.str("type") {
            Some("text_delta") => delta.take_string("text"),
            Some("thinking_delta") => delta.take_string("thinking"),
            Some("input_json_delta") => delta.take_string("partial_json"),
            Some("signature_delta") => {
                let signature = delta.take_string("signature");
                if let Some(signature) = signature.and_then(Signature::from_block) {
                    sink(AnswerEvent::Signature { block, signature });
                }
                None
            }
            Some("citations_delta") => {
                if let Some(citation) = delta.take("citation") {
                    cite(citation, sink);
                }
                None
            }
            _ => None,
        };
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            text_event(block, text, sink);
        }
    }

    fn stop(&mut self, mut event: Object<'_>, sink: &mut Sink<'_>) {
        if let Some(usage) = event.get("usage") {
            read_usage(usage, &mut self.usage);
            sink(AnswerEvent::Usage(self.usage));
        }
        let Some(mut delta) = event.take_object("delta") else {
            return;
        };
        if let Some(reason) = delta.take_string("stop_reason") {
            let sequence = delta.take("stop_sequence").and_then(Json::into_text);
            let finish = read_stop(&reason, sequence).with_tools(self.calls);
            self.stop = Some(finish.into_owned());
        }
    }
}

fn text_event(block: usize, text: Text<'_>, sink: &mut Sink<'_>) {
    sink(AnswerEvent::Text {
        block,
        text,
        logprobs: None,
    });
}

fn cite(citation: Json<'_>, sink: &mut Sink<'_>) {
    if let Some(citation) = citation::read(citation) {
        sink(AnswerEvent::Citation {
            choice: 0,
            citation,
        });
    }
}

impl ReadStream for MessagesStreamReader {
    fn read(&mut self, _: Option<&str>, data: &str, sink: &mut Sink<'_>) {
        parse_event(data, sink, |json, sink| {
            if provider_error::is_error(&json) {
                return sink(AnswerEvent::Failed(ProviderError::read(None, &json)));
            }
            let Json::Object(mut event) = json else {
                return;
            };
            let index = event.u64("index").unwrap_or(0);
            let kind = event.take_string("type").unwrap_or_default();
            match kind.as_ref() {
                "message_start" => {
                    let message = event.take_object("message").unwrap_or_default();
                    self.start(message, sink);
                }
                "content_block_start" => {
                    if let Some(block) = event.take_object("content_block") {
                        self.open(index, block, sink);
                    }
                }
                "content_block_delta" => {
                    if let Some(delta) = event.take_object("delta") {
                        self.delta(index, delta, sink);
                    }
                }
                "content_block_stop" => {
                    if let Some(block) = self.number(index) {
                        sink(AnswerEvent::Close { block });
                    }
                }
                "message_delta" => self.stop(event, sink),
                "message_stop" => self.ended = true,
                _ => {}
            }
        });
    }

    fn is_complete(&self) -> bool {
        self.started && (self.ended || self.stop.is_some())
    }

    fn end(&mut self, sink: &mut Sink<'_>) {
        let finish = self.stop.take().unwrap_or(Finish::Stop);
        sink(AnswerEvent::Finish {
            choice: 0,
            finish: finish.with_tools(self.calls),
        });
    }
}
