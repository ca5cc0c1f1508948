//! Fits a conversation to what Anthropic's models take: how it may end, and how many places of it
//! may be marked for the prompt cache.

use llm_router_domain::format::Format;

use super::{Destination, TargetLimits};
use crate::translate::capability::{ClaudeThinking, claude};
use crate::translate::json::Json;
use crate::translate::neutral::{Message, NeutralRequest, Part, PartKind, Role, Tool};
use crate::translate::policy::{Feature, Losses};

/// The user's turn after what the assistant began, for models that don't continue it by themselves.
const CONTINUE: &str = "Continue.";

/// Fits the end of a conversation and its cache markers.
pub(super) fn fit(
    request: &mut NeutralRequest<'_>,
    target: Destination<'_>,
    limits: &TargetLimits,
    losses: &mut Losses,
) {
    if limits.trims_prefill {
        trim_end(&mut request.messages);
    }
    if target.format == Format::AnthropicMessages && has_prefill(&request.messages) {
        fit_prefill(request, target.model, losses);
    }
    if let Some(most) = limits.cache_markers {
        fit_markers(request, most, losses);
    }
}

/// The last message that is a turn.
fn last_turn<'r, 'a>(messages: &'r mut [Message<'a>]) -> Option<&'r mut Message<'a>> {
    let is_turn = |message: &&mut Message<'_>| !message.role.is_instruction();
    messages.iter_mut().rev().find(is_turn)
}

/// Removes white space from the end of what the assistant begins.
fn trim_end(messages: &mut [Message<'_>]) {
    let Some(last) = last_turn(messages).filter(|message| message.role == Role::Assistant) else {
        return;
    };
    while let Some(Part {
        kind: PartKind::Text(text),
        ..
    }) = last.parts.last_mut()
    {
        let trimmed = text.trim_end();
        if trimmed.len() < text.len() {
            *text = trimmed.to_owned().into();
        }
        if !text.is_empty() {
            return;
        }
        last.parts.pop();
    }
}

/// Returns true if the assistant has the last word, and it is text.
fn has_prefill(messages: &[Message<'_>]) -> bool {
    let mut turns = messages
        .iter()
        .rev()
        .filter(|message| !message.role.is_instruction() && !message.parts.is_empty());
    let last = turns.next();
    last.is_some_and(|message| {
        message.role == Role::Assistant
            && matches!(
                message.parts.last(),
                Some(Part {
                    kind: PartKind::Text(_),
                    ..
                })
            )
    })
}

fn fit_prefill(request: &mut NeutralRequest<'_>, model: &str, losses: &mut Losses) {
    let knows = claude(model);
    if !knows.prefill {
        let field = losses.name(Feature::Prefill);
        losses.report_beyond(Feature::Prefill, field, "the model begins its turns itself");
        request.messages.push(Message {
            role: Role::User,
            parts: vec![Part::text(CONTINUE.into())],
            name: None,
        });
        return;
    }
    // Thinking comes before everything that the assistant says.
    let asks = request.reasoning.is_some_and(|asked| !asked.is_off());
    if asks && knows.thinking == ClaudeThinking::Budget {
        request.reasoning = None;
        losses.lose(Feature::Reasoning);
    }
}

/// Keeps the first marker, which tools and instructions share, and the last ones, from which the
/// next turn continues.
fn fit_markers(request: &mut NeutralRequest<'_>, most: usize, losses: &mut Losses) {
    let most = most.saturating_sub(usize::from(request.cache.is_some()));
    let mut markers: Vec<&mut Option<Json<'_>>> = Vec::new();
    for tool in &mut request.tools {
        if let Tool::Function(function) = tool {
            markers.push(&mut function.cache);
        }
    }
    let (instructions, turns): (Vec<_>, Vec<_>) = request
        .messages
        .iter_mut()
        .partition(|message| message.role.is_instruction());
    for part in instructions
        .into_iter()
        .chain(turns)
        .flat_map(|message| &mut message.parts)
    {
        if let PartKind::ToolResult(result) = &mut part.kind {
            markers.extend(result.parts.iter_mut().map(|part| &mut part.cache));
        }
        markers.push(&mut part.cache);
    }
    markers.retain(|marker| marker.is_some());
    if markers.len() <= most {
        return;
    }
    let last = markers.len() - most.saturating_sub(1);
    let first = usize::from(most > 0);
    for marker in markers.get_mut(first..last).unwrap_or_default() {
        **marker = None;
    }
    let limit = format!("at most {most} markers");
    losses.report_beyond(
        Feature::CacheControl,
        losses.name(Feature::CacheControl),
        &limit,
    );
}
