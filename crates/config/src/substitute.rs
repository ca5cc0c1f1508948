//! Substitutes `${NAME}` and `${NAME:-default}` in the scalars of a file. `$${` stands for `${`; no
//! other dollar is special.

use llm_router_yaml::{Node, Origin, Replacement, SyntaxError, ValueError, parse_with};

use crate::environment::{Environment, is_name};

/// The greatest depth of defaults that hold variables with defaults.
const MAX_DEPTH: usize = 8;

/// The greatest length in bytes of one value after substitution.
const MAX_LENGTH: usize = 1 << 20;

/// Parses the text of a config file, variables substituted.
///
/// # Errors
/// Returns the first position at which the text is not valid YAML.
pub(crate) fn parse(text: &str, environment: &Environment) -> Result<Node, SyntaxError> {
    parse_with(text, &|scalar| substitute(scalar, environment))
}

/// Replaces the variables of a scalar; `None` if it has no `${`. As in a shell, `:-` also replaces
/// a variable that is set and empty.
fn substitute(text: &str, environment: &Environment) -> Result<Option<Replacement>, ValueError> {
    if !text.contains("${") {
        return Ok(None);
    }
    if let Some(value) = whole_variable(text, environment) {
        return Ok(Some(Replacement {
            text: value.to_owned(),
            origin: Origin::Environment,
        }));
    }
    Ok(Some(Replacement {
        text: expand(text, environment, 0)?,
        origin: Origin::Substituted,
    }))
}

/// Returns the variable's value if the text is one reference and nothing else, and the variable is
/// set.
fn whole_variable<'e>(text: &str, environment: &'e Environment) -> Option<&'e str> {
    let body = text.strip_prefix("${")?;
    let (body, rest) = body.split_at(closing_brace(body)?);
    if rest != "}" {
        return None;
    }
    let (name, default) = split_default(body);
    let value = environment.get(name)?;
    (default.is_none() || !value.is_empty()).then_some(value)
}

fn expand(text: &str, environment: &Environment, depth: usize) -> Result<String, ValueError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find("${") {
        let (before, after) = (&rest[..dollar], &rest[dollar + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let end = closing_brace(after).ok_or_else(no_closing_brace)?;
        out.push_str(&variable(&after[..end], environment, depth)?);
        if out.len() > MAX_LENGTH {
            return Err(too_long());
        }
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(body: &str, environment: &Environment, depth: usize) -> Result<String, ValueError> {
    let (name, default) = split_default(body);
    if !is_name(name) {
        return Err(not_a_name());
    }
    match (environment.get(name), default) {
        (Some(value), None) => Ok(value.to_owned()),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value.to_owned()),
        (_, Some(_)) if depth >= MAX_DEPTH => Err(too_deep()),
        (_, Some(default)) => expand(default, environment, depth + 1),
        (None, None) => Err(not_set(name)),
    }
}

fn split_default(body: &str) -> (&str, Option<&str>) {
    match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    }
}

/// The position of the brace that closes a reference whose body begins the text.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if at > 0 && text.as_bytes()[at - 1] == b'$' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn not_set(name: &str) -> ValueError {
    ValueError::new(
        format!("environment variable {name} is not set"),
        format!("set it, add it to .env, or give a default: ${{{name}:-…}}"),
    )
}

fn no_closing_brace() -> ValueError {
    ValueError::new(
        "`${` has no closing `}`",
        "write ${NAME} or ${NAME:-default}, in quotes if the default has `: ` or ` #` in it, \
         and $${ for the characters themselves",
    )
}

fn not_a_name() -> ValueError {
    ValueError::new(
        "`${` must be followed by the name of an environment variable",
        "write ${NAME} or ${NAME:-default}, and $${ for the characters themselves",
    )
}

fn too_deep() -> ValueError {
    ValueError::new(
        format!("variables are nested more than {MAX_DEPTH} levels deep"),
        "use a default without variables",
    )
}

fn too_long() -> ValueError {
    ValueError::new(
        format!("is longer than {} KiB after substitution", MAX_LENGTH >> 10),
        "use fewer or shorter variables",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<Option<&str>, &str>) {
        let environment = Environment::new([
            ("NAME", "value"),
            ("EMPTY", ""),
            ("ODD", "a: \"b\"\n- c #d ${NAME}"),
        ]);
        let got = substitute(text, &environment);
        match (got, expected) {
            (Ok(got), Ok(expected)) => {
                assert_eq!(got.as_ref().map(|got| got.text.as_str()), expected)
            }
            (Err(error), Err(part)) => assert!(error.problem.contains(part), "{text}: {error}"),
            (got, expected) => panic!("{text}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn references_are_replaced() {
        check("plain $5 $NAME $$ text", Ok(None));
        check("${NAME}", Ok(Some("value")));
        check("a ${NAME} b ${NAME}", Ok(Some("a value b value")));
        check("${EMPTY}", Ok(Some("")));
        check("${EMPTY:-default}", Ok(Some("default")));
        check("${NAME:-default}", Ok(Some("value")));
        check("${UNSET:-}", Ok(Some("")));
        check("${UNSET:-a:-b}", Ok(Some("a:-b")));
        check("${UNSET:-${NAME}}", Ok(Some("value")));
        check("${UNSET:-${UNSET:-x}y}z", Ok(Some("xyz")));
    }

    #[test]
    fn values_are_not_read_again() {
        check("${ODD}", Ok(Some("a: \"b\"\n- c #d ${NAME}")));
        check("<${ODD}>", Ok(Some("<a: \"b\"\n- c #d ${NAME}>")));
    }

    #[test]
    fn a_doubled_dollar_escapes() {
        check("$${NAME}", Ok(Some("${NAME}")));
        check("$${", Ok(Some("${")));
        check("$$${NAME}", Ok(Some("$${NAME}")));
        check("x$${NAME}${NAME}", Ok(Some("x${NAME}value")));
    }

    #[test]
    fn mistakes_are_named() {
        check("${UNSET}", Err("UNSET is not set"));
        check("${UNSET:-${ALSO}}", Err("ALSO is not set"));
        check("${NAME", Err("no closing"));
        check("${}", Err("followed by the name"));
        check("${1A}", Err("followed by the name"));
        check("${NA ME}", Err("followed by the name"));
        check("${NAME-x}", Err("followed by the name"));
        let deep = format!("{}{}", "${UNSET:-".repeat(20), "}".repeat(20));
        check(&deep, Err("nested more than 8"));
        let endless = "${UNSET:-".repeat(100_000);
        check(&endless, Err("no closing"));
    }

    #[test]
    fn expansion_is_bounded() {
        let long = "x".repeat(100_000);
        let environment = Environment::new([("LONG", long.as_str())]);
        let error = substitute(&"${LONG}".repeat(100_000), &environment).unwrap_err();
        assert!(error.problem.contains("1024 KiB"), "{error}");
    }

    #[test]
    fn only_a_whole_variable_has_the_origin_environment() {
        let environment = Environment::new([("NAME", "value"), ("EMPTY", "")]);
        for (text, expected) in [
            ("${NAME}", Origin::Environment),
            ("${NAME:-x}", Origin::Environment),
            ("${EMPTY:-x}", Origin::Substituted),
            ("${NAME}x", Origin::Substituted),
            ("${UNSET:-${NAME}}", Origin::Substituted),
            ("$${NAME}", Origin::Substituted),
        ] {
            let replacement = substitute(text, &environment).unwrap().unwrap();
            assert_eq!(replacement.origin, expected, "{text}");
        }
    }
}
