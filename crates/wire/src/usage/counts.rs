//! One usage object of a provider, read into plain counts, and those counts as disjoint classes.
//! It must not know where in a body or stream the object stood.

use llm_router_domain::usage::{Class, Fee, ServiceTier, Usage};

use crate::json;

use super::{Counting, UsageLayout};

/// The figures of a usage object as the provider counts them. What it doesn't say is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProviderCounts {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    cache_write: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    audio_input: Option<u64>,
    image_input: Option<u64>,
    /// Input of tools the provider ran, which `input` leaves out (Gemini).
    tool_input: Option<u64>,
    reasoning: Option<u64>,
    /// Reasoning beside the details: within `output` (SGLang) or not (Perplexity).
    reasoning_beside: Option<u64>,
    /// Reasoning that `output` leaves out (Gemini).
    thoughts: Option<u64>,
    accepted: Option<u64>,
    rejected: Option<u64>,
    audio_output: Option<u64>,
    image_output: Option<u64>,
    web_searches: Option<u64>,
    service_tier: Option<ServiceTier>,
    compaction: Compaction,
}

/// Tokens used by compacting the context, which Anthropic's top-level figures leave out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Compaction {
    input: u64,
    cached: u64,
    cache_write: u64,
    output: u64,
}

impl ProviderCounts {
    /// Reads a usage object. None if it holds no count at all, as a tool's schema of that name.
    pub(super) fn read(object: &[u8]) -> Option<Self> {
        let mut counts = Self::default();
        for (key, value) in json::entries(object) {
            counts.read_member(key, value);
        }
        let any = counts
            .input
            .or(counts.output)
            .or(counts.total)
            .or(counts.cached);
        any.map(|_| counts)
    }

    fn read_member(&mut self, key: &[u8], value: &[u8]) {
        match key {
            b"prompt_tokens" | b"input_tokens" | b"promptTokenCount" => put(&mut self.input, value),
            b"completion_tokens" | b"output_tokens" | b"candidatesTokenCount" => {
                put(&mut self.output, value);
            }
            b"total_tokens" | b"totalTokenCount" => put(&mut self.total, value),
            b"prompt_cache_hit_tokens"
            | b"cached_tokens"
            | b"cache_read_input_tokens"
            | b"cachedContentTokenCount" => put(&mut self.cached, value),
            b"cache_creation_input_tokens" => put(&mut self.cache_write, value),
            b"reasoning_tokens" => put(&mut self.reasoning_beside, value),
            b"thoughtsTokenCount" => put(&mut self.thoughts, value),
            b"toolUsePromptTokenCount" => put(&mut self.tool_input, value),
            b"service_tier" | b"serviceTier" => self.read_service_tier(value),
            b"prompt_tokens_details" | b"input_tokens_details" => self.read_input_details(value),
            b"completion_tokens_details" | b"output_tokens_details" => {
                self.read_output_details(value);
            }
            b"cache_creation" => self.read_cache_creation(value),
            b"server_tool_use" | b"server_tool_use_details" => {
                self.web_searches = member_count(value, b"web_search_requests");
            }
            b"iterations" => self.read_iterations(value),
            _ => self.read_modalities(key, value),
        }
    }

    /// Notes the tier a provider says it served the request in.
    pub(super) fn read_service_tier(&mut self, value: &[u8]) {
        self.service_tier = json::string(value).map(|name| ServiceTier::from_name(&name));
    }

    fn read_input_details(&mut self, details: &[u8]) {
        for (key, value) in json::entries(details) {
            match key {
                b"cached_tokens" => put(&mut self.cached, value),
                b"cache_write_tokens" | b"cache_creation_tokens" => {
                    put(&mut self.cache_write, value);
                }
                b"audio_tokens" => put(&mut self.audio_input, value),
                b"image_tokens" => put(&mut self.image_input, value),
                _ => {}
            }
        }
    }

    fn read_output_details(&mut self, details: &[u8]) {
        for (key, value) in json::entries(details) {
            match key {
                b"reasoning_tokens" | b"thinking_tokens" => put(&mut self.reasoning, value),
                b"accepted_prediction_tokens" => put(&mut self.accepted, value),
                b"rejected_prediction_tokens" => put(&mut self.rejected, value),
                b"audio_tokens" => put(&mut self.audio_output, value),
                b"image_tokens" => put(&mut self.image_output, value),
                _ => {}
            }
        }
    }

