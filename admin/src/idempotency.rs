//! Idempotency keys: a POST repeated under the same key gets the same answer and runs once. Answers are
//! kept in the memory of this process, for an hour, up to a maximum number.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::error::AdminError;

/// Header with the idempotency key.
pub(crate) const HEADER: &str = "idempotency-key";

/// Limits of the kept answers: number, age and size.
const MOST: usize = 512;
const KEPT: SignedDuration = SignedDuration::from_hours(1);
const MOST_BYTES: usize = 64 * 1024;

/// Maximum length of a key.
const LONGEST_KEY: usize = 255;

/// The kept answers. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Answered(Arc<Mutex<VecDeque<Entry>>>);

struct Entry {
    id: Id,
    body: [u8; 32],
    at: Timestamp,
    /// None while the request is in progress.
    answer: Option<Answer>,
}

#[derive(Clone, PartialEq, Eq)]
struct Id {
    caller: String,
    path: String,
    key: HeaderValue,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Extension of an answer that contains a secret: the body to keep in its place.
#[derive(Clone)]
pub(crate) struct KeptInstead(pub(crate) Bytes);

/// Next step for a request.
pub(crate) enum Turn {
    /// Handle it: it has no key.
    Free,
    /// Send the kept answer.
    Answered(Response),
    /// Handle it and keep its answer: its key is new.
    First(Place),
}

/// Reserves a key while its request is in progress. Dropping it without an answer frees the key.
pub(crate) struct Place {
    answered: Answered,
    id: Id,
}

impl Answered {
    /// Decides the next step for a request.
    ///
    /// # Errors
    /// 400 for an invalid key; 409 if another request used it, or the same one is still in progress.
    pub(crate) fn turn(
        &self,
        caller: &str,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Turn, AdminError> {
        let Some(key) = headers.get(HEADER) else {
            return Ok(Turn::Free);
        };
        if key.is_empty() || key.len() > LONGEST_KEY {
            let message = "idempotency-key must have 1 to 255 characters.";
            return Err(AdminError::invalid(HEADER, message));
        }
        let id = Id {
            caller: caller.to_owned(),
            path: path.to_owned(),
            key: key.clone(),
        };
        let body: [u8; 32] = Sha256::digest(body).into();
        let mut entries = self.entries();
        entries.retain(|entry| now.duration_since(entry.at) < KEPT);
        if let Some(entry) = entries.iter().find(|entry| entry.id == id) {
            return entry.answer_to(&body).map(Turn::Answered);
        }
        if entries.len() >= MOST {
            forget_one(&mut entries);
        }
        entries.push_back(Entry {
            id: id.clone(),
            body,
            at: now,
            answer: None,
        });
        let answered = self.clone();
        Ok(Turn::First(Place { answered, id }))
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops the oldest answer of the caller with the most answers, so that no caller displaces the
/// answers of callers with fewer.
fn forget_one(entries: &mut VecDeque<Entry>) {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for entry in entries.iter() {
        *counts.entry(&entry.id.caller).or_default() += 1;
    }
    let most = counts.values().copied().max();
    let of_it = |entry: &Entry| counts.get(entry.id.caller.as_str()).copied() == most;
    if let Some(position) = entries.iter().position(of_it) {
        entries.remove(position);
    }
}

impl Entry {
    fn answer_to(&self, body: &[u8; 32]) -> Result<Response, AdminError> {
        let conflict = |code, message| AdminError {
            field: Some(HEADER.into()),
            ..AdminError::new(StatusCode::CONFLICT, code, message)
        };
        if self.body != *body {
            return Err(conflict(
                "idempotency_key_reused",
                "Another request was sent with this idempotency-key. Use a new key.",
            ));
        }
        let answer = self.answer.clone().ok_or_else(|| {
            conflict(
                "idempotency_key_in_use",
                "The request with this idempotency-key is still in progress.",
            )
        })?;
        let mut response = Response::new(answer.body.into());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert("idempotent-replayed", yes);
        Ok(response)
    }
}

impl Place {
    /// Keeps an answer, unless it is a server error or too large.
    pub(crate) async fn keep(self, response: Response) -> Response {
        if response.status().is_server_error() {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let instead = parts.extensions.remove::<KeptInstead>();
        let Ok(body) = body.collect().await.map(|body| body.to_bytes()) else {
            return Response::from_parts(parts, Body::empty());
        };
        if body.len() <= MOST_BYTES {
            let answer = Answer {
                status: parts.status,
                headers: parts.headers.clone(),
                body: instead.map_or_else(|| body.clone(), |instead| instead.0),
            };
            let mut entries = self.answered.entries();
            let place = entries.iter_mut().find(|entry| entry.id == self.id);
            if let Some(place) = place {
                place.answer = Some(answer);
            }
        }
        Response::from_parts(parts, body.into())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let id = &self.id;
        let mut entries = self.answered.entries();
        entries.retain(|entry| entry.answer.is_some() || entry.id != *id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_key(key: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HEADER.parse().unwrap(), HeaderValue::from_static(key))])
    }

    fn response(status: u16, body: &'static str) -> Response {
        let mut response = Response::new(body.into());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    }

    /// Returns the next step for a request: `new`, `free`, a status, or the code of an error.
    fn next_step(
        answered: &Answered,
        caller: &str,
        key: &'static str,
        body: &str,
        at: i64,
    ) -> String {
        let now = Timestamp::from_second(at).unwrap();
        match answered.turn(caller, "/p", &with_key(key), body.as_bytes(), now) {
            Ok(Turn::Free) => "free".to_owned(),
            Ok(Turn::First(_)) => "new".to_owned(),
            Ok(Turn::Answered(response)) => response.status().as_u16().to_string(),
            Err(problem) => problem.code.to_owned(),
        }
    }

    #[tokio::test]
    async fn an_answer_is_given_again() {
        let answered = Answered::default();
        let now = Timestamp::UNIX_EPOCH;
        let Ok(Turn::First(place)) = answered.turn("a", "/p", &with_key("k"), b"1", now) else {
            panic!("not the first");
        };
        assert_eq!(
            next_step(&answered, "a", "k", "1", 0),
            "idempotency_key_in_use"
        );
        place.keep(response(201, "made")).await;
        for (caller, key, body, at, expected) in [
            ("a", "k", "1", 1, "201"),
            ("a", "k", "2", 1, "idempotency_key_reused"),
            ("b", "k", "1", 1, "new"),
            ("a", "other", "1", 1, "new"),
            ("a", "k", "1", 3600, "new"),
        ] {
            let found = next_step(&answered, caller, key, body, at);
            assert_eq!(found, expected, "{caller} {key} {body} {at}");
        }
    }

    #[tokio::test]
    async fn secrets_are_given_once_and_not_kept() {
        let answered = Answered::default();
        let now = Timestamp::UNIX_EPOCH;
        let Ok(Turn::First(place)) = answered.turn("a", "/p", &with_key("k"), b"1", now) else {
            panic!("not the first");
        };
        let mut made = response(201, "secret");
        let kept = KeptInstead(Bytes::from_static(b"made"));
        made.extensions_mut().insert(kept);
        let text =
            async |response: Response| response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text(place.keep(made).await).await, "secret");
        let Ok(Turn::Answered(again)) = answered.turn("a", "/p", &with_key("k"), b"1", now) else {
            panic!("not answered again");
        };
        assert_eq!(again.status(), StatusCode::CREATED);
        assert_eq!(text(again).await, "made");
    }

    #[tokio::test]
    async fn failures_and_broken_off_requests_may_be_tried_again() {
        let answered = Answered::default();
        assert_eq!(next_step(&answered, "a", "k", "1", 0), "new");
        let now = Timestamp::UNIX_EPOCH;
        let Ok(Turn::First(place)) = answered.turn("a", "/p", &with_key("k"), b"1", now) else {
            panic!("the place that was given up is still taken");
        };
        place.keep(response(503, "")).await;
        assert_eq!(next_step(&answered, "a", "k", "1", 0), "new");
    }

    #[tokio::test]
    async fn a_flood_of_one_caller_leaves_the_answers_of_others() {
        let answered = Answered::default();
        let now = Timestamp::UNIX_EPOCH;
        let make = async |caller: &str, number: usize| {
            let key = HeaderValue::from_str(&format!("{number}")).unwrap();
            let headers = HeaderMap::from_iter([(HEADER.parse().unwrap(), key)]);
            let turn = answered.turn(caller, "/p", &headers, b"", now);
            if let Ok(Turn::First(place)) = turn {
                place.keep(response(200, "")).await;
            }
        };
        for number in 0..10 {
            make("admin", number).await;
        }
        for number in 0..2 * MOST {
            make("viewer", number).await;
        }
        assert_eq!(answered.entries().len(), MOST);
        assert_eq!(next_step(&answered, "admin", "0", "", 0), "200");
        assert_eq!(next_step(&answered, "admin", "9", "", 0), "200");
        // Its own oldest ones are what the flood has pushed out.
        assert_eq!(next_step(&answered, "viewer", "1023", "", 0), "200");
        assert_eq!(next_step(&answered, "viewer", "0", "", 0), "new");
    }

    #[tokio::test]
    async fn only_so_many_are_kept() {
        let answered = Answered::default();
        let now = Timestamp::UNIX_EPOCH;
        for number in 0..MOST + 1 {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_str(&format!("{number}")).unwrap());
            let Ok(Turn::First(place)) = answered.turn("a", "/p", &headers, b"", now) else {
                panic!("{number} is not new");
            };
            place.keep(response(200, "")).await;
        }
        assert_eq!(answered.entries().len(), MOST);
    }
}
