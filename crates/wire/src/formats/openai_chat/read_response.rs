//! Reads a plain chat completion, with what compatible servers make of it.

use super::read_request::read_google_signature;
use super::search_results;
use crate::formats::openai;
use crate::translate::data_url;
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{
    Arguments, Choice, Finish, Image, NeutralResponse, Part, PartKind, Text, Thinking, TokenCounts,
    ToolCall,
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
        Json::Object(body) if body.has("choices") => body,
        _ => {
            return Err(TranslateError::bad_answer(
                "The provider's answer has no choices.",
            ));
        }
    };
    let id = body.take("id").and_then(Json::into_text);
    let seed = id.as_deref().unwrap_or(&context.request_id).to_owned();
    let mut citations = search_results::read(&mut body);
    let choices = body.take_array("choices").into_iter().filter_map(|choice| {
        let mut choice = read_choice(choice.into_object()?, &seed);
        if choice.citations.is_empty() {
            choice.citations = std::mem::take(&mut citations);
        }
        Some(choice)
    });
    Ok(NeutralResponse {
        choices: choices.collect(),
        id,
        created: body.u64("created").filter(|created| *created > 0),
        model: body.take("model").and_then(Json::into_text),
        usage: usage_of(&mut body),
        tier: body.take("service_tier").and_then(Json::into_text),
    })
}

/// Usage where OpenAI has it, or where Groq puts it.
pub(super) fn usage_of(body: &mut Object<'_>) -> Option<TokenCounts> {
    let usage = body
        .take_object("usage")
        .or_else(|| body.take_object("x_groq")?.take_object("usage"))?;
    Some(read_usage(&Json::Object(usage)))
}

/// Reads token counts. Details are parts of the totals; only where the sum shows it, as with xAI,
/// reasoning comes on top of the completion.
pub(crate) fn read_usage(usage: &Json<'_>) -> TokenCounts {
    let count = |key: &str| usage.u64(key).unwrap_or(0);
    let detail = |group: &str, key: &str| usage.get(group).and_then(|group| group.u64(key));
    let input = count("prompt_tokens");
    let completion = count("completion_tokens");
    let reasoning = detail("completion_tokens_details", "reasoning_tokens").unwrap_or(0);
    let apart = reasoning > 0 && count("total_tokens") == input + completion + reasoning;
    TokenCounts {
        input,
        cached: detail("prompt_tokens_details", "cached_tokens")
            .or_else(|| usage.u64("prompt_cache_hit_tokens"))
            .or_else(|| usage.u64("cached_tokens"))
            .unwrap_or(0),
        cache_write: detail("prompt_tokens_details", "cache_write_tokens").unwrap_or(0),
        cache_write_1h: 0,
        output: if apart {
            completion + reasoning
        } else {
            completion
        },
        reasoning,
    }
    .within_input()
}

fn read_choice<'a>(mut choice: Object<'a>, seed: &str) -> Choice<'a> {
    let mut message = choice.take_object("message").unwrap_or_default();
    let mut parts = Vec::new();
    if let Some(text) = thoughts(&mut message) {
        parts.push(thinking(text));
    }
    if let Some(content) = message.take("content") {
        read_content(content, &mut parts);
    }
    if let Some(refusal) = message.take("refusal").and_then(Json::into_text) {
        parts.push(Part::new(PartKind::Refusal(refusal)));
    }
    parts.extend(message.take_array("images").into_iter().filter_map(image));
    let calls = message.take_array("tool_calls");
    let has_calls = !calls.is_empty();
    for (at, call) in calls.into_iter().enumerate() {
        parts.extend(read_call(call, seed, at));
    }
    if let (false, Some(call)) = (has_calls, legacy_call(&mut message)) {
        parts.push(function_part(call, tool_id::make(seed, 0).into(), None));
    }
    let has_calls = parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::ToolCall(_)));
    let refused = parts
        .iter()
        .any(|part| matches!(part.kind, PartKind::Refusal(_)));
    let finish = choice.take("finish_reason").and_then(Json::into_text);
    let finish = finish.map_or(Finish::Stop, |reason| read_finish(&reason));
    Choice {
        index: choice.u64("index").unwrap_or(0),
        finish: match finish {
            Finish::Stop if refused => Finish::Refusal,
            finish => finish.with_tools(has_calls),
        },
        parts,
        citations: message
            .take_array("annotations")
            .into_iter()
            .filter_map(openai::read_annotation)
            .collect(),
        logprobs: choice.take("logprobs"),
    }
}

