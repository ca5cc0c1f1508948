//! Gemini's stream: each event an answer of its own, with what came since the last one.

use fastrand::Rng;

use super::{
    Candidate, Content, Generated, UsageMetadata, WirePart, finish_reason, signs, text_part,
    whole_part,
};
use crate::{
    ask::{Answer, Choice, Part, Stop},
    format::{Encoder, Events, Job, Place, Refusal, error},
    prose,
    usage::Usage,
};

/// An answer on its way out as Gemini's events.
pub(super) struct GeminiStream {
    id: String,
    model: String,
    usage: Option<Usage>,
    signs: bool,
    unsigned: bool,
    rng: Rng,
}

impl GeminiStream {
    pub(super) fn new(job: &mut Job) -> Self {
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
        candidates: Vec<Candidate<'_>>,
        usage: Option<UsageMetadata>,
        events: &mut Events,
    ) {
        events.push(
            None,
            &Generated {
                candidates,
                usage_metadata: usage,
                model_version: &self.model,
                response_id: &self.id,
            },
        );
    }

    fn part(&self, index: usize, part: WirePart<'_>, events: &mut Events) {
        let candidate = Candidate {
            content: Content::of(vec![part]),
            finish_reason: None,
            index,
        };
        let usage = self.usage.as_ref().map(UsageMetadata::of_prompt);
        self.push(vec![candidate], usage, events);
    }
}

impl Encoder for GeminiStream {
    fn open_choice(&mut self, _index: usize, _choice: &Choice, _events: &mut Events) {
        self.unsigned = self.signs;
    }

    fn open_part(&mut self, _at: Place, _part: &Part, _events: &mut Events) {}

    fn piece(&mut self, at: Place, part: &Part, text: &str, events: &mut Events) {
        match part {
            Part::Text(_) => self.part(at.choice, text_part(text, false), events),
            Part::Thinking(_) => self.part(at.choice, text_part(text, true), events),
            // Calls are sent whole.
            Part::Call { .. } => {}
        }
    }

    fn close_part(&mut self, at: Place, part: &Part, events: &mut Events) {
        if matches!(part, Part::Call { .. })
            && let Some(call) = whole_part(part, &mut self.unsigned, &mut self.rng)
        {
            self.part(at.choice, call, events);
        }
    }

    fn close_choice(&mut self, _index: usize, _stop: &Stop, _events: &mut Events) {}

    fn finish(&mut self, answer: &Answer, events: &mut Events) {
        let last = |(index, choice): (usize, &Choice)| Candidate {
            content: Content::of(vec![text_part("", false)]),
            finish_reason: Some(finish_reason(&choice.stop)),
            index,
        };
        let candidates = answer.choices.iter().enumerate().map(last).collect();
        let usage = self.usage.as_ref().map(UsageMetadata::of);
        self.push(candidates, usage, events);
    }

    fn failure(&mut self, message: &str, events: &mut Events) {
        events.push(None, &error::gemini(&Refusal::new(503, message)));
    }
}
