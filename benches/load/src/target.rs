//! Target of the load: an address, a path and headers, made into request bytes.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, ensure};
use http::Uri;

use crate::http1::{AnswerHead, Channel, HttpFault};

/// One URL with the headers that every request to it carries.
#[derive(Clone, Debug)]
pub(crate) struct LoadTarget {
    pub(crate) address: SocketAddr,
    authority: String,
    path: String,
    /// Complete header lines.
    headers: String,
}

impl LoadTarget {
    /// Resolves `url`; `headers` are `name: value`.
    ///
    /// # Errors
    /// A URL that is not `http://HOST[:PORT]/PATH`, a host that can't be resolved, a header
    /// without a colon.
    pub(crate) fn new(url: &str, key: Option<&str>, headers: &[String]) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        ensure!(
            uri.scheme_str() == Some("http"),
            "{url}: only http:// is driven"
        );
        let authority = uri
            .authority()
            .with_context(|| format!("{url} has no host"))?
            .to_string();
        let port = uri.port_u16().unwrap_or(80);
        let address = (
            uri.host().unwrap_or_default().trim_matches(['[', ']']),
            port,
        )
            .to_socket_addrs()?
            .next()
            .with_context(|| format!("{url}: host has no address"))?;
        let path = uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        Ok(Self {
            address,
            authority,
            path,
            headers: header_lines(key, headers)?,
        })
    }

    /// A GET of the path.
    pub(crate) fn get(&self) -> Vec<u8> {
        self.head("GET", "").into_bytes()
    }

    /// A POST of `body` with its length declared.
    pub(crate) fn post(&self, body: &[u8]) -> Vec<u8> {
        let framing = format!("content-length: {}\r\n", body.len());
        [self.head("POST", &framing).as_bytes(), body].concat()
    }

    /// A POST of `body` in chunks of at most `size` bytes.
    pub(crate) fn post_chunked(&self, body: &[u8], size: usize) -> Vec<u8> {
        let mut bytes = self
            .head("POST", "transfer-encoding: chunked\r\n")
            .into_bytes();
        for chunk in body.chunks(size) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }

    fn head(&self, method: &str, framing: &str) -> String {
        let Self {
            path,
            authority,
            headers,
            ..
        } = self;
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {authority}\r\n{headers}\
             content-type: application/json\r\n{framing}\r\n"
        )
    }
}

fn header_lines(key: Option<&str>, headers: &[String]) -> anyhow::Result<String> {
    let mut lines = key.map_or(String::new(), |key| {
        format!("authorization: Bearer {key}\r\n")
    });
    for header in headers {
        ensure!(
            header.contains(':'),
            "header {header:?} is not `name: value`"
        );
        lines.push_str(header.trim());
        lines.push_str("\r\n");
    }
    Ok(lines)
}

/// Reads one whole answer and hands its body to `sink`.
///
/// # Errors
/// As for [`Channel::body`]; [`HttpFault::CutShort`] also when there is no answer at all.
pub(crate) async fn answer(
    channel: &mut Channel,
    sink: &mut impl FnMut(&[u8]),
) -> Result<AnswerHead, HttpFault> {
    let head = channel.answer().await?.ok_or(HttpFault::CutShort)?;
    channel.body(head.framing, sink).await?;
    Ok(head)
}

/// Sends `request` on a new connection: status and body of the answer.
///
/// # Errors
/// As for [`answer`].
pub(crate) async fn once(address: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>), HttpFault> {
    let mut channel = Channel::connect(address).await?;
    channel.send(request).await?;
    let mut body = Vec::new();
    let head = answer(&mut channel, &mut |part: &[u8]| {
        body.extend_from_slice(part)
    })
    .await?;
    Ok((head.status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_as_bytes() {
        let headers = ["x-a: b".to_owned()];
        let target = LoadTarget::new("http://127.0.0.1:81/v1/x?y=z", Some("k"), &headers).unwrap();
        let start = "POST /v1/x?y=z HTTP/1.1\r\nhost: 127.0.0.1:81\r\nauthorization: Bearer k\r\n\
                     x-a: b\r\ncontent-type: application/json\r\n";
        let plain = format!("{start}content-length: 5\r\n\r\nhello");
        assert_eq!(target.post(b"hello"), plain.as_bytes());
        let chunked =
            format!("{start}transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
        assert_eq!(target.post_chunked(b"hello", 3), chunked.as_bytes());
        assert!(target.get().starts_with(b"GET /v1/x?y=z HTTP/1.1\r\n"));
    }

    #[test]
    fn what_can_not_be_driven_is_said() {
        assert!(LoadTarget::new("https://127.0.0.1/", None, &[]).is_err());
        assert!(LoadTarget::new("/v1", None, &[]).is_err());
        assert!(LoadTarget::new("http://127.0.0.1/", None, &["nocolon".into()]).is_err());
    }
}
