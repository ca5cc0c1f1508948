//! Memory and time that clients of the admin paths can use, on both ports. No body is read before
//! its sender is authenticated and authorised.

use std::fs;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Gateway, GatewayBuilder, KEY, eventually, gateway};
use crate::http2::{certificate, curl};

/// A key of the lowest role.
const USER_KEY: &str = "sk-user-key-0123456789";

fn with_user() -> GatewayBuilder {
    gateway()
        .environment("USER_KEY", USER_KEY)
        .environment("API_KEY_SALT", "salt-0123456789abcdef0123456789")
        .add(
            "keys",
            json!({ "name": "user", "key": "${USER_KEY}", "role": "user" }),
        )
}

/// Both ports, by name.
fn ports(gateway: &Gateway) -> [(&'static str, SocketAddr); 2] {
    let admin = gateway.admin_url.strip_prefix("http://").unwrap();
    [
        ("clients' port", gateway.address),
        ("admin port", admin.parse().unwrap()),
    ]
}

/// One kind of path: what keys of the roles user and admin are answered there before their body is
/// read; `None` where it is read.
const PATHS: [(&str, &str, Option<u16>, Option<u16>); 11] = [
    ("POST", "/api/v1/keys", Some(403), None),
    ("PUT", "/api/v1/router/rules/x", Some(403), None),
    ("DELETE", "/api/v1/providers/x", Some(403), None),
    ("POST", "/api/v1/config/reload", Some(403), None),
    ("GET", "/api/v1/audit", Some(403), Some(200)),
    ("PATCH", "/api/v1/audit", Some(403), Some(405)),
    ("POST", "/api/v1/cost/current", Some(405), Some(405)),
    ("POST", "/api/v1/keys/x/y/z", Some(404), Some(404)),
    ("POST", "/docs/x", Some(405), Some(405)),
    ("POST", "/", Some(405), Some(405)),
    ("POST", "/api/v1/router/explain", Some(403), None),
];

/// A body that is never complete.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Incomplete {
    /// 31 MiB are announced, and half of one is sent.
    Huge,
    /// Some is sent, and then a byte at a time.
    Dripped,
}

impl Incomplete {
    fn framing(self) -> String {
        match self {
            Self::Huge => format!("content-length: {}", 31 << 20),
            Self::Dripped => "transfer-encoding: chunked".to_owned(),
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Huge => vec![b' '; 1 << 19],
            Self::Dripped => {
                let mut sent = b"8000\r\n".to_vec();
                sent.resize(sent.len() + 0x8000, b' ');
                for _ in 0..100 {
                    sent.extend_from_slice(b"\r\n1\r\n ");
                }
                sent
            }
        }
    }
}

/// Connections at once, and the memory in KiB that each may make the process hold.
const CONNECTIONS: u64 = 32;
const MOST_HELD: u64 = 200;

#[tokio::test]
async fn nobody_makes_the_process_hold_bodies() {
    let gateway = with_user().run().await;
    // What the first connections of a process allocate stays for those that follow.
    for (_, address) in ports(&gateway) {
        for body in [Incomplete::Huge, Incomplete::Dripped] {
            let request = head("GET", "/healthz", "", &body.framing());
            hold(&gateway, address, &request, body, &[200]).await;
        }
    }
    for (port, address) in ports(&gateway) {
        for (method, path, as_user, as_admin) in PATHS {
            for (key, answered) in [
                ("", Some(401)),
                ("sk-unknown-0123456789", Some(401)),
                (USER_KEY, as_user),
                (KEY, as_admin),
            ] {
                for body in [Incomplete::Huge, Incomplete::Dripped] {
                    let announced = body == Incomplete::Huge && path != "/api/v1/router/explain";
                    let answered = answered.or(announced.then_some(413));
                    if answered.is_none() && body == Incomplete::Huge {
                        continue;
                    }
                    let request = head(method, path, key, &body.framing());
                    let unknown = [401, 429];
                    let answered = match &answered {
                        // The first ones of an address are told so, others to wait.
                        Some(401) if !key.is_empty() => &unknown[..],
                        answered => answered.as_slice(),
                    };
                    let mut held = hold(&gateway, address, &request, body, answered).await;
                    if held > MOST_HELD {
                        // What the process allocated once, for itself, isn't allocated again.
                        held = hold(&gateway, address, &request, body, answered).await;
                    }
                    let cell = format!("{port}, {method} {path}, {key:?}, {body:?}");
                    assert!(held <= MOST_HELD, "{cell}: {held} KiB a connection");
                }
            }
        }
    }
}

