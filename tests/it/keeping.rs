//! How the ledger is kept: for how long, and what happens when its disk is full.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Gateway, chat_body, eventually, mock};
use crate::ledger::{cost, hundredths, owed, priced};

#[tokio::test]
async fn entries_past_their_time_go_and_sums_stay() {
    let mock = mock().await;
    let gateway = priced(&mock)
        .set("/store", json!({ "retention": "2s" }))
        .run()
        .await;
    for _ in 0..3 {
        assert_eq!(gateway.chat("up/mock-gpt", &[]).await.status, 200);
    }
    let before = cost(&gateway, "current").await;
    assert_eq!(before["total"]["requests"], 3, "{before}");
    eventually("the entries are gone", || async {
        let listed = gateway.admin("/api/v1/requests", None).await.json();
        listed["items"].as_array().unwrap().is_empty()
    })
    .await;
    assert_eq!(cost(&gateway, "current").await, before);
    assert_eq!(
        hundredths(&before["total"]["cost_usd"]),
        owed(&mock, "mock-gpt")
    );
}

#[tokio::test]
async fn without_the_ledger_requests_pass_and_nothing_is_kept() {
    let mock = mock().await;
    let gateway = priced(&mock)
        .set("/store", json!({ "ledger": false }))
        .run()
        .await;
    let streamed = gateway.chat_stream("up/mock-gpt", &[]).await.body;
    let streamed = String::from_utf8(streamed).unwrap();
    assert!(streamed.ends_with("data: [DONE]\n\n"), "{streamed}");
    // What the provider was asked for on the client's behalf is taken out all the same.
    assert!(!streamed.contains("\"usage\""), "{streamed}");
    assert_eq!(gateway.chat("up/mock-gpt", &[]).await.status, 200);
    let total = cost(&gateway, "current").await["total"].clone();
    assert_eq!(total["requests"], 0, "{total}");
    let checked = gateway.command(&["check"]);
    let told = String::from_utf8(checked.stdout).unwrap();
    assert!(
        told.contains("store.ledger: warning: the ledger is off"),
        "{told}"
    );
    assert!(!gateway.folder().join("data/journal").exists());
}

#[tokio::test]
async fn a_model_without_a_price_is_warned_of_once() {
    let mock = mock().await;
    let gateway = priced(&mock)
        .provider_at("other", "custom", &mock.base_url())
        .model("free", "other", "homemade")
        .run()
        .await;
    for _ in 0..3 {
        assert_eq!(gateway.chat("free", &[]).await.status, 200);
    }
    let labels = ["provider=\"other\"", "deployment=\"homemade\""];
    gateway
        .shows("llm_router_unpriced_attempts_total", &labels, 3.0)
        .await;
    gateway.logs("a model has no price").await;
    let warned = gateway.log().matches("a model has no price").count();
    assert_eq!(warned, 1, "{}", gateway.log());
    let checked = gateway.command(&["check"]);
    let told = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{told}");
    assert!(
        told.contains("`other/homemade` of the model free has no price"),
        "{told}"
    );
}

/// A small disk, full but for what `free` removes.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// None where this process may not mount one.
    fn mount() -> Option<Self> {
        let folder = tempfile::TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]);
        let mounted = mount.arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { folder });
        }
        eprintln!("SKIPPED: a small disk can't be mounted here; run the tests as root");
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Fills the disk to its last byte.
    fn fill(&self) {
        // The error is what is wanted: no space left.
        let _ = std::fs::write(self.ballast(), vec![0; 1 << 20]);
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

async fn on_disk(disk: &SmallDisk, mock: &crate::harness::Mock, policy: &str) -> Gateway {
    let journal = disk.path().join("journal");
    let store = json!({ "journal": journal, "on_journal_failure": policy });
    priced(mock).set("/store", store).run().await
}

/// Asks until an answer has the status.
async fn until_status(gateway: &Gateway, status: u16) -> Value {
    for _ in 0..2_000 {
        let answer = gateway.chat("up/mock-gpt", &[]).await;
        if answer.status == status {
            return answer.json();
        }
    }
    panic!("no answer had status {status}");
}

/// The books are whole: as many requests as the mock billed, and nothing altered or missing.
async fn is_whole(mut gateway: Gateway, mock: &crate::harness::Mock) {
    let total = cost(&gateway, "current").await["total"].clone();
    assert_eq!(total["requests"], mock.meter.totals().requests, "{total}");
    assert_eq!(hundredths(&total["cost_usd"]), owed(mock, "mock-gpt"));
    let lost = gateway
        .metric("llm_router_ledger_lost_entries_total", &[])
        .await;
    assert_eq!(lost, 0.0);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await, Some(0));
    let verified = gateway.command(&["ledger", "verify"]);
    let printed = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(verified.status.code(), Some(0), "{printed}");
}

#[tokio::test]
async fn a_full_disk_refuses_until_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let mock = mock().await;
    let gateway = on_disk(&disk, &mock, "refuse").await;
    assert_eq!(gateway.chat("up/mock-gpt", &[]).await.status, 200);
    disk.fill();
    let refused = until_status(&gateway, 503).await;
    assert_eq!(refused["error"]["code"], "ledger_unavailable", "{refused}");
    eventually("the failure is counted", || async {
        gateway
            .metric("llm_router_journal_failures_total", &[])
            .await
            >= 1.0
    })
    .await;
    gateway.logs("failed to write to the journal").await;
    disk.free();
    until_status(&gateway, 200).await;
    gateway.logs("writing to the journal again").await;
    is_whole(gateway, &mock).await;
}

#[tokio::test]
async fn a_full_disk_stops_nobody_where_that_is_wanted() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let mock = mock().await;
    let gateway = on_disk(&disk, &mock, "continue").await;
    disk.fill();
    eventually("the journal fails", || async {
        let answer = gateway
            .send(
                "POST",
                "/v1/chat/completions",
                &[],
                chat_body("up/mock-gpt", true),
            )
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        gateway
            .metric("llm_router_journal_failures_total", &[])
            .await
            >= 10.0
    })
    .await;
    is_whole(gateway, &mock).await;
}
