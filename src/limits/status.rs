//! Status of the limits, and the headers that tell clients of it: those that OpenAI's and Anthropic's SDKs
//! know.

use std::time::Duration;

use jiff::Timestamp;
use llm_router_domain::format::Format;
use llm_router_domain::limit::{Rate, RateCounter};
use llm_router_wire::formats::{self, ResetForm};

use crate::limits::usage::{ScopedLimits, Uses};

/// The tightest limit of requests and of tokens that a request is subject to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RateLimitStatus {
    requests: Option<Meter>,
    tokens: Option<Meter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meter {
    limit: u64,
    remaining: u64,
    reset: Duration,
}

impl Meter {
    fn of(counter: &mut RateCounter, rate: Rate, now: u64) -> Self {
        Self {
            limit: rate.per_minute(),
            remaining: counter.room(rate, now),
            reset: counter.time_to_empty(rate, now),
        }
    }
}

impl RateLimitStatus {
    pub(super) fn of(uses: &mut Uses, lines: &[ScopedLimits], now: u64) -> Self {
        let mut standing = Self::default();
        for line in lines {
            let used = uses.usage(&line.subject);
            if let Some(rate) = line.limits.requests {
                tighten(
                    &mut standing.requests,
                    Meter::of(&mut used.requests, rate, now),
                );
            }
            if let Some(rate) = line.limits.tokens {
                tighten(&mut standing.tokens, Meter::of(&mut used.tokens, rate, now));
            }
        }
        standing
    }

    /// The headers that tell a caller of this format.
    pub(crate) fn headers(
        &self,
        format: Format,
        wall: Timestamp,
    ) -> impl Iterator<Item = (&'static str, String)> {
        let names = formats::rate_limit_headers(format);
        let meters = [self.requests, self.tokens].into_iter();
        let meters = meters.zip([names.requests, names.tokens]);
        meters
            .filter_map(|(meter, names)| meter.map(|meter| (meter, names)))
            .flat_map(move |(meter, [limit, remaining, reset])| {
                let when = match names.reset {
                    ResetForm::Moment => moment(wall, meter.reset),
                    ResetForm::Span => span(meter.reset),
                };
                [
                    (limit, meter.limit.to_string()),
                    (remaining, meter.remaining.to_string()),
                    (reset, when),
                ]
            })
    }
}

fn tighten(kept: &mut Option<Meter>, other: Meter) {
    if kept.is_none_or(|kept| other.remaining < kept.remaining) {
        *kept = Some(other);
    }
}

/// A span as OpenAI writes it, which is how Go does: `12ms`, `1.5s`, `6m0s`.
fn span(span: Duration) -> String {
    let millis = span.as_nanos().div_ceil(1_000_000);
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let fraction = match millis % 1000 {
        0 => String::new(),
        part => format!(".{}", format!("{part:03}").trim_end_matches('0')),
    };
    let seconds = format!("{}{fraction}s", millis / 1000);
    match (minutes, millis) {
        (0, 1..1000) => format!("{millis}ms"),
        (0, _) => seconds,
        _ => format!("{minutes}m{seconds}"),
    }
}

/// A moment as Anthropic writes it: RFC 3339, to the second, not before it is reached.
fn moment(wall: Timestamp, span: Duration) -> String {
    let span = span + Duration::from_nanos(999_999_999);
    let when = wall.checked_add(span).unwrap_or(Timestamp::MAX);
    format!("{:.0}", when)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_openai_does() {
        for (micros, text) in [
            (0, "0s"),
            (1, "1ms"),
            (120_000, "120ms"),
            (1_000_000, "1s"),
            (8_640_000, "8.64s"),
            (360_000_000, "6m0s"),
            (61_005_000, "1m1.005s"),
        ] {
            assert_eq!(span(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn callers_are_told_in_their_own_headers() {
        let meter = Meter {
            limit: 600,
            remaining: 59,
            reset: Duration::from_millis(100),
        };
        let standing = RateLimitStatus {
            requests: Some(meter),
            tokens: None,
        };
        let wall = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let headers = |format| {
            let headers = standing.headers(format, wall);
            headers
                .map(|(name, value)| format!("{name}: {value}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            headers(Format::OpenAiChat),
            [
                "x-ratelimit-limit-requests: 600",
                "x-ratelimit-remaining-requests: 59",
                "x-ratelimit-reset-requests: 100ms"
            ]
        );
        assert_eq!(
            headers(Format::AnthropicMessages),
            [
                "anthropic-ratelimit-requests-limit: 600",
                "anthropic-ratelimit-requests-remaining: 59",
                "anthropic-ratelimit-requests-reset: 2026-01-01T00:00:01Z"
            ]
        );
    }
}
