//! Tests of the service over every path: roles, the shape of errors, and the API description.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use jiff::civil::Date;
use llm_router_domain::format::Format;
use llm_router_domain::key::{KeySpec, Role};
use llm_router_domain::rule::RuleSpec;
use llm_router_store::ledger::Page;
use llm_router_store::objects::{self as stored, ObjectStore};
use llm_router_store::{LedgerStore, StoreError};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;

/// An address that has presented too many unknown keys.
const UNWELCOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A router without objects. Its keys are the names of the roles.
struct Empty;

#[async_trait]
impl Backend for Empty {
    fn routing(&self) -> &dyn RoutingApi {
        self
    }

    fn providers(&self) -> &dyn ProvidersApi {
        self
    }

    fn rules(&self) -> &dyn Collection<Object = RuleObject, Spec = RuleSpec> {
        &NoRules
    }

    fn keys(&self) -> &dyn KeysApi {
        &NoKeys
    }

    fn config(&self) -> &dyn ConfigApi {
        self
    }

    fn store(&self) -> &dyn ObjectStore {
        self
    }

    fn config_schema(&self) -> Value {
        json!({ "$defs": { "Provider": { "type": "object" } } })
    }

    fn metrics(&self) -> String {
        String::new()
    }

    fn router_metrics(&self) -> RouterMetrics {
        let figures = || Figures {
            requests: 1,
            errors: 0,
            refused: 0,
            client_errors: 0,
            failures: 0,
            input_tokens: 0,
            cached_input_tokens: 0,
            output_tokens: 0,
            latency_ms: None,
            first_byte_ms: None,
        };
        RouterMetrics {
            since: Timestamp::UNIX_EPOCH,
            total: figures(),
            recent: RecentFigures::default(),
            by_rule: Vec::new(),
            by_model: Vec::new(),
            by_provider: Vec::new(),
            by_deployment: Vec::new(),
        }
    }

    fn refused_requests(&self) -> Vec<Arc<RefusedRequest>> {
        Vec::new()
    }

    fn metrics_are_public(&self) -> bool {
        false
    }

    fn clients_port(&self) -> u16 {
        8000
    }

