//! Reads blocks that only messages have. What is text in them stays in the conversation as text. It
//! must not read what other formats have too.

use crate::translate::json::{Json, Object};
use crate::translate::neutral::{File, MediaSource, PartKind, Text};

/// Reads a block of a kind that no other format has.
pub(super) fn read<'a>(kind: Text<'a>, block: &mut Object<'a>) -> PartKind<'a> {
    match read_text(&kind, block) {
        Some(text) => PartKind::Text(text),
        None if kind == "container_upload" && block.has("file_id") => {
            let id = block.take_string("file_id").unwrap_or_default();
            PartKind::File(File {
                source: MediaSource::Id(id),
                name: None,
                context: None,
                citations: false,
            })
        }
        None => PartKind::Foreign {
            id: block
                .take_string("tool_use_id")
                .or_else(|| block.take_string("id")),
            kind,
        },
    }
}

/// The summary in a compaction block: everything before it is no longer part of the conversation.
pub(super) fn summary<'b>(block: &'b Json<'_>) -> Option<&'b str> {
    let summary = block.str("content").filter(|text| !text.is_empty());
    summary.filter(|_| block.str("type") == Some("compaction"))
}

fn read_text<'a>(kind: &str, block: &mut Object<'a>) -> Option<Text<'a>> {
    match kind {
        // Without content the compaction failed, and stands for nothing.
        "compaction" if !block.has("encrypted_content") => {
            Some(block.take_string("content").unwrap_or_default())
        }
        "tool_reference" => block.take_string("tool_name"),
        "mcp_tool_use" => {
            let server = block.str("server_name").unwrap_or_default().to_owned();
            call(block, &format!(" of {server}"))
        }
        "server_tool_use" if block.str("name").is_some_and(runs_code) => call(block, ""),
        "mcp_tool_result" => result(block),
        _ if runs_code(kind.strip_suffix("_tool_result")?) => result(block),
        _ => None,
    }
}

/// Returns true for tools whose calls and results are texts. Those of search are encrypted, and the
/// model's text says what it found.
fn runs_code(name: &str) -> bool {
    name.ends_with("code_execution")
}

fn call<'a>(block: &Object<'_>, of: &str) -> Option<Text<'a>> {
    let name = block.str("name")?;
    let input = block.get("input").map(Json::to_text).unwrap_or_default();
    Some(format!("Called {name}{of}: {input}\n").into())
}

fn result<'a>(block: &Object<'_>) -> Option<Text<'a>> {
    let content = block.get("content")?;
    let said = match content.as_array() {
        Some(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(|item| item.str("text")).collect();
            texts?.join("\n")
        }
        None => content
            .as_str()
            .map_or_else(|| content.to_text().into_owned(), str::to_owned),
    };
    (!said.contains("\"encrypted_")).then(|| format!("Result: {said}\n").into())
}
