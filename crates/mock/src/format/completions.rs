//! OpenAI's older text completions: `POST /v1/completions`.

use serde::Serialize;
use serde_json::Value;

use super::{
    AnswerJob, Encoder, EventBuffer, MockRefusal, PiecePosition, Surface,
    chat::{self, ChatUsage, ChunkUsage},
    error, json, reading,
};
use crate::{
    ask::{AnswerChoice, AnswerPart, AnswerRequest, AnswerStop, MockAnswer},
    prose,
};

/// The surface of `/v1/completions`.
pub(crate) struct Completions;

impl Surface for Completions {
    fn read(&self, body: &Value) -> Result<AnswerRequest, MockRefusal> {
        if !body["prompt"].is_string() && !body["prompt"].is_array() {
            return Err(MockRefusal::field("prompt", "Missing or wrong 'prompt'."));
        }
        let prompts = reading::strings(&body["prompt"]);
        let input_tokens = reading::tokens(body, &["prompt"]);
        Ok(AnswerRequest {
            input_tokens,
            cache: chat::automatic_cache(input_tokens),
            max_tokens: reading::count(body, "max_tokens")?,
            stops: reading::strings(&body["stop"]),
            choices: chat::choices(body)? * prompts.len().clamp(1, 64),
            prompt: prompts.into_iter().next_back().unwrap_or_default(),
            ..AnswerRequest::default()
        })
    }

    fn whole(&self, _body: &Value, job: &mut AnswerJob) -> Vec<u8> {
        let id = prose::id("cmpl-", 29, &mut job.ids);
        let choices = job.answer.choices.iter().enumerate();
        json(&Completion {
            id: &id,
            object: "text_completion",
            created: job.created,
            model: &job.model,
            choices: choices
                .map(|(index, choice)| whole_choice(index, choice))
                .collect(),
            usage: match job.answer.usage_told {
                true => ChunkUsage::Told(ChatUsage::new(&job.answer.usage)),
                false => ChunkUsage::Absent,
            },
        })
    }

    fn encoder(&self, body: &Value, job: &mut AnswerJob) -> Option<Box<dyn Encoder>> {
        Some(Box::new(CompletionStream {
            id: prose::id("cmpl-", 29, &mut job.ids),
            created: job.created,
            model: job.model.clone(),
            usage: body["stream_options"]["include_usage"] == true && job.answer.usage_told,
        }))
    }
}

fn whole_choice(index: usize, choice: &AnswerChoice) -> CompletionChoice<'_> {
    let text = choice
        .parts
        .first()
        .map(|part| part.prose().text())
        .unwrap_or_default();
    let finish_reason = Some(chat::finish_reason(&choice.stop));
    CompletionChoice {
        text,
        index,
        logprobs: (),
        finish_reason,
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<CompletionChoice<'a>>,
    #[serde(skip_serializing_if = "ChunkUsage::is_absent")]
    usage: ChunkUsage,
}

#[derive(Serialize)]
struct CompletionChoice<'a> {
    text: &'a str,
    index: usize,
    logprobs: (),
    finish_reason: Option<&'static str>,
}

struct CompletionStream {
    id: String,
    created: u64,
    model: String,
    usage: bool,
}

impl CompletionStream {
    fn chunk(
        &self,
        choices: Vec<CompletionChoice<'_>>,
        usage: ChunkUsage,
        events: &mut EventBuffer,
    ) {
        let chunk = Completion {
            id: &self.id,
            object: "text_completion",
            created: self.created,
            model: &self.model,
            choices,
            usage,
        };
        events.push(None, &chunk);
    }

    fn text(&self, index: usize, text: &str, stop: Option<&AnswerStop>, events: &mut EventBuffer) {
        let finish_reason = stop.map(chat::finish_reason);
        let choice = CompletionChoice {
            text,
            index,
            logprobs: (),
            finish_reason,
        };
        self.chunk(vec![choice], ChunkUsage::pending(self.usage), events);
    }
}

impl Encoder for CompletionStream {
    fn open_part(&mut self, _at: PiecePosition, _part: &AnswerPart, _events: &mut EventBuffer) {}

    fn piece(
        &mut self,
        at: PiecePosition,
        _part: &AnswerPart,
        text: &str,
        events: &mut EventBuffer,
    ) {
        self.text(at.choice, text, None, events);
    }

    fn close_choice(&mut self, choice: usize, stop: &AnswerStop, events: &mut EventBuffer) {
        self.text(choice, "", Some(stop), events);
    }

    fn finish(&mut self, answer: &MockAnswer, events: &mut EventBuffer) {
        if self.usage {
            self.chunk(
                Vec::new(),
                ChunkUsage::Told(ChatUsage::new(&answer.usage)),
                events,
            );
        }
        events.push_text("[DONE]");
    }

    fn failure(&mut self, message: &str, events: &mut EventBuffer) {
        events.push(None, &error::openai(&MockRefusal::new(500, message)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_prompt_gets_its_choices() {
        for (body, choices) in [
            (json!({"prompt": "a"}), 1),
            (json!({"prompt": ["a", "b"], "n": 2}), 4),
            (json!({"prompt": [1, 2, 3]}), 1),
        ] {
            assert_eq!(Completions.read(&body).unwrap().choices, choices, "{body}");
        }
        assert_eq!(Completions.read(&json!({})).unwrap_err().status, 400);
    }
}
