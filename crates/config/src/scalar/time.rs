//! Lengths of time and timestamps.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use llm_router_yaml::ValueError;

use super::TextSetting;

/// The longest time, which can be added to any clock without overflow. No setting needs more.
const LONGEST: Duration = Duration::from_secs(3_660 * 86_400);

/// Units and their length in milliseconds.
const UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A length of time: `500ms`, `10s`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimeSpan(pub(crate) Duration);

impl TextSetting for TimeSpan {
    const FORMAT: &'static str = "time-span";
    const EXAMPLES: &'static [&'static str] = &["500ms", "10s", "10m", "1h30m"];

    fn parse(text: &str) -> Result<Self, ValueError> {
        let mut rest = text.trim();
        let mut total = 0_u64;
        if rest.is_empty() {
            return Err(not_a_time());
        }
        while !rest.is_empty() {
            let (millis, after) = leading_part(rest).ok_or_else(not_a_time)?;
            total = total.checked_add(millis).ok_or_else(not_a_time)?;
            rest = after;
        }
        let span = Duration::from_millis(total);
        if span > LONGEST {
            return Err(ValueError::new("is too long", "write at most 3660d"));
        }
        Ok(Self(span))
    }
}

impl TextSetting for Timestamp {
    const FORMAT: &'static str = "date-time";
    const EXAMPLES: &'static [&'static str] = &["2027-01-31T00:00:00Z"];

    fn parse(text: &str) -> Result<Self, ValueError> {
        text.parse().map_err(|_| {
            ValueError::new(
                "is not a timestamp",
                "write it in RFC 3339 format, for example 2027-01-31T00:00:00Z",
            )
        })
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, length) in UNITS.iter().rev() {
            let length = u128::from(*length);
            if millis >= length {
                write!(f, "{}{unit}", millis / length)?;
                millis %= length;
            }
        }
        Ok(())
    }
}

/// Parses a whole number with its unit. Returns it in milliseconds, and the rest of the text.
fn leading_part(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (unit, rest) = rest.split_at(letters);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let number: u64 = number.parse().ok()?;
    Some((number.checked_mul(*factor)?, rest))
}

fn not_a_time() -> ValueError {
    ValueError::new(
        "is not a time",
        "write whole numbers with ms, s, m, h or d, for example 500ms, 10s or 1h30m",
    )
}

#[cfg(test)]
mod tests {
    use super::super::assert_texts;
    use super::*;

    #[test]
    fn spans() {
        assert_texts::<TimeSpan>(
            &[
                ("0s", |span| span.0.is_zero()),
                ("500ms", |span| span.0.as_millis() == 500),
                ("10s", |span| span.0.as_secs() == 10),
                ("10m", |span| span.0.as_secs() == 600),
                ("1h30m", |span| span.0.as_secs() == 5_400),
                ("7d", |span| span.0.as_secs() == 604_800),
            ],
            &[
                ("", "is not a time"),
                ("10", "is not a time"),
                ("s", "is not a time"),
                ("1.5s", "is not a time"),
                ("-1s", "is not a time"),
                ("3 parsecs", "500ms, 10s"),
                ("3661d", "is too long"),
                ("99999999999999999999d", "is not a time"),
                ("18446744073709551615ms1ms", "is not a time"),
            ],
        );
        for text in ["1d2h3m4s5ms", "10m", "0s"] {
            assert_eq!(TimeSpan::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn timestamps() {
        assert_texts::<Timestamp>(
            &[("2027-01-31T00:00:00Z", |time| {
                time.as_second() == 1_801_353_600
            })],
            &[
                ("2027-01-31", "RFC 3339"),
                ("soon", "RFC 3339"),
                ("", "RFC 3339"),
            ],
        );
    }
}
