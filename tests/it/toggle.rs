//! The routing toggle over the admin API, on two replicas that share a store: a SQLite file, and a
//! PostgreSQL server that the test starts.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Answer, Gateway, KEY, Mock, eventually, gateway, mock};
use crate::postgres::Postgres;

pub(crate) const OPERATOR: &str = "sk-operator-key-0123456789";
pub(crate) const VIEWER: &str = "sk-viewer-key-0123456789";
pub(crate) const USER: &str = "sk-user-key-0123456789";

/// A database that replicas share.
pub(crate) enum SharedStore {
    Sqlite(TempDir),
    Postgres(Postgres),
}

impl SharedStore {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(TempDir::new().unwrap())
    }

    /// None where no PostgreSQL is installed.
    pub(crate) fn postgres() -> Option<Self> {
        let server = Postgres::start()?;
        server.database("router");
        Some(Self::Postgres(server))
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite:{}", folder.path().join("it.db").display()),
            Self::Postgres(server) => server.url("router"),
        }
    }

    /// A replica with the models `fast` and `strong`, a key of each role, and no rule.
    pub(crate) async fn replica(&self, mock: &Mock, routing: Value) -> Gateway {
        let key = |name: &str, key: &str| json!({ "name": name, "key": key, "role": name });
        gateway()
            .provider("up", mock)
            .model("fast", "up", "mock-fast")
            .model("strong", "up", "mock-strong")
            .add("keys", key("operator", OPERATOR))
            .add("keys", key("viewer", VIEWER))
            .add("keys", key("user", USER))
            .set("/store", json!({ "url": self.url(), "journal": "journal" }))
            .set("/routing", routing)
            .run()
            .await
    }
}

/// Short times, and a rule that sends everything to `strong`.
fn short() -> Value {
    let rule = json!({ "name": "all", "when": {}, "then": { "use_model": "strong" } });
    json!({ "toggle": { "delay": "1200ms", "cooldown": "4s" }, "rules": [rule] })
}

impl Gateway {
    pub(crate) async fn toggle(&self, key: &str, body: Value) -> Answer {
        self.administer(key, "POST", "/api/v1/router/toggle", &[], &body)
            .await
    }

    pub(crate) async fn status(&self) -> Value {
        let answer = self.admin("/api/v1/router/status", None).await;
        assert_eq!(answer.status, 200);
        answer.json()
    }

    async fn history(&self) -> Vec<Value> {
        let answer = self.admin("/api/v1/router/history", None).await;
        answer.json()["items"].as_array().unwrap().clone()
    }
}

