//! Leaves out `strict` where the target doesn't take the schema with it: for tools and for the answer.
//! It must not change a schema.

use super::TargetLimits;
use super::output_schema::has_refused_keyword;
use super::schema_walk::{each_schema, has_type, is_closed};
use super::table::StrictSchemas;
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{NeutralRequest, OutputShape, Tool};
use crate::translate::policy::{Feature, Losses};

/// Keywords that OpenAI refuses in a strict schema (OpenAI, "Structured outputs").
const COMBINATORS: [&str; 9] = [
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
];

const LIMIT: &str = "a schema in the subset that can be kept to strictly";

/// Fits `strict` of every tool and of the answer.
pub(super) fn fit(request: &mut NeutralRequest<'_>, limits: &TargetLimits, losses: &mut Losses) {
    for tool in &mut request.tools {
        if let Tool::Function(function) = tool
            && function.strict == Some(true)
            && let Some(schema) = &function.schema
            && limits.strict_schemas.refuses(schema)
        {
            function.strict = None;
            losses.report_beyond(Feature::ToolStrict, losses.name(Feature::ToolStrict), LIMIT);
        }
    }
    // Anthropic has no other output than a strict one.
    if let OutputShape::Schema { schema, strict, .. } = &mut request.output
        && *strict == Some(true)
        && limits.strict_schemas == StrictSchemas::AllRequired
        && limits.strict_schemas.refuses(schema)
    {
        *strict = None;
        let name = format!("{}.strict", losses.name(Feature::JsonSchema));
        losses.report_beyond(Feature::JsonSchema, &name, LIMIT);
    }
}

impl StrictSchemas {
    /// Returns true if a schema isn't in the subset.
    fn refuses(self, schema: &Json<'_>) -> bool {
        let refuses: fn(&Object<'_>) -> bool = match self {
            Self::Any => return false,
            Self::AllRequired => openai_refuses,
            Self::NoBounds => anthropic_refuses,
        };
        let mut refused = false;
        each_schema(&mut schema.clone(), &mut |object| {
            refused |= refuses(object);
            false
        });
        refused
    }
}

fn openai_refuses(schema: &Object<'_>) -> bool {
    let required = schema.get("required").and_then(Json::as_array);
    let is_required = |name: &str| {
        let mut names = required.unwrap_or_default().iter();
        names.any(|required| required.as_str() == Some(name))
    };
    let optional = match schema.get("properties") {
        Some(Json::Object(properties)) => properties.0.iter().any(|(name, _)| !is_required(name)),
        _ => false,
    };
    let open = has_type(schema, "object") && !is_closed(schema);
    open || optional || COMBINATORS.iter().any(|key| schema.has(key))
}

fn anthropic_refuses(schema: &Object<'_>) -> bool {
    let open = has_type(schema, "object") && !is_closed(schema);
    open || has_refused_keyword(schema)
}
