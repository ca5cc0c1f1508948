//! Writes a `generateContent` request.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::BytesMut;

use super::thinking::{self, ThinkingPlan};
use crate::translate::capability::{GeminiThinking, gemini_checks_signatures, gemini_thinking};
use crate::translate::data_url;
use crate::translate::emit::{ListWriter, ObjectWriter, object};
use crate::translate::extra;
use crate::translate::json::{Json, Object};
use crate::translate::limits::GEMINI;
use crate::translate::neutral::{
    Extra, MediaSource, NeutralRequest, OutputShape, Part, PartKind, Tier, ToolCall, ToolChoice,
    ToolResult,
};
use crate::translate::policy::{Feature, Losses};
use crate::translate::signature::Signature;
use crate::translate::tool_id::is_made;
use crate::translate::tool_schema::{self, SentTool};
use crate::translate::turns::{Turn, Turns, is_blank, is_result, turns};

/// The signature to send with a call that another model made, as Google says (ai.google.dev, "Thought
/// signatures").
const UNSIGNED: &str = "skip_thought_signature_validator";

/// Writes the body of `POST …:generateContent`.
pub(crate) fn write_request(
    request: &NeutralRequest<'_>,
    model: &str,
    losses: &mut Losses,
    out: &mut BytesMut,
) {
    let talk = turns(&request.messages, is_written);
    for part in &talk.skipped {
        lose_part(part, losses);
    }
    let plan = thinking::plan(
        request.reasoning,
        model,
        request.sampling.max_tokens,
        losses,
    );
    let scribe = Scribe {
        names: call_names(request),
        checks_signatures: gemini_checks_signatures(model),
        nests_media: matches!(gemini_thinking(model), GeminiThinking::Level { .. }),
    };
    object(out, |fields| {
        scribe.write_talk(fields, &talk, losses);
        write_tools(fields, request, losses);
        fields.obj("generationConfig", |config| {
            write_sampling(config, request);
            write_output(config, request, plan);
        });
        match request.tier {
            Some(Tier::Standard) => fields.str("serviceTier", "standard"),
            Some(Tier::Flex) => fields.str("serviceTier", "flex"),
            Some(Tier::Priority) => fields.str("serviceTier", "priority"),
            Some(Tier::Auto) | None => {}
        }
        lose_rest(request, losses);
        extra::write(fields, &request.extras, losses, takes);
    });
}

/// Gemini's own fields, which clients of other formats add to their requests: only in its shape,
/// for others name fields alike.
fn takes(extra: &Extra<'_>) -> bool {
    let value = &extra.value;
    match extra.name.as_ref() {
        "cachedContent" => value.as_str().is_some(),
        "labels" => match value {
            Json::Object(Object(labels)) => {
                labels.iter().all(|(_, label)| label.as_str().is_some())
            }
            _ => false,
        },
        "safetySettings" => value
            .as_array()
            .is_some_and(|all| all.iter().all(|setting| setting.str("category").is_some())),
        _ => false,
    }
}

fn lose_rest(request: &NeutralRequest<'_>, losses: &mut Losses) {
    for (feature, asked) in [
        (Feature::User, request.user.is_some()),
        (Feature::Verbosity, request.verbosity.is_some()),
        (Feature::CacheControl, request.cache.is_some()),
        (
            Feature::ParallelTools,
            request.parallel_tools == Some(false),
        ),
        (Feature::LogitBias, request.sampling.logit_bias.is_some()),
        (Feature::Logprobs, request.sampling.logprobs),
    ] {
        if asked {
            losses.lose(feature);
        }
    }
}

fn is_written(part: &Part<'_>) -> bool {
    match part.kind {
        PartKind::Thinking(_) | PartKind::Foreign { .. } => false,
        _ => !is_blank(part),
    }
}

/// Reports a part that isn't written. Gemini's own thoughts are: their signature stands at what
/// they led to, and it wants no more back.
fn lose_part(part: &Part<'_>, losses: &mut Losses) {
    match &part.kind {
        PartKind::Thinking(thinking)
            if !matches!(thinking.signature, Some(Signature::Gemini { .. })) =>
        {
            losses.lose(Feature::ForeignThinking);
        }
        PartKind::Foreign { kind, .. } => tool_schema::lose_content(kind, losses),
        _ => {}
    }
}

