//! Reads a stream of chat completion chunks, with what compatible servers make of it.

use super::call_fragments::{CallFragment, Calls, Numbers, Until};
use super::read_request::read_google_signature;
use super::read_response::{content_part, read_finish, thoughts, usage_of};
use super::search_results;
use crate::formats::openai;
use crate::translate::event::{AnswerEvent, AnswerStart, BlockKind, ReadStream, Sink};
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{Citation, Finish, PartKind, Text};
use crate::translate::options::ResponseContext;
use crate::translate::provider_error::{self, ProviderError};
use crate::translate::signature::Signature;
use crate::translate::stream::{DONE, parse_event};

/// Reads the chunks of one answer.
#[derive(Debug)]
pub(crate) struct ChatStreamReader {
    started: bool,
    done: bool,
    /// The answer has too many parts: nothing more of it is read.
    is_refused: bool,
    numbers: Numbers,
    choices: Vec<ChoiceState>,
    /// Sources that wait for a text to stand at.
    citations: Vec<Citation<'static>>,
    /// The sources beside the choices are in: Perplexity repeats them in every chunk.
    searched: bool,
}

/// State of a choice.
#[derive(Debug)]
struct ChoiceState {
    index: u64,
    /// The text, refusal or thought being written.
    open: Option<(usize, BlockKind<'static>)>,
    calls: Calls,
    finished: bool,
    refused: bool,
}

/// The most choices of one answer: OpenAI writes 128 at most.
const MOST_CHOICES: usize = 512;

/// The most tool calls of one answer, of all its choices: OpenAI takes 128 tools at most, and no
/// model calls each of them several times at once.
const MOST_CALLS: usize = 2_048;

impl ChatStreamReader {
    pub(crate) fn new(context: &ResponseContext) -> Self {
        Self {
            started: false,
            done: false,
            is_refused: false,
            numbers: Numbers {
                seed: context.request_id.clone(),
                blocks: 0,
                calls: 0,
            },
            choices: Vec::new(),
            citations: Vec::new(),
            searched: false,
        }
    }

    fn start(&mut self, chunk: &mut Object<'_>, sink: &mut Sink<'_>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let id = chunk.take("id").and_then(Json::into_text);
        if let Some(id) = &id {
            self.numbers.seed = id.to_string();
        }
        sink(AnswerEvent::Start(AnswerStart {
            id,
            created: chunk.u64("created").filter(|created| *created > 0),
            model: chunk.take("model").and_then(Json::into_text),
            tier: chunk.take("service_tier").and_then(Json::into_text),
            usage: None,
        }));
    }

    fn choice(&mut self, mut choice: Object<'_>, sink: &mut Sink<'_>) {
        if self.is_refused {
            return;
        }
        let index = choice.u64("index").unwrap_or(0);
        let Some(at) = self.progress(index) else {
            return self.refuse("choices", sink);
        };
        let mut delta = choice
            .take_object("delta")
            .or_else(|| choice.take_object("message"))
            .unwrap_or_default();
        let logprobs = choice
            .take_object("logprobs")
            .and_then(|mut logprobs| logprobs.take("content"));
        if let Some(text) = thoughts(&mut delta) {
            self.text(at, BlockKind::Thinking, text, None, sink);
        }
        for block in delta.take_array("thinking_blocks") {
            self.signature(at, block, sink);
        }
        if let Some(content) = delta.take("content") {
            self.content(at, content, logprobs, sink);
        }
        if let Some(refusal) = delta.take("refusal").and_then(Json::into_text) {
            self.text(at, BlockKind::Refusal, refusal, None, sink);
        }

        for annotation in delta.take_array("annotations") {
            if let Some(citation) = openai::read_annotation(annotation) {
                self.cite(at, citation, sink);
            }
        }

        for call in delta.take_array("tool_calls") {
            if let Some(call) = call.into_object() {
                self.call(at, call, sink);
            }
        }
        if let Some(function) = delta.take_object("function_call") {
            self.legacy(at, function, sink);
        }
        if let Some(reason) = choice.take("finish_reason").and_then(Json::into_text) {
            self.finish(at, &reason, sink);
        }
    }

