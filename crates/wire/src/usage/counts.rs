//! The figures of a provider's usage object, and those figures as disjoint classes by the provider's
//! convention. It must not know how they were written ([`super::read`]).

use llm_router_domain::inexact::{Reason, Reasons};
use llm_router_domain::usage::{Class, Fee, ServiceTier, ShortName, Usage};
use rust_decimal::Decimal;

use super::iterations::{self, Iterations};
use super::read::or0;
use super::{Counting, UsageLayout};

/// The figures of a usage object as the provider counts them. What it doesn't say is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProviderCounts {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) total: Option<u64>,
    pub(super) cached: Option<u64>,
    /// Audio within `cached`.
    pub(super) cached_audio: Option<u64>,
    /// Images within `cached`.
    pub(super) cached_image: Option<u64>,
    /// Input written to a cache, whatever its lifetime.
    pub(super) cache_write: Option<u64>,
    pub(super) cache_write_5m: Option<u64>,
    pub(super) cache_write_30m: Option<u64>,
    pub(super) cache_write_1h: Option<u64>,
    pub(super) cache_write_12h: Option<u64>,
    /// Writes without a lifetime are kept thirty minutes, not five.
    pub(super) write_30m_by_default: bool,
    pub(super) audio_input: Option<u64>,
    pub(super) image_input: Option<u64>,
    /// Input of tools the provider ran, which `input` leaves out (Gemini).
    pub(super) tool_input: Option<u64>,
    /// Text of cited sources, which `input` leaves out (Perplexity).
    pub(super) citation: Option<u64>,
    pub(super) reasoning: Option<u64>,
    /// Reasoning beside the details: within `output` (SGLang) or not (Perplexity).
    pub(super) reasoning_beside: Option<u64>,
    /// Set if reasoning has a cost of its own beside that of the output.
    pub(super) reasoning_apart: bool,
    /// Reasoning that `output` leaves out (Gemini).
    pub(super) thoughts: Option<u64>,
    pub(super) accepted: Option<u64>,
    pub(super) rejected: Option<u64>,
    pub(super) audio_output: Option<u64>,
    pub(super) image_output: Option<u64>,
    uses: [Option<u64>; Fee::COUNT],
    /// Uses of tools, whatever their kind (xAI).
    pub(super) tools_used: Option<u64>,
    pub(super) service_tier: Option<ServiceTier>,
    pub(super) inference_geo: Option<ShortName>,
    pub(super) speed: Option<ShortName>,
    pub(super) search_context: Option<ShortName>,
    pub(super) reported_cost: Option<Decimal>,
    /// The cost at the provider behind a gateway.
    pub(super) upstream_cost: Option<Decimal>,
    /// The provider behind the gateway bills the customer's own account.
    pub(super) own_key: bool,
    pub(super) inexact: Reasons,
    pub(super) iterations: Option<Box<Iterations>>,
}

impl ProviderCounts {
    /// Returns the uses of a fee, if it was named.
    pub(super) fn uses(&self, fee: Fee) -> Option<u64> {
        self.uses.get(fee as usize).copied().flatten()
    }

    /// Notes the uses of a fee; none changes nothing.
    pub(super) fn put_uses(&mut self, fee: Fee, uses: Option<u64>) {
        if let Some(slot) = self.uses.get_mut(fee as usize) {
            *slot = uses.or(*slot);
        }
    }

    /// Returns true if uses of tools by kind were named.
    pub(super) fn names_uses(&self) -> bool {
        self.tools_used.is_some() || self.uses.iter().any(Option::is_some)
    }

