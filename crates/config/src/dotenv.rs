//! The text of a `.env` file to names and values. Ours because the one well-known crate expands
//! `$` in values, which breaks passwords, and puts whole lines, secrets included, into its errors.

use std::iter::Peekable;
use std::str::Chars;

use crate::environment::is_name;
use crate::findings::Wrong;
use crate::report::Mark;

/// One setting of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) mark: Mark,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// The settings in the order of the file, the last of each name only, and the lines that are none.
///
/// `NAME=value`, also with `export` before it; `#` begins a comment at the start of a line or after
/// a space. Values in single quotes are taken as they are, those in double quotes know `\n`, `\r`,
/// `\t`, `\"`, `\\` and `\$`; both may go on over several lines.
pub(crate) fn parse(text: &str) -> Vec<Result<Line, (Mark, Wrong)>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        rest: text.chars().peekable(),
        line: 1,
    };
    let mut lines: Vec<Result<Line, (Mark, Wrong)>> = Vec::new();
    while reader.rest.peek().is_some() {
        let Some(line) = reader.line() else { continue };
        if let Ok(new) = &line {
            lines.retain(|old| !matches!(old, Ok(old) if old.name == new.name));
        }
        lines.push(line);
    }
    lines
}

struct Reader<'t> {
    rest: Peekable<Chars<'t>>,
    line: usize,
}

impl Reader<'_> {
    /// Reads to the end of the line, or of the last one that a quoted value reaches.
    fn line(&mut self) -> Option<Result<Line, (Mark, Wrong)>> {
        let (line, column) = (self.line, 1);
        let mark = Mark { line, column };
        let before = self.until(|c| c == '=' || c == '\n');
        let before = before.trim();
        let before = before.strip_prefix("export ").unwrap_or(before).trim();
        if before.is_empty() && self.rest.peek() != Some(&'=') {
            self.next();
            return None;
        }
        if before.starts_with('#') {
            self.skip_line();
            return None;
        }
        if self.rest.peek() != Some(&'=') || !is_name(before) {
            self.skip_line();
            return Some(Err((mark, no_assignment())));
        }
        self.next();
        let (name, value) = (before.to_owned(), self.value());
        Some(match value {
            Ok(value) => Ok(Line { mark, name, value }),
            Err(wrong) => Err((mark, wrong)),
        })
    }

    fn value(&mut self) -> Result<String, Wrong> {
        self.until(|c| c != ' ' && c != '\t');
        let value = match self.rest.peek() {
            Some('\'') => self.quoted('\''),
            Some('"') => self.quoted('"'),
            _ => return Ok(self.bare()),
        }?;
        let after = self.until(|c| c == '\n');
        self.next();
        let after = after.trim();
        if after.is_empty() || after.starts_with('#') {
            return Ok(value);
        }
        Err(Wrong::new(
            "text follows the closing quote",
            "put the whole value in one pair of quotes",
        ))
    }

    fn bare(&mut self) -> String {
        let text = self.until(|c| c == '\n');
        self.next();
        let comment = text
            .match_indices('#')
            .find(|(at, _)| *at == 0 || text[..*at].ends_with([' ', '\t']));
        let end = comment.map_or(text.len(), |(at, _)| at);
        text[..end].trim().to_owned()
    }

    fn quoted(&mut self, quote: char) -> Result<String, Wrong> {
        self.next();
        let mut value = String::new();
        loop {
            match self.next() {
                None => return Err(unclosed()),
                Some(c) if c == quote => return Ok(value),
                Some('\\') if quote == '"' => match self.next() {
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('t') => value.push('\t'),
                    Some(c @ ('"' | '\\' | '$')) => value.push(c),
                    Some(c) => value.extend(['\\', c]),
                    None => return Err(unclosed()),
                },
                Some(c) => value.push(c),
            }
        }
    }

    fn until(&mut self, stop: impl Fn(char) -> bool) -> String {
        std::iter::from_fn(|| self.rest.next_if(|c| !stop(*c))).collect()
    }

    fn skip_line(&mut self) {
        self.until(|c| c == '\n');
        self.next();
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }
}

fn no_assignment() -> Wrong {
    Wrong::new(
        "not of the form NAME=value",
        "write NAME=value, or # before a comment",
    )
}

fn unclosed() -> Wrong {
    Wrong::new("the quote that begins the value isn't closed", "close it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(usize, &str, &str)]) {
        let lines: Vec<_> = parse(text).into_iter().map(Result::unwrap).collect();
        let got: Vec<_> = lines
            .iter()
            .map(|line| (line.mark.line, line.name.as_str(), line.value.as_str()))
            .collect();
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn values_are_read() {
        check("", &[]);
        check("\u{feff}A=1", &[(1, "A", "1")]);
        check("A=1\r\nB=2\r\n", &[(1, "A", "1"), (2, "B", "2")]);
        check("# no\n\n  # no=1\nexport A = 1 \n", &[(4, "A", "1")]);
        check(
            "A=pa$word#1 # why\nB=#none\nC=",
            &[(1, "A", "pa$word#1"), (2, "B", ""), (3, "C", "")],
        );
        check("A=a=b:c@d?e=f&g", &[(1, "A", "a=b:c@d?e=f&g")]);
        check(
            "A='a $b \\n' # c\nB=\"x\\ty\\\"z\\$\\q\"",
            &[(1, "A", "a $b \\n"), (2, "B", "x\ty\"z$\\q")],
        );
        check("A=\"1\n2\"\nB=3", &[(1, "A", "1\n2"), (3, "B", "3")]);
        check("A=1\nB=2\nA=3", &[(2, "B", "2"), (3, "A", "3")]);
    }

    #[test]
    fn mistakes_have_a_line_and_no_value() {
        for (text, line) in [
            ("A=1\nsecret\n", 2),
            ("=secret", 1),
            ("\nA B=secret", 2),
            ("A='1'\nB=\"secret", 2),
            ("A='x'secret", 1),
            ("1A=secret", 1),
        ] {
            let problem = parse(text).into_iter().find_map(Result::err);
            let (mark, wrong) = problem.unwrap_or_else(|| panic!("{text:?}"));
            assert_eq!(mark.line, line, "{text:?}");
            assert!(!wrong.to_string().contains("secret"), "{wrong}");
        }
    }
}