fn flip(value: bool, reason: &str) -> Value {
    json!({ "value": value, "reason": reason })
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

fn now() -> Timestamp {
    Timestamp::now()
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_on_two_replicas_with_sqlite() {
    lives_on_two_replicas(&SharedStore::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_on_two_replicas_with_postgres() {
    if let Some(shared) = SharedStore::postgres() {
        lives_on_two_replicas(&shared).await;
    }
}

async fn lives_on_two_replicas(shared: &SharedStore) {
    let mock = mock().await;
    let a = shared.replica(&mock, short()).await;
    let mut b = shared.replica(&mock, short()).await;
    a_flip_waits_and_is_cancelled(&a, &b).await;
    a_flip_takes_effect_at_its_instant(&a, &b).await;
    a_cooldown_refuses_until_forced(&a, &b).await;
    a_pending_flip_survives_a_crash(&a, &mut b).await;
    the_history_is_complete(&a, &b).await;
}

async fn a_flip_waits_and_is_cancelled(a: &Gateway, b: &Gateway) {
    let before = a.status().await;
    assert_eq!(
        (&before["enabled"], &before["pending"]),
        (&json!(true), &Value::Null)
    );
    let answer = a.toggle(OPERATOR, flip(false, "drill")).await;
    assert_eq!(answer.status, 202);
    let pending = &answer.json()["pending"];
    assert_eq!(pending["actor"], "operator");
    let wait = time(&pending["effective_at"]).duration_since(time(&pending["requested_at"]));
    assert_eq!(wait.as_millis(), 1_200);
    let left = pending["seconds_left"].as_f64().unwrap();
    assert!(left > 0.0 && left <= 1.2, "{left} s");
    // It shows on the other replica, and can be cancelled there.
    assert_eq!(b.status().await["pending"]["reason"], "drill");
    let cancel = |key| b.administer(key, "DELETE", "/api/v1/router/toggle", &[], &Value::Null);
    assert_eq!(cancel(VIEWER).await.status, 403);
    let cancelled = cancel(OPERATOR).await;
    assert_eq!(
        (cancelled.status, &cancelled.json()["pending"]),
        (200, &Value::Null)
    );
    let again = cancel(OPERATOR).await;
    assert_eq!(
        (again.status, again.code()),
        (409, "nothing_pending".to_owned())
    );
    let after = a.status().await;
    assert_eq!(
        (&after["pending"], &after["cooldown_until"]),
        (&Value::Null, &Value::Null),
        "cancelling starts no cooldown"
    );
}

/// In which the other replica follows: a poll, and what a busy machine adds.
const FOLLOWS: Duration = Duration::from_secs(3);

/// Requests in flight at the instant may be routed either way; those that began this much later may
/// not, nor those that were answered before.
const TOLERANCE: Duration = Duration::from_millis(100);

async fn a_flip_takes_effect_at_its_instant(a: &Gateway, b: &Gateway) {
    let answer = a.toggle(OPERATOR, flip(false, "flip")).await;
    assert_eq!(answer.status, 202);
    let instant = time(&answer.json()["pending"]["effective_at"]);
    let (seen_by_a, seen_by_b) = tokio::join!(watch(a, instant), watch(b, instant));
    for (replica, seen) in [("a", seen_by_a), ("b", seen_by_b)] {
        let before = seen.iter().filter(|one| one.ended < instant);
        let late = instant.checked_add(TOLERANCE).unwrap();
        let after = seen.iter().filter(|one| one.began > late);
        assert!(
            before.clone().count() > 0 && after.clone().count() > 0,
            "{replica}: {seen:?}"
        );
        assert!(
            before.clone().all(|one| one.enabled),
            "{replica} was early: {seen:?}"
        );
        assert!(
            after.clone().all(|one| !one.enabled),
            "{replica} was late: {seen:?}"
        );
    }
}

/// Route of a request, and its time.
#[derive(Debug)]
struct ToggleSample {
    began: Timestamp,
    ended: Timestamp,
    enabled: bool,
}

/// Sends requests, one after the other, until well after an instant.
async fn watch(gateway: &Gateway, instant: Timestamp) -> Vec<ToggleSample> {
    let end = instant.checked_add(3 * TOLERANCE).unwrap();
    let mut seen = Vec::new();
    while now() < end {
        let began = now();
        let enabled = gateway.follows_rules().await;
        let ended = now();
        seen.push(ToggleSample {
            began,
            ended,
            enabled,
        });
    }
    seen
}

async fn a_cooldown_refuses_until_forced(a: &Gateway, b: &Gateway) {
    // The first replica to notice writes it down.
    eventually("it is in the history", || async {
        b.history().await[0]["outcome"] == "applied"
    })
    .await;
    let status = b.status().await;
    let until = time(&status["cooldown_until"]);
    assert_eq!(
        until
            .duration_since(time(&status["changed_at"]))
            .as_millis(),
        4_000
    );
    let refused = b.toggle(OPERATOR, flip(true, "too soon")).await;
    assert_eq!(
        (refused.status, refused.code()),
        (409, "cooldown_active".to_owned())
    );
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait} s");
    let same = b.toggle(OPERATOR, flip(false, "it is so already")).await;
    assert_eq!(same.status, 200);

    let force = json!({ "value": true, "reason": "now", "force": true });
    let may_not = b.toggle(OPERATOR, force.clone()).await;
    assert_eq!(
        (may_not.status, may_not.code()),
        (403, "permission_denied".to_owned())
    );
    let forced = b.toggle(KEY, force).await;
    assert_eq!(
        (forced.status, &forced.json()["enabled"]),
        (200, &json!(true))
    );
    assert!(b.follows_rules().await, "at once");
    let told = Instant::now();
    eventually("the other replica follows", || async {
        a.follows_rules().await
    })
    .await;
    assert!(told.elapsed() < FOLLOWS, "{:?}", told.elapsed());
    a.shows("llm_router_routing_enabled", &[], 1.0).await;
}

async fn a_pending_flip_survives_a_crash(a: &Gateway, b: &mut Gateway) {
    eventually("the cooldown is over", || async {
        a.status().await["cooldown_until"].is_null()
    })
    .await;
    let flip = json!({ "value": false, "reason": "crash", "delay_seconds": 5.5 });
    let answer = b.toggle(OPERATOR, flip).await;
    let instant = time(&answer.json()["pending"]["effective_at"]);
    b.kill_and_restart().await;
    let status = b.status().await;
    assert_eq!(
        time(&status["pending"]["effective_at"]),
        instant,
        "{status}"
    );
    assert_eq!(status["enabled"], true);
    eventually("the instant comes", || async { !b.follows_rules().await }).await;
    assert!(now() >= instant);
    eventually("for both", || async { !a.follows_rules().await }).await;
}

async fn the_history_is_complete(a: &Gateway, b: &Gateway) {
    eventually("the last flip is shown as applied", || async {
        a.history().await[0]["outcome"] == "applied"
    })
    .await;
    let history = a.history().await;
    let told: Vec<_> = history
        .iter()
        .rev()
        .map(|item| {
            let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
            let took_effect = !item["effective_at"].is_null();
            (
                text("reason"),
                text("actor"),
                text("outcome"),
                took_effect,
                text("ended_by"),
            )
        })
        .collect();
    let expected = [
        ("drill", "operator", "cancelled", false, "operator"),
        ("flip", "operator", "applied", true, ""),
        ("too soon", "operator", "refused", false, ""),
        ("it is so already", "operator", "applied", true, ""),
        ("now", "client", "applied", true, ""),
        ("crash", "operator", "applied", true, ""),
    ]
    .map(|(reason, actor, outcome, took, by)| {
        let [reason, actor, outcome, by] = [reason, actor, outcome, by].map(str::to_owned);
        (reason, actor, outcome, took, by)
    });
    assert_eq!(told, expected);
    assert_eq!(history, b.history().await, "both tell the same");
    let page = a.admin("/api/v1/router/history?limit=4", None).await.json();
    let next = page["next_cursor"].as_str().unwrap();
    let rest = a
        .admin(&format!("/api/v1/router/history?cursor={next}"), None)
        .await
        .json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 2);
    assert_eq!(rest["next_cursor"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_that_are_no_good_are_refused() {
    let mock = mock().await;
    let routing = json!({ "enabled": false, "toggle": { "delay": "1h", "cooldown": "1h" } });
    let shared = SharedStore::sqlite();
    let gateway = shared.replica(&mock, routing).await;
    assert_eq!(
        gateway.status().await["enabled"],
        false,
        "as the file says at the first start"
    );
    for (key, body, status, field) in [
        (VIEWER, flip(true, "r"), 403, Value::Null),
        (USER, flip(true, "r"), 403, Value::Null),
        ("sk-nobody-0123456789", flip(true, "r"), 401, Value::Null),
        (OPERATOR, json!({ "reason": "r" }), 400, json!("value")),
        (
            OPERATOR,
            json!({ "value": "on", "reason": "r" }),
            400,
            json!("value"),
        ),
        (OPERATOR, json!({ "value": true }), 400, json!("reason")),
        (OPERATOR, flip(true, " "), 400, json!("reason")),
        (
            OPERATOR,
            json!({ "value": true, "reason": "r", "dealy_seconds": 1 }),
            400,
            json!("dealy_seconds"),
        ),
        (
            OPERATOR,
            json!({ "value": true, "reason": "r", "delay_seconds": -1 }),
            400,
            json!("delay_seconds"),
        ),
        (
            OPERATOR,
            json!({ "value": true, "reason": "r", "delay_seconds": 1e12 }),
            400,
            json!("delay_seconds"),
        ),
    ] {
        let answer = gateway.toggle(key, body.clone()).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["field"]),
            (status, &field),
            "{body}"
        );
    }
    for path in ["status", "history", "rules"] {
        let answer = gateway
            .administer(
                USER,
                "GET",
                &format!("/api/v1/router/{path}"),
                &[],
                &Value::Null,
            )
            .await;
        assert_eq!(answer.status, 403, "{path}");
    }
    assert_eq!(
        gateway.history().await,
        Vec::<Value>::new(),
        "none of it was a request"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_while_the_store_is_away() {
    let Some(shared) = SharedStore::postgres() else {
        return;
    };
    let mock = mock().await;
    let gateway = shared.replica(&mock, short()).await;
    let answer = gateway.toggle(OPERATOR, flip(false, "outage")).await;
    assert_eq!(answer.status, 202);
    let SharedStore::Postgres(server) = &shared else {
        return;
    };
    server.pause();
    eventually("the status says so", || async {
        !gateway.status().await["store_away_since"].is_null()
    })
    .await;
    // What was pending takes effect by this replica's own clock.
    eventually("the instant comes", || async {
        !gateway.follows_rules().await
    })
    .await;
    assert_eq!(gateway.chat("fast", &[]).await.status, 200);
    nothing_can_be_changed(&gateway).await;
    assert!(
        gateway
            .metric("llm_router_store_poll_failures_total", &[])
            .await
            > 0.0
    );
    server.resume();
    eventually("store available again", || async {
        gateway.status().await["store_away_since"].is_null()
    })
    .await;
    eventually("the effect is in the history", || async {
        gateway.history().await[0]["outcome"] == "applied"
    })
    .await;
    gateway.logs("store unavailable; the toggle").await;
    let log = gateway.log();
    assert_eq!(
        log.matches("store unavailable; the toggle").count(),
        1,
        "told once:\n{log}"
    );
}

async fn nothing_can_be_changed(gateway: &Gateway) {
    let rule = json!({ "name": "new", "then": { "use_model": "fast" } });
    for (method, path, body) in [
        ("POST", "toggle", flip(true, "not now")),
        ("DELETE", "toggle", Value::Null),
        ("GET", "history", Value::Null),
        ("POST", "rules", rule.clone()),
        ("PUT", "rules/x", rule),
        ("DELETE", "rules/x", Value::Null),
    ] {
        let asked = Instant::now();
        let path = format!("/api/v1/router/{path}");
        let answer = gateway.administer(KEY, method, &path, &[], &body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (503, "store_unavailable".to_owned()),
            "{method} {path}"
        );
        assert!(asked.elapsed() < Duration::from_secs(3), "{method} {path}");
    }
    let rules = gateway.admin("/api/v1/router/rules", None).await.json();
    assert_eq!(
        rules["items"][0]["name"], "all",
        "what is in force can be read"
    );
}

impl Gateway {
    /// Returns true if a request for `fast` is sent to `strong` by a rule.
    pub(crate) async fn follows_rules(&self) -> bool {
        let answer = self.chat("fast", &[]).await;
        assert_eq!(answer.status, 200);
        let model = answer.header("x-llm-router-model").unwrap();
        let rule = answer.header("x-llm-router-rule");
        assert_eq!(rule.is_some(), model == "mock-strong", "{rule:?}");
        model == "mock-strong"
    }
}
