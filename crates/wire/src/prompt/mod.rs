//! Reads request bodies for routing: texts by role, features, an estimate of tokens. It reads the
//! bodies of all formats alike and must not judge them: unknown fields are skipped.
//!
//! One pass over the body; texts without escapes are borrowed from it.

mod bound;
mod read;
mod tokens;

use std::{borrow::Cow, cell::OnceCell};

use llm_router_domain::{
    complexity, rendezvous,
    rule::{Area, Feature},
};

pub use self::bound::{Embedded, find_embedded, image_tokens, input_at_most};
pub use self::tokens::estimate as estimate_tokens;

/// Tokens taken for one image: between OpenAI's 765 and Anthropic's 1,600 for usual sizes.
pub const IMAGE_TOKENS: u64 = 1_000;
/// Tokens that frame a message.
const MESSAGE_TOKENS: u64 = 4;
/// Bytes of JSON schema that make one token.
const TOOL_BYTES_PER_TOKEN: u64 = 4;

/// A body that couldn't be read: it is no JSON object.
#[derive(Debug, thiserror::Error)]
#[error("the body can't be read: {0}")]
pub struct Unreadable(#[from] serde_json::Error);

/// Author of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PromptRole {
    System,
    User,
    Assistant,
    Tool,
}

/// One text of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PromptPiece<'a> {
    /// `None` while the message is being read.
    role: Option<PromptRole>,
    /// The role's own words, as against tool calls, tool results, documents and reasoning.
    said: bool,
    /// The message it belongs to.
    message: u32,
    text: Cow<'a, str>,
}

/// The texts of a request and what it has.
#[derive(Clone, Debug, Default)]
pub struct Prompt<'a> {
    pieces: Vec<PromptPiece<'a>>,
    messages: u32,
    tools: u32,
    tool_bytes: usize,
    images: u32,
    json_schema: bool,
    output_limit: Option<u64>,
    texts: [OnceCell<Cow<'a, str>>; 3],
    tokens: OnceCell<u64>,
}

impl<'a> Prompt<'a> {
    /// Reads a request body of any endpoint and format.
    ///
    /// # Errors
    /// The body is no JSON object.
    pub fn read(body: &'a [u8]) -> Result<Self, Unreadable> {
        read::prompt(body).map_err(Unreadable)
    }

    /// The text of an area: its pieces joined by line feeds, message by message; in each first what
    /// is said, then tool calls, results, documents and reasoning. So the whole text contains that
    /// of every other area that is one message's.
    #[must_use]
    pub fn text(&self, area: Area) -> &str {
        self.texts[area as usize].get_or_init(|| match area {
            Area::Any => self.join(|_| true),
            Area::System => self.join(|piece| piece.role == Some(PromptRole::System)),
            Area::LastUser => {
                let last = self.pieces.iter().rev().find(|piece| piece.is_users());
                let message = last.map(|piece| piece.message);
                self.join(|piece| piece.is_users() && Some(piece.message) == message)
            }
        })
    }

    /// The user's own words in the first message; empty if there are none.
    #[must_use]
    pub fn first_user(&self) -> Cow<'_, str> {
        let first = self.pieces.iter().find(|piece| piece.is_users());
        let message = first.map(|piece| piece.message);
        self.join(|piece| piece.is_users() && Some(piece.message) == message)
    }

    /// Returns true if the request has the feature.
    #[must_use]
    pub const fn has(&self, feature: Feature) -> bool {
        match feature {
            Feature::Tools => self.tools > 0,
            Feature::Images => self.images > 0,
            Feature::JsonSchema => self.json_schema,
        }
    }

    /// The number of tools that are offered to the model.
    #[must_use]
    pub const fn tools(&self) -> u32 {
        self.tools
    }

    /// Bytes of the tools' definitions.
    #[must_use]
    pub const fn tool_bytes(&self) -> usize {
        self.tool_bytes
    }

    /// The number of images in the messages.
    #[must_use]
    pub const fn images(&self) -> u32 {
        self.images
    }

    /// The most output tokens that the client allows.
    #[must_use]
    pub const fn output_limit(&self) -> Option<u64> {
        self.output_limit
    }

    /// The number of messages with the user's own words.
    #[must_use]
    pub fn turns(&self) -> u32 {
        let mut last = None;
        let mut turns = 0;
        for piece in self.pieces.iter().filter(|piece| piece.is_users()) {
            turns += u32::from(last != Some(piece.message));
            last = Some(piece.message);
        }
        turns
    }

    /// An estimate of the input tokens: texts, tools, images and the framing of messages. See
    /// [`estimate_tokens`] for how far off it may be.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        *self.tokens.get_or_init(|| {
            let texts: u64 = self
                .pieces
                .iter()
                .map(|piece| estimate_tokens(&piece.text))
                .sum();
            texts
                + u64::from(self.messages) * MESSAGE_TOKENS
                + u64::from(self.images) * IMAGE_TOKENS
                + self.tool_bytes as u64 / TOOL_BYTES_PER_TOKEN
        })
    }

    /// The input of a complexity scorer.
    #[must_use]
    pub fn complexity(&self) -> complexity::ScoreInput<'_> {
        complexity::ScoreInput {
            text: self.text(Area::LastUser),
            tokens: self.tokens(),
            turns: self.turns(),
            tools: self.tools,
            images: self.images,
            json_schema: self.json_schema,
            output_limit: self.output_limit,
        }
    }

    /// A hash that identifies the conversation: of the client's key, the system prompt and the
    /// user's first words.
    #[must_use]
    pub fn conversation(&self, key: &str) -> u64 {
        let (system, first) = (self.text(Area::System), self.first_user());
        rendezvous::stable_hash_of(&[key.as_bytes(), system.as_bytes(), first.as_bytes()])
    }

    fn join(&self, wanted: impl Fn(&PromptPiece<'a>) -> bool) -> Cow<'a, str> {
        let mut pieces = self.pieces.iter().filter(|piece| wanted(piece));
        let Some(first) = pieces.next() else {
            return Cow::Borrowed("");
        };
        let Some(second) = pieces.next() else {
            return first.text.clone();
        };
        let mut text = String::from(&*first.text);
        for piece in std::iter::once(second).chain(pieces) {
            text.push('\n');
            text.push_str(&piece.text);
        }
        Cow::Owned(text)
    }

    fn into_owned<'b>(self) -> Prompt<'b> {
        let own = |piece: PromptPiece<'a>| PromptPiece {
            text: Cow::Owned(piece.text.into_owned()),
            ..piece
        };
        Prompt {
            pieces: self.pieces.into_iter().map(own).collect(),
            texts: Default::default(),
            tokens: OnceCell::new(),
            messages: self.messages,
            tools: self.tools,
            tool_bytes: self.tool_bytes,
            images: self.images,
            json_schema: self.json_schema,
            output_limit: self.output_limit,
        }
    }
}

impl PromptPiece<'_> {
    fn is_users(&self) -> bool {
        self.role == Some(PromptRole::User) && self.said
    }
}
