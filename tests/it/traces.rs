//! Traces by OTLP as received by a collector of the test, and the access log's sampling.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message as _;
use serde_json::{Value, json};

use crate::harness::{Gateway, chat_body, eventually, gateway, mock};

/// Requests received by a server of the test.
#[derive(Clone, Default)]
pub(crate) struct Inbox(Arc<Mutex<Vec<(HeaderMap, Bytes)>>>);

impl Inbox {
    pub(crate) fn all(&self) -> Vec<(HeaderMap, Bytes)> {
        self.0.lock().unwrap().clone()
    }

    /// Serves a path with one answer; where.
    pub(crate) async fn serve(
        &self,
        path: &str,
        status: u16,
        kind: &'static str,
        body: &'static str,
    ) -> String {
        let take = move |State(seen): State<Self>, headers: HeaderMap, sent: Bytes| async move {
            seen.0.lock().unwrap().push((headers, sent));
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("content-type", kind)], body)
        };
        let router = Router::new()
            .route(path, post(take))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }
}

/// The spans that a collector got, with the headers of the request that had the last ones.
fn spans(collector: &Inbox) -> Vec<Span> {
    let requests = collector.all().into_iter();
    let requests = requests.map(|(_, body)| ExportTraceServiceRequest::decode(body).unwrap());
    let resources = requests.flat_map(|request| request.resource_spans);
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn value(attributes: &[KeyValue], name: &str) -> Value {
    let found = attributes.iter().find(|one| one.key == name);
    match found.and_then(|one| one.value.clone()?.value) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::DoubleValue(number)) => json!(number),
        Some(any_value::Value::BoolValue(flag)) => json!(flag),
        _ => Value::Null,
    }
}

