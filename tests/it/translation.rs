//! Clients and providers of different formats: every pair, plain and streamed, with the failures on
//! the way. The mock checks requests as strictly as the real provider.

use futures::StreamExt as _;
use llm_router_mock::MockConfig;
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, GatewayBuilder, Mock, eventually, gateway, mock, mock_with};

/// A client's format, by its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientKind {
    Chat,
    Responses,
    Messages,
}
use ClientKind::{Chat, Messages, Responses};

const CLIENTS: [ClientKind; 3] = [Chat, Responses, Messages];
const PROVIDERS: [&str; 3] = ["openai", "anthropic", "gemini"];
const USAGE: (&str, &str) = ("x-mock-usage", "input=100,cached=40,output=30,reasoning=10");

impl ClientKind {
    const fn path(self) -> &'static str {
        match self {
            Chat => "/v1/chat/completions",
            Responses => "/v1/responses",
            Messages => "/v1/messages",
        }
    }

    fn body(self, model: &str, more: &Value) -> Value {
        let said = json!([{ "role": "user", "content": "Tell me about the sea." }]);
        let mut body = match self {
            Chat => json!({ "model": model, "messages": said }),
            Responses => json!({ "model": model, "input": said }),
            Messages => json!({ "model": model, "max_tokens": 4000, "messages": said }),
        };
        let fields = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        body
    }

    /// The text of an answer, plain or streamed.
    fn text(self, answer: &Answer) -> String {
        let body = String::from_utf8_lossy(&answer.body);
        if body.starts_with('{') {
            return self.plain_text(&answer.json());
        }
        let text = |event: Value| {
            let delta = match self {
                Chat => &event["choices"][0]["delta"]["content"],
                Responses if event["type"] == "response.output_text.delta" => &event["delta"],
                Responses => &Value::Null,
                Messages => &event["delta"]["text"],
            };
            delta.as_str().unwrap_or_default().to_owned()
        };
        events(&body).map(text).collect()
    }

    fn plain_text(self, json: &Value) -> String {
        let texts = |list: &Value, field: &str| {
            let parts = list.as_array().unwrap().iter();
            parts
                .filter_map(|part| part[field].as_str())
                .collect::<String>()
        };
        match self {
            Chat => json["choices"][0]["message"]["content"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            Responses => {
                let items = json["output"].as_array().unwrap().iter();
                let messages = items.filter(|item| item["type"] == "message");
                messages
                    .map(|item| texts(&item["content"], "text"))
                    .collect()
            }
            Messages => texts(&json["content"], "text"),
        }
    }

    /// Returns the last part of a complete stream.
    const fn end(self) -> &'static str {
        match self {
            Chat => "data: [DONE]",
            Responses => "event: response.completed",
            Messages => "event: message_stop",
        }
    }

    fn error_type(self, json: &Value) -> String {
        let kind = match self {
            Messages => {
                assert_eq!(json["type"], "error", "{json}");
                &json["error"]["type"]
            }
            Chat | Responses => {
                assert!(json["error"]["code"].is_string(), "{json}");
                &json["error"]["type"]
            }
        };
        kind.as_str().unwrap_or_default().to_owned()
    }
}

/// The JSON of a stream's events.
fn events(body: &str) -> impl Iterator<Item = Value> {
    let lines = body.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter_map(|data| serde_json::from_str(data).ok())
}

fn all_kinds(mock: &Mock) -> GatewayBuilder {
    let builder = PROVIDERS.iter().fold(gateway(), |builder, kind| {
        builder.provider_at(kind, kind, &mock.url_for(kind))
    });
    builder.provider_at("custom", "custom", &mock.base_url())
}

async fn ask(
    gateway: &Gateway,
    client: ClientKind,
    model: &str,
    more: &Value,
    headers: &[(&str, &str)],
) -> Answer {
    let body = client.body(model, more).to_string();
    let version = [("anthropic-version", "2023-06-01")];
    let headers = [headers, &version].concat();
    gateway
        .send(
            "POST",
            &format!("{}?beta=true", client.path()),
            &headers,
            body,
        )
        .await
}