    /// These counts followed by later ones of the same response. Later figures replace earlier
    /// ones, for all providers report running totals; a later zero of an input figure is a
    /// provider repeating a field it doesn't fill.
    pub(super) fn followed_by(&self, later: &Self) -> Self {
        let kept = |old: Option<u64>, new: Option<u64>| new.filter(|n| *n > 0).or(old).or(new);
        let write_grew = later.cache_write.is_some_and(|n| n > 0);
        let mut uses = self.uses;
        for (old, new) in uses.iter_mut().zip(later.uses) {
            *old = kept(*old, new);
        }
        Self {
            input: kept(self.input, later.input),
            output: later.output.or(self.output),
            total: later.total.or(self.total),
            cached: kept(self.cached, later.cached),
            cached_audio: kept(self.cached_audio, later.cached_audio),
            cached_image: kept(self.cached_image, later.cached_image),
            cache_write: kept(self.cache_write, later.cache_write),
            cache_write_5m: if write_grew && later.cache_write_5m.is_some() {
                later.cache_write_5m
            } else {
                self.cache_write_5m.or(later.cache_write_5m)
            },
            cache_write_30m: kept(self.cache_write_30m, later.cache_write_30m),
            cache_write_1h: kept(self.cache_write_1h, later.cache_write_1h),
            cache_write_12h: kept(self.cache_write_12h, later.cache_write_12h),
            write_30m_by_default: self.write_30m_by_default | later.write_30m_by_default,
            audio_input: later.audio_input.or(self.audio_input),
            image_input: later.image_input.or(self.image_input),
            tool_input: kept(self.tool_input, later.tool_input),
            citation: kept(self.citation, later.citation),
            reasoning: later.reasoning.or(self.reasoning),
            reasoning_beside: later.reasoning_beside.or(self.reasoning_beside),
            reasoning_apart: self.reasoning_apart | later.reasoning_apart,
            thoughts: later.thoughts.or(self.thoughts),
            accepted: later.accepted.or(self.accepted),
            rejected: later.rejected.or(self.rejected),
            audio_output: later.audio_output.or(self.audio_output),
            image_output: later.image_output.or(self.image_output),
            uses,
            tools_used: kept(self.tools_used, later.tools_used),
            service_tier: later.service_tier.or(self.service_tier),
            inference_geo: later.inference_geo.or(self.inference_geo),
            speed: later.speed.or(self.speed),
            search_context: later.search_context.or(self.search_context),
            reported_cost: later.reported_cost.or(self.reported_cost),
            upstream_cost: later.upstream_cost.or(self.upstream_cost),
            own_key: self.own_key | later.own_key,
            inexact: self.inexact | later.inexact,
            iterations: later.iterations.clone().or_else(|| self.iterations.clone()),
        }
    }

    /// The counts as disjoint classes, by the convention of the format they were reported in.
    pub(super) fn usage(&self, layout: &UsageLayout) -> Usage {
        let mut usage = self.own_usage(layout.counting);
        if let Some(iterations) = &self.iterations {
            iterations::add(&mut usage, &iterations.compaction);
        }
        usage
    }

    /// The same without the iterations that the figures leave out.
    pub(super) fn own_usage(&self, counting: Counting) -> Usage {
        let mut usage = Usage::default();
        match counting {
            Counting::OpenAi => self.openai_input(&mut usage),
            Counting::Anthropic => self.anthropic_input(&mut usage),
        }
        usage.set(Class::Citation, or0(self.citation));
        self.split_output(&mut usage, counting);
        for fee in Fee::ALL {
            usage.set_uses(fee, or0(self.uses(fee)));
        }
        if self.uses.iter().all(Option::is_none) {
            usage.set_uses(Fee::ServerTool, or0(self.tools_used));
        }
        usage.service_tier = self.service_tier.unwrap_or_default();
        usage.inference_geo = self.inference_geo.unwrap_or_default();
        usage.speed = self.speed.unwrap_or_default();
        usage.search_context = self.search_context.unwrap_or_default();
        usage.thinking = usage.get(Class::Reasoning) > 0;
        usage.reported_cost = self.stated_cost();
        usage.inexact |= self.inexact;
        usage
    }

    /// The cost that the provider states. Of a request on the customer's own key a gateway states
    /// its own share; what the provider behind it bills stands beside that.
    fn stated_cost(&self) -> Option<Decimal> {
        let cost = self.reported_cost?;
        let upstream = self.upstream_cost.filter(|_| self.own_key);
        Some(cost + upstream.unwrap_or_default())
    }

    /// Anthropic: `input_tokens` leaves out what the cache served and stored.
    fn anthropic_input(&self, usage: &mut Usage) {
        let mut write = self.written();
        usage.set(Class::Input, or0(self.input));
        usage.set(Class::CacheRead, or0(self.cached));
        self.split_write(usage, &mut write);
    }

    /// Input written to a cache, whatever its lifetime.
    fn written(&self) -> u64 {
        let split = [
            self.cache_write_5m,
            self.cache_write_30m,
            self.cache_write_1h,
            self.cache_write_12h,
        ];
        let split = split.into_iter().map(or0).fold(0, u64::saturating_add);
        self.cache_write.unwrap_or(split)
    }

