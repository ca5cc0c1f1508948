//! One POST over HTTP/2 and TLS, whoever signed the certificate. Hyper does the protocol.

use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Channel, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::bed::KEY;

/// Frames of a body without declared length hold so many bytes.
const PIECE: usize = 10_007;

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// Posts `body` to `path` at `address`: status and body of the answer. Without `length` the
/// request has no `content-length`.
///
/// # Errors
/// When the server doesn't speak HTTP/2, or breaks off.
pub(crate) async fn post(
    address: SocketAddr,
    path: &str,
    body: &[u8],
    length: Option<usize>,
) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut sender = connect(address).await?;
    let mut request = Request::post(format!("https://{address}{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {KEY}"))
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(length) = length {
        request = request.header(header::CONTENT_LENGTH, length);
    }
    let bytes = Bytes::copy_from_slice(body);
    let body = if length.is_some() { Full::new(bytes).boxed() } else { pieces(bytes) };
    let answer = sender.send_request(request.body(body)?).await?;
    let status = answer.status().as_u16();
    Ok((status, answer.into_body().collect().await?.to_bytes().to_vec()))
}

/// A body that doesn't know its length, so that none is declared.
fn pieces(bytes: Bytes) -> Body {
    let (mut sender, body) = Channel::new(4);
    tokio::spawn(async move {
        for start in (0..bytes.len()).step_by(PIECE) {
            let piece = bytes.slice(start..bytes.len().min(start + PIECE));
            // The server has answered and wants no more.
            if sender.send_data(piece).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}

async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Body>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_alpn_protos(b"\x02h2")?;
    let ssl = builder.build().configure()?.verify_hostname(false).into_ssl("localhost")?;
    let mut tls = SslStream::new(ssl, stream)?;
    Pin::new(&mut tls).connect().await.context("TLS")?;
    ensure!(tls.ssl().selected_alpn_protocol() == Some(b"h2"), "the server chose no HTTP/2");
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
    // Its end shows in the answer, or in there being none.
    tokio::spawn(connection);
    Ok(sender)
}
