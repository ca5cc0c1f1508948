//! Each condition, and requests that meet it or don't.

use serde_json::{Value, json};

use super::{Ask, ask};

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn table() -> Vec<(Value, Vec<(bool, Ask)>)> {
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
        (
            json!({"time": {"from": "22:00", "to": "06:00", "days": ["sun"]}}),
            vec![
                (true, at(MONDAY - HOUR)),
                (true, at(MONDAY + 6 * HOUR - 1)),
                (false, at(MONDAY + 6 * HOUR)),
                (false, at(MONDAY - 19 * HOUR)),
                (false, at(MONDAY + 23 * HOUR)),
            ],
        ),
        (
            json!({"time": {"from": "23:30"}}),
            vec![
                (true, at(MONDAY - 1)),
                (false, at(MONDAY)),
                (false, at(MONDAY - HOUR)),
            ],
        ),
        (
            json!({"not": {"time": {"to": "00:30", "days": ["mon", "tue"]}}}),
            vec![
                (false, at(MONDAY)),
                (false, at(MONDAY + 24 * HOUR)),
                (true, at(MONDAY + 48 * HOUR)),
                (true, at(MONDAY + HOUR / 2)),
            ],
        ),
        (
            json!({"all": [
                {"any": [{"not": {"has": ["tools"]}}, {"owner": "team-b"}]},
                {"not": {"all": [{"key": "ci"}, {"regex": "x"}]}}]}),
            vec![
                (true, spoken("y")),
                (false, spoken("x")),
                (true, spoken("x").with(|ask| ask.key = "web")),
                (false, tools()),
                (true, tools().with(|ask| ask.owner = Some("team-b"))),
            ],
        ),
    ]
}
