//! Reads a plain `generateContent` answer.

use super::grounding;
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{
    Arguments, Choice, Finish, Image, MediaSource, NeutralResponse, Part, PartKind, Text, Thinking,
    TokenCounts, ToolCall,
};
use crate::translate::options::ResponseContext;
use crate::translate::signature::Signature;
use crate::translate::tool_id;
use crate::translate::{TranslateError, provider_error};

/// Reads the body of an answer.
pub(crate) fn read_response<'a>(
    json: Json<'a>,
    context: &ResponseContext,
) -> Result<NeutralResponse<'a>, TranslateError> {
    if provider_error::is_error(&json) {
        return Err(provider_error::ProviderError::read(None, &json).into());
    }
    let mut body = match json {
        Json::Object(body) if body.has("candidates") || body.has("promptFeedback") => body,
        _ => {
            let message = "The provider's answer has no candidates.";
            return Err(TranslateError::bad_answer(message));
        }
    };
    let id = body.take("responseId").and_then(Json::into_text);
    let seed = id.as_deref().unwrap_or(&context.request_id).to_owned();
    let mut calls = 0;
    let mut choices = Vec::new();
    for candidate in body.take_array("candidates") {
        if let Some(candidate) = candidate.into_object() {
            choices.push(read_candidate(candidate, &seed, &mut calls)?);
        }
    }
    if choices.is_empty() {
        choices.push(blocked_choice());
    }
    let usage = body.get("usageMetadata").map(read_usage);
    let tier = read_tier(&body);
    Ok(NeutralResponse {
        id,
        created: None,
        model: body.take("modelVersion").and_then(Json::into_text),
        choices,
        usage,
        tier,
    })
}

/// The answer to a prompt that was refused as such.
const fn blocked_choice<'a>() -> Choice<'a> {
    Choice {
        index: 0,
        parts: Vec::new(),
        citations: Vec::new(),
        finish: Finish::Filtered,
        logprobs: None,
    }
}

/// The tier that served the request.
pub(super) fn read_tier(body: &Object<'_>) -> Option<Text<'static>> {
    let tier = body.get("usageMetadata")?.str("serviceTier")?;
    Some(tier.to_owned().into())
}

/// Reads token counts: thoughts come on top of the candidates, tool prompts on top of the prompt.
pub(super) fn read_usage(usage: &Json<'_>) -> TokenCounts {
    let count = |key: &str| usage.u64(key).unwrap_or(0);
    let reasoning = count("thoughtsTokenCount");
    TokenCounts {
        input: count("promptTokenCount").saturating_add(count("toolUsePromptTokenCount")),
        cached: count("cachedContentTokenCount"),
        output: count("candidatesTokenCount").saturating_add(reasoning),
        reasoning,
        ..TokenCounts::default()
    }
}

/// The table of finish reasons; those that mean the model failed have no counterpart.
pub(super) fn read_finish(reason: &str) -> Result<Finish<'static>, provider_error::ProviderError> {
    match reason {
        "MAX_TOKENS" => Ok(Finish::Length),
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR" => Ok(Finish::Filtered),
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE" => Err(provider_error::ProviderError::new(
            502,
            "upstream_error",
            &format!("The model's answer is unusable ({reason})."),
        )),
        _ => Ok(Finish::Stop),
    }
}