fn pairs() -> impl Iterator<Item = (ClientKind, &'static str)> {
    CLIENTS
        .into_iter()
        .flat_map(|client| PROVIDERS.map(|provider| (client, provider)))
}

#[tokio::test]
async fn every_pair_says_the_same_and_is_billed_exactly() {
    let mock = mock().await;
    let gateway = all_kinds(&mock).run().await;
    let model = "openai/reference";
    let reference = Chat.text(&ask(&gateway, Chat, model, &json!({}), &[USAGE]).await);
    assert!(!reference.is_empty());
    let mut asked = 1;
    for (client, provider) in pairs() {
        for (stream, split) in [(false, "0"), (true, "0"), (true, "7"), (true, "random")] {
            let model = format!("{provider}/m-{client:?}");
            let headers = [USAGE, ("x-mock-split", split)];
            let headers = if split == "0" {
                &headers[..1]
            } else {
                &headers[..]
            };
            let answer = ask(
                &gateway,
                client,
                &model,
                &json!({ "stream": stream }),
                headers,
            )
            .await;
            let shown = String::from_utf8_lossy(&answer.body).into_owned();
            let pair = format!("{client:?} {provider} {stream} {split}: {shown}");
            assert_eq!(answer.status, 200, "{pair}");
            assert_eq!(client.text(&answer), reference, "{pair}");
            assert_eq!(stream, shown.contains(client.end()), "{pair}");
            assert_eq!(
                answer.header("x-llm-router-provider"),
                Some(provider),
                "{pair}"
            );
            assert_eq!(
                answer
                    .header("content-type")
                    .unwrap()
                    .starts_with("text/event-stream"),
                stream
            );
            // Nobody asked for it.
            assert!(
                client != Chat || !stream || !shown.contains("\"usage\""),
                "{pair}"
            );
            asked += 1;
        }
    }
    let items = gateway.admin("/api/v1/cost/by-model", None).await.json();
    let mut requests = 0;
    for item in items["items"].as_array().unwrap() {
        let count = item["requests"].as_u64().unwrap();
        requests += count;
        assert_eq!(item["estimated_requests"], 0, "{item}");
        for (class, tokens) in [
            ("input_tokens", 100),
            ("cached_input_tokens", 40),
            ("output_tokens", 30),
            ("reasoning_tokens", 10),
        ] {
            assert_eq!(item[class], tokens * count, "{class} of {item}");
        }
    }
    assert_eq!(requests, asked);
    assert_eq!(mock.meter.totals().requests, asked);
}

#[tokio::test]
async fn usage_is_told_to_those_who_ask() {
    let mock = mock().await;
    let gateway = all_kinds(&mock).run().await;
    let more = json!({ "stream": true, "stream_options": { "include_usage": true } });
    for provider in PROVIDERS {
        let model = format!("{provider}/m");
        let answer = ask(&gateway, Chat, &model, &more, &[USAGE]).await;
        let body = String::from_utf8(answer.body).unwrap();
        let last = events(&body).last().unwrap();
        assert_eq!(last["choices"], json!([]), "{provider}: {body}");
        assert_eq!(last["usage"]["prompt_tokens"], 100, "{provider}");
        assert_eq!(last["usage"]["completion_tokens"], 30, "{provider}");
    }
    let answer = ask(&gateway, Messages, "gemini/m", &json!({}), &[USAGE]).await;
    let usage = &answer.json()["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["cache_read_input_tokens"]),
        (&json!(60), &json!(40))
    );
}

