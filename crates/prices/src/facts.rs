//! Facts of models: how long input and output may be, and what a model can do. The built-in ones are
//! `conf/models.yaml`. It must not hold prices.

use llm_router_domain::model_table::ModelTable;
use llm_router_yaml::{Entry, Node};

use crate::tree::{PriceError, TreeReader};

/// Facts by `provider/model`.
pub type FactsTable = ModelTable<ModelFacts>;

/// The text of the built-in facts, `conf/models.yaml`.
pub const BUILT_IN_FACTS: &str = include_str!("../../../conf/models.yaml");

/// Use that a model is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum ModelKind {
    Chat,
    Completion,
    Embedding,
    Image,
    Transcription,
    Speech,
    Rerank,
    Moderation,
    Realtime,
}

impl ModelKind {
    const NAMES: [(&str, Self); 9] = [
        ("chat", Self::Chat),
        ("completion", Self::Completion),
        ("embedding", Self::Embedding),
        ("image", Self::Image),
        ("transcription", Self::Transcription),
        ("speech", Self::Speech),
        ("rerank", Self::Rerank),
        ("moderation", Self::Moderation),
        ("realtime", Self::Realtime),
    ];
}

/// Ability of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Calls tools.
    Tools,
    /// Answers by a JSON Schema.
    JsonSchema,
    /// Reads images.
    Images,
    /// Reads PDF files.
    Pdf,
    /// Reads audio.
    AudioInput,
    /// Reads videos.
    Video,
    /// Speaks.
    AudioOutput,
    /// Reasons before it answers.
    Reasoning,
    /// Has a prompt cache.
    PromptCache,
    /// Searches the web with the provider's own tool.
    WebSearch,
    /// Uses a computer with the provider's own tool.
    ComputerUse,
}

impl Capability {
    const NAMES: [(&str, Self); 11] = [
        ("tools", Self::Tools),
        ("json_schema", Self::JsonSchema),
        ("images", Self::Images),
        ("pdf", Self::Pdf),
        ("audio_input", Self::AudioInput),
        ("video", Self::Video),
        ("audio_output", Self::AudioOutput),
        ("reasoning", Self::Reasoning),
        ("prompt_cache", Self::PromptCache),
        ("web_search", Self::WebSearch),
        ("computer_use", Self::ComputerUse),
    ];
}

/// Facts of one model. A length that is `None` is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// Use that it is made for.
    pub kind: Option<ModelKind>,
    /// Longest input and output together, in tokens.
    pub context: Option<u64>,
    /// Longest input, in tokens.
    pub max_input: Option<u64>,
    /// Longest output, in tokens, reasoning included.
    pub max_output: Option<u64>,
    /// Shortest prompt that the provider caches, in tokens.
    pub prompt_cache_min: Option<u64>,
    /// Length of an embedding.
    pub dimensions: Option<u64>,
    capabilities: u16,
}

impl ModelFacts {
    /// Returns true if the model is known to have the ability. One that isn't known may be there.
    #[must_use]
    pub const fn has(&self, capability: Capability) -> bool {
        self.capabilities & (1 << capability as u16) != 0
    }
}

/// Reads the built-in facts.
///
/// # Errors
/// Returns the mistakes in the shipped file. It has none; a test of this crate reads it.
pub fn built_in_facts() -> Result<FactsTable, Vec<PriceError>> {
    read_facts(BUILT_IN_FACTS)
}

/// Reads a file of facts.
///
/// # Errors
/// Returns every mistake in it; of a text that is not valid YAML only the first.
pub fn read_facts(text: &str) -> Result<FactsTable, Vec<PriceError>> {
    let root = llm_router_yaml::parse(text)
        .map_err(|error| vec![PriceError::from_syntax(&error, "models")])?;
    let mut reader = TreeReader::default();
    let mut table = FactsTable::default();
    let wanted = "a mapping of provider/model to facts";
    reader.models(&root, "models", wanted, |reader, entry| {
        model(reader, entry, &mut table);
    });
    if reader.errors.is_empty() {
        Ok(table)
    } else {
        Err(reader.errors)
    }
}

fn model(reader: &mut TreeReader, entry: &Entry, table: &mut FactsTable) {
    let Some(fields) = reader.map(&entry.node, "a mapping of facts") else {
        return;
    };
    let mut facts = ModelFacts::default();
    let mut aliases = Vec::new();
    reader.entries(fields, |reader, key, node| match key {
        "kind" => facts.kind = name_of(reader, node, &ModelKind::NAMES),
        "context" => facts.context = reader.tokens(node),
        "max_input" => facts.max_input = reader.tokens(node),
        "max_output" => facts.max_output = reader.tokens(node),
        "prompt_cache_min" => facts.prompt_cache_min = reader.tokens(node),
        "dimensions" => facts.dimensions = reader.tokens(node),
        "has" => {
            let wanted = "a list of abilities, for example [tools, images]";
            let has = reader.list(node, wanted, |reader, item| {
                name_of(reader, item, &Capability::NAMES)
            });
            for capability in has {
                facts.capabilities |= 1 << capability as u16;
            }
        }
        "aliases" => aliases = reader.texts(node, "a list of names"),
        _ => {
            let known = [
                "kind",
                "context",
                "max_input",
                "max_output",
                "prompt_cache_min",
                "dimensions",
                "has",
                "aliases",
            ];
            reader.unknown(node.mark.line, key, &known);
        }
    });
    table.insert(&entry.key, facts);
    for alias in aliases {
        table.add_alias(&entry.key, alias);
    }
}

fn name_of<T: Copy>(reader: &mut TreeReader, node: &Node, names: &[(&str, T)]) -> Option<T> {
    let text = reader.text(node, "a name")?;
    let value = names.iter().find(|(name, _)| *name == text);
    if value.is_none() {
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        reader.unknown_name(node.mark.line, text, &known);
    }
    value.map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_models_in_use_are_built_in() {
        let table = built_in_facts().unwrap();
        for (kind, model, context, max_output) in [
            ("openai", "gpt-6-sol", 1_050_000, 128_000),
            ("openai", "gpt-4o-2024-08-06", 128_000, 16_384),
            ("anthropic", "claude-haiku-4-5-20251001", 200_000, 64_000),
            ("gemini", "models/gemini-2.5-flash", 1_048_576, 65_536),
        ] {
            let row = table.find("id", kind, model);
            let facts = &row.unwrap_or_else(|| panic!("{kind}/{model}")).value;
            assert_eq!(facts.context, Some(context), "{kind}/{model}");
            assert_eq!(facts.max_output, Some(max_output), "{kind}/{model}");
            assert!(facts.has(Capability::Tools), "{kind}/{model}");
        }
        let embedding = table.find("o", "openai", "text-embedding-3-small").unwrap();
        assert_eq!(embedding.value.kind, Some(ModelKind::Embedding));
        assert_eq!(embedding.value.max_input, Some(8191));
        assert!(!embedding.value.has(Capability::Tools));
        assert!(table.find("o", "openai", "homemade").is_none());
    }

    #[test]
    fn mistakes_are_located() {
        let text = "a/b: { kind: chatty, context: many, has: [tool], contex: 1 }\nc: 3\n";
        let errors = read_facts(text).unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "1: a/b.kind: `chatty` is not known; did you mean `chat`?",
                "1: a/b.context: `many` is not a number of tokens; write it as 200000",
                "1: a/b.has[0]: `tool` is not known; did you mean `tools`?",
                "1: a/b.contex: unknown field; did you mean `context`?",
                "2: c: the name must have the form provider/model",
                "2: c: expected a mapping of facts, found a single value",
            ]
        );
    }
}
