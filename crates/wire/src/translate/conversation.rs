//! Puts a conversation in order before any format writes it: content that no other format has is
//! taken out together with its partner, ids are unique, results follow their calls. It must not know
//! how a field is spelled on the wire.

use std::collections::{HashMap, HashSet};

use super::call_ids::PairedIds;
use super::neutral::{Message, NeutralRequest, Part, PartKind, Role};
use super::policy::{Feature, Losses};
use super::tool_schema;

/// Puts the messages of a request in order. What is taken out is reported to `losses`.
pub(crate) fn arrange(request: &mut NeutralRequest<'_>, losses: &mut Losses) {
    drop_foreign(&mut request.messages, losses);
    pair_ids(&mut request.messages);
    join_calls(&mut request.messages);
    place_results(&mut request.messages);
}

/// The ids of all calls, as the client knows them.
pub(crate) fn call_ids(request: &NeutralRequest<'_>) -> HashSet<String> {
    parts(&request.messages)
        .filter_map(call_id)
        .map(str::to_owned)
        .collect()
}

fn parts<'m, 'a>(messages: &'m [Message<'a>]) -> impl Iterator<Item = &'m Part<'a>> {
    messages.iter().flat_map(|message| &message.parts)
}

fn call_id<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    match &part.kind {
        PartKind::ToolCall(call) => Some(&call.id),
        _ => None,
    }
}

fn result_id<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    match &part.kind {
        PartKind::ToolResult(result) => Some(&result.id),
        _ => None,
    }
}

/// Takes out content that only its own format has. A result whose call is taken out goes with it,
/// and a call whose result is: a provider refuses either without the other.
fn drop_foreign(messages: &mut Vec<Message<'_>>, losses: &mut Losses) {
    let mut gone = HashSet::new();
    let mut any = false;
    for part in parts(messages) {
        if let PartKind::Foreign { kind, id } = &part.kind {
            any = true;
            tool_schema::lose_content(kind, losses);
            gone.extend(id.as_deref().map(str::to_owned));
        }
    }
    if !any {
        return;
    }
    let ids = |id: for<'p> fn(&'p Part<'_>) -> Option<&'p str>| -> HashSet<String> {
        let found = parts(messages).filter_map(id);
        found
            .filter(|id| gone.contains(*id))
            .map(str::to_owned)
            .collect()
    };
    let (calls, results) = (ids(call_id), ids(result_id));
    let mut keeps = |part: &Part<'_>| {
        let (feature, alone) = match &part.kind {
            PartKind::Foreign { .. } => return false,
            PartKind::ToolCall(call) => (Feature::ToolCalls, !results.contains(call.id.as_ref())),
            PartKind::ToolResult(result) => {
                (Feature::ToolResults, !calls.contains(result.id.as_ref()))
            }
            _ => return true,
        };
        let id = call_id(part).or_else(|| result_id(part));
        let lost = alone && id.is_some_and(|id| gone.contains(id));
        if lost {
            losses.lose(feature);
        }
        !lost
    };
    messages.retain_mut(|message| {
        let before = message.parts.len();
        message.parts.retain(&mut keeps);
        before == 0 || !message.parts.is_empty()
    });
}