#[tokio::test]
async fn events_reach_the_client_when_they_are_sent() {
    let mock = mock().await;
    let gateway = all_kinds(&mock).run().await;
    for (client, provider) in pairs() {
        let model = format!("{provider}/m");
        let body = client.body(&model, &json!({ "stream": true })).to_string();
        let headers = [
            ("x-mock-token-delay", "10s"),
            ("anthropic-version", "2023-06-01"),
        ];
        let response = gateway
            .start("POST", client.path(), &headers, body)
            .await
            .unwrap();
        let mut stream = response.bytes_stream();
        let mut seen = Vec::new();
        eventually_text(client, &mut stream, &mut seen).await;
        assert_eq!(mock.meter.open_streams(), 1, "{client:?} {provider}");
        drop(stream);
        eventually("a client that left ends the upstream's stream", || async {
            mock.meter.open_streams() == 0
        })
        .await;
    }
    eventually("every request has ended", || async {
        gateway.metric("llm_router_requests_in_flight", &[]).await == 0.0
    })
    .await;
}

/// Reads until there is some text of the answer.
async fn eventually_text(
    client: ClientKind,
    stream: &mut (impl futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin),
    seen: &mut Vec<u8>,
) {
    let some_text = async {
        loop {
            seen.extend(stream.next().await.unwrap().unwrap());
            let answer = Answer {
                status: 200,
                headers: reqwest::header::HeaderMap::new(),
                body: seen.clone(),
            };
            if !client.text(&answer).is_empty() {
                return;
            }
        }
    };
    let limit = std::time::Duration::from_secs(8);
    tokio::time::timeout(limit, some_text).await.unwrap();
}

#[tokio::test]
async fn refusals_keep_status_and_message_in_the_callers_shape() {
    let mock = mock().await;
    let gateway = all_kinds(&mock).run().await;
    for (client, provider) in pairs() {
        for (status, openai, anthropic) in [
            (400, "invalid_request_error", "invalid_request_error"),
            (404, "invalid_request_error", "not_found_error"),
            (422, "invalid_request_error", "invalid_request_error"),
            (429, "rate_limit_error", "rate_limit_error"),
            (500, "server_error", "api_error"),
            (529, "server_error", "overloaded_error"),
        ] {
            let control = status.to_string();
            let headers = [("x-mock-status", control.as_str())];
            let stream = json!({ "stream": status % 2 == 0 });
            let answer = ask(
                &gateway,
                client,
                &format!("{provider}/m"),
                &stream,
                &headers,
            )
            .await;
            let pair = format!("{client:?} {provider} {status}: {answer:?}");
            assert_eq!(answer.status, status, "{pair}");
            // OpenAI's own words pass as they are.
            let native = provider == "openai" && client != Messages;
            if !native {
                let kind = client.error_type(&answer.json());
                let expected = if client == Messages {
                    anthropic
                } else {
                    openai
                };
                assert_eq!(kind, expected, "{pair}");
            }
            let message = answer.json()["error"]["message"].clone();
            assert!(
                message.as_str().unwrap().contains("The mock failed"),
                "{pair}"
            );
        }
    }
}

#[tokio::test]
async fn a_wrong_credential_is_no_fault_of_the_clients_whoever_says_so() {
    let config = MockConfig {
        require_key: Some("another".into()),
        ..MockConfig::default()
    };
    let mock = mock_with(config).await;
    let gateway = all_kinds(&mock).run().await;
    for (client, provider) in pairs() {
        let answer = ask(&gateway, client, &format!("{provider}/m"), &json!({}), &[]).await;
        assert_eq!(answer.status, 502, "{client:?} {provider}: {answer:?}");
        let said = answer.json()["error"]["message"].to_string();
        assert!(said.contains("refused the router's credential"), "{said}");
    }
}

