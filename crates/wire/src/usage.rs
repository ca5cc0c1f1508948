//! What an attempt used, out of the bytes the provider sent: plain bodies and streams of every
//! format, at the cost of a memory search where there is nothing to find. It must not price
//! anything, nor change bytes except to ask for the usage chunk and to take it out again.

mod body;
mod counts;
mod filter;
mod observed;
mod option;
mod stream;
mod text;

use llm_router_domain::format::{Endpoint, Format};

pub use body::BodyMeter;
pub use filter::UsageFilter;
pub use observed::Observed;
pub use option::{Splice, ask_for_usage};
pub use stream::StreamMeter;

/// How a provider lays out a response: its format, told apart where usage or text sit elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI chat completions.
    Chat,
    /// OpenAI completions, the older kind.
    Completions,
    /// OpenAI embeddings.
    Embeddings,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages,
    /// Gemini `generateContent`.
    Gemini,
}

impl Dialect {
    /// The layout that a provider speaking `format` answers a request to `endpoint` in.
    #[must_use]
    pub const fn of(format: Format, endpoint: Endpoint) -> Self {
        match (format, endpoint) {
            (Format::OpenAiChat, Endpoint::Completions) => Self::Completions,
            (Format::OpenAiChat, Endpoint::Embeddings) => Self::Embeddings,
            (Format::OpenAiChat, _) => Self::Chat,
            (Format::OpenAiResponses, _) => Self::Responses,
            (Format::AnthropicMessages, _) => Self::Messages,
            (Format::Gemini, _) => Self::Gemini,
        }
    }

    /// Whether a stream of this layout reports usage only when it is asked to.
    #[must_use]
    pub const fn has_usage_option(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }
}