    fn body_timeout(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn authenticate(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
    ) -> Result<Caller, AuthenticationError> {
        let roles = [Role::User, Role::Viewer, Role::Operator, Role::Admin];
        let key = headers.get("x-api-key").and_then(|key| key.to_str().ok());
        let role = roles.into_iter().find(|role| Some(role.name()) == key);
        let role = role.ok_or_else(|| AuthenticationError {
            message: "No key.".to_owned(),
            // Whoever comes from here has presented too many.
            retry_after: (address == Some(UNWELCOME)).then(|| "3".to_owned()),
        })?;
        Ok(Caller {
            role,
            key: role.name().to_owned(),
            owner: None,
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn today(&self) -> Date {
        jiff::civil::date(1970, 1, 1)
    }

    fn explain(&self, _: &HeaderMap, _: Option<Format>, _: &[u8]) -> Result<String, ExplainError> {
        Ok("{}".to_owned())
    }

    async fn ledger(&self) -> Result<Arc<dyn LedgerStore>, StoreError> {
        Err(outage())
    }
}

#[async_trait]
impl RoutingApi for Empty {
    async fn toggle_status(&self) -> ToggleStatus {
        ToggleStatus {
            status: llm_router_domain::toggle::ToggleView {
                enabled: true,
                pending: None,
                cooldown_until: None,
                changed_at: None,
                revision: 1,
            },
            at: Timestamp::UNIX_EPOCH,
            store_away_since: None,
        }
    }

    async fn request_toggle(
        &self,
        _: &llm_router_domain::toggle::ToggleChange,
    ) -> Result<(llm_router_domain::toggle::ToggleAnswer, ToggleStatus), StoreError> {
        Err(outage())
    }

    async fn cancel_toggle(&self, _: &str) -> Result<(bool, ToggleStatus), StoreError> {
        Ok((false, self.toggle_status().await))
    }

    async fn toggle_history(
        &self,
        _: Option<u64>,
        _: u32,
    ) -> Result<Page<llm_router_domain::toggle::ToggleRecord, u64>, StoreError> {
        Err(outage())
    }
}

/// Implements a collection without objects.
macro_rules! empty_collection {
    ($collection:ty, $object:ty, $spec:ty) => {
        #[async_trait]
        impl Collection for $collection {
            type Object = $object;
            type Spec = $spec;

            async fn list(
                &self,
                _: Option<&str>,
                _: usize,
            ) -> Result<ListPage<$object>, ObjectError> {
                Ok(ListPage::whole(Vec::new()))
            }

            async fn get(&self, _: &str) -> Result<$object, ObjectError> {
                Err(ObjectError::NotFound)
            }

            async fn create(&self, _: $spec, _: &str) -> Result<$object, ObjectError> {
                Err(outage().into())
            }

            async fn replace(
                &self,
                _: &str,
                _: $spec,
                _: Option<u64>,
                _: &str,
            ) -> Result<$object, ObjectError> {
                Err(ObjectError::NotFound)
            }

            async fn delete(&self, _: &str, _: Option<u64>, _: &str) -> Result<(), ObjectError> {
                Err(ObjectError::NotFound)
            }
        }
    };
}

struct NoRules;
struct NoKeys;
empty_collection!(Empty, ProviderObject, ProviderFields);
empty_collection!(NoRules, RuleObject, RuleSpec);
empty_collection!(NoKeys, KeyObject, KeySpec);

#[async_trait]
impl KeysApi for NoKeys {
    async fn find_by_name(&self, _: &str) -> Result<Option<KeyObject>, ObjectError> {
        Ok(None)
    }

    async fn rotate(
        &self,
        _: &str,
        _: Duration,
        _: Option<u64>,
        _: &str,
    ) -> Result<KeyObject, ObjectError> {
        Err(ObjectError::NotFound)
    }
}

#[async_trait]
impl ProvidersApi for Empty {
    async fn check(&self, _: &str) -> Result<ProviderHealth, ObjectError> {
        Err(ObjectError::NotFound)
    }

    async fn checks(&self, _: &str) -> Result<Vec<ProviderHealth>, ObjectError> {
        Err(ObjectError::NotFound)
    }

    async fn models(&self, _: &str, _: bool) -> Result<Vec<ProviderModel>, ObjectError> {
        Err(ObjectError::NotFound)
    }

    async fn set_model(
        &self,
        _: &str,
        _: ModelSpec,
        _: &str,
    ) -> Result<ProviderModel, ObjectError> {
        Err(ObjectError::NotFound)
    }
}

#[async_trait]
impl ConfigApi for Empty {
    fn running_config(&self) -> RunningConfig {
        RunningConfig {
            revision: 1,
            change_number: 0,
            file: None,
            config: json!({}),
            made_by_api: json!({}),
            refused: None,
        }
    }

    async fn reload(&self, _: &str) -> Result<u64, Vec<ConfigError>> {
        let error = |field: &str| ConfigError {
            file: "c.yaml".to_owned(),
            line: Some(1),
            field: field.to_owned(),
            message: "is wrong".to_owned(),
        };
        Err(vec![error("a"), error("b")])
    }

    async fn roll_back(&self, _: u64, _: &str) -> Result<RollbackReport, RollbackError> {
        Err(RollbackError::Missing)
    }
}

#[async_trait]
impl ObjectStore for Empty {
    async fn marks(&self) -> Result<stored::ChangeMarks, StoreError> {
        Err(outage())
    }

    async fn objects(&self) -> Result<stored::Objects, StoreError> {
        Err(outage())
    }

    async fn changes(&self, _: u64, _: u32) -> Result<Option<stored::Changes>, StoreError> {
        Err(outage())
    }

    async fn page(
        &self,
        _: stored::ObjectKind,
        _: Option<&str>,
        _: u32,
    ) -> Result<Vec<stored::StoredObject>, StoreError> {
        Err(outage())
    }

    async fn find(
        &self,
        _: stored::ObjectKind,
        _: stored::Handle<'_>,
    ) -> Result<Option<stored::StoredObject>, StoreError> {
        Err(outage())
    }

    async fn note_uses(&self, _: Vec<stored::KeyUse>) -> Result<(), StoreError> {
        Err(outage())
    }

    async fn uses(&self, _: Vec<String>) -> Result<Vec<stored::KeyUse>, StoreError> {
        Err(outage())
    }

    async fn change(
        &self,
        _: stored::ObjectChange,
        _: stored::ChangedBy,
    ) -> Result<Option<stored::StoredObject>, stored::ChangeError> {
        Err(outage().into())
    }

    async fn audit(
        &self,
        _: &stored::AuditQuery,
    ) -> Result<Page<stored::AuditEntry, u64>, StoreError> {
        Err(outage())
    }

    async fn record(&self, _: stored::AuditDraft) -> Result<(), StoreError> {
        Err(outage())
    }
}

fn outage() -> StoreError {
    StoreError::Unavailable("no store".to_owned())
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

async fn ask(request: axum::http::request::Builder, body: impl Into<Body>) -> Answer {
    let request = request.body(body.into()).unwrap();
    let response = service(Arc::new(Empty), &[])
        .oneshot(request)
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }
}

fn request(method: &str, path: &str, role: Option<Role>) -> axum::http::request::Builder {
    let request = Request::builder().method(method).uri(path);
    match role {
        Some(role) => request.header("x-api-key", role.name()),
        None => request,
    }
}

/// Lists every operation of the served document by method and path, without inference.
async fn operations() -> Vec<(String, String)> {
    let document = ask(request("GET", "/openapi.json", None), "").await.body;
    let paths = document["paths"].as_object().unwrap().clone();
    let own = paths
        .into_iter()
        .filter(|(path, _)| !openapi::inference::is_inference(path));
    let of_path = |(path, item): (String, Value)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        let with_path = move |method: String| (method.to_uppercase(), path.clone());
        methods.into_iter().map(with_path).collect::<Vec<_>>()
    };
    own.flat_map(of_path).collect()
}

#[tokio::test]
async fn every_path_is_open_to_its_role_and_above_and_to_nobody_else() {
    use endpoints::{Access, Lookup};
    let roles = [Role::User, Role::Viewer, Role::Operator, Role::Admin];
    for (method, path) in operations().await {
        let entry = endpoints::look_up(&method.parse().unwrap(), &path);
        let Lookup::Needs(access) = entry else {
            panic!("{method} {path} has no role in endpoints.rs");
        };
        let least = match access {
            Access::Public => None,
            Access::Metrics => Some(Role::Viewer),
            Access::Role(role) => Some(role),
        };
        let at = path.replace("{id}", "x").replace("{number}", "1");
        let without = ask(request(&method, &at, None), Body::empty()).await;
        let closed = without.status == StatusCode::UNAUTHORIZED;
        assert_eq!(closed, least.is_some(), "{method} {path} without a key");
        for role in roles {
            let answer = ask(request(&method, &at, Some(role)), Body::empty()).await;
            let refused = answer.status == StatusCode::FORBIDDEN;
            let expected = least.is_some_and(|least| role < least);
            assert_eq!(refused, expected, "{method} {path} as {}", role.name());
            if refused {
                assert_eq!(answer.body["error"]["code"], "permission_denied");
            }
        }
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn errors_have_one_shape() {
    let admin = Some(Role::Admin);
    let large = "x".repeat(1024 * 1024 + 1);
    for (request, body, status, code) in [
        (
            request("GET", "/api/v1/nothing", admin),
            "",
            404,
            "not_found",
        ),
        (
            request("GET", "/api/v1/nothing", None),
            "",
            401,
            "invalid_api_key",
        ),
        (
            request("PATCH", "/metrics", admin),
            "",
            405,
            "method_not_allowed",
        ),
        (
            request("PATCH", "/metrics", None),
            "",
            401,
            "invalid_api_key",
        ),
        (
            request("GET", "/metrics", Some(Role::User)),
            "",
            403,
            "permission_denied",
        ),
        (
            request("PATCH", "/metrics", Some(Role::User)),
            "",
            403,
            "permission_denied",
        ),
        (
            request("POST", "/api/v1/config/reload", admin).header("content-type", "text/plain"),
            "{}",
            422,
            "invalid_config",
        ),
        (
            request("POST", "/api/v1/config/reload", None)
                .header("content-type", "application/x-www-form-urlencoded")
                .header("cookie", "key=admin"),
            "{}",
            401,
            "invalid_api_key",
        ),
        (
            request("POST", "/api/v1/config/reload", admin),
            "",
            422,
            "invalid_config",
        ),
        (
            request("POST", "/api/v1/providers", admin),
            &large,
            413,
            "request_too_large",
        ),
        (
            request("POST", "/api/v1/providers", admin),
            "[]",
            400,
            "invalid_value",
        ),
        (
            request("DELETE", "/api/v1/providers/x", admin).header("if-match", "x"),
            "",
            400,
            "invalid_value",
        ),
        (
            request("GET", "/api/v1/cost/daily?from=x", admin),
            "",
            400,
            "invalid_value",
        ),
        (
            request("GET", "/api/v1/requests", admin),
            "",
            503,
            "store_unavailable",
        ),
        (
            request("POST", "/api/v1/nothing", admin),
            &large,
            404,
            "not_found",
        ),
    ] {
        let label = format!("{request:?}");
        let answer = ask(request, body.to_owned()).await;
        assert_eq!(answer.status.as_u16(), status, "{label}");
        let error = &answer.body["error"];
        assert_eq!(error["code"], code, "{label}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{label}");
        assert!(error.get("field").is_some(), "{label}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
    let refused = ask(request("DELETE", "/metrics", admin), "").await;
    assert_eq!(refused.headers["allow"], "GET, HEAD");
}

#[tokio::test]
async fn unknown_keys_of_an_address_are_slowed_down() {
    let from = |role| {
        let address = ClientAddress(UNWELCOME);
        request("GET", "/api/v1/router/status", role).extension(address)
    };
    let refused = ask(from(None), "").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.body["error"]["code"], "rate_limit_exceeded");
    assert_eq!(refused.headers["retry-after"], "3");
    assert_eq!(
        ask(from(Some(Role::Viewer)), "").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn pages_of_other_origins_may_call_only_if_they_are_named() {
    let asked = async |cors: &[String]| {
        let preflight = Request::builder()
            .method("OPTIONS")
            .uri("/metrics")
            .header("origin", "https://ours.test")
            .header("access-control-request-method", "GET")
            .body(Body::empty());
        let service = service(Arc::new(Empty), cors);
        let response = service.oneshot(preflight.unwrap()).await.unwrap();
        let allowed = response.headers().get("access-control-allow-origin");
        allowed.map(|origin| origin.to_str().unwrap().to_owned())
    };
    let named = |origin: &str| vec![origin.to_owned()];
    assert_eq!(asked(&[]).await, None);
    assert_eq!(asked(&named("https://theirs.test")).await, None);
    let ours = asked(&named("https://ours.test")).await;
    assert_eq!(ours.as_deref(), Some("https://ours.test"));
    assert_eq!(asked(&named("*")).await.as_deref(), Some("*"));
}

#[tokio::test]
async fn the_document_describes_every_operation() {
    let answer = ask(
        request("GET", "/openapi.json", None).header("host", "r.test:1"),
        "",
    )
    .await;
    let document = answer.body;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let chat = &document["paths"]["/v1/chat/completions"];
    assert_eq!(chat["servers"][0]["url"], "http://r.test:8000");
    for (method, path) in operations().await {
        let operation = &document["paths"][&path][method.to_lowercase()];
        assert!(operation["summary"].is_string(), "{method} {path}");
        assert!(operation["operationId"].is_string(), "{method} {path}");
        let parameters = operation.get("parameters");
        assert!(parameters.is_none_or(Value::is_array), "{method} {path}");
        assert!(operation["tags"][0].is_string(), "{method} {path}");
    }
}

#[tokio::test]
async fn swagger_ui_is_served_from_here() {
    for path in [
        "/docs/",
        "/docs/swagger-ui-bundle.js",
        "/docs/swagger-initializer.js",
    ] {
        let answer = ask(request("GET", path, None), "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn every_page_says_what_it_may_load_and_who_may_frame_it() {
    for page in endpoints::PAGES {
        let path = page
            .replace("{*file}", "index.html")
            .replace("{*rest}", "oauth2-redirect.html");
        let answer = ask(request("GET", &path, None), "").await;
        let header = |name: &str| {
            let value = answer.headers.get(name);
            value.map_or("", |value| value.to_str().unwrap())
        };
        assert!(
            header("content-type").starts_with("text/html") || page == "/docs",
            "{path}"
        );
        let policy = header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self';",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
    }
}

/// A key that is entered in the Swagger UI is forgotten with the page.
#[tokio::test]
async fn swagger_ui_keeps_no_key() {
    let path = "/docs/swagger-initializer.js";
    let request = request("GET", path, None).body(Body::empty()).unwrap();
    let service = service(Arc::new(Empty), &[]);
    let body = service.oneshot(request).await.unwrap().into_body();
    let script = body.collect().await.unwrap().to_bytes();
    let script = String::from_utf8_lossy(&script);
    assert!(
        script.contains("\"persistAuthorization\": false"),
        "{script}"
    );
}
