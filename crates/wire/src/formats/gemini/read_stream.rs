//! Reads a stream of `generateContent` answers, each with what came since the last one.

use super::grounding;
use super::read_response::{CandidatePart, read_finish, read_part, read_tier, read_usage};
use crate::translate::event::{AnswerEvent, AnswerStart, BlockKind, ReadStream, Sink};
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{Finish, Text};
use crate::translate::options::ResponseContext;
use crate::translate::provider_error::{self, ProviderError};
use crate::translate::signature::Signature;
use crate::translate::stream::parse_event;
use crate::translate::tool_id;

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct GeminiStreamReader {
    started: bool,
    seed: String,
    blocks: usize,
    calls: usize,
    choices: Vec<CandidateState>,
    blocked: bool,
}

/// Reads a stream that came as one list.
pub(super) fn read_list(chunks: Vec<Json<'_>>, context: &ResponseContext, sink: &mut Sink<'_>) {
    let mut reader = GeminiStreamReader::new(context);
    for chunk in chunks {
        reader.chunk(chunk, sink);
    }
    if reader.is_complete() {
        reader.end(sink);
    }
}

/// CandidateState of a candidate.
#[derive(Debug)]
struct CandidateState {
    index: u64,
    /// The text or thought being written, and whether it is a thought.
    open: Option<(usize, bool)>,
    calls: bool,
    finish: Option<Finish<'static>>,
}

impl GeminiStreamReader {
    pub(crate) fn new(context: &ResponseContext) -> Self {
        Self {
            started: false,
            seed: context.request_id.clone(),
            blocks: 0,
            calls: 0,
            choices: Vec::new(),
            blocked: false,
        }
    }

    /// Takes one answer of the stream.
    fn chunk(&mut self, json: Json<'_>, sink: &mut Sink<'_>) {
        if provider_error::is_error(&json) {
            return sink(AnswerEvent::Failed(ProviderError::read(None, &json)));
        }
        let Json::Object(mut chunk) = json else {
            return;
        };
        let candidates = chunk.take_array("candidates");
        let feedback = chunk.get("promptFeedback");
        self.blocked |= feedback.is_some_and(|feedback| feedback.str("blockReason").is_some());
        if !candidates.is_empty() || self.blocked {
            self.start(&mut chunk, sink);
        }
        for candidate in candidates {
            if let Some(candidate) = candidate.into_object() {
                self.candidate(candidate, sink);
            }
        }
        if let Some(usage) = chunk.get("usageMetadata") {
            sink(AnswerEvent::Usage(read_usage(usage)));
        }
    }

    fn start(&mut self, chunk: &mut Object<'_>, sink: &mut Sink<'_>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let id = chunk.take("responseId").and_then(Json::into_text);
        if let Some(id) = &id {
            self.seed = id.to_string();
        }
        sink(AnswerEvent::Start(AnswerStart {
            id,
            created: None,
            model: chunk.take("modelVersion").and_then(Json::into_text),
            tier: read_tier(chunk),
            usage: chunk.get("usageMetadata").map(read_usage),
        }));
    }

    fn candidate(&mut self, mut candidate: Object<'_>, sink: &mut Sink<'_>) {
        let index = candidate.u64("index").unwrap_or(0);
        let at = self.progress(index);
        let mut content = candidate.take_object("content").unwrap_or_default();
        for part in content.take_array("parts") {
            if let Some((found, signature)) = read_part(part) {
                self.part(at, found, signature, sink);
            }
        }
        if let Some(metadata) = candidate.get("groundingMetadata") {
            for citation in grounding::read(metadata) {
                sink(AnswerEvent::Citation {
                    choice: index,
                    citation,
                });
            }
        }
        let reason = candidate.take("finishReason").and_then(Json::into_text);
        let Some((choice, reason)) = self.choices.get_mut(at).zip(reason) else {
            return;
        };
        match read_finish(&reason) {
            Ok(finish) => choice.finish = Some(finish.with_tools(choice.calls)),
            Err(failure) => sink(AnswerEvent::Failed(failure)),
        }
    }

    fn progress(&mut self, index: u64) -> usize {
        if let Some(at) = self.choices.iter().position(|choice| choice.index == index) {
            return at;
        }
        self.choices.push(CandidateState {
            index,
            open: None,
            calls: false,
            finish: None,
        });
        self.choices.len() - 1
    }

