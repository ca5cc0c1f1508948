//! Rules can't be used to learn a credential: an operator writes rules about the headers of another
//! client's requests and reads which rule matched.

use jiff::Timestamp;
use llm_router_store::objects::{ChangedBy, ObjectChange, ObjectDraft, ObjectKind};
use llm_router_store::{StoreUrl, open};
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, KEY, chat_body, eventually, mock};
use crate::toggle::{OPERATOR, SharedStore};

const RULES: &str = "/api/v1/router/rules";

/// The headers of the victim's requests, beside its key in `authorization`.
const SENT: [(&str, &str); 9] = [
    ("x-region", "eu-west"),
    ("x-api-key", KEY),
    ("api-key", KEY),
    ("x-goog-api-key", KEY),
    ("x-llm-router-key", KEY),
    ("cookie", "session-0123456789"),
    ("proxy-authorization", "sk-proxy-0123456789"),
    ("x-amz-security-token", "sk-session-0123456789"),
    ("X-Forwarded-Access-Token", "sk-forwarded-0123456789"),
];

/// The names of those that are credentials.
fn credentials() -> impl Iterator<Item = &'static str> {
    let sent = SENT.iter().map(|(name, _)| *name);
    sent.filter(|name| *name != "x-region")
        .chain(["authorization"])
}

fn rule(name: &str, when: &Value) -> Value {
    json!({ "name": name, "priority": -1, "when": when, "then": { "set": { "temperature": 0 } } })
}

fn about(header: &str, regex: &str) -> Value {
    json!({ "header": { "name": header, "regex": regex } })
}

/// An operator who wants to know what is in a header of the victim's requests.
struct Attacker<'a> {
    gateway: &'a Gateway,
    header: &'a str,
    /// The rule that questions are put by, once there is one.
    rule: Option<String>,
    refused: usize,
}

impl<'a> Attacker<'a> {
    fn new(gateway: &'a Gateway, header: &'a str) -> Self {
        Self {
            gateway,
            header,
            rule: None,
            refused: 0,
        }
    }

    /// Puts a question by a rule; true if the victim's next request is told to have met it.
    async fn ask(&mut self, regex: &str) -> bool {
        let name = format!("oracle of {}", self.header);
        let question = rule(&name, &about(self.header, regex));
        let (method, path) = match &self.rule {
            None => ("POST", RULES.to_owned()),
            Some(id) => ("PUT", format!("{RULES}/{id}")),
        };
        let put = self
            .gateway
            .administer(OPERATOR, method, &path, &[], &question)
            .await;
        match put.status {
            200 | 201 => self.rule = put.json()["id"].as_str().map(str::to_owned),
            400 => self.refused += 1,
            other => panic!("{other}: {put:?}"),
        }
        rule_told_of(self.gateway).await == name.as_str()
    }

    /// Reads the beginning of the header's value, each sign by halving what it may be.
    async fn read(&mut self, length: usize) -> String {
        let signs = "-0123456789abcdefghijklmnopqrstuvwxyz";
        let mut known = String::new();
        while known.len() < length && self.ask(&format!("^(Bearer )?{known}[{signs}]")).await {
            let (mut low, mut high) = (0, signs.len());
            while high - low > 1 {
                let middle = usize::midpoint(low, high);
                let half = &signs[low..middle];
                if self.ask(&format!("^(Bearer )?{known}[{half}]")).await {
                    high = middle;
                } else {
                    low = middle;
                }
            }
            known.push_str(&signs[low..high]);
        }
        known
    }
}

