//! Checks of a Gemini request: unknown fields, turns out of order, calls and results that don't
//! match, foreign signatures. It must not answer.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::SIGNED;
use crate::format::MockRefusal;

/// Signature of a call made by another model (ai.google.dev, "Thought signatures").
const UNSIGNED: &str = "skip_thought_signature_validator";

const REQUEST: &[&str] = &[
    "model",
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "generationConfig",
    "safetySettings",
    "cachedContent",
    "labels",
    "serviceTier",
];
const CONFIG: &[&str] = &[
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseModalities",
    "candidateCount",
    "maxOutputTokens",
    "temperature",
    "topP",
    "topK",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "thinkingConfig",
];
const THINKING: &[&str] = &["includeThoughts", "thinkingBudget", "thinkingLevel"];
const CONTENT: &[&str] = &["role", "parts"];
const PART: &[&str] = &[
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "thought",
    "thoughtSignature",
];
/// Of these a part has exactly one.
const PART_KINDS: &[&str] = PART.split_at(7).0;
const DECLARATION: &[&str] = &["name", "description", "parameters", "parametersJsonSchema"];

/// The longest name of a function.
const LONGEST_NAME: usize = 64;

/// Checks a `GenerateContentRequest`.
pub(super) fn request(body: &Value) -> Result<(), MockRefusal> {
    check_fields("", body, REQUEST)?;
    config(&body["generationConfig"])?;
    for tool in body["tools"].as_array().into_iter().flatten() {
        for declared in tool["functionDeclarations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            declaration(declared)?;
        }
    }
    if !body["systemInstruction"].is_null() {
        check_fields("system_instruction", &body["systemInstruction"], CONTENT)?;
    }
    let contents = body["contents"].as_array().map_or(&[][..], Vec::as_slice);
    if contents.is_empty() {
        return Err(invalid_argument(
            "* GenerateContentRequest.contents: contents is not specified",
        ));
    }
    turns(contents)?;
    signatures(body["model"].as_str().unwrap_or_default(), contents)
}

/// Returns true if a model refuses calls of the current turn without a signature.
pub(super) fn wants_signatures(model: &str) -> bool {
    model.contains("gemini-3")
}

fn invalid_argument(message: impl Into<String>) -> MockRefusal {
    MockRefusal::new(400, message)
}

fn check_fields(at: &str, object: &Value, names: &[&str]) -> Result<(), MockRefusal> {
    let fields = object.as_object().into_iter().flatten();
    match fields
        .map(|(name, _)| name)
        .find(|name| !names.contains(&name.as_str()))
    {
        None => Ok(()),
        Some(name) => {
            let place = if at.is_empty() {
                String::new()
            } else {
                format!(" at '{at}'")
            };
            Err(invalid_argument(format!(
                "Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field."
            )))
        }
    }
}

fn config(config: &Value) -> Result<(), MockRefusal> {
    check_fields("generation_config", config, CONFIG)?;
    check_fields(
        "generation_config.thinking_config",
        &config["thinkingConfig"],
        THINKING,
    )?;
    let thinking = &config["thinkingConfig"];
    if !thinking["thinkingBudget"].is_null() && !thinking["thinkingLevel"].is_null() {
        return Err(invalid_argument(
            "You can only set only one of thinking budget and thinking level.",
        ));
    }
    let number = |name: &str, least: f64, most: f64| match &config[name] {
        Value::Null => Ok(()),
        value if value.as_f64().is_some_and(|n| (least..=most).contains(&n)) => Ok(()),
        value => Err(invalid_argument(format!(
            "* GenerateContentRequest.generation_config.{name}: {value} is out of its range"
        ))),
    };
    number("temperature", 0.0, 2.0)?;
    number("topP", 0.0, 1.0)?;
    number("candidateCount", 1.0, 8.0)?;
    number("maxOutputTokens", 1.0, 1e9)?;
    if config["stopSequences"]
        .as_array()
        .is_some_and(|stops| stops.len() > 5)
    {
        return Err(invalid_argument(
            "* GenerateContentRequest.generation_config.stop_sequences: at most 5 are allowed",
        ));
    }
    if !config["responseJsonSchema"].is_null() && config["responseMimeType"] != "application/json" {
        return Err(invalid_argument(
            "A response schema needs the response mime type application/json",
        ));
    }
    Ok(())
}

fn declaration(declared: &Value) -> Result<(), MockRefusal> {
    check_fields("tools[0].function_declarations[0]", declared, DECLARATION)?;
    let name = declared["name"].as_str().unwrap_or_default();
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let rest = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b));
    if first && rest && name.len() <= LONGEST_NAME {
        return Ok(());
    }
    Err(invalid_argument(
        "* GenerateContentRequest.tools[0].function_declarations[0].name: Invalid function name.",
    ))
}

