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

type Http2Body = BoxBody<Bytes, std::convert::Infallible>;

/// Posts `body` to `path` at `address`: status and body of the answer. Without `length` the
/// request has no `content-length`.
///
/// # Errors
/// Returns an error if the server doesn't speak HTTP/2, or breaks off.
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
    let body = if length.is_some() {
        Full::new(bytes).boxed()
    } else {
        pieces(bytes)
    };
    let answer = sender.send_request(request.body(body)?).await?;
    let status = answer.status().as_u16();
    Ok((
        status,
        answer.into_body().collect().await?.to_bytes().to_vec(),
    ))
}

/// A body that doesn't know its length, so that none is declared.
fn pieces(bytes: Bytes) -> Http2Body {
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

async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Http2Body>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_alpn_protos(b"\x02h2")?;
    let ssl = builder
        .build()
        .configure()?
        .verify_hostname(false)
        .into_ssl("localhost")?;
    let mut tls = SslStream::new(ssl, stream)?;
    Pin::new(&mut tls).connect().await.context("TLS")?;
    ensure!(
        tls.ssl().selected_alpn_protocol() == Some(b"h2"),
        "the server chose no HTTP/2"
    );
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
    // Its end shows in the answer, or in there being none.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate;
    use crate::digest::sha256;
    use http::Response;
    use hyper::body::Incoming;
    use hyper::server::conn::http2::Builder;
    use hyper::service::service_fn;
    use openssl::ssl::{AlpnError, SslAcceptor, SslFiletype, select_next_proto};
    use tokio::net::TcpListener;

    /// Answers with the declared length and the SHA-256 of what it got.
    async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.map_or("none".to_owned(), |length| {
            length.to_str().unwrap().to_owned()
        });
        let body = request.into_body().collect().await?.to_bytes();
        Ok(Response::new(Full::from(format!(
            "{length} {}",
            sha256(&body)
        ))))
    }

    fn acceptor() -> SslAcceptor {
        let folder = tempfile::tempdir().unwrap();
        certificate::write(folder.path()).unwrap();
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        let (cert, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        builder
            .set_certificate_file(cert, SslFiletype::PEM)
            .unwrap();
        builder.set_private_key_file(key, SslFiletype::PEM).unwrap();
        builder.set_alpn_select_callback(|_, offered| {
            select_next_proto(b"\x02h2", offered).ok_or(AlpnError::NOACK)
        });
        builder.build()
    }

    async fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = acceptor();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ssl = openssl::ssl::Ssl::new(acceptor.context()).unwrap();
                let mut tls = SslStream::new(ssl, stream).unwrap();
                Pin::new(&mut tls).accept().await.unwrap();
                let connection = Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(tls), service_fn(echo)));
            }
        });
        address
    }

    #[tokio::test]
    async fn bodies_arrive_with_and_without_declared_length() {
        let address = server().await;
        for size in [0, 1, 65_536, 3 << 20] {
            let body = vec![b'x'; size];
            for length in [Some(size), None] {
                let (status, answer) = post(address, "/", &body, length).await.unwrap();
                let declared = length.map_or("none".to_owned(), |length| length.to_string());
                let expected = format!("{declared} {}", sha256(&body));
                assert_eq!(
                    (status, String::from_utf8(answer).unwrap()),
                    (200, expected)
                );
            }
        }
    }
}
