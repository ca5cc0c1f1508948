//! How much a model should think, from each format's words to each other's. Which models can is
//! [`capability`](super::capability)'s to know.

use super::TranslateError;
use super::capability::{
    Claude, ClaudeThinking, GeminiThinking, OpenAiThinking, gemini_thinking, openai_thinking,
};
use super::json::{Json, Object};
use super::neutral::{Effort, Mode, Reasoning};
use super::policy::{Feature, Losses};
use super::typed::{count, object, optional, text};

type Read<T> = Result<T, TranslateError>;

/// The least budget Anthropic takes.
const LEAST_BUDGET: u64 = 1_024;

/// Reads `reasoning_effort`, `reasoning` and `thinking` of OpenAI's formats and their dialects.
pub(crate) fn read_openai(found: &mut Option<Reasoning>, key: &str, value: Json<'_>) -> Read<()> {
    let reasoning = found.get_or_insert_default();
    match key {
        "reasoning_effort" => reasoning.effort = Some(read_effort(value, key)?),
        "thinking" => read_thinking(reasoning, object(value, key)?)?,
        _ => read_object(reasoning, object(value, key)?).map_err(|error| error.within(key))?,
    }
    Ok(())
}

/// `{effort, summary}` of Responses; `max_tokens`, `enabled` and `exclude` are OpenRouter's.
fn read_object(reasoning: &mut Reasoning, mut fields: Object<'_>) -> Read<()> {
    if let Some(effort) = fields.take("effort") {
        reasoning.effort = Some(read_effort(effort, "effort")?);
    }
    if let Some(budget) = fields.take("max_tokens") {
        reasoning.budget = Some(count(&budget, "max_tokens")?);
    }
    if let Some(Json::Bool(enabled)) = fields.take("enabled") {
        reasoning.mode = if enabled { Mode::On } else { Mode::Off };
    }
    if let Some(Json::Bool(exclude)) = fields.take("exclude") {
        reasoning.show = Some(!exclude);
    }
    if fields.has("summary") || fields.has("generate_summary") {
        reasoning.show = Some(true);
    }
    Ok(())
}

fn read_effort(value: Json<'_>, param: &str) -> Read<Effort> {
    let name = text(value, param)?;
    Effort::read(&name).ok_or_else(|| {
        let expected = "one of none, minimal, low, medium, high, xhigh and max";
        TranslateError::invalid(param, expected)
    })
}

/// Reads `output_config.effort` of Anthropic.
pub(crate) fn read_output_effort(found: &mut Option<Reasoning>, value: Json<'_>) -> Read<()> {
    let effort = read_effort(value, "output_config.effort")?;
    found.get_or_insert_default().effort = Some(effort);
    Ok(())
}

/// Reads Anthropic's `thinking`, which other vendors took over.
pub(crate) fn read_thinking(reasoning: &mut Reasoning, mut fields: Object<'_>) -> Read<()> {
    let kind = optional(&mut fields, "type").map_err(|error| error.within("thinking"))?;
    reasoning.mode = match kind.as_deref() {
        Some("disabled") => Mode::Off,
        Some("adaptive" | "auto" | "between_tools") => Mode::Adaptive,
        Some("enabled") => Mode::On,
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

/// Whether an OpenAI model refuses `temperature` and `top_p` in this request.
pub(crate) fn openai_refuses_sampling(model: &str, effort: Option<&str>) -> bool {
    matches!(openai_thinking(model), OpenAiThinking::Yes { .. }) && effort != Some("none")
}

/// What Anthropic is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnthropicPlan {
    pub(crate) thinking: AnthropicThinking,
    pub(crate) effort: Option<&'static str>,
}

/// The `thinking` field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AnthropicThinking {
    /// The model's default.
    #[default]
    Unset,
    Budget(u64),
    Adaptive {
        /// The model hides its thoughts unless told to show them.
        display: bool,
    },
}

/// What bears on whether Anthropic can think.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnthropicSituation {
    pub(crate) model: Claude,
    pub(crate) max_tokens: u64,
    /// A tool must be called.
    pub(crate) forced_tool: bool,
    /// The last turns call tools and no signed thought stands before the calls.
    pub(crate) unsigned_calls: bool,
}

/// What to ask Anthropic for.
///
/// Thinking with a budget needs at least 1,024 tokens and fewer than `max_tokens`, excludes forced
/// tools, and needs the last calls' thoughts back (docs.claude.com, "Extended thinking"). Where it
/// can't be had it is left out and reported.
pub(crate) fn anthropic_plan(
    reasoning: Option<Reasoning>,
    situation: AnthropicSituation,
    losses: &mut Losses,
) -> AnthropicPlan {
    let Some(reasoning) = reasoning else {
        return AnthropicPlan::default();
    };
    let asked = reasoning.mode != Mode::Unsaid || reasoning.as_effort().is_some();
    if reasoning.is_off() || !asked {
        return AnthropicPlan::default();
    }
    let plan = match situation.model.thinking {
        ClaudeThinking::No => None,
        ClaudeThinking::Adaptive => Some(adaptive(reasoning, situation)),
        ClaudeThinking::Budget => budget(reasoning, situation),
    };
    plan.unwrap_or_else(|| {
        losses.lose(Feature::Reasoning);
        AnthropicPlan::default()
    })
}

