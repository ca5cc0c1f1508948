//! The meter of a plain JSON body: finds usage, model and text while the body goes by in chunks.
//! It must not hold the body: only the usage object and the current key are kept, both bounded.

use bytes::Bytes;
use memchr::{memchr2, memchr3};

use crate::json;

use super::counts::ProviderCounts;
use super::stream::{UsageMember, holds_reasoning};
use super::text::carries_text;
use super::tools::ToolUses;
use super::{Observations, UsageLayout};

/// The longest usage object that is read; real ones stay below 2 KiB.
const MAX_USAGE: usize = 64 << 10;

/// The longest key or short string that is looked at.
const MAX_SHORT: usize = 256;

/// The deepest keys that are told apart.
const MAX_PATH: usize = 5;

/// Meters a plain body as its chunks go by.
///
/// A body that comes in one chunk, as most do, is held (not copied) and looked at once, at its
/// end; a longer one is scanned chunk by chunk and not held.
#[derive(Debug)]
pub struct BodyMeter {
    observed: Observations,
    only: Option<Bytes>,
    scanner: Option<Box<UsageScanner>>,
}

impl BodyMeter {
    /// A meter for a body in this layout.
    #[must_use]
    pub const fn new(layout: &'static UsageLayout) -> Self {
        Self {
            observed: Observations::new(layout),
            only: None,
            scanner: None,
        }
    }

    /// Takes the next chunk, of any size.
    pub fn feed(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        if self.scanner.is_none() && self.only.is_none() {
            self.only = Some(chunk);
            return;
        }
        let scanner = self
            .scanner
            .get_or_insert_with(|| Box::new(UsageScanner::in_body()));
        if let Some(first) = self.only.take() {
            scanner.feed(&first);
        }
        scanner.feed(&chunk);
    }

    /// Ends the body.
    #[must_use]
    pub fn finish(mut self) -> Observations {
        if let Some(body) = self.only.take() {
            if read_whole(&body, &mut self.observed) {
                return self.observed;
            }
            let mut scanner = UsageScanner::in_body();
            scanner.feed(&body);
            scanner.tell(&mut self.observed, true);
        } else if let Some(scanner) = self.scanner.take() {
            scanner.tell(&mut self.observed, true);
        }
        self.observed
    }
}

/// Reads a whole body; false if it reports no usage, so that its text has to be measured.
fn read_whole(body: &[u8], observed: &mut Observations) -> bool {
    let mut tools = ToolUses::new();
    let Some(found) = UsageMember::in_data(body, &mut tools) else {
        return false;
    };
    let Some(counts) = ProviderCounts::read(found.usage) else {
        return false;
    };
    let layout = observed.layout();
    if layout.generates && counts.usage(layout).output_total() == 0 {
        return false;
    }
    observed.saw_counts(counts, true);
    observed.tools = tools;
    observed.reasons = holds_reasoning(body);
    if let Some(tier) = found.service_tier {
        observed.saw_service_tier(tier);
    }
    if let Some(model) = found.model.and_then(json::string) {
        observed.saw_model(&model);
    }
    observed.failed |= found.error;
    observed.finished = found.whole;
    true
}

/// The members that matter, by key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum MemberKey {
    Usage,
    Model,
    Type,
    Error,
    ServiceTier,
    Text,
    /// Text of reasoning, where it has a member of its own.
    Reasoning,
    Status,
    /// A member that may hold the ones above: `message`, `response`, `x_groq`, `choices`.
    Holder,
    /// Items of OpenAI's output, or one of them.
    Output,
    Item,
    Action,
    ContainerId,
    Tools,
    ToolUsage,
    /// Gemini's candidates, and the grounding within.
    Candidates,
    Grounding,
    Queries,
    Maps,
    Chunks,
    #[default]
    Other,
}

