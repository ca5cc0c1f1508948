//! Authenticate: finds the key that a request presents, and slows clients down that guess keys.

use std::sync::Arc;

use http::Method;
use llm_router_domain::key::Key;
use pingora::proxy::Session;

use crate::clock;
use crate::error::{Allowed, ApiError};
use crate::keys::authenticate::authenticate;
use crate::proxy::context::Context;
use crate::proxy::gateway::Gateway;
use crate::routing::paths::Target;
use crate::snapshot::Snapshot;

impl Gateway {
    /// Finds the key that the request presents.
    ///
    /// # Errors
    /// 401 without a key that works, or 429 where unknown keys come too often.
    pub(crate) fn authenticate(
        &self,
        session: &Session,
        ctx: &mut Context,
        snapshot: &Snapshot,
    ) -> Result<Arc<Key>, ApiError> {
        let headers = &session.req_header().headers;
        let key = authenticate(&snapshot.keys, headers, clock::wall());
        let key = key.map_err(|fault| {
            // A client whose key doesn't work has to wait, if it comes too often.
            let now = clock::now();
            self.limits
                .throttle_unknown_key(headers, ctx.client, fault, now)
        })?;
        ctx.key = Some(Arc::clone(&key));
        ctx.store_unavailable = !self.metrics.store_is_up();
        Ok(key)
    }
}

/// Checks that a target takes the method.
///
/// # Errors
/// 405 with the methods that it takes.
pub(crate) fn check_method(target: &Target, method: &Method, path: &str) -> Result<(), ApiError> {
    let allow = match target {
        Target::Inference(_) => Allowed::Post,
        Target::Models | Target::Model(_) | Target::Health | Target::Ready => Allowed::Read,
        Target::Unknown => return Ok(()),
    };
    if allow.takes(method) {
        Ok(())
    } else {
        Err(ApiError::method_not_allowed(method.as_str(), path, allow))
    }
}