#[tokio::test]
async fn the_next_candidate_may_speak_another_format() {
    let mock = mock().await;
    let mut builder = all_kinds(&mock);
    let failures = [
        "status=529",
        "reset",
        "error_event",
        "status=429",
        "cut_bytes=40",
    ];
    for (first, second) in [
        ("anthropic", "openai"),
        ("gemini", "anthropic"),
        ("openai", "gemini"),
    ] {
        for failure in failures {
            let deployments = json!([
                { "provider": first, "model": format!("m:{failure}") },
                { "provider": second, "model": "m" },
            ]);
            builder = builder.add(
                "models",
                json!({ "name": format!("{first}-{failure}"), "strategy": "priority",
                    "deployments": deployments }),
            );
        }
    }
    let gateway = builder.run().await;
    let reference = Chat.text(&ask(&gateway, Chat, "openai/m", &json!({}), &[]).await);
    for (client, first) in pairs() {
        for failure in failures {
            for stream in [false, true] {
                let native = (first == "openai") != (client == Messages) && first != "gemini";
                if native && !stream && ["error_event", "cut_bytes=40"].contains(&failure) {
                    // Where nothing is translated, the body of a 200 passes as it comes.
                    continue;
                }
                let model = format!("{first}-{failure}");
                let answer = ask(&gateway, client, &model, &json!({ "stream": stream }), &[]).await;
                let pair = format!("{client:?} {model} {stream}: {answer:?}");
                assert_eq!(answer.status, 200, "{pair}");
                assert_eq!(client.text(&answer), reference, "{pair}");
                assert_ne!(
                    answer.header("x-llm-router-provider"),
                    Some(first),
                    "{pair}"
                );
            }
        }
    }
}

#[tokio::test]
async fn broken_streams_end_in_an_error_and_in_no_stop() {
    let mock = mock().await;
    let gateway = all_kinds(&mock).run().await;
    for (client, provider) in pairs() {
        for failure in ["cut_after=6", "reset_after=6", "error_after=6"] {
            let model = format!("{provider}/m:{failure}");
            let answer = ask(&gateway, client, &model, &json!({ "stream": true }), &[]).await;
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            let pair = format!("{client:?} {model}: {body}");
            assert_eq!(answer.status, 200, "{pair}");
            assert!(!body.contains(client.end()), "{pair}");
            assert!(!body.contains("\"finish_reason\":\"stop\""), "{pair}");
            assert!(!body.contains("end_turn"), "{pair}");
            let last = events(&body).last().unwrap();
            let named = match client {
                Chat => last["error"]["message"].is_string(),
                Messages => last["type"] == "error" && last["error"]["type"].is_string(),
                Responses => last["type"] == "error" || last["type"] == "response.failed",
            };
            assert!(named, "{pair}");
        }
    }
}

