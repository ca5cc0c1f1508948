//! Decides whether the arguments of a tool call, as far as they came, are whole. It must not check
//! that they are valid.

/// Counts brackets outside of strings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Balance {
    depth: u32,
    began: bool,
    in_string: bool,
    escaped: bool,
}

impl Balance {
    pub(super) fn add(&mut self, fragment: &str) {
        for byte in fragment.bytes() {
            self.step(byte);
        }
    }

    /// Returns true if all brackets that were opened are closed, and at least one was.
    pub(super) const fn is_whole(self) -> bool {
        self.began && self.depth == 0 && !self.in_string
    }

    const fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.began = true;
                self.depth += 1;
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_when_arguments_are_whole() {
        for (text, whole) in [
            ("", false),
            ("{", false),
            ("{}", true),
            (r#"{"a":"}"#, false),
            (r#"{"a":"\"}"}"#, true),
            (r#"{"a":[{"b":1}]}"#, true),
            (r#"{"a":[{"b":1}]"#, false),
            ("null", false),
        ] {
            let mut balance = Balance::default();
            for fragment in text.as_bytes().chunks(2) {
                balance.add(std::str::from_utf8(fragment).unwrap());
            }
            assert_eq!(balance.is_whole(), whole, "{text}");
        }
    }
}
