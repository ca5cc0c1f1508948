//! The service's shape, over every path it has: who may, what errors look like, what the document
//! says.

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use llm_router_domain::key::{KeySpec, Role};
use llm_router_store::ledger::Page as Found;
use llm_router_store::objects as stored;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;

/// A router without anything in it. Its keys are the names of the roles.
struct Empty;

#[async_trait]
impl Source for Empty {
    fn steering(&self) -> &dyn Steering {
        self
    }

    fn hosting(&self) -> &dyn Hosting {
        self
    }

    fn rules(&self) -> &dyn Collection<Shown = Rule, Spec = RuleSpec> {
        &NoRules
    }

    fn keys(&self) -> &dyn Keys {
        &NoKeys
    }

    fn configuration(&self) -> &dyn Configuration {
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

    fn figures(&self) -> RouterFigures {
        let figures = || Figures {
            requests: 1,
            errors: 0,
            input_tokens: 0,
            cached_input_tokens: 0,
            output_tokens: 0,
            latency_ms: None,
            first_byte_ms: None,
        };
        RouterFigures {
            since: Timestamp::UNIX_EPOCH,
            total: figures(),
            by_rule: Vec::new(),
            by_model: Vec::new(),
            by_provider: Vec::new(),
            by_deployment: Vec::new(),
        }
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

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, String> {
        let roles = [Role::User, Role::Viewer, Role::Operator, Role::Admin];
        let key = headers.get("x-api-key").and_then(|key| key.to_str().ok());
        let role = roles.into_iter().find(|role| Some(role.name()) == key);
        let role = role.ok_or("No key.")?;
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

    fn explain(&self, _: &HeaderMap, _: Option<Format>, _: &[u8]) -> Result<String, Unexplained> {
        Ok("{}".to_owned())
    }

    async fn ledger(&self) -> Result<Arc<dyn LedgerStore>, StoreError> {
        Err(away())
    }
}

#[async_trait]
impl Steering for Empty {
    async fn toggle_status(&self) -> ToggleStatus {
        ToggleStatus {
            status: llm_router_domain::toggle::Status {
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
        _: &llm_router_domain::toggle::Request,
    ) -> Result<(llm_router_domain::toggle::Answer, ToggleStatus), StoreError> {
        Err(away())
    }

    async fn cancel_toggle(&self, _: &str) -> Result<(bool, ToggleStatus), StoreError> {
        Ok((false, self.toggle_status().await))
    }

    async fn toggle_history(
        &self,
        _: Option<u64>,
        _: u32,
    ) -> Result<Found<llm_router_domain::toggle::Item, u64>, StoreError> {
        Err(away())
    }
}

/// A collection without anything in it.
macro_rules! without_any {
    ($collection:ty, $shown:ty, $spec:ty) => {
        #[async_trait]
        impl Collection for $collection {
            type Shown = $shown;
            type Spec = $spec;

            async fn list(&self, _: Option<&str>, _: usize) -> Result<Listed<$shown>, ObjectError> {
                Listed::cut(Vec::new(), None, 1, Shown::id)
            }

            async fn one(&self, _: &str) -> Result<$shown, ObjectError> {
                Err(ObjectError::Missing)
            }

            async fn create(&self, _: $spec, _: &str) -> Result<$shown, ObjectError> {
                Err(away().into())
            }

            async fn replace(
                &self,
                _: &str,
                _: $spec,
                _: Option<u64>,
                _: &str,
            ) -> Result<$shown, ObjectError> {
                Err(ObjectError::Missing)
            }

            async fn delete(&self, _: &str, _: Option<u64>, _: &str) -> Result<(), ObjectError> {
                Err(ObjectError::Missing)
            }
        }
    };
}

struct NoRules;
struct NoKeys;
without_any!(Empty, Provider, Fields);
without_any!(NoRules, Rule, RuleSpec);
without_any!(NoKeys, Key, KeySpec);

#[async_trait]
impl Keys for NoKeys {
    async fn named(&self, _: &str) -> Result<Option<Key>, ObjectError> {
        Ok(None)
    }

    async fn rotate(
        &self,
        _: &str,
        _: Duration,
        _: Option<u64>,
        _: &str,
    ) -> Result<Key, ObjectError> {
        Err(ObjectError::Missing)
    }
}

#[async_trait]
impl Hosting for Empty {
    async fn check(&self, _: &str) -> Result<Check, ObjectError> {
        Err(ObjectError::Missing)
    }

    async fn checks(&self, _: &str) -> Result<Vec<Check>, ObjectError> {
        Err(ObjectError::Missing)
    }

    async fn models(&self, _: &str, _: bool) -> Result<Vec<ProviderModel>, ObjectError> {
        Err(ObjectError::Missing)
    }

    async fn set_model(
        &self,
        _: &str,
        _: ModelSpec,
        _: &str,
    ) -> Result<ProviderModel, ObjectError> {
        Err(ObjectError::Missing)
    }
}

#[async_trait]
impl Configuration for Empty {
    fn running(&self) -> Running {
        Running {
            revision: 1,
            change_number: 0,
            file: None,
            config: json!({}),
            made_by_api: json!({}),
            refused: None,
        }
    }

    async fn reload(&self, _: &str) -> Result<u64, Vec<Mistake>> {
        let mistake = |field: &str| Mistake {
            file: "c.yaml".to_owned(),
            line: Some(1),
            field: field.to_owned(),
            message: "is wrong".to_owned(),
        };
        Err(vec![mistake("a"), mistake("b")])
    }

    async fn roll_back(&self, _: u64, _: &str) -> Result<RolledBack, RollBackError> {
        Err(RollBackError::Missing)
    }
}

#[async_trait]
impl ObjectStore for Empty {
    async fn marks(&self) -> Result<stored::Marks, StoreError> {
        Err(away())
    }

    async fn objects(&self) -> Result<stored::Objects, StoreError> {
        Err(away())
    }

    async fn changes(&self, _: u64, _: u32) -> Result<Option<stored::Changes>, StoreError> {
        Err(away())
    }

    async fn page(
        &self,
        _: stored::Kind,
        _: Option<&str>,
        _: u32,
    ) -> Result<Vec<stored::Object>, StoreError> {
        Err(away())
    }

    async fn find(
        &self,
        _: stored::Kind,
        _: stored::Handle<'_>,
    ) -> Result<Option<stored::Object>, StoreError> {
        Err(away())
    }

    async fn note_uses(&self, _: Vec<stored::Use>) -> Result<(), StoreError> {
        Err(away())
    }

    async fn uses(&self, _: Vec<String>) -> Result<Vec<stored::Use>, StoreError> {
        Err(away())
    }

    async fn change(
        &self,
        _: stored::Change,
        _: stored::By,
    ) -> Result<Option<stored::Object>, stored::ChangeError> {
        Err(away().into())
    }

    async fn audit(
        &self,
        _: &stored::AuditQuery,
    ) -> Result<Found<stored::AuditEntry, u64>, StoreError> {
        Err(away())
    }

    async fn record(&self, _: stored::AuditDraft) -> Result<(), StoreError> {
        Err(away())
    }
}

fn away() -> StoreError {
    StoreError::Unavailable("there is none".to_owned())
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

/// Every operation that is routed, out of the document.
fn operations() -> Vec<(String, String)> {
    let api = serde_json::to_value(routes().into_openapi()).unwrap();
    let paths = api["paths"].as_object().unwrap().clone();
    let of_path = |(path, item): (String, Value)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        let named = move |method: String| (method.to_uppercase(), path.clone());
        methods.into_iter().map(named).collect::<Vec<_>>()
    };
    paths.into_iter().flat_map(of_path).collect()
}

#[tokio::test]
async fn every_path_is_open_to_its_role_and_above_and_to_nobody_else() {
    use roles::{Entry, Need};
    let roles = [Role::User, Role::Viewer, Role::Operator, Role::Admin];
    for (method, path) in operations() {
        let entry = roles::entry(&method.parse().unwrap(), &path);
        let Entry::Needs(need) = entry else {
            panic!("{method} {path} has no entry in roles.rs");
        };
        let least = match need {
            Need::Nothing => None,
            Need::Metrics => Some(Role::Viewer),
            Need::Role(role) => Some(role),
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
            415,
            "unsupported_media_type",
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
        let shown = format!("{request:?}");
        let answer = ask(request, body.to_owned()).await;
        assert_eq!(answer.status.as_u16(), status, "{shown}");
        let error = &answer.body["error"];
        assert_eq!(error["code"], code, "{shown}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{shown}");
        assert!(error.get("field").is_some(), "{shown}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
    let wrong = ask(request("DELETE", "/metrics", admin), "").await;
    assert_eq!(wrong.headers["allow"], "GET, HEAD");
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
    for (method, path) in operations() {
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