/// The names of all calls by id: results have to name their function.
fn call_names<'r>(request: &'r NeutralRequest<'_>) -> HashMap<&'r str, &'r str> {
    let parts = request.messages.iter().flat_map(|message| &message.parts);
    parts
        .filter_map(|part| match &part.kind {
            PartKind::ToolCall(call) => Some((call.id.as_ref(), call.name.as_ref())),
            _ => None,
        })
        .collect()
}

/// Writes conversations.
struct Scribe<'r> {
    names: HashMap<&'r str, &'r str>,
    checks_signatures: bool,
    /// Results can hold images and documents given as data.
    nests_media: bool,
}

impl Scribe<'_> {
    fn write_talk(&self, fields: &mut ObjectWriter<'_>, talk: &Turns<'_, '_>, losses: &mut Losses) {
        let instructions: Vec<_> = talk
            .instructions
            .iter()
            .copied()
            .filter(|part| !is_blank(part))
            .collect();
        if talk.turns.is_empty() {
            // Instructions alone are what the client says.
            let turn = Turn {
                assistant: false,
                parts: instructions,
                named: false,
            };
            fields.list("contents", |items| self.write_turn(items, &turn, losses));
            return;
        }
        if !instructions.is_empty() {
            fields.obj("systemInstruction", |system| {
                system.list("parts", |items| {
                    for part in instructions {
                        self.write_part(items, part, None, losses);
                    }
                });
            });
        }
        fields.list("contents", |items| {
            for turn in &talk.turns {
                self.write_turn(items, turn, losses);
            }
        });
    }

    fn write_turn(&self, items: &mut ListWriter<'_>, turn: &Turn<'_, '_>, losses: &mut Losses) {
        if turn.named {
            losses.lose(Feature::Name);
        }

        let signatures = self.signatures(turn);
        let role = if turn.assistant { "model" } else { "user" };
        let results = turn.parts.iter().take_while(|part| is_result(part)).count();
        // Results have a turn to themselves: their number has to be that of the calls.
        for (from, to) in [(0, results), (results, turn.parts.len())] {
            if from == to {
                continue;
            }
            items.obj(|item| {
                item.str("role", role);
                item.list("parts", |items| {
                    for (at, part) in turn.parts.iter().enumerate().take(to).skip(from) {
                        self.write_part(items, part, signatures.get(&at).copied(), losses);
                    }
                    if from < results {
                        self.write_result_media(items, turn, losses);
                    }
                });
            });
        }
    }

    /// The signature of each part of a turn that has one, by the part's position.
    fn signatures<'t>(&self, turn: &'t Turn<'_, '_>) -> HashMap<usize, &'t str> {
        let carried = carried_signatures(turn);
        let unowned = carried.get("").copied();
        let mut found = HashMap::new();
        let mut first_call = true;
        for (at, part) in turn.parts.iter().enumerate() {
            let PartKind::ToolCall(call) = &part.kind else {
                continue;
            };
            let first = std::mem::take(&mut first_call);
            let own = call.signature.as_deref();
            let own = own.or_else(|| carried.get(call.id.as_ref()).copied());
            let made_up = self.checks_signatures.then_some(UNSIGNED);
            let fallback = || unowned.or(made_up).filter(|_| first);
            if let Some(signature) = own.or_else(fallback) {
                found.insert(at, signature);
            }
        }
        let last_text = turn
            .parts
            .iter()
            .rposition(|part| matches!(part.kind, PartKind::Text(_)) && !is_blank(part));
        if let (true, Some(at), Some(signature)) = (first_call, last_text, unowned) {
            found.insert(at, signature);
        }
        found
    }

    fn write_part(
        &self,
        items: &mut ListWriter<'_>,
        part: &Part<'_>,
        signature: Option<&str>,
        losses: &mut Losses,
    ) {
        if part.cache.is_some() {
            losses.lose(Feature::CacheControl);
        }
        match &part.kind {
            PartKind::Text(_) if is_blank(part) => {}
            PartKind::Text(text) | PartKind::Refusal(text) => items.obj(|item| {
                item.str("text", text);
                item.opt_str("thoughtSignature", signature);
            }),
            PartKind::Image(_) | PartKind::File(_) | PartKind::Audio { .. } => {
                write_media(items, part, losses)
            }
            PartKind::ToolCall(call) => write_call(items, call, signature),
            PartKind::ToolResult(result) => self.write_result(items, result, losses),
            PartKind::Thinking(_) | PartKind::Foreign { .. } => lose_part(part, losses),
        }
    }

    fn write_result(
        &self,
        items: &mut ListWriter<'_>,
        result: &ToolResult<'_>,
        losses: &mut Losses,
    ) {
        // A result without a call has no other name than its id.
        let name = self.names.get(result.id.as_ref()).copied();
        let name = name.map_or_else(
            || {
                GEMINI
                    .tool_name
                    .fit(&result.id)
                    .map_or(result.id.as_ref().into(), Cow::Owned)
            },
            Cow::Borrowed,
        );
        let texts: Vec<&str> = result.parts.iter().filter_map(text_of).collect();
        let media = || result.parts.iter().filter(|part| self.nests(part));
        items.obj(|item| {
            item.obj("functionResponse", |response| {
                write_id(response, &result.id);
                response.str("name", &name);
                response.obj("response", |fields| {
                    let key = if result.is_error { "error" } else { "output" };
                    fields.str(key, &texts.join("\n"));
                });
                if media().next().is_some() {
                    response.list("parts", |items| {
                        for part in media() {
                            write_media(items, part, losses);
                        }
                    });
                }
            });
        });
    }

    /// Returns true if a part of a result can stand in it: data, from Gemini 3 on.
    fn nests(&self, part: &Part<'_>) -> bool {
        let data = match &part.kind {
            PartKind::Image(image) => matches!(image.source, MediaSource::Base64 { .. }),
            PartKind::File(file) => matches!(file.source, MediaSource::Base64 { .. }),
            PartKind::Audio { .. } => true,
            _ => false,
        };
        data && self.nests_media
    }

    /// Writes what results can't hold beside them.
    fn write_result_media(
        &self,
        items: &mut ListWriter<'_>,
        turn: &Turn<'_, '_>,
        losses: &mut Losses,
    ) {
        for part in &turn.parts {
            if let PartKind::ToolResult(result) = &part.kind {
                let beside = |part: &&Part<'_>| text_of(part).is_none() && !self.nests(part);
                for inner in result.parts.iter().filter(beside) {
                    write_media(items, inner, losses);
                }
            }
        }
    }
}

