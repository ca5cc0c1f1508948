//! Anthropic's events: one message, its blocks in order, each opened, filled and closed.

use fastrand::Rng;
use serde::Serialize;

use super::{
    AnthropicMessage, AnthropicOutputDetails, MessageUsage, signature, stop_reason, stop_sequence,
    tool_id, usage,
};
use crate::{
    ask::{AnswerPart, AnswerStop, MockAnswer},
    format::{AnswerJob, Encoder, EventBuffer, PiecePosition, error},
    prose,
    usage::MockUsage,
};

/// An answer on its way out as Anthropic's events.
pub(super) struct MessageStream {
    id: String,
    model: String,
    usage: Option<MockUsage>,
    stop: AnswerStop,
    rng: Rng,
    pinged: bool,
}

/// Output tokens in `message_start`, before there is anything to count.
const PLACEHOLDER_OUTPUT: u64 = 1;

impl MessageStream {
    pub(super) fn new(job: &mut AnswerJob) -> Self {
        Self {
            id: prose::id("msg_01", 22, &mut job.ids),
            model: job.model.clone(),
            usage: job.answer.usage_told.then_some(job.answer.usage),
            stop: job.first().1.clone(),
            rng: job.ids.clone(),
            pinged: false,
        }
    }

    /// Writes an event; the provider leaves a random stretch of white space at its end.
    fn push(rng: &mut Rng, event: &MessageEvent<'_>, events: &mut EventBuffer) {
        events.push_padded(Some(event.name()), event, rng.usize(..16));
    }

    fn delta(&mut self, index: usize, delta: BlockDelta<'_>, events: &mut EventBuffer) {
        Self::push(
            &mut self.rng,
            &MessageEvent::ContentBlockDelta { index, delta },
            events,
        );
    }
}

impl Encoder for MessageStream {
    fn begin(&mut self, events: &mut EventBuffer) {
        let mut message = AnthropicMessage::new(&self.id, &self.model);
        message.usage = self.usage.map(|counts| usage(&counts, PLACEHOLDER_OUTPUT));
        Self::push(
            &mut self.rng,
            &MessageEvent::MessageStart { message },
            events,
        );
    }

    fn open_part(&mut self, at: PiecePosition, part: &AnswerPart, events: &mut EventBuffer) {
        let content_block = match part {
            AnswerPart::Text(_) => OpenBlock::Text { text: "" },
            AnswerPart::Thinking(_) => OpenBlock::Thinking {
                thinking: "",
                signature: "",
            },
            AnswerPart::Call { name, .. } => OpenBlock::ToolUse {
                id: tool_id(&mut self.rng),
                name,
                input: EmptyObject {},
            },
        };
        let start = MessageEvent::ContentBlockStart {
            index: at.part,
            content_block,
        };
        Self::push(&mut self.rng, &start, events);
        if !std::mem::replace(&mut self.pinged, true) {
            events.push(Some("ping"), &MessageEvent::Ping);
        }
        if matches!(part, AnswerPart::Call { .. }) {
            self.delta(
                at.part,
                BlockDelta::InputJsonDelta { partial_json: "" },
                events,
            );
        }
    }

    fn piece(
        &mut self,
        at: PiecePosition,
        part: &AnswerPart,
        text: &str,
        events: &mut EventBuffer,
    ) {
        let delta = match part {
            AnswerPart::Text(_) => BlockDelta::TextDelta { text },
            AnswerPart::Thinking(_) => BlockDelta::ThinkingDelta { thinking: text },
            // A tool without arguments streams no more than its first, empty delta.
            AnswerPart::Call { .. } if text == "{}" => return,
            AnswerPart::Call { .. } => BlockDelta::InputJsonDelta { partial_json: text },
        };
        self.delta(at.part, delta, events);
    }

    fn close_part(&mut self, at: PiecePosition, part: &AnswerPart, events: &mut EventBuffer) {
        if matches!(part, AnswerPart::Thinking(_)) {
            let signature = signature(&mut self.rng);
            self.delta(at.part, BlockDelta::SignatureDelta { signature }, events);
        }
        Self::push(
            &mut self.rng,
            &MessageEvent::ContentBlockStop { index: at.part },
            events,
        );
    }

    fn finish(&mut self, answer: &MockAnswer, events: &mut EventBuffer) {
        let counts = answer.usage;
        let delta = MessageDelta {
            stop_reason: stop_reason(&self.stop),
            stop_sequence: stop_sequence(&self.stop),
        };
        let usage = self.usage.map(|_| MessageUsage {
            cache_creation: None,
            service_tier: None,
            output_tokens_details: (counts.reasoning > 0).then_some(AnthropicOutputDetails {
                thinking_tokens: counts.reasoning,
            }),
            ..usage(&counts, counts.output)
        });
        Self::push(
            &mut self.rng,
            &MessageEvent::MessageDelta { delta, usage },
            events,
        );
        Self::push(&mut self.rng, &MessageEvent::MessageStop, events);
    }

    fn failure(&mut self, message: &str, events: &mut EventBuffer) {
        events.push(Some("error"), &error::anthropic(529, message, ""));
    }
}

/// The data of an event; its type is the event's name too.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum MessageEvent<'a> {
    MessageStart {
        message: AnthropicMessage<'a>,
    },
    ContentBlockStart {
        index: usize,
        content_block: OpenBlock<'a>,
    },
    Ping,
    ContentBlockDelta {
        index: usize,
        delta: BlockDelta<'a>,
    },
    ContentBlockStop {
        index: usize,
    },
    MessageDelta {
        delta: MessageDelta<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        usage: Option<MessageUsage>,
    },
    MessageStop,
}

impl MessageEvent<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::Ping => "ping",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        }
    }
}

/// A block as it is opened: with everything empty that deltas will fill.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum OpenBlock<'a> {
    Text {
        text: &'static str,
    },
    Thinking {
        thinking: &'static str,
        signature: &'static str,
    },
    ToolUse {
        id: String,
        name: &'a str,
        input: EmptyObject,
    },
}

#[derive(Serialize)]
struct EmptyObject {}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the wire's names end in delta")]
enum BlockDelta<'a> {
    TextDelta { text: &'a str },
    ThinkingDelta { thinking: &'a str },
    SignatureDelta { signature: String },
    InputJsonDelta { partial_json: &'a str },
}

#[derive(Serialize)]
struct MessageDelta<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}