    /// Splits what was written by how long it is kept.
    fn split_write(&self, usage: &mut Usage, write: &mut u64) {
        let [mut short, mut half] = [self.cache_write_5m, self.cache_write_30m];
        let named = [self.cache_write_12h, self.cache_write_1h]
            .into_iter()
            .map(or0)
            .fold(0, u64::saturating_add);
        let rest = Some(write.saturating_sub(named));
        // What no lifetime is named for has the shortest that the provider has.
        if self.write_30m_by_default || self.cache_write_30m.is_some() {
            half = rest;
        } else {
            short = rest;
        }
        for (class, count) in [
            (Class::CacheWrite12h, self.cache_write_12h),
            (Class::CacheWrite1h, self.cache_write_1h),
            (Class::CacheWrite30m, half),
            (Class::CacheWrite5m, short),
        ] {
            usage.set(class, take(write, count));
        }
    }

    /// OpenAI and Gemini: the input figure includes what the details count.
    fn openai_input(&self, usage: &mut Usage) {
        let written = self.written();
        let cache = or0(self.cached).saturating_add(written);
        let own = self
            .input
            .unwrap_or_else(|| match (self.total, self.output) {
                // Embeddings may say the total alone.
                (Some(total), output) => total.saturating_sub(or0(output)),
                (None, _) => 0,
            });
        let counted = own.saturating_add(or0(self.output));
        // Gateways in front of Anthropic models may leave the cache out of `prompt_tokens`; the
        // total gives them away.
        let apart = cache > 0 && self.total == Some(counted.saturating_add(cache));
        let input = own.saturating_add(if apart { cache } else { 0 });
        let mut left = input.saturating_add(or0(self.tool_input));
        if or0(self.cached) > left {
            usage.inexact.add(Reason::UnknownUsage);
        }
        let mut cached = take(&mut left, self.cached);
        for (class, count) in [
            (Class::CachedAudioInput, self.cached_audio),
            (Class::CachedImageInput, self.cached_image),
        ] {
            usage.set(class, take(&mut cached, count));
        }
        usage.set(Class::CacheRead, cached);
        let mut write = take(&mut left, Some(written));
        self.split_write(usage, &mut write);
        for (class, served, count) in [
            (Class::AudioInput, Class::CachedAudioInput, self.audio_input),
            (Class::ImageInput, Class::CachedImageInput, self.image_input),
        ] {
            let uncached = or0(count).saturating_sub(usage.get(served));
            usage.set(class, take(&mut left, Some(uncached)));
        }
        usage.set(Class::Input, left);
    }

    fn split_output(&self, usage: &mut Usage, counting: Counting) {
        let output = self
            .output
            .unwrap_or_else(|| match (self.total, self.input) {
                (Some(total), Some(input)) if self.thoughts.or(self.tool_input).is_none() => {
                    total.saturating_sub(input)
                }
                _ => 0,
            });
        let reasoning = self
            .thoughts
            .or_else(|| self.reasoning.max(self.reasoning_beside));
        let left_out = self.reasoning_left_out(output, or0(reasoning), counting);
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
    fn reasoning_left_out(&self, output: u64, reasoning: u64, counting: Counting) -> bool {
        if counting == Counting::Anthropic || reasoning == 0 {
            return false;
        }
        let counted = or0(self.input).saturating_add(output);
        // xAI leaves reasoning out of `completion_tokens`, though OpenAI's field says "of which";
        // the total gives it away.
        let total_has_both = self.total == Some(counted.saturating_add(reasoning));
        let apart = self.reasoning_apart && self.reasoning_beside.is_some();
        self.thoughts.is_some() || total_has_both || apart || or0(self.reasoning_beside) > output
    }

    /// The output count so far, if one was reported.
    pub(super) const fn output(&self) -> Option<u64> {
        self.output
    }

    /// Returns true if the counts say the total alone.
    pub(super) const fn is_total_only(&self) -> bool {
        self.input.is_none() && self.output.is_none() && self.total.is_some()
    }
}

fn take(left: &mut u64, count: Option<u64>) -> u64 {
    let taken = or0(count).min(*left);
    *left -= taken;
    taken
}