impl MemberKey {
    fn of(key: &[u8]) -> Self {
        match key {
            b"usage" | b"usageMetadata" => Self::Usage,
            b"model" | b"modelVersion" => Self::Model,
            b"type" => Self::Type,
            b"error" => Self::Error,
            b"service_tier" => Self::ServiceTier,
            b"reasoning_content" => Self::Reasoning,
            b"status" => Self::Status,
            b"message" | b"response" | b"x_groq" | b"choices" => Self::Holder,
            b"output" => Self::Output,
            b"item" => Self::Item,
            b"action" => Self::Action,
            b"container_id" => Self::ContainerId,
            b"tools" => Self::Tools,
            b"tool_usage" => Self::ToolUsage,
            b"candidates" => Self::Candidates,
            b"groundingMetadata" => Self::Grounding,
            b"webSearchQueries" => Self::Queries,
            b"groundingChunks" => Self::Chunks,
            b"maps" => Self::Maps,
            key if carries_text(key) => Self::Text,
            _ => Self::Other,
        }
    }
}

/// Position of the scan between two chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ScanState {
    /// Between strings and brackets.
    #[default]
    Seek,
    /// In a string; `value`: it follows a colon.
    Text { value: bool, escaped: bool },
    /// Past a string that is a key if a colon follows.
    AfterText,
    /// Past a key and its colon.
    Value,
}

/// Scans JSON that arrives in chunks for the few members that metering needs.
///
/// Depth counts objects only: a key at depth one is a member of the body itself, and an array in
/// between would add an object. Arrays of numbers (embeddings) are skipped at memory speed.
#[derive(Clone, Debug)]
pub(super) struct UsageScanner {
    state: ScanState,
    depth: u32,
    key: MemberKey,
    /// The keys that the scan is below, by depth, the outermost first.
    path: [MemberKey; MAX_PATH],
    /// The bytes of the current string, while they are few.
    short: Vec<u8>,
    short_overflow: bool,
    capture: Option<Capture>,
    top: Option<ProviderCounts>,
    nested: Option<ProviderCounts>,
    model: Option<String>,
    kind: Vec<u8>,
    service_tier: Vec<u8>,
    error: bool,
    counts_text: bool,
    text_bytes: u64,
    tools: ToolUses,
    /// The type of the item that an event is about.
    item: Vec<u8>,
    /// The response goes on at the provider.
    unsettled: bool,
    /// Text of reasoning went by.
    reasons: bool,
    /// The outermost object was closed.
    closed: bool,
}

/// An object whose bytes are kept: a usage, or the uses of tools.
#[derive(Clone, Debug)]
struct Capture {
    bytes: Vec<u8>,
    depth: u32,
    key: MemberKey,
}

impl UsageScanner {
    pub(super) const fn in_body() -> Self {
        Self::new(true, ToolUses::new())
    }

    const fn new(counts_text: bool, tools: ToolUses) -> Self {
        Self {
            state: ScanState::Seek,
            depth: 0,
            key: MemberKey::Other,
            path: [MemberKey::Other; MAX_PATH],
            short: Vec::new(),
            short_overflow: false,
            capture: None,
            top: None,
            nested: None,
            model: None,
            kind: Vec::new(),
            service_tier: Vec::new(),
            error: false,
            counts_text,
            text_bytes: 0,
            tools,
            item: Vec::new(),
            unsettled: false,
            reasons: false,
            closed: false,
        }
    }

    /// For an event of a stream: its field names stand outside the JSON and are passed over; text
    /// isn't counted, for the longest events repeat what was streamed before. `tools`: what the
    /// events before said.
    pub(super) const fn in_event(tools: ToolUses) -> Self {
        Self::new(false, tools)
    }

