//! The files under `conf/`: each loads, and the comments of the commented one are the doc comments of
//! the types. `UPDATE_CONF=1 cargo test -p llm-router-config` rewrites its comments.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of tests fail as tests do"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use llm_router_config::{Environment, Loaded, load, load_text, schema};
use serde_json::Value as Json;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn commented_file() -> PathBuf {
    project().join("conf/llm-router.yaml")
}

fn keys_set() -> Environment {
    let key = "0123456789abcdef0123456789abcdef";
    let variables = [
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "LLM_ROUTER_KEY",
    ];
    let teams = ["TEAM_A_KEY", "CI_KEY", "OPS_KEY"];
    let variables = variables.iter().chain(&teams).enumerate();
    Environment::new(variables.map(|(index, name)| (*name, format!("{key}{index}"))))
}

fn load_file(file: &Path, environment: &Environment) -> Loaded {
    load(Some(file), environment).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn every_example_loads_without_a_warning() {
    let examples = fs::read_dir(project().join("conf/examples")).unwrap();
    let examples: Vec<PathBuf> = examples.map(|entry| entry.unwrap().path()).collect();
    assert!(examples.len() >= 4, "{examples:?}");
    for file in examples {
        let loaded = load_file(&file, &keys_set());
        assert_eq!(loaded.warnings.render(), "", "{}", file.display());
        assert!(!loaded.config.providers.is_empty() && !loaded.config.keys.is_empty());
    }
}

#[test]
fn the_commented_file_runs_on_a_machine_without_keys() {
    let none: [(&str, &str); 0] = [];
    let bare = load_file(&commented_file(), &Environment::new(none));
    let config = bare.config;
    let on = config.providers.iter().filter(|provider| provider.enabled);
    let on: Vec<&str> = on.map(|provider| provider.id.as_str()).collect();
    assert_eq!(on, ["mock"]);
    assert!(config.keys.iter().all(|key| !key.enabled));
    for warning in bare.warnings.warnings() {
        let message = &warning.message;
        let expected = message.contains("disabled") || message.contains("switched off");
        assert!(expected, "{warning}");
    }
}

#[test]
fn the_commented_file_uses_the_keys_that_are_set() {
    let loaded = load_file(&commented_file(), &keys_set());
    assert_eq!(loaded.warnings.render(), "");
    assert!(
        loaded
            .config
            .providers
            .iter()
            .all(|provider| provider.enabled)
    );
    assert!(loaded.config.keys.iter().all(|key| key.enabled));
    assert_eq!(loaded.files, [commented_file()]);
}

#[test]
fn the_commented_file_is_found_when_no_file_is_named() {
    let environment = keys_set().in_folder(&project());
    let loaded = load(None, &environment).unwrap();
    assert_eq!(loaded.files, [commented_file()]);
}

#[test]
fn settings_that_are_off_can_be_switched_on() {
    let text = fs::read_to_string(commented_file()).unwrap();
    let whole: String = text.lines().map(|line| switched_on(line) + "\n").collect();
    let report = load_text(&whole, &commented_file(), &keys_set()).unwrap_err();
    let errors: Vec<String> = report.errors().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 3, "{errors:#?}");
    assert!(
        errors.iter().all(|error| error.contains("does not exist")),
        "{errors:#?}"
    );
}

#[test]
fn the_commented_file_has_every_setting_and_its_doc_comment() {
    let text = fs::read_to_string(commented_file()).unwrap();
    let schema = schema();
    let (generated, described) = with_comments(&text, &schema);
    if std::env::var_os("UPDATE_CONF").is_some() {
        fs::write(commented_file(), &generated).unwrap();
    }
    let mut settings = BTreeSet::new();
    collect_settings(&schema, &schema, "", &mut Vec::new(), &mut settings);
    assert!(settings.len() > 60, "{settings:#?}");
    let missing: Vec<_> = settings.difference(&described).collect();
    assert!(missing.is_empty(), "not in the file: {missing:#?}");
    assert!(
        text == generated,
        "the comments differ from the types: run with UPDATE_CONF=1"
    );
}

