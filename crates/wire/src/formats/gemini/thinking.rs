//! Plans the thinking that Gemini is asked for. It must not write it.

use crate::translate::capability::{GeminiThinking, gemini_thinking};
use crate::translate::neutral::{Effort, Reasoning};
use crate::translate::policy::{Feature, Losses};

/// The thinking to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ThinkingPlan {
    pub(super) level: Option<&'static str>,
    pub(super) budget: Option<u64>,
    pub(super) show: bool,
}

/// Plans the thinking to ask for.
///
/// Thoughts count against the ceiling of the answer, so a fifth of it is kept for the answer.
pub(super) fn plan(
    reasoning: Option<Reasoning>,
    model: &str,
    max_tokens: Option<u64>,
    losses: &mut Losses,
) -> ThinkingPlan {
    let Some(reasoning) = reasoning else {
        return ThinkingPlan::default();
    };
    let off = reasoning.is_off();
    let mut plan = ThinkingPlan {
        show: !off && reasoning.show.unwrap_or(true),
        ..ThinkingPlan::default()
    };
    match gemini_thinking(model) {
        GeminiThinking::No => {
            if !off {
                losses.lose(Feature::Reasoning);
            }
            return ThinkingPlan::default();
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

    use super::*;
    use crate::translate::policy::Compat;

    fn effort(effort: Effort) -> Reasoning {
        Reasoning {
            effort: Some(effort),
            ..Reasoning::default()
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
            let plan = plan(Some(effort(asked)), model, None, &mut losses);
            assert_eq!((plan.level, plan.budget), (level, budget), "{model}");
        }
    }
}
