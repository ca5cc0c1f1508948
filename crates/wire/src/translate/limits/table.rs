//! The table of each target's limits, with the place that each figure comes from. It must not
//! change requests.
//!
//! A limit stands here only if the provider is known to refuse what is beyond it: whatever a
//! provider only advises against is its own to judge.

use std::fmt::Write as _;

use llm_router_domain::format::Format;

use crate::translate::options::ChatDialect;
use crate::translate::tool_id::{Alphabet, Spelling};

/// Limits of a target, whatever the model. A limit that is `None` isn't known to exist.
#[derive(Debug)]
pub(crate) struct TargetLimits {
    title: &'static str,
    /// Ids of tool calls.
    pub(crate) call_id: Spelling,
    /// Names of tools.
    pub(crate) tool_name: Spelling,
    /// The longest name of an end user, in characters.
    pub(crate) user: Option<usize>,
    /// Refuses e-mail addresses and phone numbers as names of end users.
    pub(crate) refuses_personal: bool,
    /// The most tools.
    pub(crate) tools: Option<usize>,
    /// Schemas of tools must be objects at the top, without alternatives.
    pub(crate) plain_tool_schema: bool,
    /// Arrays in schemas of tools must say what they hold.
    pub(crate) array_items: bool,
    /// The subset of JSON Schema that can be kept to strictly.
    pub(crate) strict_schemas: StrictSchemas,
    /// Output schemas have closed objects and few keywords.
    pub(crate) closed_output: bool,
    /// The most texts to stop at.
    pub(crate) stops: Option<usize>,
    /// Refuses to stop at white space alone.
    pub(crate) refuses_blank_stops: bool,
    /// The least ceiling of output, in tokens.
    pub(crate) least_output: u64,
    /// The most answers to one request.
    pub(crate) choices: Option<u64>,
    /// Seeds have 32 bits.
    pub(crate) short_seed: bool,
    /// The most prompt-cache markers.
    pub(crate) cache_markers: Option<usize>,
    /// The media types of images as data; empty where any is passed on.
    pub(crate) images: &'static [&'static str],
    /// The media types of documents as data, and how they begin; empty where any is passed on.
    pub(crate) files: &'static [&'static str],
    /// Refuses white space at the end of what the assistant begins.
    pub(crate) trims_prefill: bool,
}

/// Subset of JSON Schema that a `strict` tool or answer may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StrictSchemas {
    /// Whatever the client sends.
    Any,
    /// Closed objects that require every property, without combinators (OpenAI).
    AllRequired,
    /// Closed objects without bounds (Anthropic).
    NoBounds,
}

const ANY_LENGTH: Spelling = Spelling {
    most: None,
    alphabet: Alphabet::Any,
};

const NAME: Spelling = Spelling {
    most: Some(64),
    alphabet: Alphabet::Plain,
};

static OPENAI_CHAT: TargetLimits = TargetLimits {
    title: "OpenAI chat",
    call_id: Spelling {
        most: Some(40),
        alphabet: Alphabet::Any,
    },
    tool_name: NAME,
    user: Some(64),
    refuses_personal: false,
    tools: Some(128),
    plain_tool_schema: true,
    array_items: true,
    strict_schemas: StrictSchemas::AllRequired,
    closed_output: false,
    stops: Some(4),
    refuses_blank_stops: false,
    least_output: 0,
    choices: None,
    short_seed: false,
    cache_markers: None,
    images: &["image/png", "image/jpeg", "image/webp", "image/gif"],
    files: &[],
    trims_prefill: false,
};

static OPENAI_RESPONSES: TargetLimits = TargetLimits {
    title: "OpenAI responses",
    call_id: Spelling {
        most: Some(64),
        alphabet: Alphabet::Any,
    },
    stops: None,
    least_output: 16,
    ..OPENAI_CHAT
};

static COMPATIBLE: TargetLimits = TargetLimits {
    title: "compatible servers",
    call_id: ANY_LENGTH,
    user: Some(128),
    tools: None,
    plain_tool_schema: false,
    strict_schemas: StrictSchemas::Any,
    stops: None,
    images: &[],
    ..OPENAI_CHAT
};

