//! Lists in pages: `?limit=&cursor=` in, `{items, next_cursor}` out. Knows nothing of the items.

use std::collections::HashMap;
use std::str::FromStr;

use axum::extract::Query;
use llm_router_store::ledger::Page as StoredPage;
use serde::Serialize;

use crate::error::AdminError;
use crate::objects::ObjectError;

/// Items of a page if the request has no `limit`, and the largest `limit`.
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1_000;

/// The query parameters of a request.
pub(crate) type Parameters = Query<HashMap<String, String>>;

/// A page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Page)]
pub struct ListPage<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// Value of `cursor` for the next page; null on the last page.
    pub next_cursor: Option<String>,
}

impl<T> ListPage<T> {
    /// Cuts a page out of a whole list whose cursors are the ids of its items.
    ///
    /// # Errors
    /// [`ObjectError::Invalid`] if the list has no item with the id `after`.
    pub fn cut(
        mut items: Vec<T>,
        after: Option<&str>,
        limit: usize,
        id: impl Fn(&T) -> &str,
    ) -> Result<Self, ObjectError> {
        if let Some(after) = after {
            let position = items.iter().position(|item| id(item) == after);
            let message = "cursor must be the next_cursor of an earlier answer whose last item \
                still exists.";
            let position = position.ok_or_else(|| ObjectError::Invalid {
                field: "cursor".to_owned(),
                message: message.to_owned(),
            })?;
            items.drain(..=position);
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        let next_cursor = last.map(|item| id(item).to_owned());
        Ok(Self { items, next_cursor })
    }

    /// Returns the only page of a list that isn't paged.
    pub(crate) const fn whole(items: Vec<T>) -> Self {
        Self {
            items,
            next_cursor: None,
        }
    }

    /// Converts a page of the store.
    pub(crate) fn from_store<S, C: ToString>(
        page: StoredPage<S, C>,
        convert: impl Fn(S) -> T,
    ) -> Self {
        Self {
            items: page.items.into_iter().map(convert).collect(),
            next_cursor: page.next.map(|next| next.to_string()),
        }
    }
}

/// Parameters of a list, for the description of the API only: handlers read them with [`limit`] and
/// [`cursor`].
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `limit` and `cursor` read")]
pub(crate) struct Paging {
    /// Maximum number of items; 50 by default.
    #[param(minimum = 1, maximum = 1000, example = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// Parameters of a list whose items are numbered, for the description of the API only.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "it describes what `limit` and `numbered_cursor` read"
)]
pub(crate) struct NumberedPaging {
    /// Maximum number of items; 50 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(minimum = 0)]
    cursor: Option<i64>,
}

/// Reads the maximum number of items of a page.
///
/// # Errors
/// 400 unless it is a number from 1 to 1,000.
pub(crate) fn limit(parameters: &HashMap<String, String>) -> Result<u32, AdminError> {
    limit_up_to(MAX_LIMIT, DEFAULT_LIMIT, parameters)
}

/// Reads the maximum number of items of a page, for lists with bounds of their own.
///
/// # Errors
/// 400 unless it is a number from 1 to `max`.
pub(crate) fn limit_up_to(
    max: u32,
    default: u32,
    parameters: &HashMap<String, String>,
) -> Result<u32, AdminError> {
    match number("limit", parameters)? {
        None => Ok(default),
        Some(limit) if (1..=max).contains(&limit) => Ok(limit),
        Some(_) => Err(AdminError::invalid(
            "limit",
            format!("limit must be from 1 to {max}."),
        )),
    }
}

/// Returns the cursor as it was sent.
pub(crate) fn cursor(parameters: &HashMap<String, String>) -> Option<&str> {
    parameters.get("cursor").map(String::as_str)
}

/// Reads the cursor of a list whose items are numbered.
///
/// # Errors
/// 400 unless it is a whole number of 0 or above.
pub(crate) fn numbered_cursor(
    parameters: &HashMap<String, String>,
) -> Result<Option<u64>, AdminError> {
    let cursor: Option<i64> = number("cursor", parameters)?;
    let unsigned = |cursor| u64::try_from(cursor).map_err(|_| invalid_cursor());
    cursor.map(unsigned).transpose()
}

/// 400 for a cursor that no answer contained.
pub(crate) fn invalid_cursor() -> AdminError {
    let message = "cursor must be the next_cursor of an earlier answer.";
    AdminError::invalid("cursor", message)
}

/// Reads a numeric parameter.
///
/// # Errors
/// 400 unless it is a whole number that fits the type.
pub(crate) fn number<T: FromStr>(
    name: &'static str,
    parameters: &HashMap<String, String>,
) -> Result<Option<T>, AdminError> {
    let parse = |text: &String| {
        let invalid = || AdminError::invalid(name, format!("{name} must be a whole number."));
        text.parse().map_err(|_| invalid())
    };
    parameters.get(name).map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bounded() {
        for (given, expected) in [
            (None, Ok(50)),
            (Some("1"), Ok(1)),
            (Some("1000"), Ok(1000)),
            (Some("0"), Err("limit")),
            (Some("1001"), Err("limit")),
            (Some("x"), Err("limit")),
        ] {
            let given = given.map(|text| ("limit".to_owned(), text.to_owned()));
            let actual = limit(&given.into_iter().collect());
            let actual = actual.map_err(|error| error.field.unwrap());
            assert_eq!(actual, expected.map_err(Into::into));
        }
    }

    #[test]
    fn pages_follow_each_other() {
        let cut = |after: Option<&str>, limit| {
            let page = ListPage::cut(vec!["a", "b", "c"], after, limit, |item| item);
            page.map(|page| (page.items.concat(), page.next_cursor))
                .map_err(|error| error.to_string().split(' ').next().map(str::to_owned))
        };
        let next = |cursor: &str| Some(cursor.to_owned());
        for (after, limit, expected) in [
            (None, 50, Ok(("abc", None))),
            (None, 2, Ok(("ab", next("b")))),
            (Some("b"), 2, Ok(("c", None))),
            (None, 3, Ok(("abc", None))),
            (Some("c"), 50, Ok(("", None))),
            (Some("x"), 50, Err(next("cursor"))),
        ] {
            let expected = expected.map(|(items, next)| (items.to_owned(), next));
            assert_eq!(cut(after, limit), expected, "{after:?} {limit}");
        }
    }
}
