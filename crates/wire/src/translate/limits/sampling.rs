//! Fits numbers and texts that steer the drawing of tokens: ceilings, stops, seeds, penalties, and
//! what models that reason refuse. Temperature and nucleus sampling depend on whether the model
//! thinks, and stay with the formats' writers.

use llm_router_domain::format::Format;
use serde_json::Number;

use super::{Destination, TargetLimits};
use crate::translate::capability::{
    OpenAiThinking, gemini_takes_penalties, openai_takes_parallel_tools, openai_takes_stops,
    openai_thinking,
};
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{NeutralRequest, Sampling};
use crate::translate::policy::{Feature, Losses};
use crate::translate::reasoning::openai_model_thinks;

/// Fits the settings of sampling.
pub(super) fn fit(
    request: &mut NeutralRequest<'_>,
    target: Destination<'_>,
    limits: &TargetLimits,
    losses: &mut Losses,
) {
    forget_what_asks_nothing(&mut request.sampling, target.format);
    fit_ceiling(&mut request.sampling, target, limits, losses);
    fit_stops(&mut request.sampling, limits, losses);
    match target.format {
        Format::OpenAiChat | Format::OpenAiResponses => fit_openai(request, target, losses),
        Format::Gemini => fit_gemini(&mut request.sampling, target.model, limits, losses),
        Format::AnthropicMessages => {}
    }
}

/// A penalty of zero is none, and so is an empty list of biases. Servers that speak chat may have
/// another default, so there they are sent.
fn forget_what_asks_nothing(sampling: &mut Sampling<'_>, to: Format) {
    if to == Format::OpenAiChat {
        return;
    }
    for penalty in [
        &mut sampling.frequency_penalty,
        &mut sampling.presence_penalty,
    ] {
        if penalty.as_ref().and_then(Number::as_f64) == Some(0.0) {
            *penalty = None;
        }
    }
    if matches!(&sampling.logit_bias, Some(Json::Object(Object(biases))) if biases.is_empty()) {
        sampling.logit_bias = None;
    }
}

fn fit_ceiling(
    sampling: &mut Sampling<'_>,
    target: Destination<'_>,
    limits: &TargetLimits,
    losses: &mut Losses,
) {
    let Some(asked) = sampling.max_tokens else {
        return;
    };
    let most = target.max_output.unwrap_or(u64::MAX);
    let fitted = asked.max(limits.least_output).min(most);
    if fitted == asked {
        return;
    }
    sampling.max_tokens = Some(fitted);
    let bound = if fitted < asked { "most" } else { "least" };
    let limit = format!("at {bound} {fitted} tokens of output");
    let name = target.ceiling.unwrap_or(losses.name(Feature::MaxTokens));
    losses.report_beyond(Feature::MaxTokens, name, &limit);
}

fn fit_stops(sampling: &mut Sampling<'_>, limits: &TargetLimits, losses: &mut Losses) {
    let before = sampling.stop.len();
    if limits.refuses_blank_stops {
        sampling.stop.retain(|text| !text.trim().is_empty());
    }
    if sampling.stop.len() < before {
        let limit = "no text of white space alone";
        losses.report_beyond(Feature::Stop, losses.name(Feature::Stop), limit);
    }
    if let Some(most) = limits.stops.filter(|most| sampling.stop.len() > *most) {
        sampling.stop.truncate(most);
        let limit = format!("at most {most} texts");
        losses.report_beyond(Feature::Stop, losses.name(Feature::Stop), &limit);
    }
}

fn fit_openai(request: &mut NeutralRequest<'_>, target: Destination<'_>, losses: &mut Losses) {
    const LIMIT: &str = "the model has no such parameter";
    let model = target.model;
    let sampling = &mut request.sampling;
    let mut lose = |feature| losses.report_beyond(feature, losses.name(feature), LIMIT);
    // Responses have no texts to stop at: their writer reports them.
    let chat = target.format == Format::OpenAiChat;
    if chat && !sampling.stop.is_empty() && !openai_takes_stops(model) {
        sampling.stop.clear();
        lose(Feature::Stop);
    }
    if sampling.logprobs && openai_model_thinks(request.reasoning, model) {
        sampling.logprobs = false;
        sampling.top_logprobs = None;
        lose(Feature::Logprobs);
    }
    if request.parallel_tools.is_some() && !openai_takes_parallel_tools(model) {
        if request.parallel_tools == Some(false) && !request.tools.is_empty() {
            lose(Feature::ParallelTools);
        }
        request.parallel_tools = None;
    }
    let wordy = request.verbosity.as_deref();
    if openai_thinking(model) == OpenAiThinking::No && wordy.is_some() {
        if wordy != Some("medium") {
            lose(Feature::Verbosity);
        }
        request.verbosity = None;
    }
}

fn fit_gemini(
    sampling: &mut Sampling<'_>,
    model: &str,
    limits: &TargetLimits,
    losses: &mut Losses,
) {
    if !gemini_takes_penalties(model) {
        for (feature, penalty) in [
            (Feature::FrequencyPenalty, &mut sampling.frequency_penalty),
            (Feature::PresencePenalty, &mut sampling.presence_penalty),
        ] {
            if penalty.take().is_some() {
                losses.report_beyond(
                    feature,
                    losses.name(feature),
                    "the model takes no penalties",
                );
            }
        }
    }
    let seed = sampling.seed.as_ref();
    if limits.short_seed
        && let Some(short) = seed.and_then(shorten_seed)
    {
        sampling.seed = Some(short.into());
        losses.report_beyond(Feature::Seed, losses.name(Feature::Seed), "32 bits");
    }
    if let Some(most) = limits.choices
        && sampling.choices.is_some_and(|choices| choices > most)
    {
        let limit = format!("at most {most} answers");
        losses.report_beyond(Feature::Choices, losses.name(Feature::Choices), &limit);
    }
}

/// The last 31 bits of a seed that has more than 32: equal seeds stay equal.
fn shorten_seed(seed: &Number) -> Option<u32> {
    let bits = match (seed.as_i64(), seed.as_u64()) {
        (Some(seed), _) if i32::try_from(seed).is_ok() => return None,
        (Some(seed), _) => seed.unsigned_abs(),
        (None, Some(seed)) => seed,
        (None, None) => return None,
    };
    u32::try_from(bits & 0x7fff_ffff).ok()
}
