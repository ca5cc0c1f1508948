//! What providers, rules and keys have in common: they are listed, read, made, changed and deleted
//! alike. What each of them is, and whether it is any good, is said elsewhere.

use std::collections::HashMap;

use async_trait::async_trait;
use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use llm_router_store::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::body;
use crate::caller::Caller;
use crate::error::Problem;
use crate::error::away;
use crate::etag::{if_match, stale, tagged};
use crate::page::{Page, limit};

/// The objects of a kind: those of the file, which are read-only here, and those made by API.
#[async_trait]
pub trait Collection: Send + Sync {
    /// One of them, as the API shows it.
    type Shown: Shown;
    /// What one shall be.
    type Spec: Send;

    /// The first `most` of them after the one with the id `after`.
    ///
    /// # Errors
    /// When there is none with that id, or the store doesn't answer.
    async fn list(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<Listed<Self::Shown>, ObjectError>;

    /// One of them.
    ///
    /// # Errors
    /// When it isn't there, or the store doesn't answer.
    async fn one(&self, id: &str) -> Result<Self::Shown, ObjectError>;

    /// Makes one. It is in force here when the call returns.
    ///
    /// # Errors
    /// Why it isn't made.
    async fn create(&self, spec: Self::Spec, actor: &str) -> Result<Self::Shown, ObjectError>;

    /// Gives one another content, if it has the expected version.
    ///
    /// # Errors
    /// Why it stays as it is.
    async fn replace(
        &self,
        id: &str,
        spec: Self::Spec,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<Self::Shown, ObjectError>;

    /// Deletes one, if it has the expected version.
    ///
    /// # Errors
    /// Why it stays.
    async fn delete(&self, id: &str, expected: Option<u64>, actor: &str)
    -> Result<(), ObjectError>;
}

/// An object as the API shows it.
pub trait Shown: Serialize + Send {
    /// What people call it, as `rule`.
    const NOUN: &'static str;
    /// The field that no two of them have alike.
    const UNIQUE: &'static str;

    /// Identifies it.
    fn id(&self) -> &str;

    /// What is compared with If-Match; the file's have none.
    fn version(&self) -> Option<u64>;
}

/// A part of a list.
#[derive(Debug)]
pub struct Listed<T> {
    /// The items, in their order.
    pub items: Vec<T>,
    /// Whether others follow.
    pub more: bool,
}

/// Where something comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The configuration file. It is read-only here.
    File,
    /// The admin API.
    Api,
}

/// Why an object isn't shown, made, changed or asked.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Something in it is wrong.
    #[error("{message}")]
    Invalid {
        /// The field, as `timeouts.connect`.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// Another one has that id or name.
    #[error("another one has that id or name")]
    Taken,
    /// It stands in the file.
    #[error("it stands in the configuration file")]
    ReadOnly,
    /// There is none with that id.
    #[error("there is none with that id")]
    Missing,
    /// It was changed meanwhile.
    #[error("it was changed meanwhile")]
    Stale,
    /// What has to be asked doesn't answer as it should.
    #[error("{0}")]
    Silent(String),
    /// The router lacks what it takes.
    #[error("{0}")]
    Unprepared(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<T> Listed<T> {
    /// The part of a whole list that is asked for. Items are found again by their id.
    ///
    /// # Errors
    /// When the list has no item with the id `after`.
    pub fn cut(
        mut items: Vec<T>,
        after: Option<&str>,
        most: usize,
        id: impl Fn(&T) -> &str,
    ) -> Result<Self, ObjectError> {
        if let Some(after) = after {
            let before = items.iter().position(|item| id(item) == after);
            let message = "cursor is the next_cursor of another answer, and its item is gone.";
            let before = before.ok_or_else(|| ObjectError::Invalid {
                field: "cursor".to_owned(),
                message: message.to_owned(),
            })?;
            items.drain(..=before);
        }
        let more = items.len() > most;
        items.truncate(most);
        Ok(Self { items, more })
    }

    /// As a page of the API.
    pub(crate) fn page(self, id: impl Fn(&T) -> &str) -> Page<T> {
        let last = self.items.last().filter(|_| self.more);
        let next_cursor = last.map(|item| id(item).to_owned());
        Page {
            items: self.items,
            next_cursor,
        }
    }
}

/// Answers with a page.
pub(crate) async fn list<C: Collection + ?Sized>(
    all: &C,
    parameters: &HashMap<String, String>,
) -> Result<Json<Page<C::Shown>>, Problem> {
    let listed = all.list(cursor(parameters), limit(parameters)? as usize);
    let listed = listed.await.map_err(problem::<C::Shown>)?;
    Ok(Json(listed.page(Shown::id)))
}

/// Where the page before ended.
pub(crate) fn cursor(parameters: &HashMap<String, String>) -> Option<&str> {
    parameters.get("cursor").map(String::as_str)
}

/// Answers with one object.
pub(crate) async fn one<C: Collection + ?Sized>(all: &C, id: &str) -> Result<Response, Problem> {
    let found = all.one(id).await.map_err(problem::<C::Shown>)?;
    Ok(shown(StatusCode::OK, &found))
}

/// Makes an object.
pub(crate) async fn create<C: Collection + ?Sized>(
    all: &C,
    spec: C::Spec,
    caller: &Caller,
) -> Result<C::Shown, Problem> {
    let made = all.create(spec, &caller.key).await;
    made.map_err(problem::<C::Shown>)
}

/// Gives an object another content.
pub(crate) async fn replace<C: Collection + ?Sized>(
    all: &C,
    id: &str,
    spec: C::Spec,
    headers: &HeaderMap,
    caller: &Caller,
) -> Result<Response, Problem> {
    let replaced = all.replace(id, spec, if_match(headers)?, &caller.key).await;
    Ok(shown(
        StatusCode::OK,
        &replaced.map_err(problem::<C::Shown>)?,
    ))
}

/// Deletes an object.
pub(crate) async fn delete<C: Collection + ?Sized>(
    all: &C,
    id: &str,
    headers: &HeaderMap,
    caller: &Caller,
) -> Result<StatusCode, Problem> {
    let deleted = all.delete(id, if_match(headers)?, &caller.key).await;
    deleted
        .map(|()| StatusCode::NO_CONTENT)
        .map_err(problem::<C::Shown>)
}

/// What a body says that an object shall be. Fields that only answers have say nothing in a
/// request, so that what was read can be changed and sent back.
pub(crate) fn spec<T: DeserializeOwned>(bytes: &[u8], shown_only: &[&str]) -> Result<T, Problem> {
    let mut fields: Map<String, Value> = body::read(bytes)?;
    for name in shown_only {
        fields.remove(*name);
    }
    body::convert(fields.into())
}

/// An answer with an object; its version is the ETag.
pub(crate) fn shown(status: StatusCode, object: &impl Shown) -> Response {
    tagged(status, object, object.version())
}

/// What is answered instead of an object.
pub(crate) fn problem<T: Shown>(error: ObjectError) -> Problem {
    let conflict = |code, message: String| Problem::new(StatusCode::CONFLICT, code, message);
    let (noun, unique) = (T::NOUN, T::UNIQUE);
    match error {
        ObjectError::Invalid { field, message } => Problem::invalid(field, message),
        ObjectError::Taken => Problem {
            field: Some(unique.into()),
            ..conflict(
                "already_exists",
                format!("Another {noun} has that {unique}."),
            )
        },
        ObjectError::ReadOnly => conflict(
            "read_only",
            format!("This {noun} stands in the configuration file. Change it there."),
        ),
        ObjectError::Missing => Problem::not_found(format!("There is no {noun} with this id.")),
        ObjectError::Stale => stale(),
        ObjectError::Silent(message) => conflict("upstream_error", message),
        ObjectError::Unprepared(message) => conflict("not_configured", message),
        ObjectError::Store(error) => away(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let cut = |after: Option<&str>, most| {
            let listed = Listed::cut(vec!["a", "b", "c"], after, most, |item| item);
            let page = listed.map(|listed| listed.page(|item| item));
            page.map(|page| (page.items.concat(), page.next_cursor))
                .map_err(|error| error.to_string().split(' ').next().map(str::to_owned))
        };
        let next = |cursor: &str| Some(cursor.to_owned());
        for (after, most, expected) in [
            (None, 50, Ok(("abc", None))),
            (None, 2, Ok(("ab", next("b")))),
            (Some("b"), 2, Ok(("c", None))),
            (None, 3, Ok(("abc", None))),
            (Some("c"), 50, Ok(("", None))),
            (Some("x"), 50, Err(next("cursor"))),
        ] {
            let expected = expected.map(|(items, next)| (items.to_owned(), next));
            assert_eq!(cut(after, most), expected, "{after:?} {most}");
        }
    }
}