static ANTHROPIC: TargetLimits = TargetLimits {
    title: "Anthropic",
    call_id: Spelling {
        most: None,
        alphabet: Alphabet::Plain,
    },
    tool_name: Spelling {
        most: Some(128),
        alphabet: Alphabet::Plain,
    },
    user: Some(256),
    refuses_personal: true,
    tools: None,
    plain_tool_schema: true,
    array_items: false,
    strict_schemas: StrictSchemas::NoBounds,
    closed_output: true,
    stops: None,
    refuses_blank_stops: true,
    least_output: 0,
    choices: None,
    short_seed: false,
    cache_markers: Some(4),
    images: &["image/png", "image/jpeg", "image/webp", "image/gif"],
    files: &["application/pdf", "text/"],
    trims_prefill: true,
};

/// The limits of Gemini.
pub(crate) static GEMINI: TargetLimits = TargetLimits {
    title: "Gemini",
    call_id: ANY_LENGTH,
    tool_name: Spelling {
        most: Some(64),
        alphabet: Alphabet::DottedFromLetter,
    },
    user: None,
    refuses_personal: false,
    tools: Some(512),
    plain_tool_schema: true,
    array_items: true,
    strict_schemas: StrictSchemas::Any,
    closed_output: false,
    stops: Some(5),
    refuses_blank_stops: false,
    least_output: 0,
    choices: Some(8),
    short_seed: true,
    cache_markers: None,
    images: &[
        "image/png",
        "image/jpeg",
        "image/webp",
        "image/heic",
        "image/heif",
    ],
    files: &[
        "application/pdf",
        "text/plain",
        "text/html",
        "text/css",
        "text/markdown",
        "text/csv",
        "text/xml",
        "text/rtf",
        "text/javascript",
        "image/",
        "audio/",
        "video/",
    ],
    trims_prefill: false,
};

/// Returns the limits of a format in a dialect.
pub(crate) const fn limits(format: Format, dialect: ChatDialect) -> &'static TargetLimits {
    match (format, dialect) {
        (Format::OpenAiChat, ChatDialect::OpenAi) => &OPENAI_CHAT,
        (Format::OpenAiChat, ChatDialect::Compatible) => &COMPATIBLE,
        (Format::OpenAiResponses, _) => &OPENAI_RESPONSES,
        (Format::AnthropicMessages, _) => &ANTHROPIC,
        (Format::Gemini, _) => &GEMINI,
    }
}

/// The columns of the documentation.
static COLUMNS: [&TargetLimits; 5] = [
    &OPENAI_CHAT,
    &COMPATIBLE,
    &OPENAI_RESPONSES,
    &ANTHROPIC,
    &GEMINI,
];

/// A line of the documentation: the limit, what becomes of what is beyond it, and its source.
struct LimitRow {
    name: &'static str,
    cell: fn(&TargetLimits) -> String,
    beyond: &'static str,
    source: &'static str,
}

