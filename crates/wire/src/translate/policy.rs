//! The table of what becomes of each field of a request on its way to each format, for the code and
//! for the documentation. It must not convert fields: the formats do.

use std::fmt::Write as _;

use llm_router_domain::format::Format;
use serde_json::{Value, json};

pub use llm_router_domain::format::Compat;

use super::TranslateError;
use crate::formats::codec;
use Loss::{Dropped, Refused, Strict};
use Treatment::{As, Carried, Lost, Partly};

/// Consequence of a field that the target can't express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Left out and reported, under both policies: nothing the client asked for changes.
    Dropped,
    /// Refused when strict, left out and reported when lenient.
    Strict,
    /// Refused under both policies: the answer would not be what was asked for.
    Refused,
}

/// Treatment of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// The target spells it alike.
    Carried,
    /// Converted.
    As(&'static str),
    /// Converted as far as the target goes.
    Partly(&'static str, Loss),
    Lost(Loss),
}

/// The columns of names: the formats that clients speak.
const CLIENTS: [(Format, &str); 3] = [
    (Format::OpenAiChat, "chat"),
    (Format::OpenAiResponses, "responses"),
    (Format::AnthropicMessages, "messages"),
];

/// The columns of fates: the formats that providers speak.
const TARGETS: [(Format, &str); 4] = [
    (Format::OpenAiChat, "OpenAI chat"),
    (Format::OpenAiResponses, "OpenAI responses"),
    (Format::AnthropicMessages, "Anthropic"),
    (Format::Gemini, "Gemini"),
];

/// A line of the table.
pub(crate) struct PolicyRow {
    #[cfg(test)]
    pub(crate) feature: Feature,
    /// The field's name for clients of each format in [`CLIENTS`].
    pub(crate) names: [&'static str; CLIENTS.len()],
    /// Its treatment towards each format in [`TARGETS`].
    pub(crate) fates: [Treatment; TARGETS.len()],
}

macro_rules! table {
    ($($(#[doc = $doc:literal])* $feature:ident: $chat:literal, $responses:literal, $anthropic:literal
        => $to_chat:expr, $to_responses:expr, $to_anthropic:expr, $to_gemini:expr;)*) => {
        /// Something that a request can ask for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(not(test), expect(dead_code, reason = "what every format has is only documented"))]
        pub(crate) enum Feature {
            $($(#[doc = $doc])* $feature,)*
        }

        /// The table. Its order is the order of [`Feature`].
        pub(crate) const TABLE: &[PolicyRow] = &[$(PolicyRow {
            #[cfg(test)]
            feature: Feature::$feature,
            names: [$chat, $responses, $anthropic],
            fates: [$to_chat, $to_responses, $to_anthropic, $to_gemini],
        },)*];
    };
}

table! {
    /// Instructions.
    System: "messages (system, developer)", "instructions", "system"
        => As("`system` message"), As("`system` and `developer` items"), As("top-level `system`"), As("`systemInstruction`");
    /// Images by URL or as data.
    Images: "messages.content.image_url", "input.content.image_url", "messages.content.image"
        => Partly("`image_url`: PNG, JPEG, WebP, GIF", Refused), Partly("`input_image`: PNG, JPEG, WebP, GIF", Refused), Partly("`image` block: PNG, JPEG, WebP, GIF", Refused), Partly("`inlineData`, `fileData`: PNG, JPEG, WebP, HEIC", Refused);
    /// Resolution at which to look at an image.
    ImageDetail: "messages.content.image_url.detail", "input.content.detail", ""
        => Carried, Carried, Lost(Dropped), Lost(Dropped);
    /// PDF and text documents as data.
    Files: "messages.content.file.file_data", "input.content.file_data", "messages.content.document"
        => As("`file`; plain text becomes text"), As("`input_file`; plain text becomes text"), Partly("`document`: PDF and text", Refused), Partly("`inlineData`: PDF, media; text", Refused);
    /// Documents by URL.
    FileUrl: "", "input.content.file_url", "messages.content.source.url"
        => Lost(Refused), As("`file_url`"), As("`document` by URL"), As("`fileData`");
    /// Files kept at a provider.
    FileId: "messages.content.file.file_id", "input.content.file_id", "messages.content.source.file_id"
        => Partly("`file_id` of the same vendor", Refused), Partly("`file_id` of the same vendor", Refused), Lost(Refused), Lost(Refused);
    /// Title and context of a document.
    FileContext: "", "", "messages.content.context"
        => Lost(Strict), Lost(Strict), Carried, Lost(Strict);
    /// Citations of a document.
    FileCitations: "", "", "messages.content.citations"
        => Lost(Strict), Lost(Strict), Carried, Lost(Strict);
    /// Sound.
    Audio: "messages.content.input_audio", "input.content.input_audio", ""
        => Carried, Lost(Refused), Lost(Refused), As("`inlineData`");
    /// Prompt-cache markers.
    CacheControl: "messages.content.cache_control", "", "cache_control"
        => Lost(Dropped), Lost(Dropped), Partly("4 markers", Dropped), Lost(Dropped);
    /// Names that tell participants apart.
    Name: "messages.name", "", ""
        => Carried, Lost(Strict), Lost(Strict), Lost(Strict);
    /// Thoughts of earlier turns that another provider thought, or that bear no signature.
    ForeignThinking: "messages.thinking_blocks", "input.reasoning", "messages.content.thinking"
        => Partly("`reasoning_content` to compatible servers", Dropped), Partly("reasoning items of OpenAI", Dropped), Partly("thoughts signed by Anthropic", Dropped), Partly("signatures of Gemini", Dropped);
    /// Content that only its own format has, such as results of server tools.
    ForeignContent: "messages.content", "input", "messages.content"
        => Lost(Strict), Lost(Strict), Lost(Strict), Lost(Strict);
    /// Text of the assistant's that the model is to go on from.
    Prefill: "messages.prefill", "input.prefill", "messages.prefill"
        => Carried, Carried, Partly("carried before Claude 4.6; later `Continue.` by the user follows it", Strict), Carried;
    /// Calls of tools in earlier turns.
    ToolCalls: "messages.tool_calls", "input.function_call", "messages.content.tool_use"
        => Partly("`tool_calls`; a call goes with its result", Strict), Partly("`function_call`; a call goes with its result", Strict), Partly("`tool_use`; a call goes with its result", Strict), Partly("`functionCall`; a call goes with its result", Strict);
    /// Their results.
    ToolResults: "messages.tool", "input.function_call_output", "messages.content.tool_result"
        => Partly("`tool` message; a result goes with its call", Strict), Partly("`function_call_output`; a result goes with its call", Strict), Partly("`tool_result`; a result goes with its call", Strict), Partly("`functionResponse`; a result goes with its call", Strict);
    /// Calls and results of tools that other formats lack: code execution, MCP, shells, patches.
    ForeignCalls: "", "input.shell_call", "messages.content.mcp_tool_use"
        => As("text"), As("text"), As("text"), As("text");
    /// A summary in place of earlier turns: as text, where it is text.
    Compaction: "", "input.compaction", "messages.content.compaction"
        => Partly("text; if encrypted", Refused), Partly("text; if encrypted", Refused), Partly("text; if encrypted", Refused), Partly("text; if encrypted", Refused);
    /// Earlier turns kept at Anthropic.
    Thread: "", "", "thread"
        => Lost(Refused), Lost(Refused), Lost(Refused), Lost(Refused);
    /// Items kept at a provider.
    ItemReference: "", "input.item_reference", ""
        => Lost(Refused), Carried, Lost(Refused), Lost(Refused);
    /// Tools with a schema.
    Tools: "tools.function", "tools.function", "tools"
        => Partly("`function`, 128 of them", Strict), Partly("`function`, 128 of them", Strict), As("`input_schema`"), Partly("`parametersJsonSchema`, 512 of them", Strict);
    /// Schemas of tools that aren't plain objects.
    ToolSchema: "tools.function.parameters", "tools.parameters", "tools.input_schema"
        => Partly("an object; alternatives are merged", Strict), Partly("an object; alternatives are merged", Strict), Partly("an object; alternatives are merged", Strict), Partly("an object; alternatives are merged", Strict);
    /// Tools that take free text.
    CustomTools: "tools.custom", "tools.custom", ""
        => As("function with one string, `input`"), Carried, As("tool with one string, `input`"), As("function with one string, `input`");
    /// Tools that the provider runs or knows by name.
    BuiltInTools: "tools.type", "tools.type", "tools.type"
        => Lost(Strict), Lost(Strict), Lost(Strict), Lost(Strict);
    /// Arguments guaranteed to fit the schema.
    ToolStrict: "tools.function.strict", "tools.strict", "tools.strict"
        => Partly("carried where the schema allows it", Dropped), Partly("carried where the schema allows it", Dropped), Partly("`strict`, on models with structured outputs, where the schema allows it", Dropped), Lost(Dropped);
    /// Settings that only Anthropic's tools have: `defer_loading`, `allowed_callers`, `input_examples` …
    ToolExtras: "", "", "tools.defer_loading"
        => Lost(Strict), Lost(Strict), Carried, Lost(Strict);
    /// Which tool to call.
    ToolChoice: "tool_choice", "tool_choice", "tool_choice"
        => As("`tool_choice`"), As("`tool_choice`"), As("`tool_choice`; of allowed tools the others are left out"), As("`functionCallingConfig`");
    /// One call at a time.
    ParallelTools: "parallel_tool_calls", "parallel_tool_calls", "tool_choice.disable_parallel_tool_use"
        => Partly("`parallel_tool_calls`, on models that take it", Strict), Partly("`parallel_tool_calls`, on models that take it", Strict), As("`disable_parallel_tool_use`"), Lost(Strict);
    /// A tool result that is an error.
    ToolError: "", "", "messages.content.is_error"
        => Lost(Dropped), Lost(Dropped), Carried, As("`response.error`");
    /// Images and documents in tool results.
    ToolMedia: "", "input.output", "messages.content.content"
        => As("a `user` message after the results"), As("parts of the output"), As("blocks of the result"), As("`functionResponse.parts`");
    /// Ceiling of the answer's length.
    MaxTokens: "max_completion_tokens", "max_output_tokens", "max_tokens"
        => Partly("`max_completion_tokens`; `max_tokens` to compatible servers; up to the model's ceiling", Strict), Partly("`max_output_tokens`, from 16 up to the model's ceiling", Strict), Partly("`max_tokens`, up to the model's ceiling; by model where the client gives none", Strict), Partly("`maxOutputTokens`, up to the model's ceiling", Strict);
    /// Randomness.
    Temperature: "temperature", "temperature", "temperature"
        => Partly("carried to models that take it", Dropped), Partly("carried to models that take it", Dropped), Partly("carried up to 1, without thinking", Strict), Carried;
    /// Nucleus sampling.
    TopP: "top_p", "top_p", "top_p"
        => Partly("carried to models that take it", Dropped), Partly("carried to models that take it", Dropped), Partly("carried, on newer models without `temperature`", Dropped), As("`topP`");
    /// Sampling among the k likeliest.
    TopK: "top_k", "", "top_k"
        => Partly("carried to compatible servers", Strict), Lost(Strict), Partly("carried without thinking", Strict), As("`topK`");
    /// Several answers.
    Choices: "n", "", ""
        => Carried, Lost(Refused), Lost(Refused), Partly("`candidateCount`, up to 8", Refused);
    /// Repeatable sampling.
    Seed: "seed", "", ""
        => Carried, Lost(Strict), Lost(Strict), Partly("carried, in 32 bits", Strict);
    /// Texts to stop at.
    Stop: "stop", "", "stop_sequences"
        => Partly("`stop`, to OpenAI the first 4 and not to models that reason", Strict), Lost(Strict), Partly("`stop_sequences`, but for white space", Strict), Partly("`stopSequences`, the first 5", Strict);
    /// Less repetition.
    FrequencyPenalty: "frequency_penalty", "", ""
        => Carried, Lost(Strict), Lost(Strict), Partly("`frequencyPenalty`, before Gemini 2.5", Strict);
    /// More variety.
    PresencePenalty: "presence_penalty", "", ""
        => Carried, Lost(Strict), Lost(Strict), Partly("`presencePenalty`, before Gemini 2.5", Strict);
    /// Likelihood by token.
    LogitBias: "logit_bias", "", ""
        => Carried, Lost(Strict), Lost(Strict), Lost(Strict);
    /// Probabilities of the tokens drawn.
    Logprobs: "logprobs", "top_logprobs", ""
        => Partly("carried, on models that don't reason", Strict), Partly("`top_logprobs`, on models that don't reason", Strict), Lost(Strict), Lost(Strict);
    /// Answers that fit a schema.
    JsonSchema: "response_format", "text.format", "output_config.format"
        => Partly("`response_format`, strict where the schema allows it", Strict), Partly("`text.format`, strict where the schema allows it", Strict), Partly("`output_config.format`, bounds as description", Strict), As("`responseJsonSchema`");
    /// Answers that are any JSON.
    JsonObject: "response_format", "text.format", ""
        => As("`response_format`"), As("`text.format`"), Lost(Strict), As("`responseMimeType`");
    /// Length of the wording.
    Verbosity: "verbosity", "text.verbosity", ""
        => Partly("carried to models that take it", Strict), Partly("carried to models that take it", Strict), Lost(Strict), Lost(Strict);
    /// Amount of thinking.
    Reasoning: "reasoning_effort", "reasoning.effort", "thinking"
        => Partly("`reasoning_effort`, on models that think", Dropped), Partly("`reasoning.effort`, on models that think", Dropped), Partly("`thinking`, or `output_config.effort`", Dropped), Partly("`thinkingLevel`, before Gemini 3 `thinkingBudget`", Dropped);
    /// The end user.
    User: "user", "user", "metadata.user_id"
        => Partly("`user`; a hash of what is longer than 64 characters", Strict), Partly("`user`; a hash of what is longer than 64 characters", Strict), Partly("`metadata.user_id`; a hash of addresses, phone numbers and what is longer than 256 characters", Strict), Lost(Dropped);
    /// Tags for the provider's records.
    Metadata: "metadata", "metadata", ""
        => Carried, Carried, Lost(Dropped), Lost(Dropped);
    /// Keeping the answer at the provider.
    Store: "store", "store", ""
        => Carried, Carried, Lost(Dropped), Lost(Dropped);
    /// Speed against price.
    ServiceTier: "service_tier", "service_tier", "service_tier"
        => Partly("`auto`, `default`, `flex`, `priority`", Strict), Partly("`auto`, `default`, `flex`, `priority`", Strict), Partly("`auto`, `standard_only`", Strict), As("`serviceTier`");
    /// Hints that only save time or money: `prompt_cache_key`, `safety_identifier`, `prediction` …
    Hints: "prompt_cache_key", "prompt_cache_key", ""
        => Carried, Carried, Lost(Dropped), Lost(Dropped);
    /// Sound in the answer.
    AudioOutput: "modalities", "", ""
        => Carried, Lost(Refused), Lost(Refused), Lost(Refused);
    /// Search that the provider does.
    WebSearch: "web_search_options", "", ""
        => Carried, Lost(Strict), Lost(Strict), Lost(Strict);
    /// The forerunner of tools.
    LegacyFunctions: "functions", "", ""
        => Carried, Lost(Refused), Lost(Refused), Lost(Refused);
    /// State at the provider, or work done later: `previous_response_id`, `conversation` …
    ServerState: "", "previous_response_id", "container"
        => Lost(Refused), Lost(Refused), Lost(Refused), Lost(Refused);
    /// Shortening of what is too long.
    Truncation: "", "truncation", "context_management"
        => Lost(Strict), Lost(Strict), Lost(Strict), Lost(Strict);
    /// Ceiling of calls of built-in tools.
    MaxToolCalls: "", "max_tool_calls", ""
        => Lost(Strict), Carried, Lost(Strict), Lost(Strict);
    /// Extra output of built-in tools and the like.
    Include: "", "include", ""
        => Lost(Dropped), Carried, Lost(Dropped), Lost(Dropped);
    /// Region in which the model runs.
    Residency: "", "", "inference_geo"
        => Lost(Refused), Lost(Refused), Carried, Lost(Refused);
    /// Any field that the router doesn't know.
    Unknown: "any other", "any other", "any other"
        => Partly("carried to compatible servers", Strict), Lost(Strict), Partly("carried if it is Anthropic's own", Strict), Partly("carried if it is Gemini's own", Strict);
}

/// The most fields that are reported by name: a header holds them, and a client can send any number.
const REPORTED: usize = 32;

/// Collects what a translation loses, or the first thing that forbids it.
#[derive(Debug)]
pub(crate) struct Losses {
    compat: Compat,
    from: Format,
    to: Format,
    dropped: Vec<String>,
    refusal: Option<TranslateError>,
}

impl Losses {
    pub(crate) const fn new(compat: Compat, from: Format, to: Format) -> Self {
        Self {
            compat,
            from,
            to,
            dropped: Vec::new(),
            refusal: None,
        }
    }

    /// Returns true if a file kept at the provider of the client's format is known to the target.
    pub(crate) fn same_vendor(&self) -> bool {
        codec(self.from).vendor() == codec(self.to).vendor()
    }

    /// The name that the client knows a feature by.
    pub(crate) fn name(&self, feature: Feature) -> &'static str {
        name(feature, self.from)
    }

    /// Notes that a feature is lost, under the name the client knows it by.
    pub(crate) fn lose(&mut self, feature: Feature) {
        self.lose_as(feature, self.name(feature));
    }

    /// The same, for a field with a name of its own.
    pub(crate) fn lose_as(&mut self, feature: Feature, name: &str) {
        match loss(feature, self.to) {
            Refused => self.refuse(feature, name),
            Strict if self.compat == Compat::Strict => self.refuse(feature, name),
            Strict | Dropped => self.report(name),
        }
    }

    /// Returns the fields that were left out.
    ///
    /// # Errors
    /// If a field must not be left out.
    pub(crate) fn finish(self) -> Result<Vec<String>, TranslateError> {
        match self.refusal {
            Some(error) => Err(error),
            None => Ok(self.dropped),
        }
    }

    fn report(&mut self, name: &str) {
        if self.dropped.iter().any(|known| known == name) {
            return;
        }
        match self.dropped.len() {
            0..REPORTED => self.dropped.push(name.to_owned()),
            REPORTED => self.dropped.push("…".to_owned()),
            _ => {}
        }
    }

    /// Notes that a value is beyond a limit of the target, and has been changed or left out.
    pub(crate) fn report_beyond(&mut self, feature: Feature, name: &str, limit: &str) {
        let loss = loss(feature, self.to);
        if loss == Dropped || (loss == Strict && self.compat == Compat::Lenient) {
            return self.report(name);
        }
        self.refusal
            .get_or_insert_with(|| TranslateError::beyond(name, limit));
    }

    fn refuse(&mut self, feature: Feature, name: &str) {
        let to = self.to;
        self.refusal.get_or_insert_with(|| {
            let message = format!(
                "\"{name}\" has no equivalent at this model's provider, which speaks {to}. {}",
                remedy(feature, name)
            );
            let error = TranslateError::unsupported_field(name, message);
            match feature {
                Feature::Thread => error.with_details(unsupported_thread()),
                _ => error,
            }
        });
    }
}

/// The advice to a client whose field is refused.
fn remedy(feature: Feature, name: &str) -> &'static str {
    match feature {
        Feature::ItemReference => {
            "Send earlier items whole: SDKs do so with `store: false`. Or ask for a model whose \
             provider keeps items."
        }
        Feature::ServerState if matches!(name, "previous_response_id" | "conversation") => {
            "Send the whole conversation with each request, with `store: false` where your SDK has \
             it, or ask for a model whose provider keeps conversations."
        }
        Feature::Compaction => {
            "It is encrypted for the provider that made it: send the turns that it stands for, or \
             ask for a model of that provider."
        }
        Feature::Thread => {
            "Send the whole conversation in `messages`, or ask for a model of Anthropic's."
        }
        _ => "Leave it out, or ask for a model whose provider supports it.",
    }
}

/// The details by which Anthropic's SDKs know that they have to send the whole conversation.
fn unsupported_thread() -> Value {
    json!({ "error_code": "thread_unsupported_request", "unsupported": ["thread"] })
}

/// Consequence of a feature that the target can't express.
fn loss(feature: Feature, to: Format) -> Loss {
    let row = TABLE.get(feature as usize);
    let column = TARGETS.iter().position(|(format, _)| *format == to);
    match row.zip(column).map(|(row, column)| row.fates[column]) {
        Some(Lost(loss) | Partly(_, loss)) => loss,
        _ => Strict,
    }
}

/// The name a client of `from` knows a feature by.
fn name(feature: Feature, from: Format) -> &'static str {
    let row = TABLE.get(feature as usize);
    let column = CLIENTS.iter().position(|(format, _)| *format == from);
    row.map_or("", |row| row.names[column.unwrap_or_default()])
}

/// The table as the documentation shows it, in Markdown.
#[must_use]
pub fn table_as_markdown() -> String {
    let clients = CLIENTS.map(|(_, title)| format!("{title} client"));
    let targets = TARGETS.map(|(_, title)| format!("to {title}"));
    let titles = [&clients[..], &targets[..]].concat();
    let mut out = format!("| {} |\n", titles.join(" | "));
    out.push_str(&"|---".repeat(titles.len()));
    out.push_str("|\n");
    for row in TABLE {
        out.push('|');
        for name in row.names {
            let cell = if name.is_empty() {
                "–".to_owned()
            } else {
                format!("`{name}`")
            };
            // Writing into a string can't fail.
            write!(out, " {cell} |").ok();
        }
        for fate in row.fates {
            write!(out, " {} |", describe(fate)).ok();
        }
        out.push('\n');
    }
    out
}

fn describe(fate: Treatment) -> String {
    match fate {
        Carried => "carried".to_owned(),
        As(how) => how.to_owned(),
        Partly(how, loss) => format!("{how}; else {}", describe_loss(loss)),
        Lost(loss) => describe_loss(loss).to_owned(),
    }
}

const fn describe_loss(loss: Loss) -> &'static str {
    match loss {
        Dropped => "dropped",
        Strict => "strict: 400, lenient: dropped",
        Refused => "400",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_its_columns() {
        let clients: Vec<Format> = crate::formats::client_formats().collect();
        assert_eq!(CLIENTS.map(|(format, _)| format)[..], clients[..]);
        assert_eq!(TARGETS.map(|(format, _)| format), Format::ALL);
    }

    #[test]
    fn rows_stand_in_the_order_of_the_features() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.feature as usize, at, "{:?}", row.feature);
        }
    }

    #[test]
    fn losses_follow_the_table_and_the_policy() {
        // (feature, target, refused when strict, refused when lenient)
        let cases = [
            (Feature::Seed, Format::AnthropicMessages, true, false),
            (Feature::Choices, Format::AnthropicMessages, true, true),
            (Feature::CacheControl, Format::OpenAiChat, false, false),
        ];
        for (feature, to, strict, lenient) in cases {
            for (compat, refused) in [(Compat::Strict, strict), (Compat::Lenient, lenient)] {
                let mut losses = Losses::new(compat, Format::OpenAiChat, to);
                losses.lose(feature);
                losses.lose(feature);
                let outcome = losses.finish();
                assert_eq!(outcome.is_err(), refused, "{feature:?} {compat:?}");
                if let Ok(dropped) = outcome {
                    assert_eq!(dropped, [name(feature, Format::OpenAiChat)]);
                }
            }
        }
    }

    #[test]
    fn refusals_name_the_field() {
        let mut losses = Losses::new(
            Compat::Strict,
            Format::OpenAiChat,
            Format::AnthropicMessages,
        );
        losses.lose(Feature::LogitBias);
        losses.lose(Feature::Seed);
        let error = losses.finish().unwrap_err();
        assert_eq!(
            (error.status, error.param.as_deref()),
            (400, Some("logit_bias"))
        );
    }
}