/// Sends a request of the victim's and gives the rule that an operator is told of.
async fn rule_told_of(gateway: &Gateway) -> Value {
    let sent = gateway.chat("fast", &SENT).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let path = format!("/api/v1/requests/{}", sent.header("x-request-id").unwrap());
    let told = gateway
        .administer(OPERATOR, "GET", &path, &[], &Value::Null)
        .await;
    assert_eq!(told.status, 200, "{told:?}");
    let rule = told.json()["rule"].clone();
    assert_eq!(rule.as_str(), sent.header("x-llm-router-rule"));
    rule
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_tell_what_a_header_holds_but_no_credential() {
    let mock = mock().await;
    let shared = SharedStore::sqlite();
    let gateway = shared.replica(&mock, json!({})).await;
    // The attack works on what is no secret.
    let mut attacker = Attacker::new(&gateway, "x-region");
    assert_eq!(attacker.read(4).await, "eu-w");
    assert!(!attacker.ask("^nothing$").await);
    // Neither another header in a rule that is there nor a new rule tells anything of a credential.
    for header in credentials() {
        let rules = [attacker.rule.clone(), None];
        for rule in rules {
            let mut attacker = Attacker {
                rule,
                ..Attacker::new(&gateway, header)
            };
            assert_eq!(attacker.read(4).await, "", "{header}");
            assert_eq!(attacker.refused, 1, "{header}");
        }
    }
}

async fn make(gateway: &Gateway, rule: &Value) -> Answer {
    gateway.administer(OPERATOR, "POST", RULES, &[], rule).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_about_credentials_are_refused_with_the_remedy() {
    let mock = mock().await;
    let shared = SharedStore::sqlite();
    let gateway = shared.replica(&mock, json!({})).await;
    let key = about("Authorization", "^Bearer sk-[a-m]");
    let equals = json!({ "header": { "name": "x_api_key", "equals": KEY } });
    let split = |by: &str| {
        json!({ "name": "r", "then": { "split": [{ "model": "fast", "weight": 1 },
            { "model": "strong", "weight": 1 }], "sticky_by": by } })
    };
    for (rule, field) in [
        (rule("r", &key), "when.header.name"),
        (rule("r", &equals), "when.header.name"),
        (rule("r", &json!({ "not": key })), "when.not.header.name"),
        (
            rule(
                "r",
                &json!({ "any": [{ "all": [{ "tokens": { "min": 1 } }, key] }] }),
            ),
            "when.any[0].all[1].header.name",
        ),
        (split("header cookie"), "then.sticky_by"),
        (split("header  X-Llm-Router-Key "), "then.sticky_by"),
    ] {
        let refused = make(&gateway, &rule).await;
        let error = refused.json()["error"].clone();
        assert_eq!(
            (refused.status, &error["field"]),
            (400, &json!(field)),
            "{rule}"
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("carries a credential"), "{message}");
        assert!(message.contains("`key`"), "{message}");
    }
    assert_eq!(rule_told_of(&gateway).await, Value::Null);
    the_file_may_not_either(&gateway, &rule("r", &json!({ "not": key }))).await;
}

async fn the_file_may_not_either(gateway: &Gateway, rule: &Value) {
    let mut config = gateway.config.clone();
    config["routing"] = json!({ "rules": [rule] });
    std::fs::write(gateway.config_file(), config.to_string()).unwrap();
    let output = gateway.command(&["check"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let wanted = "routing.rules[0].when.not.header.name: `Authorization` carries a credential, and no \
                  rule may look at one: use `key` or `owner` to tell clients apart";
    assert!(said.contains(wanted), "{said}");
    // A running router keeps what it has.
    gateway.logs("failed to reload the configuration").await;
    assert_eq!(rule_told_of(gateway).await, Value::Null);
}

/// Puts rules into the store past every check, as a version without the check has left them.
async fn plant(shared: &SharedStore, rules: &[Value]) {
    let store = open(&StoreUrl::parse(&shared.url()).unwrap())
        .await
        .unwrap();
    for rule in rules {
        let name = rule["name"].as_str().unwrap().to_owned();
        let draft = ObjectDraft {
            kind: ObjectKind::Rule,
            id: format!("id-of-{name}"),
            name,
            body: rule.clone(),
            sealed: None,
        };
        let by = ChangedBy {
            actor: "operator".to_owned(),
            at: Timestamp::now(),
        };
        store.change(ObjectChange::Create(draft), by).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_rules_about_credentials_are_left_out_and_shown() {
    let mock = mock().await;
    let shared = SharedStore::sqlite();
    let mut gateway = shared.replica(&mock, json!({})).await;
    let mut planted = Vec::new();
    for header in credentials() {
        planted.push(rule(&format!("{header} is there"), &about(header, ".")));
        let absent = json!({ "not": about(header, ".") });
        planted.push(rule(&format!("{header} isn't"), &absent));
        let mut split = rule(&format!("split by {header}"), &json!({}));
        split["then"]["split"] = json!([{ "model": "strong", "weight": 1 }]);
        split["then"]["sticky_by"] = json!(format!("header {header}"));
        planted.push(split);
    }
    plant(&shared, &planted).await;
    let broken = planted.len() as f64;
    gateway.shows("llm_router_rules_broken", &[], broken).await;
    assert_eq!(rule_told_of(&gateway).await, Value::Null);
    // Nor do they keep the router from starting.
    gateway.kill_and_restart().await;
    gateway.shows("llm_router_rules_broken", &[], broken).await;
    assert_eq!(rule_told_of(&gateway).await, Value::Null);
    let path = format!("{RULES}/id-of-authorization%20is%20there");
    let shown = gateway
        .administer(OPERATOR, "GET", &path, &[], &Value::Null)
        .await
        .json();
    assert_eq!(shown["broken"], true, "{shown}");
    let problem = &shown["problems"][0];
    assert_eq!(problem["field"], "when.header.name");
    assert!(
        problem["message"]
            .as_str()
            .unwrap()
            .contains("carries a credential"),
        "{problem}"
    );
    let path = "/api/v1/router/explain";
    let body: Value = serde_json::from_str(&chat_body("fast", false)).unwrap();
    let told = gateway
        .administer(OPERATOR, "POST", path, &SENT[..1], &body)
        .await;
    assert_eq!((told.status, &told.json()["rules"]), (200, &json!([])));
    // One that asks for something else works, beside them.
    plant(&shared, &[rule("region", &about("x-region", "^eu"))]).await;
    eventually("the rule is in force", || async {
        rule_told_of(&gateway).await == "region"
    })
    .await;
}
