//! Rules over bodies: every case is asked as an OpenAI chat, an OpenAI response and an Anthropic
//! message, and must be decided alike.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod bodies;
mod conditions;

use std::borrow::Cow;

use llm_router_domain::{
    complexity::{Lexical, Scorer},
    pattern::PatternList,
    rule::{Area, Facts, Feature, RuleNames, RuleRoute, RuleSpec, Rules, WeekMinute, compile},
};
use llm_router_wire::prompt::Prompt;
use serde_json::{Value, json};

/// A request, told without a format.
#[derive(Clone, Default)]
struct Ask {
    model: &'static str,
    system: &'static str,
    /// What user and assistant say in turn, the user first.
    turns: Vec<&'static str>,
    tool_result: &'static str,
    tools: bool,
    image: bool,
    schema: bool,
    headers: Vec<(&'static str, &'static str)>,
    key: &'static str,
    owner: Option<&'static str>,
    unix: i64,
    random: u64,
}

/// A request with one message.
fn ask(text: &'static str) -> Ask {
    // A Wednesday, 12:00.
    let unix = 1_767_787_200;
    Ask {
        model: "auto",
        turns: vec![text],
        key: "ci",
        owner: Some("team-a"),
        unix,
        ..Ask::default()
    }
}

impl Ask {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn roles(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        ["user", "assistant"]
            .into_iter()
            .cycle()
            .zip(self.turns.iter().copied())
    }

    fn openai_chat(&self) -> Value {
        let mut messages = Vec::new();
        if !self.system.is_empty() {
            messages.push(json!({"role": "system", "content": self.system}));
        }
        for (role, text) in self.roles() {
            messages.push(json!({"role": role, "content": text}));
        }
        if self.image {
            let url = json!({"url": "data:image/png;base64,AAAA"});
            let last = messages.last_mut().unwrap();
            let text = last["content"].take();
            last["content"] =
                json!([{"type": "text", "text": text}, {"type": "image_url", "image_url": url}]);
        }
        if !self.tool_result.is_empty() {
            let call = json!({"id": "t", "type": "function",
                              "function": {"name": "get", "arguments": "{}"}});
            messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
            messages
                .push(json!({"role": "tool", "tool_call_id": "t", "content": self.tool_result}));
        }
        let mut body = json!({"model": self.model, "messages": messages});
        if self.tools {
            body["tools"] = json!([{"type": "function", "function": {"name": "get"}}]);
        }
        if self.schema {
            let schema = json!({"name": "n", "schema": {}});
            body["response_format"] = json!({"type": "json_schema", "json_schema": schema});
        }
        body
    }

    fn openai_responses(&self) -> Value {
        let mut items = Vec::new();
        for (role, text) in self.roles() {
            let kind = if role == "user" {
                "input_text"
            } else {
                "output_text"
            };
            items.push(json!({"type": "message", "role": role,
                              "content": [{"type": kind, "text": text}]}));
        }
        if self.image {
            let content = items.last_mut().unwrap()["content"].as_array_mut().unwrap();
            content.push(json!({"type": "input_image", "image_url": "https://a.example/b.png"}));
        }
        if !self.tool_result.is_empty() {
            items.push(
                json!({"type": "function_call", "call_id": "t", "name": "get",
                              "arguments": "{}"}),
            );
            items.push(json!({"type": "function_call_output", "call_id": "t",
                              "output": self.tool_result}));
        }
        let mut body = json!({"model": self.model, "input": items});
        if !self.system.is_empty() {
            body["instructions"] = json!(self.system);
        }
        if self.tools {
            body["tools"] = json!([{"type": "function", "name": "get"}]);
        }
        if self.schema {
            body["text"] = json!({"format": {"type": "json_schema", "name": "n", "schema": {}}});
        }
        body
    }

    fn anthropic_messages(&self) -> Value {
        let mut messages = Vec::new();
        for (role, text) in self.roles() {
            messages.push(json!({"role": role, "content": [{"type": "text", "text": text}]}));
        }
        if self.image {
            let source = json!({"type": "base64", "media_type": "image/png", "data": "AAAA"});
            let content = messages.last_mut().unwrap()["content"]
                .as_array_mut()
                .unwrap();
            content.push(json!({"type": "image", "source": source}));
        }
        if !self.tool_result.is_empty() {
            messages.push(json!({"role": "assistant", "content": [
                {"type": "tool_use", "id": "t", "name": "get", "input": {}}]}));
            messages.push(json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": self.tool_result}]}));
        }
        let mut body = json!({"model": self.model, "max_tokens": 100, "messages": messages});
        if !self.system.is_empty() {
            body["system"] = json!([{"type": "text", "text": self.system}]);
        }
        if self.tools {
            body["tools"] = json!([{"name": "get", "input_schema": {"type": "object"}}]);
        }
        if self.schema {
            body["output_config"] = json!({"format": {"type": "json_schema", "schema": {}}});
        }
        body
    }
}

/// A request as rules see it.
struct Request<'a> {
    ask: &'a Ask,
    prompt: Prompt<'a>,
}

