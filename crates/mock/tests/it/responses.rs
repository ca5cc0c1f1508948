//! OpenAI responses.

use serde_json::{Value, json};

use crate::client::{StreamReply, mock, post};

const RESPONSES: &str = "/v1/responses";

fn ask(model: &str, more: &Value) -> Value {
    let mut body = json!({"model": model, "input": "Explain backpressure"});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

fn kinds(reply: &StreamReply) -> Vec<String> {
    let mut kinds: Vec<String> = reply.events().into_iter().map(|(name, _)| name).collect();
    kinds.dedup();
    kinds
}

#[tokio::test]
async fn a_response_is_answered_whole() {
    let mock = mock().await;
    let body = post(
        &mock,
        RESPONSES,
        &ask("m:tokens=8", &json!({"metadata": {"a": "b"}})),
    )
    .send()
    .await
    .json();
    assert_eq!(
        (&body["object"], &body["status"]),
        (&json!("response"), &json!("completed"))
    );
    assert_eq!(body["output"][0]["content"][0]["type"], "output_text");
    assert_eq!(body["metadata"], json!({"a": "b"}));
    assert_eq!(body["usage"]["output_tokens"], 8);
    assert_eq!(
        body["usage"]["input_tokens_details"],
        json!({"cached_tokens": 0, "cache_write_tokens": 0})
    );
}

#[tokio::test]
async fn a_stream_is_typed_numbered_and_complete() {
    let mock = mock().await;
    let whole = post(&mock, RESPONSES, &ask("m", &json!({})))
        .send()
        .await
        .json();
    let reply = post(&mock, RESPONSES, &ask("m", &json!({"stream": true})))
        .send()
        .await;
    assert_eq!(
        kinds(&reply),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    let data = reply.data();
    for (i, (event, (name, _))) in data.iter().zip(reply.events()).enumerate() {
        assert_eq!(
            (&event["sequence_number"], &event["type"]),
            (&json!(i), &json!(name))
        );
    }
    let text: String = data
        .iter()
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(whole["output"][0]["content"][0]["text"], text);
    let last = &data.last().unwrap()["response"];
    assert_eq!(last["output"][0]["content"][0]["text"], text);
    assert_eq!(last["id"], data[0]["response"]["id"]);
    assert_eq!(last["usage"], whole["usage"]);
    assert!(data[0]["response"]["usage"].is_null());
}

#[tokio::test]
async fn functions_are_called() {
    let mock = mock().await;
    let tools = json!({"tools": [{"type": "function", "name": "f", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]});
    let asked = ask("m:tools=2", &tools);
    let body = post(&mock, RESPONSES, &asked).send().await.json();
    assert_eq!(body["output"].as_array().unwrap().len(), 2);
    let call = &body["output"][0];
    assert_eq!(
        (&call["type"], &call["name"]),
        (&json!("function_call"), &json!("f"))
    );

    let mut streamed = asked.clone();
    streamed["stream"] = json!(true);
    let data = post(&mock, RESPONSES, &streamed).send().await.data();
    let done: Vec<&Value> = data
        .iter()
        .filter(|event| event["type"] == "response.function_call_arguments.done")
        .collect();
    assert_eq!(done.len(), 2);
    assert_eq!(done[1]["output_index"], 1);
    let arguments: Value = serde_json::from_str(done[0]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["city"].is_string());

    let mut answered = asked;
    answered["input"] = json!([
        {"role": "user", "content": "x"}, call,
        {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    ]);
    let body = post(&mock, RESPONSES, &answered).send().await.json();
    assert_eq!(body["output"][0]["type"], "message");
}

#[tokio::test]
async fn reasoning_is_summed_up_and_sealed_where_asked() {
    let mock = mock().await;
    let seen = json!({"reasoning": {"effort": "low", "summary": "auto"}, "stream": true,
        "include": ["reasoning.encrypted_content"]});
    let reply = post(&mock, RESPONSES, &ask("m", &seen)).send().await;
    let kinds = kinds(&reply);
    for kind in ["part.added", "text.delta", "text.done", "part.done"] {
        let kind = format!("response.reasoning_summary_{kind}");
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    let data = reply.data();
    let last = &data.last().unwrap()["response"];
    assert_eq!(last["output"][0]["type"], "reasoning");
    assert!(last["output"][0]["encrypted_content"].is_string());
    assert!(
        last["usage"]["output_tokens_details"]["reasoning_tokens"]
            .as_u64()
            .unwrap()
            > 0
    );

    let hidden = ask("m", &json!({"reasoning": {"effort": "low"}}));
    let body = post(&mock, RESPONSES, &hidden).send().await.json();
    assert_eq!(body["output"][0]["summary"], json!([]));
    assert!(body["output"][0].get("encrypted_content").is_none());
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_incomplete() {
    let mock = mock().await;
    let asked = ask("m", &json!({"max_output_tokens": 3}));
    let body = post(&mock, RESPONSES, &asked).send().await.json();
    assert_eq!(body["status"], "incomplete");
    assert_eq!(
        body["incomplete_details"],
        json!({"reason": "max_output_tokens"})
    );
    let streamed = ask("m", &json!({"max_output_tokens": 3, "stream": true}));
    let reply = post(&mock, RESPONSES, &streamed).send().await;
    assert_eq!(kinds(&reply).last().unwrap(), "response.incomplete");
}

#[tokio::test]
async fn an_error_within_a_stream_is_numbered_too() {
    let mock = mock().await;
    let reply = post(
        &mock,
        RESPONSES,
        &ask("m:error_after=4", &json!({"stream": true})),
    )
    .send()
    .await;
    let data = reply.data();
    assert_eq!(data.len(), 5);
    assert_eq!(
        (&data[4]["type"], &data[4]["sequence_number"]),
        (&json!("error"), &json!(4))
    );
    for field in ["code", "message", "param"] {
        assert!(data[4].get(field).is_some());
    }
}
