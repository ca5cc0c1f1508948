//! Tools that only some formats have: those that take free text go out as functions with one
//! string, those a provider runs itself are lost.

use std::borrow::Cow;

use super::json::Json;
use super::neutral::{NeutralRequest, Text, Tool, ToolChoice};
use super::policy::{Feature, Losses};

/// The schema of a free-text tool in formats that know only schemas.
pub(crate) const FREE_TEXT: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

/// A schema for functions that declare none.
pub(crate) const NO_ARGUMENTS: &str = r#"{"type":"object","properties":{}}"#;

/// Free text as the arguments of such a function.
pub(crate) fn wrap(input: &str) -> String {
    serde_json::json!({ "input": input }).to_string()
}

/// The free text in the arguments of such a function. What isn't in its shape is free text too.
pub(crate) fn unwrap(arguments: &str) -> String {
    Json::parse(arguments)
        .ok()
        .and_then(|json| json.str("input").map(str::to_owned))
        .unwrap_or_else(|| arguments.to_owned())
}

/// A tool as formats without free-text tools offer it.
pub(crate) struct SentTool<'t> {
    pub(crate) name: &'t str,
    pub(crate) description: Option<Cow<'t, str>>,
    pub(crate) schema: Option<Cow<'t, str>>,
    pub(crate) strict: Option<bool>,
    pub(crate) cache: Option<&'t Json<'t>>,
}

impl<'t> SentTool<'t> {
    /// The tool as a function, or none if the target can't have it.
    pub(crate) fn of(tool: &'t Tool<'t>, losses: &mut Losses) -> Option<Self> {
        match tool {
            Tool::Function(function) => {
                for extra in &function.extras {
                    losses.lose_as(Feature::ToolExtras, &format!("tools.{extra}"));
                }
                Some(Self {
                    name: &function.name,
                    description: function.description.as_deref().map(Cow::Borrowed),
                    schema: function.schema.as_ref().map(Json::to_text),
                    strict: function.strict,
                    cache: function.cache.as_ref(),
                })
            }
            Tool::Custom {
                name,
                description,
                format,
            } => Some(Self {
                name,
                description: describe(description.as_ref(), format.as_ref()),
                schema: Some(Cow::Borrowed(FREE_TEXT)),
                strict: None,
                cache: None,
            }),
            Tool::BuiltIn { kind } => {
                lose_kind(kind, losses);
                None
            }
        }
    }
}

/// The description with the grammar, which nothing enforces any more.
fn describe<'t>(
    description: Option<&'t Text<'t>>,
    format: Option<&Json<'_>>,
) -> Option<Cow<'t, str>> {
    let description = description.map_or("", |text| text.as_ref());
    let grammar = format.and_then(|format| {
        let inner = format.get("grammar").unwrap_or(format);
        Some((inner.str("syntax")?, inner.str("definition")?))
    });
    match grammar {
        Some((syntax, definition)) => Some(Cow::Owned(format!(
            "{description}\n\nThe input must follow this {syntax} grammar:\n{definition}"
        ))),
        None if description.is_empty() => None,
        None => Some(Cow::Borrowed(description)),
    }
}

/// Returns true if the target gets any tool. If not, those it can't have are reported, and a choice
/// among them too.
pub(crate) fn any_sent(request: &NeutralRequest<'_>, losses: &mut Losses) -> bool {
    let built_in = |tool: &Tool<'_>| matches!(tool, Tool::BuiltIn { .. });
    if !request.tools.iter().all(built_in) {
        return true;
    }
    lose_built_in(&request.tools, losses);
    if matches!(
        request.tool_choice,
        Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Among { .. })
    ) {
        losses.lose(Feature::ToolChoice);
    }
    false
}

/// Reports a tool that the target doesn't have.
pub(crate) fn lose_kind(kind: &str, losses: &mut Losses) {
    losses.lose_as(Feature::BuiltInTools, &format!("tools.{kind}"));
}

/// Reports all tools that the target doesn't have.
fn lose_built_in(tools: &[Tool<'_>], losses: &mut Losses) {
    for tool in tools {
        if let Tool::BuiltIn { kind } = tool {
            lose_kind(kind, losses);
        }
    }
}

/// Reports content that the target doesn't have.
pub(crate) fn lose_content(kind: &str, losses: &mut Losses) {
    if kind == "item_reference" {
        return losses.lose(Feature::ItemReference);
    }
    if kind.contains("compaction") {
        return losses.lose(Feature::Compaction);
    }
    let parent = losses.name(Feature::ForeignContent);
    losses.lose_as(Feature::ForeignContent, &format!("{parent}.{kind}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_text_survives() {
        for text in ["", "*** Begin Patch\n\"x\"", "{\"input\":1}"] {
            assert_eq!(unwrap(&wrap(text)), text);
        }
        assert_eq!(unwrap("not json"), "not json");
    }
}
