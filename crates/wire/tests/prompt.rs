//! What a prompt reads in bodies of every format, odd shapes included; and that no body upsets it.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use llm_router_domain::rule::{Area, Feature};
use llm_router_wire::prompt::Prompt;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What a body must yield.
#[derive(Debug, Default, PartialEq)]
struct Want {
    last_user: &'static str,
    system: &'static str,
    any: &'static str,
    turns: u32,
    tools: u32,
    images: u32,
    schema: bool,
}

fn check(body: &str, want: &Want) {
    let prompt = Prompt::read(body.as_bytes()).unwrap();
    assert_eq!(
        prompt.text(Area::LastUser),
        want.last_user,
        "last_user of {body}"
    );
    assert_eq!(prompt.text(Area::System), want.system, "system of {body}");
    assert_eq!(prompt.text(Area::Any), want.any, "any of {body}");
    assert_eq!(prompt.turns(), want.turns, "turns of {body}");
    assert_eq!(prompt.tools(), want.tools, "tools of {body}");
    assert_eq!(prompt.images(), want.images, "images of {body}");
    assert_eq!(
        prompt.has(Feature::JsonSchema),
        want.schema,
        "schema of {body}"
    );
    assert_eq!(prompt.has(Feature::Tools), want.tools > 0);
    assert_eq!(prompt.has(Feature::Images), want.images > 0);
}

fn check_all(table: Vec<(Value, Want)>) {
    for (body, want) in table {
        check(&body.to_string(), &want);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn openai_chat() {
    check_all(vec![
        (
            json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
            Want {
                last_user: "hi",
                any: "hi",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": "three"}]}),
            Want {
                last_user: "three",
                system: "be kind\nbe brief",
                any: "be kind\none\ntwo\nbe brief\nthree",
                turns: 2,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "what is"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "text", "text": "this?"}]}]}),
            Want {
                last_user: "what is\nthis?",
                any: "what is\nthis?",
                turns: 1,
                images: 1,
                ..Want::default()
            },
        ),
        // An agent's loop: the last message is a tool's, but the user's last words stand.
        (
            json!({"messages": [
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "1", "type": "function",
                 "function": {"name": "get", "arguments": "{\"city\":\"Graz\"}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "sunny"}],
            "tools": [{"type": "function", "function": {"name": "get"}}]}),
            Want {
                last_user: "weather?",
                any: "weather?\n{\"city\":\"Graz\"}\nsunny",
                turns: 1,
                tools: 1,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "response_format":
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}}),
            Want {
                last_user: "x",
                any: "x",
                turns: 1,
                schema: true,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}],
                "response_format": {"type": "json_object"}, "tools": []}),
            Want {
                last_user: "x",
                any: "x",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "a", "reasoning_content": "b",
                              "refusal": "c"}]}),
            Want {
                any: "a\nb\nc",
                ..Want::default()
            },
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}], "functions": [{"name": "f"}]}),
            Want {
                last_user: "x",
                any: "x",
                turns: 1,
                tools: 1,
                ..Want::default()
            },
        ),
        // The role may come last.
        (
            json!({"messages": [{"content": "first", "role": "user"}]}),
            Want {
                last_user: "first",
                any: "first",
                turns: 1,
                ..Want::default()
            },
        ),
    ]);
    let late =
        r#"{"messages":[{"content":"s","role":"system"},{"content":["a","b"],"role":"user"}]}"#;
    check(
        late,
        &Want {
            last_user: "a\nb",
            system: "s",
            any: "s\na\nb",
            turns: 1,
            ..Want::default()
        },
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn anthropic_messages() {
    check_all(vec![
        (
            json!({"system": "be kind", "messages": [{"role": "user", "content": "hi"}]}),
            Want {
                last_user: "hi",
                system: "be kind",
                any: "hi\nbe kind",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [], "system": [
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "b"}]}),
            Want {
                system: "a\nb",
                any: "a\nb",
                ..Want::default()
            },
        ),
        (
            json!({"messages": [
            {"role": "user", "content": [{"type": "text", "text": "weather?"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "text", "text": "let me see"},
                {"type": "tool_use", "id": "t", "name": "get", "input": {"city": "Graz"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [
                    {"type": "text", "text": "sunny"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png",
                                                 "data": "AAAA"}}]}]}],
            "tools": [{"name": "get", "input_schema": {}}, {"name": "put", "input_schema": {}}]}),
            Want {
                last_user: "weather?",
                any: "weather?\nlet me see\nhm\n{\"city\":\"Graz\"}\nsunny",
                turns: 1,
                tools: 2,
                images: 1,
                ..Want::default()
            },
        ),
        // A result and words in one message: the words are the user's.
        (
            json!({"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": "sunny"},
            {"type": "text", "text": "and tomorrow?"}]}]}),
            Want {
                last_user: "and tomorrow?",
                any: "and tomorrow?\nsunny",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [{"role": "user", "content": [
            {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain",
                                                          "data": "a deed"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
                                            "data": "JVBERi0="}},
            {"type": "text", "text": "sum up"}]}]}),
            Want {
                last_user: "sum up",
                any: "sum up\na deed\nT",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}],
                "output_config": {"format": {"type": "json_schema", "schema": {}}}}),
            Want {
                last_user: "x",
                any: "x",
                turns: 1,
                schema: true,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}],
                "output_format": {"type": "json_schema", "schema": {}}}),
            Want {
                last_user: "x",
                any: "x",
                turns: 1,
                schema: true,
                ..Want::default()
            },
        ),
    ]);
}

