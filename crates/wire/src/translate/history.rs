//! Removes what earlier responses of other providers left in a conversation from a request that is
//! otherwise passed on as it came: a provider refuses thoughts that it hasn't signed itself. What
//! that is in each format is in the format's folder.

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::Format;

use super::json::Json;
use super::options::ChatDialect;
use crate::formats::codec;

/// A request without thoughts that its provider would refuse.
#[derive(Clone, Debug)]
pub struct CleanedHistory {
    /// The body to send.
    pub body: Bytes,
    /// Fields left out, as the client spells them, for `x-llm-router-dropped`.
    pub dropped: Vec<String>,
}

/// The request without thoughts of other providers, or none if there are none in it.
///
/// For requests that go to a provider of the client's own format. Only a body that shows a trace of
/// translation is parsed at all, and only one that changes is written again.
#[must_use]
pub fn clean_history(format: Format, dialect: ChatDialect, body: &[u8]) -> Option<CleanedHistory> {
    let client = codec(format).client()?;
    if !client.may_need_cleaning(body) {
        return None;
    }
    let mut json = Json::parse(std::str::from_utf8(body).ok()?).ok()?;
    let Json::Object(request) = &mut json else {
        return None;
    };
    let dropped = client.clean_history(request, dialect);
    if dropped.is_empty() {
        return None;
    }
    let mut out = BytesMut::with_capacity(body.len());
    json.write(&mut out);
    Some(CleanedHistory {
        body: out.freeze(),
        dropped: dropped.into_iter().map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(format: Format, dialect: ChatDialect, body: &str) -> Option<String> {
        let out = clean_history(format, dialect, body.as_bytes())?;
        Some(String::from_utf8(out.body.to_vec()).unwrap())
    }

    #[test]
    fn thoughts_of_others_are_taken_out() {
        let own = r#"{"type":"thinking","thinking":"a","signature":"EqQB"}"#;
        let text = r#"{"type":"text","text":"x"}"#;
        for foreign in [
            r#"{"type":"thinking","thinking":"b","signature":"gemini#c#sig"}"#,
            r#"{"type":"thinking","thinking":"b","signature":""}"#,
        ] {
            let body = |blocks: &str| {
                format!(r#"{{"messages":[{{"role":"assistant","content":[{blocks}]}}],"n":1.0}}"#)
            };
            let format = Format::AnthropicMessages;
            let found = clean(
                format,
                ChatDialect::OpenAi,
                &body(&format!("{own},{foreign},{text}")),
            );
            assert_eq!(found, Some(body(&format!("{own},{text}"))));
            let alone = clean(format, ChatDialect::OpenAi, &body(foreign));
            assert_eq!(alone.as_deref(), Some(r#"{"messages":[],"n":1.0}"#));
            assert_eq!(clean(format, ChatDialect::OpenAi, &body(own)), None);
        }
    }

    #[test]
    fn thinking_is_not_asked_for_where_the_last_calls_have_no_thought() {
        let own = r#"{"type":"thinking","thinking":"a","signature":"EqQB"}"#;
        let unsigned = r#"{"type":"thinking","thinking":"b","signature":""}"#;
        let budget = r#""thinking":{"type":"enabled","budget_tokens":2000},"#;
        let adaptive = r#""thinking":{"type":"adaptive"},"#;
        let edits = r#""context_management":{"edits":[{"type":"clear_thinking_20251015"}]},"#;
        let both = Some(&["messages.content.thinking", "thinking"][..]);
        for (options, blocks, id, expected) in [
            (budget, unsigned, "toolu_1", both),
            (budget, "", "call_1", Some(&["thinking"][..])),
            (
                adaptive,
                unsigned,
                "toolu_1",
                Some(&["messages.content.thinking"][..]),
            ),
            (budget, own, "call_1", None),
            (budget, "", "toolu_1", None),
        ] {
            let comma = if blocks.is_empty() { "" } else { "," };
            let body = |options: &str, blocks: &str| {
                format!(
                    r#"{{{options}"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":[{blocks}{{"type":"tool_use","id":"{id}","name":"f","input":{{}}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"{id}"}}]}}]}}"#
                )
            };
            let given = body(options, &format!("{blocks}{comma}"));
            let format = Format::AnthropicMessages;
            let found = clean_history(format, ChatDialect::OpenAi, given.as_bytes());
            let dropped = found.as_ref().map(|found| found.dropped.clone());
            let expected_names =
                expected.map(|names| names.iter().map(|n| (*n).to_owned()).collect());
            assert_eq!(dropped, expected_names, "{given}");
            if let Some(found) = found {
                let kept = if expected == Some(&["messages.content.thinking"][..]) {
                    options
                } else {
                    ""
                };
                assert_eq!(found.body, body(kept, "").as_bytes());
            }
        }
        let body = format!(
            r#"{{{budget}{edits}"messages":[{{"role":"assistant","content":[{{"type":"tool_use","id":"x"}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"x"}}]}}]}}"#
        );
        let found = clean_history(
            Format::AnthropicMessages,
            ChatDialect::OpenAi,
            body.as_bytes(),
        );
        assert_eq!(found.unwrap().dropped, ["thinking", "context_management"]);
    }

    #[test]
    fn chat_histories_lose_what_servers_refuse() {
        let body = r#"{"messages":[{"role":"assistant","reasoning_content":"r","thinking_blocks":[],"tool_calls":[{"id":"1","extra_content":{}}]}]}"#;
        assert_eq!(
            clean(Format::OpenAiChat, ChatDialect::OpenAi, body).as_deref(),
            Some(r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"1"}]}]}"#)
        );
        assert_eq!(
            clean(Format::OpenAiChat, ChatDialect::Compatible, body).as_deref(),
            Some(
                r#"{"messages":[{"role":"assistant","reasoning_content":"r","tool_calls":[{"id":"1"}]}]}"#
            )
        );
        let plain = r#"{"messages":[{"role":"assistant","reasoning_content":"r"}]}"#;
        assert_eq!(clean(Format::OpenAiChat, ChatDialect::OpenAi, plain), None);
    }

    #[test]
    fn reasoning_items_of_others_are_taken_out() {
        let own = r#"{"type":"reasoning","id":"rs","encrypted_content":"gAAA"}"#;
        let foreign = r#"{"type":"reasoning","id":"rs","encrypted_content":"anthropic#s"}"#;
        let body = format!(r#"{{"input":[{own},{foreign}]}}"#);
        assert_eq!(
            clean(Format::OpenAiResponses, ChatDialect::OpenAi, &body),
            Some(format!(r#"{{"input":[{own}]}}"#))
        );
    }
}
