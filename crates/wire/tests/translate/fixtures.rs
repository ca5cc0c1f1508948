//! Fixtures and snapshots: where they lie and how they are read and shown.

use std::path::{Path, PathBuf};

use llm_router_domain::format::{Endpoint, Format};
use llm_router_wire::translate::{ChatDialect, Compat, RequestOptions, ResponseContext};
use serde_json::Value;

/// Formats that clients speak.
pub(crate) const CLIENTS: [Format; 3] = [
    Format::OpenAiChat,
    Format::OpenAiResponses,
    Format::AnthropicMessages,
];

/// Formats that providers speak.
pub(crate) const PROVIDERS: [Format; Format::ALL.len()] = Format::ALL;

/// The endpoint at which clients of a format ask for an answer.
pub(crate) fn endpoint(client: Format) -> Endpoint {
    let found = Endpoint::ALL.into_iter().find(|e| e.format() == client);
    found.unwrap_or_else(|| panic!("no client speaks {client}"))
}

/// A file of a fixture folder: its name without extension, and its content.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The fixtures of one kind in one format, in the order of their names.
pub(crate) fn fixtures(kind: &str, format: Format) -> Vec<Fixture> {
    let folder = folder().join(kind).join(format.name());
    let mut found: Vec<Fixture> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| read(&entry.unwrap().path()))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn read(path: &Path) -> Fixture {
    Fixture {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        text: std::fs::read_to_string(path).unwrap(),
    }
}

/// The folder of this test.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/translate")
}

/// Compares with the snapshot of a fixture in a target format.
pub(crate) fn assert_golden(kind: &str, from: Format, name: &str, to: Format, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder().join("snapshots").join(kind).join(from.name()));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("{name}.{to}"), text));
}

/// The model that requests are sent to unless a fixture says otherwise.
pub(crate) const fn model(to: Format) -> &'static str {
    match to {
        Format::OpenAiChat => "gpt-4o",
        Format::OpenAiResponses => "gpt-4.1",
        Format::AnthropicMessages => "claude-sonnet-4-5",
        Format::Gemini => "gemini-2.5-flash",
    }
}

/// What fixtures are translated with.
pub(crate) fn options() -> RequestOptions {
    RequestOptions {
        no_usage_chunk: false,
        compat: Compat::Lenient,
        dialect: ChatDialect::OpenAi,
        default_max_tokens: None,
        max_output: None,
        now: 1_790_000_000,
        request_id: "req-1".to_owned(),
    }
}

/// The context of answers whose request is not at hand.
pub(crate) fn context() -> ResponseContext {
    ResponseContext {
        model: "deployed-model".to_owned(),
        now: 1_790_000_000,
        request_id: "req-1".to_owned(),
        include_usage: true,
        ..ResponseContext::default()
    }
}

/// JSON as people read it.
pub(crate) fn pretty(json: &[u8]) -> String {
    let value: Value = serde_json::from_slice(json)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(json)));
    serde_json::to_string_pretty(&value).unwrap()
}
