//! Receives the body of a request whose caller may send one, within limits of size and pace. It must
//! not know who calls or what the body says.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::AdminError;

/// The largest body that needs no place, in bytes; also the limit of most paths.
pub(crate) const ORDINARY: usize = 1024 * 1024;

/// The least progress of a body, in bytes, within its timeout. Any less would let a byte now and then
/// hold a connection, and all bytes received before it, for ever.
const PROGRESS: usize = 16 * 1024;

/// The number of bodies larger than [`ORDINARY`] that are held at a time.
const MOST_LARGE: usize = 1;

/// The places of large bodies. Clones share them.
#[derive(Clone)]
pub(crate) struct LargeBodies(Arc<Semaphore>);

/// A body, with its place if it is a large one.
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) place: Option<LargePlace>,
}

/// The place of a large body; dropping it frees it.
pub(crate) struct LargePlace {
    _permit: OwnedSemaphorePermit,
}

/// The limits of a body.
#[derive(Clone, Copy)]
pub(crate) struct BodyLimits {
    /// The largest size, in bytes.
    pub(crate) most: usize,
    /// The time within which it must make [`PROGRESS`].
    pub(crate) timeout: Duration,
}

impl Default for LargeBodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_LARGE)))
    }
}

impl LargeBodies {
    fn place(&self) -> Result<LargePlace, AdminError> {
        let permit = Arc::clone(&self.0).try_acquire_owned();
        let permit = permit.map_err(|_| {
            let message = "Another large request is being read here. Try again in a second.";
            AdminError {
                header: Some(Box::new((
                    header::RETRY_AFTER,
                    HeaderValue::from_static("1"),
                ))),
                ..AdminError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
            }
        })?;
        Ok(LargePlace { _permit: permit })
    }

    /// Receives a whole body. A body that announces too much is refused before any of it is read.
    ///
    /// # Errors
    /// 413 for one that is too large, 408 for one that comes too slowly, 503 while another large
    /// one has the place, 400 for one that breaks off.
    pub(crate) async fn receive(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        limits: BodyLimits,
    ) -> Result<Received, AdminError> {
        let announced = announced_length(headers).unwrap_or(0);
        if announced > limits.most as u64 {
            return Err(too_large(limits.most));
        }
        let mut place = None;
        if announced > ORDINARY as u64 {
            place = Some(self.place()?);
        }
        let mut gathered = Gathered::default();
        loop {
            let advance = advance(&mut body, &mut gathered, limits.most);
            let advanced = tokio::time::timeout(limits.timeout, advance).await;
            let ended = advanced.map_err(|_| too_slow(limits.timeout))??;
            if place.is_none() && gathered.length > ORDINARY {
                place = Some(self.place()?);
            }
            if ended {
                let bytes = gathered.finish();
                return Ok(Received { bytes, place });
            }
        }
    }
}

/// Reads on until the body has made progress. Returns true at its end.
async fn advance(
    body: &mut Body,
    gathered: &mut Gathered,
    most: usize,
) -> Result<bool, AdminError> {
    let progress = gathered.length + PROGRESS;
    while gathered.length < progress {
        let Some(frame) = body.frame().await else {
            return Ok(true);
        };
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "the body of an admin request broke off");
            let message = "The request body could not be read.";
            AdminError::new(StatusCode::BAD_REQUEST, "invalid_request", message)
        })?;
        let data = frame.into_data().unwrap_or_default();
        if gathered.length + data.len() > most {
            return Err(too_large(most));
        }
        gathered.add(&data);
    }
    Ok(false)
}

/// The bytes received so far, in segments. A single buffer would need more than twice its size while
/// it grows, in every connection at once.
#[derive(Default)]
struct Gathered {
    segments: Vec<Vec<u8>>,
    length: usize,
}

/// The sizes of segments.
const SMALLEST: usize = 4 * 1024;
const LARGEST: usize = 64 * 1024;

impl Gathered {
    fn add(&mut self, mut data: &[u8]) {
        loop {
            if let Some(last) = self.segments.last_mut() {
                let room = last.capacity() - last.len();
                let (now, later) = data.split_at(data.len().min(room));
                last.extend_from_slice(now);
                self.length += now.len();
                data = later;
            }
            if data.is_empty() {
                return;
            }
            // As much again as there is.
            let capacity = self.length.clamp(SMALLEST, LARGEST);
            self.segments.push(Vec::with_capacity(capacity));
        }
    }

