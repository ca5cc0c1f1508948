//! Reads a plain message.

use super::citation;
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{
    Arguments, Choice, Finish, NeutralResponse, Part, PartKind, Text, Thinking, TokenCounts,
    ToolCall,
};
use crate::translate::signature::Signature;
use crate::translate::{TranslateError, provider_error};

/// Reads the body of an answer.
pub(crate) fn read_response(json: Json<'_>) -> Result<NeutralResponse<'_>, TranslateError> {
    if provider_error::is_error(&json) {
        return Err(provider_error::ProviderError::read(None, &json).into());
    }
    let mut body = match json {
        Json::Object(body) if body.has("content") => body,
        _ => {
            return Err(TranslateError::bad_answer(
                "The provider's answer has no content.",
            ));
        }
    };
    let mut parts = Vec::new();
    let mut citations = Vec::new();
    for block in body.take_array("content") {
        if let Some(mut block) = block.into_object() {
            let cited = block.take_array("citations");
            citations.extend(cited.into_iter().filter_map(citation::read));
            parts.extend(read_block(block));
        }
    }
    let calls = parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::ToolCall(_)));
    let stop = body.take_string("stop_reason").unwrap_or_default();
    let sequence = body.take("stop_sequence").and_then(Json::into_text);
    let usage = body.get("usage").map(|usage| {
        let mut counts = TokenCounts::default();
        read_usage(usage, &mut counts);
        counts
    });
    let tier = body
        .take_object("usage")
        .and_then(|mut usage| usage.take("service_tier")?.into_text());
    Ok(NeutralResponse {
        id: body.take("id").and_then(Json::into_text),
        created: None,
        model: body.take("model").and_then(Json::into_text),
        choices: vec![Choice {
            index: 0,
            parts,
            citations,
            finish: read_stop(&stop, sequence).with_tools(calls),
            logprobs: None,
        }],
        usage,
        tier,
    })
}

fn read_block(mut block: Object<'_>) -> Option<Part<'_>> {
    let kind = match block.str("type")? {
        "text" => PartKind::Text(block.take_string("text")?),
        "thinking" => PartKind::Thinking(Thinking {
            text: block.take_string("thinking").unwrap_or_default(),
            signature: block
                .take_string("signature")
                .and_then(Signature::from_block),
        }),
        "redacted_thinking" => PartKind::Thinking(Thinking {
            text: Text::default(),
            signature: block.take_string("data").map(Signature::Redacted),
        }),
        "tool_use" => PartKind::ToolCall(ToolCall {
            id: block.take_string("id")?,
            name: block.take_string("name")?,
            arguments: block
                .take("input")
                .map_or(Arguments::Text("".into()), |input| {
                    Arguments::Object(input.to_text())
                }),
            signature: None,
            custom: false,
        }),
        // Server tools and their results: the text they led to follows.
        _ => return None,
    };
    Some(Part::new(kind))
}

/// The table of stop reasons.
pub(crate) fn read_stop<'a>(reason: &str, sequence: Option<Text<'a>>) -> Finish<'a> {
    match reason {
        "max_tokens" => Finish::Length,
        "model_context_window_exceeded" => Finish::Context,
        "stop_sequence" => Finish::StopSequence(sequence),
        "tool_use" => Finish::Tools,
        "refusal" => Finish::Refusal,
        "pause_turn" => Finish::Pause,
        _ => Finish::Stop,
    }
}

/// Reads token counts into `counts`; what isn't given stays. Anthropic's `input_tokens` is only
/// what was neither read from nor written to a cache.
pub(crate) fn read_usage(usage: &Json<'_>, counts: &mut TokenCounts) {
    let uncached_input = usage.u64("input_tokens").unwrap_or(counts.uncached_input());
    let set = |target: &mut u64, key: &str| {
        if let Some(count) = usage.u64(key) {
            *target = count;
        }
    };
    set(&mut counts.cached, "cache_read_input_tokens");
    set(&mut counts.cache_write, "cache_creation_input_tokens");
    set(&mut counts.output, "output_tokens");
    if let Some(hour) = usage
        .get("cache_creation")
        .and_then(|creation| creation.u64("ephemeral_1h_input_tokens"))
    {
        counts.cache_write_1h = hour;
    }
    if let Some(thinking) = usage
        .get("output_tokens_details")
        .and_then(|details| details.u64("thinking_tokens"))
    {
        counts.reasoning = thinking;
    }
    counts.input = uncached_input
        .saturating_add(counts.cached)
        .saturating_add(counts.cache_write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_counts_all_input() {
        let mut counts = TokenCounts::default();
        let start = r#"{"input_tokens":10,"cache_read_input_tokens":5,"cache_creation_input_tokens":3,"output_tokens":1}"#;
        read_usage(&Json::parse(start).unwrap(), &mut counts);
        assert_eq!(
            (counts.input, counts.uncached_input(), counts.output),
            (18, 10, 1)
        );
        let delta = r#"{"output_tokens":42}"#;
        read_usage(&Json::parse(delta).unwrap(), &mut counts);
        assert_eq!((counts.input, counts.output), (18, 42));
        let delta = r#"{"input_tokens":100,"output_tokens":43}"#;
        read_usage(&Json::parse(delta).unwrap(), &mut counts);
        assert_eq!((counts.input, counts.output), (108, 43));
    }
}
