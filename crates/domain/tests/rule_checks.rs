//! Problems that `compile` reports: one table of mistakes, one of unreachable rules.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeSet;

use llm_router_domain::{
    pattern::PatternList,
    rule::{RuleNames, RuleSpec, Severity, compile},
};
use serde_json::{Value, json};

fn names() -> RuleNames<'static> {
    RuleNames {
        models: BTreeSet::from(["fast", "strong", "cheap"]),
        providers: [
            ("openai", PatternList::new(["*"])),
            ("eu-vllm", PatternList::new(["qwen-3", "llama-*"])),
        ]
        .into(),
        keys: BTreeSet::from(["ci", "web"]),
        owners: BTreeSet::from(["team-a"]),
    }
}

fn spec(rule: &Value) -> RuleSpec {
    let mut rule = rule.clone();
    if rule.get("then").is_none() {
        rule["then"] = json!({"use_model": "fast"});
    }
    if rule.get("name").is_none() {
        rule["name"] = json!("r");
    }
    serde_json::from_value(rule).unwrap()
}

/// The problems of one rule as `severity path: message`.
fn problems(rules: &[Value]) -> Vec<String> {
    let specs: Vec<RuleSpec> = rules.iter().map(spec).collect();
    let compiled = compile(&specs, &names(), None);
    let errors = compiled
        .problems
        .iter()
        .filter(|p| p.severity == Severity::Error);
    let broken: BTreeSet<usize> = errors.map(|problem| problem.index).collect();
    assert_eq!(
        compiled.rules.len(),
        rules.len() - broken.len(),
        "broken rules are left out"
    );
    let line = |p: &llm_router_domain::rule::RuleFinding| {
        format!("{:?} {}: {}", p.severity, p.path, p.message).to_lowercase()
    };
    compiled.problems.iter().map(line).collect()
}