    fn read_cache_creation(&mut self, split: &[u8]) {
        self.cache_write_5m = member_count(split, b"ephemeral_5m_input_tokens");
        self.cache_write_1h = member_count(split, b"ephemeral_1h_input_tokens");
    }

    fn read_iterations(&mut self, list: &[u8]) {
        self.compaction = Compaction::default();
        let is_compaction =
            |item: &&[u8]| json::member(item, b"type") == Some(&b"\"compaction\""[..]);
        for item in json::elements(list).filter(is_compaction) {
            let count = |key| member_count(item, key).unwrap_or_default();
            let sum = &mut self.compaction;
            sum.input = sum.input.saturating_add(count(b"input_tokens"));
            sum.cached = sum.cached.saturating_add(count(b"cache_read_input_tokens"));
            sum.cache_write = sum
                .cache_write
                .saturating_add(count(b"cache_creation_input_tokens"));
            sum.output = sum.output.saturating_add(count(b"output_tokens"));
        }
    }

    /// Gemini's lists of `{modality, tokenCount}`.
    fn read_modalities(&mut self, key: &[u8], list: &[u8]) {
        match key {
            b"promptTokensDetails" | b"toolUsePromptTokensDetails" => {
                add(&mut self.audio_input, modality(list, b"\"AUDIO\""));
                add(&mut self.image_input, modality(list, b"\"IMAGE\""));
            }
            b"candidatesTokensDetails" => {
                self.audio_output = Some(modality(list, b"\"AUDIO\""));
                self.image_output = Some(modality(list, b"\"IMAGE\""));
            }
            _ => {}
        }
    }

    /// These counts followed by later ones of the same response. Later figures replace earlier
    /// ones, for all providers report running totals; a later zero of an input figure is a
    /// provider repeating a field it doesn't fill.
    pub(super) fn followed_by(&self, later: &Self) -> Self {
        let kept = |old: Option<u64>, new: Option<u64>| new.filter(|n| *n > 0).or(old).or(new);
        let write_grew = later.cache_write.is_some_and(|n| n > 0);
        Self {
            input: kept(self.input, later.input),
            output: later.output.or(self.output),
            total: later.total.or(self.total),
            cached: kept(self.cached, later.cached),
            cache_write: kept(self.cache_write, later.cache_write),
            cache_write_5m: if write_grew && later.cache_write_5m.is_some() {
                later.cache_write_5m
            } else {
                self.cache_write_5m.or(later.cache_write_5m)
            },
            cache_write_1h: kept(self.cache_write_1h, later.cache_write_1h),
            audio_input: later.audio_input.or(self.audio_input),
            image_input: later.image_input.or(self.image_input),
            tool_input: kept(self.tool_input, later.tool_input),
            reasoning: later.reasoning.or(self.reasoning),
            reasoning_beside: later.reasoning_beside.or(self.reasoning_beside),
            thoughts: later.thoughts.or(self.thoughts),
            accepted: later.accepted.or(self.accepted),
            rejected: later.rejected.or(self.rejected),
            audio_output: later.audio_output.or(self.audio_output),
            image_output: later.image_output.or(self.image_output),
            web_searches: kept(self.web_searches, later.web_searches),
            service_tier: later.service_tier.or(self.service_tier),
            compaction: if later.compaction == Compaction::default() {
                self.compaction
            } else {
                later.compaction
            },
        }
    }

    /// The counts as disjoint classes, by the convention of the format they were reported in.
    pub(super) fn usage(&self, layout: &UsageLayout) -> Usage {
        let mut usage = Usage::default();
        match layout.counting {
            Counting::OpenAi => self.openai_input(&mut usage),
            Counting::Anthropic => self.anthropic_input(&mut usage),
        }
        self.split_output(&mut usage, layout);
        usage.set_uses(Fee::WebSearch, or0(self.web_searches));
        usage.service_tier = self.service_tier.unwrap_or_default();
        usage
    }

