//! The type `custom`: any server that speaks OpenAI's formats.

use llm_router_domain::format::ChatDialect;

use crate::openai_compatible::OpenAiCompatible;
use crate::provider_type::Quirks;

/// Any OpenAI-compatible server, such as vLLM or Ollama.
pub(crate) static CUSTOM: OpenAiCompatible = OpenAiCompatible {
    name: "custom",
    description: "Any OpenAI-compatible server.",
    base_url: None,
    environment_variable: "PROVIDER_API_KEY",
    is_used_without_file: false,
    has_responses: true,
    quirks: Quirks {
        chat_dialect: ChatDialect::Compatible,
    },
    telemetry_name: None,
};
