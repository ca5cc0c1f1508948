//! The admin service's paths on the clients' port: hands such a request to the same service, in
//! this process, and its answer back. What is answered is that service's business.

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use tower::ServiceExt as _;

use crate::error::ApiError;
use crate::proxy::context::Context;
use crate::proxy::downstream::body::{self, BodyError};
use crate::proxy::downstream::reply::{deliver, send_fault};

/// Reads the request whole, for the admin service.
///
/// # Errors
/// As [`body::read`].
pub(crate) async fn take(
    session: &mut Session,
    ctx: &Context,
) -> std::result::Result<Request<Body>, BodyError> {
    let live = ctx.live.clone();
    let live = live.ok_or_else(|| BodyError::Refused(ApiError::internal()))?;
    let snapshot = &live.snapshot;
    let method = session.req_header().method.clone();
    let body = if method == Method::GET || method == Method::HEAD {
        Bytes::new()
    } else {
        body::read(session, snapshot.max_body, snapshot.body_timeout).await?
    };
    let header = session.req_header();
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = header.uri.clone();
    *request.headers_mut() = header.headers.clone();
    Ok(request)
}

/// Asks the admin service and sends its answer.
pub(crate) async fn serve(
    router: &Router,
    request: Request<Body>,
    session: &mut Session,
    ctx: &mut Context,
) -> Result<()> {
    let Ok(answer) = router.clone().oneshot(request).await;
    let (parts, body) = answer.into_parts();
    // The service makes its answers whole, in memory: no bound here would save any.
    let Ok(body) = body.collect().await else {
        return send_fault(session, ctx, &ApiError::internal()).await;
    };
    ctx.answer.status = Some((parts.status.as_u16(), None));
    let header = header(&Response::from_parts(parts, ()))?;
    deliver(session, ctx, header, body.to_bytes()).await
}

fn header(answer: &Response<()>) -> Result<ResponseHeader> {
    let headers = answer.headers();
    let mut header = ResponseHeader::build(answer.status(), Some(headers.len() + 1))?;
    for (name, value) in headers {
        header.append_header(name.clone(), value.clone())?;
    }
    Ok(header)
}
