//! Uses of tools that a provider ran for an answer, as far as they stand outside its usage object:
//! items of OpenAI's output, its `tool_usage`, Gemini's grounding. It must not price them.

use std::sync::LazyLock;

use llm_router_domain::inexact::Reason;
use llm_router_domain::usage::{Class, Fee, Usage, UsagePart};
use memchr::memmem::Finder;

use crate::json;

use super::Counting;
use super::counts::ProviderCounts;
use super::read::member_count;

/// The most containers of one answer that are told apart.
const MOST_CONTAINERS: usize = 16;

/// The longest id of a container, and the longest model, that is kept.
const LONGEST_ID: usize = 128;

/// The image model of a tool that names none.
const IMAGE_MODEL: &str = "gpt-image-2";

static GROUNDING: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new(b"\"groundingMetadata\""));
static CITATION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"url_citation\""));

/// Uses of tools seen in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToolUses {
    web_calls: u32,
    /// Calls of the web tool that opened or searched a page, which are free.
    page_actions: u32,
    file_searches: u32,
    code_calls: u32,
    containers: Vec<Box<str>>,
    image_calls: u32,
    other_calls: u32,
    /// Searches that the provider says it bills.
    billed_searches: Option<u64>,
    image_usage: Option<Box<ProviderCounts>>,
    image_model: Option<Box<str>>,
    /// `tool_usage` names a tool that the meter doesn't know.
    unknown: bool,
    /// Queries of Gemini's search.
    queries: u32,
    grounded: bool,
    maps: bool,
    /// A chat's answer cites pages.
    pub(super) cites: bool,
}

impl ToolUses {
    /// No uses.
    pub(super) const fn new() -> Self {
        Self {
            web_calls: 0,
            page_actions: 0,
            file_searches: 0,
            code_calls: 0,
            containers: Vec::new(),
            image_calls: 0,
            other_calls: 0,
            billed_searches: None,
            image_usage: None,
            image_model: None,
            unknown: false,
            queries: 0,
            grounded: false,
            maps: false,
            cites: false,
        }
    }

    /// Notes a member of the answer: of a body, or of the `response` in an event.
    pub(super) fn read_member(&mut self, key: &[u8], value: &[u8]) {
        match key {
            b"output" => {
                self.forget_items();
                for item in json::elements(value) {
                    self.read_item(item);
                }
            }
            b"tool_usage" => self.read_tool_usage(value),
            b"tools" => self.read_tools(value),
            b"candidates" if GROUNDING.find(value).is_some() => self.read_candidates(value),
            b"choices" => self.cites |= CITATION.find(value).is_some(),
            _ => {}
        }
    }

    /// Notes an item of the output that a stream says is done.
    pub(super) fn read_item(&mut self, item: &[u8]) {
        for (key, value) in json::entries(item) {
            match key {
                b"type" => self.saw_item_type(unquoted(value)),
                b"container_id" => self.saw_container(unquoted(value)),
                b"action" => {
                    let kind = json::member(value, b"type");
                    kind.into_iter()
                        .for_each(|kind| self.saw_action(unquoted(kind)));
                    self.read_container_in(value);
                }
                b"environment" => self.read_container_in(value),
                _ => {}
            }
        }
    }

    fn read_container_in(&mut self, value: &[u8]) {
        if let Some(id) = json::member(value, b"container_id") {
            self.saw_container(unquoted(id));
        }
    }

    /// The list of items follows whole: what events said of them one by one is in it.
    pub(super) fn forget_items(&mut self) {
        (self.web_calls, self.page_actions, self.file_searches) = (0, 0, 0);
        (self.code_calls, self.image_calls, self.other_calls) = (0, 0, 0);
        self.containers.clear();
    }

    pub(super) fn saw_item_type(&mut self, kind: &[u8]) {
        let count = match kind {
            b"web_search_call" => &mut self.web_calls,
            b"file_search_call" => &mut self.file_searches,
            b"code_interpreter_call" => &mut self.code_calls,
            b"image_generation_call" => &mut self.image_calls,
            // The client runs these, or they cost tokens only.
            b"function_call" | b"custom_tool_call" | b"computer_call" | b"local_shell_call"
            | b"apply_patch_call" | b"mcp_call" | b"tool_search_call" | b"shell_call" => return,
            other if other.ends_with(b"_call") => &mut self.other_calls,
            _ => return,
        };
        *count = count.saturating_add(1);
    }

    pub(super) const fn saw_action(&mut self, kind: &[u8]) {
        if matches!(kind, b"open_page" | b"find_in_page" | b"find") {
            self.page_actions = self.page_actions.saturating_add(1);
        }
    }

    pub(super) fn saw_container(&mut self, id: &[u8]) {
        let Some(id) = text(id) else { return };
        let known = self.containers.iter().any(|known| **known == *id);
        if !known && self.containers.len() < MOST_CONTAINERS {
            self.containers.push(id.into());
        }
    }