/// Reads the thoughts, under the names that servers have for them.
pub(super) fn thoughts<'a>(message: &mut Object<'a>) -> Option<Text<'a>> {
    ["reasoning_content", "reasoning"]
        .into_iter()
        .find_map(|key| message.take(key)?.into_text())
}

const fn thinking(text: Text<'_>) -> Part<'_> {
    Part::new(PartKind::Thinking(Thinking {
        text,
        signature: None,
    }))
}

/// Content is a string, a list of parts (Mistral) or a JSON value (Cloudflare).
fn read_content<'a>(content: Json<'a>, parts: &mut Vec<Part<'a>>) {
    match content {
        Json::String(text) if text.is_empty() => {}
        Json::String(text) => parts.push(Part::text(text)),
        Json::Array(items) => parts.extend(items.into_iter().filter_map(content_part)),
        other => parts.push(Part::text(other.to_text())),
    }
}

/// A part of Mistral's lists.
pub(super) fn content_part(item: Json<'_>) -> Option<Part<'_>> {
    let mut item = item.into_object()?;
    match item.str("type") {
        Some("text") => Some(Part::text(item.take_string("text")?)),
        Some("refusal") => Some(Part::new(PartKind::Refusal(item.take_string("refusal")?))),
        Some("thinking") => {
            let text = match item.take("thinking")? {
                Json::String(text) => text,
                Json::Array(inner) => inner
                    .iter()
                    .filter_map(|part| part.str("text"))
                    .collect::<String>()
                    .into(),
                _ => return None,
            };
            let signature = item
                .take_string("signature")
                .and_then(Signature::from_block);
            Some(Part::new(PartKind::Thinking(Thinking { text, signature })))
        }
        _ => None,
    }
}

fn image(image: Json<'_>) -> Option<Part<'_>> {
    let url = image
        .into_object()?
        .take_object("image_url")?
        .take_string("url")?;
    Some(Part::new(PartKind::Image(Image {
        source: data_url::read(url),
        detail: None,
    })))
}

fn read_call<'a>(call: Json<'a>, seed: &str, at: usize) -> Option<Part<'a>> {
    let mut call = call.into_object()?;
    let id = call
        .take("id")
        .and_then(Json::into_text)
        .unwrap_or_else(|| tool_id::make(seed, at).into());
    let signature = call.take("extra_content").and_then(read_google_signature);
    let function = call.take_object("function")?;
    Some(function_part(function, id, signature))
}

fn function_part<'a>(
    mut function: Object<'a>,
    id: Text<'a>,
    signature: Option<Text<'a>>,
) -> Part<'a> {
    Part::new(PartKind::ToolCall(ToolCall {
        id,
        name: function.take_string("name").unwrap_or_default(),
        arguments: match function.take("arguments") {
            Some(Json::String(text)) => Arguments::Text(text),
            Some(value) => Arguments::Object(value.to_text()),
            None => Arguments::Text("".into()),
        },
        signature,
        custom: false,
    }))
}

/// The forerunner of tool calls, which some servers fill with empty strings.
fn legacy_call<'a>(message: &mut Object<'a>) -> Option<Object<'a>> {
    message
        .take_object("function_call")
        .filter(|call| call.str("name").is_some_and(|name| !name.is_empty()))
}

/// The table of finish reasons; Together says `eos`.
pub(crate) fn read_finish(reason: &str) -> Finish<'static> {
    match reason {
        "length" | "max_tokens" => Finish::Length,
        "tool_calls" | "function_call" | "tool_use" => Finish::Tools,
        "content_filter" => Finish::Filtered,
        _ => Finish::Stop,
    }
}