/// Each rule, and the start of each problem it must have; none: it is fine.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_mistake_is_reported() {
    let deep = (0..40).fold(json!({"key": "ci"}), |inner, _| json!({"not": inner}));
    let table: Vec<(Value, Vec<&str>)> = vec![
        (json!({"when": {}}), vec![]),
        (
            json!({"when": {"regex": "a(b"}}),
            vec!["error when.regex: unclosed group"],
        ),
        (
            json!({"when": {"regex": "a{1000}{1000}"}}),
            vec!["error when.regex: compiles to more"],
        ),
        (
            json!({"when": {"regex": "(?=a)"}}),
            vec!["error when.regex: look-around"],
        ),
        (
            json!({"when": {"regex": "x*"}}),
            vec!["warning when.regex: matches every text"],
        ),
        (
            json!({"when": {"regex": r"[^\s\S]"}}),
            vec![
                "warning when.regex: matches no text",
                "warning : never matches",
            ],
        ),
        (
            json!({"when": {"in": "any", "key": "ci"}}),
            vec!["error when.in: is allowed beside"],
        ),
        (
            json!({"when": {"complexity": {"min": 0.9, "max": 0.1}}}),
            vec!["error when.complexity: min 0.9 is above max 0.1"],
        ),
        (
            json!({"when": {"complexity": {"max": 3}}}),
            vec!["error when.complexity.max: must be between 0 and 1, got 3"],
        ),
        (
            json!({"when": {"complexity": {}}}),
            vec!["warning when.complexity: spans all"],
        ),
        (
            json!({"when": {"tokens": {"min": 10, "max": 9}}}),
            vec!["error when.tokens: min 10"],
        ),
        (
            json!({"when": {"tokens": {}}}),
            vec!["warning when.tokens: has no bound"],
        ),
        (
            json!({"when": {"model": "fst"}}),
            vec![
                "warning when.model: `fst` matches neither a public model nor one that a provider lists (did you mean `fast`?)",
            ],
        ),
        (json!({"when": {"model": "auto"}}), vec![]),
        (json!({"when": {"model": "*st"}}), vec![]),
        (
            json!({"when": {"header": {"name": "x-a"}}}),
            vec!["error when.header: needs either"],
        ),
        (
            json!({"when": {"header": {"name": "x-a", "equals": "b", "regex": "c"}}}),
            vec!["error when.header: needs either"],
        ),
        (
            json!({"when": {"header": {"name": "x a", "equals": "b"}}}),
            vec!["error when.header.name: `x a` is no header name"],
        ),
        (
            json!({"when": {"header": {"name": "x-a", "regex": "["}}}),
            vec!["error when.header.regex: unclosed character class"],
        ),
        (
            json!({"when": {"header": {"name": "Authorization", "regex": "^Bearer sk-[a-m]"}}}),
            vec![
                "error when.header.name: `authorization` carries a credential, and no rule may look \
                 at one: use `key` or `owner` to tell clients apart",
            ],
        ),
        (
            json!({"enabled": false, "when": {"header": {"name": "x-llm-router-key", "equals": "sk-1"}}}),
            vec!["error when.header.name: `x-llm-router-key` carries a credential"],
        ),
        (
            json!({"when": {"any": [{"key": "ci"}, {"not": {"header": {"name": "x-auth-token", "regex": "("}}}]}}),
            vec!["error when.any[1].not.header.name: `x-auth-token` carries a credential"],
        ),
        (
            json!({"when": {"key": "cj"}}),
            vec!["warning when.key: no key is named `cj` (did you mean `ci`?)"],
        ),
        (
            json!({"when": {"owner": "nobody"}}),
            vec!["warning when.owner: no key belongs to"],
        ),
        (
            json!({"when": {"has": []}}),
            vec!["warning when.has: names nothing"],
        ),
        (
            json!({"when": {"time": {"from": "7:00"}}}),
            vec!["error when.time.from: `7:00`"],
        ),
        (
            json!({"when": {"time": {"days": []}}}),
            vec!["error when.time.days: names no day"],
        ),
        (
            json!({"when": {"time": {}}}),
            vec!["warning when.time: spans the whole week"],
        ),
        (
            json!({"when": {"all": []}}),
            vec!["warning when.all: is empty"],
        ),
        (
            json!({"when": {"any": []}}),
            vec!["error when.any: is empty"],
        ),
        (
            json!({"when": {"any": [{"key": "ci"}, {"all": [{"regex": "("}]}]}}),
            vec!["error when.any[1].all[0].regex: unclosed group"],
        ),
        (
            json!({"when": {"not": {}}}),
            vec!["warning : never matches"],
        ),
        (
            json!({"when": {"key": "ci", "not": {"key": "ci"}}}),
            vec!["warning : never matches"],
        ),
        (
            json!({"when": {"key": "ci", "all": [{"key": "web"}]}}),
            vec!["warning : never"],
        ),
        (
            json!({"when": {"tokens": {"max": 5}, "all": [{"tokens": {"min": 6}}]}}),
            vec!["warning : never matches"],
        ),
        (json!({"when": deep}), vec!["error when.not"]),
        (json!({"then": {}}), vec!["error then: does nothing"]),
        (
            json!({"then": {"set": {}}}),
            vec!["error then: does nothing", "warning then.set"],
        ),
        (json!({"then": {"set": {"max_tokens": 5}}}), vec![]),
        (
            json!({"then": {"set": {"model": "x", "stream": true}}}),
            vec![
                "error then.set.model: can't be set by a rule: use `use_model`",
                "error then.set.stream: can't be set by a rule",
            ],
        ),
        (
            json!({"then": {"use_model": "fasst"}}),
            vec!["error then.use_model: there is no model `fasst` (did you mean `fast`?)"],
        ),
        (
            json!({"then": {"use_model": "auto"}}),
            vec!["error then.use_model: there is no model"],
        ),
        (json!({"then": {"use_model": "openai/gpt-4o"}}), vec![]),
        (json!({"then": {"use_model": "eu-vllm/llama-3"}}), vec![]),
        (
            json!({"then": {"use_model": "eu-vllm/gpt-4o"}}),
            vec!["error then.use_model"],
        ),
        (json!({"then": {"use_model": "qwen-3"}}), vec![]),
        (
            json!({"then": {"use_provider": "open-ai"}}),
            vec![
                "error then.use_provider: there is no provider `open-ai` (did you mean `openai`?)",
            ],
        ),
        (
            json!({"then": {"use_model": "fast", "use_provider": "openai"}}),
            vec!["error then: has use_model and use_provider: only one of them can be"],
        ),
        (
            json!({"then": {"split": []}}),
            vec!["error then.split: is empty"],
        ),
        (
            json!({"then": {"split": [{"model": "fast", "weight": 0}]}}),
            vec![
                "error then.split: has no share",
                "warning then.split[0].weight: is 0",
            ],
        ),
        (
            json!({"then": {"split": [{"model": "nope", "weight": 1}]}}),
            vec!["error then.split[0].model: there is no model `nope`"],
        ),
        (
            json!({"then": {"split": [{"model": "fast", "weight": 1}, {"model": "fast", "weight": 1}]}}),
            vec!["error then.split[1].model: `fast` has a share already"],
        ),
        (
            json!({"then": {"use_model": "fast", "sticky_by": "key"}}),
            vec!["error then.sticky_by: is allowed beside `split` only"],
        ),
        (
            json!({"then": {"split": [{"model": "fast", "weight": 1}], "sticky_by": "user"}}),
            vec!["error then.sticky_by: `user` is neither"],
        ),
        (
            json!({"then": {"split": [{"model": "fast", "weight": 1}], "sticky_by": "header x-user"}}),
            vec![],
        ),
        (
            json!({"then": {"split": [{"model": "fast", "weight": 1}], "sticky_by": "header Cookie"}}),
            vec![
                "error then.sticky_by: `cookie` carries a credential, and no rule may look at one: \
                 write `key`, or name another header",
            ],
        ),
        (
            json!({"then": {"block": {"status": 200, "message": "no"}}}),
            vec!["error then.block.status: must be between 400 and 599, got 200"],
        ),
        (
            json!({"then": {"block": {}, "set": {"n": 1}}}),
            vec!["warning then.set: has no effect"],
        ),
        (json!({"name": " "}), vec!["error name: is empty"]),
        (
            json!({"name": "a\nb"}),
            vec!["error name: has a control character"],
        ),
    ];
    for (rule, want) in table {
        let got = problems(std::slice::from_ref(&rule));
        let fits =
            got.len() == want.len() && want.iter().all(|w| got.iter().any(|g| g.starts_with(w)));
        assert!(fits, "{rule}\n  want {want:?}\n  got  {got:?}");
    }
}

