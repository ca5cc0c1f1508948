//! The meter of a stream: reads usage, text, model, end and failure in each event. It must not cut
//! the stream, nor hold any of it.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json;
use crate::sse::Piece;

use super::body::UsageScanner;
use super::counts::ProviderCounts;
use super::tools::ToolUses;
use super::{EventTypes, Observations, UsageLayout, text};

/// Events that may go by before a stream is taken to name no model.
const MODEL_TRIES: u8 = 16;

/// Events at the beginning of a stream in which a tier and reasoning are looked for.
const EARLY_EVENTS: u8 = 16;

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage"));
static MODEL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"model"));
static TIER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"service_tier\""));
static CITATION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"url_citation\""));
static REASONING: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new(b"\"reasoning_content\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));

/// Meters the events of a stream.
#[derive(Clone, Debug)]
pub(crate) struct StreamMeter {
    observed: Observations,
    model_tries: u8,
    early_events: u8,
    /// Reads an event that is too long to hold.
    long: Option<Box<UsageScanner>>,
}

impl StreamMeter {
    /// A meter for a stream in this layout.
    pub(crate) const fn new(layout: &'static UsageLayout) -> Self {
        Self {
            observed: Observations::new(layout),
            model_tries: MODEL_TRIES,
            early_events: EARLY_EVENTS,
            long: None,
        }
    }

    /// The observations so far.
    pub(crate) const fn observations(&self) -> &Observations {
        &self.observed
    }

    /// Takes an event, or a part of one.
    pub(crate) fn piece(&mut self, piece: &Piece) {
        match piece {
            Piece::Event(event) => {
                if let Some(data) = event.data() {
                    self.data(&data);
                }
            }
            Piece::Part { bytes, last } => self.part(bytes, *last),
        }
    }

    /// Takes a part of an event that is too long to hold.
    pub(crate) fn part(&mut self, bytes: &[u8], last: bool) {
        let tools = &self.observed.tools;
        let scanner = self
            .long
            .get_or_insert_with(|| Box::new(UsageScanner::in_event(tools.clone())));
        scanner.feed(bytes);
        if last && let Some(scanner) = self.long.take() {
            scanner.tell(&mut self.observed, true);
        }
    }

    /// Takes the data of an event.
    pub(crate) fn data(&mut self, data: &[u8]) {
        if data.starts_with(b"[DONE]") {
            self.observed.finished = true;
            return;
        }
        let layout = self.observed.layout();
        let text = text::streamed_bytes(layout, data);
        self.observed.saw_text(text);
        self.observed.finished |= has_finish_reason(layout, data);
        let may_hold_usage = may_hold_usage(data);
        if may_hold_usage {
            self.usage(data);
        }
        if text == 0 || may_hold_usage {
            self.ends_and_failures(data);
        }
        if self.early_events > 0 {
            self.early_events -= 1;
            self.early(data);
        }
        if layout.cites {
            self.observed.tools.cites |= CITATION.find(data).is_some();
        }
        if self.observed.model.is_none() && self.model_tries > 0 {
            self.model_tries -= 1;
            self.model(data);
        }
    }

    /// Facts that events at the beginning say, and later ones may not.
    fn early(&mut self, data: &[u8]) {
        if TIER.find(data).is_some() {
            let response = json::member(data, b"response").unwrap_or(data);
            if let Some(tier) = json::member(response, b"service_tier") {
                self.observed.saw_service_tier(tier);
            }
        }
        self.observed.reasons |= holds_reasoning(data);
    }

    fn usage(&mut self, data: &[u8]) {
        let Some(found) = UsageMember::in_data(data, &mut self.observed.tools) else {
            return;
        };
        let Some(counts) = ProviderCounts::read(found.usage) else {
            return;
        };
        let is_final = match self.observed.layout().placeholder {
            Some(member) => found.parent != Some(member) && counts.output().is_some(),
            // The extra chunk that was asked for comes last; others repeat a running total.
            None => found.no_choices || self.observed.finished,
        };
        self.observed.saw_counts(counts, is_final);
        if let Some(tier) = found.service_tier {
            self.observed.saw_service_tier(tier);
        }
    }

    /// Ends and failures, which come in events without text or with usage.
    fn ends_and_failures(&mut self, data: &[u8]) {
        match &self.observed.layout().types {
            Some(types) => self.read_type(types, data),
            None => {
                let error = ERROR.find(data).and_then(|_| json::member(data, b"error"));
                self.observed.failed |= error.is_some_and(|value| value != b"null");
            }
        }
    }

    fn read_type(&mut self, types: &EventTypes, data: &[u8]) {
        let kind = json::entries(data)
            .find(|(key, _)| *key == b"type")
            .map(|(_, value)| value);
        let is = |names: &[&[u8]]| names.iter().any(|name| is_string(kind, name));
        if let Some(done) = types.item_done
            && is_string(kind, done)
            && let Some(item) = json::member(data, b"item")
        {
            self.observed.tools.read_item(item);
        }
        self.observed.finished |= is(types.ends);
        self.observed.failed |= is(types.failures);
        if kind.is_none() {
            // A gateway that lost the type still says what went wrong.
            let error = json::member(data, b"error");
            self.observed.failed |= error.is_some_and(json::is_object);
        }
    }

    fn model(&mut self, data: &[u8]) {
        if MODEL.find(data).is_none() {
            return;
        }
        let path = self.observed.layout().model;
        let value = path
            .iter()
            .try_fold(data, |object, key| json::member(object, key));
        if let Some(model) = value.and_then(json::string) {
            self.observed.saw_model(&model);
        }
    }
}

/// A usage object and what stands beside it.
#[derive(Default)]
pub(super) struct UsageMember<'a> {
    pub(super) usage: &'a [u8],
    /// The key of the member it is in, if it isn't at the top.
    parent: Option<&'a [u8]>,
    pub(super) service_tier: Option<&'a [u8]>,
    /// The model at the top, as written.
    pub(super) model: Option<&'a [u8]>,
    /// An error stands at the top.
    pub(super) error: bool,
    no_choices: bool,
    /// The object was closed.
    pub(super) whole: bool,
}

