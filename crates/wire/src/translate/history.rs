//! What earlier answers by other providers left in a conversation, taken out of a request that is
//! otherwise passed on as it came: a provider refuses thoughts that it hasn't signed itself.

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::Format;
use memchr::memmem::find;

use super::json::{Json, Object};
use super::options::ChatDialect;
use super::signature::Signature;

/// The request without thoughts of other providers, or none if there are none in it.
///
/// For requests that go to a provider of the client's own format. Only a body that shows a trace of
/// translation is parsed at all, and only one that changes is written again.
#[must_use]
pub fn clean_history(format: Format, dialect: ChatDialect, body: &[u8]) -> Option<Bytes> {
    let traces: &[&[u8]] = match format {
        Format::OpenAiChat => &[b"\"thinking_blocks\"", b"\"extra_content\""],
        Format::OpenAiResponses => &[b"\"anthropic#", b"\"anthropic-redacted#", b"\"gemini#"],
        Format::AnthropicMessages => &[
            b"\"gemini#",
            b"\"openai#",
            b"\"signature\":\"\"",
            b"\"signature\": \"\"",
        ],
        Format::Gemini => &[],
    };
    if !traces.iter().any(|trace| find(body, trace).is_some()) {
        return None;
    }
    let mut json = Json::parse(std::str::from_utf8(body).ok()?).ok()?;
    let Json::Object(request) = &mut json else {
        return None;
    };
    let changed = match format {
        Format::OpenAiChat => clean_chat(request, dialect),
        Format::OpenAiResponses => clean_responses(request),
        _ => clean_messages(request),
    };
    changed.then(|| {
        let mut out = BytesMut::with_capacity(body.len());
        json.write(&mut out);
        out.freeze()
    })
}

/// OpenAI's servers know neither field; compatible ones may know `reasoning_content`.
fn clean_chat(request: &mut Object<'_>, dialect: ChatDialect) -> bool {
    let mut changed = false;
    for message in messages(request, "messages") {
        changed |= message.remove("thinking_blocks");
        if changed && dialect == ChatDialect::OpenAi {
            message.remove("reasoning_content");
        }
        for call in messages(message, "tool_calls") {
            changed |= call.remove("extra_content");
        }
    }
    changed
}

fn clean_responses(request: &mut Object<'_>) -> bool {
    let Some(Json::Array(items)) = request.get_mut("input") else {
        return false;
    };
    let before = items.len();
    items.retain(|item| !is_foreign_item(item));
    items.len() < before
}

fn is_foreign_item(item: &Json<'_>) -> bool {
    let encrypted = item.str("encrypted_content").unwrap_or_default();
    item.str("type") == Some("reasoning")
        && !matches!(
            Signature::from_item("".into(), encrypted.into()),
            Signature::OpenAi { .. }
        )
}

fn clean_messages(request: &mut Object<'_>) -> bool {
    let mut changed = false;
    let Some(Json::Array(list)) = request.get_mut("messages") else {
        return false;
    };
    list.retain_mut(|message| {
        let Json::Object(message) = message else {
            return true;
        };
        let Some(Json::Array(blocks)) = message.get_mut("content") else {
            return true;
        };
        let before = blocks.len();
        blocks.retain(|block| !is_foreign_block(block));
        changed |= blocks.len() < before;
        // A message of thoughts alone is none.
        before == 0 || !blocks.is_empty()
    });
    changed
}

fn is_foreign_block(block: &Json<'_>) -> bool {
    let signature = block.str("signature").unwrap_or_default();
    block.str("type") == Some("thinking")
        && !matches!(
            Signature::from_block(signature.into()),
            Some(Signature::Anthropic(_))
        )
}

/// The objects of a list.
fn messages<'o, 'a>(
    object: &'o mut Object<'a>,
    key: &str,
) -> impl Iterator<Item = &'o mut Object<'a>> {
    let list = match object.get_mut(key) {
        Some(Json::Array(list)) => list.as_mut_slice(),
        _ => &mut [],
    };
    list.iter_mut().filter_map(|item| match item {
        Json::Object(object) => Some(object),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(format: Format, dialect: ChatDialect, body: &str) -> Option<String> {
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
            let found = cleaned(
                format,
                ChatDialect::OpenAi,
                &body(&format!("{own},{foreign},{text}")),
            );
            assert_eq!(found, Some(body(&format!("{own},{text}"))));
            let alone = cleaned(format, ChatDialect::OpenAi, &body(foreign));
            assert_eq!(alone.as_deref(), Some(r#"{"messages":[],"n":1.0}"#));
            assert_eq!(cleaned(format, ChatDialect::OpenAi, &body(own)), None);
        }
    }

    #[test]
    fn chat_histories_lose_what_servers_refuse() {
        let body = r#"{"messages":[{"role":"assistant","reasoning_content":"r","thinking_blocks":[],"tool_calls":[{"id":"1","extra_content":{}}]}]}"#;
        assert_eq!(
            cleaned(Format::OpenAiChat, ChatDialect::OpenAi, body).as_deref(),
            Some(r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"1"}]}]}"#)
        );
        assert_eq!(
            cleaned(Format::OpenAiChat, ChatDialect::Compatible, body).as_deref(),
            Some(
                r#"{"messages":[{"role":"assistant","reasoning_content":"r","tool_calls":[{"id":"1"}]}]}"#
            )
        );
        let plain = r#"{"messages":[{"role":"assistant","reasoning_content":"r"}]}"#;
        assert_eq!(
            cleaned(Format::OpenAiChat, ChatDialect::OpenAi, plain),
            None
        );
    }

    #[test]
    fn reasoning_items_of_others_are_taken_out() {
        let own = r#"{"type":"reasoning","id":"rs","encrypted_content":"gAAA"}"#;
        let foreign = r#"{"type":"reasoning","id":"rs","encrypted_content":"anthropic#s"}"#;
        let body = format!(r#"{{"input":[{own},{foreign}]}}"#);
        assert_eq!(
            cleaned(Format::OpenAiResponses, ChatDialect::OpenAi, &body),
            Some(format!(r#"{{"input":[{own}]}}"#))
        );
    }
}