#[tokio::test]
async fn streams_that_begin_with_an_error_are_answers_of_that_status() {
    let mock = mock().await;
    let gateway = all_kinds(&mock).run().await;
    for (client, provider, status) in [
        (Chat, "anthropic", 529),
        (Responses, "gemini", 503),
        (Messages, "gemini", 503),
        (Messages, "openai", 500),
    ] {
        let model = format!("{provider}/m:error_event");
        let answer = ask(&gateway, client, &model, &json!({ "stream": true }), &[]).await;
        assert_eq!(answer.status, status, "{client:?} {provider}: {answer:?}");
        client.error_type(&answer.json());
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
}

#[tokio::test]
async fn what_cannot_be_expressed_is_dropped_refused_or_put_to_another() {
    let mock = mock().await;
    let strict = |builder: GatewayBuilder| {
        builder.add(
            "providers",
            json!({ "id": "strict", "type": "anthropic", "base_url": mock.url_for("anthropic"),
                "forward_headers": ["x-mock-*"],
                "api_key": "${CREDENTIAL}", "compat": "strict" }),
        )
    };
    let deployments = json!([
        { "provider": "strict", "model": "m" }, { "provider": "openai", "model": "m" }]);
    let gateway = strict(all_kinds(&mock))
        .add(
            "models",
            json!({ "name": "either", "strategy": "priority", "deployments": deployments }),
        )
        .run()
        .await;
    let more = json!({ "logit_bias": { "50256": -100 }, "n": 1 });
    let lenient = ask(&gateway, Chat, "anthropic/m", &more, &[]).await;
    assert_eq!(lenient.status, 200, "{lenient:?}");
    assert_eq!(lenient.header("x-llm-router-dropped"), Some("logit_bias"));
    let strict = ask(&gateway, Chat, "strict/m", &more, &[]).await;
    assert_eq!(
        (strict.status, strict.code().as_str()),
        (400, "unsupported_parameter")
    );
    assert_eq!(strict.json()["error"]["param"], "logit_bias");
    let either = ask(&gateway, Chat, "either", &more, &[]).await;
    assert_eq!(either.status, 200, "{either:?}");
    assert_eq!(either.header("x-llm-router-provider"), Some("openai"));
    assert_eq!(either.header("x-llm-router-attempts"), Some("1"));
    let wrong = ask(
        &gateway,
        Messages,
        "openai/m",
        &json!({ "max_tokens": "many" }),
        &[],
    )
    .await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
    assert_eq!(wrong.json()["error"]["type"], "invalid_request_error");
    assert_eq!(mock.meter.totals().requests, 2);
}

#[tokio::test]
async fn servers_without_responses_are_asked_in_chat() {
    let mock = mock().await;
    let gateway = gateway()
        .add(
            "providers",
            json!({ "id": "chat", "type": "custom", "base_url": mock.base_url(),
                "forward_headers": ["x-mock-*"], "responses": false }),
        )
        .run()
        .await;
    for stream in [false, true] {
        let answer = ask(
            &gateway,
            Responses,
            "chat/m",
            &json!({ "stream": stream }),
            &[],
        )
        .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!Responses.text(&answer).is_empty());
        let path = &mock.meter.requests(1, |_| true)[0].path;
        assert_eq!(path, "/v1/chat/completions");
    }
}

#[tokio::test]
async fn completions_and_embeddings_are_not_translated() {
    let mock = mock().await;
    let gateway = all_kinds(&mock).run().await;
    for (path, model, status) in [
        ("/v1/embeddings", "gemini/m", 200),
        ("/v1/embeddings", "openai/m", 200),
        ("/v1/embeddings", "anthropic/m", 400),
        ("/v1/completions", "anthropic/m", 400),
        ("/v1/completions", "gemini/m", 400),
    ] {
        let body = json!({ "model": model, "input": "a", "prompt": "a" }).to_string();
        let answer = gateway.send("POST", path, &[], body).await;
        assert_eq!(answer.status, status, "{path} {model}: {answer:?}");
    }
    let records = mock.meter.requests(10, |_| true);
    let paths: Vec<_> = records.iter().map(|record| record.path.as_str()).collect();
    assert_eq!(paths, ["/v1/embeddings", "/v1beta/openai/embeddings"]);
    let header = |at: usize| records[at].credential.as_ref().unwrap().header;
    assert_eq!((header(0), header(1)), ("authorization", "authorization"));
}

#[tokio::test]
async fn tokens_are_counted_by_the_provider_or_estimated() {
    let mock = mock().await;
    let gateway = all_kinds(&mock).run().await;
    let version = [("anthropic-version", "2023-06-01")];
    let said = "How much wood would a woodchuck chuck? ".repeat(20);
    let mut counts = Vec::new();
    for (provider, estimated) in [
        ("anthropic", None),
        ("gemini", None),
        ("openai", Some("input_tokens")),
    ] {
        let body = json!({ "model": format!("{provider}/m"),
            "messages": [{ "role": "user", "content": said }] });
        let answer = gateway
            .send(
                "POST",
                "/v1/messages/count_tokens",
                &version,
                body.to_string(),
            )
            .await;
        assert_eq!(answer.status, 200, "{provider}: {answer:?}");
        assert_eq!(
            answer.header("x-llm-router-estimated"),
            estimated,
            "{provider}"
        );
        counts.push(answer.json()["input_tokens"].as_u64().unwrap());
    }
    assert_eq!(mock.meter.totals().requests, 2);
    assert!(
        counts.iter().all(|count| (150..300).contains(count)),
        "{counts:?}"
    );
}