#[test]
fn every_variable_of_the_files_is_in_the_example_environment() {
    let example = fs::read_to_string(project().join(".env.example")).unwrap();
    let text = fs::read_to_string(commented_file()).unwrap();
    let parts = text.split("${").skip(1);
    let names: BTreeSet<&str> = parts
        .filter_map(|part| Some(part.split_once(":-")?.0))
        .collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in names.iter().filter(|name| **name != "NAME") {
        assert!(example.contains(&format!("\n{name}=")), "{name}");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), example).unwrap();
    let environment = Environment::read(folder.path());
    load_text(
        "providers: [{ id: a, type: mock }]",
        Path::new("a.yaml"),
        &environment,
    )
    .unwrap();
}

/// The line with the `#` removed that switches its setting off.
fn switched_on(line: &str) -> String {
    match line.trim_start().strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '-') => {
            line.replacen('#', "", 1)
        }
        _ => line.to_owned(),
    }
}

/// The text with the comments made anew, and the settings that got one.
fn with_comments(text: &str, schema: &Json) -> (String, BTreeSet<String>) {
    let mut described = BTreeSet::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("# ") {
            continue;
        }
        if let Some((indent, key)) = setting(&switched_on(line)) {
            open.retain(|(outer, _)| *outer < indent);
            open.push((indent, key));
            let path: Vec<&str> = open.iter().map(|(_, key)| key.as_str()).collect();
            let property = find(schema, schema, &path);
            if let Some(property) = property.filter(|_| described.insert(path.join("."))) {
                let margin = line.len() - line.trim_start().len();
                out += &comment(schema, property, margin);
            }
        }
        out += line;
        out.push('\n');
    }
    (out, described)
}

/// The column and the name of the setting that a line begins.
fn setting(line: &str) -> Option<(usize, String)> {
    let inner = line.trim_start_matches([' ', '-']);
    let (key, rest) = inner.split_once(':')?;
    let named = key
        .chars()
        .all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c));
    let ends = rest.is_empty() || rest.starts_with(' ');
    (named && ends).then(|| (line.len() - inner.len(), key.to_owned()))
}

fn find<'s>(root: &'s Json, schema: &'s Json, path: &[&str]) -> Option<&'s Json> {
    let Some((first, rest)) = path.split_first() else {
        return Some(schema);
    };
    find(root, object(root, schema)?["properties"].get(first)?, rest)
}

/// The object that a property is, or has in it as an item or as one of several choices.
fn object<'s>(root: &'s Json, schema: &'s Json) -> Option<&'s Json> {
    if let Some(reference) = schema["$ref"].as_str() {
        return object(root, root.pointer(&reference[1..])?);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().find_map(|choice| object(root, choice));
    }
    match schema.get("items") {
        Some(items) => object(root, items),
        None => schema.get("properties").is_some().then_some(schema),
    }
}

/// Settings that hold others of their own kind are gone into once.
fn collect_settings<'s>(
    root: &'s Json,
    schema: &'s Json,
    path: &str,
    within: &mut Vec<&'s Json>,
    into: &mut BTreeSet<String>,
) {
    let object = object(root, schema);
    let Some(object) = object.filter(|one| !within.iter().any(|outer| std::ptr::eq(*outer, *one)))
    else {
        return;
    };
    within.push(object);
    for (name, property) in object["properties"].as_object().unwrap() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        collect_settings(root, property, &path, within, into);
        into.insert(path);
    }
    within.pop();
}

fn comment(root: &Json, property: &Json, margin: usize) -> String {
    let mut out = wrap(property["description"].as_str().unwrap(), margin, "");
    let target = property["$ref"]
        .as_str()
        .and_then(|name| root.pointer(&name[1..]));
    for choice in target
        .and_then(|enumeration| enumeration["oneOf"].as_array())
        .into_iter()
        .flatten()
    {
        if let (Some(word), Some(meaning)) =
            (choice["const"].as_str(), choice["description"].as_str())
        {
            out += &wrap(&format!("{word}: {meaning}"), margin, "  ");
        }
    }
    out
}

fn wrap(text: &str, margin: usize, indent: &str) -> String {
    const WIDTH: usize = 100;
    let start = format!("{}# {indent}", " ".repeat(margin));
    let (mut out, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && start.len() + line.len() + 1 + word.len() > WIDTH {
            out += &format!("{start}{line}\n");
            line.clear();
        }
        line += if line.is_empty() { "" } else { " " };
        line += word;
    }
    out + &format!("{start}{line}\n")
}
