//! The endpoints of the service: each handler with the least role that it needs. Routing, access
//! checks, the API description, `serves` and the table in docs/admin-api.md are all made from this
//! list. Method and path of a handler are in its description.

use std::sync::LazyLock;

use axum::http::Method;
use llm_router_domain::key::Role;
use utoipa::OpenApi as _;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use crate::backend::AppState;
use crate::crud;
use crate::handlers::keys::KeyObject;
use crate::handlers::providers::ProviderObject;
use crate::handlers::rules::RuleObject;
use crate::handlers::{
    audit, config, cost, explain, keys, me, monitoring, providers, requests, router_metrics, toggle,
};
use crate::openapi;

/// The callers that may use an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    /// Everybody, without a key.
    Public,
    /// Viewers and above; everybody if the configuration makes metrics public.
    Metrics,
    /// Keys of this role and above.
    Role(Role),
}

const USER: Access = Access::Role(Role::User);
const VIEWER: Access = Access::Role(Role::Viewer);
const OPERATOR: Access = Access::Role(Role::Operator);
const ADMIN: Access = Access::Role(Role::Admin);

/// The callers that may use a handler, and the handler with its description.
type Endpoint = (Access, UtoipaMethodRouter<AppState>);

/// Lists every endpoint, in the order of the API description.
#[expect(
    clippy::cognitive_complexity,
    reason = "a table: `routes!` hides blocks"
)]
fn endpoints() -> Vec<Endpoint> {
    vec![
        (Access::Public, routes!(monitoring::healthz)),
        (Access::Public, routes!(monitoring::readyz)),
        (Access::Public, routes!(openapi::document)),
        (Access::Metrics, routes!(monitoring::metrics)),
        // Handlers that users may call restrict them to their own usage.
        (USER, routes!(cost::current)),
        (USER, routes!(cost::daily)),
        (USER, routes!(cost::summary)),
        (USER, routes!(cost::by_model)),
        (USER, routes!(cost::by_user)),
        (USER, routes!(requests::list)),
        (USER, routes!(requests::get)),
        (VIEWER, routes!(toggle::status)),
        // Forcing a change needs an admin: the handler checks it.
        (OPERATOR, routes!(toggle::request_change)),
        (OPERATOR, routes!(toggle::cancel_change)),
        (VIEWER, routes!(toggle::history)),
        (VIEWER, routes!(router_metrics::router_metrics)),
        // Changes nothing and calls no provider.
        (VIEWER, routes!(explain::explain)),
        (VIEWER, crud::list::<RuleObject>()),
        (OPERATOR, crud::create::<RuleObject>()),
        (VIEWER, crud::get::<RuleObject>()),
        (OPERATOR, crud::replace::<RuleObject>()),
        (OPERATOR, crud::delete::<RuleObject>()),
        (VIEWER, crud::list::<ProviderObject>()),
        (ADMIN, crud::create::<ProviderObject>()),
        (VIEWER, crud::get::<ProviderObject>()),
        (ADMIN, crud::replace::<ProviderObject>()),
        (ADMIN, crud::delete::<ProviderObject>()),
        (VIEWER, routes!(providers::health_history)),
        (OPERATOR, routes!(providers::check_health)),
        // Asking the provider for its models needs an operator: the handler checks it.
        (VIEWER, routes!(providers::list_models)),
        (ADMIN, routes!(providers::set_model)),
        (VIEWER, routes!(keys::list)),
        (ADMIN, crud::create::<KeyObject>()),
        (VIEWER, crud::get::<KeyObject>()),
        (ADMIN, crud::replace::<KeyObject>()),
        (ADMIN, crud::delete::<KeyObject>()),
        (ADMIN, routes!(keys::rotate)),
        (USER, routes!(me::me)),
        (VIEWER, routes!(config::get)),
        (ADMIN, routes!(config::reload)),
        (VIEWER, routes!(config::revisions)),
        (ADMIN, routes!(config::roll_back)),
        (VIEWER, routes!(audit::list)),
    ]
}

/// Pages for people: public, and not in the API description.
pub(crate) const PAGES: [&str; 5] = ["/", "/ui/{*file}", "/docs", "/docs/", "/docs/{*rest}"];

