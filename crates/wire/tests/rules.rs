//! Rules over bodies: every case is asked as an OpenAI chat, an OpenAI response and an Anthropic
//! message, and must be decided alike.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::borrow::Cow;

use llm_router_domain::{
    complexity::{Lexical, Scorer},
    pattern::PatternList,
    rule::{Area, Facts, Feature, Names, Route, RuleSpec, Rules, WeekMinute, compile},
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
    let names = Names {
        models: ["fast", "strong", "new"].into(),
        providers: [("eu", PatternList::new(["*"]))].into(),
        ..Names::default()
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
            Route::AsAsked => "as asked".to_owned(),
            Route::Model(model) => model.to_owned(),
            Route::Provider(provider) => format!("provider {provider}"),
            Route::Block { status, message } => format!("{status} {message}"),
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

/// Each condition, and requests that meet it or don't.
#[expect(clippy::too_many_lines, reason = "a table")]
fn conditions() -> Vec<(Value, Vec<(bool, Ask)>)> {
    let spoken = |user: &'static str| ask(user);
    let system = |text: &'static str| ask("hi").with(|ask| ask.system = text);
    let turns = |turns: &[&'static str]| ask("").with(|ask| ask.turns = turns.to_vec());
    let result = |text: &'static str| ask("weather?").with(|ask| ask.tool_result = text);
    let model = |model: &'static str| ask("hi").with(|ask| ask.model = model);
    let key = |key: &'static str| ask("hi").with(|ask| ask.key = key);
    let owner = |owner| ask("hi").with(|ask| ask.owner = owner);
    let at = |unix: i64| ask("hi").with(|ask| ask.unix = unix);
    let header = |name: &'static str, value: &'static str| {
        ask("hi").with(|a| a.headers = vec![(name, value)])
    };
    let tools = || ask("hi").with(|ask| ask.tools = true);
    let image = || ask("hi").with(|ask| ask.image = true);
    let schema = || ask("hi").with(|ask| ask.schema = true);
    const HOUR: i64 = 3_600;
    /// Monday 00:00 UTC.
    const MONDAY: i64 = 1_767_571_200;
    vec![
        (json!({}), vec![(true, ask("hi")), (true, ask(""))]),
        (
            json!({"regex": "(?i)stack trace|segfault"}),
            vec![
                (true, spoken("I got a SEGFAULT here")),
                (true, spoken("see this stack trace")),
                (false, spoken("see this trace")),
                (false, system("stack trace")),
                (true, turns(&["a", "b", "a segfault"])),
                (false, turns(&["a segfault", "b", "c"])),
                (false, result("segfault")),
            ],
        ),
        (
            json!({"regex": "be terse", "in": "system"}),
            vec![
                (true, system("You must be terse.")),
                (false, system("You must be kind.")),
                (false, spoken("be terse")),
            ],
        ),
        (
            json!({"regex": "secret", "in": "any"}),
            vec![
                (true, spoken("a secret")),
                (true, system("a secret")),
                (true, turns(&["a", "a secret", "c"])),
                (true, result("a secret")),
                (false, spoken("a sekret")),
            ],
        ),
        (
            json!({"regex": "weather", "in": "last_user"}),
            vec![
                (true, result("sunny")),
                (false, turns(&["weather", "b", "c"])),
            ],
        ),
        (
            json!({"regex": r"^\d{3}-\d{2}-\d{4}$"}),
            vec![
                (true, spoken("123-45-6789")),
                (false, spoken("it is 123-45-6789")),
            ],
        ),
        (
            json!({"regex": r"\b\d{3}-\d{2}-\d{4}\b"}),
            vec![
                (true, spoken("it is 123-45-6789.")),
                (false, spoken("it is 0123-45-67890")),
            ],
        ),
        (
            json!({"regex": "(?m)^select "}),
            vec![
                (true, spoken("what is\nselect 1")),
                (false, spoken("please select 1")),
            ],
        ),
        (
            json!({"regex": "数据库|死锁"}),
            vec![
                (true, spoken("我的数据库很慢")),
                (false, spoken("我的程序很慢")),
            ],
        ),
        (
            json!({"regex": "(?i)ÜBUNG"}),
            vec![(true, spoken("eine Übung")), (false, spoken("eine Ubung"))],
        ),
        (
            json!({"regex": "quote \"this\" \\\\ and\ttab"}),
            vec![
                (true, spoken("quote \"this\" \\ and\ttab")),
                (false, spoken("quote this")),
            ],
        ),
        (
            json!({"complexity": {"max": 0.35}}),
            vec![
                (true, spoken("hello")),
                (true, spoken("Translate \"good morning\" into Spanish.")),
                (
                    false,
                    spoken(
                        "Prove that there are infinitely many primes, derive a bound and analyze it.",
                    ),
                ),
            ],
        ),
        (
            json!({"complexity": {"min": 0.6}}),
            vec![
                (false, spoken("hello")),
                (
                    true,
                    spoken(
                        "Prove that there are infinitely many primes, derive a bound and analyze it.",
                    ),
                ),
            ],
        ),
        (
            json!({"model": "auto"}),
            vec![(true, model("auto")), (false, model("fast"))],
        ),
        (
            json!({"model": "fa*"}),
            vec![
                (true, model("fast")),
                (false, model("strong")),
                (false, model("auto")),
            ],
        ),
        (
            json!({"model": "*e*"}),
            vec![(true, model("new")), (false, model("strong"))],
        ),
        (
            json!({"not": {"model": "s*"}}),
            vec![(true, model("fast")), (false, model("strong"))],
        ),
        (
            json!({"header": {"name": "X-Region", "equals": "eu"}}),
            vec![
                (true, header("x-region", "eu")),
                (false, header("x-region", "eu-west")),
                (false, header("x-region", "EU")),
                (false, header("x-other", "eu")),
                (false, ask("hi")),
            ],
        ),
        (
            json!({"header": {"name": "x-region", "regex": "^eu(-|$)"}}),
            vec![
                (true, header("x-region", "eu")),
                (true, header("x-region", "eu-west")),
                (false, header("x-region", "europe")),
                (false, ask("hi")),
            ],
        ),
        (
            json!({"header": {"name": "x-debug", "regex": ""}}),
            vec![(true, header("x-debug", "")), (false, ask("hi"))],
        ),
        (
            json!({"key": "ci"}),
            vec![(true, key("ci")), (false, key("web")), (false, key("CI"))],
        ),
        (
            json!({"owner": "team-a"}),
            vec![
                (true, owner(Some("team-a"))),
                (false, owner(Some("team-b"))),
                (false, owner(None)),
            ],
        ),
        (
            json!({"tokens": {"max": 20}}),
            vec![
                (true, spoken("hi")),
                (
                    false,
                    spoken(
                        "one two three four five six seven eight nine ten \
                one two three four five six seven eight nine ten",
                    ),
                ),
            ],
        ),
        (
            json!({"tokens": {"min": 900}}),
            vec![(true, image()), (false, spoken("hi"))],
        ),
        (
            json!({"tokens": {"min": 1, "max": 100}}),
            vec![(true, spoken("hi")), (false, image())],
        ),
        (
            json!({"has": ["tools"]}),
            vec![(true, tools()), (false, ask("hi")), (false, schema())],
        ),
        (
            json!({"has": ["images"]}),
            vec![(true, image()), (false, ask("hi"))],
        ),
        (
            json!({"has": ["json_schema"]}),
            vec![(true, schema()), (false, ask("hi"))],
        ),
        (
            json!({"has": ["tools", "images"]}),
            vec![
                (true, tools().with(|ask| ask.image = true)),
                (false, tools()),
                (false, image()),
            ],
        ),
        (
            json!({"time": {"from": "08:00", "to": "18:00"}}),
            vec![
                (true, at(MONDAY + 8 * HOUR)),
                (true, at(MONDAY + 18 * HOUR - 1)),
                (false, at(MONDAY + 18 * HOUR)),
                (false, at(MONDAY)),
            ],
        ),
        (
            json!({"time": {"from": "22:00", "to": "06:00", "days": ["fri"]}}),
            vec![
                (true, at(MONDAY + (4 * 24 + 23) * HOUR)),
                (true, at(MONDAY + (5 * 24 + 5) * HOUR)),
                (false, at(MONDAY + (4 * 24 + 5) * HOUR)),
                (false, at(MONDAY + (5 * 24 + 23) * HOUR)),
            ],
        ),
        (
            json!({"time": {"days": ["sat", "sun"]}}),
            vec![(true, at(MONDAY - HOUR)), (false, at(MONDAY + HOUR))],
        ),
        (
            json!({"all": [{"key": "ci"}, {"regex": "bug"}]}),
            vec![
                (true, spoken("a bug")),
                (false, spoken("a mug")),
                (false, spoken("a bug").with(|ask| ask.key = "web")),
            ],
        ),
        (
            json!({"any": [{"key": "web"}, {"regex": "bug"}]}),
            vec![
                (true, spoken("a bug")),
                (true, key("web")),
                (false, spoken("a mug")),
            ],
        ),
        (
            json!({"not": {"any": [{"key": "web"}, {"regex": "bug"}]}}),
            vec![
                (false, spoken("a bug")),
                (false, key("web")),
                (true, spoken("a mug")),
            ],
        ),
        (
            json!({"key": "ci", "regex": "bug", "not": {"has": ["tools"]}}),
            vec![
                (true, spoken("a bug")),
                (false, spoken("a bug").with(|ask| ask.tools = true)),
                (false, spoken("a bug").with(|ask| ask.key = "web")),
            ],
        ),
        (
            json!({"all": [{"header": {"name": "x-region", "equals": "eu"}}, {"not": {"model": "s*"}}]}),
            vec![
                (true, header("x-region", "eu")),
                (
                    false,
                    header("x-region", "eu").with(|ask| ask.model = "strong"),
                ),
                (false, ask("hi")),
            ],
        ),
        (
            json!({"any": [
            {"all": [{"regex": "a1"}, {"regex": "b2"}]},
            {"all": [{"regex": "c3"}, {"not": {"regex": "d4"}}]}]}),
            vec![
                (true, spoken("a1 b2")),
                (false, spoken("a1")),
                (true, spoken("c3")),
                (false, spoken("c3 d4")),
                (true, spoken("a1 b2 c3 d4")),
                (false, spoken("d4")),
            ],
        ),
        (
            json!({"regex": "first line\nsecond"}),
            vec![
                (true, spoken("first line\nsecond line")),
                (false, spoken("first line second")),
            ],
        ),
        (
            json!({"regex": "(?i)password", "in": "any", "not": {"owner": "team-a"}}),
            vec![
                (false, spoken("my password")),
                (true, spoken("my PassWord").with(|ask| ask.owner = None)),
                (
                    true,
                    result("the password is").with(|ask| ask.owner = Some("team-b")),
                ),
            ],
        ),
        (
            json!({"any": [{"has": ["images"]}, {"has": ["json_schema"]}]}),
            vec![(true, image()), (true, schema()), (false, tools())],
        ),
        (
            json!({"not": {"not": {"regex": "x{3}"}}}),
            vec![(true, spoken("axxxb")), (false, spoken("axxb"))],
        ),
        (
            json!({"complexity": {"min": 0.0, "max": 0.5}, "tokens": {"max": 2000}}),
            vec![
                (true, spoken("hello")),
                (true, ask("hello").with(|ask| ask.image = true)),
            ],
        ),
        (
            json!({"regex": "alpha", "all": [{"regex": "beta", "in": "system"}]}),
            vec![
                (true, spoken("alpha").with(|ask| ask.system = "beta")),
                (false, spoken("alpha")),
                (false, spoken("beta").with(|ask| ask.system = "alpha")),
            ],
        ),
    ]
}

#[test]
fn conditions_hold_in_every_format() {
    let mut cases = 0;
    for (when, asks) in conditions() {
        let rules = rules(&json!([{"name": "it", "when": when, "then": {"use_model": "fast"}}]));
        for (at, (want, ask)) in asks.iter().enumerate() {
            let want = if *want { "it: fast" } else { "-: as asked" };
            assert_eq!(decided(&rules, ask), want, "request {at} of {when}");
            cases += 1;
        }
    }
    println!("{cases} cases in three formats");
    assert!(cases >= 120, "{cases}");
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
