//! Names of headers and query parameters that carry credentials. The one list of them, for whatever
//! passes on, matches or shows parts of a request; it holds no values and reads none.

/// The headers that a client's key may come in besides `authorization`.
pub const KEY_HEADERS: [&str; 2] = ["x-api-key", "api-key"];

/// Headers that carry a credential, in lower case: the keys that we issue, wherever a client may put
/// one; what clients and providers know each other by; the sessions and proxies on the way to us.
pub const CREDENTIALS: [&str; 9] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-llm-router-key",
    "x-amz-security-token",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

/// Endings of other names that say the same of themselves: `x-forwarded-access-token`,
/// `cf-access-client-secret`, `ocp-apim-subscription-key`, `helicone-auth`.
const ENDINGS: [&str; 14] = [
    "token",
    "secret",
    "password",
    "auth",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "jwt-assertion",
    "api-key",
    "apikey",
    "access-key",
    "subscription-key",
];

/// Query parameters that carry a credential: Gemini's `key`, what Google's APIs and RFC 6750
/// (section 2.3) call an access token, and the names that `api-key` has in a query.
const PARAMETERS: [&str; 4] = ["key", "access-token", "api-key", "apikey"];

/// Returns whether a header carries a credential, by its name in any case: one of [`CREDENTIALS`],
/// or a name that says so of itself by its ending.
#[must_use]
pub fn is_credential(name: &str) -> bool {
    let known = CREDENTIALS.iter().any(|known| is(name, known));
    known || ENDINGS.iter().any(|ending| ends_with(name, ending))
}

/// Returns whether a parameter of a query carries a credential, by its decoded name in any case.
#[must_use]
pub fn is_credential_parameter(name: &str) -> bool {
    PARAMETERS.iter().any(|known| is(name, known))
}

fn is(name: &str, known: &str) -> bool {
    name.len() == known.len() && ends_with(name, known)
}

/// An underscore counts as a hyphen: servers behind CGI take one for the other.
fn ends_with(name: &str, ending: &str) -> bool {
    let fold = |byte: u8| match byte {
        b'_' => b'-',
        other => other.to_ascii_lowercase(),
    };
    let Some(start) = name.len().checked_sub(ending.len()) else {
        return false;
    };
    let tail = name.bytes().skip(start).map(fold);
    tail.eq(ending.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_in_any_case() {
        for name in CREDENTIALS.iter().chain(&KEY_HEADERS).chain(&[
            "Authorization",
            "X-API-Key",
            "x_api_key",
            "PROXY-AUTHORIZATION",
            "x-auth-token",
            "x-forwarded-access-token",
            "x-forwarded-authorization",
            "x-amzn-oidc-accesstoken",
            "X-Goog-IAP-JWT-Assertion",
            "cf-access-client-secret",
            "ocp-apim-subscription-key",
            "helicone-auth",
            "x-litellm-api-key",
            "apikey",
        ]) {
            assert!(is_credential(name), "{name}");
        }
    }

    #[test]
    fn other_headers_are_not() {
        for name in [
            "",
            "x-region",
            "x-user",
            "x-key",
            "key",
            "idempotency-key",
            "x-routing-key",
            "x-max-tokens",
            "x-token-budget",
            "x-session-id",
            "author",
            "x-author",
            "anthropic-version",
            "www-authenticate",
            "authorization-mode",
        ] {
            assert!(!is_credential(name), "{name}");
        }
    }

    #[test]
    fn keys_come_in_headers_that_are_on_the_list() {
        assert!(KEY_HEADERS.iter().all(|name| CREDENTIALS.contains(name)));
        let folded = |name: &&str| *name == name.to_ascii_lowercase() && !name.contains('_');
        assert!(
            CREDENTIALS
                .iter()
                .chain(&ENDINGS)
                .chain(&PARAMETERS)
                .all(folded)
        );
    }

    #[test]
    fn parameters_are_known_by_their_whole_name() {
        for name in ["key", "KEY", "api_key", "api-key", "apikey", "access_token"] {
            assert!(is_credential_parameter(name), "{name}");
        }
        for name in [
            "",
            "alt",
            "beta",
            "page_token",
            "pageToken",
            "after",
            "api-version",
            "keys",
        ] {
            assert!(!is_credential_parameter(name), "{name}");
        }
    }
}
