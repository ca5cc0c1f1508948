//! Rules: the provider that a request reaches, the body sent, and the client's answer.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{
    Answer, Gateway, GatewayBuilder, Mock, chat_body, gateway, messages_body, mock,
};

/// Messages are refused without it.
const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// Two providers with a public name each, and the rules given.
fn gateway_with_rules(one: &Mock, two: &Mock, rules: Value) -> GatewayBuilder {
    gateway()
        .provider("one", one)
        .provider("two", two)
        .model("fast", "one", "mock-gpt")
        .model("strong", "two", "mock-claude")
        .set(
            "/routing",
            json!({ "default_model": "fast", "rules": rules }),
        )
}

/// Returns the provider of an answer and the rule, or the code of its error.
fn outcome(answer: &Answer) -> String {
    let header = |name| answer.header(name).unwrap_or("-").to_owned();
    match answer.status {
        200 => {
            let at = header("x-llm-router-provider");
            format!("{at} by {}", header("x-llm-router-rule"))
        }
        status => {
            let rule = header("x-llm-router-rule");
            format!("{status} {} by {rule}", answer.code())
        }
    }
}

fn chat_text(model: &str, text: &str) -> String {
    let messages = json!([{ "role": "user", "content": text }]);
    json!({ "model": model, "messages": messages }).to_string()
}

async fn ask(gateway: &Gateway, headers: &[(&str, &str)], body: String) -> Answer {
    gateway
        .send("POST", "/v1/chat/completions", headers, body)
        .await
}

#[tokio::test]
async fn rules_decide_for_every_name_without_a_provider() {
    let (one, two) = (mock().await, mock().await);
    let rules = json!([
        { "name": "blocked", "priority": 1, "when": { "header": { "name": "x-app", "regex": "^old" } },
          "then": { "block": { "status": 451, "message": "Not any more." } } },
        { "name": "code", "priority": 2, "when": { "regex": "(?i)segfault" },
          "then": { "use_model": "strong" } },
        { "name": "here", "priority": 3, "when": { "model": "strong", "header": { "name": "x-region", "equals": "eu" } },
          "then": { "use_provider": "one" } },
        { "name": "hard", "priority": 4, "when": { "complexity": { "min": 0.6 } },
          "then": { "use_model": "two/mock-claude" } },
    ]);
    let gateway = gateway_with_rules(&one, &two, rules).run().await;
    let hard = "Prove that there are infinitely many primes, derive a bound and analyze it.";
    for (headers, body, expected) in [
        (&[][..], chat_text("auto", "hello"), "one by -"),
        (&[], chat_text("fast", "hello"), "one by -"),
        (&[], chat_text("strong", "hello"), "two by -"),
        (&[], chat_text("auto", "a SegFault"), "two by code"),
        (&[], chat_text("fast", "a SegFault"), "two by code"),
        (&[], chat_text("one/mock-gpt", "a SegFault"), "one by -"),
        (&[], chat_text("mock-gpt", "a SegFault"), "two by code"),
        (&[], chat_text("mock-gpt", "hello"), "one by -"),
        (&[], chat_text("auto", hard), "two by hard"),
        (
            &[("x-region", "eu")],
            chat_text("strong", "hello"),
            "one by here",
        ),
        (
            &[("x-region", "eu")],
            chat_text("fast", "hello"),
            "one by -",
        ),
        (
            &[("x-app", "older")],
            chat_text("auto", "hello"),
            "451 blocked by blocked",
        ),
        (
            &[("x-app", "older")],
            chat_text("none", "hello"),
            "451 blocked by blocked",
        ),
    ] {
        let answer = ask(&gateway, headers, body.clone()).await;
        assert_eq!(outcome(&answer), expected, "{headers:?} {body}");
    }
    let blocked = [("x-app", "old")];
    let answer = gateway
        .send(
            "POST",
            "/v1/messages",
            &blocked,
            messages_body("auto", false),
        )
        .await;
    assert_eq!(answer.status, 451);
    assert_eq!(answer.json()["error"]["message"], "Not any more.");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    crate::harness::eventually("the refused model is logged", || async {
        let log = gateway.log();
        let mut lines = log.lines().filter(|line| line.contains("\"status\":451"));
        lines.any(|line| line.contains("\"model.asked\":\"auto\""))
    })
    .await;
    gateway
        .shows("llm_router_rule_requests_total", &["rule=\"code\""], 3.0)
        .await;
}