    /// Returns the place of a choice; `None` if there are too many.
    fn progress(&mut self, index: u64) -> Option<usize> {
        if let Some(at) = self.choices.iter().position(|choice| choice.index == index) {
            return Some(at);
        }
        if self.choices.len() >= MOST_CHOICES {
            return None;
        }
        self.choices.push(ChoiceState {
            index,
            open: None,
            calls: Calls::default(),
            finished: false,
            refused: false,
        });
        Some(self.choices.len() - 1)
    }

    /// Ends an answer that has more parts than any model's.
    fn refuse(&mut self, parts: &str, sink: &mut Sink<'_>) {
        self.is_refused = true;
        let message = format!("The provider sent too many {parts} in one answer.");
        sink(AnswerEvent::Failed(ProviderError::new(
            502,
            "upstream_error",
            &message,
        )));
    }

    fn content(
        &mut self,
        at: usize,
        content: Json<'_>,
        logprobs: Option<Json<'_>>,
        sink: &mut Sink<'_>,
    ) {
        match content {
            Json::String(text) if text.is_empty() => {}
            Json::String(text) => self.text(at, BlockKind::Text, text, logprobs, sink),
            Json::Array(items) => {
                for part in items.into_iter().filter_map(content_part) {
                    match part.kind {
                        PartKind::Thinking(t) => {
                            self.text(at, BlockKind::Thinking, t.text, None, sink)
                        }
                        PartKind::Refusal(text) => {
                            self.text(at, BlockKind::Refusal, text, None, sink)
                        }
                        PartKind::Text(text) => self.text(at, BlockKind::Text, text, None, sink),
                        _ => {}
                    }
                }
            }
            other => self.text(at, BlockKind::Text, other.to_text(), logprobs, sink),
        }
    }

    fn text(
        &mut self,
        at: usize,
        kind: BlockKind<'static>,
        text: Text<'_>,
        logprobs: Option<Json<'_>>,
        sink: &mut Sink<'_>,
    ) {
        let Some(choice) = self.choices.get_mut(at) else {
            return;
        };
        let block = match &choice.open {
            Some((block, open)) if *open == kind => *block,
            _ => {
                choice.close_text(sink);
                choice.pass_calls(Until::Next, &mut self.numbers, sink);
                choice.refused |= kind == BlockKind::Refusal;
                let next = self.numbers.blocks;
                self.numbers.blocks += 1;
                choice.open = Some((next, kind.clone()));
                sink(AnswerEvent::Open {
                    choice: choice.index,
                    block: next,
                    kind,
                });
                next
            }
        };

        if !self.citations.is_empty() && self.has_open_text(at) {
            for citation in std::mem::take(&mut self.citations) {
                self.cite(at, citation, sink);
            }
        }
        sink(AnswerEvent::Text {
            block,
            text,
            logprobs,
        });
    }

    fn has_open_text(&self, at: usize) -> bool {
        let open = self.choices.get(at).and_then(|choice| choice.open.as_ref());
        matches!(open, Some((_, BlockKind::Text)))
    }

    /// Passes a source on, or keeps it: some servers give sources before the text they are for.
    fn cite(&mut self, at: usize, citation: Citation<'_>, sink: &mut Sink<'_>) {
        match self.choices.get(at) {
            Some(choice) if self.has_open_text(at) => sink(AnswerEvent::Citation {
                choice: choice.index,
                citation,
            }),
            _ => self.citations.push(citation.into_owned()),
        }
    }

    /// Another router's signatures; the text came as `reasoning_content`.
    fn signature(&mut self, at: usize, block: Json<'_>, sink: &mut Sink<'_>) {
        let Some(mut block) = block.into_object() else {
            return;
        };
        let signature = match block.take_string("data") {
            Some(data) => Some(Signature::Redacted(data)),
            None => block
                .take_string("signature")
                .and_then(Signature::from_block),
        };
        let Some(signature) = signature else {
            return;
        };
        let open = self.choices.get(at).and_then(|choice| choice.open.as_ref());
        if !matches!(open, Some((_, BlockKind::Thinking))) {
            self.text(at, BlockKind::Thinking, "".into(), None, sink);
        }
        let choice = self.choices.get_mut(at);
        if let Some((block, _)) = choice.and_then(|choice| choice.open.take()) {
            sink(AnswerEvent::Signature { block, signature });
            sink(AnswerEvent::Close { block });
        }
    }

