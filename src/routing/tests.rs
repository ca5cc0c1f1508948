use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use llm_router_domain::header::CREDENTIALS;
use llm_router_domain::key::Role;
use llm_router_domain::limit::Limits;
use llm_router_domain::pattern::PatternList;
use llm_router_domain::rule::{Facts as _, RuleNames, RuleSpec, compile};
use serde_json::json;

use crate::routing::*;
use crate::snapshot::testing::{model, provider, snapshot};

const CHAT: Endpoint = Endpoint::ChatCompletions;
const MESSAGES: Endpoint = Endpoint::Messages;

fn routing(rules: Value) -> Snapshot {
    routing_with(rules, false)
}

fn routing_with(rules: Value, fallbacks_included: bool) -> Snapshot {
    let providers = vec![
        provider("openai", "custom", &["*"]),
        provider("claude", "anthropic", &["*"]),
        provider("local", "custom", &["llama", "org/qwen"]),
    ];
    let mut models = vec![
        model(
            "fast",
            &[
                (0, &providers[0], "gpt-4o-mini"),
                (2, &providers[2], "llama"),
            ],
            &["smart"],
        ),
        model(
            "smart",
            &[(1, &providers[1], "opus"), (0, &providers[0], "gpt-4o")],
            &[],
        ),
    ];
    Arc::get_mut(&mut models[0]).unwrap().fallbacks_included = fallbacks_included;
    let specs: Vec<RuleSpec> = serde_json::from_value(rules).unwrap();
    let names = RuleNames {
        models: ["fast", "smart"].into(),
        providers: [
            ("openai", PatternList::new(["*"])),
            ("claude", PatternList::new(["*"])),
            ("local", PatternList::new(["llama", "org/qwen"])),
        ]
        .into(),
        keys: BTreeSet::new(),
        owners: BTreeSet::new(),
    };
    let compiled = compile(&specs, &names, None);
    assert!(!compiled.has_errors(), "{:?}", compiled.problems);
    Snapshot {
        rules: Arc::new(compiled.rules),
        ..snapshot(providers, models, Some("fast"))
    }
}

fn key(allowed: &[&str]) -> Key {
    Key {
        name: "k".into(),
        owner: None,
        role: Role::User,
        models: PatternList::new(allowed.iter().copied()),
        expires_at: None,
        limits: Limits::NONE,
        budget: None,
    }
}

fn asked<R>(
    snapshot: &Snapshot,
    allowed: &[&str],
    model: &str,
    endpoint: Endpoint,
    ask: impl FnOnce(&RouteRequest<'_>) -> R,
) -> R {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "my parcel"}]});
    ask(&RouteRequest {
        snapshot,
        enabled: true,
        key: &key(allowed),
        endpoint,
        model,
        headers: &HeaderMap::new(),
        body: body.to_string().as_bytes(),
        now: UNIX_EPOCH,
        random: 0,
    })
}

fn names(course: &RouteCursor) -> String {
    let name = |found: &Deployment| format!("{}:{}", found.provider.id, found.model);
    let names: Vec<_> = course.remaining().map(name).collect();
    names.join(" ")
}

/// Returns the deployments of a request, or the status and the code that it is answered.
fn candidates(snapshot: &Snapshot, allowed: &[&str], model: &str, endpoint: Endpoint) -> String {
    asked(snapshot, allowed, model, endpoint, |asking| {
        match route(asking) {
            Ok(route) => names(&route.course),
            Err(refused) => format!("{} {}", refused.fault.status, refused.fault.code),
        }
    })
}

#[test]
fn names_lead_to_deployments() {
    let snapshot = routing(json!([]));
    let fast = "openai:gpt-4o-mini local:llama claude:opus openai:gpt-4o";
    for (asked, endpoint, expected) in [
        ("fast", CHAT, fast),
        ("auto", CHAT, fast),
        ("smart", MESSAGES, "claude:opus openai:gpt-4o"),
        ("smart", Endpoint::CountTokens, "claude:opus"),
        ("smart", Endpoint::Embeddings, "openai:gpt-4o"),
        ("local/llama", MESSAGES, "local:llama"),
        ("local/llama", Endpoint::CountTokens, ""),
        ("openai/gpt-5", CHAT, "openai:gpt-5"),
        ("local/org/qwen", CHAT, "local:org/qwen"),
        ("org/qwen", CHAT, "openai:org/qwen"),
        ("gpt-5", CHAT, "openai:gpt-5"),
        ("opus", MESSAGES, "claude:opus"),
        ("local/unknown", CHAT, "openai:local/unknown"),
    ] {
        assert_eq!(
            candidates(&snapshot, &["*"], asked, endpoint),
            expected,
            "{asked}"
        );
    }
}