/// A tool conversation with thoughts goes on at every provider: the mock refuses thoughts that
/// are not its own, and their absence where the provider demands them.
#[tokio::test]
async fn thoughts_and_calls_survive_two_turns() {
    let mock = mock().await;
    let gateway = all_kinds(&mock).run().await;
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    for model in [
        "anthropic/claude-sonnet-4-5",
        "gemini/gemini-3-pro",
        "openai/gpt-5",
    ] {
        for stream in [false, true] {
            let function = json!({ "name": "get_weather", "parameters": schema });
            let more = json!({ "reasoning_effort": "low", "stream": stream, "tools": [
                { "type": "function", "function": function }] });
            let headers = [("x-mock-tools", "2")];
            let answer = ask(&gateway, Chat, model, &more, &headers).await;
            let pair = format!(
                "{model} {stream}: {}",
                String::from_utf8_lossy(&answer.body)
            );
            assert_eq!(answer.status, 200, "{pair}");
            let message = chat_message(&answer);
            let calls = message["tool_calls"].as_array().unwrap().clone();
            assert_eq!(calls.len(), 2, "{pair}");
            let thinks = !model.starts_with("openai");
            assert_eq!(message["thinking_blocks"].is_array(), thinks, "{pair}");
            let mut turns = Chat.body(model, &more)["messages"]
                .as_array()
                .unwrap()
                .clone();
            turns.push(message.clone());
            for call in &calls {
                turns.push(
                    json!({ "role": "tool", "tool_call_id": call["id"], "content": "sunny" }),
                );
            }
            // The conversation goes on anywhere: foreign thoughts are left out.
            for next in [
                model,
                "openai/gpt-5",
                "anthropic/claude-sonnet-4-5",
                "gemini/gemini-3-pro",
            ] {
                let mut more = more.clone();
                more["messages"] = turns.clone().into();
                more["stream"] = false.into();
                let answer = ask(&gateway, Chat, next, &more, &[]).await;
                assert_eq!(answer.status, 200, "{next} after {pair}: {answer:?}");
                assert!(!Chat.text(&answer).is_empty());
            }
        }
    }
}

/// The message of a chat completion, put together from its chunks if it was streamed.
fn chat_message(answer: &Answer) -> Value {
    let body = String::from_utf8_lossy(&answer.body);
    if body.starts_with('{') {
        return answer.json()["choices"][0]["message"].clone();
    }
    let mut message = json!({ "role": "assistant", "content": null, "tool_calls": [] });
    for event in events(&body) {
        let delta = &event["choices"][0]["delta"];
        if let Some(text) = delta["content"].as_str() {
            let before = message["content"].as_str().unwrap_or_default();
            message["content"] = format!("{before}{text}").into();
        }
        if let Some(blocks) = delta["thinking_blocks"].as_array() {
            if message["thinking_blocks"].is_null() {
                message["thinking_blocks"] = json!([]);
            }
            let all = message["thinking_blocks"].as_array_mut().unwrap();
            all.extend(blocks.iter().cloned());
        }
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            let calls = message["tool_calls"].as_array_mut().unwrap();
            let at = usize::try_from(part["index"].as_u64().unwrap()).unwrap();
            if at == calls.len() {
                calls.push(part.clone());
                continue;
            }
            let before = calls[at]["function"]["arguments"].as_str().unwrap();
            let more = part["function"]["arguments"].as_str().unwrap();
            calls[at]["function"]["arguments"] = format!("{before}{more}").into();
        }
    }
    message
}
