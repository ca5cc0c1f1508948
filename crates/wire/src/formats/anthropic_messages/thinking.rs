//! Plans the `thinking` and the effort that Anthropic is asked for. It must not write them.

use crate::translate::TranslateError;
use crate::translate::capability::{Claude, ClaudeThinking};
use crate::translate::json::Json;
use crate::translate::neutral::{Effort, Reasoning, ThinkingMode};
use crate::translate::policy::{Feature, Losses};
use crate::translate::reasoning::read_effort;

/// The least budget that the API takes.
const LEAST_BUDGET: u64 = 1_024;

/// The thinking and the effort to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ThinkingPlan {
    pub(super) thinking: ThinkingField,
    pub(super) effort: Option<&'static str>,
}

/// The `thinking` field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ThinkingField {
    /// The model's default.
    #[default]
    Unset,
    Budget(u64),
    Adaptive {
        /// The model hides its thoughts unless told to show them.
        display: bool,
    },
}

/// Facts of a request that decide on thinking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub(super) model: Claude,
    pub(super) max_tokens: u64,
    /// A tool must be called.
    pub(super) forced_tool: bool,
    /// The last turns call tools and no signed thought stands before the calls.
    pub(super) unsigned_calls: bool,
}

/// Plans the thinking and the effort to ask for.
///
/// Thinking with a budget needs at least 1,024 tokens and fewer than `max_tokens`, excludes forced
/// tools, and needs the last calls' thoughts back (docs.claude.com, "Extended thinking"). Where it
/// can't be had it is left out and reported.
pub(super) fn plan(
    reasoning: Option<Reasoning>,
    situation: Situation,
    losses: &mut Losses,
) -> ThinkingPlan {
    let Some(reasoning) = reasoning else {
        return ThinkingPlan::default();
    };
    let asked = reasoning.mode != ThinkingMode::Unset || reasoning.as_effort().is_some();
    if reasoning.is_off() || !asked {
        return ThinkingPlan::default();
    }
    let plan = match situation.model.thinking {
        ClaudeThinking::No => None,
        ClaudeThinking::Adaptive => Some(adaptive(reasoning, situation)),
        ClaudeThinking::Budget => budget(reasoning, situation),
    };
    plan.unwrap_or_else(|| {
        losses.lose(Feature::Reasoning);
        ThinkingPlan::default()
    })
}

fn adaptive(reasoning: Reasoning, situation: Situation) -> ThinkingPlan {
    let effort = reasoning.as_effort().map(|effort| match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::XHigh if !situation.model.xhigh => "high",
        effort => effort.name(),
    });
    ThinkingPlan {
        thinking: ThinkingField::Adaptive {
            display: situation.model.hides_thoughts && reasoning.show != Some(false),
        },
        effort,
    }
}

fn budget(reasoning: Reasoning, situation: Situation) -> Option<ThinkingPlan> {
    if situation.forced_tool || situation.unsigned_calls {
        return None;
    }
    let wanted = reasoning.as_budget().unwrap_or(Effort::Medium.budget());
    // A fifth of the answer's ceiling is kept for the answer.
    let most = situation.max_tokens - situation.max_tokens / 5;
    let budget = wanted.max(LEAST_BUDGET).min(most);
    (budget >= LEAST_BUDGET && budget < situation.max_tokens).then_some(ThinkingPlan {
        thinking: ThinkingField::Budget(budget),
        effort: None,
    })
}

/// Reads `output_config.effort` of Anthropic.
pub(super) fn read_output_effort(
    found: &mut Option<Reasoning>,
    value: Json<'_>,
) -> Result<(), TranslateError> {
    let effort = read_effort(value, "output_config.effort")?;
    found.get_or_insert_default().effort = Some(effort);
    Ok(())
}

#[cfg(test)]
mod tests {
    use llm_router_domain::format::Format;

    use super::*;
    use crate::translate::capability::claude;
    use crate::translate::policy::Compat;

    fn plan_for(model: &str, reasoning: Reasoning, max_tokens: u64) -> (ThinkingPlan, Vec<String>) {
        let mut losses = Losses::new(
            Compat::Lenient,
            Format::OpenAiChat,
            Format::AnthropicMessages,
        );
        let situation = Situation {
            model: claude(model),
            max_tokens,
            forced_tool: false,
            unsigned_calls: false,
        };
        let plan = plan(Some(reasoning), situation, &mut losses);
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
            let (plan, dropped) = plan_for("claude-haiku-4-5", effort(Effort::High), max_tokens);
            assert_eq!(plan.thinking, ThinkingField::Budget(budget));
            assert!(dropped.is_empty());
        }
    }

    #[test]
    fn a_ceiling_too_low_forbids_thinking() {
        let (plan, dropped) = plan_for("claude-haiku-4-5", effort(Effort::Low), 1_000);
        assert_eq!(plan, ThinkingPlan::default());
        assert_eq!(dropped, ["reasoning_effort"]);
    }

    #[test]
    fn newer_models_take_effort() {
        let (plan, _) = plan_for("claude-opus-4-6", effort(Effort::XHigh), 4_096);
        assert_eq!(plan.thinking, ThinkingField::Adaptive { display: false });
        assert_eq!(plan.effort, Some("high"));
    }

    #[test]
    fn no_effort_is_no_thinking() {
        let (plan, dropped) = plan_for("claude-opus-4-6", effort(Effort::None), 4_096);
        assert_eq!((plan, dropped.len()), (ThinkingPlan::default(), 0));
    }
}
