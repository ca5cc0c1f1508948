//! Capabilities of each vendor's models, read off their names. Names it doesn't know get the answer
//! that most servers accept.

/// The way to ask a Claude model to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaudeThinking {
    /// Not at all.
    No,
    /// With a budget of tokens.
    Budget,
    /// As it sees fit, steered by effort.
    Adaptive,
}

/// Capabilities of a Claude model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claude {
    /// `max_tokens` where the client gives none; the API requires one.
    pub(crate) max_tokens: u64,
    pub(crate) thinking: ClaudeThinking,
    /// Takes `temperature`, `top_p` and `top_k`.
    pub(crate) sampling: bool,
    /// Takes `temperature` and `top_p` together.
    pub(crate) both: bool,
    /// Shows its thoughts only when asked to.
    pub(crate) hides_thoughts: bool,
    /// Takes the efforts above `high`.
    pub(crate) xhigh: bool,
    /// Takes `strict` tools and output schemas.
    pub(crate) structured: bool,
    /// Goes on from what the assistant began.
    pub(crate) prefill: bool,
}

/// Capabilities of the Claude model of this name (docs.claude.com: models overview, extended
/// thinking, adaptive thinking, structured outputs).
pub(crate) fn claude(model: &str) -> Claude {
    let Some((major, minor)) = claude_version(model) else {
        return Claude {
            max_tokens: 8_192,
            thinking: ClaudeThinking::Budget,
            sampling: true,
            both: true,
            hides_thoughts: false,
            xhigh: false,
            structured: false,
            prefill: true,
        };
    };
    let version = (major, minor);
    let opus = model.contains("opus");
    Claude {
        max_tokens: match version {
            (0..=2, _) | (3, 0) => 4_096,
            (3, 1..=5) => 8_192,
            _ => 32_000,
        },
        thinking: match version {
            (0..=2, _) | (3, 0..=5) => ClaudeThinking::No,
            _ if version < (4, 6) => ClaudeThinking::Budget,
            _ => ClaudeThinking::Adaptive,
        },
        sampling: version < (4, 7),
        both: version < (4, if opus { 1 } else { 5 }),
        hides_thoughts: version >= (4, 7),
        xhigh: version >= (4, 7),
        structured: version >= (4, if opus { 1 } else { 5 }),
        prefill: version < (4, 6),
    }
}

/// The most tokens of output of a retired Claude model, which tables of current models lack; none
/// for other names (docs.claude.com: models overview, in its earlier editions).
#[must_use]
pub fn family_ceiling(model: &str) -> Option<u64> {
    match claude_version(model)? {
        (0..=2, _) | (3, 0) => Some(4_096),
        (3, 1..=5) => Some(8_192),
        (4, 0 | 1) if model.contains("opus") => Some(32_000),
        (4, 0 | 5) => Some(64_000),
        _ => None,
    }
}

/// `claude-sonnet-4-5-20250929` is 4.5, `claude-3-5-haiku-latest` is 3.5, `claude-2.1` is 2.1.
fn claude_version(model: &str) -> Option<(u32, u32)> {
    let (_, name) = model.split_once("claude-")?;
    let mut numbers = name
        .split(['-', '.', '@', ':', '/'])
        .skip_while(|word| !is_version(word))
        .take_while(|word| is_version(word))
        .filter_map(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next().unwrap_or(0)))
}

/// Dates have more digits.
fn is_version(word: &str) -> bool {
    (1..=2).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// The way to ask a Gemini model to think (ai.google.dev: "Gemini thinking").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GeminiThinking {
    No,
    /// With a budget; the smallest is given. Zero turns thinking off.
    Budget {
        least: u64,
        most: u64,
    },
    /// By level; not all have `minimal`.
    Level {
        minimal: bool,
    },
}

/// The way to ask the Gemini model of this name to think.
pub(crate) fn gemini_thinking(model: &str) -> GeminiThinking {
    let Some((_, name)) = model.rsplit_once("gemini-") else {
        return GeminiThinking::Budget {
            least: 0,
            most: 24_576,
        };
    };
    let pro = name.contains("pro");
    match name.bytes().next() {
        Some(b'1') => GeminiThinking::No,
        Some(b'2') if name.starts_with("2.0") => GeminiThinking::No,
        Some(b'2') if pro => GeminiThinking::Budget {
            least: 128,
            most: 32_768,
        },
        Some(b'2') => GeminiThinking::Budget {
            least: 0,
            most: 24_576,
        },
        _ => GeminiThinking::Level { minimal: !pro },
    }
}

/// Returns true if the model refuses function calls in its history without a signature of its own.
pub(crate) fn gemini_checks_signatures(model: &str) -> bool {
    matches!(gemini_thinking(model), GeminiThinking::Level { .. })
}

/// Returns true if the Gemini model of this name takes penalties: from 2.5 on they are refused
/// ("Penalty is not enabled for models/gemini-2.5-flash").
pub(crate) fn gemini_takes_penalties(model: &str) -> bool {
    !model.contains("gemini-") || gemini_thinking(model) == GeminiThinking::No
}

/// Thinking of an OpenAI model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenAiThinking {
    /// Refuses `reasoning_effort`.
    No,
    /// Takes an effort and refuses `temperature` and `top_p` unless the effort is `none`.
    Yes {
        /// Takes `none`; the others know `minimal` at least.
        none: bool,
    },
    /// A model by another vendor.
    Unknown,
}