    /// Notes the model of the image tool.
    pub(super) fn saw_image_model(&mut self, model: &[u8]) {
        self.image_model = text(model).map(Into::into).or(self.image_model.take());
    }

    pub(super) const fn saw_query(&mut self) {
        self.queries = self.queries.saturating_add(1);
        self.grounded = true;
    }

    pub(super) const fn saw_maps(&mut self) {
        self.maps = true;
    }

    pub(super) fn read_tool_usage(&mut self, object: &[u8]) {
        for (key, value) in json::entries(object) {
            match key {
                b"web_search" => self.billed_searches = member_count(value, b"num_requests"),
                b"image_gen" => self.image_usage = ProviderCounts::read(value).map(Box::new),
                _ => self.unknown |= counts_anything(value),
            }
        }
    }

    fn read_tools(&mut self, tools: &[u8]) {
        for tool in json::elements(tools) {
            if json::member(tool, b"type") == Some(b"\"image_generation\"")
                && let Some(model) = json::member(tool, b"model")
            {
                self.saw_image_model(unquoted(model));
            }
        }
    }

    fn read_candidates(&mut self, candidates: &[u8]) {
        let mut queries = 0_u32;
        for candidate in json::elements(candidates) {
            let Some(grounding) = json::member(candidate, b"groundingMetadata") else {
                continue;
            };
            for (key, value) in json::entries(grounding) {
                match key {
                    b"webSearchQueries" => {
                        let asked = json::elements(value).filter(|query| query.len() > 2);
                        queries = queries.saturating_add(u32::try_from(asked.count()).unwrap_or(0));
                    }
                    b"groundingChunks" => {
                        let maps = |chunk| json::member(chunk, b"maps").is_some();
                        self.maps |= json::elements(value).any(maps);
                    }
                    b"googleMapsWidgetContextToken" => self.maps = true,
                    _ => {}
                }
            }
        }
        self.grounded |= queries > 0;
        // Each chunk of a stream says the queries so far.
        self.queries = self.queries.max(queries);
    }

    /// Puts the uses into a usage. Uses that `counts` names by kind are all there are.
    pub(super) fn put_into(&self, usage: &mut Usage, counts: Option<&ProviderCounts>) {
        if self.unknown {
            usage.inexact.add(Reason::UnpricedTool);
        }
        if counts.is_some_and(ProviderCounts::names_uses) {
            return;
        }
        let called = self.web_calls.saturating_sub(self.page_actions);
        let searches = self.billed_searches.unwrap_or_else(|| u64::from(called));
        let searches = searches
            .max(u64::from(self.queries))
            .max(u64::from(self.cites));
        // A call that names no container ran in one all the same.
        let sessions = self.containers.len().max(usize::from(self.code_calls > 0));
        let uses = [
            (Fee::WebSearch, searches),
            (Fee::GroundedPrompt, u64::from(self.grounded)),
            (Fee::FileSearch, u64::from(self.file_searches)),
            (Fee::CodeSession, sessions as u64),
            (Fee::Maps, u64::from(self.maps)),
            (Fee::ServerTool, u64::from(self.other_calls)),
        ];
        for (fee, count) in uses.into_iter().filter(|(_, count)| *count > 0) {
            usage.set_uses(fee, count);
        }
        if self.image_calls > 0 && self.image_part().is_none() {
            usage.inexact.add(Reason::UnpricedTool);
        }
    }

    /// Returns the part of the image tool, which is billed at the rates of its own model.
    pub(super) fn image_part(&self) -> Option<UsagePart> {
        let usage = self.image_usage.as_ref()?.own_usage(Counting::OpenAi);
        let usage = image_classes(usage);
        let model = self.image_model.as_deref().unwrap_or(IMAGE_MODEL).into();
        (!usage.is_empty()).then_some(UsagePart { model, usage })
    }
}

/// Output of an image model that isn't split is images.
fn image_classes(mut usage: Usage) -> Usage {
    if usage.get(Class::ImageOutput) == 0 {
        usage.set(Class::ImageOutput, usage.get(Class::Output));
        usage.set(Class::Output, 0);
    }
    usage
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"");
    inner
        .and_then(|v| v.strip_suffix(b"\""))
        .unwrap_or_default()
}

/// An id as text, if it is one.
fn text(id: &[u8]) -> Option<&str> {
    let sane = !id.is_empty() && id.len() <= LONGEST_ID;
    std::str::from_utf8(id).ok().filter(|_| sane)
}

/// Returns true if a value holds a count above zero.
fn counts_anything(value: &[u8]) -> bool {
    if json::is_object(value) {
        return json::entries(value).any(|(_, value)| counts_anything(value));
    }
    json::count(value).is_some_and(|count| count > 0)
}
