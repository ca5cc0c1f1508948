//! The documentation's tables are the code's.

use std::path::Path;

use llm_router_wire::translate::{limits_as_markdown, table_as_markdown};

#[test]
fn documentation_shows_the_tables() {
    for (name, table) in [
        ("the table", table_as_markdown()),
        ("the limits", limits_as_markdown()),
    ] {
        check(name, &table);
    }
}

/// Compares a table with the one in the documentation, or writes it there.
fn check(name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/translation.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let rewriting = "`UPDATE_DOCS=1 cargo test -p llm-router-wire` rewrites";
    let begin = text
        .lines()
        .find(|line| line.starts_with(&format!("<!-- begin of {name}; {rewriting}")))
        .unwrap_or_else(|| panic!("docs/translation.md has no place for {name}"));
    let (before, rest) = text.split_once(&format!("{begin}\n")).unwrap();
    let end = format!("<!-- end of {name} -->\n");
    let (found, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}\n{table}{end}{after}")).unwrap();
        return;
    }
    assert!(
        found == table,
        "docs/translation.md is out of date; run UPDATE_DOCS=1 cargo test -p llm-router-wire"
    );
}