/// The signatures that thoughts carry, by the call they belong to.
fn carried_signatures<'t>(turn: &'t Turn<'_, '_>) -> HashMap<&'t str, &'t str> {
    let signature = |part: &&'t Part<'_>| match &part.kind {
        PartKind::Thinking(thinking) => match &thinking.signature {
            Some(Signature::Gemini { call, value }) => Some((call.as_ref(), value.as_ref())),
            _ => None,
        },
        _ => None,
    };
    turn.parts.iter().filter_map(signature).collect()
}

fn text_of<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    match &part.kind {
        PartKind::Text(text) | PartKind::Refusal(text) => Some(text),
        _ => None,
    }
}

fn write_media(items: &mut ListWriter<'_>, part: &Part<'_>, losses: &mut Losses) {
    match &part.kind {
        PartKind::Image(image) => {
            if image.detail.is_some() {
                losses.lose(Feature::ImageDetail);
            }
            write_source(items, &image.source, losses);
        }
        PartKind::File(file) => {
            if file.context.is_some() {
                losses.lose(Feature::FileContext);
            }
            if file.citations {
                losses.lose(Feature::FileCitations);
            }
            write_source(items, &file.source, losses);
        }
        PartKind::Audio { data, format } => {
            items.obj(|item| {
                item.obj("inlineData", |inline| {
                    inline.concat("mimeType", &["audio/", format]);
                    inline.str("data", data);
                });
            });
        }
        _ => lose_part(part, losses),
    }
}

fn write_source(items: &mut ListWriter<'_>, source: &MediaSource<'_>, losses: &mut Losses) {
    match source {
        MediaSource::Id(_) => losses.lose(Feature::FileId),
        MediaSource::Text(text) => items.obj(|item| item.str("text", text)),
        MediaSource::Base64 { media_type, data } => items.obj(|item| {
            item.obj("inlineData", |inline| {
                inline.str("mimeType", media_type);
                inline.str("data", data);
            });
        }),
        MediaSource::Url(url) => items.obj(|item| {
            item.obj("fileData", |file| {
                file.opt_str("mimeType", data_url::media_type_of(url));
                file.str("fileUri", url);
            });
        }),
    }
}

