//! Controls of a single request, read from its model name and its `x-mock-*` headers. The grammar
//! is documented in the crate's root. It must not carry them out: `service` and `body` do.

use std::time::Duration;

use http::HeaderMap;

use crate::usage::UsageControl;

/// The longest wait a control can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// The most bytes and tokens a control can ask for.
const LONGEST_ANSWER: u64 = 256 << 20;

/// Names and meanings, in the order of the crate's documentation.
const NAMES: &str = "status, retry_after, delay, first_token, token_delay, tokens, usage, \
    no_usage, reset, reset_after, hang, hang_after, cut_after, cut_bytes, error_event, \
    error_after, end_after, empty, html, gzip, split, split_delay, fail_first, fail_every, key, chunked, pad, echo, stamp, tools, seed";

/// Controls of a request; `None` leaves a setting to the next source and finally to the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Controls {
    pub(crate) failure: Option<ForcedFailure>,
    pub(crate) status: Option<u16>,
    pub(crate) retry_after: Option<RetryAfter>,
    pub(crate) delay: Option<Duration>,
    pub(crate) first_token: Option<Duration>,
    pub(crate) token_delay: Option<Duration>,
    pub(crate) tokens: Option<u64>,
    pub(crate) usage: Option<UsageControl>,
    pub(crate) no_usage: Option<bool>,
    pub(crate) split: Option<ChunkSplit>,
    pub(crate) split_delay: Option<Duration>,
    pub(crate) fail_first: Option<u64>,
    pub(crate) fail_every: Option<u64>,
    pub(crate) key: Option<String>,
    pub(crate) chunked: Option<bool>,
    pub(crate) gzip: Option<bool>,
    pub(crate) pad: Option<u64>,
    pub(crate) echo: Option<bool>,
    pub(crate) stamp: Option<bool>,
    pub(crate) tools: Option<usize>,
    pub(crate) seed: Option<u64>,
}

/// Failure forced by a request. Counts are of events and bytes sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForcedFailure {
    /// An error answer of this status.
    Status(u16),
    /// A TCP reset instead of an answer.
    Reset,
    ResetAfter(u64),
    /// Silence instead of an answer.
    Hang,
    HangAfter(u64),
    CutAfter(u64),
    CutBytes(u64),
    /// An error event, then the end.
    ErrorAfter(u64),
    /// The end, as if the answer were whole.
    EndAfter(u64),
    /// A success without a body.
    Empty,
    /// A success whose body is a page.
    Html,
}

/// The `retry-after` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryAfter {
    /// Leave it out where it would be sent.
    Never,
    After(Duration),
}

/// In pieces of which size a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkSplit {
    Every(usize),
    Random,
}

impl Controls {
    /// Splits a model name into the model proper and its controls.
    pub(crate) fn from_model(model: &str) -> Result<(String, Self), String> {
        let mut controls = Self::default();
        let mut name = String::with_capacity(model.len());
        for (i, segment) in model.split(':').enumerate() {
            if i > 0 && controls.take_segment(segment)? {
                continue;
            }
            if i > 0 {
                name.push(':');
            }
            name.push_str(segment);
        }
        Ok((name, controls))
    }

