//! Parses the text of a `.env` file. The well-known crate for this is not used: it expands `$` in
//! values, which breaks passwords, and puts whole lines, secrets included, into its errors.

use std::iter::Peekable;
use std::str::Chars;

use llm_router_yaml::{Mark, ValueError};

use crate::environment::is_name;

/// One setting of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) mark: Mark,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Returns the settings in the order of the file, only the last of each name, and an error for each
/// invalid line.
///
/// `NAME=value`, also with `export` before it; `#` begins a comment at the start of a line or after
/// a space. Values in single quotes are taken literally, those in double quotes know `\n`, `\r`,
/// `\t`, `\"`, `\\` and `\$`; both may span several lines.
pub(crate) fn parse(text: &str) -> Vec<Result<Assignment, (Mark, ValueError)>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = DotenvReader {
        rest: text.chars().peekable(),
        line: 1,
    };
    let mut lines: Vec<Result<Assignment, (Mark, ValueError)>> = Vec::new();
    while reader.rest.peek().is_some() {
        let Some(line) = reader.line() else { continue };
        if let Ok(new) = &line {
            lines.retain(|old| !matches!(old, Ok(old) if old.name == new.name));
        }
        lines.push(line);
    }
    lines
}

struct DotenvReader<'t> {
    rest: Peekable<Chars<'t>>,
    line: usize,
}

impl DotenvReader<'_> {
    /// Reads one line, or all that a quoted value spans. `None` if it is empty or a comment.
    fn line(&mut self) -> Option<Result<Assignment, (Mark, ValueError)>> {
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
            return Some(Err((mark, not_an_assignment())));
        }
        self.next();
        let (name, value) = (before.to_owned(), self.value());
        Some(match value {
            Ok(value) => Ok(Assignment { mark, name, value }),
            Err(error) => Err((mark, error)),
        })
    }

    fn value(&mut self) -> Result<String, ValueError> {
        self.until(|c| c != ' ' && c != '\t');
        let value = match self.rest.peek() {
            Some('\'') => self.quoted_value('\''),
            Some('"') => self.quoted_value('"'),
            _ => return Ok(self.unquoted_value()),
        }?;
        let after = self.until(|c| c == '\n');
        self.next();
        let after = after.trim();
        if after.is_empty() || after.starts_with('#') {
            return Ok(value);
        }
        Err(ValueError::new(
            "text follows the closing quote",
            "put the whole value in one pair of quotes",
        ))
    }

    fn unquoted_value(&mut self) -> String {
        let text = self.until(|c| c == '\n');
        self.next();
        let comment = text
            .match_indices('#')
            .find(|(at, _)| *at == 0 || text[..*at].ends_with([' ', '\t']));
        let end = comment.map_or(text.len(), |(at, _)| at);
        text[..end].trim().to_owned()
    }

    fn quoted_value(&mut self, quote: char) -> Result<String, ValueError> {
        self.next();
        let mut value = String::new();
        loop {
            match self.next() {
                None => return Err(no_closing_quote()),
                Some(c) if c == quote => return Ok(value),
                Some('\\') if quote == '"' => match self.next() {
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('t') => value.push('\t'),
                    Some(c @ ('"' | '\\' | '$')) => value.push(c),
                    Some(c) => value.extend(['\\', c]),
                    None => return Err(no_closing_quote()),
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

fn not_an_assignment() -> ValueError {
    ValueError::new(
        "is not of the form NAME=value",
        "write NAME=value, or # before a comment",
    )
}

fn no_closing_quote() -> ValueError {
    ValueError::new("the opening quote has no closing quote", "add it")
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
            let (mark, error) = problem.unwrap_or_else(|| panic!("{text:?}"));
            assert_eq!(mark.line, line, "{text:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
