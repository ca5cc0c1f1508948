//! Replacing a running router: no connection is refused, no request fails, no stream is cut, no
//! money is lost; and a new process that fails does no harm.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::{
    Gateway, KEY, Mock, chat_body, eventually, exit_code, gateway, header_map, mock,
};
use crate::http2::{certificate, curl};
use crate::ledger::{cost, expected_cost, hundredths, priced_gateway};
use crate::streams::{comparable, direct};

const CHAT: &str = "/v1/chat/completions";

/// Short requests one after the other on kept connections and on new ones, until stopped. None is
/// sent twice.
struct UpgradeLoad {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    workers: Vec<JoinHandle<()>>,
}

impl UpgradeLoad {
    fn on(gateway: &Gateway) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients = (0..6).map(|worker| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            let (address, kept) = (gateway.address.to_string(), worker % 2 == 0);
            tokio::spawn(async move {
                let request = plain_request(CHAT, &chat_body("up/mock-gpt", false), kept);
                ask_on(&address, &request, kept, &stop, &done).await;
            })
        });
        let admin = gateway.admin_url.strip_prefix("http://").unwrap();
        let operators = (0..2).map(|worker| {
            let (stop, done) = (Arc::clone(&stop), Arc::<AtomicUsize>::default());
            let (address, kept) = (admin.to_owned(), worker == 0);
            tokio::spawn(async move {
                let request = plain_request("/api/v1/router/status", "", kept);
                ask_on(&address, &request, kept, &stop, &done).await;
            })
        });
        let workers = clients.chain(operators).collect();
        Self {
            stop,
            done,
            workers,
        }
    }

    /// Waits until this many further requests were answered.
    async fn goes_on(&self, more: usize) {
        let before = self.done.load(Relaxed);
        eventually("the load goes on", || async {
            self.done.load(Relaxed) >= before + more
        })
        .await;
    }

    /// Ends; how many requests were answered.
    async fn end(self) -> usize {
        self.stop.store(true, Relaxed);
        for worker in join_all(self.workers).await {
            worker.unwrap();
        }
        self.done.load(Relaxed)
    }
}

