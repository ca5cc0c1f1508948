//! Names of providers, models, keys and owners, and patterns of model names.

use std::path::{Path, PathBuf};

use llm_router_domain::pattern::Pattern;
use llm_router_yaml::ValueError;

use super::TextSetting;

/// The id of a provider, which is also the part before the slash in `provider/model`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProviderId(pub(crate) String);

/// The name of a model, public or a provider's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelName(pub(crate) String);

/// The name of a key or an owner, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) String);

/// A model name in which `*` matches any text, also none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(Pattern);

impl NamePattern {
    /// Returns the pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn into_pattern(self) -> Pattern {
        self.0
    }

    /// Returns true for `*`, which every name matches.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.as_str() == "*"
    }

    /// Returns the one name that matches, if the pattern has no `*`.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        self.0.is_literal().then(|| self.as_str())
    }

    /// Returns true if a name matches. Case counts.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }
}

impl TextSetting for ProviderId {
    const FORMAT: &'static str = "provider-id";
    const EXAMPLES: &'static [&'static str] = &["openai", "eu-vllm"];

    fn parse(text: &str) -> Result<Self, ValueError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins_well && text.len() <= 64 && text.chars().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::new(
            "is not a provider id",
            "use up to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or digit",
        ))
    }
}

impl TextSetting for ModelName {
    const FORMAT: &'static str = "model-name";
    const EXAMPLES: &'static [&'static str] = &["gpt-4o-mini", "claude-haiku-4-5"];

    fn parse(text: &str) -> Result<Self, ValueError> {
        if is_model_name(text) && !text.contains('*') {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::new(
            "is not a model name",
            "use up to 256 characters, without spaces and `*`",
        ))
    }
}

impl TextSetting for NamePattern {
    const FORMAT: &'static str = "name-pattern";
    const EXAMPLES: &'static [&'static str] = &["*", "gpt-*", "gpt-4o-mini"];

    fn parse(text: &str) -> Result<Self, ValueError> {
        if is_model_name(text) {
            return Ok(Self(Pattern::new(text)));
        }
        Err(ValueError::new(
            "is not a name pattern",
            "write a name without spaces, in which `*` matches any text",
        ))
    }
}

impl TextSetting for Label {
    const FORMAT: &'static str = "label";

    fn parse(text: &str) -> Result<Self, ValueError> {
        let fits = !text.is_empty() && text.len() <= 128 && text.trim() == text;
        if fits && !text.contains(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::new(
            "is not a name",
            "use 1 to 128 bytes on one line, without spaces at either end",
        ))
    }
}

impl TextSetting for PathBuf {
    const FORMAT: &'static str = "file-path";

    fn parse(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() || text.contains('\0') {
            return Err(ValueError::new("is not a file path", "name a file"));
        }
        Ok(text.into())
    }

    fn resolve(text: &str, folder: &Path) -> String {
        if text.is_empty() {
            return String::new();
        }
        folder.join(text).to_string_lossy().into_owned()
    }
}

fn is_model_name(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    !text.is_empty() && text.len() <= 256 && !text.contains(odd)
}

#[cfg(test)]
mod tests {
    use super::super::assert_texts;
    use super::*;

    #[test]
    fn names() {
        assert_texts::<ProviderId>(
            &[("openai", |_| true), ("eu-vllm_2.1", |_| true)],
            &[
                ("", "provider id"),
                ("a/b", "provider id"),
                ("-a", "beginning with"),
                ("ä", "letters"),
            ],
        );
        assert_texts::<ModelName>(
            &[("meta-llama/Llama-3.1-8B:free", |_| true)],
            &[
                ("", "model name"),
                ("a b", "spaces"),
                ("gpt-*", "`*`"),
                ("a\n", "spaces"),
            ],
        );
        assert_texts::<Label>(
            &[("team a", |_| true)],
            &[
                ("", "is not a name"),
                (" a", "either end"),
                ("a\nb", "one line"),
            ],
        );
        assert_texts::<NamePattern>(
            &[("*", NamePattern::is_any)],
            &[("", "pattern"), ("a b", "pattern")],
        );
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "anything/at:all", true),
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-4o", "GPT-4o", false),
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "gpt-", true),
            ("gpt-*", "gpt", false),
            ("*-mini", "gpt-4o-mini", true),
            ("*-mini", "gpt-4o-mini-2", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1c2b", false),
            ("a**c", "abc", true),
            ("ü*ü", "ünü", true),
        ] {
            let pattern = NamePattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches(name), expected, "{pattern:?} {name}");
        }
    }
}
