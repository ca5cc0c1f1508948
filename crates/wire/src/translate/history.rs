//! Removes what earlier responses of other providers left in a conversation from a request that is
//! otherwise passed on as it came: a provider refuses thoughts that it hasn't signed itself. What
//! that is in each format is in the format's folder.

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::Format;
use memchr::memmem::find;

use super::json::Json;
use super::options::ChatDialect;
use crate::formats::codec;

/// The request without thoughts of other providers, or none if there are none in it.
///
/// For requests that go to a provider of the client's own format. Only a body that shows a trace of
/// translation is parsed at all, and only one that changes is written again.
#[must_use]
pub fn clean_history(format: Format, dialect: ChatDialect, body: &[u8]) -> Option<Bytes> {
    let client = codec(format).client()?;
    let mut traces = client.history_traces().iter();
    if !traces.any(|trace| find(body, trace).is_some()) {
        return None;
    }
    let mut json = Json::parse(std::str::from_utf8(body).ok()?).ok()?;
    let Json::Object(request) = &mut json else {
        return None;
    };
    client.clean_history(request, dialect).then(|| {
        let mut out = BytesMut::with_capacity(body.len());
        json.write(&mut out);
        out.freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(format: Format, dialect: ChatDialect, body: &str) -> Option<String> {
        let out = clean_history(format, dialect, body.as_bytes())?;
        Some(String::from_utf8(out.to_vec()).unwrap())
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
