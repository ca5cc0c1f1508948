//! Response headers as the providers send them: request ids, limits, `retry-after`.

use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use llm_router_domain::format::Format;

use crate::{clock, control::RetryAfter, prose};

/// Streams are not to be cached.
pub(crate) const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// Statuses that come with a `retry-after` of one second, unless a control says otherwise.
const WITH_RETRY: [u16; 3] = [429, 503, 529];

/// The headers around every answer of a provider.
pub(crate) fn provider(format: Format, status: u16, rng: &mut Rng) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    let exhausted = status == 429;
    match format {
        Format::AnthropicMessages => anthropic(&mut headers, exhausted, rng),
        Format::Gemini => gemini(&mut headers),
        _ => openai(&mut headers, exhausted, rng),
    }
    headers
}

/// A request's id as the provider makes them.
pub(crate) fn request_id(format: Format, rng: &mut Rng) -> String {
    match format {
        Format::AnthropicMessages => prose::id("req_011", 21, rng),
        _ => format!(
            "req_{}",
            prose::hex(&std::array::from_fn::<u8, 16, _>(|_| rng.u8(..)))
        ),
    }
}

/// Adds `retry-after`, in whole seconds rounded up, and OpenAI's `retry-after-ms` where seconds
/// do not say it all.
pub(crate) fn retry_after(headers: &mut HeaderMap, asked: Option<RetryAfter>, status: u16) {
    let wait = match asked {
        Some(RetryAfter::Never) => return,
        Some(RetryAfter::After(wait)) => wait,
        None if WITH_RETRY.contains(&status) => std::time::Duration::from_secs(1),
        None => return,
    };
    let ms = wait.as_millis();
    headers.insert(header::RETRY_AFTER, number(ms.div_ceil(1_000)));
    if !ms.is_multiple_of(1_000) {
        headers.insert(HeaderName::from_static("retry-after-ms"), number(ms));
    }
}

fn openai(headers: &mut HeaderMap, exhausted: bool, rng: &mut Rng) {
    let remaining = if exhausted { "0" } else { "9999" };
    let reset = if exhausted { "1s" } else { "6ms" };
    for (name, value) in [
        ("openai-version", "2020-10-01"),
        ("openai-processing-ms", "12"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("x-ratelimit-remaining-requests", remaining),
        ("x-ratelimit-remaining-tokens", "1999000"),
        ("x-ratelimit-reset-requests", reset),
        ("x-ratelimit-reset-tokens", "30ms"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    insert_id(
        headers,
        "x-request-id",
        &request_id(Format::OpenAiChat, rng),
    );
}

fn gemini(headers: &mut HeaderMap) {
    for (name, value) in [
        ("server", "scaffolding on HTTPServer2"),
        ("server-timing", "gfet4t7; dur=12"),
        ("vary", "Origin, X-Origin, Referer"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
}

fn anthropic(headers: &mut HeaderMap, exhausted: bool, rng: &mut Rng) {
    let remaining = if exhausted { "0" } else { "3999" };
    for (name, value) in [
        ("anthropic-ratelimit-requests-limit", "4000"),
        ("anthropic-ratelimit-requests-remaining", remaining),
        ("anthropic-ratelimit-input-tokens-limit", "2000000"),
        ("anthropic-ratelimit-input-tokens-remaining", "1999000"),
        ("anthropic-ratelimit-output-tokens-limit", "400000"),
        ("anthropic-ratelimit-output-tokens-remaining", "399000"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    if let Some(reset) = reset_time() {
        for name in [
            "anthropic-ratelimit-requests-reset",
            "anthropic-ratelimit-input-tokens-reset",
            "anthropic-ratelimit-output-tokens-reset",
        ] {
            headers.insert(HeaderName::from_static(name), reset.clone());
        }
    }
    insert_id(
        headers,
        "request-id",
        &request_id(Format::AnthropicMessages, rng),
    );
}

/// The next second, when a limit is full again.
fn reset_time() -> Option<HeaderValue> {
    let seconds = i64::try_from(clock::unix_seconds()).ok()?.checked_add(1)?;
    HeaderValue::try_from(Timestamp::from_second(seconds).ok()?.to_string()).ok()
}

fn insert_id(headers: &mut HeaderMap, name: &'static str, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static(name), id);
    }
}

fn number(number: u128) -> HeaderValue {
    HeaderValue::from(u64::try_from(number).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn retry_after_is_in_seconds_and_where_needed_in_milliseconds() {
        let sent = |asked, status| {
            let mut headers = HeaderMap::new();
            retry_after(&mut headers, asked, status);
            let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
            (text("retry-after"), text("retry-after-ms"))
        };
        let after = |ms| Some(RetryAfter::After(Duration::from_millis(ms)));
        assert_eq!(sent(after(2_000), 500), (Some("2".into()), None));
        assert_eq!(
            sent(after(1_500), 200),
            (Some("2".into()), Some("1500".into()))
        );
        assert_eq!(sent(None, 429), (Some("1".into()), None));
        assert_eq!(sent(None, 500), (None, None));
        assert_eq!(sent(Some(RetryAfter::Never), 429), (None, None));
    }

    #[test]
    fn resets_are_rfc_3339() {
        let reset = reset_time().unwrap();
        assert!(reset.to_str().unwrap().parse::<Timestamp>().is_ok());
    }
}
