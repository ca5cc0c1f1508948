//! `/api/v1/router/rules`: rules of the file, which are read-only, and rules created through the
//! API. Rules are checked by the router, which compiles them like those of the file.

use jiff::Timestamp;
use llm_router_domain::rule::{Action, Condition, RuleSpec};
use serde::Serialize;
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::crud::{Resource, ResourceDocs};
use crate::objects::{ApiObject, Collection, ObjectSource};
use crate::openapi::reference;

/// A rule, as the API returns it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Rule)]
pub struct RuleObject {
    /// Id of the rule.
    pub id: String,
    /// Name, unique among all rules.
    pub name: String,
    /// Rules are tried in ascending priority.
    pub priority: i64,
    /// Disabled rules are skipped.
    pub enabled: bool,
    /// Conditions, all of which must hold.
    #[schema(schema_with = condition_schema)]
    pub when: Condition,
    /// Action if they hold.
    #[schema(schema_with = action_schema)]
    pub then: Action,
    /// Source of the rule.
    pub source: ObjectSource,
    /// True if the rule has an error and is therefore skipped.
    pub broken: bool,
    /// Errors and warnings.
    pub problems: Vec<RuleProblem>,
    /// Version for `If-Match`; rules of the file have none.
    #[serde(skip)]
    pub version: Option<u64>,
    /// Time of creation through the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    pub created_at: Option<Timestamp>,
    /// Time of the last change through the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    pub updated_at: Option<Timestamp>,
}

/// An error or a warning about a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RuleProblem {
    /// `error`: the rule is skipped. `warning`: it is active, but probably not as intended.
    pub severity: &'static str,
    /// Path of the field, such as `when.regex`; empty for the rule as a whole.
    pub field: String,
    /// Description of the problem.
    pub message: String,
}

impl ApiObject for RuleObject {
    const NOUN: &'static str = "rule";
    const UNIQUE: &'static str = "name";

    fn id(&self) -> &str {
        &self.id
    }

    fn version(&self) -> Option<u64> {
        self.version
    }
}

impl Resource for RuleObject {
    type Spec = RuleSpec;

    const DOCS: ResourceDocs = ResourceDocs {
        path: "/api/v1/router/rules",
        tag: "router",
        spec_schema: "RuleSpec",
        list: "In the order in which they are tried.",
        create: "",
        replace: "",
        delete: "",
    };

    const ANSWER_ONLY: &'static [&'static str] = &[
        "id",
        "source",
        "broken",
        "problems",
        "created_at",
        "updated_at",
    ];

    fn example() -> Value {
        json!({
            "name": "eu-to-fast",
            "priority": 5,
            "then": { "use_model": "fast" },
            "when": { "header": { "name": "x-region", "equals": "eu" } },
        })
    }

    fn collection(backend: &dyn Backend) -> &dyn Collection<Object = Self, Spec = RuleSpec> {
        backend.rules()
    }
}

fn condition_schema() -> utoipa::openapi::Ref {
    reference("Condition")
}

fn action_schema() -> utoipa::openapi::Ref {
    reference("Action")
}
