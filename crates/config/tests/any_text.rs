//! Checks with random texts that the loader never panics and that its schema and types agree.

use std::path::Path;

use llm_router_config::{Environment, load_text};
use proptest::prelude::*;

fn load(text: &str) -> String {
    let environment = Environment::new([("KEY", "0123456789abcdef"), ("EMPTY", "")]);
    match load_text(text, Path::new("a.yaml"), &environment) {
        Ok(loaded) => loaded.warnings.render(),
        Err(report) => {
            assert!(report.has_errors());
            report.render()
        }
    }
}

/// Checks that the types can hold everything that the schema allows.
fn check(text: &str) {
    let rendered = load(text);
    assert!(
        !rendered.contains("matches the schema but can't be parsed"),
        "{text}\n{rendered}"
    );
}

/// Pieces that files are made of, right and wrong.
const PIECES: &[&str] = &[
    "server",
    "listen",
    "providers",
    "models",
    "keys",
    "routing",
    "id",
    "type",
    "name",
    "key",
    "timeouts",
    "health_check",
    "off",
    "openai",
    "mock",
    "custom",
    "weight",
    "deployments",
    "fallbacks",
    "budget",
    "usd",
    "limits",
    "rpm",
    "rules",
    "when",
    "*",
    "&a",
    "*a",
    "<<",
    ": ",
    ":",
    "- ",
    "-",
    "? ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "\n",
    "\n  ",
    "\n    ",
    "\n  - ",
    "\"",
    "'",
    "|",
    ">",
    "|\n",
    "#",
    " #",
    "!!str ",
    "!x ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "\t",
    "\r\n",
    "${",
    "${KEY}",
    "${NONE}",
    "${NONE:-x}",
    "$${",
    "}",
    "~",
    "null",
    "true",
    "1",
    "-1",
    "1e400",
    ".inf",
    "0x10",
    "10s",
    "32MiB",
    "https://a.b",
    "\u{feff}",
    "\u{0}",
    "\u{85}",
    "\u{2028}",
    "é",
    "🦀",
    "\\",
    "\\x",
    "%",
    "@",
    "`",
];

const WHOLE: &str = include_str!("../../../conf/llm-router.yaml");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_at_all(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn texts_of_pieces(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        check(&pieces.concat());
    }

    #[test]
    fn a_whole_file_with_a_piece_put_in(
        at in 0..WHOLE.len(),
        cut in 0..20_usize,
        piece in prop::sample::select(PIECES),
    ) {
        let end = (at + cut).min(WHOLE.len());
        prop_assume!(WHOLE.is_char_boundary(at) && WHOLE.is_char_boundary(end));
        check(&format!("{}{piece}{}", &WHOLE[..at], &WHOLE[end..]));
    }

    #[test]
    fn a_whole_file_with_one_value_changed(
        line in 0..WHOLE.lines().count(),
        value in prop::sample::select(vec![
            "", "~", "5", "-5", "99999999999999999999", "1.5", "true", "text", "[]", "[~]", "{}",
            "{ a: b }", "[[]]", "\"\"", "${NONE}", "${EMPTY}", "*none", "!!int x", "0s", "off",
        ]),
    ) {
        let lines = WHOLE.lines().enumerate().map(|(index, text)| match text.split_once(": ") {
            Some((key, _)) if index == line => format!("{}: {value}\n", key.replacen('#', "", 1)),
            _ => format!("{text}\n"),
        });
        check(&lines.collect::<String>());
    }
}

#[test]
fn texts_that_once_were_trouble() {
    for text in [
        "{---",
        "...",
        "- - - -",
        "? ? ? ?",
        "{{{{",
        "[a: b: c]",
        "a: |\n\u{0}",
        "&a",
        "*a",
        "!",
        "!!",
        "%",
        "%TAG",
        "\"\\x",
        "'",
        "- \t-",
        "key: >-",
        "{a, b: , c}",
        "[? a : b]",
        "\u{feff}",
    ] {
        check(text);
    }
    check(&"a: &a [".repeat(1_000));
    check(&"- ".repeat(20_000));
    check(&"? ".repeat(20_000));
    check(&"${KEY:-".repeat(20_000));
    check(&format!("keys: [{}]", "{},".repeat(20_000)));
    let keys: String = (0..20_000)
        .map(|n| format!("  - {{ name: k{n}, key: {n} }}\n"))
        .collect();
    check(&format!("keys:\n{keys}"));
    let headers: String = (0..20_000).map(|n| format!("      h{n}: x\n")).collect();
    check(&format!(
        "providers:\n  - id: a\n    type: mock\n    headers:\n{headers}"
    ));
}
