//! Translation between API formats: a client's request into a provider's format, the provider's
//! answer, plain or streamed, back into the client's. Pure functions from bytes to bytes: no
//! socket, no clock, no choice of provider.
//!
//! Every format reads into and writes out of one neutral request, response and event
//! ([`neutral`], [`event`]), so a new format is one module. What can't be expressed is left out and
//! reported, or refused: [`policy`] holds the table.

mod call_ids;
pub(crate) mod capability;
mod conversation;
mod count;
pub(crate) mod data_url;
pub(crate) mod emit;
pub(crate) mod event;
pub(crate) mod extra;
mod history;
pub(crate) mod json;
pub(crate) mod limits;
pub(crate) mod neutral;
pub(crate) mod options;
pub(crate) mod policy;
pub(crate) mod provider_error;
pub(crate) mod reasoning;
mod sequence;
pub(crate) mod signature;
pub(crate) mod stream;
pub(crate) mod tool_id;
pub(crate) mod tool_schema;
pub(crate) mod turns;
pub(crate) mod typed;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::Format;
use serde_json::Value;

pub use capability::family_ceiling;
pub use count::{translate_count_request, translate_count_response};
pub use history::{CleanedHistory, clean_history};
pub use limits::limits_as_markdown;
pub use options::{ChatDialect, RequestOptions, ResponseContext, TranslatedRequest};
pub use policy::{Compat, table_as_markdown};
pub use provider_error::translate_error;
pub(crate) use stream::{StreamEnd, StreamTranslator};

use crate::error::without_bom;
use crate::formats::{client_codec, codec};
use crate::prompt::Prompt;
use json::Json;
use neutral::{NeutralResponse, PartKind};
use policy::Losses;

/// Error of a translation, as the client is to see it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TranslateError {
    /// HTTP status: 400 where the client is to blame, 502 where the provider is.
    pub status: u16,
    /// Machine-readable code, for OpenAI's `code`.
    pub code: Cow<'static, str>,
    /// The problem and its remedy.
    pub message: String,
    /// The field at fault, as the client spells it.
    pub param: Option<String>,
    /// Anthropic's `error.details`, by which its SDKs choose what to do.
    pub details: Option<Box<Value>>,
}

impl TranslateError {
    pub(crate) fn invalid(param: &str, expected: &str) -> Self {
        Self {
            status: 400,
            code: Cow::Borrowed("invalid_value"),
            message: format!("The field \"{param}\" must be {expected}."),
            param: Some(param.to_owned()),
            details: None,
        }
    }

    pub(crate) fn missing(param: &str) -> Self {
        Self {
            status: 400,
            code: Cow::Borrowed("invalid_value"),
            message: format!("The field \"{param}\" is missing."),
            param: Some(param.to_owned()),
            details: None,
        }
    }

    pub(crate) fn unsupported_field(param: &str, message: String) -> Self {
        Self {
            status: 400,
            code: Cow::Borrowed("unsupported_parameter"),
            message,
            param: Some(param.to_owned()),
            details: None,
        }
    }

    /// A value beyond a limit of the target.
    pub(crate) fn beyond(param: &str, limit: &str) -> Self {
        let message = format!(
            "\"{param}\" is beyond what this model takes at its provider: {limit}. Change it, or ask \
             for a model that takes it."
        );
        Self::unsupported_field(param, message)
    }

    pub(crate) fn not_json(error: &serde_json::Error) -> Self {
        Self {
            status: 400,
            code: Cow::Borrowed("invalid_json"),
            message: format!("The request body is not valid JSON: {error}."),
            param: None,
            details: None,
        }
    }

    pub(crate) fn bad_answer(message: &str) -> Self {
        Self {
            status: 502,
            code: Cow::Borrowed("upstream_error"),
            message: message.to_owned(),
            param: None,
            details: None,
        }
    }

    pub(crate) fn no_translation(format: Format) -> Self {
        Self {
            status: 400,
            code: Cow::Borrowed("unsupported_format"),
            message: format!("Requests in the format {format} can't be translated."),
            param: None,
            details: None,
        }
    }

    pub(crate) fn with_details(self, details: Value) -> Self {
        Self {
            details: Some(Box::new(details)),
            ..self
        }
    }