#[test]
fn every_mistake_of_a_rule_is_reported_at_once() {
    let got = problems(&[json!({
        "when": {"regex": "(", "complexity": {"max": 2}, "time": {"to": "x"}},
        "then": {"use_model": "x", "use_provider": "y"},
    })]);
    assert_eq!(got.len(), 5, "{got:?}");
}

#[test]
fn names_are_unique() {
    let got = problems(&[
        json!({"when": {"key": "ci"}}),
        json!({"when": {"key": "web"}}),
    ]);
    assert_eq!(got, ["error name: `r` is the name of another rule too"]);
}

#[test]
fn unknown_fields_are_refused() {
    for rule in [
        json!({"name": "r", "then": {"use_model": "fast"}, "wen": {}}),
        json!({"name": "r", "when": {"regx": "a"}, "then": {"use_model": "fast"}}),
        json!({"name": "r", "when": {"header": {"name": "a", "equal": "b"}}, "then": {}}),
        json!({"name": "r", "then": {"use_modell": "fast"}}),
        json!({"name": "r", "when": {"in": "first_user"}, "then": {}}),
    ] {
        assert!(
            serde_json::from_value::<RuleSpec>(rule.clone()).is_err(),
            "{rule}"
        );
    }
}

#[test]
fn rules_survive_a_round_trip() {
    let rule = json!({
        "id": "7", "name": "r", "priority": 5, "enabled": false,
        "when": {"regex": "a", "in": "any", "not": {"time": {"from": "22:00", "days": ["mon"]}},
                 "has": ["tools", "json_schema"], "header": {"name": "x", "equals": "y"}},
        "then": {"split": [{"model": "fast", "weight": 2}], "sticky_by": "key", "set": {"n": 1}},
    });
    let spec: RuleSpec = serde_json::from_value(rule.clone()).unwrap();
    assert_eq!(serde_json::to_value(spec).unwrap(), rule);
}

