//! Fits names and ids: of end users, of tool calls, of tools. It must not decide what tools can do.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::{TargetLimits, each_part};
use crate::translate::neutral::{Message, NeutralRequest, PartKind, Text, Tool, ToolChoice};
use crate::translate::policy::{Feature, Losses};

/// Replaces a name that the target refuses by a hash: the same user stays the same.
pub(super) fn fit_user(
    request: &mut NeutralRequest<'_>,
    limits: &TargetLimits,
    losses: &mut Losses,
) {
    let Some(user) = &request.user else {
        return;
    };
    if user.is_empty() {
        request.user = None;
        return;
    }
    let too_long = limits.user.filter(|most| user.chars().count() > *most);
    let limit = match too_long {
        Some(most) => format!("at most {most} characters"),
        None if limits.refuses_personal && is_personal(user) => {
            "no e-mail address or phone number".to_owned()
        }
        None => return,
    };
    request.user = Some(pseudonym(user).into());
    losses.report_beyond(Feature::User, losses.name(Feature::User), &limit);
}

/// `user_` and 128 bits of SHA-256: whoever gets it can't read the name, and the router needs no
/// memory of it.
fn pseudonym(user: &str) -> String {
    let digest = Sha256::digest(user.as_bytes());
    let mut name = "user_".to_owned();
    for byte in digest.iter().take(16) {
        // Writing into a string can't fail.
        write!(name, "{byte:02x}").ok();
    }
    name
}

/// Returns true for what Anthropic calls identifying: an e-mail address anywhere, or a phone number.
fn is_personal(user: &str) -> bool {
    holds_address(user) || is_phone_number(user)
}

fn holds_address(text: &str) -> bool {
    let name = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
    text.match_indices('@').any(|(at, _)| {
        let local = text.get(..at).unwrap_or_default();
        let domain = text.get(at + 1..).unwrap_or_default();
        let domain = domain.split(|c: char| !(c.is_alphanumeric() || ".-".contains(c)));
        let domain = domain.into_iter().next().unwrap_or_default();
        let dotted = domain.trim_matches('.').contains('.');
        local.ends_with(name) && dotted
    })
}

fn is_phone_number(text: &str) -> bool {
    let text = text.trim();
    let rest = text.strip_prefix('+').unwrap_or(text);
    let separator = |c: char| " -.()/\u{a0}".contains(c);
    if !rest.chars().all(|c| c.is_ascii_digit() || separator(c)) {
        return false;
    }
    let digits = rest.chars().filter(char::is_ascii_digit).count();
    let least = if rest.len() < text.len() { 7 } else { 10 };
    (least..=15).contains(&digits)
}

/// Shortens ids alike at call and result. Equal ids stay equal and different ones different.
pub(super) fn fit_ids(messages: &mut [Message<'_>], limits: &TargetLimits) {
    each_part(messages, |part| match &mut part.kind {
        PartKind::ToolCall(call) => limits.call_id.apply(&mut call.id),
        PartKind::ToolResult(result) => limits.call_id.apply(&mut result.id),
        _ => {}
    });
}

/// Leaves out tools beyond the target's number: the last ones, but for those that were called or
/// that the choice names.
pub(super) fn fit_tool_count(
    request: &mut NeutralRequest<'_>,
    limits: &TargetLimits,
    losses: &mut Losses,
) {
    let count = request.tools.iter().filter_map(name_of).count();
    let Some(most) = limits.tools.filter(|most| count > *most) else {
        return;
    };
    let mut used: HashSet<String> = chosen_names(request.tool_choice.as_ref())
        .map(str::to_owned)
        .collect();
    each_part(&mut request.messages, |part| {
        if let PartKind::ToolCall(call) = &part.kind {
            used.insert(call.name.to_string());
        }
    });
    let is_used = |tool: &Tool<'_>| name_of(tool).is_some_and(|name| used.contains(name.as_ref()));
    let used_count = request.tools.iter().filter(|tool| is_used(tool)).count();
    let mut room_for_used = most;
    let mut room = most.saturating_sub(used_count);
    request.tools.retain(|tool| {
        let left = match tool {
            Tool::BuiltIn { .. } => return true,
            _ if is_used(tool) => &mut room_for_used,
            _ => &mut room,
        };
        let kept = *left > 0;
        *left = left.saturating_sub(1);
        kept
    });
    losses.report_beyond(Feature::Tools, "tools", &format!("at most {most} tools"));
}

/// Maps names of tools, wherever they stand. Returns those that changed: as sent, and as the client
/// knows them.
pub(super) fn fit_tool_names(
    request: &mut NeutralRequest<'_>,
    limits: &TargetLimits,
) -> Vec<(String, String)> {
    let mut renamed: HashMap<String, String> = HashMap::new();
    let mut rename = |name: &mut Text<'_>| {
        if let Some(sent) = limits.tool_name.fit(name) {
            renamed.insert(sent.clone(), name.to_string());
            *name = sent.into();
        }
    };
    for tool in &mut request.tools {
        match tool {
            Tool::Function(function) => rename(&mut function.name),
            Tool::Custom { name, .. } => rename(name),
            Tool::BuiltIn { .. } => {}
        }
    }
    match &mut request.tool_choice {
        Some(ToolChoice::Named(name)) => rename(name),
        Some(ToolChoice::Among { names, .. }) => names.iter_mut().for_each(&mut rename),
        _ => {}
    }
    each_part(&mut request.messages, |part| {
        if let PartKind::ToolCall(call) = &mut part.kind {
            rename(&mut call.name);
        }
    });
    let mut renamed: Vec<_> = renamed.into_iter().collect();
    renamed.sort();
    renamed
}

const fn name_of<'t, 'a>(tool: &'t Tool<'a>) -> Option<&'t Text<'a>> {
    match tool {
        Tool::Function(function) => Some(&function.name),
        Tool::Custom { name, .. } => Some(name),
        Tool::BuiltIn { .. } => None,
    }
}

fn chosen_names<'c>(choice: Option<&'c ToolChoice<'_>>) -> impl Iterator<Item = &'c str> {
    let names = match choice {
        Some(ToolChoice::Named(name)) => std::slice::from_ref(name),
        Some(ToolChoice::Among { names, .. }) => names,
        _ => &[],
    };
    names.iter().map(AsRef::as_ref)
}