    fn part(
        &mut self,
        at: usize,
        found: CandidatePart<'_>,
        signature: Option<Text<'_>>,
        sink: &mut Sink<'_>,
    ) {
        match found {
            CandidatePart::Thought(text) => {
                self.text(at, text, true, sink);
                self.sign(at, "", signature, sink);
            }
            CandidatePart::Text(text) => {
                self.sign(at, "", signature, sink);
                if !text.is_empty() {
                    self.text(at, text, false, sink);
                }
            }
            CandidatePart::Call {
                id,
                name,
                arguments,
            } => {
                let id = id.map_or_else(|| tool_id::make(&self.seed, self.calls), Text::into_owned);
                self.calls += 1;
                if signature.is_some() {
                    self.carry(at, &id, signature.clone(), sink);
                }
                let kind = BlockKind::Tool {
                    id: id.into(),
                    name,
                    signature,
                };
                self.whole(at, kind, arguments, sink);
            }
            CandidatePart::Image { media_type, data } => {
                self.whole(at, BlockKind::Image { media_type, data }, "".into(), sink);
            }
        }
    }

    fn text(&mut self, at: usize, text: Text<'_>, thought: bool, sink: &mut Sink<'_>) {
        let block = match self.choices.get(at).and_then(|choice| choice.open) {
            Some((block, open)) if open == thought => block,
            _ => {
                let kind = if thought {
                    BlockKind::Thinking
                } else {
                    BlockKind::Text
                };
                let Some(block) = self.open(at, kind, sink) else {
                    return;
                };
                if let Some(choice) = self.choices.get_mut(at) {
                    choice.open = Some((block, thought));
                }
                block
            }
        };
        sink(AnswerEvent::Text {
            block,
            text,
            logprobs: None,
        });
    }

    /// Closes the open block and opens the next one.
    fn open(&mut self, at: usize, kind: BlockKind<'_>, sink: &mut Sink<'_>) -> Option<usize> {
        let choice = self.choices.get_mut(at)?;
        choice.close(sink);
        let block = self.blocks;
        self.blocks += 1;
        choice.calls |= matches!(kind, BlockKind::Tool { .. });
        sink(AnswerEvent::Open {
            choice: choice.index,
            block,
            kind,
        });
        Some(block)
    }

    fn whole(&mut self, at: usize, kind: BlockKind<'_>, text: Text<'_>, sink: &mut Sink<'_>) {
        let Some(block) = self.open(at, kind, sink) else {
            return;
        };
        if !text.is_empty() {
            sink(AnswerEvent::Text {
                block,
                text,
                logprobs: None,
            });
        }
        sink(AnswerEvent::Close { block });
    }

    /// Signs the open thought, if there is one.
    fn sign(&mut self, at: usize, call: &str, signature: Option<Text<'_>>, sink: &mut Sink<'_>) {
        let choice = self.choices.get_mut(at);
        let open = choice.and_then(|choice| {
            choice
                .open
                .take_if(|(_, thought)| *thought && signature.is_some())
        });
        if let Some(((block, _), value)) = open.zip(signature) {
            let call = call.to_owned().into();
            sink(AnswerEvent::Signature {
                block,
                signature: Signature::Gemini { call, value },
            });
            sink(AnswerEvent::Close { block });
        }
    }

    /// Gives a call's signature a thought to travel in: clients of other formats return those.
    fn carry(&mut self, at: usize, call: &str, signature: Option<Text<'_>>, sink: &mut Sink<'_>) {
        let open = self.choices.get(at).and_then(|choice| choice.open);
        if !matches!(open, Some((_, true))) {
            self.text(at, "".into(), true, sink);
        }
        self.sign(at, call, signature, sink);
    }
}

impl CandidateState {
    fn close(&mut self, sink: &mut Sink<'_>) {
        if let Some((block, _)) = self.open.take() {
            sink(AnswerEvent::Close { block });
        }
    }
}

impl ReadStream for GeminiStreamReader {
    fn read(&mut self, _: Option<&str>, data: &str, sink: &mut Sink<'_>) {
        parse_event(data, sink, |json, sink| self.chunk(json, sink));
    }

    fn is_complete(&self) -> bool {
        self.started && (self.blocked || self.choices.iter().any(|choice| choice.finish.is_some()))
    }

    fn end(&mut self, sink: &mut Sink<'_>) {
        if self.choices.is_empty() {
            sink(AnswerEvent::Finish {
                choice: 0,
                finish: Finish::Filtered,
            });
        }
        for choice in &mut self.choices {
            choice.close(sink);
            sink(AnswerEvent::Finish {
                choice: choice.index,
                finish: choice.finish.take().unwrap_or(Finish::Stop),
            });
        }
    }
}
