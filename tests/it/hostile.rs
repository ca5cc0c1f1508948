//! Upstreams and clients that misbehave at the level of bytes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Gateway, KEY, chat_body, eventually, gateway, mock, raw};

/// An upstream that answers each request with the same bytes and then closes.
async fn scripted_upstream(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 8192];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

async fn before(answer: &'static str) -> Gateway {
    let url = format!("http://{}/v1", scripted_upstream(answer).await);
    gateway().provider_at("up", "custom", &url).run().await
}

#[tokio::test]
async fn answers_without_a_body_end() {
    for (answer, status) in [
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", 404),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", 500),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 0\r\n\r\n",
            502,
        ),
        (
            "HTTP/1.1 422 No\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            422,
        ),
    ] {
        let gateway = before(answer).await;
        // Twice, as the connection must not be out of step afterwards.
        for _ in 0..2 {
            assert_eq!(gateway.chat("up/x", &[]).await.status, status, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn an_error_body_that_breaks_is_told_as_an_error() {
    for answer in [
        "HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\n{\"error\"",
        "HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"err\r\n",
    ] {
        let gateway = before(answer).await;
        let answer = gateway.chat("up/x", &[]).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (500, "upstream_error")
        );
    }
}

#[tokio::test]
async fn our_error_has_headers_of_its_own() {
    let gateway = before(
        "HTTP/1.1 500 Oops\r\ncontent-encoding: gzip\r\ncontent-type: text/html\r\n\
         content-length: 4\r\n\r\nxxxx",
    )
    .await;
    let answer = gateway.chat("up/x", &[]).await;
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.code(), "upstream_error");
}

#[tokio::test]
async fn interim_answers_stay_with_us() {
    let gateway = before(
        "HTTP/1.1 103 Early Hints\r\nx-leak: secret\r\n\r\n\
         HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"choices\":[]}",
    )
    .await;
    let answer = gateway.chat("up/x", &[]).await;
    assert_eq!((answer.status, answer.header("x-leak")), (200, None));
}

#[tokio::test]
async fn nothing_is_read_after_a_framing_error() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         transfer-encoding: chunked\r\n\r\n2\r\n{{}}XX\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let hidden =
        format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n");
    let _ = stream.write_all(hidden.as_bytes()).await;
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    let closed = tokio::time::timeout(Duration::from_secs(5), read).await;
    assert!(closed.is_ok(), "the connection stayed open: {text}");
    assert!(!text.contains("200 OK"), "{text}");
}

#[tokio::test]
async fn a_header_has_its_time_as_a_whole() {
    let builder = gateway().set("/server/header_timeout", "1s".into());
    let gateway = builder.run().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let begun = Instant::now();
    let mut closed = false;
    while !closed && begun.elapsed() < Duration::from_secs(5) {
        // One more header line every tenth of a second, for ever.
        let sent = stream.write_all(b"GET / HTTP/1.1\r\nx: y\r\n").await;
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut byte)).await;
        closed = sent.is_err() || matches!(read, Ok(Ok(0) | Err(_)));
    }
    assert!(
        closed,
        "the connection is still open after {:?}",
        begun.elapsed()
    );
}

/// HTTP/1.1 takes 256 header lines and a mebibyte of them, HTTP/2 64 KiB.
#[tokio::test]
async fn a_header_has_so_many_lines_and_so_many_bytes() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let lines = |count: usize, length: usize| {
        (0..count).fold(String::new(), |mut lines, number| {
            lines += &format!("x-{number}: {}\r\n", "y".repeat(length));
            lines
        })
    };
    for (lines, status) in [
        (lines(250, 10), 200),
        (lines(260, 10), 400),
        (lines(10, 10_000), 200),
        (lines(1, 1_000_000), 200),
        (lines(1, 2_000_000), 400),
        (lines(200, 10_000), 400),
    ] {
        let head = format!(
            "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Bearer {KEY}\r\n{lines}\r\n"
        );
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        // One that closes with more to read resets the connection, and with it maybe its answer.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let closed = tokio::time::timeout(Duration::from_secs(10), read).await;
        assert!(closed.is_ok(), "{} bytes: it stays open", lines.len());
        let answer = String::from_utf8_lossy(&answer);
        let told = answer.starts_with(&format!("HTTP/1.1 {status}"));
        let reset = status == 400 && lines.len() > 1 << 20 && answer.is_empty();
        assert!(told || reset, "{} bytes: {answer}", lines.len());
        assert!(
            status == 200 || reset || answer.contains("invalid_request"),
            "{answer}"
        );
    }
    assert_eq!(gateway.chat("up/mock-gpt", &[]).await.status, 200);
}

#[tokio::test]
async fn a_client_that_is_still_sending_reads_its_refusal() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let big = chat_body(&"x".repeat(900_000), false);
    let wrong = [("authorization", "Bearer sk-wrong-key")];
    for _ in 0..5 {
        let answer = gateway
            .send("POST", "/v1/chat/completions", &wrong, big.clone())
            .await;
        assert_eq!(answer.status, 401);
    }
}

#[tokio::test]
async fn head_has_no_body() {
    let gateway = gateway().run().await;
    for path in ["/healthz", "/v1/models"] {
        let answer = gateway.send("HEAD", path, &[], "").await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .set("/server/max_connections_per_address", 4.into())
        .run()
        .await;
    // Silent ones keep their place; of seven at least three have none.
    let answers = futures::future::join_all((0..7).map(|_| raw(gateway.address, b""))).await;
    let told = |answer: &&String| {
        answer.starts_with("HTTP/1.1 429") && answer.contains("too_many_connections")
    };
    let count = answers.iter().filter(told).count();
    assert!((3..7).contains(&count), "{answers:?}");
    let refused = ["code=\"too_many_connections\""];
    eventually("it is counted", || async {
        gateway.metric("llm_router_errors_total", &refused).await >= 1.0
    })
    .await;
    eventually("places are free again", || async {
        let request = gateway.start(
            "POST",
            "/v1/chat/completions",
            &[],
            chat_body("up/mock-gpt", false),
        );
        request.await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

#[tokio::test]
async fn bodies_are_held_up_to_a_limit_for_all_and_their_memory_is_free_again() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .model("fast", "up", "mock-gpt")
        .set("/server/max_body", "1MiB".into())
        .set("/server/max_memory", "1MiB".into())
        .run()
        .await;
    let body = serde_json::json!({
        "model": "fast",
        "messages": [{ "role": "user", "content": "sea ".repeat(150_000) }],
    });
    let body = body.to_string();
    let whole = || gateway.send("POST", "/v1/chat/completions", &[], body.clone());
    assert_eq!(whole().await.status, 200);
    // A client that stops in the middle of its body holds what it has sent.
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    let (refused, stream) = loop {
        // If the other one is read first, this one is refused.
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body.as_bytes()[..590_000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = whole().await;
        if answer.status == 503 {
            break (answer, stream);
        }
        assert!(Instant::now() < deadline, "{}", answer.status);
    };
    assert_eq!(refused.code(), "overloaded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Small requests have room.
    assert_eq!(gateway.chat("fast", &[]).await.status, 200);
    drop(stream);
    eventually("its memory is free again", || async {
        whole().await.status == 200
    })
    .await;
}
