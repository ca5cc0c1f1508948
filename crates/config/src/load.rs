//! The one door: a file, or none, to a checked configuration or everything that is wrong with it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value as Json;

use crate::config::{Config, RawConfig, schema as make_schema};
use crate::environment::Environment;
use crate::findings::{At, Findings};
use crate::known::Known;
use crate::masked::masked;
use crate::report::Report;
use crate::secrets::Secrets;
use crate::yaml::{Node, Shape, parse};

/// The file that is used when none is named, if it exists.
pub const DEFAULT_FILE: &str = "conf/llm-router.yaml";

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file as it was read, secrets masked, for people to see.
    pub shown: Json,
    /// What somebody should have a look at; no errors.
    pub warnings: Report,
    /// The files it was made of, whose change calls for a reload. The first is the config file, if
    /// there is one.
    pub files: Vec<PathBuf>,
}

/// Loads the file that is named, else [`DEFAULT_FILE`] in the environment's folder if it exists,
/// else what the environment's provider keys ask for.
///
/// # Errors
/// Everything that is wrong with the file, `.env` and the environment, warnings included.
pub fn load(path: Option<&Path>, environment: &Environment) -> Result<Loaded, Report> {
    let default = environment.folder().join(DEFAULT_FILE);
    match path {
        Some(path) => load_file(path, environment),
        None if default.exists() => load_file(&default, environment),
        None => load_text(&built_in(environment), Path::new("built-in"), environment),
    }
}

/// As [`load`], with the text of the file at hand. The path is for messages, and for the folder
/// that relative paths belong to.
///
/// # Errors
/// As [`load`].
pub fn load_text(text: &str, path: &Path, environment: &Environment) -> Result<Loaded, Report> {
    let mut findings = Findings::new(&path.to_string_lossy());
    for problem in environment.problems() {
        findings.add(problem.clone());
    }
    let secrets = Secrets::check(environment, &mut findings);
    let config = match parse(text, environment) {
        Ok(root) => check(&root, path, environment, secrets, &mut findings),
        Err((mark, wrong)) => {
            findings.misshapen_at(mark, &At::default(), wrong.what, wrong.remedy);
            None
        }
    };
    let refused = findings.has_errors();
    let report = Report::new(findings.into_problems());
    match config {
        Some((config, shown)) if !refused => Ok(Loaded {
            shown,
            files: config.files().map(Path::to_path_buf).collect(),
            config,
            warnings: report,
        }),
        _ => Err(report),
    }
}

/// The JSON Schema (draft 2020-12) of the config file, for editors.
#[must_use]
pub fn schema() -> Json {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<Json> = LazyLock::new(make_schema);

fn load_file(path: &Path, environment: &Environment) -> Result<Loaded, Report> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let mut findings = Findings::new(&path.to_string_lossy());
        let what = format!("the file can't be read: {error}");
        findings.error(&At::default(), what, "name a readable UTF-8 text file");
        Report::new(findings.into_problems())
    })?;
    let mut loaded = load_text(&text, path, environment)?;
    loaded.files.insert(0, path.to_path_buf());
    Ok(loaded)
}

/// Returns the text of a file with one provider for each type that is used without a file and whose
/// variable is set.
fn built_in(environment: &Environment) -> String {
    let types = llm_router_providers::all().iter();
    let used = types.filter(|kind| {
        let variable = kind.environment_variable();
        kind.is_used_without_file() && environment.non_empty(variable).is_some()
    });
    let providers = used.map(|kind| {
        let (name, variable) = (kind.name(), kind.environment_variable());
        format!("  - {{ id: {name}, type: {name}, api_key: \"${{{variable}}}\" }}\n")
    });
    format!("providers:\n{}", providers.collect::<String>())
}

fn check(
    root: &Node,
    path: &Path,
    environment: &Environment,
    secrets: Secrets,
    findings: &mut Findings,
) -> Option<(Config, Json)> {
    findings.locate(root);
    let shape = Shape {
        root: &SCHEMA,
        file_folder: path.parent().unwrap_or(Path::new("")),
        environment_folder: environment.folder(),
    };
    let json = shape.read(root, findings)?;
    let shown = masked(&SCHEMA, &SCHEMA, &json);
    let Ok(raw) = serde_json::from_value::<RawConfig>(json) else {
        findings.unreadable(&At::default());
        return None;
    };
    let config = raw.check(&Known::in_file(root), environment, secrets, findings);
    Some((config, shown))
}
