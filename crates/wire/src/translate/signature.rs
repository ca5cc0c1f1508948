//! Signatures of thoughts: opaque to everybody but the provider that made them. A signature that
//! travels in another format's field carries a mark of where it is from, so that it finds its way
//! back and is never shown to a provider that would refuse it.

use std::borrow::Cow;

const ANTHROPIC: &str = "anthropic#";
const REDACTED: &str = "anthropic-redacted#";
const GEMINI: &str = "gemini#";
const OPENAI: &str = "openai#";

/// A signature and its provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signature<'a> {
    /// Signature of an Anthropic thinking block.
    Anthropic(Cow<'a, str>),
    /// Data of an Anthropic `redacted_thinking` block, which has no text.
    Redacted(Cow<'a, str>),
    /// Gemini's `thoughtSignature` of a part.
    Gemini {
        /// The tool call it belongs to; empty for text.
        call: Cow<'a, str>,
        value: Cow<'a, str>,
    },
    /// A reasoning item of OpenAI's Responses.
    OpenAi {
        /// The item's id.
        id: Cow<'a, str>,
        /// Its `encrypted_content`; empty where the provider gave none.
        encrypted: Cow<'a, str>,
    },
}

impl<'a> Signature<'a> {
    /// Reads the `signature` of a thinking block, where Anthropic's own have no mark.
    pub(crate) fn from_block(text: Cow<'a, str>) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        Some(Self::from_marked(&text).unwrap_or(Self::Anthropic(text)))
    }

    /// Reads the `encrypted_content` of a reasoning item, where OpenAI's own have no mark.
    pub(crate) fn from_item(id: Cow<'a, str>, encrypted: Cow<'a, str>) -> Self {
        Self::from_marked(&encrypted).unwrap_or(Self::OpenAi { id, encrypted })
    }

    fn from_marked(text: &Cow<'a, str>) -> Option<Self> {
        let cut = |from: usize| slice(text, from, text.len());
        if text.starts_with(REDACTED) {
            return Some(Self::Redacted(cut(REDACTED.len())));
        }
        if text.starts_with(ANTHROPIC) {
            return Some(Self::Anthropic(cut(ANTHROPIC.len())));
        }
        if let Some((call, value)) = two(text, GEMINI) {
            return Some(Self::Gemini { call, value });
        }
        let (id, encrypted) = two(text, OPENAI)?;
        Some(Self::OpenAi { id, encrypted })
    }

    /// As the `signature` of a thinking block. Redacted thoughts have blocks of their own.
    pub(crate) fn to_block(&self) -> Cow<'_, str> {
        match self {
            Self::Anthropic(value) => Cow::Borrowed(value),
            Self::Redacted(data) => Cow::Owned(format!("{REDACTED}{data}")),
            Self::Gemini { call, value } => Cow::Owned(format!("{GEMINI}{call}#{value}")),
            Self::OpenAi { id, encrypted } => Cow::Owned(format!("{OPENAI}{id}#{encrypted}")),
        }
    }

    /// As the `encrypted_content` of a reasoning item.
    pub(crate) fn to_item(&self) -> Cow<'_, str> {
        match self {
            Self::OpenAi { encrypted, .. } => Cow::Borrowed(encrypted),
            Self::Anthropic(value) => Cow::Owned(format!("{ANTHROPIC}{value}")),
            other => other.to_block(),
        }
    }

    pub(crate) fn into_owned(self) -> Signature<'static> {
        let own = |text: Cow<'a, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Anthropic(value) => Signature::Anthropic(own(value)),
            Self::Redacted(data) => Signature::Redacted(own(data)),
            Self::Gemini { call, value } => Signature::Gemini {
                call: own(call),
                value: own(value),
            },
            Self::OpenAi { id, encrypted } => Signature::OpenAi {
                id: own(id),
                encrypted: own(encrypted),
            },
        }
    }
}

/// The two values after a mark, parted by the first `#`. Base64 has no `#`, so the last one parts
/// them even if an id has one.
fn two<'a>(text: &Cow<'a, str>, mark: &str) -> Option<(Cow<'a, str>, Cow<'a, str>)> {
    let rest = text.strip_prefix(mark)?;
    let at = mark.len() + rest.rfind('#')?;
    Some((slice(text, mark.len(), at), slice(text, at + 1, text.len())))
}

fn slice<'a>(text: &Cow<'a, str>, from: usize, to: usize) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(from..to).unwrap_or_default()),
        Cow::Owned(text) => Cow::Owned(text.get(from..to).unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Signature<'static>> {
        vec![
            Signature::Anthropic("EqQB+/=".into()),
            Signature::Redacted("data==".into()),
            Signature::Gemini {
                call: "call#1".into(),
                value: "abc=".into(),
            },
            Signature::Gemini {
                call: "".into(),
                value: "abc=".into(),
            },
            Signature::OpenAi {
                id: "rs_1".into(),
                encrypted: "gAAA".into(),
            },
        ]
    }

    #[test]
    fn survive_thinking_blocks() {
        for signature in all() {
            let text = signature.to_block().into_owned();
            assert_eq!(Signature::from_block(text.into()), Some(signature));
        }
    }

    #[test]
    fn survive_reasoning_items() {
        for signature in all() {
            let text = signature.to_item().into_owned();
            assert_eq!(Signature::from_item("rs_1".into(), text.into()), signature);
        }
    }

    #[test]
    fn native_signatures_have_no_mark() {
        assert_eq!(Signature::Anthropic("sig".into()).to_block(), "sig");
        let item = Signature::OpenAi {
            id: "rs".into(),
            encrypted: "enc".into(),
        };
        assert_eq!(item.to_item(), "enc");
        assert_eq!(Signature::from_block("".into()), None);
    }
}
