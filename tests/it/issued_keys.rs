//! Keys of the store, created from the shell and by API: shown once, active and revoked on every
//! replica within a second.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Gateway, GatewayBuilder, KEY, Mock, eventually, gateway, mock};
use crate::toggle::SharedStore;

pub(crate) const SALT: &str = "salt-of-the-tests-0123456789abcdef";

fn replica(mock: &Mock, folder: &TempDir) -> GatewayBuilder {
    let store = format!("sqlite:{}", folder.path().join("keys.db").display());
    gateway()
        .environment("API_KEY_SALT", SALT)
        .provider("up", mock)
        .model("fast", "up", "mock-gpt")
        .set("/store", json!({ "url": store, "journal": "journal" }))
}

async fn status_with(gateway: &Gateway, key: &str) -> u16 {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str())];
    gateway.chat("fast", &headers).await.status
}

#[tokio::test]
async fn keys_are_made_and_ended_from_the_shell() {
    let (mock, folder) = (mock().await, TempDir::new().unwrap());
    let one = replica(&mock, &folder).run().await;
    let two = replica(&mock, &folder).run().await;
    let made = one.command(&[
        "keys",
        "create",
        "--name",
        "shell",
        "--rpm",
        "600",
        "--models",
        "fast,other",
    ]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let key = String::from_utf8(made.stdout).unwrap();
    let key = key.trim();
    for gateway in [&one, &two] {
        eventually("it knows the key", || async {
            status_with(gateway, key).await == 200
        })
        .await;
        assert!(!gateway.log().contains(key));
    }
    let listed = one.command(&["keys", "list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("\tshell\t") && !listed.contains(key),
        "{listed}"
    );
    for (arguments, code) in [
        (&["keys", "create", "--name", "shell"][..], 2),
        (&["keys", "create", "--name", "client"], 2),
        (&["keys", "create", "--name", "b", "--rpm", "0"], 2),
        (&["keys", "revoke", "nobody"], 2),
        (&["keys", "revoke", "shell"], 0),
    ] {
        assert_eq!(
            one.command(arguments).status.code(),
            Some(code),
            "{arguments:?}"
        );
    }
    let revoked = Instant::now();
    eventually("the other refuses it", || async {
        status_with(&two, key).await == 401
    })
    .await;
    let took = revoked.elapsed();
    eprintln!("refused on the other replica {took:?} after it was revoked");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn without_a_salt_that_lasts_no_key_is_stored() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let refused = gateway.command(&["keys", "create", "--name", "ci"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("API_KEY_SALT"));
}

const KEYS: &str = "/api/v1/keys";

/// Of replicas that share a database.
async fn sharing(shared: &SharedStore, mock: &Mock) -> Gateway {
    gateway()
        .environment("API_KEY_SALT", SALT)
        .provider("up", mock)
        .model("fast", "up", "mock-gpt")
        .set(
            "/store",
            json!({ "url": shared.url(), "journal": "journal" }),
        )
        .run()
        .await
}

impl Gateway {
    pub(crate) async fn keys(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> (u16, Value) {
        let path = format!("{KEYS}{path}");
        let answer = self.administer(KEY, method, &path, headers, &body).await;
        let json = serde_json::from_slice(&answer.body).unwrap_or_default();
        (answer.status, json)
    }

    pub(crate) async fn accepts(&self, key: &str) -> bool {
        status_with(self, key).await == 200
    }

    /// Returns true if a client with many unknown keys is refused with a limit.
    pub(crate) async fn refuses(&self, key: &str) -> bool {
        matches!(status_with(self, key).await, 401 | 429)
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_live_on_two_replicas_with_sqlite() {
    keys_live_on_two_replicas(&SharedStore::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_live_on_two_replicas_with_postgres() {
    if let Some(shared) = SharedStore::postgres() {
        keys_live_on_two_replicas(&shared).await;
    }
}

async fn keys_live_on_two_replicas(shared: &SharedStore) {
    let mock = mock().await;
    let (a, b) = (sharing(shared, &mock).await, sharing(shared, &mock).await);
    let key = a_key_is_shown_once(&a, &b).await;
    a_key_is_edited_by_one_at_a_time(&a, &b, &key).await;
    a_rotated_key_works_on_for_a_while(&a, &b, &key).await;
    keys_are_listed_in_pages(&a, &b).await;
    a_key_ends_everywhere(&a, &b).await;
    let audit = a.admin("/api/v1/audit?kind=key&limit=100", None).await;
    let actions: Vec<_> = audit.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| text(item, "action").to_owned())
        .collect();
    for action in ["create", "replace", "rotate", "delete"] {
        assert!(actions.iter().any(|done| done == action), "{actions:?}");
    }
}

async fn a_key_is_shown_once(a: &Gateway, b: &Gateway) -> Value {
    let spec = json!({ "name": "made", "owner": "team-a", "limits": { "rpm": 6000 } });
    let again = [("idempotency-key", "one")];
    let (status, made) = a.keys("POST", "", &again, spec.clone()).await;
    assert_eq!(status, 201, "{made}");
    let key = text(&made, "key").to_owned();
    assert!(key.starts_with(text(&made, "prefix")));
    assert!(a.accepts(&key).await, "it works when it is answered");
    eventually("the other knows it", || b.accepts(&key)).await;
    // Done once, and the text isn't there a second time.
    let (status, replayed) = a.keys("POST", "", &again, spec.clone()).await;
    assert_eq!((status, &replayed["key"]), (201, &Value::Null));
    assert_eq!(replayed["id"], made["id"]);
    let path = format!("/{}", text(&made, "id"));
    let (_, shown) = b.keys("GET", &path, &[], Value::Null).await;
    assert!(shown.get("key").is_none(), "{shown}");
    assert_eq!(
        (&shown["owner"], &shown["role"], &shown["source"]),
        (&json!("team-a"), &json!("user"), &json!("api"))
    );
    assert!(shown["last_used_at"].is_string(), "{shown}");
    let (status, taken) = b.keys("POST", "", &[], spec).await;
    assert_eq!(
        (status, &taken["error"]["code"], &taken["error"]["field"]),
        (409, &json!("already_exists"), &json!("name"))
    );
    made
}

async fn a_key_is_edited_by_one_at_a_time(a: &Gateway, b: &Gateway, made: &Value) {
    let path = format!("/{}", text(made, "id"));
    let admin = |gateway: &Gateway| format!("{}{KEYS}{path}", gateway.admin_url);
    let answer = b.client.get(admin(b)).send().await.unwrap();
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    let mut spec: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    // What was read can be sent back.
    spec["enabled"] = json!(false);
    let seen = [("if-match", etag.as_str())];
    let (status, changed) = a.keys("PUT", &path, &seen, spec.clone()).await;
    assert_eq!((status, &changed["enabled"]), (200, &json!(false)));
    let (status, stale) = b.keys("PUT", &path, &seen, spec.clone()).await;
    assert_eq!(status, 412, "{stale}");
    let key = text(made, "key");
    assert!(a.refuses(key).await);
    eventually("the other refuses it", || b.refuses(key)).await;
    spec["enabled"] = json!(true);
    assert_eq!(b.keys("PUT", &path, &[], spec).await.0, 200);
    assert!(b.accepts(key).await, "its text stayed");
    for (method, body, status, field) in [
        (
            "PUT",
            json!({ "name": "made", "limits": { "rpm": 0 } }),
            400,
            json!("limits.rpm"),
        ),
        (
            "PUT",
            json!({ "name": "made", "key": "sk-mine" }),
            400,
            json!("key"),
        ),
        ("PUT", json!({ "name": "client" }), 409, json!("name")),
        (
            "PUT",
            json!({ "name": "bootstrap-admin" }),
            409,
            json!("name"),
        ),
    ] {
        let (found, answer) = a.keys(method, &path, &[], body.clone()).await;
        assert_eq!(
            (found, &answer["error"]["field"]),
            (status, &field),
            "{body}"
        );
    }
}

async fn a_rotated_key_works_on_for_a_while(a: &Gateway, b: &Gateway, made: &Value) {
    let path = format!("/{}/rotate", text(made, "id"));
    let old = text(made, "key");
    let (status, rotated) = a
        .keys("POST", &path, &[], json!({ "overlap_seconds": 600 }))
        .await;
    assert_eq!(status, 200, "{rotated}");
    let new = text(&rotated, "key").to_owned();
    assert!(rotated["previous_until"].is_string(), "{rotated}");
    eventually("the other knows the new text", || b.accepts(&new)).await;
    for (gateway, key) in [(a, old), (b, old), (a, &new)] {
        assert!(gateway.accepts(key).await);
    }
    let (status, last) = b
        .keys("POST", &path, &[], json!({ "overlap_seconds": 0 }))
        .await;
    assert_eq!((status, &last["previous_until"]), (200, &Value::Null));
    for key in [old, &new] {
        assert!(b.refuses(key).await);
        eventually("the other refuses earlier texts", || a.refuses(key)).await;
    }
    assert!(a.accepts(text(&last, "key")).await);
    let (status, far) = a
        .keys("POST", &path, &[], json!({ "overlap_seconds": 2_592_001 }))
        .await;
    assert_eq!(
        (status, &far["error"]["field"]),
        (400, &json!("overlap_seconds"))
    );
}

async fn keys_are_listed_in_pages(a: &Gateway, b: &Gateway) {
    for number in 0..5 {
        let spec = json!({ "name": format!("page-{number}") });
        assert_eq!(a.keys("POST", "", &[], spec).await.0, 201);
    }
    let mut names = Vec::new();
    let mut path = "?limit=2".to_owned();
    loop {
        let (_, page) = b.keys("GET", &path, &[], Value::Null).await;
        let items = page["items"].as_array().unwrap();
        names.extend(items.iter().map(|key| text(key, "name").to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => path = format!("?limit=2&cursor={next}"),
            None => break,
        }
    }
    let pages = (0..5).map(|number| format!("page-{number}"));
    let all: Vec<_> = ["client".to_owned(), "made".to_owned()]
        .into_iter()
        .chain(pages)
        .collect();
    assert_eq!(names, all);
    let (_, one) = b.keys("GET", "?name=page-3", &[], Value::Null).await;
    assert_eq!(one["items"][0]["name"], "page-3", "{one}");
    let (_, none) = b.keys("GET", "?name=nobody", &[], Value::Null).await;
    assert_eq!(none["items"], json!([]));
    for method in ["PUT", "DELETE"] {
        let body = if method == "PUT" {
            json!({ "name": "client" })
        } else {
            Value::Null
        };
        let (status, answer) = a.keys(method, "/client", &[], body).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (409, &json!("read_only"))
        );
    }
    assert_eq!(a.keys("GET", "/nobody", &[], Value::Null).await.0, 404);
}

async fn a_key_ends_everywhere(a: &Gateway, b: &Gateway) {
    let (_, made) = a.keys("POST", "", &[], json!({ "name": "short" })).await;
    let (key, path) = (text(&made, "key"), format!("/{}", text(&made, "id")));
    eventually("the other knows it", || b.accepts(key)).await;
    assert_eq!(a.keys("DELETE", &path, &[], Value::Null).await.0, 204);
    assert!(a.refuses(key).await);
    eventually("the other refuses it", || b.refuses(key)).await;
    assert_eq!(a.keys("DELETE", &path, &[], Value::Null).await.0, 404);
}

#[tokio::test]
async fn without_a_salt_no_key_is_made_by_api() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let (status, answer) = gateway.keys("POST", "", &[], json!({ "name": "ci" })).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("not_configured"))
    );
    assert!(answer.to_string().contains("API_KEY_SALT"), "{answer}");
}

#[tokio::test]
async fn migrate_prints_a_first_admin_key_once() {
    let up = mock().await;
    let folder = TempDir::new().unwrap();
    let key = json!([{ "name": "client", "key": "${CLIENT_KEY}", "role": "admin" }]);
    let user = json!([{ "name": "client", "key": "${CLIENT_KEY}", "role": "user" }]);
    let configured = replica(&up, &folder).run().await;
    let told = |gateway: &Gateway| {
        let output = gateway.command(&["migrate"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    const FIRST: &str = "The first admin key, shown this once: ";
    // The file has an admin key.
    assert!(!told(&configured).contains("admin key"));
    assert_eq!(configured.config["keys"], key);
    let unsalted = replica(&up, &folder)
        .environment("API_KEY_SALT", "")
        .set("/keys", user.clone());
    assert!(told(&unsalted.run().await).contains("API_KEY_SALT"));
    let gateway = replica(&up, &folder).set("/keys", user).run().await;
    let first = told(&gateway);
    let (_, key) = first
        .trim()
        .split_once(FIRST)
        .unwrap_or_else(|| panic!("{first}"));
    for _ in 0..2 {
        assert!(!told(&gateway).contains(FIRST));
    }
    let bearer = format!("Bearer {key}");
    eventually("the key works", || async {
        gateway.admin("/api/v1/config", Some(&bearer)).await.status == 200
    })
    .await;
    assert!(!gateway.log().contains(key));
    let stored = std::fs::read(folder.path().join("keys.db")).unwrap();
    assert!(
        !stored
            .windows(key.len())
            .any(|window| window == key.as_bytes())
    );
    // Revoked for good: nobody gets another one by migrating.
    assert!(
        gateway
            .command(&["keys", "revoke", "first-admin"])
            .status
            .success()
    );
    assert!(!told(&gateway).contains(FIRST));
}

#[tokio::test]
async fn a_key_of_the_file_cannot_take_the_name_of_one_made_by_api() {
    let (mock, folder) = (mock().await, TempDir::new().unwrap());
    let gateway = replica(&mock, &folder).run().await;
    let (status, _) = gateway
        .keys("POST", "", &[], json!({ "name": "made" }))
        .await;
    assert_eq!(status, 201);
    let mut config = gateway.config.clone();
    let taken = json!({ "name": "made", "key": "sk-of-the-file-0123456789" });
    config["keys"].as_array_mut().unwrap().push(taken);
    std::fs::write(gateway.config_file(), config.to_string()).unwrap();
    gateway.signal("HUP");
    eventually("it is refused", || async {
        let running = gateway.admin("/api/v1/config", None).await.json();
        let error = &running["refused"]["errors"][0];
        let says = error["message"].as_str().unwrap_or_default();
        error["field"] == "keys[1].name" && says.contains("made by API")
    })
    .await;
    assert!(!gateway.accepts("sk-of-the-file-0123456789").await);
}