    fn finish(mut self) -> Bytes {
        match self.segments.len() {
            0 | 1 => self.segments.pop().unwrap_or_default().into(),
            _ => self.segments.concat().into(),
        }
    }
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}

fn too_large(most: usize) -> AdminError {
    let message = format!("The request body is larger than the {most} bytes allowed here.");
    AdminError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}

fn too_slow(timeout: Duration) -> AdminError {
    let message = format!(
        "Less than {PROGRESS} bytes of the request body came within {} s.",
        timeout.as_secs_f64()
    );
    AdminError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::channel::Channel;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        most: 4 * ORDINARY,
        timeout: Duration::from_secs(60),
    };

    /// A body that brings `piece` every `pause`, `times` times.
    fn dripping(piece: usize, pause: Duration, times: usize) -> Body {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(async move {
            for _ in 0..times {
                tokio::time::sleep(pause).await;
                let piece = Bytes::from(vec![b'x'; piece]);
                if sender.send_data(piece).await.is_err() {
                    return;
                }
            }
        });
        Body::new(body)
    }

    async fn receive_body(bodies: &LargeBodies, body: Body) -> Result<usize, &'static str> {
        let received = bodies.receive(&HeaderMap::new(), body, LIMITS).await;
        received
            .map(|received| received.bytes.len())
            .map_err(|problem| problem.code)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_must_go_on_at_some_pace() {
        let seconds = Duration::from_secs;
        for (piece, pause, times, expected) in [
            (100, seconds(1), 10, Ok(1000)),
            (PROGRESS, seconds(59), 64, Ok(64 * PROGRESS)),
            (PROGRESS, seconds(61), 2, Err("request_timeout")),
            (1, seconds(10), 100, Err("request_timeout")),
            // The end is progress too.
            (1, seconds(59), 1, Ok(1)),
        ] {
            let bodies = LargeBodies::default();
            let body = dripping(piece, pause, times);
            let found = receive_body(&bodies, body).await;
            assert_eq!(found, expected, "{piece} bytes every {pause:?}");
        }
    }

    #[test]
    fn segments_are_put_together_in_order() {
        let all: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        for piece in [1, 1000, 4096, 5000, 200_000, 300_000] {
            let mut gathered = Gathered::default();
            for piece in all.chunks(piece) {
                gathered.add(piece);
                gathered.add(&[]);
            }
            let room = gathered.segments.iter().map(Vec::capacity).sum::<usize>();
            assert!(room <= all.len() + LARGEST, "{piece}: {room} bytes");
            assert!(gathered.finish() == all, "{piece}");
        }
        assert!(Gathered::default().finish().is_empty());
    }

    #[tokio::test]
    async fn a_body_is_as_large_as_allowed_and_no_larger() {
        let bodies = LargeBodies::default();
        for (length, expected) in [
            (0, Ok(0)),
            (LIMITS.most, Ok(LIMITS.most)),
            (LIMITS.most + 1, Err("request_too_large")),
        ] {
            let body = Body::from(vec![b'x'; length]);
            assert_eq!(receive_body(&bodies, body).await, expected, "{length}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(LIMITS.most + 1));
        // Not read: it would never end.
        let body = dripping(1, Duration::from_secs(1_000_000), 1);
        let refused = bodies.receive(&headers, body, LIMITS).await.err().unwrap();
        assert_eq!(refused.code, "request_too_large");
    }

    #[tokio::test]
    async fn one_large_body_is_held_at_a_time() {
        let bodies = LargeBodies::default();
        let large = || Body::from(vec![b'x'; ORDINARY + 1]);
        let headers = HeaderMap::new();
        let held = bodies
            .receive(&headers, large(), LIMITS)
            .await
            .ok()
            .unwrap();
        assert_eq!(receive_body(&bodies, large()).await, Err("busy"));
        let ordinary = Body::from(vec![b'x'; ORDINARY]);
        assert_eq!(receive_body(&bodies, ordinary).await, Ok(ORDINARY));
        drop(held);
        assert_eq!(receive_body(&bodies, large()).await, Ok(ORDINARY + 1));
        // One that announces it is refused before it is read.
        let _held = bodies
            .receive(&headers, large(), LIMITS)
            .await
            .ok()
            .unwrap();
        let mut announces = HeaderMap::new();
        announces.insert(header::CONTENT_LENGTH, HeaderValue::from(ORDINARY + 1));
        let body = dripping(1, Duration::from_secs(1_000_000), 1);
        let refused = bodies
            .receive(&announces, body, LIMITS)
            .await
            .err()
            .unwrap();
        assert_eq!(refused.code, "busy");
    }
}
