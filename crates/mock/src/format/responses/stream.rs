//! The typed and numbered events of a response, from `response.created` to `response.completed`.

use serde::Serialize;
use serde_json::Value;

use super::{
    OutputItem, OutputItemKind, ResponseFrame, ResponseObject, ResponseStatus, output_text,
    summary_text,
};
use crate::{
    ask::{AnswerPart, AnswerStop, MockAnswer},
    format::{AnswerJob, Encoder, EventBuffer, PiecePosition},
};

/// An answer on its way out as typed events.
pub(super) struct ResponseStream {
    frame: ResponseFrame,
    stop: AnswerStop,
    sequence: u64,
    output: Vec<Value>,
    open: Option<OutputItem>,
}

impl ResponseStream {
    pub(super) fn new(body: &Value, job: &mut AnswerJob) -> Self {
        Self {
            stop: job.first().1.clone(),
            frame: ResponseFrame::new(body, job),
            sequence: 0,
            output: Vec::new(),
            open: None,
        }
    }

    fn announce(&mut self, kind: &str, events: &mut EventBuffer) {
        let response = self
            .frame
            .response(ResponseStatus::InProgress, Vec::new(), None);
        push(&mut self.sequence, kind, WithResponse { response }, events);
    }

    fn open_text(&mut self, item: &OutputItem, index: usize, events: &mut EventBuffer) {
        let (kind, part) = match item.kind {
            OutputItemKind::Message => ("response.content_part.added", output_text("")),
            OutputItemKind::Reasoning { .. } if !item.text.is_empty() => {
                ("response.reasoning_summary_part.added", summary_text(""))
            }
            OutputItemKind::Reasoning { .. } | OutputItemKind::Call { .. } => return,
        };
        let rest = OfText {
            part: Some(part),
            ..OfText::new(item, index)
        };
        push(&mut self.sequence, kind, rest, events);
    }

    fn close_text(&mut self, item: &OutputItem, index: usize, events: &mut EventBuffer) {
        let text = Some(item.text.as_str());
        let new = || OfText::new(item, index);
        let sequence = &mut self.sequence;
        match &item.kind {
            OutputItemKind::Message => {
                let done = OfText {
                    text,
                    logprobs: Some([]),
                    ..new()
                };
                push(sequence, "response.output_text.done", done, events);
                let part = OfText {
                    part: Some(output_text(&item.text)),
                    ..new()
                };
                push(sequence, "response.content_part.done", part, events);
            }
            OutputItemKind::Reasoning { .. } if item.text.is_empty() => {}
            OutputItemKind::Reasoning { .. } => {
                let done = OfText { text, ..new() };
                push(
                    sequence,
                    "response.reasoning_summary_text.done",
                    done,
                    events,
                );
                let part = OfText {
                    part: Some(summary_text(&item.text)),
                    ..new()
                };
                push(
                    sequence,
                    "response.reasoning_summary_part.done",
                    part,
                    events,
                );
            }
            OutputItemKind::Call { name, .. } => {
                let done = OfText {
                    arguments: text,
                    name: Some(name),
                    ..new()
                };
                push(
                    sequence,
                    "response.function_call_arguments.done",
                    done,
                    events,
                );
            }
        }
    }
}

impl Encoder for ResponseStream {
    fn begin(&mut self, events: &mut EventBuffer) {
        self.announce("response.created", events);
        self.announce("response.in_progress", events);
    }

    fn open_part(&mut self, at: PiecePosition, part: &AnswerPart, events: &mut EventBuffer) {
        let item = self.frame.item(part);
        let added = WithItem {
            output_index: at.part,
            item: item.added_item(),
        };
        push(
            &mut self.sequence,
            "response.output_item.added",
            added,
            events,
        );
        self.open_text(&item, at.part, events);
        self.open = Some(OutputItem {
            text: String::new(),
            ..item
        });
    }

    fn piece(
        &mut self,
        at: PiecePosition,
        _part: &AnswerPart,
        text: &str,
        events: &mut EventBuffer,
    ) {
        let Some(item) = &mut self.open else { return };
        item.text.push_str(text);
        let delta = OfText {
            delta: Some(text),
            ..OfText::new(item, at.part)
        };
        let (kind, rest) = match item.kind {
            OutputItemKind::Message => (
                "response.output_text.delta",
                OfText {
                    logprobs: Some([]),
                    ..delta
                },
            ),
            OutputItemKind::Reasoning { .. } => ("response.reasoning_summary_text.delta", delta),
            OutputItemKind::Call { .. } => ("response.function_call_arguments.delta", delta),
        };
        push(&mut self.sequence, kind, rest, events);
    }

    fn close_part(&mut self, at: PiecePosition, _part: &AnswerPart, events: &mut EventBuffer) {
        let Some(item) = self.open.take() else { return };
        self.close_text(&item, at.part, events);
        let done = item.done_item();
        let rest = WithItem {
            output_index: at.part,
            item: done.clone(),
        };
        push(
            &mut self.sequence,
            "response.output_item.done",
            rest,
            events,
        );
        self.output.push(done);
    }

    fn finish(&mut self, answer: &MockAnswer, events: &mut EventBuffer) {
        let status = ResponseStatus::from_stop(&self.stop);
        let output = std::mem::take(&mut self.output);
        let response = self.frame.response(status, output, Some(answer));
        let kind = match status {
            ResponseStatus::Incomplete => "response.incomplete",
            ResponseStatus::InProgress | ResponseStatus::Completed => "response.completed",
        };
        push(&mut self.sequence, kind, WithResponse { response }, events);
    }

    fn failure(&mut self, message: &str, events: &mut EventBuffer) {
        #[derive(Serialize)]
        struct ResponseFailure<'a> {
            code: &'static str,
            message: &'a str,
            param: (),
        }
        let failure = ResponseFailure {
            code: "server_error",
            message,
            param: (),
        };
        push(&mut self.sequence, "error", failure, events);
    }
}

/// An event: `rest` is merged into it, after its type and number.
#[derive(Serialize)]
struct ResponseEvent<'a, T: Serialize> {
    r#type: &'a str,
    sequence_number: u64,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize)]
struct WithResponse<'a> {
    response: ResponseObject<'a>,
}

#[derive(Serialize)]
struct WithItem {
    output_index: usize,
    item: Value,
}

/// The fields that tell to which text an event belongs, and its text.
#[derive(Serialize)]
struct OfText<'a> {
    item_id: &'a str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[(); 0]>,
}

impl<'a> OfText<'a> {
    fn new(item: &'a OutputItem, output_index: usize) -> Self {
        Self {
            item_id: &item.id,
            output_index,
            content_index: matches!(item.kind, OutputItemKind::Message).then_some(0),
            summary_index: matches!(item.kind, OutputItemKind::Reasoning { .. }).then_some(0),
            part: None,
            delta: None,
            text: None,
            arguments: None,
            name: None,
            logprobs: None,
        }
    }
}

fn push(sequence: &mut u64, kind: &str, rest: impl Serialize, events: &mut EventBuffer) {
    let event = ResponseEvent {
        r#type: kind,
        sequence_number: *sequence,
        rest,
    };
    events.push(Some(kind), &event);
    *sequence += 1;
}
