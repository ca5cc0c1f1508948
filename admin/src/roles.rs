//! Which role each path needs: the one place that says so. A path that is missing here can't be
//! called by anybody, and a test names it.

use axum::http::Method;
use llm_router_domain::key::Role;

/// Who may use a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Anybody, without a key.
    Nothing,
    /// A viewer; anybody, if the configuration makes metrics public.
    Metrics,
    /// A key of this role or above.
    Role(Role),
}

const USER: Need = Need::Role(Role::User);
const VIEWER: Need = Need::Role(Role::Viewer);
const OPERATOR: Need = Need::Role(Role::Operator);
const ADMIN: Need = Need::Role(Role::Admin);

/// What can be done at each path, as it is routed, and who may do it.
pub(crate) const PATHS: &[(&str, &[(&str, Need)])] = &[
    ("/healthz", &[("GET", Need::Nothing)]),
    ("/readyz", &[("GET", Need::Nothing)]),
    ("/", &[("GET", Need::Nothing)]),
    ("/ui/{*file}", &[("GET", Need::Nothing)]),
    ("/openapi.json", &[("GET", Need::Nothing)]),
    ("/docs", &[("GET", Need::Nothing)]),
    ("/docs/", &[("GET", Need::Nothing)]),
    ("/docs/{*rest}", &[("GET", Need::Nothing)]),
    ("/metrics", &[("GET", Need::Metrics)]),
    // Users see their own usage only: the handlers narrow what is found.
    ("/api/v1/cost/current", &[("GET", USER)]),
    ("/api/v1/cost/daily", &[("GET", USER)]),
    ("/api/v1/cost/summary", &[("GET", USER)]),
    ("/api/v1/cost/by-model", &[("GET", USER)]),
    ("/api/v1/cost/by-user", &[("GET", USER)]),
    ("/api/v1/requests", &[("GET", USER)]),
    ("/api/v1/requests/{id}", &[("GET", USER)]),
    // Everybody may know who they are.
    ("/api/v1/me", &[("GET", USER)]),
    ("/api/v1/router/status", &[("GET", VIEWER)]),
    // Forcing a change needs an admin: the handler asks for one.
    (
        "/api/v1/router/toggle",
        &[("POST", OPERATOR), ("DELETE", OPERATOR)],
    ),
    ("/api/v1/router/history", &[("GET", VIEWER)]),
    ("/api/v1/router/metrics", &[("GET", VIEWER)]),
    // Explaining changes nothing and calls nobody.
    ("/api/v1/router/explain", &[("POST", VIEWER)]),
    (
        "/api/v1/router/rules",
        &[("GET", VIEWER), ("POST", OPERATOR)],
    ),
    (
        "/api/v1/router/rules/{id}",
        &[("GET", VIEWER), ("PUT", OPERATOR), ("DELETE", OPERATOR)],
    ),
    ("/api/v1/providers", &[("GET", VIEWER), ("POST", ADMIN)]),
    (
        "/api/v1/providers/{id}",
        &[("GET", VIEWER), ("PUT", ADMIN), ("DELETE", ADMIN)],
    ),
    (
        "/api/v1/providers/{id}/health",
        &[("GET", VIEWER), ("POST", OPERATOR)],
    ),
    (
        "/api/v1/providers/{id}/models",
        &[("GET", VIEWER), ("POST", ADMIN)],
    ),
    ("/api/v1/keys", &[("GET", VIEWER), ("POST", ADMIN)]),
    (
        "/api/v1/keys/{id}",
        &[("GET", VIEWER), ("PUT", ADMIN), ("DELETE", ADMIN)],
    ),
    ("/api/v1/keys/{id}/rotate", &[("POST", ADMIN)]),
    ("/api/v1/config", &[("GET", VIEWER)]),
    ("/api/v1/config/reload", &[("POST", ADMIN)]),
    ("/api/v1/config/revisions", &[("GET", VIEWER)]),
    (
        "/api/v1/config/revisions/{number}/rollback",
        &[("POST", ADMIN)],
    ),
    ("/api/v1/audit", &[("GET", VIEWER)]),
];

/// What the table says of a method at a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Who may.
    Needs(Need),
    /// Nobody: other methods are served there.
    OtherMethods {
        /// Those methods, as in an `allow` header.
        allow: String,
        /// What the least demanding of them needs. Whoever may use none of them is told of none.
        least: Need,
    },
    /// The path isn't in the table.
    Missing,
}

/// Looks up a method at a path, as it is routed.
pub(crate) fn entry(method: &Method, path: &str) -> Entry {
    let Some((_, methods)) = PATHS.iter().find(|(known, _)| *known == path) else {
        return Entry::Missing;
    };
    let method = if *method == Method::HEAD {
        "GET"
    } else {
        method.as_str()
    };
    match methods.iter().find(|(known, _)| *known == method) {
        Some((_, need)) => Entry::Needs(*need),
        None => Entry::OtherMethods {
            allow: allowed(methods),
            least: methods.iter().map(|(_, need)| *need).min().unwrap_or(ADMIN),
        },
    }
}

fn allowed(methods: &[(&str, Need)]) -> String {
    let mut names: Vec<&str> = methods.iter().map(|(name, _)| *name).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_looked_up_by_path() {
        let rules = "/api/v1/router/rules";
        for (method, path, expected) in [
            (Method::GET, rules, Entry::Needs(VIEWER)),
            (Method::HEAD, rules, Entry::Needs(VIEWER)),
            (Method::POST, rules, Entry::Needs(OPERATOR)),
            (
                Method::PUT,
                rules,
                Entry::OtherMethods {
                    allow: "GET, POST, HEAD".to_owned(),
                    least: VIEWER,
                },
            ),
            (Method::GET, "/api/v1/router", Entry::Missing),
        ] {
            assert_eq!(entry(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn nothing_is_written_below_the_role_of_operator() {
        for (path, methods) in PATHS {
            for (method, need) in *methods {
                let writes = *method != "GET" && *path != "/api/v1/router/explain";
                let low = !matches!(need, Need::Role(Role::Operator | Role::Admin));
                assert!(!(writes && low), "{method} {path}");
            }
        }
    }
}
