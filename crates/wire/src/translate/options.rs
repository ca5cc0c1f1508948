//! Inputs of a translation besides the request, and its results. It must not translate.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
pub use llm_router_domain::format::ChatDialect;

use super::call_ids::CallIds;
use super::neutral::{NeutralRequest, Tool};
use super::policy::Compat;

/// Settings of a translation.
#[derive(Clone, Debug, Default)]
pub struct RequestOptions {
    /// Policy for fields that can't be expressed.
    pub compat: Compat,
    /// The dialect of chat completions that the provider speaks, if it speaks them.
    pub dialect: ChatDialect,
    /// Leaves out what asks for a usage chunk at the end of a stream.
    pub no_usage_chunk: bool,
    /// `max_tokens` where the client gives none and the target needs one; by model if unset.
    pub default_max_tokens: Option<u64>,
    /// The most tokens of output that the model gives, where that is known.
    pub max_output: Option<u64>,
    /// Unix seconds, for answers whose provider gives no time.
    pub now: u64,
    /// The router's id of the request, for answers and tool calls without an id of their own.
    pub request_id: String,
}

/// A request in the provider's format.
#[derive(Clone, Debug)]
pub struct TranslatedRequest {
    /// The body to send.
    pub body: Bytes,
    /// Path and query below the provider's base URL, such as `/chat/completions`; Anthropic's
    /// without `/v1`.
    pub path: String,
    /// True if a stream was asked for.
    pub stream: bool,
    /// Headers to add besides credentials.
    pub headers: &'static [(&'static str, &'static str)],
    /// Fields left out, as the client spells them, for `x-llm-router-dropped`.
    pub dropped: Vec<String>,
    /// The context for translating the answer.
    pub context: ResponseContext,
}

/// Facts of a request that translating its answer needs.
#[derive(Clone, Debug, Default)]
pub struct ResponseContext {
    /// The deployment's model, where the provider names none.
    pub model: String,
    /// Unix seconds, where the provider gives no time.
    pub now: u64,
    /// The router's id of the request.
    pub request_id: String,
    /// The client wants usage in the stream.
    pub include_usage: bool,
    /// Names of tools that take free text, which went out as functions.
    pub custom_tools: Vec<String>,
    /// Names of tools that went out changed: as sent, and as the client knows them.
    pub renamed_tools: Vec<(String, String)>,
    /// Fields of the request that Responses repeats in every answer, written out.
    pub echo: String,
    /// Ids of the calls in the request's history, which no call of the answer may have again.
    pub call_ids: Arc<HashSet<String>>,
    /// The input of the request in tokens, estimated: for formats that tell it before the provider
    /// does.
    pub estimated_input: Option<u64>,
}

impl RequestOptions {
    /// The context of the answer to a request, as long as no tool of it has another name.
    pub(super) fn context(
        &self,
        model: &str,
        request: &NeutralRequest<'_>,
        echo: String,
    ) -> ResponseContext {
        ResponseContext {
            model: model.to_owned(),
            now: self.now,
            request_id: self.request_id.clone(),
            include_usage: request.include_usage,
            custom_tools: custom_tools(request),
            renamed_tools: Vec::new(),
            echo,
            ..ResponseContext::default()
        }
    }
}

impl ResponseContext {
    /// Ids that calls of the answer may take.
    pub(crate) fn free_call_ids(&self) -> CallIds {
        CallIds::beside(&self.call_ids)
    }

    /// The id of an answer as the client's format has them; the provider's own stays readable. One
    /// that soon repeats gets the request's id behind it: agents take answers with one id for one.
    pub(crate) fn answer_id(&self, prefix: &str, id: Option<&str>) -> String {
        match id.filter(|id| !id.is_empty()) {
            Some(id) if repeats(id) => {
                let own = id.strip_prefix(prefix).unwrap_or(id);
                format!("{prefix}{own}_{}", self.request_id)
            }
            Some(id) if id.starts_with(prefix) => id.to_owned(),
            Some(id) => format!("{prefix}{id}"),
            None => format!("{prefix}{}", self.request_id),
        }
    }

    /// The name the client knows a tool by.
    pub(crate) fn client_name<'n>(&'n self, sent: &'n str) -> &'n str {
        let renamed = self.renamed_tools.iter().find(|(name, _)| name == sent);
        renamed.map_or(sent, |(_, name)| name)
    }

    /// Returns true if a tool takes free text.
    pub(crate) fn is_custom(&self, name: &str) -> bool {
        self.custom_tools.iter().any(|custom| custom == name)
    }
}

/// Returns true for ids that are hardly more than a number below a thousand, as Ollama draws them.
fn repeats(id: &str) -> bool {
    let number = id.rsplit(['-', '_']).next().unwrap_or(id);
    number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn custom_tools(request: &NeutralRequest<'_>) -> Vec<String> {
    let custom = |tool: &Tool<'_>| match tool {
        Tool::Custom { name, .. } => Some(name.to_string()),
        _ => None,
    };
    request.tools.iter().filter_map(custom).collect()
}
