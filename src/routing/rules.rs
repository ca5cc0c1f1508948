//! Applies the rules to a request, and finds the name that they decide on. Finding the deployments
//! of a name is `resolve`'s.

use std::borrow::Cow;

use llm_router_domain::rule::{self, RuleDecision};

use crate::error::ApiError;
use crate::routing::resolve::{self, Candidates};
use crate::routing::{AUTO, Request, RouteRequest};

/// Decides on a request by the rules.
/// Also, where there are rules, what made one match or why none did.
pub(super) fn decide<'s>(
    asking: &RouteRequest<'s>,
    request: &Request<'_>,
) -> (RuleDecision<'s>, Option<Cow<'static, str>>) {
    let rules = &asking.snapshot.rules;
    if rules.is_empty() {
        return (RuleDecision::default(), None);
    }
    if let Some(why) = bypass(asking) {
        return (RuleDecision::default(), Some(why.into()));
    }
    let (decision, why) = rules.decide_with_reason(request);
    let why = why.map_or(Cow::Borrowed("no rule matched"), Cow::Owned);
    (decision, Some(why))
}

/// Returns the reason that no rule is tried for a request, if none is: only `provider/model` says
/// where a request goes.
pub(crate) fn bypass(asking: &RouteRequest<'_>) -> Option<&'static str> {
    if !asking.enabled {
        Some("not tried: routing is switched off")
    } else if resolve::is_qualified(asking.snapshot, asking.model) {
        Some("not tried: the request names its provider")
    } else {
        None
    }
}

/// The deployments that a decision leads to.
///
/// # Errors
/// What a rule blocks with, and 404 when the decision leads nowhere.
pub(super) fn follow(
    asking: &RouteRequest<'_>,
    decision: &RuleDecision<'_>,
) -> Result<Candidates, ApiError> {
    let RouteRequest {
        snapshot, model, ..
    } = *asking;
    let found = match decision.route {
        rule::RuleRoute::Block { status, message } => {
            return Err(ApiError::block(status, message));
        }
        rule::RuleRoute::Model(name) => resolve::by_name(snapshot, name, asking.endpoint),
        rule::RuleRoute::Provider(id) => resolve::at_provider(snapshot, id, model),
        rule::RuleRoute::AsAsked => {
            let default = snapshot.default_model.as_deref();
            let name = if model == AUTO { default } else { Some(model) };
            name.and_then(|name| resolve::by_name(snapshot, name, asking.endpoint))
        }
    };
    let serves = |found: &Candidates| found.deployments().next().is_some();
    found
        .filter(serves)
        .ok_or_else(|| ApiError::model_not_found(model))
}