#[test]
fn bare_names_prefer_a_provider_that_has_responses() {
    let mut chat_only = Arc::into_inner(provider("chat-only", "custom", &["*"])).unwrap();
    Arc::make_mut(&mut chat_only.config).settings.responses = false;
    let providers = vec![Arc::new(chat_only), provider("openai", "openai", &["*"])];
    let snapshot = snapshot(providers, vec![], None);
    for (endpoint, expected) in [
        (Endpoint::Responses, "openai:gpt"),
        (CHAT, "chat-only:gpt"),
        (MESSAGES, "chat-only:gpt"),
    ] {
        assert_eq!(candidates(&snapshot, &["*"], "gpt", endpoint), expected);
    }
}

#[test]
fn what_cannot_be_served_is_refused() {
    let snapshot = routing(json!([]));
    for (allowed, asked, endpoint, expected) in [
        (
            ["*"],
            "claude/opus",
            Endpoint::Embeddings,
            "400 invalid_value",
        ),
        (["fast"], "smart", CHAT, "403 permission_denied"),
        (["smart"], "auto", CHAT, "403 permission_denied"),
        (["fast"], "auto", CHAT, "openai:gpt-4o-mini local:llama"),
        (["gpt-*"], "gpt-5", CHAT, "openai:gpt-5"),
    ] {
        assert_eq!(
            candidates(&snapshot, &allowed, asked, endpoint),
            expected,
            "{asked}"
        );
    }
}

#[test]
fn unknown_models_are_404_for_every_key() {
    let snapshot = snapshot(vec![provider("local", "custom", &["llama"])], vec![], None);
    for allowed in ["*", "llama"] {
        for asked in ["gpt-4o", "auto", "local/", "local/x", "/llama"] {
            let got = candidates(&snapshot, &[allowed], asked, CHAT);
            assert_eq!(got, "404 model_not_found", "{asked}");
        }
    }
}

#[test]
fn rules_say_where_requests_go() {
    let to = |then: Value| json!([{"name": "r", "when": {"regex": "parcel"}, "then": then}]);
    let fast = "openai:gpt-4o-mini local:llama claude:opus openai:gpt-4o";
    let smart = "claude:opus openai:gpt-4o";
    for (then, asked, endpoint, expected) in [
        (json!({"use_model": "smart"}), "auto", CHAT, smart),
        (json!({"use_model": "smart"}), "fast", MESSAGES, smart),
        (
            json!({"use_model": "local/llama"}),
            "fast",
            CHAT,
            "local:llama",
        ),
        // A bare name is routed like `auto`; only `provider/model` bypasses the rules.
        (
            json!({"use_model": "smart"}),
            "openai/gpt-5",
            CHAT,
            "openai:gpt-5",
        ),
        (json!({"use_model": "smart"}), "gpt-5", CHAT, smart),
        (json!({"use_model": "smart"}), "org/qwen", CHAT, smart),
        (json!({"set": {"top_p": 1}}), "gpt-5", CHAT, "openai:gpt-5"),
        // The model asked where the provider serves it, fallbacks included, and only there.
        (
            json!({"use_provider": "local"}),
            "fast",
            CHAT,
            "local:llama",
        ),
        (
            json!({"use_provider": "openai"}),
            "fast",
            CHAT,
            "openai:gpt-4o-mini openai:gpt-4o",
        ),
        (
            json!({"use_provider": "claude"}),
            "fast",
            MESSAGES,
            "claude:opus",
        ),
        // Else the provider's first deployment.
        (
            json!({"use_provider": "local"}),
            "smart",
            CHAT,
            "local:llama",
        ),
        (
            json!({"use_provider": "claude"}),
            "auto",
            MESSAGES,
            "claude:opus",
        ),
        (
            json!({"use_provider": "claude"}),
            "fast",
            Endpoint::Embeddings,
            "400 invalid_value",
        ),
        (
            json!({"split": [{"model": "smart", "weight": 1}]}),
            "auto",
            CHAT,
            smart,
        ),
        (
            json!({"block": {"status": 451, "message": "no"}}),
            "fast",
            CHAT,
            "451 blocked",
        ),
        (json!({"set": {"top_p": 1}}), "auto", CHAT, fast),
        (json!({"set": {"top_p": 1}}), "smart", CHAT, smart),
    ] {
        let got = candidates(&routing(to(then.clone())), &["*"], asked, endpoint);
        assert_eq!(got, expected, "{then} for {asked}");
    }
}

