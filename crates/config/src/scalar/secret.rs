//! Texts that must not be shown: keys, credentials, header values.

use llm_router_yaml::ValueError;
use secrecy::SecretString;

use super::TextSetting;

/// The value of a header sent to a provider; it may be a credential.
#[derive(Clone, Debug)]
pub(crate) struct HeaderValue(pub(crate) SecretString);

/// A key or a credential; empty for none.
impl TextSetting for SecretString {
    const FORMAT: &'static str = "secret";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, ValueError> {
        if text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(text.into());
        }
        Err(ValueError::new(
            "contains spaces or characters that are not allowed in an HTTP header",
            "check for a stray space, line break or quote",
        ))
    }
}

impl TextSetting for HeaderValue {
    const FORMAT: &'static str = "header-value";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, ValueError> {
        let printable = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if printable && text.trim() == text {
            return Ok(Self(text.into()));
        }
        Err(ValueError::new(
            "contains characters that are not allowed in an HTTP header",
            "use printable ASCII, without spaces at either end",
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
                ("sk-a\n", "line break"),
                ("schlüssel", "HTTP header"),
            ],
        );
        assert_texts::<HeaderValue>(
            &[("a b", |_| true), ("", |_| true)],
            &[
                (" a", "at either end"),
                ("a\r\nb: c", "HTTP header"),
                ("é", "ASCII"),
            ],
        );
    }
}