    pub(super) fn feed(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let used = self.step(rest).clamp(1, rest.len());
            let (span, next) = rest.split_at(used);
            self.keep(span);
            rest = next;
        }
    }

    /// Tells what was found.
    pub(super) fn tell(mut self, observed: &mut Observations, is_final: bool) {
        if let Some(model) = &self.model {
            observed.saw_model(model);
        }
        if let Some(counts) = self.top.or(self.nested) {
            observed.saw_counts(counts, is_final);
        }
        if !self.service_tier.is_empty() {
            observed.saw_service_tier(&quote(&self.service_tier));
        }
        observed.saw_text(self.text_bytes);
        let types = observed.layout().types.as_ref();
        if types.is_some_and(|types| types.item_done == Some(&self.kind)) {
            self.tools.saw_item_type(&self.item);
        }
        self.tools.cites &= observed.layout().cites;
        observed.tools = self.tools;
        observed.reasons |= self.reasons;
        observed.unsettled |= self.unsettled;
        let ends = types.is_some_and(|types| types.ends.contains(&&*self.kind));
        let fails = types.is_some_and(|types| types.failures.contains(&&*self.kind));
        observed.failed |= self.error || fails || self.kind == b"error";
        observed.finished |= self.counts_text && self.closed || ends;
    }

    /// Looks at the beginning of `rest`; the number of bytes that are done with.
    fn step(&mut self, rest: &[u8]) -> usize {
        match self.state {
            ScanState::Seek => self.seek(rest),
            ScanState::Text { value, escaped } => self.text(rest, value, escaped),
            ScanState::AfterText => self.after_text(rest),
            ScanState::Value => self.value(rest),
        }
    }

    fn seek(&mut self, rest: &[u8]) -> usize {
        if self.depth == 0 {
            let Some(at) = memchr::memchr(b'{', rest) else {
                return rest.len();
            };
            self.open();
            return at + 1;
        }
        let Some(at) = memchr3(b'"', b'{', b'}', rest) else {
            return rest.len();
        };
        match rest.get(at) {
            Some(b'"') => self.begin_text(false),
            Some(b'{') => self.open(),
            _ => self.close(rest.get(..=at).unwrap_or_default()),
        }
        at + 1
    }

    fn begin_text(&mut self, value: bool) {
        self.short.clear();
        self.short_overflow = false;
        self.state = ScanState::Text {
            value,
            escaped: false,
        };
    }

    fn text(&mut self, rest: &[u8], value: bool, escaped: bool) -> usize {
        if escaped {
            self.keep_short(rest.get(..1).unwrap_or_default());
            self.state = ScanState::Text {
                value,
                escaped: false,
            };
            return 1;
        }
        let end = memchr2(b'"', b'\\', rest);
        let (found, len) = (end.and_then(|at| rest.get(at)), end.unwrap_or(rest.len()));
        self.keep_short(rest.get(..len).unwrap_or_default());
        let is_text = matches!(self.key, MemberKey::Text | MemberKey::Reasoning);
        if value && self.counts_text && is_text {
            self.text_bytes += len as u64;
        }
        match found {
            Some(b'"') => self.end_text(value),
            Some(_) => {
                self.keep_short(b"\\");
                self.state = ScanState::Text {
                    value,
                    escaped: true,
                };
            }
            None => {}
        }
        len + 1
    }

    fn end_text(&mut self, value: bool) {
        if !value {
            self.state = ScanState::AfterText;
            return;
        }
        self.state = ScanState::Seek;
        let empty = self.short.is_empty() && !self.short_overflow;
        self.reasons |= self.key == MemberKey::Reasoning && !empty;
        if self.short_overflow {
            return;
        }
        if !self.is_own_member() {
            return self.saw_tool_word();
        }
        match self.key {
            MemberKey::Model if self.model.is_none() => {
                let model = json::string(&quote(&self.short)).map(std::borrow::Cow::into_owned);
                self.model = model;
            }
            MemberKey::Type if self.depth == 1 => self.kind.clone_from(&self.short),
            MemberKey::ServiceTier => self.service_tier.clone_from(&self.short),
            MemberKey::Status => {
                let goes_on = matches!(&*self.short, b"queued" | b"in_progress");
                self.unsettled = goes_on && self.counts_text;
            }
            _ => {}
        }
    }

    /// Returns true if the scan is in the body itself or in a member known to hold what it seeks.
    fn is_own_member(&self) -> bool {
        self.depth == 1 || (self.depth == 2 && self.above(0) == MemberKey::Holder)
    }

    /// The key at a depth that the scan is below, the outermost of a body or response first.
    fn above(&self, at: usize) -> MemberKey {
        self.path.get(at).copied().unwrap_or_default()
    }

    /// The keys that the scan is below within the response, and the key it is at.
    fn place(&self) -> [MemberKey; 4] {
        let skip = usize::from(self.above(0) == MemberKey::Holder);
        let depth = usize::try_from(self.depth).unwrap_or_default();
        std::array::from_fn(|at| {
            let within = at + skip < depth.min(MAX_PATH);
            if within {
                self.above(at + skip)
            } else {
                MemberKey::Other
            }
        })
    }

    /// Notes a short string that says something of tools.
    fn saw_tool_word(&mut self) {
        use MemberKey::{Action, ContainerId, Item, Model, Other, Output, Tools, Type};
        self.tools.cites |= self.key == Type && self.short == b"url_citation";
        match self.place() {
            [Output, Type, Other, Other] => self.tools.saw_item_type(&self.short),
            [Item, Type, Other, Other] => self.item.clone_from(&self.short),
            [Output | Item, Action, Type, Other] => self.tools.saw_action(&self.short),
            [Output | Item, ContainerId, Other, Other] | [Output | Item, _, ContainerId, Other] => {
                self.tools.saw_container(&self.short);
            }
            [Tools, Model, Other, Other] => self.tools.saw_image_model(&self.short),
            _ => {}
        }
    }

    fn after_text(&mut self, rest: &[u8]) -> usize {
        let at = json::skip_space(rest, 0);
        match rest.get(at) {
            None => at,
            Some(b':') => {
                self.key = if self.short_overflow {
                    MemberKey::Other
                } else {
                    MemberKey::of(&self.short)
                };
                self.enter_key();
                self.state = ScanState::Value;
                at + 1
            }
            Some(_) => {
                let queries = [
                    MemberKey::Candidates,
                    MemberKey::Grounding,
                    MemberKey::Queries,
                ];
                if self.place().starts_with(&queries) && !self.short.is_empty() {
                    self.tools.saw_query();
                }
                self.state = ScanState::Seek;
                self.seek(rest.get(at..).unwrap_or_default()) + at
            }
        }
    }

    /// Notes the key that the scan is at.
    fn enter_key(&mut self) {
        let depth = usize::try_from(self.depth).unwrap_or_default();
        if let Some(place) = depth.checked_sub(1).and_then(|at| self.path.get_mut(at)) {
            *place = self.key;
        }
        let own = self.is_own_member();
        if self.key == MemberKey::Output && own {
            self.tools.forget_items();
        }
    }

    fn value(&mut self, rest: &[u8]) -> usize {
        let at = json::skip_space(rest, 0);
        let Some(byte) = rest.get(at) else { return at };
        let something = matches!(byte, b'"' | b'{');
        self.error |= something && self.key == MemberKey::Error && self.depth == 1;
        match byte {
            b'"' => self.begin_text(true),
            b'{' => {
                let kept = matches!(self.key, MemberKey::Usage | MemberKey::ToolUsage);
                if kept && self.is_own_member() {
                    self.capture = Some(Capture {
                        bytes: Vec::new(),
                        depth: self.depth,
                        key: self.key,
                    });
                }
                use MemberKey::{Candidates, Chunks, Grounding, Maps};
                if self.place() == [Candidates, Grounding, Chunks, Maps] {
                    self.tools.saw_maps();
                }
                self.open();
            }
            _ => {
                self.state = ScanState::Seek;
                return at.max(1);
            }
        }
        at + 1
    }

    const fn open(&mut self) {
        self.depth += 1;
        self.state = ScanState::Seek;
    }

    fn close(&mut self, span: &[u8]) {
        self.depth = self.depth.saturating_sub(1);
        self.closed |= self.depth == 0;
        let ends = self
            .capture
            .as_ref()
            .is_some_and(|capture| capture.depth == self.depth);
        if !ends {
            return;
        }
        self.keep(span);
        let Some(capture) = self.capture.take() else {
            return;
        };
        let start = memchr::memchr(b'{', &capture.bytes).unwrap_or_default();
        let object = capture.bytes.get(start..).unwrap_or_default();
        if capture.key == MemberKey::ToolUsage {
            return self.tools.read_tool_usage(object);
        }
        let place = if self.depth == 1 {
            &mut self.top
        } else {
            &mut self.nested
        };
        if let Some(counts) = ProviderCounts::read(object) {
            *place = Some(counts);
        }
    }

    fn keep(&mut self, span: &[u8]) {
        if let Some(capture) = &mut self.capture {
            if capture.bytes.len() + span.len() > MAX_USAGE {
                self.capture = None;
            } else {
                capture.bytes.extend_from_slice(span);
            }
        }
    }

    fn keep_short(&mut self, bytes: &[u8]) {
        if self.short.len() + bytes.len() > MAX_SHORT {
            self.short_overflow = true;
        } else {
            self.short.extend_from_slice(bytes);
        }
    }
}

fn quote(inner: &[u8]) -> Vec<u8> {
    [b"\"", inner, b"\""].concat()
}
