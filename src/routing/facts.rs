//! Facts that rules may ask of a request, found when they ask: the body is read at most once, only
//! for a rule that looks into it.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::UNIX_EPOCH;

use llm_router_domain::complexity::{Lexical, Scorer};
use llm_router_domain::header::is_credential;
use llm_router_domain::rule::{Area, Facts, Feature, WeekMinute};
use llm_router_wire::prompt::Prompt;

use crate::routing::RouteRequest;

/// Scorer of requests by complexity.
pub(crate) static SCORER: &dyn Scorer = &Lexical;

/// A request as rules see it.
pub(crate) struct Request<'a> {
    asking: RouteRequest<'a>,
    prompt: OnceCell<Prompt<'a>>,
    score: OnceCell<f64>,
}

impl<'a> Request<'a> {
    pub(crate) const fn new(asking: RouteRequest<'a>) -> Self {
        Self {
            asking,
            prompt: OnceCell::new(),
            score: OnceCell::new(),
        }
    }

    /// Returns what is known of the request.
    pub(crate) const fn asking(&self) -> &RouteRequest<'a> {
        &self.asking
    }

    /// Returns the texts of the body. One that can't be read has none: the provider will refuse it.
    pub(crate) fn prompt(&self) -> &Prompt<'a> {
        self.prompt
            .get_or_init(|| Prompt::read(self.asking.body).unwrap_or_default())
    }
}

impl Facts for Request<'_> {
    fn model(&self) -> &str {
        self.asking.model
    }

    fn text(&self, area: Area) -> &str {
        self.prompt().text(area)
    }

    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        // No rule that asks for one is compiled; whatever else asks learns nothing either.
        if is_credential(name) {
            return None;
        }
        let mut lines = self.asking.headers.get_all(name).iter();
        let first = String::from_utf8_lossy(lines.next()?.as_bytes());
        Some(lines.fold(first, |joined, line| {
            let line = String::from_utf8_lossy(line.as_bytes());
            Cow::Owned(format!("{joined}, {line}"))
        }))
    }

    fn key(&self) -> &str {
        &self.asking.key.name
    }

    fn owner(&self) -> Option<&str> {
        self.asking.key.owner.as_deref()
    }

    fn tokens(&self) -> u64 {
        self.prompt().tokens()
    }

    fn has(&self, feature: Feature) -> bool {
        self.prompt().has(feature)
    }

    fn complexity(&self) -> f64 {
        let score = || SCORER.score(&self.prompt().complexity());
        *self.score.get_or_init(score)
    }

    fn now(&self) -> WeekMinute {
        let since = self.asking.now.duration_since(UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs();
        WeekMinute::from_unix(i64::try_from(seconds).unwrap_or_default())
    }

    fn random(&self) -> u64 {
        self.asking.random
    }
}