    /// The same error, of a field inside `parent`.
    pub(crate) fn within(mut self, parent: &str) -> Self {
        let old = self.param.take().unwrap_or_default();
        let new = match old.as_str() {
            "" => parent.to_owned(),
            inner if inner.starts_with('[') => format!("{parent}{inner}"),
            inner => format!("{parent}.{inner}"),
        };
        if !old.is_empty() {
            self.message = self.message.replacen(&old, &new, 1);
        }
        self.param = Some(new);
        self
    }
}

/// Translates a request.
///
/// `from` is the client's format, `to` the provider's; `target_model` is the deployment's name of
/// the model. The result's [`TranslatedRequest::context`] is needed to translate the answer back.
///
/// # Errors
/// [`TranslateError`] with status 400 when the body is no JSON object, a field has a type it can't
/// have, or something is asked for that the target can't express and that may not be left out.
pub fn translate_request(
    from: Format,
    to: Format,
    body: &[u8],
    target_model: &str,
    options: &RequestOptions,
) -> Result<TranslatedRequest, TranslateError> {
    let text = std::str::from_utf8(body).map_err(|_| TranslateError {
        message: "The request body is not valid UTF-8.".to_owned(),
        ..TranslateError::no_translation(from)
    });
    let text = text.map_err(|error| TranslateError {
        code: Cow::Borrowed("invalid_json"),
        ..error
    })?;
    let json = Json::parse(text).map_err(|error| TranslateError::not_json(&error))?;
    let object = json.into_object().ok_or_else(|| TranslateError {
        status: 400,
        code: Cow::Borrowed("invalid_json"),
        message: "The request body must be a JSON object.".to_owned(),
        param: None,
        details: None,
    })?;
    let client = client_codec(from)?;
    let echo = client.echo(&object);
    let ceiling = limits::ceiling_name(&object);
    let mut request = client.read_request(object)?;
    let target = codec(to);
    let mut losses = Losses::new(options.compat, from, to);
    let mut context = options.context(target_model, &request, echo);
    context.call_ids = Arc::new(conversation::call_ids(&request));
    if request.stream && client.tells_input_first() {
        context.estimated_input = Prompt::read(body).ok().map(|prompt| prompt.tokens());
    }
    conversation::arrange(&mut request, &mut losses);
    let destination = limits::Destination {
        format: to,
        dialect: options.dialect,
        model: target_model,
        max_output: options.max_output,
        ceiling,
    };
    context.renamed_tools = limits::fit(&mut request, destination, &mut losses);
    let mut out = BytesMut::with_capacity(body.len() + body.len() / 8 + 256);
    target.write_request(&request, target_model, options, &mut losses, &mut out);
    Ok(TranslatedRequest {
        body: out.freeze(),
        path: target.path(target_model, request.stream),
        stream: request.stream,
        headers: target.request_headers(),
        dropped: losses.finish()?,
        context,
    })
}

/// Translates a plain answer (status 200) from the provider's format `from` into the client's
/// format `to`. The formats here are the other way round than in [`translate_request`].
///
/// # Errors
/// [`TranslateError`] with status 502 when the body is no answer in the provider's format, or says
/// that the model failed.
pub fn translate_response(
    from: Format,
    to: Format,
    body: &[u8],
    context: &ResponseContext,
) -> Result<Bytes, TranslateError> {
    let text = String::from_utf8_lossy(without_bom(body));
    let repaired;
    let json = match Json::parse(&text) {
        Ok(json) => json,
        Err(_) => {
            repaired = json::without_lone_surrogates(&text);
            Json::parse(&repaired)
                .map_err(|_| TranslateError::bad_answer("The provider's answer is not JSON."))?
        }
    };
    let client = client_codec(to)?;
    let mut response = codec(from).read_response(json, context)?;
    take_call_ids(&mut response, context);
    let mut out = BytesMut::with_capacity(body.len() + 256);
    client.write_response(&response, context, &mut out);
    Ok(out.freeze())
}

/// Gives every call of an answer an id of its own within the conversation.
fn take_call_ids(response: &mut NeutralResponse<'_>, context: &ResponseContext) {
    let mut ids = context.free_call_ids();
    let choices = response.choices.iter_mut();
    for part in choices.flat_map(|choice| &mut choice.parts) {
        if let PartKind::ToolCall(call) = &mut part.kind {
            let id = std::mem::take(&mut call.id);
            call.id = ids.take_or_make(id, &context.request_id);
        }
    }
}