/// Sends incomplete requests, and gives the KiB that each of them made the process hold at most.
async fn hold(
    gateway: &Gateway,
    address: SocketAddr,
    head: &str,
    body: Incomplete,
    answered: &[u16],
) -> u64 {
    let before = memory(gateway);
    let mut most = before;
    let sending = (0..CONNECTIONS).map(|_| send_incomplete(address, head, body, answered));
    let mut sending = pin!(futures::future::join_all(sending));
    let _open = loop {
        tokio::select! {
            open = &mut sending => break open,
            () = tokio::time::sleep(Duration::from_millis(5)) => most = most.max(memory(gateway)),
        }
    };
    // What came before these requests has been read when they are answered.
    for (_, address) in ports(gateway) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = self::head("GET", "/healthz", "", "connection: close");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        most = most.max(memory(gateway));
    }
    (most - before) / CONNECTIONS
}

async fn send_incomplete(
    address: SocketAddr,
    head: &str,
    body: Incomplete,
    answered: &[u16],
) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let sending = async {
        // Who was refused may be cut off.
        let _ = write.write_all(&body.into_bytes()).await;
    };
    let reading = async {
        if !answered.is_empty() {
            let line = first_line(&mut read).await;
            let expected = |status: &u16| line == format!("HTTP/1.1 {status}");
            assert!(answered.iter().any(expected), "{line} to {head}");
        }
    };
    tokio::join!(sending, reading);
    stream
}

/// A request's head.
fn head(method: &str, path: &str, key: &str, header: &str) -> String {
    let key = match key {
        "" => String::new(),
        key => format!("authorization: Bearer {key}\r\n"),
    };
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{key}{header}\r\n\r\n")
}

/// The memory that the process has allocated, in KiB.
fn memory(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kibibytes = line.unwrap().split_whitespace().nth(1);
    kibibytes.unwrap().parse().unwrap()
}

