//! The pass over a body. One visitor serves messages, items and content blocks of all formats:
//! they differ in the names of fields, and no name means different things in two of them.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Prompt, PromptPiece, PromptRole};

/// ContentSeed nested deeper than this is skipped.
const MAX_DEPTH: usize = 16;

/// Reads a body; one that isn't clean UTF-8, or has halves of surrogate pairs, in a repaired copy.
pub(super) fn prompt(body: &[u8]) -> Result<Prompt<'_>, serde_json::Error> {
    match parse(body) {
        Ok(prompt) => Ok(prompt),
        Err(error) => match repair(body) {
            Some(body) => parse(&body).map(Prompt::into_owned),
            None => Err(error),
        },
    }
}

fn parse(body: &[u8]) -> Result<Prompt<'_>, serde_json::Error> {
    let mut prompt = Prompt::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    BodySeed {
        prompt: &mut prompt,
    }
    .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(prompt)
}

/// The body with U+FFFD for what no Rust string can hold. `None`: there was no such thing.
fn repair(body: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(body);
    let changed = matches!(text, Cow::Owned(_));
    let mut bytes = text.into_owned().into_bytes();
    let mut halves = false;
    let mut at = 0;
    while let Some(slash) = memchr::memchr(b'\\', &bytes[at..]) {
        at += slash;
        match (surrogate(&bytes, at), surrogate(&bytes, at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..)) => at += 12,
            (Some(_), _) => {
                bytes[at..at + 6].copy_from_slice(b"\\ufffd");
                halves = true;
                at += 6;
            }
            (None, _) => at = (at + 2).min(bytes.len()),
        }
    }
    (changed || halves).then_some(bytes)
}

/// The code unit of a `\uXXXX` escape of a surrogate.
fn surrogate(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    let unit = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xd800..0xe000).contains(&unit).then_some(unit)
}

/// The body as a whole.
struct BodySeed<'p, 'a> {
    prompt: &'p mut Prompt<'a>,
}

impl<'a> DeserializeSeed<'a> for BodySeed<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for BodySeed<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let prompt = self.prompt;
        while let Some(Text(field)) = map.next_key()? {
            match &*field {
                "messages" | "input" => {
                    map.next_value_seed(MessageSeed {
                        prompt,
                        role: PromptRole::User,
                        list: true,
                    })?;
                }
                "system" | "instructions" => {
                    map.next_value_seed(MessageSeed {
                        prompt,
                        role: PromptRole::System,
                        list: false,
                    })?;
                }
                "prompt" => {
                    map.next_value_seed(MessageSeed {
                        prompt,
                        role: PromptRole::User,
                        list: false,
                    })?;
                }
                "tools" | "functions" => count_tools(prompt, map.next_value()?),
                "response_format" | "text" | "output_config" | "output_format" => {
                    prompt.json_schema |= is_schema(map.next_value()?);
                }
                "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                    let limit: &RawValue = map.next_value()?;
                    prompt.output_limit = limit.get().parse().ok().or(prompt.output_limit);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

fn count_tools(prompt: &mut Prompt<'_>, raw: &RawValue) {
    let tools: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    prompt.tools = prompt.tools.saturating_add(tools.len() as u32);
    prompt.tool_bytes += tools.iter().map(|tool| tool.get().len()).sum::<usize>();
}

/// Returns true if an output format, or one within, is a JSON schema.
fn is_schema(raw: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct OutputFormat<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<&'a RawValue>,
        #[serde(borrow)]
        format: Option<&'a RawValue>,
    }
    let Ok(output) = serde_json::from_str::<OutputFormat<'_>>(raw.get()) else {
        return false;
    };
    output
        .kind
        .and_then(string)
        .is_some_and(|kind| kind == "json_schema")
        || output.format.is_some_and(is_schema)
}

/// A JSON string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The value if it is a string.
fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get())
        .ok()
        .map(|text| text.0)
}

/// One message or item, or a list of them; `role` is whose it is unless it says so itself.
struct MessageSeed<'p, 'a> {
    prompt: &'p mut Prompt<'a>,
    role: PromptRole,
    list: bool,
}

impl<'a> DeserializeSeed<'a> for MessageSeed<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { prompt, role, list } = self;
        let start = prompt.pieces.len();
        let content = ContentSeed {
            prompt,
            said: true,
            list,
            depth: 0,
        };
        let role = content.deserialize(deserializer)?.unwrap_or(role);
        let own = &mut prompt.pieces[start..];
        // A list of messages has no texts of its own: its messages have seen to theirs.
        if !own.is_empty() && own.iter().all(|piece| piece.role.is_none()) {
            // The role may come after the content, so the texts learn theirs now.
            own.iter_mut().for_each(|piece| piece.role = Some(role));
            // What is said stays in one piece, whatever stands between.
            own.sort_by_key(|piece| !piece.said);
            prompt.messages += 1;
        }
        Ok(())
    }
}

