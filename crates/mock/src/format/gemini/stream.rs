//! Gemini's stream: each event an answer of its own, with what came since the last one.

use fastrand::Rng;

use super::{
    GeminiAnswer, GeminiCandidate, GeminiContent, UsageMetadata, WirePart, finish_reason, signs,
    text_part, whole_part,
};
use crate::{
    ask::{AnswerChoice, AnswerPart, AnswerStop, MockAnswer},
    format::{AnswerJob, Encoder, EventBuffer, MockRefusal, PiecePosition, error},
    prose,
    usage::MockUsage,
};

/// An answer on its way out as Gemini's events.
pub(super) struct GeminiStream {
    id: String,
    model: String,
    usage: Option<MockUsage>,
    signs: bool,
    unsigned: bool,
    rng: Rng,
}

impl GeminiStream {
    pub(super) fn new(job: &mut AnswerJob) -> Self {
        Self {
            id: prose::id("", 22, &mut job.ids),
            model: job.model.clone(),
            usage: job.answer.usage_told.then_some(job.answer.usage),
            signs: signs(&job.model, &job.answer.usage),
            unsigned: false,
            rng: job.ids.clone(),
        }
    }

    fn push(
        &self,
        candidates: Vec<GeminiCandidate<'_>>,
        usage: Option<UsageMetadata>,
        events: &mut EventBuffer,
    ) {
        events.push(
            None,
            &GeminiAnswer {
                candidates,
                usage_metadata: usage,
                model_version: &self.model,
                response_id: &self.id,
            },
        );
    }

    fn part(&self, index: usize, part: WirePart<'_>, events: &mut EventBuffer) {
        let candidate = GeminiCandidate {
            content: GeminiContent::new(vec![part]),
            finish_reason: None,
            index,
        };
        let usage = self.usage.as_ref().map(UsageMetadata::from_prompt);
        self.push(vec![candidate], usage, events);
    }
}

impl Encoder for GeminiStream {
    fn open_choice(&mut self, _index: usize, _choice: &AnswerChoice, _events: &mut EventBuffer) {
        self.unsigned = self.signs;
    }

    fn open_part(&mut self, _at: PiecePosition, _part: &AnswerPart, _events: &mut EventBuffer) {}

    fn piece(
        &mut self,
        at: PiecePosition,
        part: &AnswerPart,
        text: &str,
        events: &mut EventBuffer,
    ) {
        match part {
            AnswerPart::Text(_) => self.part(at.choice, text_part(text, false), events),
            AnswerPart::Thinking(_) => self.part(at.choice, text_part(text, true), events),
            // Calls are sent whole.
            AnswerPart::Call { .. } => {}
        }
    }

    fn close_part(&mut self, at: PiecePosition, part: &AnswerPart, events: &mut EventBuffer) {
        if matches!(part, AnswerPart::Call { .. })
            && let Some(call) = whole_part(part, &mut self.unsigned, &mut self.rng)
        {
            self.part(at.choice, call, events);
        }
    }

    fn close_choice(&mut self, _index: usize, _stop: &AnswerStop, _events: &mut EventBuffer) {}

    fn finish(&mut self, answer: &MockAnswer, events: &mut EventBuffer) {
        let last = |(index, choice): (usize, &AnswerChoice)| GeminiCandidate {
            content: GeminiContent::new(vec![text_part("", false)]),
            finish_reason: Some(finish_reason(&choice.stop)),
            index,
        };
        let candidates = answer.choices.iter().enumerate().map(last).collect();
        let usage = self.usage.as_ref().map(UsageMetadata::new);
        self.push(candidates, usage, events);
    }

    fn failure(&mut self, message: &str, events: &mut EventBuffer) {
        events.push(None, &error::gemini(&MockRefusal::new(503, message)));
    }
}
