//! Reads a request's body whole, up to the ceiling, so that it can be looked at and sent again.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::ErrorType;
use pingora::proxy::Session;
use pingora::time::fast_timeout::fast_timeout;

use crate::error::ApiError;

/// Most bytes allocated ahead for the length that a client announces.
const MOST_AHEAD: usize = 1024 * 1024;

/// Reason that a body could not be read.
pub(crate) enum BodyError {
    /// The client is to be told.
    Refused(ApiError),
    /// The client is to be told, and where its body ends is unknown: nothing more can be read
    /// from its connection.
    Unframed(ApiError),
    /// The client is gone.
    Gone(Box<pingora::Error>),
}

/// Reads the body.
///
/// # Errors
/// A body over `limit` bytes, one for which there is no memory left, one that stands still for
/// `timeout`, bad framing, or a client that goes away.
pub(crate) async fn read(
    session: &mut Session,
    limit: u64,
    timeout: Duration,
    mut has_memory: impl FnMut(usize) -> bool,
) -> Result<Bytes, BodyError> {
    let announced = announced_length(session);
    if announced.is_some_and(|length| length > limit) {
        return Err(BodyError::Refused(ApiError::request_too_large(limit)));
    }
    begin(session).await?;
    let mut body = Gathered::new(announced);
    while let Some(chunk) = next(session, timeout).await? {
        if !has_memory(chunk.len()) {
            return Err(BodyError::Refused(ApiError::out_of_memory()));
        }
        body.add(chunk);
        if body.len() as u64 > limit {
            return Err(BodyError::Refused(ApiError::request_too_large(limit)));
        }
    }
    Ok(body.finish())
}

/// Returns true if the client waits for `100 Continue` before it sends its body (RFC 9110, section
/// 10.1.1).
pub(crate) fn waits_to_send(session: &Session) -> bool {
    let expect = session.get_header(EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Begins to read: sends `100 Continue` to a client that waits for it.
///
/// # Errors
/// If the client is gone.
pub(crate) async fn begin(session: &mut Session) -> Result<(), BodyError> {
    let waits = waits_to_send(session);
    let session = &mut session.downstream_session;
    if waits {
        let told = session.write_continue_response().await;
        told.map_err(BodyError::Gone)?;
    }
    session.set_read_timeout(None);
    Ok(())
}

/// Reads the next piece, without a time limit. Returns `None` at the end.
///
/// # Errors
/// Bad framing, or a client that goes away.
pub(crate) async fn piece(session: &mut Session) -> Result<Option<Bytes>, BodyError> {
    let read = session.downstream_session.read_request_body().await;
    read.map_err(|error| match error.etype() {
        ErrorType::ConnectionClosed | ErrorType::ReadError => BodyError::Gone(error),
        _ => BodyError::Unframed(ApiError::bad_request(
            "The request body is not framed correctly.",
        )),
    })
}

fn announced_length(session: &Session) -> Option<u64> {
    session
        .get_header(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

async fn next(session: &mut Session, timeout: Duration) -> Result<Option<Bytes>, BodyError> {
    let read = fast_timeout(timeout, piece(session)).await;
    read.unwrap_or_else(|_| Err(BodyError::Unframed(ApiError::body_timeout(timeout))))
}

/// Gathers chunks; one that is the whole body is not copied.
struct Gathered {
    ahead: usize,
    first: Bytes,
    more: BytesMut,
}

impl Gathered {
    fn new(announced: Option<u64>) -> Self {
        let announced = announced
            .and_then(|length| usize::try_from(length).ok())
            .unwrap_or(0);
        Self {
            ahead: announced.min(MOST_AHEAD),
            first: Bytes::new(),
            more: BytesMut::new(),
        }
    }

    fn add(&mut self, chunk: Bytes) {
        if self.len() == 0 {
            self.first = chunk;
            return;
        }
        if self.more.is_empty() {
            self.more
                .reserve(self.ahead.max(self.first.len() + chunk.len()));
            self.more
                .extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.more.extend_from_slice(&chunk);
    }

    fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    fn finish(self) -> Bytes {
        if self.more.is_empty() {
            self.first
        } else {
            self.more.freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_gathered_in_order() {
        for chunks in [&[][..], &["a"], &["ab", "c", "def"], &["", "a", "", "b"]] {
            let mut gathered = Gathered::new(Some(3));
            for chunk in chunks {
                gathered.add(Bytes::from_static(chunk.as_bytes()));
            }
            assert_eq!(gathered.finish(), chunks.concat().as_bytes());
        }
    }

    #[test]
    fn a_single_chunk_is_not_copied() {
        let chunk = Bytes::from("x".repeat(100));
        let mut gathered = Gathered::new(None);
        gathered.add(chunk.clone());
        assert_eq!(gathered.finish().as_ptr(), chunk.as_ptr());
    }
}