#[tokio::test]
async fn rules_see_both_formats_and_stand_in_log_and_ledger() {
    let (one, two) = (mock().await, mock().await);
    let rules = json!([{ "name": "sea", "when": { "regex": "\\bsea\\b" }, "then": { "use_model": "strong" } }]);
    let gateway = gateway_with_rules(&one, &two, rules).run().await;
    for (path, body) in [
        ("/v1/chat/completions", chat_body("auto", true)),
        ("/v1/messages", messages_body("auto", true)),
        (
            "/v1/responses",
            json!({ "model": "auto", "input": "the sea" }).to_string(),
        ),
    ] {
        let answer = gateway.send("POST", path, &[VERSION], body).await;
        assert_eq!(outcome(&answer), "two by sea", "{path}");
        let id = answer.header("x-request-id").unwrap();
        let entry = gateway.admin(&format!("/api/v1/requests/{id}"), None).await;
        assert_eq!(entry.json()["rule"], "sea", "{:?}", entry.json());
    }
    crate::harness::eventually("the access line is written", || async {
        gateway.log().matches("\"rule\":\"sea\"").count() == 3
    })
    .await;
}

#[tokio::test]
async fn parameters_are_set_in_the_clients_own_bytes() {
    let (one, two) = (mock().await, mock().await);
    let rules = json!([
        { "name": "short", "when": { "header": { "name": "x-short", "equals": "1" } },
          "then": { "use_model": "strong", "set": { "max_tokens": 7, "temperature": 0 } } },
        { "name": "cool", "then": { "set": { "temperature": 0 } } },
    ]);
    let gateway = gateway_with_rules(&one, &two, rules).run().await;
    let short = &[("x-short", "1"), VERSION][..];
    let usage = r#""stream_options":{"include_usage":true},"#;
    let text = r#""messages":[{"role":"user","content":"hi"}]"#;
    for (path, headers, sent, to, received) in [
        (
            "/v1/chat/completions",
            &[][..],
            format!(r#"{{ "model": "auto", {text} }}"#),
            &one,
            format!(r#"{{ "temperature":0,"model": "mock-gpt", {text} }}"#),
        ),
        (
            "/v1/chat/completions",
            &[],
            format!(r#"{{"model":"fast","stream":true,"temperature":1.5,{text}}}"#),
            &one,
            format!(r#"{{{usage}"model":"mock-gpt","stream":true,"temperature":0,{text}}}"#),
        ),
        (
            "/v1/chat/completions",
            short,
            format!(r#"{{"max_completion_tokens":900,"model":"fast",{text}}}"#),
            &two,
            format!(
                r#"{{"temperature":0,"max_completion_tokens":7,"model":"mock-claude",{text}}}"#
            ),
        ),
        (
            "/v1/messages",
            short,
            format!(r#"{{"model":"auto","max_tokens":900,{text}}}"#),
            &two,
            format!(r#"{{"temperature":0,"model":"mock-claude","max_tokens":7,{text}}}"#),
        ),
        (
            "/v1/responses",
            short,
            r#"{"model":"auto","input":"hi"}"#.to_owned(),
            &two,
            r#"{"max_output_tokens":7,"temperature":0,"model":"mock-claude","input":"hi"}"#
                .to_owned(),
        ),
    ] {
        let answer = gateway.send("POST", path, headers, sent.clone()).await;
        assert_eq!(
            answer.status,
            200,
            "{sent}: {:?}",
            String::from_utf8_lossy(&answer.body)
        );
        let last = to.meter.requests(1, |_| true);
        let got = (last[0].body_bytes, last[0].body_sha256.as_str());
        let hash: String = Sha256::digest(&received)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            got,
            (received.len() as u64, hash.as_str()),
            "{sent} became other than {received}"
        );
    }
}

#[tokio::test]
async fn splits_follow_their_weights_and_stick() {
    let (one, two) = (mock().await, mock().await);
    let split = |sticky: Option<&str>| {
        let mut then = json!({ "split": [{ "model": "fast", "weight": 3 }, { "model": "strong", "weight": 1 }] });
        if let Some(by) = sticky {
            then["sticky_by"] = by.into();
        }
        then
    };
    let when = |value: &str| json!({ "header": { "name": "x-mode", "equals": value } });
    let rules = json!([
        { "name": "chance", "when": when("chance"), "then": split(None) },
        { "name": "user", "when": when("user"), "then": split(Some("header x-user")) },
        { "name": "key", "when": when("key"), "then": split(Some("key")) },
    ]);
    let gateway = gateway_with_rules(&one, &two, rules).run().await;
    let side = async |mode: &str, user: &str| {
        let headers = [("x-mode", mode), ("x-user", user)];
        let answer = ask(&gateway, &headers, chat_text("auto", "hi")).await;
        answer.header("x-llm-router-provider").unwrap().to_owned()
    };
    let (mut random, mut sides) = (0, BTreeMap::new());
    for at in 0..400 {
        random += u32::from(side("chance", "").await == "two");
        sides.insert(at, side("user", &format!("user-{at}")).await);
    }
    let stuck = sides.values().filter(|side| *side == "two").count();
    // A quarter of 400, give or take five standard deviations.
    assert!((57..=143).contains(&random), "{random} of 400 at random");
    assert!((57..=143).contains(&stuck), "{stuck} of 400 users");
    let mine = side("key", "").await;
    for at in (0..400).step_by(40) {
        let user = format!("user-{at}");
        assert_eq!(side("user", &user).await, sides[&at], "{user}");
        assert_eq!(side("key", &user).await, mine);
    }
}

#[tokio::test]
async fn switched_off_rules_decide_nothing() {
    let (one, two) = (mock().await, mock().await);
    let rules = json!([{ "name": "all", "then": { "use_model": "strong" } }]);
    let gateway = gateway_with_rules(&one, &two, rules)
        .set("/routing/enabled", false.into())
        .run()
        .await;
    for (model, expected) in [
        ("auto", "one by -"),
        ("fast", "one by -"),
        ("strong", "two by -"),
    ] {
        let answer = ask(&gateway, &[], chat_text(model, "hi")).await;
        assert_eq!(outcome(&answer), expected, "{model}");
    }
}

#[tokio::test]
async fn reloads_bring_new_rules_and_refuse_bad_ones() {
    let (one, two) = (mock().await, mock().await);
    let rules = json!([{ "name": "all", "then": { "use_model": "strong" } }]);
    let gateway = gateway_with_rules(&one, &two, rules).run().await;
    assert_eq!(
        outcome(&ask(&gateway, &[], chat_text("auto", "hi")).await),
        "two by all"
    );
    let reload = async |rules: Value, expected: &str| {
        let mut config = gateway.config.clone();
        config["routing"]["rules"] = rules;
        std::fs::write(gateway.config_file(), config.to_string()).unwrap();
        crate::harness::eventually(expected, || async { gateway.log().contains(expected) }).await;
    };
    let bad = json!([{ "name": "bad", "when": { "regex": "(" }, "then": { "use_model": "gone" } }]);
    reload(bad, "there is no model `gone`").await;
    gateway
        .logs("routing.rules[0].when.regex: unclosed group")
        .await;
    assert_eq!(
        outcome(&ask(&gateway, &[], chat_text("auto", "hi")).await),
        "two by all"
    );
    let dead = json!([
        { "name": "first", "when": { "model": "*" }, "then": { "use_model": "fast" } },
        { "name": "dead", "when": { "model": "auto" }, "then": { "use_model": "strong" } },
    ]);
    reload(dead, "never reached: rule `first`").await;
    crate::harness::eventually("the new rules decide", || async {
        outcome(&ask(&gateway, &[], chat_text("auto", "hi")).await) == "one by first"
    })
    .await;
}

#[tokio::test]
async fn auto_is_listed_where_it_leads_somewhere() {
    let (one, two) = (mock().await, mock().await);
    let rules = json!([{ "name": "all", "then": { "use_model": "strong" } }]);
    let keyed = |rules: Value| {
        gateway_with_rules(&one, &two, rules).add(
            "keys",
            json!({ "name": "narrow", "key": "sk-narrow-key-0123456789", "models": ["strong"] }),
        )
    };
    let narrow = [("authorization", "Bearer sk-narrow-key-0123456789")];
    let lists_auto = async |gateway: &Gateway, headers: &[(&str, &str)]| {
        let list = gateway.send("GET", "/v1/models", headers, "").await.json();
        let listed = list["data"][0]["id"] == "auto";
        let one = gateway.send("GET", "/v1/models/auto", headers, "").await;
        assert_eq!(one.status == 200, listed, "{list}");
        listed
    };
    let gateway = keyed(rules).run().await;
    assert!(lists_auto(&gateway, &[]).await && lists_auto(&gateway, &[VERSION]).await);
    assert!(lists_auto(&gateway, &narrow).await);
    drop(gateway);
    // The default model isn't the narrow key's, and there is no rule.
    let gateway = keyed(json!([])).run().await;
    assert!(lists_auto(&gateway, &[]).await && !lists_auto(&gateway, &narrow).await);
    drop(gateway);
    let gateway = keyed(json!([])).set("/routing", json!({})).run().await;
    assert!(!lists_auto(&gateway, &[]).await);
}
