//! Lists in pages: `?limit=&cursor=` in, `{items, next_cursor}` out.

use std::collections::HashMap;
use std::str::FromStr;

use axum::extract::Query;
use serde::Serialize;

use crate::error::Problem;

/// How many items a page has when it isn't said, and how many it may have.
const USUAL_LIMIT: u32 = 50;
const MOST: u32 = 1_000;

/// The parameters of a request's address.
pub(crate) type Parameters = Query<HashMap<String, String>>;

/// A page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// What to send as `cursor` for the next page; null on the last.
    pub(crate) next_cursor: Option<String>,
}

/// Which page of a list. For the description of the API only: handlers read what they need.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `limit` and `cursor` read")]
pub(crate) struct Paging {
    /// How many items at most; 50 if not given.
    #[param(minimum = 1, maximum = 1000, example = 50)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The same for a list whose items are numbered.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "it describes what `limit` and `numbered_cursor` read"
)]
pub(crate) struct Numbered {
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before
    #[param(minimum = 0)]
    cursor: Option<i64>,
}

/// How many items are asked for.
///
/// # Errors
/// 400 if it is too many, or no number.
pub(crate) fn limit(parameters: &HashMap<String, String>) -> Result<u32, Problem> {
    match number("limit", parameters)? {
        None => Ok(USUAL_LIMIT),
        Some(limit) if (1..=MOST).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::invalid(
            "limit",
            format!("limit is from 1 to {MOST}."),
        )),
    }
}

/// The cursor of a list whose items are numbered.
///
/// # Errors
/// 400 if it is no such number.
pub(crate) fn numbered_cursor(
    parameters: &HashMap<String, String>,
) -> Result<Option<u64>, Problem> {
    let cursor: Option<i64> = number("cursor", parameters)?;
    let unsigned = |cursor| {
        let message = "cursor is the next_cursor of another answer.";
        u64::try_from(cursor).map_err(|_| Problem::invalid("cursor", message))
    };
    cursor.map(unsigned).transpose()
}

/// A parameter that is a number.
///
/// # Errors
/// 400 if it is none.
pub(crate) fn number<T: FromStr>(
    name: &'static str,
    parameters: &HashMap<String, String>,
) -> Result<Option<T>, Problem> {
    let parse = |text: &String| {
        let wrong = || Problem::invalid(name, format!("{name} is a whole number."));
        text.parse().map_err(|_| wrong())
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
            let found = limit(&given.into_iter().collect());
            let found = found.map_err(|problem| problem.field.unwrap());
            assert_eq!(found, expected.map_err(Into::into));
        }
    }
}