    /// Reads controls without a model, in the grammar of the model name: `status=503:delay=1s`.
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        let mut controls = Self::default();
        for segment in text
            .split(':')
            .map(str::trim)
            .filter(|segment| !segment.is_empty())
        {
            if !controls.take_segment(segment)? {
                return Err(unknown(segment));
            }
        }
        Ok(controls)
    }

    /// Reads the `x-mock-*` headers.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, String> {
        let mut controls = Self::default();
        for (header, value) in headers {
            let Some(name) = header.as_str().strip_prefix("x-mock-") else {
                continue;
            };
            let value = value.to_str().map_err(|_| format!("{header} is no text"))?;
            controls.set(&name.replace('-', "_"), value.trim())?;
        }
        Ok(controls)
    }

    /// These controls, and `weaker` where these say nothing.
    pub(crate) fn or(self, weaker: Self) -> Self {
        Self {
            failure: self.failure.or(weaker.failure),
            status: self.status.or(weaker.status),
            retry_after: self.retry_after.or(weaker.retry_after),
            delay: self.delay.or(weaker.delay),
            first_token: self.first_token.or(weaker.first_token),
            token_delay: self.token_delay.or(weaker.token_delay),
            tokens: self.tokens.or(weaker.tokens),
            usage: self.usage.or(weaker.usage),
            no_usage: self.no_usage.or(weaker.no_usage),
            split: self.split.or(weaker.split),
            split_delay: self.split_delay.or(weaker.split_delay),
            fail_first: self.fail_first.or(weaker.fail_first),
            fail_every: self.fail_every.or(weaker.fail_every),
            key: self.key.or(weaker.key),
            chunked: self.chunked.or(weaker.chunked),
            gzip: self.gzip.or(weaker.gzip),
            pad: self.pad.or(weaker.pad),
            echo: self.echo.or(weaker.echo),
            stamp: self.stamp.or(weaker.stamp),
            tools: self.tools.or(weaker.tools),
            seed: self.seed.or(weaker.seed),
        }
    }

    /// Takes a segment of a model name if it is a control; `ft:gpt:org` has none.
    fn take_segment(&mut self, segment: &str) -> Result<bool, String> {
        if let Some((name, value)) = segment.split_once('=') {
            return self.set(name.trim(), value.trim()).map(|()| true);
        }
        let flag = is_flag(segment);
        if flag {
            self.set(segment, "1")?;
        }
        Ok(flag)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let known = self
            .set_pace(name, value)
            .and_then(|known| Ok(known || self.set_answer(name, value)?))
            .and_then(|known| Ok(known || self.set_failure(name, value)?))
            .map_err(|problem| format!("control {name} {problem}"))?;
        if known { Ok(()) } else { Err(unknown(name)) }
    }

    fn set_pace(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "delay" => self.delay = Some(wait(value)?),
            "first_token" => self.first_token = Some(wait(value)?),
            "token_delay" => self.token_delay = Some(wait(value)?),
            "split" => self.split = Some(split(value)?),
            "split_delay" => self.split_delay = Some(wait(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_answer(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "tokens" => self.tokens = Some(count(value)?.clamp(1, LONGEST_ANSWER)),
            "usage" => self.usage = Some(UsageControl::parse(value)?),
            "no_usage" => self.no_usage = Some(flag(value)?),
            "chunked" => self.chunked = Some(flag(value)?),
            "gzip" => self.gzip = Some(flag(value)?),
            "pad" => self.pad = Some(count(value)?.min(LONGEST_ANSWER)),
            "echo" => self.echo = Some(flag(value)?),
            "stamp" => self.stamp = Some(flag(value)?),
            "tools" => self.tools = Some(usize::try_from(count(value)?.min(64)).unwrap_or(64)),
            "seed" => self.seed = Some(count(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_failure(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "fail_first" => self.fail_first = Some(count(value)?),
            "fail_every" => self.fail_every = Some(count(value)?.max(1)),
            "key" => self.key = Some(value.to_owned()),
            "retry_after" => self.retry_after = Some(retry_after(value)?),
            "status" => self.set_status(value)?,
            "reset" if flag(value)? => self.fail(ForcedFailure::Reset)?,
            "hang" if flag(value)? => self.fail(ForcedFailure::Hang)?,
            "error_event" if flag(value)? => self.fail(ForcedFailure::ErrorAfter(0))?,
            "empty" if flag(value)? => self.fail(ForcedFailure::Empty)?,
            "html" if flag(value)? => self.fail(ForcedFailure::Html)?,
            "reset" | "hang" | "error_event" | "empty" | "html" => {}
            "end_after" => self.fail(ForcedFailure::EndAfter(count(value)?))?,
            "reset_after" => self.fail(ForcedFailure::ResetAfter(count(value)?))?,
            "hang_after" => self.fail(ForcedFailure::HangAfter(count(value)?))?,
            "cut_after" => self.fail(ForcedFailure::CutAfter(count(value)?))?,
            "cut_bytes" => self.fail(ForcedFailure::CutBytes(count(value)?))?,
            "error_after" => self.fail(ForcedFailure::ErrorAfter(count(value)?))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_status(&mut self, value: &str) -> Result<(), String> {
        match value.parse() {
            Ok(status @ 200..=399) => {
                self.status = Some(status);
                Ok(())
            }
            Ok(status @ 400..=599) => self.fail(ForcedFailure::Status(status)),
            _ => Err("takes a status from 200 to 599".to_owned()),
        }
    }

    fn fail(&mut self, failure: ForcedFailure) -> Result<(), String> {
        match self.failure.replace(failure) {
            None => Ok(()),
            Some(_) => Err("is a second failure; a request fails in one way".to_owned()),
        }
    }
}

fn unknown(name: &str) -> String {
    format!("unknown control `{name}`; known: {NAMES}")
}

/// Controls that need no value in a model name.
fn is_flag(segment: &str) -> bool {
    matches!(
        segment,
        "no_usage"
            | "chunked"
            | "echo"
            | "stamp"
            | "tools"
            | "reset"
            | "hang"
            | "error_event"
            | "empty"
            | "html"
            | "gzip"
    )
}

fn flag(value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("is on or off".to_owned()),
    }
}

fn count(value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| "takes a whole number".to_owned())
}

fn split(value: &str) -> Result<ChunkSplit, String> {
    if value == "random" {
        return Ok(ChunkSplit::Random);
    }
    match value.parse() {
        Ok(bytes @ 1..) => Ok(ChunkSplit::Every(bytes)),
        _ => Err("takes a number of bytes or `random`".to_owned()),
    }
}

fn retry_after(value: &str) -> Result<RetryAfter, String> {
    if value == "none" {
        return Ok(RetryAfter::Never);
    }
    let seconds = value.parse().map(Duration::from_secs).ok();
    Ok(RetryAfter::After(
        seconds.map_or_else(|| wait(value), Ok)?.min(LONGEST_WAIT),
    ))
}

/// Reads `250`, `250ms`, `1.5s`, `80us`, `2m`: milliseconds where no unit is named.
fn wait(value: &str) -> Result<Duration, String> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &value[digits.len()..] {
        "" | "ms" => 0.001,
        "us" => 0.000_001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("takes a duration such as 200ms, 1.5s or 2m".to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| "takes a duration".to_owned())?;
    let wait = Duration::try_from_secs_f64(number * unit);
    Ok(wait
        .map_err(|_| "takes a duration".to_owned())?
        .min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::usage::MockUsage;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parsed = pairs.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        });
        parsed.collect()
    }

    #[test]
    fn a_model_name_carries_controls_and_keeps_its_own_colons() {
        let (name, controls) =
            Controls::from_model("ft:mock-gpt:org:status=429:delay=200ms:stamp::x").unwrap();
        assert_eq!(name, "ft:mock-gpt:org::x");
        assert_eq!(controls.failure, Some(ForcedFailure::Status(429)));
        assert_eq!(controls.delay, Some(Duration::from_millis(200)));
        assert_eq!(controls.stamp, Some(true));
    }

    #[test]
    fn the_first_segment_is_always_the_model() {
        let (name, controls) = Controls::from_model("reset").unwrap();
        assert_eq!((name.as_str(), controls), ("reset", Controls::default()));
    }

    #[test]
    fn every_failure_is_read() {
        for (text, failure) in [
            ("status=503", ForcedFailure::Status(503)),
            ("reset", ForcedFailure::Reset),
            ("reset_after=3", ForcedFailure::ResetAfter(3)),
            ("hang", ForcedFailure::Hang),
            ("hang_after=0", ForcedFailure::HangAfter(0)),
            ("cut_after=2", ForcedFailure::CutAfter(2)),
            ("cut_bytes=99", ForcedFailure::CutBytes(99)),
            ("error_event", ForcedFailure::ErrorAfter(0)),
            ("error_after=4", ForcedFailure::ErrorAfter(4)),
            ("end_after=1", ForcedFailure::EndAfter(1)),
            ("empty", ForcedFailure::Empty),
            ("html", ForcedFailure::Html),
        ] {
            assert_eq!(
                Controls::from_text(text).unwrap().failure,
                Some(failure),
                "{text}"
            );
        }
    }

    #[test]
    fn every_other_control_is_read() {
        let read = Controls::from_text(
            "status=201:retry_after=2:delay=5:first_token=1s:token_delay=80us:tokens=7:\
             usage=input=9,output=2:no_usage:split=3:split_delay=1ms:fail_first=2:fail_every=3:key=a:chunked:\
             gzip:pad=10:echo:stamp:tools=2:seed=4",
        );
        let wanted = Controls {
            failure: None,
            status: Some(201),
            retry_after: Some(RetryAfter::After(Duration::from_secs(2))),
            delay: Some(Duration::from_millis(5)),
            first_token: Some(Duration::from_secs(1)),
            token_delay: Some(Duration::from_micros(80)),
            tokens: Some(7),
            usage: Some(UsageControl::Exact(MockUsage {
                input: 9,
                output: 2,
                ..MockUsage::default()
            })),
            no_usage: Some(true),
            split: Some(ChunkSplit::Every(3)),
            split_delay: Some(Duration::from_millis(1)),
            fail_first: Some(2),
            fail_every: Some(3),
            key: Some("a".to_owned()),
            chunked: Some(true),
            gzip: Some(true),
            pad: Some(10),
            echo: Some(true),
            stamp: Some(true),
            tools: Some(2),
            seed: Some(4),
        };
        assert_eq!(read, Ok(wanted));
    }

    #[test]
    fn headers_win_over_the_model_name() {
        let (_, model) = Controls::from_model("m:status=500:delay=1s:stamp").unwrap();
        let header = Controls::from_headers(&headers(&[
            ("x-mock-reset-after", "2"),
            ("x-mock-stamp", "off"),
            ("x-mock-first_token", "7ms"),
            ("accept", "x"),
        ]));
        let merged = header.unwrap().or(model);
        assert_eq!(merged.failure, Some(ForcedFailure::ResetAfter(2)));
        assert_eq!(merged.stamp, Some(false));
        assert_eq!(merged.first_token, Some(Duration::from_millis(7)));
        assert_eq!(merged.delay, Some(Duration::from_secs(1)));
    }

    #[test]
    fn mistakes_are_refused_by_name() {
        for (text, word) in [
            ("stauts=500", "stauts"),
            ("status=100", "status"),
            ("status=999", "status"),
            ("delay=fast", "delay"),
            ("delay=-1s", "delay"),
            ("delay=1h", "delay"),
            ("delay=NaN", "delay"),
            ("delay=1e300s", "delay"),
            ("split=0", "split"),
            ("tokens=many", "tokens"),
            ("stamp=maybe", "stamp"),
            ("usage=inptu=1", "inptu"),
            ("reset:hang", "second"),
            ("loud", "loud"),
        ] {
            let problem = Controls::from_text(text).unwrap_err();
            assert!(problem.contains(word), "{text}: {problem}");
        }
        assert!(Controls::from_headers(&headers(&[("x-mock-nope", "1")])).is_err());
    }

    #[test]
    fn retry_after_takes_seconds_or_a_duration_or_none() {
        let read = |text| Controls::from_text(text).unwrap().retry_after.unwrap();
        assert_eq!(
            read("retry_after=3"),
            RetryAfter::After(Duration::from_secs(3))
        );
        assert_eq!(
            read("retry_after=1500ms"),
            RetryAfter::After(Duration::from_millis(1500))
        );
        assert_eq!(read("retry_after=none"), RetryAfter::Never);
    }
}
