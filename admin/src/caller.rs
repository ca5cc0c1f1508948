//! Who may see what, and the one shape of the admin service's errors.

use axum::http::{HeaderMap, StatusCode};
use llm_router_domain::key::Role;

use crate::backend::Source;
use crate::error::{Problem, forbidden};

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What the key may do.
    pub role: Role,
    /// The id of the key.
    pub key: String,
    /// The owner of the key, if it has one.
    pub owner: Option<String>,
}

/// Who presents the request.
///
/// # Errors
/// 401 without a key that works.
pub(crate) fn caller(source: &dyn Source, headers: &HeaderMap) -> Result<Caller, Problem> {
    source
        .caller(headers)
        .map_err(|message| Problem::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
}

impl Caller {
    /// Whether the caller may do `what`, which needs this role.
    pub(crate) fn must_be(&self, role: Role, what: &str) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        let message = format!("{what} needs a key with the role {} or above.", role.name());
        Err(forbidden(message))
    }
}

/// Whose usage a caller may see: everything, or only one owner's or one key's.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub(crate) key: Option<String>,
    pub(crate) owner: Option<String>,
}

impl Scope {
    pub(crate) fn of(caller: Caller) -> Self {
        if caller.role >= Role::Viewer {
            return Self::default();
        }
        match caller.owner {
            Some(owner) => Self {
                owner: Some(owner),
                key: None,
            },
            None => Self {
                owner: None,
                key: Some(caller.key),
            },
        }
    }

    /// Whether an entry of this key and owner may be seen.
    pub(crate) fn shows(&self, key: &str, owner: &str) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|w| w == found);
        is(&self.key, key) && is(&self.owner, owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_see_their_owner_or_their_key_only() {
        let caller = |role, owner: Option<&str>| Caller {
            role,
            key: "k".to_owned(),
            owner: owner.map(str::to_owned),
        };
        for (caller, key, owner, seen) in [
            (caller(Role::Viewer, Some("a")), "x", "b", true),
            (caller(Role::User, Some("a")), "x", "a", true),
            (caller(Role::User, Some("a")), "k", "b", false),
            (caller(Role::User, None), "k", "b", true),
            (caller(Role::User, None), "x", "", false),
        ] {
            assert_eq!(
                Scope::of(caller.clone()).shows(key, owner),
                seen,
                "{caller:?}"
            );
        }
    }
}