/// Roles, parts, and that results answer the calls just before them.
fn turns(contents: &[Value]) -> Result<(), MockRefusal> {
    let mut open = 0;
    for (i, content) in contents.iter().enumerate() {
        check_fields(&format!("contents[{i}]"), content, CONTENT)?;
        let role = content["role"].as_str().unwrap_or("user");
        if !["user", "model"].contains(&role) {
            return Err(invalid_argument("Please use a valid role: user, model."));
        }
        let parts = content["parts"].as_array().map_or(&[][..], Vec::as_slice);
        if parts.is_empty() {
            return Err(invalid_argument(format!(
                "* GenerateContentRequest.contents[{i}].parts: contents.parts must not be empty."
            )));
        }
        for (j, part) in parts.iter().enumerate() {
            check_fields(&format!("contents[{i}].parts[{j}]"), part, PART)?;
            let kinds = PART_KINDS
                .iter()
                .filter(|kind| !part[**kind].is_null())
                .count();
            if kinds != 1 {
                return Err(invalid_argument(format!(
                    "* GenerateContentRequest.contents[{i}].parts[{j}].data: required oneof field \
                     'data' must have one initialized field"
                )));
            }
        }
        let having = |kind: &str| parts.iter().filter(|part| part[kind].is_object()).count();
        let results = having("functionResponse");
        if results != open && (results > 0 || open > 0) {
            return Err(invalid_argument(
                "Please ensure that the number of function response parts is equal to the number \
                 of function call parts of the function call turn.",
            ));
        }
        open = having("functionCall");
    }
    Ok(())
}

/// Signatures must be the provider's own; Gemini 3 wants one at the first call of each step of
/// the current turn.
fn signatures(model: &str, contents: &[Value]) -> Result<(), MockRefusal> {
    let turn_begins = contents
        .iter()
        .rposition(|content| content["role"] != "model" && !super::has_result(content));
    for (i, content) in contents.iter().enumerate() {
        let parts = content["parts"].as_array().map_or(&[][..], Vec::as_slice);
        for part in parts {
            if let Some(signature) = part["thoughtSignature"].as_str() {
                check_signature(signature)?;
            }
        }
        let first_call = parts.iter().find(|part| part["functionCall"].is_object());
        let current = turn_begins.is_none_or(|begin| i > begin);
        if wants_signatures(model)
            && current
            && first_call.is_some_and(|call| call["thoughtSignature"].is_null())
        {
            return Err(invalid_argument(
                "Function call is missing a thought_signature in functionCall parts. This is \
                 required for tools to work correctly.",
            ));
        }
    }
    Ok(())
}

fn check_signature(signature: &str) -> Result<(), MockRefusal> {
    let own = || {
        STANDARD
            .decode(signature)
            .is_ok_and(|bytes| bytes.starts_with(SIGNED))
    };
    if signature == UNSIGNED || own() {
        return Ok(());
    }
    Err(invalid_argument("Thought signature is not valid."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(more: &Value) -> Value {
        let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    }

    fn talk(call: &Value, results: usize) -> Value {
        let result = json!({"functionResponse": {"name": "f", "response": {}}});
        json!({"model": "gemini-3-pro", "contents": [
            {"role": "user", "parts": [{"text": "hi"}]},
            {"role": "model", "parts": [call]},
            {"role": "user", "parts": vec![result; results]},
        ]})
    }

    #[test]
    fn faulty_requests_are_refused() {
        let call = json!({"functionCall": {"name": "f"}});
        let signed =
            |signature: &str| json!({"functionCall": {"name": "f"}, "thoughtSignature": signature});
        let own = super::super::signature(&mut fastrand::Rng::with_seed(1));
        for (body, word) in [
            (with(&json!({})), ""),
            (with(&json!({"messages": []})), "Unknown name \"messages\""),
            (
                with(&json!({"generationConfig": {"top_p": 1}})),
                "generation_config",
            ),
            (
                with(&json!({"generationConfig": {"temperature": 3}})),
                "temperature",
            ),
            (
                with(&json!({"generationConfig": {"responseJsonSchema": {}}})),
                "mime type",
            ),
            (with(&json!({"contents": []})), "not specified"),
            (
                with(&json!({"contents": [{"role": "assistant", "parts": [{"text": "a"}]}]})),
                "valid role",
            ),
            (
                with(&json!({"contents": [{"role": "user", "parts": []}]})),
                "must not be empty",
            ),
            (
                with(&json!({"contents": [{"role": "user", "parts": [{"thought": true}]}]})),
                "oneof",
            ),
            (
                with(&json!({"tools": [{"functionDeclarations": [{"name": "a b"}]}]})),
                "Invalid function name",
            ),
            (talk(&call, 1), "missing a thought_signature"),
            (talk(&signed("gemini#x"), 1), "not valid"),
            (talk(&signed(&own), 2), "number of function response parts"),
            (talk(&signed(&own), 1), ""),
            (talk(&signed(UNSIGNED), 1), ""),
        ] {
            let found = request(&body).err().map(|refusal| refusal.message);
            match (found, word) {
                (None, "") => {}
                (Some(message), word) if !word.is_empty() => {
                    assert!(message.contains(word), "{body}: {message}");
                }
                (found, _) => panic!("{body}: {found:?}"),
            }
        }
    }
}
