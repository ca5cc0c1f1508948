//! Bounds that a request's body sets on what the request can be charged for. A budget reserves them
//! before the call. It must not know any price, nor what a provider allows by itself.

use std::borrow::Cow;
use std::ops::Range;

use llm_router_domain::format::Endpoint;
use llm_router_domain::usage::{Fee, MAX_TOKENS, ServiceTier, ShortName};
use memchr::memmem;
use serde_json::Value;

use crate::json;

/// Searches of one request that a provider runs where the request can't limit them, because the
/// endpoint has it search once (chat completions with `web_search_options`).
const ONE_SEARCH: u32 = 1;

/// Lifetime of what a request writes into the provider's prompt cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheWrite {
    /// The request asks for no write. Some providers write all the same, for their usual time.
    #[default]
    Unasked,
    /// For five minutes, or the provider's usual time.
    Usual,
    /// For an hour.
    OneHour,
    /// For longer, such as OpenAI's twelve and twenty-four hours.
    Extended,
}

/// Most that a request can be charged for, by its own body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestBounds {
    /// Output tokens of one answer; `None` if the request sets no limit.
    pub output: Option<u64>,
    /// Answers that the model writes, at least 1.
    pub answers: u64,
    /// Uses of tools that the provider runs and charges for.
    pub uses: Vec<(Fee, u32)>,
    /// Uses of such tools whose results are input again, whether they are charged for or not.
    pub rounds: u32,
    /// Writes into the prompt cache.
    pub cache_write: CacheWrite,
    /// The service tier asked for; `None` if the request leaves it to the provider, and the name
    /// as asked otherwise. `auto` is a tier of its own here.
    pub service_tier: Option<ShortName>,
    /// The region asked for (Anthropic's `inference_geo`).
    pub inference_geo: ShortName,
    /// The speed asked for (Anthropic's `speed`).
    pub speed: ShortName,
    /// Size of the search context asked for (Perplexity, OpenAI).
    pub search_context: ShortName,
    /// Bytes of a prediction, which is billed as output where it isn't used.
    pub prediction: u64,
    /// True if sound may be part of the input.
    pub audio_input: bool,
    /// True if sound is asked for as output.
    pub audio_output: bool,
    /// The field by which content comes in that isn't in the body, such as `previous_response_id`.
    pub stored_input: Option<&'static str>,
    /// The field to set before the request has a bound at all, and the reason.
    pub unbounded: Option<Unbounded>,
}

/// Field that would bound a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbounded {
    /// The field's path, such as `tools[0].max_uses`.
    pub field: String,
    /// The reason, as the end of a sentence that begins with the field's tool or setting.
    pub reason: &'static str,
}

/// Limit whose value is no count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The field \"{field}\" must be a whole number above 0.")]
pub struct BoundError {
    /// The field.
    pub field: String,
}