fn adaptive(reasoning: Reasoning, situation: AnthropicSituation) -> AnthropicPlan {
    let effort = reasoning.as_effort().map(|effort| match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::XHigh if !situation.model.xhigh => "high",
        effort => effort.name(),
    });
    AnthropicPlan {
        thinking: AnthropicThinking::Adaptive {
            display: situation.model.hides_thoughts && reasoning.show != Some(false),
        },
        effort,
    }
}

fn budget(reasoning: Reasoning, situation: AnthropicSituation) -> Option<AnthropicPlan> {
    if situation.forced_tool || situation.unsigned_calls {
        return None;
    }
    let wanted = reasoning.as_budget().unwrap_or(Effort::Medium.budget());
    // A fifth of the answer's ceiling is kept for the answer.
    let most = situation.max_tokens - situation.max_tokens / 5;
    let budget = wanted.max(LEAST_BUDGET).min(most);
    (budget >= LEAST_BUDGET && budget < situation.max_tokens).then_some(AnthropicPlan {
        thinking: AnthropicThinking::Budget(budget),
        effort: None,
    })
}

/// What Gemini is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GeminiPlan {
    pub(crate) level: Option<&'static str>,
    pub(crate) budget: Option<u64>,
    pub(crate) show: bool,
}

/// What to ask Gemini for.
///
/// Thoughts count against the ceiling of the answer, so a fifth of it is kept for the answer.
pub(crate) fn gemini_plan(
    reasoning: Option<Reasoning>,
    model: &str,
    max_tokens: Option<u64>,
    losses: &mut Losses,
) -> GeminiPlan {
    let Some(reasoning) = reasoning else {
        return GeminiPlan::default();
    };
    let off = reasoning.is_off();
    let mut plan = GeminiPlan {
        show: !off && reasoning.show.unwrap_or(true),
        ..GeminiPlan::default()
    };
    match gemini_thinking(model) {
        GeminiThinking::No => {
            if !off {
                losses.lose(Feature::Reasoning);
            }
            return GeminiPlan::default();
        }
        GeminiThinking::Budget { least, most } => {
            let most = max_tokens.map_or(most, |ceiling| most.min(ceiling - ceiling / 5));
            plan.budget = reasoning
                .as_budget()
                .map(|budget| budget.min(most).max(least));
        }
        GeminiThinking::Level { minimal } => {
            plan.level = reasoning.as_effort().map(|effort| match effort {
                Effort::None | Effort::Minimal if minimal => "minimal",
                Effort::None | Effort::Minimal | Effort::Low => "low",
                Effort::Medium => "medium",
                Effort::High | Effort::XHigh | Effort::Max => "high",
            });
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use llm_router_domain::format::Format;

    use super::super::capability::claude;
    use super::super::policy::Compat;
    use super::*;

    fn plan(model: &str, reasoning: Reasoning, max_tokens: u64) -> (AnthropicPlan, Vec<String>) {
        let mut losses = Losses::new(
            Compat::Lenient,
            Format::OpenAiChat,
            Format::AnthropicMessages,
        );
        let situation = AnthropicSituation {
            model: claude(model),
            max_tokens,
            forced_tool: false,
            unsigned_calls: false,
        };
        let plan = anthropic_plan(Some(reasoning), situation, &mut losses);
        (plan, losses.finish().unwrap())
    }

    fn effort(effort: Effort) -> Reasoning {
        Reasoning {
            effort: Some(effort),
            ..Reasoning::default()
        }
    }

    #[test]
    fn budgets_stay_below_the_ceiling() {
        for (max_tokens, budget) in [(32_000, 24_576), (10_000, 8_000), (1_280, 1_024)] {
            let (plan, dropped) = plan("claude-haiku-4-5", effort(Effort::High), max_tokens);
            assert_eq!(plan.thinking, AnthropicThinking::Budget(budget));
            assert!(dropped.is_empty());
        }
    }

    #[test]
    fn a_ceiling_too_low_forbids_thinking() {
        let (plan, dropped) = plan("claude-haiku-4-5", effort(Effort::Low), 1_000);
        assert_eq!(plan, AnthropicPlan::default());
        assert_eq!(dropped, ["reasoning_effort"]);
    }

    #[test]
    fn newer_models_take_effort() {
        let (plan, _) = plan("claude-opus-4-6", effort(Effort::XHigh), 4_096);
        assert_eq!(
            plan.thinking,
            AnthropicThinking::Adaptive { display: false }
        );
        assert_eq!(plan.effort, Some("high"));
    }

    #[test]
    fn no_effort_is_no_thinking() {
        let (plan, dropped) = plan("claude-opus-4-6", effort(Effort::None), 4_096);
        assert_eq!((plan, dropped.len()), (AnthropicPlan::default(), 0));
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

    #[test]
    fn gemini_gets_levels_or_budgets() {
        for (model, asked, level, budget) in [
            ("gemini-3-pro", Effort::None, Some("low"), None),
            ("gemini-3-flash", Effort::None, Some("minimal"), None),
            ("gemini-2.5-pro", Effort::None, None, Some(128)),
            ("gemini-2.5-flash", Effort::High, None, Some(24_576)),
            ("gemini-2.0-flash", Effort::High, None, None),
        ] {
            let mut losses = Losses::new(Compat::Lenient, Format::OpenAiChat, Format::Gemini);
            let plan = gemini_plan(Some(effort(asked)), model, None, &mut losses);
            assert_eq!((plan.level, plan.budget), (level, budget), "{model}");
        }
    }
}
