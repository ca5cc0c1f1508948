//! A conversation as alternating turns, which Anthropic and Gemini demand: instructions taken out,
//! neighbours of one role joined, tool results first in the turn that follows their calls.

use std::collections::HashMap;

use super::neutral::{Message, Part, PartKind, Role};

/// One side's messages before the other's.
pub(crate) struct Turn<'r, 'a> {
    pub(crate) assistant: bool,
    pub(crate) parts: Vec<&'r Part<'a>>,
    /// A participant's name is lost.
    pub(crate) named: bool,
}

/// The instructions in their order, and the turns.
pub(crate) struct Turns<'r, 'a> {
    pub(crate) instructions: Vec<&'r Part<'a>>,
    pub(crate) turns: Vec<Turn<'r, 'a>>,
    /// Parts of messages that are no turn, for nothing in them can be written.
    pub(crate) skipped: Vec<&'r Part<'a>>,
}

/// Splits a conversation. `says` tells which parts will be written at all: a message without one
/// is no turn.
pub(crate) fn turns<'r, 'a>(
    messages: &'r [Message<'a>],
    says: impl Fn(&Part<'a>) -> bool,
) -> Turns<'r, 'a> {
    let mut out = Turns {
        instructions: Vec::new(),
        turns: Vec::new(),
        skipped: Vec::new(),
    };
    for message in messages {
        if message.role.is_instruction() {
            out.instructions.extend(&message.parts);
        } else if message.parts.iter().any(&says) {
            add(&mut out.turns, message);
        } else {
            out.skipped.extend(&message.parts);
        }
    }
    let mut calls: HashMap<&str, usize> = HashMap::new();
    for turn in &mut out.turns {
        // A stable sort: results first and in the order of their calls, for Gemini pairs them by
        // it; everything else in order behind them.
        turn.parts.sort_by_key(|part| place(part, &calls));
        calls = turn
            .parts
            .iter()
            .filter_map(|part| call_id(part))
            .zip(0..)
            .collect();
    }
    out
}

fn place(part: &Part<'_>, calls: &HashMap<&str, usize>) -> usize {
    match &part.kind {
        PartKind::ToolResult(result) => {
            let call = calls.get(result.id.as_ref());
            call.copied().unwrap_or(calls.len())
        }
        _ => usize::MAX,
    }
}

fn call_id<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    match &part.kind {
        PartKind::ToolCall(call) => Some(&call.id),
        _ => None,
    }
}

fn add<'r, 'a>(turns: &mut Vec<Turn<'r, 'a>>, message: &'r Message<'a>) {
    let assistant = message.role == Role::Assistant;
    let named = message.name.is_some();
    match turns.last_mut() {
        Some(last) if last.assistant == assistant => {
            last.parts.extend(&message.parts);
            last.named |= named;
        }
        _ => turns.push(Turn {
            assistant,
            parts: message.parts.iter().collect(),
            named,
        }),
    }
}

/// Returns true if a part is a tool's result.
pub(crate) const fn is_result(part: &Part<'_>) -> bool {
    matches!(part.kind, PartKind::ToolResult(_))
}

/// Returns true if a part is text of white space alone, which Anthropic refuses.
pub(crate) fn is_blank(part: &Part<'_>) -> bool {
    matches!(&part.kind, PartKind::Text(text) if text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::neutral::ToolResult;
    use super::*;

    fn message(role: Role, parts: Vec<Part<'static>>) -> Message<'static> {
        Message {
            role,
            parts,
            name: None,
        }
    }

    fn text(text: &'static str) -> Part<'static> {
        Part::text(text.into())
    }

    #[test]
    fn joins_neighbours_and_puts_results_first() {
        let result = Part::new(PartKind::ToolResult(ToolResult {
            id: "1".into(),
            parts: Vec::new(),
            is_error: false,
            custom: false,
        }));
        let messages = [
            message(Role::System, vec![text("s1")]),
            message(Role::User, vec![text("a")]),
            message(Role::User, vec![text("b"), result]),
            message(Role::Developer, vec![text("s2")]),
            message(Role::Assistant, vec![text(" ")]),
            message(Role::User, vec![text("c")]),
        ];
        let found = turns(&messages, |part| !is_blank(part));
        assert_eq!(found.instructions.len(), 2);
        let [turn] = &found.turns[..] else {
            panic!("{} turns", found.turns.len())
        };
        assert_eq!(turn.parts.len(), 4);
        assert!(is_result(turn.parts[0]) && !turn.assistant);
    }
}
