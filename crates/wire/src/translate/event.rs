//! A streamed answer as no format has it: the events that every format's stream is read into and
//! written out of. It must not know how any event looks on the wire.

use std::borrow::Cow;

use bytes::BytesMut;

use super::json::Json;
use super::neutral::{
    Choice, Citation, Finish, NeutralResponse, Part, PartKind, Text, TokenCounts,
};
use super::provider_error::ProviderError;
use super::signature::Signature;

/// One thing that happens in a stream.
///
/// An [`AnswerEvent::Start`] comes first. Blocks are opened, filled and closed; their numbers are
/// unique within the answer. A choice's [`AnswerEvent::Finish`] comes after its blocks are closed.
#[derive(Clone, Debug)]
pub(crate) enum AnswerEvent<'e> {
    Start(AnswerStart<'e>),
    Open {
        choice: u64,
        block: usize,
        kind: BlockKind<'e>,
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
    Usage(TokenCounts),
    Failed(ProviderError),
}

/// Begin of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnswerStart<'e> {
    pub(crate) id: Option<Text<'e>>,
    pub(crate) created: Option<u64>,
    pub(crate) model: Option<Text<'e>>,
    pub(crate) tier: Option<Text<'e>>,
    pub(crate) usage: Option<TokenCounts>,
}

/// Kind of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind<'e> {
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

impl BlockKind<'_> {
    pub(crate) fn into_owned(self) -> BlockKind<'static> {
        let own = |text: Text<'_>| Cow::Owned(text.into_owned());
        match self {
            Self::Text => BlockKind::Text,
            Self::Refusal => BlockKind::Refusal,
            Self::Thinking => BlockKind::Thinking,
            Self::Tool {
                id,
                name,
                signature,
            } => BlockKind::Tool {
                id: own(id),
                name: own(name),
                signature: signature.map(own),
            },
            Self::Image { media_type, data } => BlockKind::Image {
                media_type: own(media_type),
                data: own(data),
            },
        }
    }
}

/// Takes events one at a time.
pub(crate) type Sink<'s> = dyn FnMut(AnswerEvent<'_>) + 's;

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
    fn write(&mut self, event: &AnswerEvent<'_>, out: &mut BytesMut);

    /// Ends the answer.
    fn end(&mut self, out: &mut BytesMut);

    /// Ends the stream in an error.
    fn fail(&mut self, failure: &ProviderError, out: &mut BytesMut);
}

/// A plain answer as a stream: for providers that don't stream though asked to.
pub(crate) fn replay(response: NeutralResponse<'_>, sink: &mut Sink<'_>) {
    let NeutralResponse {
        id,
        created,
        model,
        choices,
        usage,
        tier,
    } = response;
    sink(AnswerEvent::Start(AnswerStart {
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
        sink(AnswerEvent::Usage(usage));
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
        let is_text = opened == BlockKind::Text;
        sink(AnswerEvent::Open {
            choice: index,
            block: number,
            kind: opened,
        });
        if !text.is_empty() {
            sink(AnswerEvent::Text {
                block: number,
                text,
                logprobs: if is_text { logprobs.take() } else { None },
            });
        }
        if let Some(signature) = signature {
            sink(AnswerEvent::Signature {
                block: number,
                signature,
            });
        }
        if is_text {
            for citation in citations.drain(..) {
                sink(AnswerEvent::Citation {
                    choice: index,
                    citation,
                });
            }
        }
        sink(AnswerEvent::Close { block: number });
    }
    sink(AnswerEvent::Finish {
        choice: index,
        finish: choice.finish,
    });
}

fn as_block(kind: PartKind<'_>) -> Option<(BlockKind<'_>, Text<'_>, Option<Signature<'_>>)> {
    Some(match kind {
        PartKind::Text(text) => (BlockKind::Text, text, None),
        PartKind::Refusal(text) => (BlockKind::Refusal, text, None),
        PartKind::Thinking(thinking) => (BlockKind::Thinking, thinking.text, thinking.signature),
        PartKind::ToolCall(call) => {
            let text = call.arguments.as_text().to_owned();
            let tool = BlockKind::Tool {
                id: call.id,
                name: call.name,
                signature: call.signature,
            };
            (tool, text.into(), None)
        }
        PartKind::Image(image) => match image.source {
            super::neutral::MediaSource::Base64 { media_type, data } => {
                (BlockKind::Image { media_type, data }, "".into(), None)
            }
            _ => return None,
        },
        _ => return None,
    })
}
