//! Routes a request: applies the rules to the model asked, and orders the deployments that serve
//! the model they chose. Explaining runs the same code. Nothing is sent from here.

pub(crate) mod balance;
pub(crate) mod estimate;
pub(crate) mod explain;
pub(crate) mod facts;
pub(crate) mod model_list;
pub(crate) mod paths;
pub(crate) mod resolve;
pub(crate) mod rules;
pub(crate) mod toggle;

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use llm_router_domain::format::Endpoint;
use llm_router_domain::key::Key;
use llm_router_domain::ledger::RouteExplanation;
use llm_router_domain::rule::RuleDecision;
use serde_json::Value;

pub(crate) use self::facts::{Request, SCORER};
use self::resolve::Candidates;
pub(crate) use self::rules::bypass;
use crate::error::ApiError;
use crate::routing::balance::RouteCursor;
use crate::snapshot::{Deployment, Model, Snapshot};

/// The name that lets the router choose.
pub(crate) const AUTO: &str = "auto";

/// Facts of a request that is being routed.
#[derive(Clone, Copy)]
pub(crate) struct RouteRequest<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// State of the toggle: rules apply if set.
    pub(crate) enabled: bool,
    pub(crate) key: &'a Key,
    pub(crate) endpoint: Endpoint,
    /// The model as asked.
    pub(crate) model: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// The body as the client sent it: a JSON object.
    pub(crate) body: &'a [u8],
    pub(crate) now: SystemTime,
    /// Random number for splits that aren't sticky.
    pub(crate) random: u64,
}

/// The deployments to try, and how they were found.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) course: RouteCursor,
    /// The public name that was meant, if it was one.
    pub(crate) model: Option<Arc<Model>>,
    /// The rule that decided.
    pub(crate) rule: Option<Arc<str>>,
    /// Parameters that the rule sets in the body.
    pub(crate) set: Vec<(String, Value)>,
    /// Explanation of the route, for the ledger.
    pub(crate) explanation: Option<Box<RouteExplanation>>,
}

/// Reason that a request is refused a route.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) fault: ApiError,
    /// The rule that decided, if one did.
    pub(crate) rule: Option<Arc<str>>,
}

/// Finds the deployments for a request.
///
/// # Errors
/// 404 for a name that nothing here serves, 403 for one that the key may not use, 400 for one
/// whose providers can't do what the endpoint does, and what a rule blocks with.
pub(crate) fn route(asking: &RouteRequest<'_>) -> Result<Route, Refused> {
    let request = Request::new(*asking);
    let (decision, why) = rules::decide(asking, &request);
    let rule = decision.rule.map(|rule| Arc::from(rule.name));
    let plan = plan(asking, &decision);
    if let Some(fault) = plan.refused {
        return Err(Refused { fault, rule });
    }
    Ok(Route {
        explanation: explanation(why.as_deref(), &plan),
        course: plan.course,
        model: plan.model,
        set: decision.set.to_vec(),
        rule,
    })
}

/// Returns the explanation that is kept of a route, if the attempts won't tell it.
fn explanation(why: Option<&str>, plan: &Plan) -> Option<Box<RouteExplanation>> {
    let several = plan.course.remaining().nth(1).is_some();
    if why.is_none() && plan.left_out.is_empty() && !several {
        return None;
    }
    let mut kept = RouteExplanation::new(why.unwrap_or_default());
    let id = |one: &Deployment| Deployment::id_of(&one.provider, &one.model);
    for one in plan.course.remaining().take(RouteExplanation::MOST) {
        kept.add_candidate(id(one));
    }
    for (one, why) in plan.left_out.iter().take(RouteExplanation::MOST) {
        kept.leave_out(id(one), why);
    }
    Some(Box::new(kept))
}

/// Route of a request once the rules have decided.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The deployments to try; none when it is refused.
    pub(crate) course: RouteCursor,
    /// Deployments that can't be tried, and why.
    pub(crate) left_out: Vec<(Deployment, &'static str)>,
    /// The public name that was meant, if it was one.
    pub(crate) model: Option<Arc<Model>>,
    /// The error that the client is answered.
    pub(crate) refused: Option<ApiError>,
}

impl Plan {
    fn refuse(fault: ApiError) -> Self {
        Self {
            refused: Some(fault),
            ..Self::default()
        }
    }
}

/// Follows a decision to deployments that the key may use and the request can be sent to.
pub(crate) fn plan(asking: &RouteRequest<'_>, decision: &RuleDecision<'_>) -> Plan {
    if !resolve::is_known(asking) {
        return Plan::refuse(ApiError::model_not_found(asking.model));
    }
    let mut found = match rules::follow(asking, decision) {
        Ok(found) => found,
        Err(fault) => return Plan::refuse(fault),
    };
    if let Some(name) = forbidden(asking, &found) {
        let fault = ApiError::model_not_allowed(&asking.key.name, name);
        let why = |found| (found, "the key may not use it");
        return Plan {
            left_out: found.deployments().cloned().map(why).collect(),
            ..Plan::refuse(fault)
        };
    }
    let forbidden = found.remove_forbidden_fallbacks(asking.key).into_iter();
    let can = |found: &Deployment| {
        found
            .provider
            .route(asking.endpoint, &found.model)
            .is_some()
    };
    let others = found.deployments().filter(|found| !can(found)).cloned();
    let why = |found| (found, "its provider has no such endpoint");
    let unusable = others.map(why);
    let why = |found| (found, "the key may not use this fallback");
    let left_out = unusable.chain(forbidden.map(why)).collect();
    let fit = |one: &Deployment| found.allows(one) && can(one);
    let course = RouteCursor::new(found.tiers.iter().cloned(), fit);
    // Tokens that no provider counts are counted by the router.
    let needed = asking.endpoint != Endpoint::CountTokens;
    let refused = (needed && !course.has_next())
        .then(|| ApiError::not_offered(asking.model, asking.endpoint));
    Plan {
        course,
        left_out,
        model: found.model,
        refused,
    }
}

/// The name that the key may not use, of the one asked and the one routed to. `auto` is none: it
/// is judged by where it leads.
fn forbidden<'a>(asking: &RouteRequest<'a>, found: &'a Candidates) -> Option<&'a str> {
    let RouteRequest { key, model, .. } = *asking;
    if model != AUTO && !key.models.allows(model) {
        return Some(model);
    }
    let routed = found.names.first().map_or(model, String::as_str);
    let allowed = found.names.iter().any(|name| key.models.allows(name));
    (!allowed).then_some(routed)
}

#[cfg(test)]
mod tests;
