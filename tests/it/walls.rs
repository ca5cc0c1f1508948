//! The walls inside `src/` that Cargo can't hold: only the proxy names Pingora, and rooms name each
//! other in one direction. It reads names, not what the code does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `src/`. Each may name those after it.
const ROOMS: [&str; 17] = [
    "main",
    "cli",
    "startup",
    "admin_api",
    "sync",
    "proxy",
    "process",
    "routing",
    "budgets",
    "limits",
    "ledger",
    "telemetry",
    "health",
    "snapshot",
    "keys",
    "error",
    "clock",
];

#[test]
fn only_the_proxy_names_pingora() {
    let named: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|(room, file)| room != "proxy" && code(file).contains("pingora::"))
        .map(|(_, file)| file)
        .collect();
    assert!(named.is_empty(), "Pingora is named in {named:?}");
}

#[test]
fn rooms_name_each_other_in_one_direction() {
    let mut back = BTreeSet::new();
    for (room, file) in sources() {
        let at = place(&room).unwrap_or_else(|| panic!("{room} is no room of ROOMS: {file:?}"));
        let code = code(&file);
        for path in code.split("crate::").skip(1) {
            let end = path.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            let named = &path[..end.unwrap_or(path.len())];
            if place(named).is_some_and(|named| named < at) {
                back.insert((room.clone(), named.to_owned()));
            }
        }
    }
    assert!(back.is_empty(), "arrows that point back: {back:?}");
}

fn place(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

/// Every Rust file of `src/` with its room.
fn sources() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_stem().unwrap().to_str().unwrap().to_owned();
        collect(&path, &room, &mut found);
    }
    found
}

fn collect(path: &Path, room: &str, found: &mut Vec<(String, PathBuf)>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), room, found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs")
        && !path.ends_with("tests.rs")
    {
        found.push((room.to_owned(), path.to_owned()));
    }
}

/// A file without its comments and unit tests, which may name what they like.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("\n#[cfg(test)]\nmod tests {").next();
    let lines = code.unwrap_or_default().lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}