#[test]
fn openai_responses_and_completions() {
    check_all(vec![
        (
            json!({"model": "m", "input": "hi", "instructions": "be kind"}),
            Want {
                last_user: "hi",
                system: "be kind",
                any: "hi\nbe kind",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"input": [
            {"role": "developer", "content": "d"},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "c", "name": "get", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "sunny"}],
            "tools": [{"type": "function", "name": "get"}],
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}}),
            Want {
                last_user: "look",
                system: "d",
                any: "d\nlook\nhm\n{}\nsunny",
                turns: 1,
                tools: 1,
                images: 1,
                schema: true,
            },
        ),
        (
            json!({"input": [{"role": "user", "content": "x"}], "text": {"format": {"type": "text"}}}),
            Want {
                last_user: "x",
                any: "x",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"prompt": "once upon"}),
            Want {
                last_user: "once upon",
                any: "once upon",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"prompt": ["a", "b"]}),
            Want {
                last_user: "a\nb",
                any: "a\nb",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"input": ["a", "b"]}),
            Want {
                last_user: "b",
                any: "a\nb",
                turns: 2,
                ..Want::default()
            },
        ),
        (json!({"input": [[1, 2], [3]]}), Want::default()),
        (json!({"prompt": [1, 2, 3]}), Want::default()),
    ]);
}

#[test]
fn odd_shapes_are_skipped() {
    check_all(vec![
        (json!({}), Want::default()),
        (
            json!({"messages": null, "tools": 5, "system": 7, "response_format": "x"}),
            Want::default(),
        ),
        (
            json!({"messages": "hi"}),
            Want {
                last_user: "hi",
                any: "hi",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"messages": {"role": "user", "content": "hi"}}),
            Want {
                last_user: "hi",
                any: "hi",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [null, 1, true, "hi", [], {"role": 3, "content": 4}, {"content": {}}]}),
            Want {
                last_user: "hi",
                any: "hi",
                turns: 1,
                ..Want::default()
            },
        ),
        // Content as an object, as one provider answers with structured output.
        (
            json!({"messages": [{"role": "assistant", "content": {"text": "a"}},
                             {"role": "user", "content": {"type": "text", "text": "b"}}]}),
            Want {
                last_user: "b",
                any: "a\nb",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [{"role": "user", "content": [
            {"type": "new_kind", "stuff": {"text": "no"}, "text": "yes"}, {"type": 5}]}]}),
            Want {
                last_user: "yes",
                any: "yes",
                turns: 1,
                ..Want::default()
            },
        ),
        (
            json!({"messages": [{"role": "user", "content": ""}, {"role": "user", "content": []}]}),
            Want::default(),
        ),
        (
            json!({"messages": [{"role": "critic", "content": "x"}]}),
            Want {
                last_user: "x",
                any: "x",
                turns: 1,
                ..Want::default()
            },
        ),
    ]);
}

#[test]
fn escapes_and_broken_text_are_read() {
    for (content, want) in [
        (
            r"line\nbreak \u00e9\t\u4f60 \ud83d\ude00",
            "line\nbreak é\t你 😀",
        ),
        (r"half \ud83d of a pair", "half \u{fffd} of a pair"),
        (r"\ude00\ud83d\ude00\ud83d", "\u{fffd}😀\u{fffd}"),
        (r"\\ud83d", r"\ud83d"),
    ] {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"{content}"}}]}}"#);
        let prompt = Prompt::read(body.as_bytes()).unwrap();
        assert_eq!(prompt.text(Area::LastUser), want, "{content}");
    }
    let mut body = br#"{"messages":[{"role":"user","content":"caf"#.to_vec();
    body.extend([0xe9]);
    body.extend(br#"!"}]}"#);
    assert_eq!(
        Prompt::read(&body).unwrap().text(Area::LastUser),
        "caf\u{fffd}!"
    );
}

