//! Keys of the store, made from the shell: shown once, in force and ended on every replica within a
//! second.

use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Builder, Gateway, Mock, eventually, gateway, mock};

const SALT: &str = "salt-of-the-tests-0123456789abcdef";

fn replica(mock: &Mock, folder: &TempDir) -> Builder {
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
