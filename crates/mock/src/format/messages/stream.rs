//! Anthropic's events: one message, its blocks in order, each opened, filled and closed.

use fastrand::Rng;
use serde::Serialize;

use super::{
    Message, MessageUsage, OutputDetails, signature, stop_reason, stop_sequence, tool_id, usage,
};
use crate::{
    ask::{Answer, Part, Stop},
    format::{Encoder, Events, Job, Place, error},
    prose,
    usage::Usage,
};

/// An answer on its way out as Anthropic's events.
pub(super) struct MessageStream {
    id: String,
    model: String,
    usage: Option<Usage>,
    stop: Stop,
    rng: Rng,
    pinged: bool,
}

/// Output tokens in `message_start`, before there is anything to count.
const PLACEHOLDER_OUTPUT: u64 = 1;

impl MessageStream {
    pub(super) fn new(job: &mut Job) -> Self {
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
    fn push(rng: &mut Rng, event: &Event<'_>, events: &mut Events) {
        events.push_padded(Some(event.name()), event, rng.usize(..16));
    }

    fn delta(&mut self, index: usize, delta: Delta<'_>, events: &mut Events) {
        Self::push(
            &mut self.rng,
            &Event::ContentBlockDelta { index, delta },
            events,
        );
    }
}

impl Encoder for MessageStream {
    fn begin(&mut self, events: &mut Events) {
        let mut message = Message::new(&self.id, &self.model);
        message.usage = self.usage.map(|counts| usage(&counts, PLACEHOLDER_OUTPUT));
        Self::push(&mut self.rng, &Event::MessageStart { message }, events);
    }

    fn open_part(&mut self, at: Place, part: &Part, events: &mut Events) {
        let content_block = match part {
            Part::Text(_) => OpenBlock::Text { text: "" },
            Part::Thinking(_) => OpenBlock::Thinking {
                thinking: "",
                signature: "",
            },
            Part::Call { name, .. } => OpenBlock::ToolUse {
                id: tool_id(&mut self.rng),
                name,
                input: Empty {},
            },
        };
        let start = Event::ContentBlockStart {
            index: at.part,
            content_block,
        };
        Self::push(&mut self.rng, &start, events);
        if !std::mem::replace(&mut self.pinged, true) {
            events.push(Some("ping"), &Event::Ping);
        }
        if matches!(part, Part::Call { .. }) {
            self.delta(at.part, Delta::InputJsonDelta { partial_json: "" }, events);
        }
    }

    fn piece(&mut self, at: Place, part: &Part, text: &str, events: &mut Events) {
        let delta = match part {
            Part::Text(_) => Delta::TextDelta { text },
            Part::Thinking(_) => Delta::ThinkingDelta { thinking: text },
            // A tool without arguments streams no more than its first, empty delta.
            Part::Call { .. } if text == "{}" => return,
            Part::Call { .. } => Delta::InputJsonDelta { partial_json: text },
        };
        self.delta(at.part, delta, events);
    }

    fn close_part(&mut self, at: Place, part: &Part, events: &mut Events) {
        if matches!(part, Part::Thinking(_)) {
            let signature = signature(&mut self.rng);
            self.delta(at.part, Delta::SignatureDelta { signature }, events);
        }
        Self::push(
            &mut self.rng,
            &Event::ContentBlockStop { index: at.part },
            events,
        );
    }

    fn finish(&mut self, answer: &Answer, events: &mut Events) {
        let counts = answer.usage;
        let delta = MessageDelta {
            stop_reason: stop_reason(&self.stop),
            stop_sequence: stop_sequence(&self.stop),
        };
        let usage = self.usage.map(|_| MessageUsage {
            cache_creation: None,
            service_tier: None,
            output_tokens_details: (counts.reasoning > 0).then_some(OutputDetails {
                thinking_tokens: counts.reasoning,
            }),
            ..usage(&counts, counts.output)
        });
        Self::push(&mut self.rng, &Event::MessageDelta { delta, usage }, events);
        Self::push(&mut self.rng, &Event::MessageStop, events);
    }

    fn failure(&mut self, message: &str, events: &mut Events) {
        events.push(Some("error"), &error::anthropic(529, message, ""));
    }
}

/// The data of an event; its type is the event's name too.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    MessageStart {
        message: Message<'a>,
    },
    ContentBlockStart {
        index: usize,
        content_block: OpenBlock<'a>,
    },
    Ping,
    ContentBlockDelta {
        index: usize,
        delta: Delta<'a>,
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

impl Event<'_> {
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
        input: Empty,
    },
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the wire's names end in delta")]
enum Delta<'a> {
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
