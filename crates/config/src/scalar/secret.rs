//! Texts that nobody may see: keys, credentials, header values.

use secrecy::SecretString;

use super::TextSetting;
use crate::findings::Wrong;

/// The value of a header sent to a provider; it may be a credential.
#[derive(Clone, Debug)]
pub(crate) struct HeaderValue(pub(crate) SecretString);

/// A key or a credential. The empty text stands for none.
impl TextSetting for SecretString {
    const FORMAT: &'static str = "secret";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(text.into());
        }
        Err(Wrong::new(
            "has spaces or characters that no HTTP header can carry",
            "check for a stray space, line end or quote",
        ))
    }
}

impl TextSetting for HeaderValue {
    const FORMAT: &'static str = "header-value";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Wrong> {
        let printable = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if printable && text.trim() == text {
            return Ok(Self(text.into()));
        }
        Err(Wrong::new(
            "has characters that no HTTP header can carry",
            "use printable ASCII, without spaces at its ends",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::assert_texts;
    use super::*;

    #[test]
    fn secrets() {
        assert_texts::<SecretString>(
            &[("sk-proj_a.b/c+d=", |_| true), ("", |_| true)],
            &[
                ("sk a", "spaces"),
                ("sk-a\n", "line end"),
                ("schlüssel", "HTTP header"),
            ],
        );
        assert_texts::<HeaderValue>(
            &[("a b", |_| true), ("", |_| true)],
            &[
                (" a", "at its ends"),
                ("a\r\nb: c", "HTTP header"),
                ("é", "ASCII"),
            ],
        );
    }
}
