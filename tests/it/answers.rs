//! Tests of what counts as an answer: an attempt has answered when its first content came, or when the answer ended as
//! its format says. Anything else goes to the next candidate, or is an error for the client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};
use std::io::Write as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{
    Answer, Gateway, GatewayBuilder, KEY, Mock, chat_body, gateway, messages_body, mock, raw,
};

const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// An upstream that answers each request with what `answer` makes of it, and then closes.
async fn upstream(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut request = Vec::new();
                let mut buffer = [0; 8192];
                while !is_whole(&request) {
                    match stream.read(&mut buffer).await {
                        Ok(length @ 1..) => request.extend_from_slice(&buffer[..length]),
                        _ => return,
                    }
                }
                let bytes = answer(&String::from_utf8_lossy(&request));
                let _ = stream.write_all(&bytes).await;
            });
        }
    });
    address
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
    body.len() >= length.unwrap_or_default()
}

/// A response with a length.
fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A stream of events in chunks, ended properly.
fn events(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
    if body.is_empty() {
        return format!("{head}0\r\n\r\n").into_bytes();
    }
    format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()
}

const JSON: &str = "content-type: application/json\r\n";
const ROLE: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const TEXT: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const STOP: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const ANSWER: &str = "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\
    \"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\
    \"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":22,\"total_tokens\":33}}";

/// A failing provider `cN` of type custom for each case, a model `fN` that goes to it first and then
/// to one that answers.
async fn before(cases: &[Vec<u8>]) -> (Gateway, Mock) {
    let good = mock().await;
    let mut builder = gateway().provider("good", &good);
    for (index, answer) in cases.iter().cloned().enumerate() {
        let address = upstream(move |_| answer.clone()).await;
        builder = with_custom(builder, index, address);
    }
    (builder.run().await, good)
}

fn with_custom(builder: GatewayBuilder, index: usize, address: SocketAddr) -> GatewayBuilder {
    let id = format!("c{index}");
    builder
        .provider_at(&id, "custom", &format!("http://{address}/v1"))
        .add(
            "models",
            json!({ "name": format!("f{index}"), "strategy": "priority", "deployments": [
                { "provider": id, "model": "m" }, { "provider": "good", "model": "mock-gpt" },
            ] }),
        )
}

