//! Rules made by API: created on one replica, active on all; an invalid rule is refused with its
//! field, and one that breaks later is skipped and shown.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, eventually, mock};
use crate::toggle::{OPERATOR, SharedStore, VIEWER};

const RULES: &str = "/api/v1/router/rules";

/// A rule that sends everything to `strong`.
fn all_to_strong(name: &str) -> Value {
    json!({ "name": name, "when": {}, "then": { "use_model": "strong" } })
}

impl Gateway {
    async fn rule(&self, method: &str, id: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let path = if id.is_empty() {
            RULES.to_owned()
        } else {
            format!("{RULES}/{id}")
        };
        self.administer(OPERATOR, method, &path, headers, body)
            .await
    }

    async fn rule_names(&self) -> Vec<String> {
        let answer = self.admin(RULES, None).await;
        let items = answer.json()["items"].as_array().unwrap().clone();
        let name = |rule: &Value| rule["name"].as_str().unwrap().to_owned();
        items.iter().map(name).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_lives_on_two_replicas_with_sqlite() {
    a_rule_lives_on_two_replicas(&SharedStore::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_lives_on_two_replicas_with_postgres() {
    if let Some(shared) = SharedStore::postgres() {
        a_rule_lives_on_two_replicas(&shared).await;
    }
}

async fn a_rule_lives_on_two_replicas(shared: &SharedStore) {
    let mock = mock().await;
    let a = shared.replica(&mock, json!({})).await;
    let b = shared.replica(&mock, json!({})).await;
    assert!(!a.follows_rules().await && !b.follows_rules().await);

    let made = a.rule("POST", "", &[], &all_to_strong("one")).await;
    assert_eq!(made.status, 201, "{:?}", made.json());
    let made_at = Instant::now();
    let (rule, etag) = (made.json(), made.header("etag").unwrap().to_owned());
    let id = rule["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (
            &rule["source"],
            &rule["priority"],
            &rule["enabled"],
            &rule["broken"]
        ),
        (&json!("api"), &json!(0), &json!(true), &json!(false))
    );
    assert!(a.follows_rules().await, "in force when the answer was sent");
    eventually("the other replica follows it", || async {
        b.follows_rules().await
    })
    .await;
    assert!(
        made_at.elapsed() < Duration::from_secs(3),
        "{:?}",
        made_at.elapsed()
    );
    let read = b.rule("GET", &id, &[], &Value::Null).await;
    assert_eq!((read.status, read.header("etag")), (200, Some(&*etag)));
    assert_eq!(read.json(), rule);
    it_is_changed_and_deleted(&a, &b, &rule, &etag).await;
}

async fn it_is_changed_and_deleted(a: &Gateway, b: &Gateway, rule: &Value, etag: &str) {
    let id = rule["id"].as_str().unwrap().to_owned();
    // What was read can be sent back with a change; who saw an older version may not.
    let mut changed = rule.clone();
    changed["priority"] = json!(-5);
    let put = b.rule("PUT", &id, &[("if-match", etag)], &changed).await;
    assert_eq!((put.status, &put.json()["priority"]), (200, &json!(-5)));
    let stale = a.rule("PUT", &id, &[("if-match", etag)], &changed).await;
    assert_eq!((stale.status, stale.code()), (412, "stale_etag".to_owned()));
    let stale = a
        .rule("DELETE", &id, &[("if-match", etag)], &Value::Null)
        .await;
    assert_eq!(stale.status, 412);
    // An answer of one replica holds at once on another.
    assert_eq!(
        a.rule("GET", &id, &[], &Value::Null).await.json(),
        put.json()
    );
    let etag = put.header("etag").unwrap();
    let deleted = a
        .rule("DELETE", &id, &[("if-match", etag)], &Value::Null)
        .await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert!(!a.follows_rules().await, "gone when the answer was sent");
    eventually("the other replica knows", || async {
        !b.follows_rules().await
    })
    .await;
    assert_eq!(b.rule_names().await, [""; 0]);
    for method in ["GET", "PUT", "DELETE"] {
        let gone = b.rule(method, &id, &[], &changed).await;
        assert_eq!(
            (gone.status, gone.code()),
            (404, "not_found".to_owned()),
            "{method}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_are_no_good_are_refused() {
    let mock = mock().await;
    let routing = json!({ "rules": [
        { "name": "of the file", "priority": 7, "when": {}, "then": { "use_model": "fast" } },
    ] });
    let shared = SharedStore::sqlite();
    let gateway = shared.replica(&mock, routing).await;
    let of_file = "of%20the%20file";
    let shown = gateway.rule("GET", of_file, &[], &Value::Null).await;
    assert_eq!(
        (shown.status, &shown.json()["source"]),
        (200, &json!("file"))
    );
    assert_eq!(shown.header("etag"), None);
    for method in ["PUT", "DELETE"] {
        let refused = gateway
            .rule(method, of_file, &[], &all_to_strong("of the file"))
            .await;
        assert_eq!(
            (refused.status, refused.code()),
            (409, "read_only".to_owned()),
            "{method}"
        );
    }
    let with = |field: &str, value: Value| {
        let mut rule = all_to_strong("new");
        rule[field] = value;
        rule
    };
    for (rule, status, field) in [
        (all_to_strong("of the file"), 409, "name"),
        (json!({ "name": "new" }), 400, "then"),
        (with("name", json!("")), 400, "name"),
        (with("wehn", json!({})), 400, "wehn"),
        (with("when", json!({ "regex": "(" })), 400, "when.regex"),
        (
            with("when", json!({ "all": [{ "has": ["toolz"] }] })),
            400,
            "when.all[0].has[0]",
        ),
        (
            with("then", json!({ "use_model": "weak" })),
            400,
            "then.use_model",
        ),
        (with("then", json!({})), 400, "then"),
        (json!([]), 400, "."),
    ] {
        let answer = gateway.rule("POST", "", &[], &rule).await;
        let json = answer.json();
        assert_eq!(
            (answer.status, &json["error"]["field"]),
            (status, &json!(field)),
            "{json}"
        );
    }
    let may_not = gateway
        .administer(VIEWER, "POST", RULES, &[], &all_to_strong("new"))
        .await;
    assert_eq!(may_not.status, 403);
    for (name, priority) in [("last", 9), ("first", -1), ("second", 7)] {
        let mut rule = all_to_strong(name);
        rule["priority"] = json!(priority);
        rule["when"] = json!({ "key": "client" });
        assert_eq!(gateway.rule("POST", "", &[], &rule).await.status, 201);
    }
    let order = ["first", "of the file", "second", "last"];
    assert_eq!(gateway.rule_names().await, order, "as they are tried");
    let page = gateway
        .admin(&format!("{RULES}?limit=3"), None)
        .await
        .json();
    let next = page["next_cursor"].as_str().unwrap();
    let rest = gateway
        .admin(&format!("{RULES}?cursor={next}"), None)
        .await
        .json();
    assert_eq!(rest["items"][0]["name"], "last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_breaks_is_left_out_and_shown() {
    let mock = mock().await;
    let shared = SharedStore::sqlite();
    let mut gateway = shared.replica(&mock, json!({})).await;
    let made = gateway
        .rule("POST", "", &[], &all_to_strong("to strong"))
        .await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    // Its model leaves the file.
    let mut config = gateway.config.clone();
    config["models"]
        .as_array_mut()
        .unwrap()
        .retain(|model| model["name"] == "fast");
    fs::write(gateway.config_file(), config.to_string()).unwrap();
    eventually("the rule is broken", || async {
        gateway.metric("llm_router_rules_broken", &[]).await > 0.0
    })
    .await;
    let shown = gateway.rule("GET", &id, &[], &Value::Null).await.json();
    assert_eq!(shown["broken"], true);
    let problem = &shown["problems"][0];
    assert_eq!(
        (&problem["severity"], &problem["field"]),
        (&json!("error"), &json!("then.use_model"))
    );
    assert_eq!(gateway.chat("fast", &[]).await.status, 200);
    gateway.logs("a rule can't work and is left out").await;
    // Nor does it keep the router from starting.
    gateway.kill_and_restart().await;
    assert!(!gateway.follows_rules().await);
    gateway.shows("llm_router_rules_broken", &[], 1.0).await;
    // It works again once its model is back.
    fs::write(gateway.config_file(), gateway.config.to_string()).unwrap();
    eventually("the rule works", || async {
        gateway.metric("llm_router_rules_broken", &[]).await < 1.0
    })
    .await;
    assert!(gateway.follows_rules().await);
    assert_eq!(
        gateway.rule("GET", &id, &[], &Value::Null).await.json()["broken"],
        false
    );
}
