//! Reads settings of thinking, and plans those of OpenAI's formats. It must not know models by name:
//! [`capability`](super::capability) does.

use super::TranslateError;
use super::capability::{OpenAiThinking, openai_thinking};
use super::json::{Json, Object};
use super::neutral::{Effort, Reasoning, ThinkingMode};
use super::policy::{Feature, Losses};
use super::typed::{ReadResult, count, object, optional_text, text};

/// Reads `reasoning_effort`, `reasoning` and `thinking` of OpenAI's formats and their dialects.
pub(crate) fn read_openai(
    found: &mut Option<Reasoning>,
    key: &str,
    value: Json<'_>,
) -> ReadResult<()> {
    let reasoning = found.get_or_insert_default();
    match key {
        "reasoning_effort" => reasoning.effort = Some(read_effort(value, key)?),
        "thinking" => read_thinking(reasoning, object(value, key)?)?,
        _ => read_object(reasoning, object(value, key)?).map_err(|error| error.within(key))?,
    }
    Ok(())
}

/// `{effort, summary}` of Responses; `max_tokens`, `enabled` and `exclude` are OpenRouter's.
fn read_object(reasoning: &mut Reasoning, mut fields: Object<'_>) -> ReadResult<()> {
    if let Some(effort) = fields.take("effort") {
        reasoning.effort = Some(read_effort(effort, "effort")?);
    }
    if let Some(budget) = fields.take("max_tokens") {
        reasoning.budget = Some(count(&budget, "max_tokens")?);
    }
    if let Some(Json::Bool(enabled)) = fields.take("enabled") {
        reasoning.mode = if enabled {
            ThinkingMode::On
        } else {
            ThinkingMode::Off
        };
    }
    if let Some(Json::Bool(exclude)) = fields.take("exclude") {
        reasoning.show = Some(!exclude);
    }
    if fields.has("summary") || fields.has("generate_summary") {
        reasoning.show = Some(true);
    }
    Ok(())
}

pub(crate) fn read_effort(value: Json<'_>, param: &str) -> ReadResult<Effort> {
    let name = text(value, param)?;
    Effort::read(&name).ok_or_else(|| {
        let expected = "one of none, minimal, low, medium, high, xhigh and max";
        TranslateError::invalid(param, expected)
    })
}

/// Reads Anthropic's `thinking`, which other vendors took over.
pub(crate) fn read_thinking(reasoning: &mut Reasoning, mut fields: Object<'_>) -> ReadResult<()> {
    let kind = optional_text(&mut fields, "type").map_err(|error| error.within("thinking"))?;
    reasoning.mode = match kind.as_deref() {
        Some("disabled") => ThinkingMode::Off,
        Some("adaptive" | "auto" | "between_tools") => ThinkingMode::Adaptive,
        Some("enabled") => ThinkingMode::On,
        _ => {
            let expected = "\"enabled\", \"adaptive\" or \"disabled\"";
            return Err(TranslateError::invalid("thinking.type", expected));
        }
    };
    if let Some(budget) = fields.take("budget_tokens") {
        reasoning.budget = Some(count(&budget, "thinking.budget_tokens")?);
    }
    if let Some(display) = fields.take_string("display") {
        reasoning.show = Some(display != "omitted");
    }
    Ok(())
}

/// The effort to ask an OpenAI format's model for, if any.
pub(crate) fn openai_effort(
    reasoning: Option<Reasoning>,
    model: &str,
    losses: &mut Losses,
) -> Option<&'static str> {
    let reasoning = reasoning?;
    let effort = reasoning.as_effort();
    match openai_thinking(model) {
        OpenAiThinking::No => {
            if !reasoning.is_off() {
                losses.lose(Feature::Reasoning);
            }
            None
        }
        OpenAiThinking::Yes { none } => Some(match effort? {
            Effort::None if none => "none",
            Effort::None => "minimal",
            Effort::Minimal if none => "low",
            Effort::Max | Effort::XHigh => "high",
            effort => effort.name(),
        }),
        OpenAiThinking::Unknown => Some(effort?.name()),
    }
}

/// Returns true if an OpenAI model refuses `temperature` and `top_p` in this request.
pub(crate) fn openai_refuses_sampling(model: &str, effort: Option<&str>) -> bool {
    matches!(openai_thinking(model), OpenAiThinking::Yes { .. }) && effort != Some("none")
}

/// Returns true if an OpenAI model thinks in this request.
pub(crate) fn openai_model_thinks(reasoning: Option<Reasoning>, model: &str) -> bool {
    match openai_thinking(model) {
        OpenAiThinking::Yes { none } => !(none && reasoning.is_some_and(Reasoning::is_off)),
        OpenAiThinking::No | OpenAiThinking::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use llm_router_domain::format::Format;

    use super::super::policy::Compat;
    use super::*;

    fn effort(effort: Effort) -> Reasoning {
        Reasoning {
            effort: Some(effort),
            ..Reasoning::default()
        }
    }

    #[test]
    fn openai_models_get_efforts_they_know() {
        for (model, asked, sent) in [
            ("gpt-5-mini", Effort::None, Some("minimal")),
            ("gpt-5.1", Effort::None, Some("none")),
            ("gpt-5.1", Effort::Minimal, Some("low")),
            ("o4-mini", Effort::Max, Some("high")),
            ("gpt-4o", Effort::High, None),
            ("qwen3", Effort::High, Some("high")),
        ] {
            let mut losses = Losses::new(
                Compat::Lenient,
                Format::AnthropicMessages,
                Format::OpenAiChat,
            );
            assert_eq!(
                openai_effort(Some(effort(asked)), model, &mut losses),
                sent,
                "{model}"
            );
        }
    }
}