    /// Anthropic: `input_tokens` leaves out what the cache served and stored.
    fn anthropic_input(&self, usage: &mut Usage) {
        let split = or0(self.cache_write_5m).saturating_add(or0(self.cache_write_1h));
        let write = self.cache_write.unwrap_or(split);
        let long = or0(self.cache_write_1h).min(write);
        let extra = self.compaction;
        usage.set(Class::Input, or0(self.input).saturating_add(extra.input));
        usage.set(
            Class::CacheRead,
            or0(self.cached).saturating_add(extra.cached),
        );
        usage.set(
            Class::CacheWrite5m,
            (write - long).saturating_add(extra.cache_write),
        );
        usage.set(Class::CacheWrite1h, long);
    }

    /// OpenAI and Gemini: the input figure includes what the details count.
    fn openai_input(&self, usage: &mut Usage) {
        let cache = or0(self.cached).saturating_add(or0(self.cache_write));
        let counted = or0(self.input).saturating_add(or0(self.output));
        // Gateways in front of Anthropic models may leave the cache out of `prompt_tokens`; the
        // total gives them away.
        let apart = cache > 0 && self.total == Some(counted.saturating_add(cache));
        let input = or0(self.input).saturating_add(if apart { cache } else { 0 });
        let mut left = input.saturating_add(or0(self.tool_input));
        for (class, count) in [
            (Class::CacheRead, self.cached),
            (Class::CacheWrite5m, self.cache_write),
            (Class::AudioInput, self.audio_input),
            (Class::ImageInput, self.image_input),
        ] {
            usage.set(class, take(&mut left, count));
        }
        usage.set(Class::Input, left);
    }

    fn split_output(&self, usage: &mut Usage, layout: &UsageLayout) {
        let output = or0(self.output).saturating_add(self.compaction.output);
        let reasoning = self
            .thoughts
            .or_else(|| self.reasoning.max(self.reasoning_beside));
        let left_out = self.reasoning_left_out(output, or0(reasoning), layout);
        let mut left = output.saturating_add(if left_out { or0(reasoning) } else { 0 });
        for (class, count) in [
            (Class::Reasoning, reasoning),
            (Class::AudioOutput, self.audio_output),
            (Class::ImageOutput, self.image_output),
            (Class::RejectedPrediction, self.rejected),
            (Class::AcceptedPrediction, self.accepted),
        ] {
            usage.set(class, take(&mut left, count));
        }
        usage.set(Class::Output, left);
    }

    /// Returns true if the output figure leaves the reasoning out.
    fn reasoning_left_out(&self, output: u64, reasoning: u64, layout: &UsageLayout) -> bool {
        if layout.counting == Counting::Anthropic || reasoning == 0 {
            return false;
        }
        let counted = or0(self.input).saturating_add(output);
        // xAI leaves reasoning out of `completion_tokens`, though OpenAI's field says "of which";
        // the total gives it away.
        let total_has_both = self.total == Some(counted.saturating_add(reasoning));
        self.thoughts.is_some() || total_has_both || or0(self.reasoning_beside) > output
    }

    /// The output count so far, if one was reported.
    pub(super) const fn output(&self) -> Option<u64> {
        self.output
    }
}

/// Puts a count in; where several names stand for one figure, the largest holds.
fn put(field: &mut Option<u64>, value: &[u8]) {
    *field = (*field).max(json::count(value));
}

fn add(field: &mut Option<u64>, count: u64) {
    *field = Some(or0(*field).saturating_add(count));
}

fn member_count(object: &[u8], key: &[u8]) -> Option<u64> {
    json::member(object, key).and_then(json::count)
}

fn modality(list: &[u8], name: &[u8]) -> u64 {
    json::elements(list)
        .filter(|item| json::member(item, b"modality") == Some(name))
        .filter_map(|item| member_count(item, b"tokenCount"))
        .fold(0, u64::saturating_add)
}

fn or0(count: Option<u64>) -> u64 {
    count.unwrap_or_default()
}

fn take(left: &mut u64, count: Option<u64>) -> u64 {
    let taken = or0(count).min(*left);
    *left -= taken;
    taken
}
