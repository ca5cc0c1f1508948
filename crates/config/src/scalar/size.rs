//! Sizes in bytes.

use std::fmt;

use llm_router_yaml::ValueError;

use super::TextSetting;

/// A number of bytes: `1048576`, `64KiB`, `32MiB`, `1GiB`, `10MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

/// Binary units come first because sizes are printed with those.
const UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl TextSetting for ByteSize {
    const FORMAT: &'static str = "byte-size";
    const TYPES: &'static [&'static str] = &["string", "integer"];
    const EXAMPLES: &'static [&'static str] = &["32MiB", "64KiB", "1048576"];

    fn parse(text: &str) -> Result<Self, ValueError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| not_a_size())?;
        let factor = match unit.trim() {
            "" => 1,
            unit => factor_of(unit).ok_or_else(not_a_size)?,
        };
        let bytes = number.checked_mul(factor).ok_or_else(not_a_size)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divides =
            |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        match UNITS.iter().take(3).find(divides) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

fn factor_of(name: &str) -> Option<u64> {
    let unit = UNITS.iter().find(|(unit, _)| *unit == name)?;
    Some(unit.1)
}

fn not_a_size() -> ValueError {
    ValueError::new(
        "is not a size",
        "write a whole number of bytes, or of KiB, MiB or GiB, for example 32MiB",
    )
}

#[cfg(test)]
mod tests {
    use super::super::assert_texts;
    use super::*;

    #[test]
    fn sizes() {
        assert_texts::<ByteSize>(
            &[
                ("0", |size| size.0 == 0),
                ("17", |size| size.0 == 17),
                ("64KiB", |size| size.0 == 65_536),
                ("32 MiB", |size| size.0 == 33_554_432),
                ("10MB", |size| size.0 == 10_000_000),
                ("1B", |size| size.0 == 1),
            ],
            &[
                ("", "is not a size"),
                ("MiB", "is not a size"),
                ("1.5MiB", "is not a size"),
                ("-1", "is not a size"),
                ("32MEG", "KiB, MiB or GiB"),
                ("99999999999999999999", "is not a size"),
                ("99999999999GiB", "is not a size"),
            ],
        );
        assert_eq!(ByteSize(33_554_432).to_string(), "32MiB");
        assert_eq!(ByteSize(1_000).to_string(), "1000");
        assert_eq!(ByteSize(0).to_string(), "0");
    }
}