impl RequestBounds {
    /// Reads the bounds of a request to `endpoint`. `body` is a JSON object.
    ///
    /// # Errors
    /// [`BoundError`] if a limit that the endpoint has is no count: servers differ in what they make
    /// of it, so it bounds nothing.
    pub fn read(body: &[u8], endpoint: Endpoint) -> Result<Self, BoundError> {
        let mut bounds = Self {
            answers: 1,
            ..Self::default()
        };
        let (mut best_of, mut prompts, mut tool_calls) = (1, 1, None);
        let mut tools = None;
        for (key, value) in members(body) {
            let value = body.get(value).unwrap_or_default();
            match &*key {
                "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                    bounds.limit(&key, value, endpoint)?;
                }
                "n" if endpoint != Endpoint::Messages => {
                    bounds.answers = bounds.answers.max(count(&key, value)?.unwrap_or(1));
                }
                "best_of" => best_of = count(&key, value)?.unwrap_or(1),
                "prompt" if endpoint == Endpoint::Completions => prompts = prompts_of(value),
                "prompt" if value.starts_with(b"{") => bounds.stored_input = Some("prompt"),
                "max_tool_calls" => tool_calls = count(&key, value)?,
                "tools" => tools = Some(value),
                "web_search_options" if is_given(value) => bounds.add(Fee::WebSearch, ONE_SEARCH),
                "prediction" if is_given(value) => bounds.prediction = value.len() as u64,
                "previous_response_id" if is_given(value) => {
                    bounds.stored_input = Some("previous_response_id");
                }
                "conversation" if is_given(value) => bounds.stored_input = Some("conversation"),
                "container" if is_given(value) => bounds.stored_input = Some("container"),
                "thread" if is_given(value) => bounds.stored_input = Some("thread"),
                "mcp_servers" if value.len() > 2 && is_given(value) => {
                    bounds.stored_input = Some("mcp_servers");
                }
                "service_tier" => bounds.service_tier = name(value),
                "inference_geo" => bounds.inference_geo = name(value).unwrap_or_default(),
                "speed" => bounds.speed = name(value).unwrap_or_default(),
                "prompt_cache_retention" if is_given(value) => bounds.write(CacheWrite::Extended),
                "modalities" => bounds.audio_output = contains(value, b"audio"),
                _ => {}
            }
        }
        if let Some(tools) = tools {
            bounds.read_tools(tools, tool_calls)?;
        }
        bounds.answers = bounds.answers.max(best_of).saturating_mul(prompts);
        bounds.read_content(body);
        Ok(bounds)
    }

    /// Returns true if the service tier is left to the provider, which may take a dearer one.
    #[must_use]
    pub fn any_tier(&self) -> bool {
        self.service_tier
            .is_some_and(|tier| tier.as_str() == "auto")
    }

    /// Returns the service tier that the answer is billed in, unless the provider chooses it.
    #[must_use]
    pub fn tier(&self) -> ServiceTier {
        let tier = self.service_tier.unwrap_or_default();
        ServiceTier::from_name(tier.as_str())
    }

    /// Takes a limit of the output tokens into account: of several the largest, since servers
    /// differ in which of them they obey. One of another endpoint alone bounds nothing.
    fn limit(&mut self, field: &str, value: &[u8], endpoint: Endpoint) -> Result<(), BoundError> {
        let own: &[&str] = match endpoint {
            Endpoint::ChatCompletions => &["max_tokens", "max_completion_tokens"],
            Endpoint::Responses => &["max_output_tokens"],
            Endpoint::Completions | Endpoint::Messages => &["max_tokens"],
            Endpoint::CountTokens | Endpoint::Embeddings => &[],
        };
        if own.contains(&field) {
            // Some servers take 0 for "no limit".
            let limit = count(field, value)?.filter(|limit| *limit > 0);
            self.output = self.output.max(limit);
        }
        Ok(())
    }

    fn write(&mut self, lifetime: CacheWrite) {
        self.cache_write = self.cache_write.max(lifetime);
    }

    fn add(&mut self, fee: Fee, uses: u32) {
        self.rounds = self.rounds.saturating_add(uses);
        match self.uses.iter_mut().find(|(known, _)| *known == fee) {
            Some((_, count)) => *count = count.saturating_add(uses),
            None => self.uses.push((fee, uses)),
        }
    }

    fn mark_unbounded(&mut self, field: String, reason: &'static str) {
        if self.unbounded.is_none() {
            self.unbounded = Some(Unbounded { field, reason });
        }
    }

    /// Reads the tools that the provider runs. `calls` limits all of them together.
    fn read_tools(&mut self, tools: &[u8], calls: Option<u64>) -> Result<(), BoundError> {
        for (index, tool) in json::elements(tools).enumerate() {
            let Some(kind) = json::member(tool, b"type").and_then(json::string) else {
                continue;
            };
            let Some(tool_kind) = ServerTool::of(&kind) else {
                continue;
            };
            let path = format!("tools[{index}].max_uses");
            let own = match json::member(tool, b"max_uses") {
                Some(value) => count(&path, value)?,
                None => None,
            };
            let uses = match (own, calls) {
                (Some(own), Some(calls)) => Some(own.min(calls)),
                (own, calls) => own.or(calls),
            };
            let uses = uses.map(|uses| u32::try_from(uses).unwrap_or(u32::MAX));
            let field = || match tool_kind.vendor {
                Vendor::Anthropic => path.clone(),
                Vendor::OpenAi => "max_tool_calls".to_owned(),
            };
            match (tool_kind.charge, uses) {
                (ToolCharge::Uses(fee), Some(uses)) => self.add(fee, uses),
                (ToolCharge::Uses(_), None) => {
                    self.mark_unbounded(field(), "may run any number of times")
                }
                (ToolCharge::Once(fee), uses) => {
                    self.add(fee, 1);
                    self.rounds = self.rounds.saturating_add(uses.unwrap_or(1));
                }
                (ToolCharge::Tokens, Some(uses)) => self.rounds = self.rounds.saturating_add(uses),
                (ToolCharge::Tokens, None) => {
                    self.mark_unbounded(field(), "may run any number of times")
                }
                (ToolCharge::OtherModel, _) => self.mark_unbounded(
                    format!("tools[{index}]"),
                    "is charged at another model's price, without a limit",
                ),
            }
            if let Some(size) = json::member(tool, b"search_context_size").and_then(name) {
                self.search_context = size;
            }
        }
        Ok(())
    }

    /// Reads what is somewhere in the messages: marks of the prompt cache, sounds, content held by
    /// the provider.
    fn read_content(&mut self, body: &[u8]) {
        if contains(body, b"\"cache_control\"") {
            let hour = [&b"\"1h\""[..], b"\"12h\"", b"\"24h\""];
            self.write(match hour.map(|lifetime| contains(body, lifetime)) {
                [_, true, _] | [_, _, true] => CacheWrite::Extended,
                [true, ..] => CacheWrite::OneHour,
                _ => CacheWrite::Usual,
            });
        }
        self.audio_input = contains(body, b"\"input_audio\"") || contains(body, b"audio/");
        let held = ["file_id", "file_url", "file_uri"];
        let held = held.into_iter().find(|field| {
            let quoted = format!("\"{field}\"");
            contains(body, quoted.as_bytes())
        });
        self.stored_input = self.stored_input.or(held);
    }
}

