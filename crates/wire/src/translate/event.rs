//! A streamed answer as no format has it: the events that every format's stream is read into and
//! written out of. It must not know how any event looks on the wire.

use std::borrow::Cow;

use bytes::BytesMut;

use super::failure::Failure;
use super::json::Json;
use super::neutral::{Choice, Citation, Finish, Kind, Part, Response, Text, Usage};
use super::signature::Signature;

/// One thing that happens in a stream.
///
/// A [`Event::Start`] comes first. Blocks are opened, filled and closed; their numbers are unique
/// within the answer. A choice's [`Event::Finish`] comes after its blocks are closed.
#[derive(Clone, Debug)]
pub(crate) enum Event<'e> {
    Start(Start<'e>),
    Open {
        choice: u64,
        block: usize,
        kind: Block<'e>,
    },
    /// More text of a block: of a tool call, of its arguments.
    Text {
        block: usize,
        text: Cow<'e, str>,
        /// OpenAI's list of tokens and their probabilities.
        logprobs: Option<Json<'e>>,
    },
    Signature {
        block: usize,
        signature: Signature<'e>,
    },
    Close {
        block: usize,
    },
    Citation {
        choice: u64,
        citation: Citation<'e>,
    },
    Finish {
        choice: u64,
        finish: Finish<'e>,
    },
    /// Counts so far; later ones replace earlier ones.
    Usage(Usage),
    Failed(Failure),
}

/// Begin of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start<'e> {
    pub(crate) id: Option<Text<'e>>,
    pub(crate) created: Option<u64>,
    pub(crate) model: Option<Text<'e>>,
    pub(crate) tier: Option<Text<'e>>,
    pub(crate) usage: Option<Usage>,
}

/// Kind of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Block<'e> {
    Text,
    Refusal,
    Thinking,
    Tool {
        id: Text<'e>,
        name: Text<'e>,
        /// Gemini's signature of the thought behind the call.
        signature: Option<Text<'e>>,
    },
    /// A generated image, whole.
    Image {
        media_type: Text<'e>,
        data: Text<'e>,
    },
}

impl Block<'_> {
    pub(crate) fn into_owned(self) -> Block<'static> {
        let own = |text: Text<'_>| Cow::Owned(text.into_owned());
        match self {
            Self::Text => Block::Text,
            Self::Refusal => Block::Refusal,
            Self::Thinking => Block::Thinking,
            Self::Tool {
                id,
                name,
                signature,
            } => Block::Tool {
                id: own(id),
                name: own(name),
                signature: signature.map(own),
            },
            Self::Image { media_type, data } => Block::Image {
                media_type: own(media_type),
                data: own(data),
            },
        }
    }
}

/// Takes events one at a time.
pub(crate) type Sink<'s> = dyn FnMut(Event<'_>) + 's;

/// Reads a provider's stream.
pub(crate) trait ReadStream: Send + Sync {
    /// Takes one server-sent event.
    fn read(&mut self, name: Option<&str>, data: &str, sink: &mut Sink<'_>);

    /// Returns true if the answer is whole, so that the stream may end.
    fn is_complete(&self) -> bool;

    /// Ends a whole answer: what is still open is closed.
    fn end(&mut self, sink: &mut Sink<'_>);
}

/// Writes a client's stream.
pub(crate) trait WriteStream: Send + Sync {
    /// Takes one event. Blocks of one choice come one after the other.
    fn write(&mut self, event: &Event<'_>, out: &mut BytesMut);

    /// Ends the answer.
    fn end(&mut self, out: &mut BytesMut);

    /// Ends the stream in an error.
    fn fail(&mut self, failure: &Failure, out: &mut BytesMut);
}

/// A plain answer as a stream: for providers that don't stream though asked to.
pub(crate) fn replay(response: Response<'_>, sink: &mut Sink<'_>) {
    let Response {
        id,
        created,
        model,
        choices,
        usage,
        tier,
    } = response;
    sink(Event::Start(Start {
        id,
        created,
        model,
        tier,
        usage,
    }));
    let mut block = 0;
    for choice in choices {
        replay_choice(choice, &mut block, sink);
    }
    if let Some(usage) = usage {
        sink(Event::Usage(usage));
    }
}

fn replay_choice(choice: Choice<'_>, block: &mut usize, sink: &mut Sink<'_>) {
    let index = choice.index;
    let mut citations = choice.citations;
    let mut logprobs = choice.logprobs.and_then(|logprobs| {
        let content = logprobs.get("content").cloned();
        content.filter(|content| !content.is_null())
    });
    for Part { kind, .. } in choice.parts {
        let number = *block;
        let Some((opened, text, signature)) = as_block(kind) else {
            continue;
        };
        *block += 1;
        let is_text = opened == Block::Text;
        sink(Event::Open {
            choice: index,
            block: number,
            kind: opened,
        });
        if !text.is_empty() {
            sink(Event::Text {
                block: number,
                text,
                logprobs: if is_text { logprobs.take() } else { None },
            });
        }
        if let Some(signature) = signature {
            sink(Event::Signature {
                block: number,
                signature,
            });
        }
        if is_text {
            for citation in citations.drain(..) {
                sink(Event::Citation {
                    choice: index,
                    citation,
                });
            }
        }
        sink(Event::Close { block: number });
    }
    sink(Event::Finish {
        choice: index,
        finish: choice.finish,
    });
}

fn as_block(kind: Kind<'_>) -> Option<(Block<'_>, Text<'_>, Option<Signature<'_>>)> {
    Some(match kind {
        Kind::Text(text) => (Block::Text, text, None),
        Kind::Refusal(text) => (Block::Refusal, text, None),
        Kind::Thinking(thinking) => (Block::Thinking, thinking.text, thinking.signature),
        Kind::ToolCall(call) => {
            let text = call.arguments.as_text().to_owned();
            let tool = Block::Tool {
                id: call.id,
                name: call.name,
                signature: call.signature,
            };
            (tool, text.into(), None)
        }
        Kind::Image(image) => match image.source {
            super::neutral::Source::Base64 { media_type, data } => {
                (Block::Image { media_type, data }, "".into(), None)
            }
            _ => return None,
        },
        _ => return None,
    })
}
