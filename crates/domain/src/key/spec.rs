//! Definition of a key made by API, as it is sent, stored and shown. The key itself must never be
//! in it.

use jiff::Timestamp;
use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Allowance, Role};
use crate::budget::{Budget, Period};
use crate::limit::{Limits, Rate};

/// A key, with the fields of the configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    /// Its name, unique among all keys.
    pub name: String,
    /// Role of the key.
    #[serde(default)]
    pub role: Role,
    /// The team or project it belongs to; the key's name if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The models it may use; * stands for any text.
    #[serde(default = "any_model")]
    pub models: Vec<String>,
    /// Ceilings per window.
    #[serde(default)]
    pub limits: LimitSpec,
    /// A ceiling of money.
    #[serde(default)]
    pub budget: Option<BudgetSpec>,
    /// From when on it is refused.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
    /// False if the key is rejected.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// Limits of a key, a model or an owner, each above 0. A limit that is left out does not apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSpec {
    /// Requests in any 60 seconds, all of them at once if none was made for a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rpm: Option<u64>,
    /// Input and output tokens in any 60 seconds; up to a tenth more, so that a request may be larger
    /// than what is left. A request whose input alone is larger is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub tpm: Option<u64>,
    /// Concurrent requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub concurrency: Option<u32>,
    /// Requests allowed at once; the others then have an even pace of rpm a minute. Without it all of
    /// rpm may come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub burst: Option<u64>,
}

/// A budget: the most that may be spent in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetSpec {
    /// US dollars, above 0.
    #[serde(serialize_with = "write_usd", deserialize_with = "read_usd")]
    #[schemars(schema_with = "usd_schema")]
    pub usd: Decimal,
    /// The period after which spending starts again from 0.
    pub period: Period,
    /// Allow models without a price. They are refused otherwise, because their cost is unknown.
    #[serde(default)]
    pub allow_unpriced: bool,
}

/// Field that makes a key invalid, and the problem with it.
pub type KeyFieldError = (&'static str, &'static str);

/// The longest name of a key or an owner, in bytes.
const LONGEST_NAME: usize = 128;

impl KeySpec {
    /// The owner, which is the key itself if none is named.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.owner.as_deref().unwrap_or(&self.name)
    }

    /// Checks what the types can't say.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), KeyFieldError> {
        check_name("name", &self.name)?;
        check_name("owner", self.owner())?;
        if self.models.is_empty() {
            return Err(("models", "is empty: write [\"*\"] for all models"));
        }
        if self.models.iter().any(String::is_empty) {
            return Err(("models", "has an empty name in it"));
        }
        self.limits.check()?;
        match &self.budget {
            Some(budget) if budget.usd <= Decimal::ZERO => Err(("budget.usd", "must be above 0")),
            _ => Ok(()),
        }
    }
}

impl LimitSpec {
    /// As they are counted.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            requests: self.rpm.map(|rpm| Rate::new(rpm, self.burst)),
            tokens: self.tpm.map(|tpm| Rate::new(tpm, None)),
            concurrency: self.concurrency,
        }
    }

    fn check(&self) -> Result<(), KeyFieldError> {
        for (field, value) in [
            ("limits.rpm", self.rpm),
            ("limits.tpm", self.tpm),
            ("limits.burst", self.burst),
            ("limits.concurrency", self.concurrency.map(u64::from)),
        ] {
            if value == Some(0) {
                return Err((field, "must be above 0; leave it out for no limit"));
            }
        }
        if self.burst.is_some() && self.rpm.is_none() {
            return Err(("limits.burst", "has no effect without limits.rpm"));
        }
        Ok(())
    }
}

/// Converts the limits in force, burst included.
impl From<Limits> for LimitSpec {
    fn from(limits: Limits) -> Self {
        Self {
            rpm: limits.requests.map(Rate::per_minute),
            tpm: limits.tokens.map(Rate::per_minute),
            concurrency: limits.concurrency,
            burst: limits.requests.and_then(Rate::burst),
        }
    }
}

impl From<BudgetSpec> for Allowance {
    fn from(spec: BudgetSpec) -> Self {
        Self {
            budget: Budget {
                usd: spec.usd,
                period: spec.period,
            },
            allow_unpriced: spec.allow_unpriced,
        }
    }
}

impl From<Allowance> for BudgetSpec {
    fn from(allowance: Allowance) -> Self {
        Self {
            usd: allowance.budget.usd,
            period: allowance.budget.period,
            allow_unpriced: allowance.allow_unpriced,
        }
    }
}

fn check_name(field: &'static str, name: &str) -> Result<(), KeyFieldError> {
    let plain = !name.chars().any(char::is_control) && name.trim() == name;
    if name.is_empty() || name.len() > LONGEST_NAME || !plain {
        return Err((
            field,
            "must have 1 to 128 bytes, none of them a control character, no space around it",
        ));
    }
    Ok(())
}

fn any_model() -> Vec<String> {
    vec!["*".to_owned()]
}

const fn yes() -> bool {
    true
}

/// Amounts as text keep all their digits in every JSON library.
fn usd_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["number", "string"], "format": "usd", "examples": ["50", "12.50"] })
}

/// Keeps the digits as written: a number of JSON is read by its text.
fn read_usd<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    let text = match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::String(text) => text,
        _ => return Err(serde::de::Error::custom("expected an amount of US dollars")),
    };
    text.parse().map_err(serde::de::Error::custom)
}

fn write_usd<S: Serializer>(usd: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    let number: serde_json::Number =
        serde_json::from_str(&usd.normalize().to_string()).map_err(serde::ser::Error::custom)?;
    number.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let body = json!({ "name": "ci", "role": "viewer", "owner": "team", "models": ["fast"],
            "limits": { "rpm": 600 }, "expires_at": "2027-01-01T00:00:00Z", "enabled": true,
            "budget": { "usd": 50.25, "period": "month", "allow_unpriced": false } });
        let spec: KeySpec = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(spec.check(), Ok(()));
        assert_eq!(serde_json::to_value(&spec).unwrap(), body);
        let least: KeySpec = serde_json::from_value(json!({ "name": "ci" })).unwrap();
        assert_eq!(
            (least.owner(), least.models.as_slice()),
            ("ci", &["*".to_owned()][..])
        );
        assert!(least.enabled && least.limits.limits().is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, field) in [
            (json!({ "name": "" }), "name"),
            (json!({ "name": "a\nb" }), "name"),
            (json!({ "name": "a", "owner": " b" }), "owner"),
            (json!({ "name": "a", "models": [] }), "models"),
            (json!({ "name": "a", "limits": { "rpm": 0 } }), "limits.rpm"),
            (
                json!({ "name": "a", "limits": { "burst": 1 } }),
                "limits.burst",
            ),
            (
                json!({ "name": "a", "budget": { "usd": 0, "period": "day" } }),
                "budget.usd",
            ),
        ] {
            let spec: KeySpec = serde_json::from_value(body.clone()).unwrap();
            assert_eq!(
                spec.check().map_err(|(field, _)| field),
                Err(field),
                "{body}"
            );
        }
        for body in [
            json!({ "name": "a", "budget": { "usd": 1, "period": "year" } }),
            json!({ "name": "a", "limit": {} }),
            json!({ "name": "a", "key": "sk-mine" }),
        ] {
            assert!(
                serde_json::from_value::<KeySpec>(body.clone()).is_err(),
                "{body}"
            );
        }
    }
}