impl<'a> UsageMember<'a> {
    /// The usage of an event or body: at the top, else in the member that the format keeps it in.
    /// Uses of tools that stand beside it are noted in `tools`.
    pub(super) fn in_data(data: &'a [u8], tools: &mut ToolUses) -> Option<Self> {
        let (mut top, mut nested, mut end) = (None, None, 0);
        let mut found = Self::default();
        for member in json::members(data) {
            end = member.value.end;
            let (key, value) = (data.get(member.key)?, data.get(member.value)?);
            match key {
                b"usage" | b"usageMetadata" if json::is_object(value) => top = Some(value),
                b"response" => {
                    let usage = found.read_response(value, tools);
                    nested = usage.map(|usage| (key, usage)).or(nested);
                }
                b"message" | b"x_groq" => {
                    nested = usage_in(value).map(|usage| (key, usage)).or(nested);
                    found.service_tier =
                        json::member(value, b"service_tier").or(found.service_tier);
                }
                b"choices" => {
                    found.no_choices = json::elements(value).next().is_none();
                    // Kimi reports within the last choice.
                    let inner = json::elements(value).find_map(usage_in);
                    nested = nested.or(inner.map(|usage| (key, usage)));
                    tools.read_member(key, value);
                }
                b"service_tier" => found.service_tier = Some(value),
                b"output" | b"tool_usage" | b"tools" | b"candidates" => {
                    tools.read_member(key, value);
                }
                b"model" | b"modelVersion" => found.model = found.model.or(Some(value)),
                b"error" => found.error |= matches!(value.first(), Some(b'{' | b'"')),
                _ => {}
            }
        }
        found.whole = data.get(json::skip_space(data, end)) == Some(&b'}');
        found.parent = if top.is_some() {
            None
        } else {
            nested.map(|(key, _)| key)
        };
        found.usage = top.or(nested.map(|(_, usage)| usage))?;
        found.service_tier = found.service_tier.filter(|value| *value != b"null");
        Some(found)
    }

    /// Reads the response within an event; its usage, if it has any.
    fn read_response(&mut self, response: &'a [u8], tools: &mut ToolUses) -> Option<&'a [u8]> {
        let mut usage = None;
        for (key, value) in json::entries(response) {
            match key {
                b"usage" | b"usageMetadata" => usage = Some(value),
                b"service_tier" => self.service_tier = Some(value),
                _ => tools.read_member(key, value),
            }
        }
        usage.filter(|usage| json::is_object(usage))
    }
}

/// Returns true if a piece of an answer carries text of reasoning.
pub(super) fn holds_reasoning(data: &[u8]) -> bool {
    REASONING.find_iter(data).any(|at| {
        let colon = json::skip_space(data, at + REASONING.needle().len());
        let value = json::skip_space(data, colon + 1);
        let value = data.get(value..).unwrap_or_default();
        data.get(colon) == Some(&b':') && value.starts_with(b"\"") && !value.starts_with(b"\"\"")
    })
}

fn usage_in(value: &[u8]) -> Option<&[u8]> {
    let usage = |(key, _): &(&[u8], &[u8])| matches!(*key, b"usage" | b"usageMetadata");
    let found = json::entries(value)
        .filter(usage)
        .last()
        .map(|(_, usage)| usage);
    found.filter(|usage| json::is_object(usage))
}

/// Returns true if the data may hold a usage object: a memory search, for most events have none and
/// many say `"usage":null`.
pub(super) fn may_hold_usage(data: &[u8]) -> bool {
    USAGE.find_iter(data).any(|at| {
        let rest = data.get(at + USAGE.needle().len()..).unwrap_or_default();
        let rest = rest.strip_prefix(b"Metadata").unwrap_or(rest);
        let colon = json::skip_space(rest, 1);
        rest.first() == Some(&b'"')
            && rest.get(colon) == Some(&b':')
            && rest.get(json::skip_space(rest, colon + 1)) == Some(&b'{')
    })
}

/// Returns true if the value is that string, which has no escapes.
fn is_string(value: Option<&[u8]>, text: &[u8]) -> bool {
    let inner = value.and_then(|value| value.strip_prefix(b"\"")?.strip_suffix(b"\""));
    inner == Some(text)
}

fn has_finish_reason(layout: &UsageLayout, data: &[u8]) -> bool {
    let Some(finder) = &layout.finish_reason else {
        return false;
    };
    finder.find_iter(data).any(|at| {
        let colon = json::skip_space(data, at + finder.needle().len());
        let value = data
            .get(json::skip_space(data, colon + 1)..)
            .unwrap_or_default();
        data.get(colon) == Some(&b':') && value.starts_with(b"\"") && !value.starts_with(b"\"\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_may_be_usage() {
        for (data, may) in [
            (r#"{"usage":null}"#, false),
            (r#"{"usage" : null}"#, false),
            (r#"{"text":"a \"usage\":{} b"}"#, false),
            (r#"{"usage": {"a":1}}"#, true),
            (r#"{"usageMetadata":{"a":1}}"#, true),
            (r#"{"usage":null,"x":{"usage":{}}}"#, true),
            (r#"{"list":["usage"]}"#, false),
        ] {
            assert_eq!(may_hold_usage(data.as_bytes()), may, "{data}");
        }
    }
}
