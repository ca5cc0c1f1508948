//! The service on PostgreSQL, also while the server crashes and recovers.

use serde_json::{Value, json};

use crate::harness::{Gateway, Mock, eventually, gateway, mock};
use crate::postgres::Postgres;

async fn on_postgres(server: &Postgres, mock: &Mock) -> Gateway {
    let store = json!({ "url": server.url("router"), "journal": "journal" });
    gateway()
        .provider("up", mock)
        .model("fast", "up", "mock-gpt")
        .set("/store", store)
        .run()
        .await
}

async fn chats(gateway: &Gateway, count: usize) {
    for _ in 0..count {
        assert_eq!(gateway.chat("fast", &[]).await.status, 200);
    }
}

/// Returns true if answers name exactly these dependencies as unavailable.
async fn says_degraded(gateway: &Gateway, away: Option<&str>) -> bool {
    let models = gateway.client.get(format!("{}/v1/models", gateway.url));
    let answer = models
        .bearer_auth(crate::harness::KEY)
        .send()
        .await
        .unwrap();
    let degraded = answer.headers().get("x-llm-router-degraded");
    degraded.map(|value| value.to_str().unwrap()) == away
}

/// Returns the sum over all time, or nothing while the store is unavailable.
async fn total(gateway: &Gateway) -> Option<Value> {
    let answer = gateway.admin("/api/v1/cost/current", None).await;
    assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
    (answer.status == 200).then(|| answer.json()["total"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_server_costs_no_request_and_no_entry() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    server.database("router");
    let mock = mock().await;
    let mut gateway = on_postgres(&server, &mock).await;
    chats(&gateway, 5).await;
    assert_eq!(total(&gateway).await.unwrap()["requests"], 5);

    server.stop();
    chats(&gateway, 5).await;
    eventually("answers say so", || says_degraded(&gateway, Some("store"))).await;
    assert_eq!(total(&gateway).await, None, "503 while it can't be known");
    server.run();
    eventually("answers no longer say so", || says_degraded(&gateway, None)).await;
    eventually("everything is in the store", || async {
        total(&gateway)
            .await
            .is_some_and(|total| total["requests"] == 10)
    })
    .await;
    // The toggle and the rules find their way back, too.
    let force = json!({ "value": false, "reason": "back", "force": true });
    eventually("the toggle can be changed", || async {
        gateway
            .toggle(crate::harness::KEY, force.clone())
            .await
            .status
            == 200
    })
    .await;

    // What a crash of the router left in the journal goes the same way.
    chats(&gateway, 3).await;
    gateway.kill_and_restart().await;
    let total = total(&gateway).await.unwrap();
    assert_eq!(total["requests"], 13);
    let usage = &mock.meter.totals().models["mock-gpt"].usage;
    assert_eq!(total["input_tokens"], usage.input);
    assert_eq!(total["output_tokens"], usage.output);
    assert_eq!(
        gateway.status().await["enabled"],
        false,
        "kept in the store"
    );
    let verified = gateway.command(&["ledger", "verify"]);
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn a_server_that_is_not_there_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let address = crate::harness::free_address();
    let config = json!({
        "server": { "listen": crate::harness::free_address().to_string() },
        "admin": { "listen": crate::harness::free_address().to_string() },
        "store": { "url": format!("postgresql://u:hunter2@{address}/router"), "journal": "journal" },
    });
    let file = folder.path().join("llm-router.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let ended = std::process::Command::new(crate::harness::binary())
        .args(["serve", "--config"])
        .arg(&file)
        .env("ADMIN_API_KEY", "sk-admin-0123456789abcdef")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(
        told.contains(&format!(
            "the store can't be opened: PostgreSQL at {address}, database router"
        )),
        "{told}"
    );
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_nobody_knows_is_refused_at_once_and_the_store_is_named() {
    let Some(server) = Postgres::start() else {
        return;
    };
    server.database("router");
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .model("fast", "up", "mock-gpt")
        .file("prices.yaml", crate::ledger::PRICES)
        .set("/prices", "prices.yaml".into())
        .set(
            "/store",
            json!({ "url": server.url("router"), "journal": "journal" }),
        )
        .add(
            "keys",
            json!({ "name": "poor", "key": "sk-of-poor-0123456789",
                "budget": { "usd": 1, "period": "day" } }),
        )
        .run()
        .await;
    server.pause();
    let poor = [("authorization", "Bearer sk-of-poor-0123456789")];
    let body = json!({
        "model": "fast", "max_tokens": 50, "messages": [{ "role": "user", "content": "Hello" }],
    });
    let ask = || gateway.send("POST", "/v1/chat/completions", &poor, body.to_string());
    // Once the outage is known, nobody waits for a timeout.
    eventually("it is refused at once", || async {
        let asked = std::time::Instant::now();
        let refused = ask().await;
        let at_once = asked.elapsed() < std::time::Duration::from_millis(300);
        assert_eq!(
            (refused.status, refused.code()),
            (503, "ledger_unavailable".into())
        );
        let named = refused.header("x-llm-router-degraded").unwrap_or_default();
        assert!(named.contains("store"), "{named}");
        at_once
    })
    .await;
    // Keys without a budget aren't concerned.
    chats(&gateway, 3).await;
    server.resume();
    eventually("it is known again", || async { ask().await.status == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_installation_has_a_schema_of_its_own_and_an_old_one_stays() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let mock = mock().await;
    let tables = |database: &str, schema: &str| {
        let sql = format!(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = '{schema}'"
        );
        server.ask(database, &sql).trim().to_owned()
    };
    server.database("router");
    let mut gateway = on_postgres(&server, &mock).await;
    chats(&gateway, 2).await;
    assert_eq!(total(&gateway).await.unwrap()["requests"], 2);
    assert_eq!(tables("router", "public"), "0");
    assert_ne!(tables("router", "llm_router"), "0");
    gateway.kill_and_restart().await;
    assert_eq!(total(&gateway).await.unwrap()["requests"], 2);
    assert!(gateway.command(&["ledger", "verify"]).status.success());

    // One of a version before schemas.
    let old = server.database("old");
    let store = llm_router_store::PostgresStore::new(&old).unwrap();
    store.migrate().await.unwrap();
    let before = tables("old", "public");
    let stays = gateway_in(&server, "old", &mock, json!({})).await;
    chats(&stays, 1).await;
    assert_eq!(total(&stays).await.unwrap()["requests"], 1);
    assert_eq!(
        (tables("old", "public"), tables("old", "llm_router")),
        (before, "0".to_owned())
    );

    server.database("named");
    let named = gateway_in(&server, "named", &mock, json!({ "schema": "team_a" })).await;
    chats(&named, 1).await;
    assert_ne!(tables("named", "team_a"), "0");
}

async fn gateway_in(server: &Postgres, database: &str, mock: &Mock, more: Value) -> Gateway {
    let mut store = json!({ "url": server.url(database), "journal": "journal" });
    let more = more.as_object().unwrap().clone();
    store.as_object_mut().unwrap().extend(more);
    gateway()
        .provider("up", mock)
        .model("fast", "up", "mock-gpt")
        .set("/store", store)
        .run()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_what_postgres_said_and_where() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let address = server.database("router");
    let fails = |url: &str| {
        let store = json!({ "url": url, "journal": "journal" });
        gateway().set("/store", store).fails_to_start()
    };
    // An account that may neither make a schema nor a table.
    server.sql("router", "CREATE ROLE poor LOGIN PASSWORD 'secret-of-poor'");
    server.sql("router", "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let poor = address.replace("postgres@", "poor:secret-of-poor@");
    for (url, said) in [
        (poor.as_str(), "permission denied for schema public"),
        (
            &address.replace("/router", "/nowhere"),
            "database \"nowhere\" does not exist",
        ),
    ] {
        let log = fails(url);
        let database = url.rsplit('/').next().unwrap();
        assert!(log.contains(said), "{log}");
        assert!(log.contains(&format!("database {database}")), "{log}");
        assert!(log.contains("PostgreSQL at "), "{log}");
        assert!(!log.contains("secret-of-poor"), "{log}");
    }
}