/// Ids the router made are kept to itself: Gemini gave none.
fn write_id(fields: &mut ObjectWriter<'_>, id: &str) {
    if !is_made(id) {
        fields.str("id", id);
    }
}

fn write_call(items: &mut ListWriter<'_>, call: &ToolCall<'_>, signature: Option<&str>) {
    items.obj(|item| {
        item.obj("functionCall", |function| {
            write_id(function, &call.id);
            function.str("name", &call.name);
            if call.custom {
                function.raw("args", &tool_schema::wrap(call.arguments.as_is()));
            } else {
                function.raw("args", &call.arguments.as_object());
            }
        });
        item.opt_str("thoughtSignature", signature);
    });
}

fn write_tools(fields: &mut ObjectWriter<'_>, request: &NeutralRequest<'_>, losses: &mut Losses) {
    if !tool_schema::any_sent(request, losses) {
        return;
    }
    let tools: Vec<_> = request
        .tools
        .iter()
        .filter_map(|tool| SentTool::of(tool, losses))
        .collect();
    fields.list("tools", |items| {
        items.obj(|item| {
            item.list("functionDeclarations", |items| {
                for sent in &tools {
                    write_tool(items, sent, losses);
                }
            });
        });
    });
    if let Some(choice) = &request.tool_choice {
        fields.obj("toolConfig", |config| {
            config.obj("functionCallingConfig", |calling| {
                write_choice(calling, choice)
            });
        });
    }
}

fn write_tool(items: &mut ListWriter<'_>, sent: &SentTool<'_>, losses: &mut Losses) {
    if sent.strict == Some(true) {
        losses.lose(Feature::ToolStrict);
    }
    if sent.cache.is_some() {
        losses.lose(Feature::CacheControl);
    }
    items.obj(|item| {
        item.str("name", sent.name);
        item.opt_str("description", sent.description.as_deref());
        if let Some(schema) = &sent.schema {
            item.raw("parametersJsonSchema", schema);
        }
    });
}

fn write_choice(fields: &mut ObjectWriter<'_>, choice: &ToolChoice<'_>) {
    let (mode, names) = match choice {
        ToolChoice::Auto => ("AUTO", &[][..]),
        ToolChoice::None => ("NONE", &[][..]),
        ToolChoice::Required => ("ANY", &[][..]),
        ToolChoice::Named(name) => ("ANY", std::slice::from_ref(name)),
        ToolChoice::Among { names, required } => {
            // VALIDATED is AUTO with a list of names.
            (if *required { "ANY" } else { "VALIDATED" }, &names[..])
        }
    };
    fields.str("mode", mode);
    if !names.is_empty() {
        fields.strings("allowedFunctionNames", names);
    }
}

fn write_sampling(config: &mut ObjectWriter<'_>, request: &NeutralRequest<'_>) {
    let sampling = &request.sampling;
    config.opt_num("maxOutputTokens", sampling.max_tokens);
    config.opt_num("temperature", sampling.temperature.as_ref());
    config.opt_num("topP", sampling.top_p.as_ref());
    config.opt_num("topK", sampling.top_k);
    config.opt_num("candidateCount", sampling.choices);
    config.opt_num("seed", sampling.seed.as_ref());
    config.opt_num("presencePenalty", sampling.presence_penalty.as_ref());
    config.opt_num("frequencyPenalty", sampling.frequency_penalty.as_ref());
    if !sampling.stop.is_empty() {
        config.strings("stopSequences", &sampling.stop);
    }
}

fn write_output(config: &mut ObjectWriter<'_>, request: &NeutralRequest<'_>, plan: ThinkingPlan) {
    match &request.output {
        OutputShape::Text => {}
        OutputShape::AnyJson => config.str("responseMimeType", "application/json"),
        OutputShape::Schema { schema, .. } => {
            config.str("responseMimeType", "application/json");
            config.json("responseJsonSchema", schema);
        }
    }
    if plan == ThinkingPlan::default() {
        return;
    }
    config.obj("thinkingConfig", |thinking| {
        if plan.show {
            thinking.bool("includeThoughts", true);
        }
        thinking.opt_num("thinkingBudget", plan.budget);
        thinking.opt_str("thinkingLevel", plan.level);
    });
}
