//! The headers by which a client learns where its limits stand, and that a dependency is down.

use http::{HeaderName, HeaderValue};
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::clock;
use crate::proxy::context::Context;

/// Inserts the headers of the limits that the client is subject to.
///
/// # Errors
/// When a header can't be set.
pub(crate) fn insert(header: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    let inference = ctx.inference.as_deref();
    let counters = ctx.degraded || inference.is_some_and(|found| found.attempts.degraded);
    let store = inference.is_some_and(|found| found.attempts.store_unavailable);
    let unavailable = match (counters, ctx.store_unavailable || store) {
        (false, false) => None,
        (true, false) => Some("counters"),
        (false, true) => Some("store"),
        (true, true) => Some("counters, store"),
    };
    if let Some(unavailable) = unavailable {
        let value = HeaderValue::from_static(unavailable);
        header.insert_header("x-llm-router-degraded", value)?;
    }
    let wall = clock::timestamp();
    for (name, value) in ctx.rate_limits.headers(ctx.format(), wall) {
        if let Ok(value) = HeaderValue::try_from(value) {
            header.insert_header(name, value)?;
        }
    }
    Ok(())
}

/// Prefixes of the headers in which providers tell of their own limits.
const OF_PROVIDERS: [&str; 3] = ["x-ratelimit-", "anthropic-ratelimit-", "ratelimit"];

/// Removes what a provider tells of its own limits, where the client is subject to ours.
pub(crate) fn remove_foreign(header: &mut ResponseHeader, ctx: &Context) {
    let mut own = ctx.rate_limits.headers(ctx.format(), clock::timestamp());
    if own.next().is_none() {
        return;
    }
    let of_limits = |name: &&HeaderName| {
        let name = name.as_str();
        OF_PROVIDERS.iter().any(|prefix| name.starts_with(prefix))
    };
    let names: Vec<HeaderName> = header.headers.keys().filter(of_limits).cloned().collect();
    for name in names {
        header.remove_header(&name);
    }
}
