//! Headers and query parameters of a client's request that providers are sent, by format. It must
//! not hold what the router sets itself, such as credentials.

use llm_router_domain::format::Format;
use llm_router_domain::header::{is_credential, is_credential_parameter};

/// Headers of any client: what it accepts, what it is, the body's coding, W3C trace context, and
/// the key by which a provider knows a repeated request.
const HEADERS: [&str; 9] = [
    "accept",
    "accept-language",
    "content-encoding",
    "content-language",
    "content-type",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "user-agent",
];

/// Prefixes of headers of any client: the SDKs that Stainless generates, which most vendors publish,
/// say the client's language, version and number of retries.
const HEADER_PREFIXES: [&str; 1] = ["x-stainless-"];

/// Headers and parameters of one format.
struct Names {
    headers: &'static [&'static str],
    header_prefixes: &'static [&'static str],
    parameters: &'static [&'static str],
}

/// OpenAI's API reference and the headers of its command-line agent.
const OPENAI: Names = Names {
    headers: &[
        "openai-beta",
        "openai-version",
        "originator",
        "session-id",
        "session_id",
        "conversation_id",
        "thread_id",
        "version",
        "x-client-request-id",
    ],
    header_prefixes: &["x-codex-", "x-openai-"],
    parameters: &[
        "after",
        "api-version",
        "before",
        "include",
        "include[]",
        "limit",
        "order",
        "starting_after",
        "stream",
    ],
};

/// Anthropic's API reference and the gateway protocol of its command-line agent.
const ANTHROPIC: Names = Names {
    headers: &[
        "anthropic-beta",
        "anthropic-dangerous-direct-browser-access",
        "anthropic-version",
        "x-app",
    ],
    header_prefixes: &["x-claude-code-"],
    parameters: &["after_id", "before_id", "beta", "limit"],
};

/// Google's Gemini API reference.
const GEMINI: Names = Names {
    headers: &["x-goog-api-client", "x-server-timeout"],
    header_prefixes: &[],
    parameters: &["$alt", "alt", "pagesize", "pagetoken"],
};

/// Headers that choose the account, the organisation or the project that a request is billed to. A
/// provider's refusal of one would be taken for a refusal of the router's own credential.
const ACCOUNTS: [&str; 8] = [
    "openai-organization",
    "openai-project",
    "anthropic-workspace-id",
    "anthropic-organization-id",
    "chatgpt-account-id",
    "x-goog-user-project",
    "x-amz-account-id",
    "x-ms-client-principal",
];

/// Headers about the way to the router, which providers would take for the router's own.
const ADDRESSES: [&str; 7] = [
    "cf-connecting-ip",
    "forwarded",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-real-ip",
];

/// Headers of the connection, of the body's framing, or that the router sets itself.
const CONNECTION: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
    "http2-settings",
];

/// Reason for which a header may not be passed on, whatever the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// It is the connection's, the framing's, or set by the router.
    Connection,
    /// It carries a credential.
    Credential,
    /// It chooses an account of the provider's.
    Account,
    /// It tells the way to the router, or whom the router talks to.
    Address,
}

const fn names_of(format: Format) -> &'static Names {
    match format {
        Format::OpenAiChat | Format::OpenAiResponses => &OPENAI,
        Format::AnthropicMessages => &ANTHROPIC,
        Format::Gemini => &GEMINI,
    }
}

/// Returns true if providers are sent a client's header of that name, in lower case. `format` is the
/// one that client and provider share; `None` if the request was translated.
#[must_use]
pub fn passes_header(format: Option<Format>, name: &str) -> bool {
    let begins = |prefix: &&str| name.starts_with(prefix);
    if HEADERS.contains(&name) || HEADER_PREFIXES.iter().any(begins) {
        return true;
    }
    let Some(names) = format.map(names_of) else {
        return false;
    };
    names.headers.contains(&name)
        || (names.header_prefixes.iter().any(begins) && withheld_header(name).is_none())
}

/// Returns true if providers are sent a client's query parameter of that decoded name, in a request
/// of `format`.
#[must_use]
pub fn passes_parameter(format: Format, name: &str) -> bool {
    let known = names_of(format).parameters;
    known.iter().any(|known| name.eq_ignore_ascii_case(known)) && !is_credential_parameter(name)
}

/// Returns the reason for which a header, its name in lower case, is never passed on; `None` if the
/// configuration may allow it.
#[must_use]
pub fn withheld_header(name: &str) -> Option<Withheld> {
    if CONNECTION.contains(&name) || name.starts_with("x-llm-router-") {
        Some(Withheld::Connection)
    } else if is_credential(name) {
        Some(Withheld::Credential)
    } else if ACCOUNTS.contains(&name) {
        Some(Withheld::Account)
    } else if ADDRESSES.contains(&name) || name.starts_with("x-forwarded-") {
        Some(Withheld::Address)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sdks_and_agents_reach_providers_of_their_own_format() {
        use Format::{AnthropicMessages, Gemini, OpenAiChat, OpenAiResponses};
        for (format, names) in [
            (OpenAiChat, "openai-beta x-stainless-lang user-agent accept"),
            (
                OpenAiResponses,
                "originator session_id x-codex-turn-metadata",
            ),
            (AnthropicMessages, "anthropic-beta anthropic-version x-app"),
            (AnthropicMessages, "x-claude-code-session-id"),
            (Gemini, "x-goog-api-client content-type"),
        ] {
            for name in names.split(' ') {
                assert!(passes_header(Some(format), name), "{format} {name}");
            }
        }
        for name in ["anthropic-beta", "openai-beta", "x-goog-api-client"] {
            assert!(!passes_header(None, name), "{name}");
        }
        assert!(passes_header(None, "x-stainless-lang"));
    }

    #[test]
    fn accounts_addresses_and_credentials_reach_no_provider() {
        let others = [
            "referer",
            "origin",
            "upgrade",
            "te",
            "connection",
            "x-request-id",
            "x-llm-router-tags",
            "x-internal-tenant",
            "x-codex-access-token",
            "x-forwarded-for",
            "x-amz-security-token",
        ];
        let all = Format::ALL.map(Some).into_iter().chain([None]);
        for format in all {
            for name in others.iter().chain(&ACCOUNTS).chain(&ADDRESSES) {
                assert!(!passes_header(format, name), "{format:?} {name}");
            }
        }
    }

    #[test]
    fn documented_parameters_pass_and_keys_do_not() {
        use Format::{AnthropicMessages, Gemini, OpenAiChat};
        for (format, name, passes) in [
            (AnthropicMessages, "beta", true),
            (OpenAiChat, "api-version", true),
            (OpenAiChat, "include[]", true),
            (Gemini, "alt", true),
            (Gemini, "pageToken", true),
            (Gemini, "key", false),
            (OpenAiChat, "key", false),
            (OpenAiChat, "access_token", false),
            (OpenAiChat, "beta", false),
            (OpenAiChat, "tenant", false),
        ] {
            assert_eq!(passes_parameter(format, name), passes, "{format} {name}");
        }
    }

    #[test]
    fn the_configuration_can_not_allow_what_is_withheld() {
        for (name, expected) in [
            ("host", Some(Withheld::Connection)),
            ("x-llm-router-tags", Some(Withheld::Connection)),
            ("authorization", Some(Withheld::Credential)),
            ("x-vault-token", Some(Withheld::Credential)),
            ("openai-project", Some(Withheld::Account)),
            ("x-forwarded-host", Some(Withheld::Address)),
            ("x-title", None),
            ("http-referer", None),
        ] {
            assert_eq!(withheld_header(name), expected, "{name}");
        }
    }
}
