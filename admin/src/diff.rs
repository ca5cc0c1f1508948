//! Differences between two JSON values, by path. Knows nothing of what the values mean.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

/// A difference between two values.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Difference {
    /// Path of the value, such as `providers[openai].timeouts.connect`; empty for the whole.
    pub path: String,
    /// Value before; null if there was none.
    pub before: Option<Value>,
    /// Value after; null if it was removed.
    pub after: Option<Value>,
}

/// Returns the differences, in the order of their paths.
#[must_use]
pub fn differences(before: Option<&Value>, after: Option<&Value>) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", before, after, &mut found);
    found
}

fn compare(at: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let path = if at.is_empty() {
                    name.clone()
                } else {
                    format!("{at}.{name}")
                };
                compare(&path, old.get(name), new.get(name), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => match (by_name(old), by_name(new)) {
            (Some(old), Some(new)) => {
                let find = |items: &[(String, &Value)], name: &str| {
                    items.iter().position(|(known, _)| known == name)
                };
                let names: BTreeSet<&String> =
                    old.iter().chain(&new).map(|(name, _)| name).collect();
                for name in names {
                    let item = |items: &[(String, &Value)]| find(items, name);
                    let (was, is) = (item(&old), item(&new));
                    let was = was
                        .and_then(|index| old.get(index))
                        .map(|(_, value)| *value);
                    let is = is.and_then(|index| new.get(index)).map(|(_, value)| *value);
                    compare(&format!("{at}[{name}]"), was, is, found);
                }
            }
            _ => found.push(difference(at, before, after)),
        },
        _ => found.push(difference(at, before, after)),
    }
}

fn difference(at: &str, before: Option<&Value>, after: Option<&Value>) -> Difference {
    Difference {
        path: at.to_owned(),
        before: before.cloned(),
        after: after.cloned(),
    }
}

/// Returns the items with their id or name, if every item has one and no two share one.
fn by_name(items: &[Value]) -> Option<Vec<(String, &Value)>> {
    let name = |item: &Value| {
        let name = item.get("id").or_else(|| item.get("name"))?;
        name.as_str().map(str::to_owned)
    };
    let items: Vec<_> = items
        .iter()
        .map(|item| Some((name(item)?, item)))
        .collect::<Option<_>>()?;
    let distinct: BTreeSet<&String> = items.iter().map(|(name, _)| name).collect();
    (distinct.len() == items.len()).then_some(items)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_have_paths() {
        let before = json!({
            "a": 1, "b": { "c": [1, 2] }, "p": [{ "id": "x", "t": 1 }, { "id": "y" }],
        });
        let after = json!({
            "a": 1, "b": { "c": [1], "d": true }, "p": [{ "id": "y" }, { "id": "x", "t": 2 }],
        });
        let paths = |found: Vec<Difference>| -> Vec<String> {
            found
                .into_iter()
                .map(|difference| difference.path)
                .collect()
        };
        let found = differences(Some(&before), Some(&after));
        assert_eq!(paths(found), ["b.c", "b.d", "p[x].t"]);
        assert_eq!(paths(differences(None, Some(&after))), [""]);
        assert_eq!(paths(differences(Some(&after), Some(&after))), [""; 0]);
    }
}