/// Conditions in order; the rules (named a, b, c …) that must be reported as never reached, each
/// with the names that the report must give as the cause.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn rules_never_reached_are_reported() {
    let yes = |cause: &'static str| Some(cause);
    let table: Vec<(Vec<Value>, Vec<Option<&str>>)> = vec![
        (
            vec![json!({}), json!({"key": "ci"}), json!({})],
            vec![None, yes("`a`"), yes("`a`")],
        ),
        (
            vec![json!({"key": "ci"}), json!({"key": "ci"})],
            vec![None, yes("`a`")],
        ),
        (
            vec![json!({"key": "ci"}), json!({"key": "web"})],
            vec![None, None],
        ),
        (
            vec![
                json!({"key": "ci"}),
                json!({"key": "ci", "owner": "team-a"}),
            ],
            vec![None, yes("`a`")],
        ),
        (
            vec![
                json!({"key": "ci", "owner": "team-a"}),
                json!({"key": "ci"}),
            ],
            vec![None, None],
        ),
        (
            vec![
                json!({"regex": "abc"}),
                json!({"regex": "abc", "in": "system"}),
            ],
            vec![None, None],
        ),
        (
            vec![
                json!({"regex": "abc", "in": "any"}),
                json!({"regex": "abc"}),
            ],
            vec![None, yes("`a`")],
        ),
        (
            vec![
                json!({"regex": "^abc", "in": "any"}),
                json!({"regex": "^abc"}),
            ],
            vec![None, None],
        ),
        (
            vec![json!({"regex": "err"}), json!({"regex": "error 5"})],
            vec![None, yes("`a`")],
        ),
        (
            vec![json!({"regex": "ERR"}), json!({"regex": "error 5"})],
            vec![None, None],
        ),
        (
            vec![
                json!({"regex": "(?i)ERR"}),
                json!({"regex": "(?i)an error"}),
            ],
            vec![None, yes("`a`")],
        ),
        (
            vec![json!({"regex": "err"}), json!({"regex": "(?i)an error"})],
            vec![None, None],
        ),
        (
            vec![json!({"regex": r"\berr"}), json!({"regex": "error"})],
            vec![None, None],
        ),
        (
            vec![
                json!({"regex": "red|blue"}),
                json!({"regex": "(?:dark|light) blue"}),
            ],
            vec![None, None],
        ),
        (
            vec![
                json!({"regex": "(?i)red|blue"}),
                json!({"regex": "(?i)(dark|light) blue"}),
            ],
            vec![None, yes("`a`")],
        ),
        (
            vec![
                json!({"any": [{"regex": "foo"}, {"regex": "bar"}]}),
                json!({"regex": "a bar"}),
            ],
            vec![None, yes("`a`")],
        ),
        (
            vec![
                json!({"regex": "foo"}),
                json!({"regex": "bar"}),
                json!({"any": [{"regex": "foo"}, {"regex": "bar"}]}),
            ],
            vec![None, None, yes("`a`, `b`")],
        ),
        (
            vec![
                json!({"complexity": {"max": 0.5}}),
                json!({"complexity": {"max": 0.3}}),
            ],
            vec![None, yes("`a`")],
        ),
        (
            vec![
                json!({"complexity": {"max": 0.3}}),
                json!({"complexity": {"max": 0.5}}),
            ],
            vec![None, None],
        ),
        (
            vec![
                json!({"complexity": {"max": 0.5}}),
                json!({"complexity": {"min": 0.5}}),
                json!({}),
            ],
            vec![None, None, yes("`a`, `b`")],
        ),
        (
            vec![
                json!({"complexity": {"max": 0.4}}),
                json!({"complexity": {"min": 0.5}}),
                json!({}),
            ],
            vec![None, None, None],
        ),
        (
            vec![
                json!({"tokens": {"max": 9}}),
                json!({"tokens": {"min": 10}}),
                json!({"key": "ci"}),
            ],
            vec![None, None, yes("`a`, `b`")],
        ),
        (
            vec![
                json!({"tokens": {"max": 9}}),
                json!({"tokens": {"min": 11}}),
                json!({"key": "ci"}),
            ],
            vec![None, None, None],
        ),
        (
            vec![
                json!({"not": {"model": "f*"}}),
                json!({"model": "f*"}),
                json!({"key": "ci"}),
            ],
            vec![None, None, yes("`a`, `b`")],
        ),
        (
            vec![json!({"model": "*"}), json!({"model": "fast"})],
            vec![None, yes("`a`")],
        ),
        (
            vec![json!({"model": "*st*"}), json!({"model": "fast"})],
            vec![None, yes("`a`")],
        ),
        (
            vec![json!({"model": "fast"}), json!({"model": "*"})],
            vec![None, None],
        ),
        (
            vec![
                json!({"not": {"model": "strong"}}),
                json!({"model": "fast"}),
            ],
            vec![None, yes("`a`")],
        ),
        (
            vec![
                json!({"has": ["tools"]}),
                json!({"has": ["images", "tools"]}),
            ],
            vec![None, yes("`a`")],
        ),
        (
            vec![
                json!({"has": ["images", "tools"]}),
                json!({"has": ["tools"]}),
            ],
            vec![None, None],
        ),
        (
            vec![
                json!({"time": {"from": "08:00", "to": "20:00"}}),
                json!({"time": {"from": "09:00", "to": "10:00", "days": ["mon"]}}),
            ],
            vec![None, yes("`a`")],
        ),
        (
            vec![
                json!({"time": {"from": "08:00", "to": "20:00"}}),
                json!({"time": {"from": "20:00", "to": "08:00"}}),
                json!({"key": "ci"}),
            ],
            vec![None, None, yes("`a`, `b`")],
        ),
        (
            vec![
                json!({"header": {"name": "X-A", "equals": "1"}}),
                json!({"header": {"name": "x-a", "equals": "1"}, "key": "ci"}),
            ],
            vec![None, yes("`a`")],
        ),
        (
            vec![
                json!({"header": {"name": "x-a", "equals": "1"}}),
                json!({"header": {"name": "x-a", "equals": "2"}}),
            ],
            vec![None, None],
        ),
        (
            vec![
                json!({"key": "ci", "complexity": {"max": 0.5}}),
                json!({"complexity": {"min": 0.4}}),
                json!({"key": "ci"}),
                json!({"key": "web"}),
            ],
            vec![None, None, yes("`a`, `b`"), None],
        ),
    ];
    for (conditions, want) in table {
        let rules: Vec<Value> = conditions
            .iter()
            .zip('a'..)
            .map(|(when, name)| json!({"name": name.to_string(), "when": when}))
            .collect();
        let specs: Vec<RuleSpec> = rules.iter().map(spec).collect();
        let problems = compile(&specs, &names(), None).problems;
        for (index, cause) in want.iter().enumerate() {
            let about = |p: &&llm_router_domain::rule::RuleFinding| {
                p.index == index && p.message.starts_with("never reached")
            };
            let found = problems.iter().find(about).map(|p| p.message.as_str());
            let fits = match (found, cause) {
                (Some(message), Some(cause)) => message.contains(cause),
                (None, None) => true,
                _ => false,
            };
            assert!(
                fits,
                "rule {index} of {conditions:?}: want {cause:?}, got {found:?}"
            );
        }
    }
}

#[test]
fn order_is_by_priority_and_then_as_given() {
    let rules = [
        json!({"name": "late", "priority": 9, "when": {"key": "ci"}}),
        json!({"name": "all", "priority": 5}),
        json!({"name": "early", "priority": -1, "when": {"key": "ci"}}),
    ];
    let specs: Vec<RuleSpec> = rules.iter().map(spec).collect();
    let problems = compile(&specs, &names(), None).problems;
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].index, problems[0].rule.as_str()), (0, "late"));
}

#[test]
fn rules_not_enabled_take_nothing() {
    let rules = [
        json!({"name": "a", "enabled": false}),
        json!({"name": "b", "when": {"key": "ci"}}),
    ];
    let specs: Vec<RuleSpec> = rules.iter().map(spec).collect();
    assert_eq!(compile(&specs, &names(), None).problems, []);
}
