//! `type` of a provider: one of the names in the registry of provider types. What a type is, is
//! `llm-router-providers`'.

use std::borrow::Cow;

use llm_router_providers::{self as providers, ProviderType};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::{Value as Json, json};

/// The type that a provider names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawProviderType(pub(crate) &'static dyn ProviderType);

impl<'de> Deserialize<'de> for RawProviderType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        let found = providers::find(&name);
        found
            .map(Self)
            .ok_or_else(|| Error::custom("expected the name of a provider type"))
    }
}

impl JsonSchema for RawProviderType {
    /// The name in the published schema, and of the component in the admin API's document.
    fn schema_name() -> Cow<'static, str> {
        "ProviderKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |kind: &&dyn ProviderType| json!({ "description": kind.description(), "type": "string", "const": kind.name() });
        let all: Vec<Json> = providers::all().iter().map(one).collect();
        json_schema!({ "description": "The kind of API that a provider has.", "oneOf": all })
    }
}