/// The lines of the documentation.
static ROWS: [LimitRow; 17] = [
    LimitRow {
        name: "id of a tool call",
        cell: |limits| limits.call_id.describe(),
        beyond: "shortened with a hash, alike at call and result",
        source: "OpenAI's errors (\"maximum length 40\", for `call_id` 64); Anthropic's `^[a-zA-Z0-9_-]+$`",
    },
    LimitRow {
        name: "name of a tool",
        cell: |limits| limits.tool_name.describe(),
        beyond: "mapped with a hash, and mapped back in the answer",
        source: "`openai` types; Anthropic's error (`^[a-zA-Z0-9_-]{1,128}$`); Gemini's error (\"a maximum length of 64\")",
    },
    LimitRow {
        name: "end user",
        cell: |limits| {
            let length = at_most(limits.user, " characters");
            if limits.refuses_personal {
                format!("{length}, no e-mail address or phone number")
            } else {
                length
            }
        },
        beyond: "a stable hash, named; strict: 400; the ledger keeps the whole",
        source: "OpenAI's and Anthropic's errors and API reference (64; 256); OpenRouter, Zhipu (128)",
    },
    LimitRow {
        name: "number of tools",
        cell: |limits| at_most(limits.tools, ""),
        beyond: "those in use and the first ones stay, named; strict: 400",
        source: "OpenAI's error (\"maximum length 128\"); `google-genai` types (512)",
    },
    LimitRow {
        name: "top of a tool's schema",
        cell: |limits| {
            let plain = limits.plain_tool_schema;
            choose(
                plain,
                "an object with properties, no alternatives",
                "an object with properties",
            )
        },
        beyond: "`properties` added, `$ref` and `allOf` resolved; alternatives merged, described and named; strict: 400",
        source: "OpenAI's errors (\"object schema missing properties\", \"must have type 'object' and not have 'oneOf'/'anyOf'…\"); Anthropic's error",
    },
    LimitRow {
        name: "arrays in a tool's schema",
        cell: |limits| choose(limits.array_items, "with `items`", "–"),
        beyond: "`items: {}` added",
        source: "OpenAI's and Gemini's errors (\"array schema missing items\", \"items: missing field\")",
    },
    LimitRow {
        name: "schema of a `strict` tool or answer",
        cell: |limits| {
            match limits.strict_schemas {
                StrictSchemas::Any => "–",
                StrictSchemas::AllRequired => {
                    "closed objects that require every property, no combinators but `anyOf`"
                }
                StrictSchemas::NoBounds => "closed objects, no bounds",
            }
            .to_owned()
        },
        beyond: "`strict` left out and named",
        source: "OpenAI and Claude: \"Structured outputs\"",
    },
    LimitRow {
        name: "output schema",
        cell: |limits| choose(limits.closed_output, "closed objects, no bounds", "–"),
        beyond: "closed; bounds moved into descriptions and named; strict: 400",
        source: "`transform_schema` of the `anthropic` SDK",
    },
    LimitRow {
        name: "texts to stop at",
        cell: |limits| {
            let count = at_most(limits.stops, "");
            if limits.refuses_blank_stops {
                "none of white space".to_owned()
            } else {
                count
            }
        },
        beyond: "the first ones stay, named; strict: 400",
        source: "`openai` types (4); Gemini API, \"GenerationConfig\" (5)",
    },
    LimitRow {
        name: "least ceiling of output",
        cell: |limits| match limits.least_output {
            0 => "–".to_owned(),
            least => format!("{least} tokens"),
        },
        beyond: "raised, named; strict: 400",
        source: "OpenAI's error (\"Expected a value >= 16\")",
    },
    LimitRow {
        name: "answers to one request",
        cell: |limits| at_most(limits.choices, ""),
        beyond: "400",
        source: "Gemini API, \"GenerationConfig\"",
    },
    LimitRow {
        name: "seed",
        cell: |limits| choose(limits.short_seed, "32 bits", "–"),
        beyond: "its last 31 bits, named; strict: 400",
        source: "Gemini API, \"GenerationConfig\" (int32)",
    },
    LimitRow {
        name: "prompt-cache markers",
        cell: |limits| at_most(limits.cache_markers, ""),
        beyond: "the first and the last three stay, named",
        source: "Claude: \"Prompt caching\"",
    },
    LimitRow {
        name: "images as data",
        cell: |limits| names(limits.images),
        beyond: "`image/jpg` and the like, and types that the bytes contradict, are corrected; others: 400",
        source: "OpenAI: \"Images and vision\"; `anthropic` types; Gemini: \"Image understanding\"",
    },
    LimitRow {
        name: "documents as data",
        cell: |limits| names(limits.files),
        beyond: "JSON, YAML, scripts and the like become text; others: 400",
        source: "`anthropic` types; Gemini: \"Document understanding\"",
    },
    LimitRow {
        name: "end of what the assistant begins",
        cell: |limits| choose(limits.trims_prefill, "no white space", "–"),
        beyond: "trimmed",
        source: "Anthropic's error (\"final assistant content cannot end with trailing whitespace\")",
    },
    LimitRow {
        name: "description of a tool",
        cell: |_| "–".to_owned(),
        beyond: "sent as it is",
        source: "OpenAI refused more than 1,024 characters until May 2025",
    },
];

/// The table as the documentation shows it, in Markdown.
#[must_use]
pub fn limits_as_markdown() -> String {
    let titles = COLUMNS.map(|limits| limits.title).join(" | ");
    let mut out = format!("| limit | {titles} | beyond it | source |\n");
    out.push_str(&"|---".repeat(COLUMNS.len() + 3));
    out.push_str("|\n");
    for row in &ROWS {
        let cells = COLUMNS.map(row.cell).join(" | ");
        // Writing into a string can't fail.
        writeln!(
            out,
            "| {} | {cells} | {} | {} |",
            row.name, row.beyond, row.source
        )
        .ok();
    }
    out
}

fn at_most(limit: Option<impl std::fmt::Display>, unit: &str) -> String {
    limit.map_or_else(|| "–".to_owned(), |most| format!("{most}{unit}"))
}

fn choose(condition: bool, yes: &str, no: &str) -> String {
    if condition { yes } else { no }.to_owned()
}

fn names(types: &[&str]) -> String {
    if types.is_empty() {
        return "–".to_owned();
    }
    let quoted = types.iter().map(|name| format!("`{name}`"));
    quoted.collect::<Vec<_>>().join(", ")
}