impl Facts for Request<'_> {
    fn model(&self) -> &str {
        self.ask.model
    }

    fn text(&self, area: Area) -> &str {
        self.prompt.text(area)
    }

    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let found = self.ask.headers.iter().find(|header| header.0 == name);
        found.map(|header| Cow::Borrowed(header.1))
    }

    fn key(&self) -> &str {
        self.ask.key
    }

    fn owner(&self) -> Option<&str> {
        self.ask.owner
    }

    fn tokens(&self) -> u64 {
        self.prompt.tokens()
    }

    fn has(&self, feature: Feature) -> bool {
        self.prompt.has(feature)
    }

    fn complexity(&self) -> f64 {
        Lexical.score(&self.prompt.complexity())
    }

    fn now(&self) -> WeekMinute {
        WeekMinute::from_unix(self.ask.unix)
    }

    fn random(&self) -> u64 {
        self.ask.random
    }
}

fn rules(specs: &Value) -> Rules {
    let specs: Vec<RuleSpec> = serde_json::from_value(specs.clone()).unwrap();
    let names = RuleNames {
        models: ["fast", "strong", "new"].into(),
        providers: [("eu", PatternList::new(["*"]))].into(),
        ..RuleNames::default()
    };
    let compiled = compile(&specs, &names, None);
    assert!(!compiled.has_errors(), "{:?}", compiled.problems);
    compiled.rules
}

/// The decision as one line, after all formats agreed on it.
fn decided(rules: &Rules, ask: &Ask) -> String {
    let bodies = [
        ask.openai_chat(),
        ask.openai_responses(),
        ask.anthropic_messages(),
    ];
    let lines = bodies.map(|body| {
        let body = body.to_string();
        let request = Request {
            ask,
            prompt: Prompt::read(body.as_bytes()).unwrap(),
        };
        let decision = rules.decide(&request);
        assert_eq!(rules.explain(&request).0, decision);
        let rule = decision.rule.map_or("-", |rule| rule.name);
        let route = match decision.route {
            RuleRoute::AsAsked => "as asked".to_owned(),
            RuleRoute::Model(model) => model.to_owned(),
            RuleRoute::Provider(provider) => format!("provider {provider}"),
            RuleRoute::Block { status, message } => format!("{status} {message}"),
        };
        let set: Vec<String> = decision
            .set
            .iter()
            .map(|(k, v)| format!(" {k}={v}"))
            .collect();
        format!("{rule}: {route}{}", set.concat())
    });
    assert!(lines.iter().all(|line| *line == lines[0]), "{lines:?}");
    lines[0].clone()
}

#[test]
fn conditions_hold_in_every_format() {
    let mut cases = 0;
    for (when, asks) in conditions::table() {
        let rules = rules(&json!([{"name": "it", "when": when, "then": {"use_model": "fast"}}]));
        for (at, (want, ask)) in asks.iter().enumerate() {
            let want = if *want { "it: fast" } else { "-: as asked" };
            assert_eq!(decided(&rules, ask), want, "request {at} of {when}");
            cases += 1;
        }
    }
    println!("{cases} cases in three formats");
    assert!(cases >= 130, "{cases}");
}

#[test]
fn actions_are_carried_out() {
    let split = json!([{"model": "fast", "weight": 3}, {"model": "new", "weight": 1}]);
    for (then, ask, want) in [
        (json!({"use_model": "strong"}), ask("hi"), "it: strong"),
        (json!({"use_model": "eu/qwen"}), ask("hi"), "it: eu/qwen"),
        (json!({"use_provider": "eu"}), ask("hi"), "it: provider eu"),
        (
            json!({"block": {"status": 451, "message": "no"}}),
            ask("hi"),
            "it: 451 no",
        ),
        (
            json!({"block": {}}),
            ask("hi"),
            "it: 403 This request is blocked by a routing rule.",
        ),
        (
            json!({"set": {"max_tokens": 5}}),
            ask("hi"),
            "it: as asked max_tokens=5",
        ),
        (
            json!({"use_model": "fast", "set": {"temperature": 0.5, "seed": 1}}),
            ask("hi"),
            "it: fast seed=1 temperature=0.5",
        ),
        (json!({"split": split}), ask("hi"), "it: fast"),
        (
            json!({"split": split}),
            ask("hi").with(|ask| ask.random = u64::MAX),
            "it: new",
        ),
    ] {
        let rules = rules(&json!([{"name": "it", "then": then}]));
        assert_eq!(decided(&rules, &ask), want, "{then}");
    }
}