fn holds(span: &Span, attributes: &[(&str, Value)]) {
    for (name, expected) in attributes {
        let found = value(&span.attributes, name);
        assert_eq!(&found, expected, "{name} of {}", span.name);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks what a collector receives besides the spans, and what it must not.
fn check_collected(collector: &Inbox) {
    let (headers, body) = &collector.all()[0];
    assert_eq!(headers["x-team"], "secret-of-the-collector");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let exported = ExportTraceServiceRequest::decode(body.clone()).unwrap();
    let resource = exported.resource_spans[0].resource.clone().unwrap();
    assert_eq!(value(&resource.attributes, "service.name"), "our-router");
    assert!(!String::from_utf8_lossy(body).contains("the sea"));
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const ANSWER: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\n\ndata: [DONE]\n\n";

/// A router with a bad and a good upstream behind one name, and a collector.
async fn gateway_with_traces(collector: &Inbox, upstreams: [&Inbox; 2], sample: f64) -> Gateway {
    let [bad, good] = upstreams;
    let bad = bad
        .serve("/v1/chat/completions", 503, "application/json", "{}")
        .await;
    let good = good
        .serve("/v1/chat/completions", 200, "text/event-stream", ANSWER)
        .await;
    let endpoint = collector
        .serve("/below/v1/traces", 200, "application/x-protobuf", "")
        .await;
    gateway()
        .provider_at("bad", "custom", &format!("{bad}/v1"))
        .provider_at("good", "custom", &format!("{good}/v1"))
        .add(
            "models",
            json!({ "name": "fast", "strategy": "priority", "deployments": [
                { "provider": "bad", "model": "one" }, { "provider": "good", "model": "two" },
            ] }),
        )
        .set(
            "/telemetry",
            json!({ "traces": { "endpoint": format!("{endpoint}/below"), "sample": sample,
                "headers": { "x-team": "secret-of-the-collector" }, "service_name": "our-router" } }),
        )
        .run()
        .await
}

#[tokio::test]
async fn a_failed_over_stream_is_one_trace() {
    let (collector, bad, good) = (Inbox::default(), Inbox::default(), Inbox::default());
    let gateway = gateway_with_traces(&collector, [&bad, &good], 0.0).await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let headers = [
        ("x-request-id", "traced"),
        ("traceparent", parent.as_str()),
        ("tracestate", "acme=1,other=2"),
    ];
    let answer = gateway.chat_stream("fast", &headers).await;
    assert_eq!(answer.status, 200);
    eventually("three spans are there", || async {
        spans(&collector).len() == 3
    })
    .await;

    let spans = spans(&collector);
    let [first, second, request] = &spans[..] else {
        panic!("{spans:?}");
    };
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    assert!(
        spans
            .iter()
            .all(|span| span.trace_state == "acme=1,other=2")
    );
    assert_eq!(hex(&request.parent_span_id), PARENT);
    assert_eq!(
        (request.name.as_str(), request.kind()),
        ("POST /v1/chat/completions", SpanKind::Server)
    );
    holds(
        request,
        &[
            ("http.request.method", json!("POST")),
            ("http.response.status_code", json!(200)),
            ("gen_ai.operation.name", json!("chat")),
            ("gen_ai.request.model", json!("fast")),
            ("llm_router.request.id", json!("traced")),
            ("llm_router.key.name", json!("client")),
            ("llm_router.attempts", json!(2)),
            ("error.type", Value::Null),
        ],
    );
    for (span, provider, model, status, error, output) in [
        (first, "bad", "one", 503, json!("503"), Value::Null),
        (second, "good", "two", 200, Value::Null, json!(3)),
    ] {
        assert_eq!(
            (span.name.clone(), span.kind()),
            (format!("chat {model}"), SpanKind::Client)
        );
        assert_eq!(span.parent_span_id, request.span_id);
        assert!(request.start_time_unix_nano <= span.start_time_unix_nano);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        holds(
            span,
            &[
                ("gen_ai.provider.name", json!(provider)),
                ("gen_ai.request.model", json!(model)),
                ("gen_ai.request.stream", json!(true)),
                ("http.response.status_code", json!(status)),
                ("gen_ai.usage.output_tokens", output),
                ("server.address", json!("127.0.0.1")),
                ("error.type", error),
            ],
        );
    }
    let first_chunk = value(&second.attributes, "gen_ai.response.time_to_first_chunk");
    assert!(first_chunk.as_f64() > Some(0.0), "{first_chunk}");

    for (upstream, span) in [(&bad, first), (&good, second)] {
        let (headers, _) = &upstream.all()[0];
        let sent = format!("00-{TRACE}-{}-01", hex(&span.span_id));
        assert_eq!(headers["traceparent"], sent.as_str());
        assert_eq!(headers["tracestate"], "acme=1,other=2");
    }
    check_collected(&collector);
    gateway.logs(TRACE).await;
    gateway
        .shows("llm_router_trace_exports_total", &["taken"], 1.0)
        .await;
}

#[tokio::test]
async fn the_head_of_a_trace_decides_whether_it_is_made() {
    let (collector, bad, good) = (Inbox::default(), Inbox::default(), Inbox::default());
    let gateway = gateway_with_traces(&collector, [&bad, &good], 1.0).await;
    let refused = format!("00-{TRACE}-{PARENT}-00");
    let broken = [("traceparent", "00-nonsense"), ("tracestate", "acme=1")];
    gateway
        .chat_stream("fast", &[("traceparent", &refused)])
        .await;
    gateway.chat_stream("fast", &broken).await;
    gateway
        .chat("fast", &[("authorization", "Bearer nobody")])
        .await;
    let roots = || {
        spans(&collector)
            .into_iter()
            .filter(|span| span.kind() == SpanKind::Server)
    };
    eventually("two requests are traced", || async { roots().count() == 2 }).await;
    assert!(roots().all(|span| hex(&span.trace_id) != TRACE && span.parent_span_id.is_empty()));
    let statuses: Vec<Value> = roots()
        .map(|span| value(&span.attributes, "http.response.status_code"))
        .collect();
    assert_eq!(statuses, [200, 401]);
    let sent = good.all();
    let parent = sent[0].0["traceparent"].to_str().unwrap();
    assert!(
        parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-00"),
        "{parent}"
    );
    assert!(!parent.contains(PARENT), "{parent}");
    assert!(sent[1].0.get("tracestate").is_none(), "{:?}", sent[1].0);
}

#[tokio::test]
async fn without_traces_the_clients_context_passes() {
    let seen = Inbox::default();
    let url = seen
        .serve("/v1/chat/completions", 200, "text/event-stream", ANSWER)
        .await;
    let gateway = gateway()
        .provider_at("up", "custom", &format!("{url}/v1"))
        .run()
        .await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    gateway
        .chat_stream("up/m", &[("traceparent", &parent)])
        .await;
    assert_eq!(seen.all()[0].0["traceparent"], parent.as_str());
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_its_traces() {
    let up = mock().await;
    let nowhere = format!("http://{}", crate::harness::free_address());
    let gateway = gateway()
        .provider("up", &up)
        .set("/telemetry", json!({ "traces": { "endpoint": nowhere } }))
        .run()
        .await;
    for _ in 0..3 {
        assert_eq!(gateway.chat("up/mock-gpt", &[]).await.status, 200);
    }
    gateway.logs("failed to export traces").await;
}

#[tokio::test]
async fn a_sampled_access_log_has_every_error() {
    let up = mock().await;
    let gateway = gateway()
        .provider("up", &up)
        .set(
            "/telemetry",
            json!({ "access_log": { "sample": 0, "format": "text" } }),
        )
        .run()
        .await;
    for id in ["good-1", "good-2"] {
        let body = chat_body("up/mock-gpt", false);
        gateway
            .send(
                "POST",
                "/v1/chat/completions",
                &[("x-request-id", id)],
                body,
            )
            .await;
    }
    gateway
        .chat(
            "up/mock-gpt",
            &[("x-request-id", "bad-1"), ("x-mock-status", "400")],
        )
        .await;
    gateway.logs("id=bad-1").await;
    let log = gateway.log();
    assert!(!log.contains("good-1") && !log.contains("good-2"), "{log}");
}