/// Thinking of the OpenAI model of this name (platform.openai.com: "Reasoning models").
pub(crate) fn openai_thinking(model: &str) -> OpenAiThinking {
    let name = model.rsplit('/').next().unwrap_or(model);
    let is = |prefix: &str| name.starts_with(prefix);
    if is("gpt-3.5") || is("gpt-4") || is("chatgpt-") || name.contains("-chat-latest") {
        return OpenAiThinking::No;
    }
    if let Some(version) = gpt_version(name) {
        return OpenAiThinking::Yes {
            none: version > (5, 0),
        };
    }
    if is("o1") || is("o3") || is("o4") {
        return OpenAiThinking::Yes { none: false };
    }
    OpenAiThinking::Unknown
}

/// `gpt-5-mini` is 5.0, `gpt-5.1` is 5.1, `gpt-6-sol` is 6.0; none before 5, from which on they
/// reason, and for other names.
fn gpt_version(name: &str) -> Option<(u32, u32)> {
    let version = name.strip_prefix("gpt-")?.split('-').next()?;
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    let version = (major.parse().ok()?, minor.parse().ok()?);
    (version >= (5, 0)).then_some(version)
}

/// Returns true if the OpenAI model of this name takes texts to stop at: models that reason refuse
/// them from o3 on (`openai` types: "Not supported with latest reasoning models").
pub(crate) fn openai_takes_stops(model: &str) -> bool {
    !matches!(openai_thinking(model), OpenAiThinking::Yes { .. }) || is_openai(model, &["o1"])
}

/// Returns true if the OpenAI model of this name takes `parallel_tool_calls`, which o1, o3 and o4
/// refuse whatever its value.
pub(crate) fn openai_takes_parallel_tools(model: &str) -> bool {
    !is_openai(model, &["o1", "o3", "o4"])
}

fn is_openai(model: &str, prefixes: &[&str]) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_claude_versions() {
        for (model, version) in [
            ("claude-sonnet-4-5-20250929", Some((4, 5))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("claude-opus-4-0", Some((4, 0))),
            ("claude-sonnet-5", Some((5, 0))),
            ("claude-3-5-haiku-latest", Some((3, 5))),
            ("claude-3-opus-20240229", Some((3, 0))),
            ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", Some((3, 7))),
            ("anthropic/claude-haiku-4.5", Some((4, 5))),
            ("claude-2.1", Some((2, 1))),
            ("mock-large", None),
        ] {
            assert_eq!(claude_version(model), version, "{model}");
        }
    }

    #[test]
    fn claude_models_differ() {
        for (model, max_tokens, thinking, sampling) in [
            ("claude-3-haiku-20240307", 4_096, ClaudeThinking::No, true),
            (
                "claude-3-5-sonnet-20240620",
                8_192,
                ClaudeThinking::No,
                true,
            ),
            (
                "claude-3-7-sonnet-latest",
                32_000,
                ClaudeThinking::Budget,
                true,
            ),
            ("claude-haiku-4-5", 32_000, ClaudeThinking::Budget, true),
            ("claude-opus-4-6", 32_000, ClaudeThinking::Adaptive, true),
            ("claude-opus-4-8", 32_000, ClaudeThinking::Adaptive, false),
            ("kimi-k2", 8_192, ClaudeThinking::Budget, true),
        ] {
            let found = claude(model);
            assert_eq!(
                (found.max_tokens, found.thinking, found.sampling),
                (max_tokens, thinking, sampling),
                "{model}"
            );
        }
    }

    #[test]
    fn retired_models_have_their_ceilings() {
        for (model, most) in [
            ("claude-3-haiku-20240307", Some(4_096)),
            ("anthropic/claude-3.5-sonnet", Some(8_192)),
            ("claude-3-7-sonnet-latest", None),
            ("claude-opus-4-1-20250805", Some(32_000)),
            ("claude-sonnet-4-5", Some(64_000)),
            ("claude-sonnet-6", None),
            ("gpt-4o", None),
        ] {
            assert_eq!(family_ceiling(model), most, "{model}");
        }
    }

    #[test]
    fn gemini_models_differ() {
        let flash = GeminiThinking::Budget {
            least: 0,
            most: 24_576,
        };
        for (model, thinking) in [
            ("gemini-1.5-pro", GeminiThinking::No),
            ("gemini-2.0-flash-001", GeminiThinking::No),
            ("models/gemini-2.5-flash", flash),
            (
                "gemini-3-flash-preview",
                GeminiThinking::Level { minimal: true },
            ),
            ("gemini-3.1-pro", GeminiThinking::Level { minimal: false }),
            ("mock", flash),
        ] {
            assert_eq!(gemini_thinking(model), thinking, "{model}");
        }
    }

    #[test]
    fn openai_models_differ() {
        for (model, thinking) in [
            ("gpt-4o-mini", OpenAiThinking::No),
            ("gpt-4.1", OpenAiThinking::No),
            ("gpt-5-mini", OpenAiThinking::Yes { none: false }),
            ("gpt-5.1", OpenAiThinking::Yes { none: true }),
            ("gpt-5-2025-08-07", OpenAiThinking::Yes { none: false }),
            ("gpt-6-sol", OpenAiThinking::Yes { none: true }),
            ("openai/gpt-6.2-astra", OpenAiThinking::Yes { none: true }),
            ("gpt-audio", OpenAiThinking::Unknown),
            ("openai/o4-mini", OpenAiThinking::Yes { none: false }),
            ("gpt-5-chat-latest", OpenAiThinking::No),
            ("grok-3-mini", OpenAiThinking::Unknown),
            ("gpt-oss-120b", OpenAiThinking::Unknown),
        ] {
            assert_eq!(openai_thinking(model), thinking, "{model}");
        }
    }
}