fn plain_request(path: &str, body: &str, kept: bool) -> String {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let connection = if kept { "keep-alive" } else { "close" };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: router\r\nauthorization: Bearer {KEY}\r\n\
         connection: {connection}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Asks until stopped, on one connection as long as its answers allow that.
async fn ask_on(address: &str, request: &str, kept: bool, stop: &AtomicBool, done: &AtomicUsize) {
    let mut connection = None;
    while !stop.load(Relaxed) {
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => TcpStream::connect(address).await.unwrap(),
        };
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_answer(&mut stream).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        done.fetch_add(1, Relaxed);
        if kept && !head.contains("\r\nconnection: close") {
            connection = Some(stream);
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Reads an answer whole and gives its head, in lower case.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let head = loop {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "{read:?}");
        let end = read.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    let length = text.split("content-length: ").nth(1);
    let length = length.unwrap_or_else(|| panic!("without a length: {text}"));
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    while read.len() < head + length {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "cut: {text}");
    }
    text
}

/// Begins streams of this many seconds; each must be what the mock sends.
async fn streams(gateway: &Gateway, count: usize, seconds: u64) -> JoinHandle<()> {
    // Its own, so that the other one's meter has only what went through the router.
    let mock = mock().await;
    let tokens = (seconds * 20).to_string();
    let body = chat_body("up/mock-gpt", true);
    let direct_body = chat_body("mock-gpt", true);
    let quick = [("x-mock-tokens", tokens.as_str())];
    let expected = direct(&mock.base_url(), CHAT, &direct_body, &quick).await;
    let expected = comparable(&expected);
    let headers = [
        ("x-mock-tokens", tokens.as_str()),
        ("x-mock-token-delay", "50ms"),
    ];
    let asked = (0..count).map(|_| gateway.start("POST", CHAT, &headers, body.clone()));
    let answers: Vec<_> = join_all(asked)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    tokio::spawn(async move {
        let read = answers.into_iter().map(|answer| async {
            assert_eq!(answer.status(), 200);
            let read: Vec<_> = answer.bytes_stream().collect().await;
            let chunks: Result<Vec<_>, _> = read.into_iter().collect();
            comparable(&chunks.unwrap().concat())
        });
        for text in join_all(read).await {
            assert_eq!(text, expected);
        }
    })
}

/// The books agree with what the mock counted of this many requests.
async fn books_agree(gateway: &Gateway, mock: &Mock, requests: usize) {
    eventually("everything is in the ledger", || async {
        cost(gateway, "current").await["total"]["requests"] == requests
    })
    .await;
    let total = cost(gateway, "current").await["total"].clone();
    assert_eq!(total["estimated_requests"], 0, "{total}");
    assert_eq!(
        hundredths(&total["cost_usd"]),
        expected_cost(mock, "mock-gpt")
    );
    let verified = gateway.command(&["ledger", "verify"]);
    let told = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(verified.status.code(), Some(0), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_refused_cut_or_lost_when_a_router_is_replaced_twice() {
    let mock = mock().await;
    let mut gateway = priced_gateway(&mock)
        .set("/providers/0/timeouts/total", "1m".into())
        .run()
        .await;
    let mut olds = Vec::new();
    let first = streams(&gateway, 20, 8).await;
    let second = streams(&gateway, 20, 3).await;
    let load = UpgradeLoad::on(&gateway);
    load.goes_on(50).await;
    olds.push(gateway.upgrade().await);
    let third = streams(&gateway, 20, 4).await;
    load.goes_on(50).await;
    olds.push(gateway.upgrade().await);
    load.goes_on(50).await;
    for streams in [first, second, third] {
        streams.await.unwrap();
    }
    for old in olds {
        assert_eq!(old.wait_for_exit().await, Some(0));
    }
    load.goes_on(50).await;
    let answered = load.end().await;
    books_agree(&gateway, &mock, answered + 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_speak_tls_go_on_too() {
    let folder = tempfile::TempDir::new().unwrap();
    let (cert, key) = certificate(folder.path());
    let mock = mock().await;
    let mut gateway = priced_gateway(&mock)
        .set("/server/tls", json!({ "cert": cert, "key": key }))
        .run()
        .await;
    let ask = |url: String, tokens: &'static str, version: &'static str| {
        let ca = cert.display().to_string();
        tokio::task::spawn_blocking(move || {
            let tokens = format!("x-mock-tokens: {tokens}");
            let body = chat_body("up/mock-gpt", true);
            let (outcome, text) = curl(&[
                version,
                "-N",
                "--cacert",
                &ca,
                "-H",
                &tokens,
                "-H",
                "x-mock-token-delay: 50ms",
                "-H",
                "content-type: application/json",
                "-d",
                &body,
                &url,
            ]);
            assert!(outcome.starts_with("200 "), "{outcome}: {text}");
            assert!(text.contains("data: [DONE]"), "{text}");
        })
    };
    let url = format!("https://localhost:{}{CHAT}", gateway.address.port());
    let versions = ["--http1.1", "--http2"];
    let long: Vec<_> = versions
        .map(|version| ask(url.clone(), "60", version))
        .into();
    eventually("the streams have begun", || async {
        mock.meter.open_streams() == 2
    })
    .await;
    let short = tokio::spawn({
        let ask = versions.map(|version| ask(url.clone(), "2", version));
        join_all(ask)
    });
    let old = gateway.upgrade().await;
    for asked in short.await.unwrap() {
        asked.unwrap();
    }
    for version in versions {
        ask(url.clone(), "2", version).await.unwrap();
    }
    for stream in long {
        stream.await.unwrap();
    }
    assert_eq!(old.wait_for_exit().await, Some(0));
    books_agree(&gateway, &mock, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_that_is_of_no_use_harms_nobody() {
    let mock = mock().await;
    let mut gateway = priced_gateway(&mock).run().await;
    let load = UpgradeLoad::on(&gateway);
    let socket = gateway.folder().join("data/journal/upgrade.sock");
    // One that can't begin.
    let broken = gateway.folder().join("broken.yaml");
    fs::write(&broken, "server: { lisen: 1 }").unwrap();
    let mut next = gateway.start_next(&broken);
    gateway.signal("QUIT");
    assert_eq!(exit_code(&mut next).await, Some(2));
    // One that takes the sockets and dies. The running router, which waits still, comes to it.
    let dies = tokio::net::UnixListener::bind(&socket).unwrap();
    let (mut came, _) = dies.accept().await.unwrap();
    let mut hello = [0; 64];
    assert!(came.read(&mut hello).await.unwrap() > 0);
    assert!(String::from_utf8_lossy(&hello).contains("\"protocol\":1"));
    drop((came, dies));
    fs::remove_file(&socket).unwrap();
    gateway.logs("failed to hand the sockets over").await;
    // One whose port is taken: it has the sockets, and can't use them.
    let mut other = gateway.config.clone();
    other["server"]["tls"] = json!({ "cert": broken, "key": broken });
    let unusable = gateway.folder().join("unusable.yaml");
    fs::write(&unusable, other.to_string()).unwrap();
    let mut next = gateway.start_next(&unusable);
    gateway.signal("QUIT");
    assert_eq!(exit_code(&mut next).await, Some(1));
    load.goes_on(50).await;
    assert!(!socket.exists());
    // And then one that works.
    let old = gateway.upgrade().await;
    load.goes_on(50).await;
    assert_eq!(old.wait_for_exit().await, Some(0));
    let answered = load.end().await;
    books_agree(&gateway, &mock, answered).await;
}

#[tokio::test]
async fn a_key_revoked_after_the_handover_is_void_in_both_processes() {
    let mock = mock().await;
    let mut gateway = gateway()
        .provider("up", &mock)
        .environment("API_KEY_SALT", "a-salt-of-more-than-enough-characters")
        .run()
        .await;
    let made = json!({ "name": "guest", "role": "user" });
    let made = gateway
        .administer(KEY, "POST", "/api/v1/keys", &[], &made)
        .await
        .json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    // Kept by the old process, which has a stream.
    let streams = streams(&gateway, 1, 4).await;
    let list = plain_request("/v1/models", "", true).replace(KEY, key);
    let mut kept = Vec::new();
    for _ in 0..20 {
        let mut connection = TcpStream::connect(gateway.address).await.unwrap();
        connection.write_all(list.as_bytes()).await.unwrap();
        let answer = read_answer(&mut connection).await;
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
        kept.push(connection);
    }
    let old = gateway.upgrade().await;
    let path = format!("/api/v1/keys/{id}");
    let gone = gateway
        .administer(KEY, "DELETE", &path, &[], &json!(null))
        .await;
    assert!((200..300).contains(&gone.status), "{gone:?}");
    // Each can be asked once more, and it follows the store every quarter of a second.
    let mut refused = false;
    for mut connection in kept {
        connection.write_all(list.as_bytes()).await.unwrap();
        let answer = read_answer(&mut connection).await;
        assert!(answer.contains("connection: close"), "{answer}");
        refused = answer.starts_with("http/1.1 401");
        if refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(refused, "the old process goes on taking the key");
    streams.await.unwrap();
    assert_eq!(old.wait_for_exit().await, Some(0));
}

#[tokio::test]
async fn what_is_not_done_in_the_time_of_an_upgrade_is_ended_and_told_of() {
    // By the time that the configuration gives, and by SIGTERM, which leaves the shorter one.
    for (longest, terminated) in [("2s", false), ("1m", true)] {
        let mock = mock().await;
        let mut gateway = priced_gateway(&mock)
            .set("/server/upgrade_drain_timeout", longest.into())
            .set("/server/drain_timeout", "2s".into())
            .run()
            .await;
        let headers = [("x-mock-token-delay", "50ms"), ("x-mock-tokens", "2000")];
        let body = chat_body("up/mock-gpt", true);
        let stream = gateway.start("POST", CHAT, &headers, body).await.unwrap();
        let old = gateway.upgrade().await;
        let begun = Instant::now();
        if terminated {
            old.terminate();
        }
        let text = stream.text().await.unwrap();
        assert!(text.contains("router_stopping"), "{text}");
        assert_eq!(old.wait_for_exit().await, Some(0));
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(gateway.chat("up/mock-gpt", &[]).await.status, 200);
        eventually("both are in the ledger", || async {
            cost(&gateway, "current").await["total"]["requests"] == 2
        })
        .await;
    }
}

#[tokio::test]
async fn a_router_without_a_ledger_is_replaced_as_well() {
    let mock = mock().await;
    let mut gateway = gateway()
        .provider("up", &mock)
        .set("/store", json!({ "ledger": false }))
        .run()
        .await;
    let begun = streams(&gateway, 2, 2).await;
    let old = gateway.upgrade().await;
    begun.await.unwrap();
    // On a connection of its own: the old process may be closing those that are kept alive.
    let answer = reqwest::Client::new()
        .post(format!("{}/v1/chat/completions", gateway.url))
        .bearer_auth(KEY)
        .body(chat_body("up/mock-gpt", false))
        .send();
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(old.wait_for_exit().await, Some(0));
}

#[tokio::test]
async fn without_a_running_router_there_is_nothing_to_take_over() {
    let mut gateway = gateway().run().await;
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_exit().await, Some(0));
    let mut next = gateway.start_next(&gateway.config_file());
    assert_eq!(exit_code(&mut next).await, Some(1));
    let log = gateway.log();
    assert!(log.contains("start without --upgrade"), "{log}");
}

#[tokio::test]
async fn a_router_replaces_itself_when_told_to() {
    let mock = mock().await;
    let mut gateway = priced_gateway(&mock).run().await;
    let begun = streams(&gateway, 3, 2).await;
    gateway.signal("USR2");
    gateway
        .logs("handed the sockets over to a new process")
        .await;
    begun.await.unwrap();
    assert_eq!(gateway.wait_for_exit().await, Some(0));
    assert_eq!(gateway.chat("up/mock-gpt", &[]).await.status, 200);
    books_agree(&gateway, &mock, 4).await;
    // It is nobody's child any more, so it is ended by its number, which is in the log.
    let log = gateway.log();
    let mut lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let started = |line: &Value| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("is started"))
    };
    let pid = lines.find(started).unwrap()["pid"].to_string();
    let sent = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    assert!(sent.unwrap().success());
    eventually("it has ended as well", || async {
        gateway.log().matches("\"drain finished\"").count() == 2
    })
    .await;
}

#[tokio::test]
async fn what_the_old_process_spends_counts_in_the_new_one() {
    let mock = mock().await;
    let mut gateway = priced_gateway(&mock)
        .add(
            "keys",
            json!({ "name": "poor", "key": "sk-of-poor-0123456789",
                "budget": { "usd": 0.0011, "period": "total" } }),
        )
        .run()
        .await;
    let url = format!("{}{CHAT}", gateway.url);
    let ask = |usage: &str, delay: &str| {
        let body = json!({ "model": "up/mock-gpt", "max_tokens": 100, "stream": true,
            "messages": [{ "role": "user", "content": "Hello" }] });
        reqwest::Client::new()
            .post(&url)
            .headers(header_map(&[
                ("x-mock-usage", usage),
                ("x-mock-tokens", "40"),
                ("x-mock-token-delay", delay),
            ]))
            .header("authorization", "Bearer sk-of-poor-0123456789")
            .body(body.to_string())
            .send()
    };
    // 0.0006 USD, and what a call holds at most is a little more than 0.0005.
    let stream = ask("input=100,output=100", "50ms").await.unwrap();
    assert_eq!(stream.status(), 200);
    let old = gateway.upgrade().await;
    let cheap = || async {
        let answer = ask("input=1,output=1", "0ms").await.unwrap();
        let status = answer.status().as_u16();
        // To its end: a client that leaves is billed by an estimate.
        answer.bytes().await.unwrap();
        status
    };
    // The new process knows nothing of the stream yet.
    assert_eq!(cheap().await, 200);
    stream.bytes().await.unwrap();
    assert_eq!(old.wait_for_exit().await, Some(0));
    // So few requests of six millionths of a dollar don't use it up.
    let mut asked = 0;
    while cheap().await == 200 {
        asked += 1;
        assert!(
            asked < 80,
            "the new process doesn't know what the stream cost"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_a_crash_of_the_old_process_left_open_is_billed_by_the_new_one() {
    let mock = mock().await;
    let mut gateway = priced_gateway(&mock).run().await;
    let headers = [("x-mock-tokens", "400"), ("x-mock-token-delay", "50ms")];
    let body = chat_body("up/mock-gpt", true);
    let stream = gateway.start("POST", CHAT, &headers, body).await.unwrap();
    let old = gateway.upgrade().await;
    assert_eq!(gateway.chat("up/mock-gpt", &[]).await.status, 200);
    old.kill();
    assert!(stream.bytes().await.is_err());
    eventually("both are in the ledger", || async {
        cost(&gateway, "current").await["total"]["requests"] == 2
    })
    .await;
    let total = cost(&gateway, "current").await["total"].clone();
    assert_eq!(total["estimated_requests"], 1, "{total}");
    let verified = gateway.command(&["ledger", "verify"]);
    assert_eq!(verified.status.code(), Some(0));
}