/// Whatever may hold text: a text, a list of blocks, a block, a message. Tells the role it names.
struct ContentSeed<'p, 'a> {
    prompt: &'p mut Prompt<'a>,
    said: bool,
    /// A list is one of messages.
    list: bool,
    depth: usize,
}

impl<'a> ContentSeed<'_, 'a> {
    fn text<E>(self, text: Cow<'a, str>) -> Result<Option<PromptRole>, E> {
        let message = self.prompt.messages;
        if !text.is_empty() {
            let piece = PromptPiece {
                role: None,
                said: self.said,
                message,
                text,
            };
            self.prompt.pieces.push(piece);
        }
        Ok(None)
    }

    /// The content one level deeper.
    fn inner(&mut self, said: bool) -> ContentSeed<'_, 'a> {
        let said = self.said && said;
        ContentSeed {
            prompt: self.prompt,
            said,
            list: false,
            depth: self.depth + 1,
        }
    }

    /// The arguments of a tool call, as text: a text itself, or the JSON as it stands.
    fn arguments<E>(&mut self, raw: &'a RawValue) -> Result<Option<PromptRole>, E> {
        self.inner(false)
            .text(string(raw).unwrap_or(Cow::Borrowed(raw.get())))
    }
}

impl<'a> DeserializeSeed<'a> for ContentSeed<'_, 'a> {
    type Value = Option<PromptRole>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.depth > MAX_DEPTH {
            return deserializer
                .deserialize_ignored_any(IgnoredAny)
                .map(|_| None);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for ContentSeed<'_, 'a> {
    type Value = Option<PromptRole>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("content")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'a str) -> Result<Self::Value, E> {
        self.text(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.text(Cow::Owned(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        if self.list {
            let prompt = self.prompt;
            let mut next = || {
                let message = MessageSeed {
                    prompt: &mut *prompt,
                    role: PromptRole::User,
                    list: false,
                };
                seq.next_element_seed(message)
            };
            while next()?.is_some() {}
        } else {
            while seq.next_element_seed(self.inner(true))?.is_some() {}
        }
        Ok(None)
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let start = self.prompt.pieces.len();
        let (mut role, mut kind, mut data) = (None, ItemKind::Other, None);
        while let Some(Text(field)) = map.next_key()? {
            match &*field {
                "role" => role = string(map.next_value()?).and_then(|name| role_of(&name)),
                "type" => kind = string(map.next_value()?).map_or(kind, |name| ItemKind::of(&name)),
                "text" | "content" => {
                    map.next_value_seed(self.inner(true))?;
                }
                "thinking" | "reasoning" | "reasoning_content" | "thinking_blocks" | "summary"
                | "refusal" | "tool_calls" | "function_call" | "function" | "custom"
                | "arguments" | "output" | "source" | "title" | "context" => {
                    map.next_value_seed(self.inner(false))?;
                }
                "input" => {
                    self.arguments(map.next_value()?)?;
                }
                "data" => data = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if let (ItemKind::Text, Some(text)) = (kind, data.and_then(string)) {
            self.inner(false).text(text)?;
        }
        self.prompt.images += u32::from(kind == ItemKind::Image);
        if kind == ItemKind::Result {
            self.prompt.pieces[start..]
                .iter_mut()
                .for_each(|piece| piece.said = false);
        }
        Ok(role.or(kind.role()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// ItemKind of a message, an item or a block, by its `type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ItemKind {
    Text,
    Image,
    /// Material that a message carries, but nobody says: a tool's result, a document.
    Result,
    Call,
    Other,
}

impl ItemKind {
    fn of(name: &str) -> Self {
        match name {
            "text" => Self::Text,
            "image" | "image_url" | "input_image" => Self::Image,
            "document" => Self::Result,
            name if name.ends_with("_result") || name.ends_with("_output") => Self::Result,
            name if name.ends_with("_call") || name == "reasoning" => Self::Call,
            _ => Self::Other,
        }
    }

    /// The role of an item that names none.
    const fn role(self) -> Option<PromptRole> {
        match self {
            Self::Result => Some(PromptRole::Tool),
            Self::Call => Some(PromptRole::Assistant),
            _ => None,
        }
    }
}

fn role_of(name: &str) -> Option<PromptRole> {
    match name {
        "system" | "developer" => Some(PromptRole::System),
        "user" => Some(PromptRole::User),
        "assistant" => Some(PromptRole::Assistant),
        "tool" | "function" => Some(PromptRole::Tool),
        _ => None,
    }
}