/// Content of a part.
pub(super) enum CandidatePart<'a> {
    Text(Text<'a>),
    Thought(Text<'a>),
    Call {
        id: Option<Text<'a>>,
        name: Text<'a>,
        arguments: Text<'a>,
    },
    Image {
        media_type: Text<'a>,
        data: Text<'a>,
    },
}

/// Reads a part and its signature.
pub(super) fn read_part(part: Json<'_>) -> Option<(CandidatePart<'_>, Option<Text<'_>>)> {
    let mut part = part.into_object()?;
    let signature = part.take("thoughtSignature").and_then(Json::into_text);
    let thought = part.get("thought").and_then(Json::as_bool) == Some(true);
    if let Some(text) = part.take_string("text") {
        let found = if thought {
            CandidatePart::Thought(text)
        } else {
            CandidatePart::Text(text)
        };
        return Some((found, signature));
    }
    if let Some(mut call) = part.take_object("functionCall") {
        let found = CandidatePart::Call {
            id: call.take("id").and_then(Json::into_text),
            name: call.take_string("name")?,
            arguments: call.take("args").map_or("{}".into(), |args| args.to_text()),
        };
        return Some((found, signature));
    }
    if let Some(mut inline) = part.take_object("inlineData") {
        let found = CandidatePart::Image {
            media_type: inline.take_string("mimeType")?,
            data: inline.take_string("data")?,
        };
        return Some((found, signature));
    }
    code(&part).map(|text| (CandidatePart::Text(text.into()), signature))
}

/// Code that the provider ran, and what came out, as text: no client's format has such parts.
fn code(part: &Object<'_>) -> Option<String> {
    if let Some(code) = part.get("executableCode") {
        let language = code
            .str("language")
            .unwrap_or_default()
            .to_ascii_lowercase();
        return Some(format!(
            "\n```{language}\n{}\n```\n",
            code.str("code")?.trim_end()
        ));
    }
    let output = part.get("codeExecutionResult")?.str("output")?;
    Some(format!("\n```\n{}\n```\n", output.trim_end()))
}

fn read_candidate<'a>(
    mut candidate: Object<'a>,
    seed: &str,
    calls: &mut usize,
) -> Result<Choice<'a>, TranslateError> {
    let mut content = candidate.take_object("content").unwrap_or_default();
    let mut parts = Vec::new();
    for part in content.take_array("parts") {
        if let Some((found, signature)) = read_part(part) {
            add(&mut parts, found, signature, seed, calls);
        }
    }
    let reason = candidate.str("finishReason").unwrap_or_default();
    let has_calls = parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::ToolCall(_)));
    let citations = candidate.get("groundingMetadata").map(grounding::read);
    Ok(Choice {
        index: candidate.u64("index").unwrap_or(0),
        finish: read_finish(reason)?.with_tools(has_calls),
        parts,
        citations: citations.unwrap_or_default(),
        logprobs: None,
    })
}

fn add<'a>(
    parts: &mut Vec<Part<'a>>,
    found: CandidatePart<'a>,
    signature: Option<Text<'a>>,
    seed: &str,
    calls: &mut usize,
) {
    match found {
        CandidatePart::Thought(text) => {
            match parts.last_mut().map(|part| &mut part.kind) {
                Some(PartKind::Thinking(last)) if last.signature.is_none() => {
                    last.text.to_mut().push_str(&text);
                }
                _ => parts.push(thought(text, None)),
            }
            sign(parts, "".into(), signature);
        }
        CandidatePart::Text(text) => {
            sign(parts, "".into(), signature);
            if !text.is_empty() {
                parts.push(Part::text(text));
            }
        }
        CandidatePart::Call {
            id,
            name,
            arguments,
        } => {
            let id = id.unwrap_or_else(|| tool_id::make(seed, *calls).into());
            *calls += 1;
            if let Some(value) = signature.clone() {
                if !matches!(parts.last(), Some(last) if is_unsigned(last)) {
                    parts.push(thought("".into(), None));
                }
                sign(parts, id.clone(), Some(value));
            }
            parts.push(Part::new(PartKind::ToolCall(ToolCall {
                id,
                name,
                arguments: Arguments::Object(arguments),
                signature,
                custom: false,
            })));
        }
        CandidatePart::Image { media_type, data } => {
            parts.push(Part::new(PartKind::Image(Image {
                source: MediaSource::Base64 { media_type, data },
                detail: None,
            })))
        }
    }
}

const fn thought<'a>(text: Text<'a>, signature: Option<Signature<'a>>) -> Part<'a> {
    Part::new(PartKind::Thinking(Thinking { text, signature }))
}

const fn is_unsigned(part: &Part<'_>) -> bool {
    matches!(&part.kind, PartKind::Thinking(thinking) if thinking.signature.is_none())
}

/// Signs the thought just before. A signature of text without one is dropped: Gemini only demands
/// those of calls.
fn sign<'a>(parts: &mut [Part<'a>], call: Text<'a>, value: Option<Text<'a>>) {
    if let (Some(last), Some(value)) = (parts.last_mut(), value)
        && let PartKind::Thinking(thinking) = &mut last.kind
        && thinking.signature.is_none()
    {
        thinking.signature = Some(Signature::Gemini { call, value });
    }
}
