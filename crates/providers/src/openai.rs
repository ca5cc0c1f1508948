//! The type `openai`: OpenAI itself.

use llm_router_domain::format::ChatDialect;

use crate::openai_compatible::OpenAiCompatible;
use crate::provider_type::Quirks;

/// OpenAI.
pub(crate) static OPENAI: OpenAiCompatible = OpenAiCompatible {
    name: "openai",
    description: "OpenAI.",
    base_url: Some("https://api.openai.com/v1"),
    environment_variable: "OPENAI_API_KEY",
    is_used_without_file: true,
    has_responses: true,
    quirks: Quirks {
        chat_dialect: ChatDialect::OpenAi,
    },
    telemetry_name: Some("openai"),
};
