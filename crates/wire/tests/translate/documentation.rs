//! The documentation's table is the code's.

use std::path::Path;

use llm_router_wire::translate::table_as_markdown;

const BEGIN: &str =
    "<!-- begin of the table; `UPDATE_DOCS=1 cargo test -p llm-router-wire` rewrites it -->\n";
const END: &str = "<!-- end of the table -->\n";

#[test]
fn documentation_shows_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/translation.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    let table = table_as_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert!(
        found == table,
        "docs/translation.md is out of date; run UPDATE_DOCS=1 cargo test -p llm-router-wire"
    );
}