/// Probes of this listener. Others answer their own.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// Routes every endpoint.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    let router = OpenApiRouter::with_openapi(openapi::DocumentBase::openapi());
    endpoints()
        .into_iter()
        .fold(router, |router, (_, route)| router.routes(route))
}

/// Returns true if a path belongs to the admin service, for a listener that serves others too.
#[must_use]
pub fn serves(path: &str) -> bool {
    path == "/"
        || TABLE.roots.iter().any(|root| {
            let below = path.strip_prefix(root.as_str());
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
}

/// Access to a method at a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The method is served to these callers.
    Needs(Access),
    /// Only other methods are served there.
    OtherMethods {
        /// Those methods, as the header `allow` lists them.
        allow: String,
        /// The least access that one of them needs. Callers without it aren't told the methods.
        least: Access,
    },
    /// The path isn't in the list: nobody may use it.
    Missing,
}

/// Looks up the access to a method at a path, as it is routed.
pub(crate) fn look_up(method: &Method, path: &str) -> Lookup {
    let Some((_, methods)) = TABLE.paths.iter().find(|(known, _)| known == path) else {
        return Lookup::Missing;
    };
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    match methods.iter().find(|(known, _)| known == method) {
        Some((_, access)) => Lookup::Needs(*access),
        None => Lookup::OtherMethods {
            allow: allowed_methods(methods),
            least: methods
                .iter()
                .map(|(_, access)| *access)
                .min()
                .unwrap_or(ADMIN),
        },
    }
}

/// Lists methods as the header `allow` does. HEAD is served wherever GET is.
fn allowed_methods(methods: &[(Method, Access)]) -> String {
    let mut names: Vec<&str> = methods.iter().map(|(method, _)| method.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.join(", ")
}

/// Returns the query parameters that a method at a path knows; `None` if they aren't checked, which is so
/// for what everybody may read: pages and probes.
pub(crate) fn known_parameters(method: &Method, path: &str) -> Option<&'static [String]> {
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let mut known = TABLE.parameters.iter();
    let found = known.find(|(at, one, _)| at == path && one == method);
    found.map(|(_, _, names)| names.as_slice())
}

/// The access to every path, by method, the query parameters of each, and the first segments of the
/// paths.
struct Table {
    paths: Vec<(String, Vec<(Method, Access)>)>,
    parameters: Vec<(String, Method, Vec<String>)>,
    roots: Vec<String>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(&endpoints()));

impl Table {
    fn new(endpoints: &[Endpoint]) -> Self {
        let mut paths: Vec<(String, Vec<(Method, Access)>)> = Vec::new();
        let pages = PAGES.map(|path| (path, Method::GET, Access::Public));
        let described = endpoints.iter().flat_map(|(access, (_, described, _))| {
            described.paths.iter().flat_map(move |(path, item)| {
                methods(item).map(move |method| (path.as_str(), method, *access))
            })
        });
        for (path, method, access) in pages.into_iter().chain(described) {
            match paths.iter_mut().find(|(known, _)| known == path) {
                Some((_, methods)) => methods.push((method, access)),
                None => paths.push((path.to_owned(), vec![(method, access)])),
            }
        }
        let parameters = endpoints
            .iter()
            .filter(|(access, _)| *access != Access::Public);
        let parameters = parameters.flat_map(|(_, (_, described, _))| {
            described.paths.iter().flat_map(|(path, item)| {
                operations(item)
                    .map(|(operation, method)| (path.clone(), method, query_names(operation)))
            })
        });
        let parameters = parameters.collect();
        let own = paths.iter().map(|(path, _)| path.as_str());
        let shared = own.filter(|path| *path != "/" && !PROBES.contains(path));
        let mut roots: Vec<String> = shared.map(root).collect();
        roots.sort_unstable();
        roots.dedup();
        Self {
            paths,
            parameters,
            roots,
        }
    }
}

fn methods(item: &PathItem) -> impl Iterator<Item = Method> {
    operations(item).map(|(_, method)| method)
}

fn operations(item: &PathItem) -> impl Iterator<Item = (&Operation, Method)> {
    let methods = [
        (&item.get, Method::GET),
        (&item.post, Method::POST),
        (&item.put, Method::PUT),
        (&item.delete, Method::DELETE),
    ];
    let served = |(operation, method)| Some((Option::as_ref(operation)?, method));
    methods.into_iter().filter_map(served)
}

/// Names of the query parameters that an operation describes.
fn query_names(operation: &Operation) -> Vec<String> {
    let all = operation.parameters.iter().flatten();
    let query = all.filter_map(|one| match one {
        RefOr::T(one) => matches!(one.parameter_in, ParameterIn::Query).then(|| one.name.clone()),
        RefOr::Ref(_) => None,
    });
    query.collect()
}

/// Returns the part of a path that tells it from the paths of other services: its first segment, or
/// the one after `/api/v1`.
fn root(path: &str) -> String {
    let prefix = if path.starts_with("/api/v1/") {
        "/api/v1/"
    } else {
        "/"
    };
    let below = path.strip_prefix(prefix).unwrap_or(path);
    let segment = below.split('/').next().unwrap_or_default();
    format!("{prefix}{segment}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::openapi::inference;

    #[test]
    fn methods_are_looked_up_by_path() {
        let rules = "/api/v1/router/rules";
        for (method, path, expected) in [
            (Method::GET, rules, Lookup::Needs(VIEWER)),
            (Method::HEAD, rules, Lookup::Needs(VIEWER)),
            (Method::POST, rules, Lookup::Needs(OPERATOR)),
            (
                Method::PUT,
                rules,
                Lookup::OtherMethods {
                    allow: "GET, POST, HEAD".to_owned(),
                    least: VIEWER,
                },
            ),
            (Method::GET, "/api/v1/router", Lookup::Missing),
        ] {
            assert_eq!(look_up(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn no_role_below_operator_may_write() {
        for (path, methods) in &TABLE.paths {
            for (method, access) in methods {
                let writes = method != Method::GET && path != "/api/v1/router/explain";
                let low = !matches!(access, Access::Role(Role::Operator | Role::Admin));
                assert!(!(writes && low), "{method} {path}");
            }
        }
    }

    #[test]
    fn paths_of_the_service_are_told_from_those_of_other_services() {
        for path in [
            "/",
            "/ui",
            "/ui/main.js",
            "/metrics",
            "/docs/",
            "/api/v1/keys/x/y",
        ] {
            assert!(serves(path), "{path}");
        }
        for path in [
            "/healthz",
            "/readyz",
            "/x",
            "/metricsx",
            "/api/v1",
            "/api/v1/keysx",
            "//",
        ] {
            assert!(!serves(path), "{path}");
        }
        for path in inference::paths().keys() {
            assert!(!serves(path), "{path}");
        }
    }

    /// Compares the table in docs/admin-api.md with the endpoints; writes it if `UPDATE_DOCS` is set.
    #[test]
    fn the_documentation_lists_every_endpoint() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/admin-api.md");
        let text = std::fs::read_to_string(&file).unwrap();
        let (before, rest) = text.split_once("<!-- endpoints -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- end of endpoints -->").unwrap();
        let current = format!(
            "{before}<!-- endpoints -->\n{}<!-- end of endpoints -->{after}",
            documentation()
        );
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&file, &current).unwrap();
            return;
        }
        assert!(
            text == current,
            "docs/admin-api.md is out of date; run UPDATE_DOCS=1 cargo test -p llm-router-admin"
        );
    }

    fn documentation() -> String {
        let mut table = "| path | method | least role | |\n|---|---|---|---|\n".to_owned();
        for (access, (_, described, _)) in endpoints() {
            for (path, item) in &described.paths {
                let role = match access {
                    Access::Public => "none",
                    Access::Metrics => "viewer, or none with `admin.metrics_public`",
                    Access::Role(role) => role.name(),
                };
                for method in methods(item) {
                    let operation = [&item.get, &item.post, &item.put, &item.delete];
                    let operation = operation.into_iter().flatten().next();
                    let summary = operation.and_then(|operation| operation.summary.clone());
                    let summary = summary.unwrap_or_default();
                    table += &format!("| `{path}` | {method} | {role} | {summary} |\n");
                }
            }
        }
        table
    }
}