/// Gives every call an id of its own, and every result the id of its call.
fn pair_ids(messages: &mut [Message<'_>]) {
    let mut ids = PairedIds::default();
    let mut assistant = false;
    for message in messages {
        let now = message.role == Role::Assistant;
        if now && !assistant {
            ids.next_turn();
        }
        assistant = now;
        for part in &mut message.parts {
            match &mut part.kind {
                PartKind::ToolCall(call) => ids.call(&mut call.id),
                PartKind::ToolResult(result) => ids.result(&mut result.id),
                _ => {}
            }
        }
    }
}

/// Joins an assistant's message to the one before it whose calls wait for their results: chat
/// completions want all results of a message's calls right behind it.
fn join_calls(messages: &mut Vec<Message<'_>>) {
    let calls = |message: &Message<'_>| message.parts.iter().any(|part| call_id(part).is_some());
    let joins = |last: &Message<'_>, next: &Message<'_>| {
        last.role == Role::Assistant && next.role == Role::Assistant && calls(last)
    };
    if !messages
        .windows(2)
        .any(|pair| matches!(pair, [last, next] if joins(last, next)))
    {
        return;
    }
    let mut joined: Vec<Message<'_>> = Vec::with_capacity(messages.len());
    let mut waits = false;
    for message in std::mem::take(messages) {
        match joined.last_mut() {
            Some(last) if waits && message.role == Role::Assistant => {
                last.parts.extend(message.parts);
            }
            _ => {
                waits = message.role == Role::Assistant && calls(&message);
                joined.push(message);
            }
        }
    }
    *messages = joined;
}

/// Puts results behind the message that called for them. A result without a call stays where it is:
/// the provider says what is wrong with it.
fn place_results(messages: &mut Vec<Message<'_>>) {
    if are_placed(messages) {
        return;
    }
    let mut out: Vec<(Message<'_>, Vec<Part<'_>>)> = Vec::with_capacity(messages.len());
    let mut homes: HashMap<String, usize> = HashMap::new();
    for mut message in std::mem::take(messages) {
        let before = message.parts.len();
        let mut rest = Vec::with_capacity(before);
        for part in std::mem::take(&mut message.parts) {
            let home = result_id(&part).and_then(|id| homes.get(id)).copied();
            match home.and_then(|home| out.get_mut(home)) {
                Some((_, results)) => results.push(part),
                None => rest.push(part),
            }
        }
        if before > 0 && rest.is_empty() {
            continue;
        }
        message.parts = rest;
        let ids = message.parts.iter().filter_map(call_id);
        homes.extend(ids.map(|id| (id.to_owned(), out.len())));
        out.push((message, Vec::new()));
    }
    for (message, results) in out {
        messages.push(message);
        if !results.is_empty() {
            messages.push(Message {
                role: Role::User,
                parts: results,
                name: None,
            });
        }
    }
}

/// Returns true if every result stands in the message behind its call's.
fn are_placed(messages: &[Message<'_>]) -> bool {
    let mut homes: HashMap<&str, usize> = HashMap::new();
    for (at, message) in messages.iter().enumerate() {
        for part in &message.parts {
            if let Some(id) = call_id(part) {
                homes.insert(id, at);
            }
            let home = result_id(part).and_then(|id| homes.get(id));
            if home.is_some_and(|home| home + 1 != at) {
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use llm_router_domain::format::Format;

    use super::super::neutral::{Arguments, ToolCall, ToolResult};
    use super::super::policy::Compat;
    use super::*;

    fn part(word: &'static str) -> Part<'static> {
        let (kind, id) = word.split_once(':').unwrap();
        Part::new(match kind {
            "call" => PartKind::ToolCall(ToolCall {
                id: id.into(),
                name: "f".into(),
                arguments: Arguments::Text("".into()),
                signature: None,
                custom: false,
            }),
            "result" => PartKind::ToolResult(ToolResult {
                id: id.into(),
                parts: Vec::new(),
                is_error: false,
                custom: false,
            }),
            "foreign" => PartKind::Foreign {
                kind: "search".into(),
                id: Some(id.into()),
            },
            _ => PartKind::Text(id.into()),
        })
    }

    /// Arranges messages given as `role part part`, and shows them in the same form.
    fn arrange_lines(messages: &[&'static str]) -> (Vec<String>, Vec<String>) {
        let read = |line: &&'static str| {
            let mut words = line.split(' ');
            let role = match words.next() {
                Some("a") => Role::Assistant,
                _ => Role::User,
            };
            Message {
                role,
                parts: words.map(part).collect(),
                name: None,
            }
        };
        let mut request = NeutralRequest {
            messages: messages.iter().map(read).collect(),
            ..NeutralRequest::default()
        };
        let mut losses = Losses::new(Compat::Lenient, Format::OpenAiResponses, Format::OpenAiChat);
        arrange(&mut request, &mut losses);
        let show = |message: &Message<'_>| {
            let role = if message.role == Role::Assistant {
                "a"
            } else {
                "u"
            };
            let parts = message.parts.iter().map(|part| match &part.kind {
                PartKind::ToolCall(call) => format!(" call:{}", call.id),
                PartKind::ToolResult(result) => format!(" result:{}", result.id),
                PartKind::Text(text) => format!(" text:{text}"),
                _ => " ?".to_owned(),
            });
            format!("{role}{}", parts.collect::<String>())
        };
        let shown = request.messages.iter().map(show).collect();
        (shown, losses.finish().unwrap())
    }

    #[test]
    fn partners_go_together() {
        for (given, expected) in [
            (
                &["u text:q", "a foreign:s1", "u result:s1", "u text:r"][..],
                &["u text:q", "u text:r"][..],
            ),
            (
                &["u text:q", "a call:1 foreign:s", "u result:1 result:s"],
                &["u text:q", "a call:1", "u result:1"],
            ),
            (&["a call:1", "u foreign:1", "u text:r"], &["u text:r"]),
            (
                &["a foreign:1 call:1", "u result:1"],
                &["a call:1", "u result:1"],
            ),
        ] {
            let (found, dropped) = arrange_lines(given);
            assert_eq!(found, expected);
            assert_eq!(dropped[0], "input.search");
        }
    }

    #[test]
    fn ids_are_unique_and_results_find_their_call() {
        for (given, expected) in [
            (
                &["a call:x call:x", "u result:x result:x"][..],
                &["a call:x call:x_2", "u result:x result:x_2"][..],
            ),
            (
                &["a call:x", "u result:x", "a call:x", "u result:x"],
                &["a call:x", "u result:x", "a call:x_2", "u result:x_2"],
            ),
            // The first call was never answered.
            (
                &["a call:x", "u text:stop", "a call:x", "u result:x"],
                &["a call:x", "u text:stop", "a call:x_2", "u result:x_2"],
            ),
            (
                &["a call:x call:x call:x_2", "u result:x result:x_2 result:x"],
                &[
                    "a call:x call:x_2 call:x_2_2",
                    "u result:x result:x_2_2 result:x_2",
                ],
            ),
            // A result that nothing called for is left to the provider.
            (&["u result:y"], &["u result:y"]),
        ] {
            assert_eq!(arrange_lines(given).0, expected);
        }
    }

    #[test]
    fn calls_in_a_row_are_one_message_and_results_follow_them() {
        for (given, expected) in [
            (
                &["a call:1", "a call:2", "u result:1 result:2"][..],
                &["a call:1 call:2", "u result:1 result:2"][..],
            ),
            (
                &["a text:x", "a call:1", "a text:y", "u result:1 text:z"],
                &["a text:x", "a call:1 text:y", "u result:1 text:z"],
            ),
            (
                &["a call:1", "u text:wait", "a call:2", "u result:2 result:1"],
                &[
                    "a call:1",
                    "u result:1",
                    "u text:wait",
                    "a call:2",
                    "u result:2",
                ],
            ),
            (
                &["a call:1 call:2", "u result:1", "u result:2"],
                &["a call:1 call:2", "u result:1 result:2"],
            ),
        ] {
            assert_eq!(arrange_lines(given).0, expected);
        }
    }
}
