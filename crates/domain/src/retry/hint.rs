//! Time to wait that the headers of a refusal name. It must not judge statuses.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};

/// No hint rests a deployment for longer than this; then it is asked again.
const LONGEST: Duration = Duration::from_secs(3_600);
/// A limit's reset is the time until it is full again. Room for a request comes sooner, so no reset
/// rests a deployment for longer than this.
const LONGEST_RESET: Duration = Duration::from_secs(60);

/// Limits that headers tell of: what remains, and when it is full again. OpenAI and those that
/// follow it; Anthropic; OpenRouter; the draft of the IETF.
const LIMITS: [(&str, &str); 8] = [
    (
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    (
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ),
    (
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ),
    (
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ),
    (
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    ),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
];

/// Returns the wait named by `retry-after-ms` or `retry-after`, in seconds or as an HTTP date (RFC
/// 9110 section 10.2.3). `get` finds a header's value by its lower-case name.
pub fn retry_after<'h>(get: impl Fn(&str) -> Option<&'h str>, now: Timestamp) -> Option<Duration> {
    let millis = get("retry-after-ms")
        .and_then(number)
        .map(|millis| millis / 1_000.0);
    if let Some(seconds) = millis {
        return Some(clamp_seconds(seconds, LONGEST));
    }
    let value = get("retry-after")?.trim();
    let seconds = number(value).or_else(|| {
        let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
        Some(seconds_until(date, now))
    });
    seconds.map(|seconds| clamp_seconds(seconds, LONGEST))
}

/// Returns the wait named by the headers of a 429: [`retry_after`], or else the time until the
/// exhausted limits reset.
pub fn limit_wait<'h>(get: impl Fn(&str) -> Option<&'h str>, now: Timestamp) -> Option<Duration> {
    retry_after(&get, now).or_else(|| {
        let used_up = LIMITS.iter().filter(|(remaining, _)| {
            get(remaining)
                .and_then(number)
                .is_some_and(|remaining| remaining < 1.0)
        });
        let resets = used_up.filter_map(|(_, reset)| reset_in(get(reset)?.trim(), now));
        resets
            .max_by(f64::total_cmp)
            .map(|seconds| clamp_seconds(seconds, LONGEST_RESET))
    })
}

/// Seconds until a reset: a duration such as `6m0s` or `12ms`, seconds, an RFC 3339 time, or a
/// Unix time in seconds or milliseconds.
fn reset_in(value: &str, now: Timestamp) -> Option<f64> {
    if let Some(number) = number(value) {
        let unix = now.as_second() as f64;
        return Some(match number {
            millis if millis > 1e12 => millis / 1_000.0 - unix,
            seconds if seconds > 1e9 => seconds - unix,
            seconds => seconds,
        });
    }
    if let Ok(time) = value.parse::<Timestamp>() {
        return Some(seconds_until(time, now));
    }
    let duration: SignedDuration = value.parse().ok()?;
    Some(duration.as_secs_f64())
}

fn seconds_until(time: Timestamp, now: Timestamp) -> f64 {
    time.duration_since(now).as_secs_f64()
}

fn number(value: &str) -> Option<f64> {
    let number: f64 = value.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

fn clamp_seconds(seconds: f64, longest: Duration) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).map_or(longest, |time| time.min(longest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: &str = "2026-03-01T12:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn get<'h>(headers: &[(&str, &'h str)]) -> impl Fn(&str) -> Option<&'h str> {
        move |name| {
            headers
                .iter()
                .find(|header| header.0 == name)
                .map(|header| header.1)
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn waits_are_read() {
        type Row = (&'static [(&'static str, &'static str)], Option<u64>);
        let table: [Row; 28] = [
            (&[], None),
            (&[("retry-after", "20")], Some(20_000)),
            (&[("retry-after", " 1.5 ")], Some(1_500)),
            (&[("retry-after", "0")], Some(0)),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "inf")], None),
            (&[("retry-after", "86400")], Some(3_600_000)),
            (&[("retry-after", "1e300")], Some(3_600_000)),
            (
                &[("retry-after", "Sun, 01 Mar 2026 12:00:30 GMT")],
                Some(30_000),
            ),
            (&[("retry-after", "Sun, 01 Mar 2026 11:00:00 GMT")], Some(0)),
            (
                &[("retry-after-ms", "250"), ("retry-after", "20")],
                Some(250),
            ),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "12ms"),
                ],
                Some(12),
            ),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "6m0s"),
                ],
                Some(60_000),
            ),
            (
                &[
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "1m2.5s"),
                ],
                Some(60_000),
            ),
            (
                &[
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "7.66s"),
                ],
                Some(7_660),
            ),
            (
                &[
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "1s"),
                ],
                Some(1_000),
            ),
            (
                &[
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "30"),
                ],
                Some(30_000),
            ),
            (
                &[
                    ("x-ratelimit-remaining-tokens", "9"),
                    ("x-ratelimit-reset-tokens", "1s"),
                ],
                None,
            ),
            (&[("x-ratelimit-reset-tokens", "1s")], None),
            (
                &[
                    ("x-ratelimit-remaining-requests", "-1"),
                    ("x-ratelimit-reset-requests", "0"),
                ],
                None,
            ),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "4s"),
                ],
                Some(4_000),
            ),
            (
                &[
                    ("anthropic-ratelimit-tokens-remaining", "0"),
                    ("anthropic-ratelimit-tokens-reset", "2026-03-01T12:00:42Z"),
                ],
                Some(42_000),
            ),
            (
                &[
                    ("anthropic-ratelimit-requests-remaining", "0"),
                    ("anthropic-ratelimit-requests-reset", "2026-03-01T11:00:42Z"),
                ],
                Some(0),
            ),
            (
                &[
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "1772366410000"),
                ],
                Some(10_000),
            ),
            (
                &[
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "1772366410"),
                ],
                Some(10_000),
            ),
            (
                &[
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "later"),
                ],
                None,
            ),
        ];
        for (headers, want) in table {
            let wait = limit_wait(get(headers), now());
            let millis = wait.map(|wait| wait.as_secs_f64() * 1_000.0);
            let want = want.map(|want| want as f64);
            let near = match (millis, want) {
                (Some(millis), Some(want)) => (millis - want).abs() < 0.01,
                (millis, want) => millis == want,
            };
            assert!(near, "{headers:?}: {millis:?}, want {want:?}");
        }
    }

    #[test]
    fn only_a_retry_after_speaks_for_itself() {
        let limits = [
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "1s"),
        ];
        assert_eq!(retry_after(get(&limits), now()), None);
        assert!(limit_wait(get(&limits), now()).is_some());
    }

    proptest! {
        #[test]
        fn any_header_is_survived(value in "\\PC{0,40}|[0-9hmsTZ:.,+-]{0,24}") {
            for (remaining, reset) in LIMITS {
                let headers = [(remaining, "0"), (reset, value.as_str())];
                prop_assert!(limit_wait(get(&headers), now()).is_none_or(|wait| wait <= LONGEST_RESET));
            }
            let headers = [("retry-after", value.as_str())];
            prop_assert!(retry_after(get(&headers), now()).is_none_or(|wait| wait <= LONGEST));
        }
    }
}