#[test]
fn sticky_splits_stay_and_follow_their_weights() {
    let split = json!([{"model": "fast", "weight": 90}, {"model": "new", "weight": 10}]);
    let by_key = rules(&json!([{"name": "it", "then": {"split": split, "sticky_by": "key"}}]));
    let by_header =
        rules(&json!([{"name": "it", "then": {"split": split, "sticky_by": "header X-User"}}]));
    let mut new = 0;
    for user in 0..2_000_u32 {
        let user: &'static str = Box::leak(format!("user-{user}").into_boxed_str());
        let keyed = ask("hi").with(|ask| ask.key = user);
        let headed = ask("other").with(|ask| ask.headers = vec![("x-user", user)]);
        let side = decided(&by_key, &keyed);
        // Neither chance nor the text moves it, and a header sticks as a key does.
        assert_eq!(
            decided(&by_key, &keyed.with(|ask| ask.random = u64::MAX)),
            side
        );
        assert_eq!(decided(&by_header, &headed), side);
        new += u32::from(side == "it: new");
    }
    assert!((160..240).contains(&new), "{new} of 2,000 at 10 %");
    // Without the header there is nothing to stick to.
    assert_eq!(decided(&by_header, &ask("hi")), "it: fast");
    assert_eq!(
        decided(&by_header, &ask("hi").with(|ask| ask.random = u64::MAX)),
        "it: new"
    );
}

#[test]
fn the_first_rule_by_priority_wins() {
    let rules = rules(&json!([
        {"name": "late", "priority": 20, "when": {"regex": "x"}, "then": {"use_model": "strong"}},
        {"name": "off", "priority": 1, "enabled": false, "then": {"use_model": "strong"}},
        {"name": "second", "priority": 10, "when": {"regex": "x|y"}, "then": {"use_model": "new"}},
        {"name": "first", "priority": 10, "when": {"key": "web"}, "then": {"use_model": "fast"}},
        {"name": "rest", "priority": 30, "then": {"block": {"status": 400, "message": "none"}}},
    ]));
    let web = |text| ask(text).with(|ask| ask.key = "web");
    for (ask, want) in [
        (ask("x"), "second: new"),
        (web("x"), "second: new"),
        (web("z"), "first: fast"),
        (ask("z"), "rest: 400 none"),
    ] {
        assert_eq!(decided(&rules, &ask), want);
    }
}

#[test]
fn explanations_name_the_reasons() {
    let rules = rules(&json!([
        {"name": "off", "enabled": false, "then": {"use_model": "fast"}},
        {"name": "code", "when": {"regex": "segfault", "key": "web"}, "then": {"use_model": "strong"}},
        {"name": "hard", "when": {"complexity": {"min": 0.9}}, "then": {"use_model": "strong"}},
        {"name": "eu", "when": {"any": [{"header": {"name": "x-region", "equals": "eu"}},
                                        {"model": "s*"}]}, "then": {"use_provider": "eu"}},
        {"name": "plain", "when": {"not": {"has": ["tools"]}, "tokens": {"max": 100}},
         "then": {"use_model": "fast"}},
        {"name": "rest", "then": {"use_model": "new"}},
    ]));
    let ask = ask("a segfault").with(|ask| ask.headers = vec![("x-region", "us")]);
    let body = ask.openai_chat().to_string();
    let request = Request {
        ask: &ask,
        prompt: Prompt::read(body.as_bytes()).unwrap(),
    };
    let (decision, tried) = rules.explain(&request);
    assert_eq!(decision.rule.unwrap().name, "plain");
    let lines: Vec<String> = tried
        .iter()
        .map(|t| format!("{} {}: {}", t.name, t.matched, t.why))
        .collect();
    for (line, want) in lines.iter().zip([
        "off false: is not enabled",
        "code false: key isn't `web`",
        "hard false: complexity 0.",
        "eu false: header x-region isn't `eu`; model `auto` doesn't match `s*`",
        "plain true: 6 tokens, at most 100; has no tools",
        "rest false: not tried: `plain` matched before",
    ]) {
        assert!(line.starts_with(want), "{line}\n{want}");
    }
    assert!(
        !lines.join("").contains("`us`"),
        "a header's value is the client's secret"
    );
}