    fn call(&mut self, at: usize, mut call: Object<'_>, sink: &mut Sink<'_>) {
        if self.is_refused {
            return;
        }
        let index = call.u64("index");
        let id = call
            .take("id")
            .and_then(Json::into_text)
            .unwrap_or_default();
        let signature = call.take("extra_content").and_then(read_google_signature);
        let mut function = call.take_object("function").unwrap_or_default();
        let name = function
            .take("name")
            .and_then(Json::into_text)
            .unwrap_or_default();
        let arguments = match function.take("arguments") {
            Some(Json::String(text)) => text,
            Some(value) => value.to_text(),
            None => Text::default(),
        };
        let fragment = CallFragment {
            index,
            id,
            name,
            arguments,
            signature,
        };
        let Some(choice) = self.choices.get_mut(at) else {
            return;
        };
        if choice.calls.begins(&fragment) {
            if self.numbers.calls >= MOST_CALLS {
                return self.refuse("tool calls", sink);
            }
            choice.close_text(sink);
        }
        choice
            .calls
            .add(fragment, choice.index, &mut self.numbers, sink);
    }

    /// The forerunner of tool calls: one call, without id or index.
    fn legacy(&mut self, at: usize, function: Object<'_>, sink: &mut Sink<'_>) {
        let call = vec![("function".into(), Json::Object(function))];
        self.call(at, Object(call), sink);
    }

    fn finish(&mut self, at: usize, reason: &str, sink: &mut Sink<'_>) {
        let citations = std::mem::take(&mut self.citations);
        let Some(choice) = self.choices.get_mut(at) else {
            return;
        };
        if std::mem::replace(&mut choice.finished, true) {
            return;
        }
        if reason == "error" {
            let failure = ProviderError::new(502, "upstream_error", "The provider's model failed.");
            return sink(AnswerEvent::Failed(failure));
        }
        for citation in citations {
            sink(AnswerEvent::Citation {
                choice: choice.index,
                citation,
            });
        }
        choice.close_text(sink);
        choice.pass_calls(Until::End, &mut self.numbers, sink);
        let finish = match read_finish(reason) {
            Finish::Stop if choice.refused => Finish::Refusal,
            finish => finish.with_tools(!choice.calls.is_empty()),
        };
        sink(AnswerEvent::Finish {
            choice: choice.index,
            finish,
        });
    }
}

impl ChoiceState {
    fn close_text(&mut self, sink: &mut Sink<'_>) {
        if let Some((block, _)) = self.open.take() {
            sink(AnswerEvent::Close { block });
        }
    }

    fn pass_calls(&mut self, until: Until, numbers: &mut Numbers, sink: &mut Sink<'_>) {
        self.calls.pass(until, self.index, numbers, sink);
    }
}

impl ReadStream for ChatStreamReader {
    fn read(&mut self, _: Option<&str>, data: &str, sink: &mut Sink<'_>) {
        if data.trim() == DONE {
            self.done = true;
            return;
        }
        parse_event(data, sink, |json, sink| {
            if provider_error::is_error(&json) {
                return sink(AnswerEvent::Failed(ProviderError::read(None, &json)));
            }
            let Json::Object(mut chunk) = json else {
                return;
            };
            let choices = chunk.take_array("choices");
            if !choices.is_empty() {
                self.start(&mut chunk, sink);
            }

            if !self.searched {
                let found = search_results::read(&mut chunk);
                self.searched = !found.is_empty();
                self.citations
                    .extend(found.into_iter().map(Citation::into_owned));
            }

            for choice in choices {
                if let Some(choice) = choice.into_object() {
                    self.choice(choice, sink);
                }
            }
            if let Some(usage) = usage_of(&mut chunk) {
                sink(AnswerEvent::Usage(usage));
            }
        });
    }

    fn is_complete(&self) -> bool {
        self.started && (self.done || self.choices.iter().any(|choice| choice.finished))
    }

    fn end(&mut self, sink: &mut Sink<'_>) {
        for at in 0..self.choices.len() {
            // Kimi and Snowflake end without a reason.
            self.finish(at, "stop", sink);
        }
    }
}