/// Vendor whose field limits a tool.
#[derive(Clone, Copy)]
enum Vendor {
    /// `max_uses` of the tool.
    Anthropic,
    /// `max_tool_calls` of the request.
    OpenAi,
}

/// ToolCharge for a tool that the provider runs.
#[derive(Clone, Copy)]
enum ToolCharge {
    /// By use, besides the tokens of its results.
    Uses(Fee),
    /// Once for a request.
    Once(Fee),
    /// By the tokens of its results alone.
    Tokens,
    /// By the tokens of another model.
    OtherModel,
}

/// Tool that the provider runs.
struct ServerTool {
    vendor: Vendor,
    charge: ToolCharge,
}

impl ServerTool {
    /// Returns the tool that a `type` names; `None` for tools that the client runs. Anthropic's
    /// names end in a date.
    fn of(kind: &str) -> Option<Self> {
        use Vendor::{Anthropic, OpenAi};
        let (vendor, charge) = match kind {
            "web_search" | "web_search_preview" => (OpenAi, ToolCharge::Uses(Fee::WebSearch)),
            "file_search" => (OpenAi, ToolCharge::Uses(Fee::FileSearch)),
            "x_search" => (OpenAi, ToolCharge::Uses(Fee::XSearch)),
            "code_interpreter" => (OpenAi, ToolCharge::Once(Fee::CodeSession)),
            "mcp" | "shell" => (OpenAi, ToolCharge::Tokens),
            "image_generation" => (OpenAi, ToolCharge::OtherModel),
            dated if dated.starts_with("web_search_preview_") => {
                (OpenAi, ToolCharge::Uses(Fee::WebSearch))
            }
            dated if dated.starts_with("web_search_") => {
                (Anthropic, ToolCharge::Uses(Fee::WebSearch))
            }
            dated if dated.starts_with("web_fetch_") => (Anthropic, ToolCharge::Tokens),
            dated if dated.starts_with("code_execution_") => {
                (Anthropic, ToolCharge::Once(Fee::CodeSession))
            }
            dated if dated.starts_with("advisor_") => (Anthropic, ToolCharge::OtherModel),
            _ => return None,
        };
        Some(Self { vendor, charge })
    }
}

/// Returns the members of the body with their keys unescaped, since servers read them so.
fn members(body: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Range<usize>)> {
    json::members(body).filter_map(|member| {
        let quoted = member.key.start - 1..member.key.end + 1;
        Some((json::string(body.get(quoted)?)?, member.value))
    })
}

/// Reads a count in every spelling that servers take: a whole number, also as a float, with an
/// exponent or between quotes, rounded up. `None` for null.
///
/// # Errors
/// [`BoundError`] for everything else.
fn count(field: &str, value: &[u8]) -> Result<Option<u64>, BoundError> {
    let error = || BoundError {
        field: field.to_owned(),
    };
    let number = match serde_json::from_slice(value).map_err(|_| error())? {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64().map_or_else(|| number.as_f64(), |_| None),
        Value::String(text) => Some(text.trim().parse::<f64>().map_err(|_| error())?),
        _ => return Err(error()),
    };
    let Some(number) = number else {
        let whole = std::str::from_utf8(value).ok();
        return Ok(whole.and_then(|whole| whole.trim().parse().ok()));
    };
    let most = MAX_TOKENS as f64;
    if !(0.0..=f64::MAX).contains(&number) {
        return Err(error());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and the most tokens"
    )]
    Ok(Some(number.ceil().min(most) as u64))
}

