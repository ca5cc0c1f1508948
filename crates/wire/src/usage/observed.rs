//! A meter's observations of a response, and the usage that follows from them: reported, or
//! estimated where the provider left it out or was cut off. It must not look at bytes.

use llm_router_domain::inexact::Reason;
use llm_router_domain::usage::{
    Class, EstimateMethod, ServiceTier, Usage, UsagePart, UsageSource, estimate_tokens,
};

use crate::json;

use super::UsageLayout;
use super::counts::ProviderCounts;
use super::iterations;
use super::tools::ToolUses;

/// A meter's observations of a response so far.
#[derive(Clone, Debug)]
pub struct Observations {
    layout: &'static UsageLayout,
    counts: Option<ProviderCounts>,
    /// The counts are those of the end, not a running total or a placeholder.
    counts_are_final: bool,
    /// Uses of tools that stand outside the usage.
    pub(super) tools: ToolUses,
    /// The tier that stands beside the usage, or in chunks of content.
    tier: Option<ServiceTier>,
    /// The tier that the response's header names.
    header_tier: Option<ServiceTier>,
    /// Text of reasoning arrived.
    pub(super) reasons: bool,
    /// The response goes on at the provider, which says so.
    pub(super) unsettled: bool,
    /// The model that the provider says it served.
    pub model: Option<String>,
    /// The provider said that the response is complete.
    pub finished: bool,
    /// The provider sent an error event after the stream had begun.
    pub failed: bool,
    /// Bytes of generated text, tool arguments and reasoning included.
    pub text_bytes: u64,
    /// Streamed fragments that carried such text.
    pub fragments: u64,
}

impl Observations {
    pub(super) const fn new(layout: &'static UsageLayout) -> Self {
        Self {
            layout,
            counts: None,
            counts_are_final: false,
            tools: ToolUses::new(),
            tier: None,
            header_tier: None,
            reasons: false,
            unsettled: false,
            model: None,
            finished: false,
            failed: false,
            text_bytes: 0,
            fragments: 0,
        }
    }