#[test]
fn rules_are_told_of_no_credential() {
    let mut headers = HeaderMap::new();
    for name in CREDENTIALS
        .into_iter()
        .chain(["x-forwarded-access-token", "x-region"])
    {
        headers.append(name, "secret".parse().unwrap());
    }
    asked(&routing(json!([])), &["*"], "fast", CHAT, |request| {
        let request = Request::new(RouteRequest {
            headers: &headers,
            ..*request
        });
        for name in headers.keys() {
            let seen = request.header(name.as_str());
            assert_eq!(seen.is_some(), name == "x-region", "{name}: {seen:?}");
        }
    });
}

#[test]
fn the_model_routed_to_must_be_the_keys_too() {
    let to = |then: Value| routing(json!([{"name": "r", "then": then}]));
    let (smart, local) = (
        to(json!({"use_model": "smart"})),
        to(json!({"use_provider": "local"})),
    );
    for (snapshot, allowed, asked, expected) in [
        (&smart, &["fast"][..], "fast", "403 permission_denied"),
        (&smart, &["smart"], "fast", "403 permission_denied"),
        (&smart, &["smart"], "auto", "claude:opus openai:gpt-4o"),
        (
            &smart,
            &["fast", "smart"],
            "fast",
            "claude:opus openai:gpt-4o",
        ),
        (&local, &["fast"], "fast", "local:llama"),
        (&local, &["smart"], "smart", "403 permission_denied"),
        (&local, &["smart", "local/*"], "smart", "local:llama"),
        (&local, &["smart", "llama"], "smart", "local:llama"),
    ] {
        assert_eq!(
            candidates(snapshot, allowed, asked, CHAT),
            expected,
            "{allowed:?} {asked}"
        );
    }
}

#[test]
fn fallbacks_must_be_the_keys_too() {
    let snapshot = routing(json!([]));
    let own = "openai:gpt-4o-mini local:llama";
    let all = "openai:gpt-4o-mini local:llama claude:opus openai:gpt-4o";
    assert_eq!(candidates(&snapshot, &["fast"], "fast", CHAT), own);
    assert_eq!(candidates(&snapshot, &["fast", "smart"], "fast", CHAT), all);
    assert_eq!(candidates(&snapshot, &["auto", "fast"], "auto", CHAT), own);
    asked(&snapshot, &["fast"], "fast", CHAT, |asking| {
        let route = route(asking).unwrap();
        let explanation = format!("{:?}", route.explanation);
        assert!(
            explanation.contains("may not use this fallback"),
            "{explanation}"
        );
    });
    let snapshot = routing_with(json!([]), true);
    assert_eq!(candidates(&snapshot, &["fast"], "fast", CHAT), all);
}

#[test]
fn routes_tell_of_their_rule() {
    let snapshot = routing(json!([
        {"name": "no", "when": {"model": "smart"}, "then": {"block": {}}},
        {"name": "yes", "then": {"set": {"top_p": 1}}},
    ]));
    asked(&snapshot, &["*"], "fast", CHAT, |asking| {
        let route = route(asking).unwrap();
        assert_eq!(route.rule.as_deref(), Some("yes"));
        assert_eq!(route.set, [("top_p".to_owned(), json!(1))]);
        assert_eq!(route.model.unwrap().name, "fast");
    });
    asked(&snapshot, &["*"], "smart", CHAT, |asking| {
        let refused = route(asking).unwrap_err();
        assert_eq!(
            (refused.rule.as_deref(), refused.fault.status),
            (Some("no"), 403)
        );
    });
    asked(&snapshot, &["*"], "smart", CHAT, |asking| {
        let off = RouteRequest {
            enabled: false,
            ..*asking
        };
        let route = route(&off).unwrap();
        assert_eq!(
            (route.rule, names(&route.course)),
            (None, "claude:opus openai:gpt-4o".to_owned())
        );
        assert!(bypass(&off).is_some());
    });
}
