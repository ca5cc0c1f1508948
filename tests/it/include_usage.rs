//! Streams to the client are byte for byte those of its own request, although the router requests
//! usage where the client didn't.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::gateway;

/// A provider of OpenAI's streams: with usage, every chunk has a `usage` and one more comes.
fn stream(path: &str, include_usage: bool, words: usize) -> String {
    let chat = path.contains("chat");
    let mut text = String::new();
    let usage = if include_usage { ",\"usage\":null" } else { "" };
    for n in 0..words {
        let choice = if chat {
            format!(
                r#"{{"index":0,"delta":{{"content":"wörd {n} \"usage\":"}},"finish_reason":null}}"#
            )
        } else {
            format!(r#"{{"index":0,"text":"word {n}","finish_reason":null}}"#)
        };
        text.push_str(&format!(
            "data: {{\"id\":\"c-1\",\"created\":{n},\"choices\":[{choice}]{usage}}}\n\n"
        ));
        if n % 5 == 0 {
            text.push_str(": keep-alive\r\n\r\n");
        }
    }
    if include_usage {
        let counts = r#"{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}"#;
        text.push_str(&format!(
            "data: {{\"id\":\"c-1\",\"created\":9,\"choices\":[],\"usage\":{counts}}}\n\n"
        ));
    }
    text + "data: [DONE]\n\n"
}

/// Serves the stream that the request asks for, in pieces of a few bytes.
async fn serve(mut client: TcpStream, words: usize) {
    let mut request = Vec::new();
    let body = loop {
        let mut buffer = [0; 4096];
        let read = client.read(&mut buffer).await.unwrap();
        if read == 0 {
            return;
        }
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request);
        let Some((_, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        if let Ok(body) = serde_json::from_str::<Value>(body) {
            break body;
        }
    };
    let path = if body.get("messages").is_some() {
        "chat"
    } else {
        "text"
    };
    let include = body["stream_options"]["include_usage"] == true;
    let answer = stream(path, include, words);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut rest = answer.as_bytes();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(fastrand::usize(1..=90).min(rest.len()));
        let size = format!("{:x}\r\n", piece.len());
        let chunk = [size.as_bytes(), piece, b"\r\n"].concat();
        client.write_all(&chunk).await.unwrap();
        client.flush().await.unwrap();
        tokio::task::yield_now().await;
        rest = after;
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
}

async fn provider(words: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            client.set_nodelay(true).unwrap();
            tokio::spawn(serve(client, words));
        }
    });
    address
}

#[tokio::test]
async fn streams_are_byte_equal_to_the_providers() {
    let mut compared = 0;
    for words in [1, 7, 60] {
        let address = provider(words).await;
        let base = format!("http://{address}/v1");
        let gateway = gateway().provider_at("up", "openai", &base).run().await;
        for n in 0..40 {
            let (path, mut body) = if n % 2 == 0 {
                let messages = json!([{ "role": "user", "content": "a" }]);
                ("/v1/chat/completions", json!({ "messages": messages }))
            } else {
                ("/v1/completions", json!({ "prompt": "a" }))
            };
            body["model"] = "m".into();
            body["stream"] = true.into();
            let options = [
                Value::Null,
                json!({ "include_usage": true }),
                json!({ "include_usage": false }),
                json!({ "include_obfuscation": false }),
            ];
            let options = &options[n / 2 % 4];
            if !options.is_null() {
                body["stream_options"] = options.clone();
            }
            let answer = gateway.send("POST", path, &[], body.to_string()).await;
            let expected = stream(path, options["include_usage"] == true, words);
            let text = String::from_utf8(answer.body).unwrap();
            assert_eq!(text, expected, "{path} {options}");
            compared += 1;
        }
        let total = gateway.admin("/api/v1/cost/current", None).await.json();
        let total = &total["total"];
        assert_eq!(total["estimated_requests"], 0, "{total}");
        assert_eq!(
            (&total["input_tokens"], &total["output_tokens"]),
            (&json!(440), &json!(280))
        );
    }
    println!("include_usage: {compared} streams byte-equal to the provider's own");
}