/// Bodies of `explain` may be large: one is held at a time, of all that are sent at once.
#[tokio::test]
async fn one_large_body_is_held_at_a_time() {
    let gateway = with_user().run().await;
    for (port, address) in ports(&gateway) {
        let framing = format!("content-length: {}\r\nexpect: 100-continue", 31 << 20);
        let head = head("POST", "/api/v1/router/explain", KEY, &framing);
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(first_line(&mut first).await, "HTTP/1.1 100", "{port}");
        let mut other = TcpStream::connect(address).await.unwrap();
        other.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(first_line(&mut other).await, "HTTP/1.1 503", "{port}");
        drop(first);
        eventually("the place is free again", || async {
            let body = r#"{"model": "x", "messages": []}"#.to_owned() + &" ".repeat(2 << 20);
            let url = format!("http://{address}/api/v1/router/explain");
            let answer = gateway.client.post(url).body(body).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }
}

/// The first line of an answer, as far as its status.
async fn first_line(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.unwrap();
    String::from_utf8_lossy(&line).into_owned()
}

/// Answers `100 Continue` only after the client is authenticated.
#[tokio::test]
async fn a_body_is_asked_for_once_it_may_come() {
    let gateway = with_user().run().await;
    for (port, address) in ports(&gateway) {
        let body = format!(r#"{{"name": "made on the {port}", "role": "user"}}"#);
        let framing = format!("content-length: {}\r\nexpect: 100-continue", body.len());
        for (key, expected) in [("", 401), ("sk-unknown-0123456789", 401), (USER_KEY, 403)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = head("POST", "/api/v1/keys", key, &framing);
            stream.write_all(head.as_bytes()).await.unwrap();
            // It doesn't send its body, and what it sends next is no body either.
            let answer = to_end(&mut stream, Duration::from_secs(5)).await;
            let start = format!("HTTP/1.1 {expected} ");
            assert!(answer.starts_with(&start), "{port}, {key:?}: {answer}");
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = head("POST", "/api/v1/keys", KEY, &framing);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut told = [0; 25];
        stream.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n", "{port}");
        stream.write_all(body.as_bytes()).await.unwrap();
        assert_eq!(first_line(&mut stream).await, "HTTP/1.1 201", "{port}");
    }
}

/// The same over HTTP/2, of which a connection carries many at a time.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_looked_at_before_their_bodies() {
    let folder = TempDir::new().unwrap();
    let (cert, key) = certificate(folder.path());
    let (ca, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let gateway = with_user()
        .set("/server/tls", json!({ "cert": ca, "key": key }))
        .run()
        .await;
    let url = format!("https://localhost:{}/api/v1/keys", gateway.address.port());
    let (small, large) = (folder.path().join("small"), folder.path().join("large"));
    fs::write(&small, r#"{"name": "made", "role": "user"}"#).unwrap();
    fs::write(&large, " ".repeat(5 << 20)).unwrap();
    for (body, header, expected) in [
        (&small, "accept: */*", "201 2"),
        (&large, "accept: */*", "413 2"),
        // Two keys are none.
        (&large, "api-key: sk-unknown-0123456789", "401 2"),
        (&small, "api-key: sk-unknown-0123456789", "401 2"),
    ] {
        let body = format!("@{}", body.display());
        let (outcome, answer) = curl(&[
            "--cacert",
            ca,
            "-H",
            "content-type: application/json",
            "-H",
            header,
            "--data-binary",
            &body,
            &url,
        ]);
        assert_eq!(outcome, expected, "{header}, {body}: {answer}");
    }
}

/// Unknown keys are counted by address, whatever the port and the path.
#[tokio::test]
async fn whoever_tries_keys_is_slowed_down() {
    let gateway = with_user().run().await;
    let mut statuses = Vec::new();
    for (_, address) in ports(&gateway) {
        for path in ["/api/v1/keys", "/metrics", "/v1/models"] {
            for _ in 0..20 {
                let request = head("POST", path, "sk-unknown-0123456789", "connection: close");
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                statuses.push(first_line(&mut stream).await);
            }
        }
    }
    let count = |status: &str| {
        statuses
            .iter()
            .filter(|line| line.ends_with(status))
            .count()
    };
    // 20 at once, and then 200 a minute.
    assert!((20..60).contains(&count("401")), "{statuses:?}");
    assert_eq!(count("401") + count("429"), 120, "{statuses:?}");
    // A key that works is let in from there.
    assert_eq!(gateway.admin("/api/v1/me", None).await.status, 200);
}

/// Reads to the end of a connection, which must come in time.
async fn to_end(stream: &mut TcpStream, within: Duration) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(within, stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(read.is_ok(), "the connection is still open: {answer}");
    answer
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let gateway = with_user()
        .set("/server/body_timeout", "1s".into())
        .run()
        .await;
    for (port, address) in ports(&gateway) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = head("POST", "/api/v1/keys", KEY, "content-length: 100");
        stream.write_all(head.as_bytes()).await.unwrap();
        let begun = Instant::now();
        // Its client goes on, but not at any pace.
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        let dripping = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if write.write_all(b" ").await.is_err() {
                    break std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            _ = read.read_to_end(&mut answer) => {}
            () = dripping => {}
            () = tokio::time::sleep(Duration::from_secs(8)) => panic!("{port}: it is still open"),
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{port}: {answer}");
        assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
        assert!(begun.elapsed() >= Duration::from_secs(1), "{port}");
    }
}

#[tokio::test]
async fn a_head_has_its_time_on_both_ports() {
    let gateway = gateway()
        .set("/server/header_timeout", "1s".into())
        .run()
        .await;
    for (port, address) in ports(&gateway) {
        for sent in ["", "GET /healthz HTTP/1.1\r\nhost: x\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let begun = Instant::now();
            let answer = to_end(&mut stream, Duration::from_secs(5)).await;
            assert_eq!(answer, "", "{port}");
            assert!(begun.elapsed() > Duration::from_millis(500), "{port}");
        }
    }
}

/// Whoever holds connections of the admin port keeps neither operators nor clients out.
#[tokio::test]
async fn the_admin_port_has_so_many_connections_and_no_more() {
    let gateway = gateway().run().await;
    let [_, (_, admin)] = ports(&gateway);
    let files = || {
        let files = fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
        files.count()
    };
    let before = files();
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(TcpStream::connect(admin).await.unwrap());
    }
    assert_eq!(gateway.admin("/healthz", None).await.status, 200);
    let open = files() - before;
    // Some are those of this test's own requests.
    assert!((200..=256 + 4).contains(&open), "{open} files");
    let healthy = gateway.send("GET", "/healthz", &[], "").await;
    assert_eq!(healthy.status, 200);
    // The oldest went first.
    let mut byte = [0];
    let read = held[0].read(&mut byte);
    let read = tokio::time::timeout(Duration::from_secs(5), read).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
}
