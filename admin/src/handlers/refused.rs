//! Requests that the router refused before any deployment was called, and their place in the list of
//! requests. The router keeps the latest of them in memory; nothing of them is stored.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use llm_router_domain::refusal::RefusedBy;
use llm_router_store::ledger::RequestQuery;
use uuid::Uuid;

use crate::caller::UsageScope;
use crate::error::AdminError;

/// A request that was refused before any deployment was called. It has neither the key's text nor
/// anything of the messages.
#[derive(Clone, Debug, Default)]
pub struct RefusedRequest {
    /// Place in the list, which is in the order of these ids.
    pub place: Uuid,
    /// Value of `x-request-id`.
    pub id: String,
    /// Arrival.
    pub time: Timestamp,
    /// Name of the key, if it was known.
    pub key: Option<String>,
    /// Owner of the key.
    pub owner: Option<String>,
    /// Name of the format.
    pub format: &'static str,
    /// The model asked for, if the request was read so far.
    pub model_asked: Option<String>,
    /// Name of the rule that decided.
    pub rule: Option<String>,
    /// Status of the answer.
    pub status: u16,
    /// Code of the answer.
    pub code: &'static str,
    /// The message of the answer, unless it describes the request and might quote it.
    pub message: Option<String>,
    /// The part of the router that refused it.
    pub refused_by: RefusedBy,
    /// Set if it asked for a stream.
    pub stream: bool,
    /// The client's address, as far as it is shown.
    pub client: Option<String>,
    /// Milliseconds from arrival to end.
    pub latency_ms: f64,
    /// Revision of the configuration.
    pub revision: u64,
}

/// Reads the parameter `refused_by`.
///
/// # Errors
/// 400 unless it is the name of a part of the router.
pub(crate) fn refused_by(
    parameters: &HashMap<String, String>,
) -> Result<Option<RefusedBy>, AdminError> {
    const NAME: &str = "refused_by";
    let Some(text) = parameters.get(NAME) else {
        return Ok(None);
    };
    let known = || RefusedBy::ALL.map(RefusedBy::name).join(", ");
    let unknown = || AdminError::invalid(NAME, format!("{NAME} must be one of {}.", known()));
    RefusedBy::from_name(text).map(Some).ok_or_else(unknown)
}

/// Returns the refused requests that a query asks for and the caller may see. Their order stays.
pub(crate) fn matching(
    all: Vec<Arc<RefusedRequest>>,
    query: &RequestQuery,
    by: Option<RefusedBy>,
    scope: &UsageScope,
) -> Vec<Arc<RefusedRequest>> {
    // Nothing of the kind is known of a request that no provider saw.
    if query.provider.is_some() || query.model.is_some() || query.min_cost.is_some() {
        return Vec::new();
    }
    let mut found = all;
    found.retain(|one| {
        let (key, owner) = (one.key.as_deref(), one.owner.as_deref());
        let same = |wanted: &Option<String>, actual: Option<&str>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| Some(wanted) == actual)
        };
        visible(one, scope)
            && same(&query.key, key)
            && same(&query.owner, owner)
            && same(&query.end_user, owner)
            && same(&query.rule, one.rule.as_deref())
            && by.is_none_or(|by| by == one.refused_by)
            && query.status.is_none_or(|status| status == one.status)
            && query.from.is_none_or(|from| one.time >= from)
            && query.to.is_none_or(|to| one.time < to)
            && query.cursor.is_none_or(|cursor| one.place < cursor)
            && query
                .min_latency
                .is_none_or(|least| one.latency_ms >= least.as_secs_f64() * 1e3)
    });
    found
}

/// Returns true if a caller may see the request: those without a known key are for viewers and above.
pub(crate) fn visible(one: &RefusedRequest, scope: &UsageScope) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    scope.includes(&text(&one.key), &text(&one.owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(place: u128, by: RefusedBy, owner: &str) -> Arc<RefusedRequest> {
        Arc::new(RefusedRequest {
            place: Uuid::from_u128(place),
            refused_by: by,
            status: 429,
            owner: Some(owner.to_owned()).filter(|owner| !owner.is_empty()),
            ..RefusedRequest::default()
        })
    }

    #[test]
    fn filters_and_scopes_apply_to_refused_requests() {
        let all = vec![
            one(3, RefusedBy::Budget, "a"),
            one(2, RefusedBy::Key, ""),
            one(1, RefusedBy::Limit, "b"),
        ];
        let everything = UsageScope::default();
        let team = UsageScope {
            owner: Some("a".to_owned()),
            key: None,
        };
        let query = RequestQuery::default;
        for (query, by, scope, places) in [
            (query(), None, &everything, vec![3, 2, 1]),
            (query(), Some(RefusedBy::Key), &everything, vec![2]),
            (query(), None, &team, vec![3]),
            (query(), Some(RefusedBy::Key), &team, vec![]),
            (
                RequestQuery {
                    owner: Some("b".to_owned()),
                    ..query()
                },
                None,
                &everything,
                vec![1],
            ),
            (
                RequestQuery {
                    status: Some(401),
                    ..query()
                },
                None,
                &everything,
                vec![],
            ),
            (
                RequestQuery {
                    provider: Some("p".to_owned()),
                    ..query()
                },
                None,
                &everything,
                vec![],
            ),
            (
                RequestQuery {
                    cursor: Some(Uuid::from_u128(3)),
                    ..query()
                },
                None,
                &everything,
                vec![2, 1],
            ),
        ] {
            let found = matching(all.clone(), &query, by, scope);
            let found: Vec<u128> = found.iter().map(|one| one.place.as_u128()).collect();
            assert_eq!(found, places, "{query:?} {by:?}");
        }
    }
}
