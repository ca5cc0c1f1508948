//! A meter's observations of a response, and the usage that follows from them: reported, or
//! estimated where the provider left it out or was cut off. It must not look at bytes.

use llm_router_domain::usage::{Class, EstimateMethod, Usage, UsageSource, estimate_tokens};

use super::UsageLayout;
use super::counts::ProviderCounts;

/// A meter's observations of a response so far.
#[derive(Clone, Debug)]
pub struct Observations {
    layout: &'static UsageLayout,
    counts: Option<ProviderCounts>,
    /// The counts are those of the end, not a running total or a placeholder.
    counts_are_final: bool,
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
        self.counts.as_ref().map(|counts| counts.usage(self.layout))
    }

    /// The usage to settle with.
    ///
    /// `complete`: the response was read to its end. Then, or once the provider's last word on
    /// usage is in, its figures hold as they are. A running total of a cut stream is raised to
    /// what the text received so far must have taken; where nothing was reported, `input_estimate`
    /// stands in for the input.
    #[must_use]
    pub fn usage(&self, complete: bool, input_estimate: u64) -> Usage {
        let is_final = self.counts_are_final || complete || self.finished;
        match self.reported_usage() {
            Some(usage) if is_final && !self.lacks_output(&usage) => usage,
            Some(usage) => self.estimated_from(usage),
            None => self.estimated_from(Usage::default().with(Class::Input, input_estimate)),
        }
    }

    /// Returns true if text arrived that the reported counts don't include: those of a
    /// placeholder alone, or a server that fills in zeros.
    fn lacks_output(&self, usage: &Usage) -> bool {
        let placeholder = self.layout.placeholder.is_some() && !self.counts_are_final;
        (placeholder || usage.output_total() == 0) && self.text_bytes > 0
    }

    fn estimated_from(&self, mut usage: Usage) -> Usage {
        let estimate = estimate_tokens(self.text_bytes, self.fragments);
        let missing = estimate.saturating_sub(usage.output_total());
        usage.set(
            Class::Output,
            usage.get(Class::Output).saturating_add(missing),
        );
        usage.source = UsageSource::Estimated(EstimateMethod::TextLength);
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
        if let Some(counts) = &mut self.counts {
            counts.read_service_tier(value);
        }
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