#[test]
fn what_is_no_object_is_refused() {
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"x\"",
        "{\"a\":1}x",
        "{\"messages\":[}",
        "{\"a\":\u{1}}",
    ] {
        assert!(Prompt::read(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn texts_without_escapes_are_borrowed() {
    let body = r#"{"messages":[{"role":"user","content":"plain text"}]}"#;
    let prompt = Prompt::read(body.as_bytes()).unwrap();
    assert!(
        body.as_bytes()
            .as_ptr_range()
            .contains(&prompt.text(Area::Any).as_ptr())
    );
}

#[test]
fn the_last_users_text_lies_within_all_text() {
    let body = json!({"messages": [{"role": "user", "content": [
        {"type": "text", "text": "a"}, {"type": "tool_result", "content": "r"},
        {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"}]})
    .to_string();
    let prompt = Prompt::read(body.as_bytes()).unwrap();
    assert!(prompt.text(Area::Any).contains(prompt.text(Area::LastUser)));
    assert_eq!(prompt.first_user(), "a\nb");
}

#[test]
fn numbers_are_read() {
    for (body, want) in [
        (json!({"max_tokens": 5}), Some(5)),
        (
            json!({"max_completion_tokens": 6, "max_tokens": null}),
            Some(6),
        ),
        (json!({"max_output_tokens": 7}), Some(7)),
        (json!({"max_tokens": "many"}), None),
        (json!({"max_tokens": -1}), None),
        (json!({}), None),
    ] {
        assert_eq!(
            Prompt::read(body.to_string().as_bytes())
                .unwrap()
                .output_limit(),
            want,
            "{body}"
        );
    }
    let tools = json!({"tools": [{"name": "get", "input_schema": {"type": "object"}}]}).to_string();
    assert_eq!(
        Prompt::read(tools.as_bytes()).unwrap().tool_bytes(),
        tools.len() - 12
    );
    let long =
        json!({"messages": [{"role": "user", "content": "word ".repeat(1_000)}]}).to_string();
    let tokens = Prompt::read(long.as_bytes()).unwrap().tokens();
    assert!((900..1_200).contains(&tokens), "{tokens}");
}

#[test]
fn depth_is_bounded() {
    for depth in [10, 100, 100_000] {
        for (open, close) in [
            ("[", "]"),
            (r#"{"content":"#, "}"),
            (r#"{"function":"#, "}"),
            (r#"{"x":"#, "}"),
        ] {
            let nested = format!("{}\"x\"{}", open.repeat(depth), close.repeat(depth));
            let body = format!(r#"{{"messages":[{{"role":"user","content":{nested}}}]}}"#);
            assert!(Prompt::read(body.as_bytes()).is_ok(), "{depth} of {open}");
        }
    }
}

/// Bodies made of the words that the reader knows, in any arrangement.
fn body() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "role",
        "user",
        "assistant",
        "system",
        "tool",
        "content",
        "text",
        "type",
        "tool_result",
        "input",
        "messages",
        "image",
        "source",
        "data",
        "function",
        "arguments",
        "tools",
        "prompt",
        "json_schema",
        "format",
        "response_format",
        "max_tokens",
        "summary",
        "\u{fffd}\"\\",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let fields = prop::collection::vec((word.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
            fields.prop_map(|fields| {
                fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            }),
        ]
    })
}

fn ask_everything(prompt: &Prompt<'_>) {
    let any = prompt.text(Area::Any).to_owned();
    assert!(any.contains(prompt.text(Area::LastUser)));
    let _ = (
        prompt.text(Area::System),
        prompt.first_user(),
        prompt.turns(),
        prompt.tokens(),
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_json_object_is_read(body in body()) {
        let text = json!({"messages": body.clone(), "system": body.clone(), "tools": body}).to_string();
        ask_everything(&Prompt::read(text.as_bytes()).unwrap());
    }

    #[test]
    fn any_bytes_are_survived(body in body(), cut in any::<prop::sample::Index>(), byte: u8) {
        let mut text = json!({"messages": body}).to_string().into_bytes();
        let at = cut.index(text.len());
        text[at] = byte;
        for text in [&text[..], &text[..at]] {
            if let Ok(prompt) = Prompt::read(text) {
                ask_everything(&prompt);
            }
        }
    }
}