/// Asks in OpenAI's format or in Anthropic's.
async fn ask(gateway: &Gateway, model: &str, messages: bool, stream: bool) -> Answer {
    if messages {
        let body = messages_body(model, stream);
        return gateway.send("POST", "/v1/messages", &[VERSION], body).await;
    }
    let body = chat_body(model, stream);
    gateway
        .send("POST", "/v1/chat/completions", &[], body)
        .await
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn what_is_no_answer_goes_to_the_next_candidate() {
    let html = response("200 OK", "content-type: text/html\r\n", b"<html>hi</html>");
    let limit = "data: {\"error\":{\"message\":\"full\",\"code\":429}}\n\n";
    let empty_chunks = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    // Whether it answers a plain request, a stream, or both; and the status for the client alone.
    let cases: Vec<(Vec<u8>, &[bool], u16)> = vec![
        (events(""), &[true], 502),
        (events(DONE), &[true], 502),
        (events(ROLE), &[true], 502),
        (events(&[ROLE, DONE].concat()), &[true], 502),
        (events(&[": wait\n\n", ROLE, limit].concat()), &[true], 429),
        (events(limit), &[true], 429),
        (events("event: error\ndata: oops\n\n"), &[true], 502),
        (html, &[false, true], 502),
        (response("200 OK", JSON, b""), &[false, true], 502),
        (response("200 OK", JSON, b" \n"), &[false, true], 502),
        (empty_chunks.to_vec(), &[false, true], 502),
        (
            response("200 OK", JSON, b"{\"ok\":true}"),
            &[false, true],
            502,
        ),
        (
            response("200 OK", JSON, b"{\"choices\":[{"),
            &[false, true],
            502,
        ),
        (
            response(
                "200 OK",
                JSON,
                b"{\"error\":{\"message\":\"model overloaded\",\"code\":503}}",
            ),
            &[false, true],
            503,
        ),
        (
            response(
                "200 OK",
                JSON,
                b"{\"id\":\"x\",\"error\":\"no\",\"choices\":[]}",
            ),
            &[false, true],
            502,
        ),
        (
            b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            &[false, true],
            502,
        ),
        (
            b"HTTP/1.1 205 Reset Content\r\n\r\n".to_vec(),
            &[false, true],
            502,
        ),
        (
            b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
            &[false, true],
            502,
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(),
            &[false, true],
            502,
        ),
        (
            response("302 Found", "location: /x\r\n", b""),
            &[false, true],
            502,
        ),
        (response("999 What", JSON, b"{}"), &[false, true], 502),
        (
            response(
                "200 OK",
                &format!("{JSON}content-encoding: gzip\r\n"),
                b"{\"choices\":[]}",
            ),
            &[false, true],
            502,
        ),
        (
            response(
                "200 OK",
                &format!("{JSON}content-encoding: x-odd\r\n"),
                ANSWER.as_bytes(),
            ),
            &[false, true],
            502,
        ),
    ];
    let answers: Vec<Vec<u8>> = cases.iter().map(|case| case.0.clone()).collect();
    let (gateway, _good) = before(&answers).await;
    for (index, (answer, modes, status)) in cases.iter().enumerate() {
        let shown = String::from_utf8_lossy(answer);
        for stream in modes.iter().copied() {
            for messages in [false, true] {
                let found = ask(&gateway, &format!("f{index}"), messages, stream).await;
                let told = text(&found);
                assert_eq!(found.status, 200, "{shown}: {told}");
                assert_eq!(
                    found.header("x-llm-router-provider"),
                    Some("good"),
                    "{shown}"
                );
                assert!(!told.contains("\"error\""), "{shown}: {told}");

                let alone = ask(&gateway, &format!("c{index}/m"), messages, stream).await;
                let told = text(&alone);
                assert_eq!(alone.status, *status, "{messages} {stream} {shown}: {told}");
                let error = &alone.json()["error"];
                let expected = if messages {
                    Value::Null
                } else {
                    "upstream_error".into()
                };
                assert_eq!(error["code"], expected, "{told}");
                assert!(error["message"].is_string(), "{told}");
            }
        }
    }
    let bad = ["provider=\"c0\"", "outcome=\"no_answer\""];
    assert!(gateway.metric("llm_router_attempts_total", &bad).await >= 1.0);
}

#[tokio::test]
async fn messages_that_open_and_then_err_go_on() {
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\
        \"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"m\",\
        \"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n\
        event: ping\ndata: {\"type\":\"ping\"}\n\n";
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\
        \"message\":\"O\"}}\n\n";
    let body = events(&[start, error].concat());
    let (address, good) = (upstream(move |_| body.clone()).await, mock().await);
    let gateway = gateway()
        .provider_at("ant", "anthropic", &format!("http://{address}"))
        .provider_at("oai", "openai", &good.base_url())
        .add(
            "models",
            json!({ "name": "f", "strategy": "priority", "deployments": [
                { "provider": "ant", "model": "m" }, { "provider": "oai", "model": "mock-gpt" },
            ] }),
        )
        .run()
        .await;
    let answer = ask(&gateway, "f", true, true).await;
    assert_eq!(answer.header("x-llm-router-attempts"), Some("2"));
    let told = text(&answer);
    assert!(
        told.ends_with("data: {\"type\":\"message_stop\"}\n\n"),
        "{told}"
    );
    assert_eq!(told.matches("event: message_start").count(), 1, "{told}");
    for messages in [true, false] {
        let alone = ask(&gateway, "ant/m", messages, true).await;
        assert_eq!(alone.status, 529, "{}", text(&alone));
        assert!(
            text(&alone).contains("with an error: O"),
            "{}",
            text(&alone)
        );
    }
}

#[tokio::test]
async fn answers_without_content_are_answers() {
    let filtered = STOP.replace("\"stop\"", "\"content_filter\"");
    let empty = ANSWER.replace("\"Hi\"", "\"\"");
    let cases = [
        (events(&[ROLE, STOP, DONE].concat()), true),
        (events(&[ROLE, STOP].concat()), true),
        (events(&[&filtered, DONE].concat()), true),
        (response("200 OK", JSON, empty.as_bytes()), false),
        (
            response("200 OK", JSON, format!("\u{feff}{ANSWER}").as_bytes()),
            false,
        ),
        (
            response("200 OK", "content-type: text/html\r\n", ANSWER.as_bytes()),
            false,
        ),
        (response("200 OK", "", ANSWER.as_bytes()), false),
    ];
    let answers: Vec<Vec<u8>> = cases.iter().map(|case| case.0.clone()).collect();
    let (gateway, _good) = before(&answers).await;
    for (index, (answer, stream)) in cases.iter().enumerate() {
        for messages in [false, true] {
            let found = ask(&gateway, &format!("f{index}"), messages, *stream).await;
            let shown = String::from_utf8_lossy(answer);
            let provider = format!("c{index}");
            let header = found.header("x-llm-router-provider");
            assert_eq!((found.status, header), (200, Some(&*provider)), "{shown}");
            assert!(!text(&found).contains("\"error\""), "{}", text(&found));
        }
    }
}

#[tokio::test]
async fn a_stream_without_its_formats_end_is_broken() {
    let (gateway, _good) = before(&[events(&[ROLE, TEXT].concat())]).await;
    for messages in [false, true] {
        let answer = ask(&gateway, "f0", messages, true).await;
        let told = text(&answer);
        assert_eq!(answer.status, 200);
        assert!(
            told.contains("Hi") && told.matches("\"error\"").count() >= 1,
            "{told}"
        );
        assert!(
            !told.contains("[DONE]") && !told.contains("message_stop"),
            "{told}"
        );
        let id = answer.header("x-request-id").unwrap();
        let kept = gateway.admin(&format!("/api/v1/requests/{id}"), None).await;
        let kept = kept.json();
        assert_eq!(kept["complete"], false, "{kept}");
        assert_eq!(kept["attempts"][0]["error"], "stream_cut", "{kept}");
        assert_eq!(kept["attempts"].as_array().unwrap().len(), 1, "{kept}");
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap()
}

fn deflate(text: &str) -> Vec<u8> {
    let mut out = ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap()
}

#[tokio::test]
async fn coded_answers_are_decoded_wherever_they_are_read() {
    let coded = |name: &str| format!("{JSON}content-encoding: {name}\r\n");
    let nope = "{\"error\":{\"message\":\"nope\",\"type\":\"invalid_request_error\"}}";
    let stream = [ROLE, TEXT, STOP, DONE].concat();
    let sse = "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n";
    let (gateway, _good) = before(&[
        response("400 Bad Request", &coded("gzip"), &gzip(nope)),
        response("200 OK", &coded("gzip"), &gzip(ANSWER)),
        response("200 OK", &coded("deflate"), &deflate(ANSWER)),
        response("200 OK", sse, &gzip(&stream)),
        response("503 Busy", &coded("gzip"), &gzip(nope)),
    ])
    .await;
    for messages in [false, true] {
        let refused = ask(&gateway, "f0", messages, false).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.header("content-encoding"), None);
        assert_eq!(refused.json()["error"]["message"], "nope");
        for model in ["f1", "f2"] {
            let answer = ask(&gateway, model, messages, false).await;
            assert_eq!(
                (answer.status, answer.header("content-encoding")),
                (200, None)
            );
            assert!(text(&answer).contains("Hi"), "{}", text(&answer));
            assert_eq!(answer.header("x-llm-router-attempts"), Some("1"));
            let id = answer.header("x-request-id").unwrap();
            let kept = gateway.admin(&format!("/api/v1/requests/{id}"), None).await;
            let kept = kept.json();
            let usage = &kept["usage"];
            let tokens = [&usage["input_tokens"], &usage["output_tokens"]];
            assert_eq!(tokens, [&json!(11), &json!(22)], "{kept}");
            assert_eq!(kept["estimated"], false, "{kept}");
        }
        let streamed = ask(&gateway, "f3", messages, true).await;
        assert!(text(&streamed).contains("Hi"), "{}", text(&streamed));
        assert_eq!(streamed.header("content-encoding"), None);
        let busy = ask(&gateway, "c4/m", messages, false).await;
        assert_eq!(busy.status, 503);
        assert!(text(&busy).contains("nope"), "{}", text(&busy));
    }
}

#[tokio::test]
async fn text_errors_keep_their_message() {
    let plain = "content-type: text/plain\r\n";
    let (gateway, _good) = before(&[
        response("400 Bad Request", plain, b"bad request"),
        response(
            "400 Bad Request",
            JSON,
            "\u{feff}{\"error\":{\"message\":\"marked\"}}".as_bytes(),
        ),
        response("500 Oops", plain, b"out of memory"),
        response(
            "404 Not Found",
            "content-type: text/html\r\n",
            b"<html>nginx</html>",
        ),
        response("400 Bad Request", "", b""),
    ])
    .await;
    for (model, status, said) in [
        ("c0/m", 400, "bad request"),
        ("c1/m", 400, "marked"),
        ("c2/m", 500, "out of memory"),
        ("c3/m", 404, "404"),
        ("c4/m", 400, "400"),
    ] {
        let answer = ask(&gateway, model, true, false).await;
        assert_eq!(answer.status, status, "{model}");
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(said), "{model}: {message}");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_is_sent_no_chunks() {
    let (gateway, _good) = before(&[events(&[ROLE, TEXT, STOP, DONE].concat())]).await;
    for (path, body, end) in [
        ("/v1/chat/completions", chat_body("c0/m", true), DONE),
        (
            "/v1/messages",
            messages_body("c0/m", true),
            "message_stop\"}\n\n",
        ),
        (
            "/v1/messages",
            messages_body("good/mock-claude", false),
            "}",
        ),
    ] {
        let request = format!(
            "POST {path} HTTP/1.0\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
             anthropic-version: 2023-06-01\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = raw(gateway.address, request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200"),
            "{head}"
        );
        assert!(
            !head.to_ascii_lowercase().contains("transfer-encoding"),
            "{head}"
        );
        assert!(
            body.starts_with(['d', 'e', '{']) && body.ends_with(end),
            "{body}"
        );
    }
}

#[tokio::test]
async fn the_first_byte_of_a_plain_answer_has_a_time_of_its_own() {
    let (slow, good) = (mock().await, mock().await);
    let timeouts = |plain: Option<&str>| match plain {
        Some(plain) => json!({ "first_byte": "200ms", "first_byte_plain": plain }),
        None => json!({ "first_byte": "200ms" }),
    };
    let mut builder = gateway().provider("good", &good);
    for (id, plain) in [("slow", None), ("strict", Some("200ms"))] {
        builder = builder
            .add(
                "providers",
                json!({ "id": id, "type": "mock", "base_url": slow.base_url(),
                    "api_key": "${CREDENTIAL}", "timeouts": timeouts(plain) }),
            )
            .add(
                "models",
                json!({ "name": format!("f-{id}"), "strategy": "priority", "deployments": [
                    { "provider": id, "model": "mock-gpt" },
                    { "provider": "good", "model": "mock-gpt" },
                ] }),
            );
    }
    slow.set_controls("delay=700ms").await;
    let gateway = builder.run().await;
    for (model, stream, provider) in [
        ("f-slow", false, "slow"),
        ("f-slow", true, "good"),
        ("f-strict", false, "good"),
    ] {
        let answer = ask(&gateway, model, false, stream).await;
        assert_eq!(
            answer.header("x-llm-router-provider"),
            Some(provider),
            "{model} {stream}"
        );
    }
}

#[tokio::test]
async fn a_refused_usage_option_is_left_out() {
    let (asked, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (with, all) = (Arc::clone(&asked), Arc::clone(&sent));
    let address = upstream(move |request| {
        all.fetch_add(1, Ordering::Relaxed);
        if request.contains("stream_options") {
            with.fetch_add(1, Ordering::Relaxed);
            let body = b"{\"detail\":[{\"loc\":[\"body\",\"stream_options\"],\
                \"msg\":\"Extra inputs are not permitted\"}]}";
            return response("422 No", JSON, body);
        }
        events(&[ROLE, TEXT, STOP, DONE].concat())
    })
    .await;
    let url = format!("http://{address}/v1");
    let gateway = gateway().provider_at("old", "custom", &url).run().await;
    for messages in [false, true, false] {
        let answer = ask(&gateway, "old/m", messages, true).await;
        assert_eq!(answer.status, 200, "{}", text(&answer));
        assert_eq!(answer.header("x-llm-router-attempts"), Some("1"));
        assert!(text(&answer).contains("Hi"), "{}", text(&answer));
    }
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    assert_eq!(
        (count(&asked), count(&sent)),
        (1, 4),
        "it is asked once and remembered"
    );

    // What the client itself asked for is the client's to be refused.
    let mut body: Value = serde_json::from_str(&chat_body("old/m", true)).unwrap();
    body["stream_options"] = json!({ "include_usage": true });
    let path = "/v1/chat/completions";
    let answer = gateway.send("POST", path, &[], body.to_string()).await;
    assert_eq!(answer.status, 422);
}

#[tokio::test]
async fn usage_chunks_are_asked_for_as_the_provider_wants() {
    let usage = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\
        \"completion_tokens\":22,\"total_tokens\":33}}\n\n";
    let stream = events(&[ROLE, TEXT, STOP, usage, DONE].concat());
    let address = upstream(move |request| {
        if request.contains("stream_options") {
            return response("500 Asked", JSON, b"{}");
        }
        stream.clone()
    })
    .await;
    let mut builder = gateway();
    for setting in ["always", "never"] {
        builder = builder.add(
            "providers",
            json!({ "id": setting, "type": "custom", "base_url": format!("http://{address}/v1"),
                "api_key": "${CREDENTIAL}", "usage_chunk": setting }),
        );
    }
    let gateway = builder.run().await;
    for setting in ["always", "never"] {
        for messages in [false, true] {
            let answer = ask(&gateway, &format!("{setting}/m"), messages, true).await;
            let told = text(&answer);
            assert_eq!(answer.status, 200, "{told}");
            assert!(messages || !told.contains("prompt_tokens"), "{told}");
            let id = answer.header("x-request-id").unwrap();
            let kept = gateway.admin(&format!("/api/v1/requests/{id}"), None).await;
            assert_eq!(kept.json()["usage"]["output_tokens"], 22, "{}", kept.json());
        }
    }
}

#[tokio::test]
async fn our_account_is_no_concern_of_the_clients() {
    let error =
        |code: &str| format!("{{\"error\":{{\"message\":\"secret text\",\"code\":\"{code}\"}}}}");
    let cases = [
        ("401 No", error("invalid_api_key"), 60),
        ("402 Pay", error("x"), 3600),
        ("403 No", error("x"), 60),
        ("429 Slow", error("insufficient_quota"), 3600),
        ("400 Bad", error("billing_error"), 3600),
        ("200 OK", error("insufficient_quota"), 3600),
    ];
    let answers = cases
        .each_ref()
        .map(|(status, body, _)| response(status, JSON, body.as_bytes()));
    let (gateway, _good) = before(&answers).await;
    for (index, (status, ..)) in cases.iter().enumerate() {
        for messages in [false, true] {
            for stream in [false, true] {
                let alone = ask(&gateway, &format!("c{index}/m"), messages, stream).await;
                let told = text(&alone);
                assert_eq!(alone.status, 502, "{status}: {told}");
                assert!(
                    told.contains(&format!("c{index} refused")),
                    "{status}: {told}"
                );
                assert!(!told.contains("secret text"), "{status}: {told}");
                assert_eq!(alone.header("x-should-retry"), Some("false"));
                if !messages {
                    assert_eq!(alone.code(), "provider_auth", "{status}");
                }
            }
        }
        let found = ask(&gateway, &format!("f{index}"), false, false).await;
        assert_eq!(
            found.header("x-llm-router-provider"),
            Some("good"),
            "{status}"
        );
        let rests = [&*format!("provider=\"c{index}\""), "deployment=\"m\""];
        gateway
            .shows("llm_router_deployment_resting", &rests, 1.0)
            .await;
        let provider = format!("provider=\"c{index}\"");
        assert!(
            gateway
                .metric("llm_router_account_errors_total", &[&provider])
                .await
                >= 4.0
        );
    }
    gateway
        .logs("a provider refuses the router's credential or account")
        .await;
    gateway.logs("secret text").await;
}

#[tokio::test]
async fn a_403_about_the_request_is_passed_on() {
    let error = "{\"error\":{\"message\":\"Not there.\",\"code\":\"unsupported_country_region_territory\"}}";
    let (gateway, _good) = before(&[response("403 No", JSON, error.as_bytes())]).await;
    for messages in [false, true] {
        let answer = ask(&gateway, "f0", messages, false).await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.json()["error"]["message"], "Not there.");
        assert_eq!(answer.header("x-llm-router-provider"), Some("c0"));
    }
}

#[tokio::test]
async fn the_only_candidates_failure_passes_as_it_came() {
    let body =
        "{\"error\":{\"message\":\"Busy.\",\"type\":\"t\",\"code\":\"own\",\"details\":{\"a\":1}}}";
    let headers = format!("{JSON}retry-after: 7\r\nx-ratelimit-remaining-requests: 3\r\n");
    let statuses = ["408 X", "409 X", "429 X", "500 X", "503 X", "529 X"];
    let answers = statuses.map(|status| response(status, &headers, body.as_bytes()));
    let (gateway, _good) = before(&answers).await;
    for (index, status) in statuses.iter().enumerate() {
        let status: u16 = status[..3].parse().unwrap();
        for stream in [false, true] {
            let answer = ask(&gateway, &format!("c{index}/m"), false, stream).await;
            assert_eq!((answer.status, text(&answer).as_str()), (status, body));
            assert_eq!(answer.header("retry-after"), Some("7"));
            assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("3"));
            assert_eq!(
                answer.header("x-llm-router-provider"),
                Some(&*format!("c{index}"))
            );
        }
        let translated = ask(&gateway, &format!("c{index}/m"), true, false).await;
        let told = text(&translated);
        assert_eq!(translated.status, status, "{told}");
        assert!(told.contains("Busy.") && !told.contains("own"), "{told}");
    }
}

#[tokio::test]
async fn a_clients_own_mistakes_leave_the_circuit_closed() {
    let body = "{\"error\":{\"message\":\"Too long.\",\"code\":\"context_length_exceeded\"}}";
    let in_200 = events(&format!("data: {body}\n\n"));
    let (gateway, _good) = before(&[response("400 Bad", JSON, body.as_bytes()), in_200]).await;
    for (index, stream) in [(0, false), (1, true)] {
        for _ in 0..12 {
            let answer = ask(&gateway, &format!("f{index}"), false, stream).await;
            assert_eq!(answer.status, 400, "{}", text(&answer));
            assert!(text(&answer).contains("Too long."), "{}", text(&answer));
        }
        let labels = [&*format!("provider=\"c{index}\""), "deployment=\"m\""];
        gateway
            .shows("llm_router_deployment_resting", &labels, 0.0)
            .await;
        gateway
            .shows("llm_router_circuit_state", &labels, 0.0)
            .await;
    }
}

#[tokio::test]
async fn a_client_that_waits_is_kept_waiting_by_comments() {
    let (slow, good) = (mock().await, mock().await);
    let provider = json!({ "id": "slow", "type": "mock", "base_url": slow.base_url(),
        "api_key": "${CREDENTIAL}", "timeouts": { "first_byte": "700ms", "first_byte_plain": "2s" } });
    let gateway = gateway()
        .set("/server/keep_alive", "150ms".into())
        .add("providers", provider)
        .provider("good", &good)
        .add(
            "models",
            json!({ "name": "f", "strategy": "priority", "deployments": [
                { "provider": "slow", "model": "mock-gpt" },
                { "provider": "good", "model": "mock-gpt" },
            ] }),
        )
        .run()
        .await;
    // What the provider does, the model, and whether the client is answered in the end.
    for (controls, model, answered) in [
        ("first_token=500ms", "slow/mock-gpt", true),
        ("hang", "f", true),
        ("hang", "slow/mock-gpt", false),
        ("delay=400ms:status=503", "slow/mock-gpt", false),
        ("delay=400ms:status=400", "slow/mock-gpt", false),
        ("delay=400ms:error_event", "slow/mock-gpt", false),
        ("delay=400ms:empty", "slow/mock-gpt", false),
    ] {
        slow.set_controls(controls).await;
        for messages in [false, true] {
            let answer = ask(&gateway, model, messages, true).await;
            let told = text(&answer);
            assert_eq!(answer.status, 200, "{controls}: {told}");
            assert_eq!(answer.header("x-llm-router-provider"), None, "{controls}");
            assert_eq!(answer.header("x-llm-router-attempts"), None, "{controls}");
            assert!(answer.header("x-request-id").is_some(), "{controls}");
            assert!(
                told.starts_with(": keep-alive\n\n: keep-alive\n\n"),
                "{controls}: {told}"
            );
            let end = if messages {
                "event: message_stop"
            } else {
                DONE
            };
            assert_eq!(told.contains(end), answered, "{controls}: {told}");
            let errors = told.matches("\"error\":{").count();
            assert_eq!(errors, usize::from(!answered), "{controls}: {told}");
        }
    }
    slow.set_controls("").await;
    let answer = ask(&gateway, "slow/mock-gpt", false, true).await;
    assert_eq!(answer.header("x-llm-router-provider"), Some("slow"));
    assert!(!text(&answer).contains("keep-alive"));
    // A plain answer waits for its head as long as it takes.
    slow.set_controls("delay=400ms").await;
    let answer = ask(&gateway, "slow/mock-gpt", false, false).await;
    assert_eq!(answer.header("x-llm-router-provider"), Some("slow"));
    assert!(!text(&answer).contains("keep-alive"));
}
