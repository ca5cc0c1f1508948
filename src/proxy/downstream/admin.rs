//! The admin service's paths on the clients' port: hands such a request to the same service, in
//! this process, and its answer back. What is answered, and whether the body is read at all, is
//! that service's business.

use std::io;
use std::pin::pin;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use llm_router_admin::ClientAddress;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use tokio::sync::{mpsc, oneshot};
use tower::ServiceExt as _;

use crate::error::ApiError;
use crate::proxy::context::Context;
use crate::proxy::downstream::body::{self, BodyError};
use crate::proxy::downstream::reply::{deliver, send_fault};

/// Asks the admin service. Nothing of the body is read from the connection before the service asks
/// for it, which it does once it knows that the caller may send one.
///
/// # Errors
/// If the client is gone.
pub(crate) async fn ask(
    router: &Router,
    session: &mut Session,
    ctx: &mut Context,
) -> std::result::Result<Response<Body>, BodyError> {
    let (body, mut wanted) = body_on_demand();
    let mut answering = pin!(router.clone().oneshot(request(session, body)));
    let mut begun = false;
    loop {
        let reply = tokio::select! {
            biased;
            answer = &mut answering => {
                let Ok(answer) = answer;
                // A client that waits in vain for `100 Continue` may send its next request instead.
                ctx.answer.close |= !begun && body::waits_to_send(session);
                return Ok(answer);
            }
            Some(reply) = wanted.recv() => reply,
        };
        if !begun {
            begun = true;
            body::begin(session).await?;
        }
        let piece = tokio::select! {
            biased;
            answer = &mut answering => {
                // The service has waited long enough.
                let Ok(answer) = answer;
                ctx.answer.close = true;
                return Ok(answer);
            }
            piece = body::piece(session) => piece,
        };
        match piece {
            // If the service doesn't want the piece any more, its answer comes next.
            Ok(piece) => drop(reply.send(piece)),
            Err(gone @ BodyError::Gone(_)) => return Err(gone),
            // Without a reply the service takes the body for one that broke off.
            Err(BodyError::Refused(_) | BodyError::Unframed(_)) => ctx.answer.close = true,
        }
    }
}

/// Sends the admin service's answer.
pub(crate) async fn send(
    answer: Response<Body>,
    session: &mut Session,
    ctx: &mut Context,
) -> Result<()> {
    let (parts, body) = answer.into_parts();
    // The service makes its answers whole, in memory: a bound here would save none.
    let Ok(body) = body.collect().await else {
        return send_fault(session, ctx, &ApiError::internal()).await;
    };
    ctx.answer.status = Some((parts.status.as_u16(), None));
    let header = header(&Response::from_parts(parts, ()))?;
    deliver(session, ctx, header, body.to_bytes()).await
}

fn request(session: &Session, body: Body) -> Request<Body> {
    let header = session.req_header();
    let reads = header.method == Method::GET || header.method == Method::HEAD;
    let mut request = Request::new(if reads { Body::empty() } else { body });
    *request.method_mut() = header.method.clone();
    *request.uri_mut() = header.uri.clone();
    *request.headers_mut() = header.headers.clone();
    let address = session.client_addr().and_then(|address| address.as_inet());
    if let Some(address) = address {
        let address = ClientAddress(address.ip());
        request.extensions_mut().insert(address);
    }
    request
}

/// Takes a piece of a body; `None` is its end.
type Reply = oneshot::Sender<Option<Bytes>>;

/// Returns a body, and the receiver of its requests for pieces, which come one at a time. A body
/// whose request gets no reply breaks off.
fn body_on_demand() -> (Body, mpsc::Receiver<Reply>) {
    let (asks, asked) = mpsc::channel::<Reply>(1);
    let pieces = stream::unfold(asks, |asks| async {
        let (reply, piece) = oneshot::channel();
        let broken_off = || Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof)));
        let piece = match asks.send(reply).await {
            Ok(()) => piece
                .await
                .map_or_else(|_| broken_off(), |piece| piece.map(Ok)),
            Err(_) => broken_off(),
        };
        piece.map(|piece| (piece, asks))
    });
    (Body::from_stream(pieces), asked)
}

fn header(answer: &Response<()>) -> Result<ResponseHeader> {
    let headers = answer.headers();
    let mut header = ResponseHeader::build(answer.status(), Some(headers.len() + 1))?;
    for (name, value) in headers {
        header.append_header(name.clone(), value.clone())?;
    }
    Ok(header)
}
