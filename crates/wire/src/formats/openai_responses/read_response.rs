//! Reads a plain response.

use super::read_request::reasoning_text;
use crate::formats::openai;
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{
    Arguments, Choice, Citation, Finish, Image, MediaSource, NeutralResponse, Part, PartKind, Text,
    Thinking, TokenCounts, ToolCall,
};
use crate::translate::signature::Signature;
use crate::translate::{TranslateError, provider_error, tool_schema};

/// Reads the body of an answer.
pub(crate) fn read_response(json: Json<'_>) -> Result<NeutralResponse<'_>, TranslateError> {
    if provider_error::is_error(&json) {
        return Err(provider_error::ProviderError::read(None, &json).into());
    }
    let mut body = match json {
        Json::Object(body) if body.has("output") => body,
        _ => {
            return Err(TranslateError::bad_answer(
                "The provider's answer has no output.",
            ));
        }
    };
    let mut parts = Vec::new();
    let mut found = TextExtras::default();
    for item in body.take_array("output") {
        if let Some(item) = item.into_object() {
            read_item(item, &mut parts, &mut found);
        }
    }
    let finish = read_finish(&body, &parts);
    Ok(NeutralResponse {
        id: body.take("id").and_then(Json::into_text),
        created: body.u64("created_at").filter(|created| *created > 0),
        model: body.take("model").and_then(Json::into_text),
        choices: vec![Choice {
            index: 0,
            parts,
            citations: std::mem::take(&mut found.citations),
            finish,
            logprobs: found.logprobs(),
        }],
        usage: body
            .get("usage")
            .filter(|usage| !usage.is_null())
            .map(read_usage),
        tier: body.take("service_tier").and_then(Json::into_text),
    })
}

/// Citations and probabilities beside the texts of an answer.
#[derive(Default)]
struct TextExtras<'a> {
    citations: Vec<Citation<'a>>,
    tokens: Vec<Json<'a>>,
}

impl<'a> TextExtras<'a> {
    /// The probabilities as chat has them.
    fn logprobs(self) -> Option<Json<'a>> {
        (!self.tokens.is_empty()).then(|| {
            let content = Json::Array(self.tokens);
            Json::Object(Object(vec![("content".into(), content)]))
        })
    }
}

/// Reads token counts: details are parts of the totals, but where the sum shows that they aren't.
pub(super) fn read_usage(usage: &Json<'_>) -> TokenCounts {
    let count = |key: &str| usage.u64(key).unwrap_or(0);
    let detail = |group: &str, key: &str| {
        usage
            .get(group)
            .and_then(|group| group.u64(key))
            .unwrap_or(0)
    };
    let (input, output) = (count("input_tokens"), count("output_tokens"));
    let reasoning = detail("output_tokens_details", "reasoning_tokens");
    let apart = reasoning > 0 && count("total_tokens") == input + output + reasoning;
    TokenCounts {
        input,
        cached: detail("input_tokens_details", "cached_tokens"),
        cache_write: detail("input_tokens_details", "cache_write_tokens"),
        cache_write_1h: 0,
        output: if apart { output + reasoning } else { output },
        reasoning,
    }
    .within_input()
}

/// Reads the reason that a response ended: an incomplete one says so, a refusal is in its content.
fn read_finish(body: &Object<'_>, parts: &[Part<'_>]) -> Finish<'static> {
    let calls = parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::ToolCall(_)));
    let refused = parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::Refusal(_)));
    let details = body.get("incomplete_details");
    let reason = details.and_then(|details| details.str("reason"));
    finish_of(body.str("status"), reason, calls, refused)
}

/// The reason that a response ended, by its status and its reason for being incomplete.
pub(super) fn finish_of(
    status: Option<&str>,
    reason: Option<&str>,
    calls: bool,
    refused: bool,
) -> Finish<'static> {
    match (status, reason) {
        (Some("incomplete"), Some("content_filter")) => Finish::Filtered,
        (Some("incomplete"), _) => Finish::Length,
        _ if refused => Finish::Refusal,
        _ => Finish::Stop.with_tools(calls),
    }
}

fn read_item<'a>(mut item: Object<'a>, parts: &mut Vec<Part<'a>>, found: &mut TextExtras<'a>) {
    match item.str("type") {
        Some("message") => {
            for part in item.take_array("content") {
                if let Some(part) = part.into_object() {
                    parts.extend(read_part(part, found));
                }
            }
        }
        Some("reasoning") => parts.push(read_reasoning(item)),
        Some("function_call") => {
            let arguments = item.take_string("arguments").unwrap_or_default();
            parts.extend(read_call(item, arguments));
        }
        Some("custom_tool_call") => {
            let input = item.take_string("input").unwrap_or_default();
            parts.extend(read_call(item, tool_schema::wrap(&input).into()));
        }
        Some("image_generation_call") => {
            if let Some(data) = item.take("result").and_then(Json::into_text) {
                parts.push(Part::new(PartKind::Image(Image {
                    source: MediaSource::Base64 {
                        media_type: "image/png".into(),
                        data,
                    },
                    detail: None,
                })));
            }
        }
        // Calls of the provider's own tools: the text they led to follows.
        _ => {}
    }
}

fn read_part<'a>(mut part: Object<'a>, found: &mut TextExtras<'a>) -> Option<Part<'a>> {
    match part.str("type")? {
        "output_text" => {
            let annotations = part.take_array("annotations").into_iter();
            found
                .citations
                .extend(annotations.filter_map(openai::read_annotation));
            found.tokens.extend(part.take_array("logprobs"));
            Some(Part::text(part.take_string("text")?))
        }
        "refusal" => Some(Part::new(PartKind::Refusal(part.take_string("refusal")?))),
        _ => None,
    }
}

fn read_reasoning(mut item: Object<'_>) -> Part<'_> {
    let signature = signature_of(&mut item);
    let text = reasoning_text(&mut item);
    Part::new(PartKind::Thinking(Thinking { text, signature }))
}

/// The id and the encrypted content of a reasoning item.
pub(super) fn signature_of<'a>(item: &mut Object<'a>) -> Option<Signature<'a>> {
    let id = item.take_string("id").unwrap_or_default();
    let encrypted = item.take("encrypted_content").and_then(Json::into_text)?;
    Some(Signature::from_item(id, encrypted))
}

fn read_call<'a>(mut item: Object<'a>, arguments: Text<'a>) -> Option<Part<'a>> {
    Some(Part::new(PartKind::ToolCall(ToolCall {
        id: item
            .take("call_id")
            .and_then(Json::into_text)
            .or_else(|| item.take_string("id"))
            .unwrap_or_default(),
        name: item.take_string("name")?,
        arguments: Arguments::Text(arguments),
        signature: None,
        custom: false,
    })))
}
