//! Names of wire formats, their dialects and the endpoints that clients call. It must not know the
//! bytes of a format, as `llm-router-wire` does.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// The wire API spoken by a client or by a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// OpenAI chat completions and what lives beside it (completions, embeddings).
    OpenAiChat,
    /// OpenAI responses.
    OpenAiResponses,
    /// Anthropic messages.
    AnthropicMessages,
    /// Google Gemini `generateContent`.
    Gemini,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [
        Self::OpenAiChat,
        Self::OpenAiResponses,
        Self::AnthropicMessages,
        Self::Gemini,
    ];

    /// The name used in logs, metrics, the ledger and `?format=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai-chat",
            Self::OpenAiResponses => "openai-responses",
            Self::AnthropicMessages => "anthropic-messages",
            Self::Gemini => "gemini",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Dialect of chat completions that a provider speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChatDialect {
    /// OpenAI itself: refuses fields it doesn't know.
    #[default]
    OpenAi,
    /// A compatible server (vLLM, DeepSeek, Mistral …): `max_tokens`, `top_k`, and
    /// `reasoning_content` in the history.
    Compatible,
}

/// Treatment of what a client asks for and the provider doesn't take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// Leave it out or change it, and name it in the answer's header x-llm-router-dropped.
    #[default]
    Lenient,
    /// Answer the request with 400, unless another deployment can take it.
    Strict,
}

/// An inference endpoint that a client can call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
}

impl Endpoint {
    /// Every endpoint, in the order of the contract.
    pub const ALL: [Self; 6] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
        Self::CountTokens,
    ];

    /// The name used in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
        }
    }

    /// The client's path below `/v1`, which is also the path below an OpenAI-compatible base URL.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
            Self::Messages => "/messages",
            Self::CountTokens => "/messages/count_tokens",
        }
    }

    /// The format that requests to this endpoint are written in.
    #[must_use]
    pub const fn format(self) -> Format {
        match self {
            Self::ChatCompletions | Self::Completions | Self::Embeddings => Format::OpenAiChat,
            Self::Responses => Format::OpenAiResponses,
            Self::Messages | Self::CountTokens => Format::AnthropicMessages,
        }
    }
}
