//! Reads items that only responses have. What is text in them stays in the conversation as text. It
//! must not read what other formats have too.

use crate::translate::json::{Json, Object};
use crate::translate::neutral::{Message, Part, PartKind, Role, Text};

/// Reads an item of a kind that no other format has.
pub(super) fn read<'a>(kind: Text<'a>, item: &mut Object<'a>) -> Message<'a> {
    let role = if kind.ends_with("_output") {
        Role::User
    } else {
        Role::Assistant
    };
    let part = match as_text(&kind, item) {
        Some(text) => PartKind::Text(text.into()),
        None => PartKind::Foreign {
            id: item
                .take_string("call_id")
                .or_else(|| item.take_string("id")),
            kind,
        },
    };
    Message {
        role,
        parts: vec![Part::new(part)],
        name: None,
    }
}

/// Calls of shells, patches, code and MCP servers, and their results.
fn as_text(kind: &str, item: &Object<'_>) -> Option<String> {
    let json = |key: &str| item.get(key).map(Json::to_text);
    match kind {
        "local_shell_call" | "shell_call" | "apply_patch_call" => {
            let name = kind.trim_end_matches("_call");
            let asked = json("action").or_else(|| json("operation"))?;
            Some(format!("Called {name}: {asked}\n"))
        }
        "local_shell_call_output" | "shell_call_output" | "apply_patch_call_output" => {
            let output = item.get("output");
            let said = output.and_then(Json::as_str).map(str::to_owned);
            let said = said.or_else(|| json("output").map(|output| output.into_owned()));
            let name = kind.trim_end_matches("_call_output");
            let said = said.or_else(|| item.str("status").map(str::to_owned));
            Some(format!("Result of {name}: {}\n", said?))
        }
        "mcp_call" => {
            let (name, server) = (item.str("name")?, item.str("server_label")?);
            let arguments = item.str("arguments").unwrap_or_default();
            let result = item.str("output").or_else(|| item.str("error"));
            let result = result.map(|text| format!("\nResult: {text}"));
            Some(format!(
                "Called {name} of {server}: {arguments}{}\n",
                result.unwrap_or_default()
            ))
        }
        "code_interpreter_call" => {
            let code = item.str("code")?;
            let outputs = item.get("outputs").and_then(Json::as_array);
            let logs = outputs.unwrap_or_default().iter();
            let logs: Vec<&str> = logs.filter_map(|output| output.str("logs")).collect();
            Some(format!("Ran code:\n{code}\nOutput: {}\n", logs.join("\n")))
        }
        _ => None,
    }
}
