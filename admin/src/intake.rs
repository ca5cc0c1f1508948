//! Checks every request before its handler sees it, in this order: key, role, method, body,
//! idempotency key. Nothing of a body is read before the key, the role and the method are right.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use llm_router_domain::key::Role;

use crate::caller::{Caller, caller};
use crate::endpoints::{Access, Lookup, look_up};
use crate::error::{AdminError, forbidden};
use crate::idempotency::Turn;
use crate::receive::{BodyLimits, ORDINARY, Received};
use crate::{Backend, Service};

/// Path that takes whole inference requests, which may contain images.
const EXPLAIN: &str = "/api/v1/router/explain";
const MOST_EXPLAINED: usize = 32 * 1024 * 1024;

/// Passes a request to its handler, or answers it with an error.
pub(crate) async fn admit(
    State(service): State<Service>,
    request: Request,
    next: Next,
) -> Result<Response, AdminError> {
    let (mut parts, body) = request.into_parts();
    let path = parts.extensions.get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    let caller = authorize(service.backend.as_ref(), &parts, path)?;
    if let Some(caller) = &caller {
        parts.extensions.insert(caller.clone());
    }
    if parts.method == Method::GET || parts.method == Method::HEAD {
        return Ok(next.run(Request::from_parts(parts, Body::empty())).await);
    }
    let Received {
        bytes,
        place: _held,
    } = receive(&service, &parts.headers, body, path).await?;
    let turn = match &caller {
        Some(caller) if parts.method == Method::POST => {
            let (now, path) = (service.backend.now(), parts.uri.path());
            service
                .answered
                .turn(&caller.key, path, &parts.headers, &bytes, now)?
        }
        _ => Turn::Free,
    };
    let handle = async |body: Bytes| next.run(Request::from_parts(parts, body.into())).await;
    Ok(match turn {
        Turn::Free => handle(bytes).await,
        Turn::Answered(response) => response,
        Turn::First(place) => place.keep(handle(bytes).await).await,
    })
}

/// Returns the caller, if it may use the path and the method.
fn authorize(
    backend: &dyn Backend,
    parts: &Parts,
    path: &str,
) -> Result<Option<Caller>, AdminError> {
    // A key comes first: without one nobody learns what is here.
    match look_up(&parts.method, path) {
        Lookup::Needs(access) => check_role(backend, parts, access),
        Lookup::OtherMethods { allow, least } => {
            caller(backend, parts)?;
            check_role(backend, parts, least)?;
            Err(not_allowed(&parts.method, allow))
        }
        Lookup::Missing => {
            caller(backend, parts)?;
            Err(if path.is_empty() {
                AdminError::not_found("There is nothing at this path.")
            } else {
                forbidden("No role may use this path.")
            })
        }
    }
}

fn check_role(
    backend: &dyn Backend,
    parts: &Parts,
    access: Access,
) -> Result<Option<Caller>, AdminError> {
    match access {
        Access::Public => Ok(None),
        Access::Metrics if backend.metrics_are_public() => Ok(None),
        Access::Metrics => least(backend, parts, Role::Viewer),
        Access::Role(role) => least(backend, parts, role),
    }
}

fn least(backend: &dyn Backend, parts: &Parts, role: Role) -> Result<Option<Caller>, AdminError> {
    let caller = caller(backend, parts)?;
    caller.must_be(role, "This")?;
    Ok(Some(caller))
}

fn not_allowed(method: &Method, allow: String) -> AdminError {
    let message = format!("{method} is not allowed here; {allow} are.");
    AdminError {
        header: HeaderValue::try_from(allow)
            .ok()
            .map(|allow| Box::new((header::ALLOW, allow))),
        ..AdminError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        )
    }
}

async fn receive(
    service: &Service,
    headers: &HeaderMap,
    body: Body,
    path: &str,
) -> Result<Received, AdminError> {
    let limits = BodyLimits {
        most: if path == EXPLAIN {
            MOST_EXPLAINED
        } else {
            ORDINARY
        },
        timeout: service.backend.body_timeout(),
    };
    // The content type is not looked at: `curl -d` sends that of a form. A form of another site can't
    // reach this line, because the key is in a header, which a page of another origin can only send
    // if `admin.cors` allows it; there are no cookies.
    service.large_bodies.receive(headers, body, limits).await
}

/// Lets handlers take the caller as an argument.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AdminError> {
        let caller = parts.extensions.get::<Self>().cloned();
        // Only public endpoints have no caller.
        caller.ok_or_else(|| forbidden("This path has no caller."))
    }
}

/// Adds what no answer goes without: nothing of the service is to be kept by caches, or read as
/// another type than it has.
pub(crate) async fn seal(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if !headers.contains_key(header::CACHE_CONTROL) {
        let no_store = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, no_store);
    }
    response.into_response()
}