/// Returns the number of prompts of a completion: a text or a list of token numbers is one.
fn prompts_of(value: &[u8]) -> u64 {
    let is_prompt = |element: &&[u8]| element.starts_with(b"\"") || element.starts_with(b"[");
    let count = json::elements(value).filter(is_prompt).count();
    (count as u64).max(1)
}

fn name(value: &[u8]) -> Option<ShortName> {
    let text = json::string(value)?;
    Some(ShortName::new(&text))
}

fn is_given(value: &[u8]) -> bool {
    value != b"null"
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memmem::find(text, part).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use Endpoint::{ChatCompletions, Completions, Messages, Responses};

    fn read(endpoint: Endpoint, body: &Value) -> RequestBounds {
        RequestBounds::read(body.to_string().as_bytes(), endpoint).unwrap()
    }

    #[test]
    fn the_largest_limit_of_the_endpoint_counts() {
        for (endpoint, body, output) in [
            (ChatCompletions, r#"{"max_tokens":5}"#, Some(5)),
            (ChatCompletions, r#"{"max_tokens":100000.0}"#, Some(100_000)),
            (ChatCompletions, r#"{"max_tokens":"100000"}"#, Some(100_000)),
            (ChatCompletions, r#"{"max_tokens":1e5}"#, Some(100_000)),
            (ChatCompletions, r#"{"max_tokens":" 7.2 "}"#, Some(8)),
            (ChatCompletions, r#"{"max_tokens":1e300}"#, Some(MAX_TOKENS)),
            (ChatCompletions, r#"{"max_tokens":null}"#, None),
            (ChatCompletions, r#"{"max_tokens":0}"#, None),
            (ChatCompletions, r#"{"max_output_tokens":5}"#, None),
            (
                ChatCompletions,
                r#"{"max_tokens":5,"max_completion_tokens":900}"#,
                Some(900),
            ),
            (
                ChatCompletions,
                r#"{"max_completion_tokens":5,"max_tokens":"900"}"#,
                Some(900),
            ),
            (ChatCompletions, r#"{"max_tok\u0065ns":5}"#, Some(5)),
            (Completions, r#"{"max_completion_tokens":5}"#, None),
            (Responses, r#"{"max_tokens":5}"#, None),
            (
                Responses,
                r#"{"max_output_tokens":5,"max_tokens":50}"#,
                Some(5),
            ),
            (Messages, r#"{"max_tokens":5}"#, Some(5)),
            (Messages, r#"{"model":"m"}"#, None),
        ] {
            let bounds = RequestBounds::read(body.as_bytes(), endpoint).unwrap();
            assert_eq!(bounds.output, output, "{endpoint:?} {body}");
        }
    }

    #[test]
    fn a_limit_that_is_no_count_is_refused() {
        for (endpoint, body, field) in [
            (ChatCompletions, json!({"max_tokens": -1}), "max_tokens"),
            (ChatCompletions, json!({"max_tokens": "many"}), "max_tokens"),
            (ChatCompletions, json!({"max_tokens": "nan"}), "max_tokens"),
            (ChatCompletions, json!({"max_tokens": true}), "max_tokens"),
            (ChatCompletions, json!({"max_tokens": [5]}), "max_tokens"),
            (ChatCompletions, json!({"n": {}}), "n"),
            (Completions, json!({"best_of": "x"}), "best_of"),
            (Responses, json!({"max_tool_calls": -2}), "max_tool_calls"),
            (
                Messages,
                json!({"tools": [{"type": "web_search_20250305", "max_uses": "x"}]}),
                "tools[0].max_uses",
            ),
        ] {
            let error = RequestBounds::read(body.to_string().as_bytes(), endpoint).unwrap_err();
            assert_eq!(error.field, field, "{body}");
        }
    }

    #[test]
    fn every_answer_counts() {
        for (endpoint, body, answers) in [
            (ChatCompletions, json!({}), 1),
            (ChatCompletions, json!({"n": 20.0}), 20),
            (ChatCompletions, json!({"n": "20"}), 20),
            (ChatCompletions, json!({"n": 0}), 1),
            (Messages, json!({"n": 20}), 1),
            (Completions, json!({"n": 2, "best_of": 5}), 5),
            (Completions, json!({"n": 5, "best_of": 2}), 5),
            (Completions, json!({"prompt": "a"}), 1),
            (Completions, json!({"prompt": [1, 2, 3]}), 1),
            (Completions, json!({"prompt": ["a", "b", "c"], "n": 2}), 6),
            (Completions, json!({"prompt": [[1, 2], [3]]}), 2),
            (Completions, json!({"prompt": vec!["a"; 100]}), 100),
        ] {
            assert_eq!(read(endpoint, &body).answers, answers, "{body}");
        }
    }

    #[test]
    fn tools_of_the_provider_are_bounded_or_named() {
        let search = json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 10});
        let bounds = read(Messages, &json!({"tools": [search]}));
        assert_eq!(bounds.uses, [(Fee::WebSearch, 10)]);
        assert_eq!((bounds.rounds, bounds.unbounded), (10, None));
        for (endpoint, body, field) in [
            (
                Messages,
                json!({"tools": [{"name": "f"}, {"type": "web_search_20260209"}]}),
                Some("tools[1].max_uses"),
            ),
            (
                Messages,
                json!({"tools": [{"type": "web_fetch_20250910"}]}),
                Some("tools[0].max_uses"),
            ),
            (
                Responses,
                json!({"tools": [{"type": "web_search"}]}),
                Some("max_tool_calls"),
            ),
            (
                Responses,
                json!({"tools": [{"type": "image_generation"}], "max_tool_calls": 1}),
                Some("tools[0]"),
            ),
            (
                Responses,
                json!({"tools": [{"type": "web_search_preview_2025_03_11"}], "max_tool_calls": 3}),
                None,
            ),
            (
                Responses,
                json!({"tools": [{"type": "function"}, {"type": "local_shell"}]}),
                None,
            ),
        ] {
            let unbounded = read(endpoint, &body).unbounded;
            let named = unbounded.as_ref().map(|unbounded| unbounded.field.as_str());
            assert_eq!(named, field, "{body}");
        }
        let both = json!({
            "tools": [{"type": "file_search"}, {"type": "code_interpreter"}], "max_tool_calls": 2.0,
        });
        let uses = read(Responses, &both).uses;
        assert_eq!(uses, [(Fee::FileSearch, 2), (Fee::CodeSession, 1)]);
        let chat = json!({"web_search_options": {}});
        assert_eq!(read(ChatCompletions, &chat).uses, [(Fee::WebSearch, 1)]);
    }

    #[test]
    fn multipliers_and_content_from_elsewhere_are_noticed() {
        let body = json!({
            "service_tier": "AUTO", "speed": "fast", "inference_geo": "us",
            "messages": [{"content": [{"cache_control": {"type": "ephemeral", "ttl": "1h"}}]}],
        });
        let bounds = read(Messages, &body);
        assert!(bounds.any_tier());
        assert_eq!(bounds.cache_write, CacheWrite::OneHour);
        assert_eq!(bounds.speed.as_str(), "fast");
        assert_eq!(bounds.inference_geo.as_str(), "us");
        let priority = read(ChatCompletions, &json!({"service_tier": "fast"}));
        assert_eq!(priority.tier(), ServiceTier::PRIORITY);
        for (body, field) in [
            (
                json!({"previous_response_id": "r"}),
                Some("previous_response_id"),
            ),
            (json!({"previous_response_id": null}), None),
            (json!({"prompt": {"id": "p"}}), Some("prompt")),
            (json!({"conversation": "c"}), Some("conversation")),
            (json!({"input": [{"file_id": "f"}]}), Some("file_id")),
            (json!({"mcp_servers": []}), None),
        ] {
            assert_eq!(read(Responses, &body).stored_input, field, "{body}");
        }
        let audio = json!({"modalities": ["text", "audio"], "messages": [{"input_audio": 1}]});
        let bounds = read(ChatCompletions, &audio);
        assert!(bounds.audio_input && bounds.audio_output);
        let predicted = json!({"prediction": {"type": "content", "content": "abc"}});
        assert!(read(ChatCompletions, &predicted).prediction > 3);
    }

    #[test]
    fn broken_bodies_do_not_panic() {
        let body = r#"{"max_tokens":"9","tools":[{"type":"web_search_1","max_uses":3}],"n":2}"#;
        for end in 0..body.len() {
            let _ = RequestBounds::read(&body.as_bytes()[..end], Messages);
        }
    }
}