    /// The layout it was read in.
    #[must_use]
    pub const fn layout(&self) -> &'static UsageLayout {
        self.layout
    }

    /// Returns true once generated content has begun to arrive: from then on nothing is retried.
    #[must_use]
    pub const fn content_started(&self) -> bool {
        self.fragments > 0
    }

    /// The usage that the provider has reported so far, final or not.
    #[must_use]
    pub fn reported_usage(&self) -> Option<Usage> {
        let counts = self.counts.as_ref()?;
        let mut usage = counts.usage(self.layout);
        if let Some((_, included)) = self.iteration_parts(counts) {
            iterations::subtract(&mut usage, &included);
        }
        self.complete(&mut usage);
        Some(usage)
    }

    /// Adds what stands outside the usage object.
    fn complete(&self, usage: &mut Usage) {
        self.tools.put_into(usage, self.counts.as_ref());
        if usage.service_tier.is_standard() {
            usage.service_tier = self.tier.unwrap_or_default();
        }
        usage.service_tier = self.header_tier.unwrap_or(usage.service_tier);
        usage.thinking |= self.reasons;
    }

    fn iteration_parts(&self, counts: &ProviderCounts) -> Option<(Vec<UsagePart>, Usage)> {
        let iterations = counts.iterations.as_ref()?;
        let top = counts.own_usage(self.layout.counting);
        Some(iterations.parts(self.served_model(), &top))
    }

    /// The parts of the usage that are billed at the rates of other models, which
    /// [`Self::usage`] leaves out.
    #[must_use]
    pub fn parts(&self) -> Vec<UsagePart> {
        let iterations = self
            .counts
            .as_ref()
            .and_then(|counts| self.iteration_parts(counts));
        let mut parts = iterations.map_or_else(Vec::new, |(parts, _)| parts);
        parts.extend(self.tools.image_part());
        parts
    }

    /// The model that the provider says it served: the one that took over, if one did.
    #[must_use]
    pub fn served_model(&self) -> Option<&str> {
        let iterations = self
            .counts
            .as_ref()
            .and_then(|counts| counts.iterations.as_ref());
        let fallback = iterations.and_then(|iterations| iterations.fallback.as_deref());
        fallback.or(self.model.as_deref())
    }

    /// Notes the tier that the response's header names.
    pub fn saw_header_tier(&mut self, name: &str) {
        self.header_tier = Some(ServiceTier::from_name(name));
    }

    /// The usage to settle with.
    ///
    /// `complete`: the response was read to its end. Then, or once the provider's last word on
    /// usage is in, its figures hold as they are. A running total of a cut stream is raised to
    /// what the text received so far must have taken; where nothing was reported, or no input,
    /// `input_estimate` stands in for the input.
    #[must_use]
    pub fn usage(&self, complete: bool, input_estimate: u64) -> Usage {
        let is_final = self.counts_are_final || complete || self.finished;
        match self.reported_usage() {
            Some(usage) if is_final && !self.lacks_output(&usage) && !self.lacks_input(&usage) => {
                usage
            }
            Some(usage) => self.estimated_from(usage, input_estimate),
            None => {
                let mut usage = Usage::default().with(Class::Input, input_estimate);
                self.complete(&mut usage);
                self.estimated_from(usage, input_estimate)
            }
        }
    }

    /// Returns true if text arrived that the reported counts don't include: those of a
    /// placeholder alone, or a server that fills in zeros.
    fn lacks_output(&self, usage: &Usage) -> bool {
        let placeholder = self.layout.placeholder.is_some() && !self.counts_are_final;
        (placeholder || usage.output_total() == 0) && self.text_bytes > 0
    }

    /// Returns true if the counts say no input, though there is no answer without any, or no more
    /// than a total of input and output.
    fn lacks_input(&self, usage: &Usage) -> bool {
        let total_only = self
            .counts
            .as_ref()
            .is_some_and(ProviderCounts::is_total_only);
        self.layout.generates && (usage.input_total() == 0 || total_only)
    }

    fn estimated_from(&self, mut usage: Usage, input_estimate: u64) -> Usage {
        let estimate = estimate_tokens(self.text_bytes, self.fragments);
        let missing = estimate.saturating_sub(usage.output_total());
        usage.set(
            Class::Output,
            usage.get(Class::Output).saturating_add(missing),
        );
        if usage.input_total() == 0 {
            usage.set(Class::Input, input_estimate);
        } else if self
            .counts
            .as_ref()
            .is_some_and(ProviderCounts::is_total_only)
        {
            let input = usage.get(Class::Input).saturating_sub(missing);
            usage.set(Class::Input, input);
        }
        usage.source = UsageSource::Estimated(EstimateMethod::TextLength);
        usage.inexact.add(if self.unsettled {
            Reason::BackgroundUnsettled
        } else {
            Reason::UsageMissing
        });
        usage
    }

    pub(super) fn saw_counts(&mut self, found: ProviderCounts, is_final: bool) {
        let merged = self
            .counts
            .as_ref()
            .map_or_else(|| found.clone(), |old| old.followed_by(&found));
        self.counts = Some(merged);
        self.counts_are_final |= is_final;
    }

    pub(super) fn saw_service_tier(&mut self, value: &[u8]) {
        let tier = json::string(value).map(|name| ServiceTier::from_name(&name));
        self.tier = tier.or(self.tier);
    }

    pub(super) fn saw_model(&mut self, model: &str) {
        if self.model.is_none() && !model.is_empty() {
            self.model = Some(model.to_owned());
        }
    }

    pub(super) const fn saw_text(&mut self, bytes: u64) {
        if bytes > 0 {
            self.text_bytes = self.text_bytes.saturating_add(bytes);
            self.fragments += 1;
        }
    }
}
