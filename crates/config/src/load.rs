//! The entry points: a file, or none, becomes a checked configuration or a report of everything
//! that is wrong with it.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::LazyLock;

use llm_router_yaml::Node;
use serde_json::Value as Json;

use crate::config::{Config, RawConfig, generate_schema};
use crate::diagnostics::Diagnostics;
use crate::environment::Environment;
use crate::mask::mask_secrets;
use crate::names::DefinedNames;
use crate::path::ConfigPath;
use crate::report::Report;
use crate::schema::SchemaReader;
use crate::secrets::Secrets;
use crate::substitute::parse;

/// The file that is loaded when none is named, if it exists.
pub const DEFAULT_FILE: &str = "conf/llm-router.yaml";

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The contents of the file with secrets masked, for display.
    pub masked: Json,
    /// Probable mistakes; no errors.
    pub warnings: Report,
    /// The files whose changes call for a reload. The first is the config file, if there is one.
    pub files: Vec<PathBuf>,
}

/// Loads the file that is named, else [`DEFAULT_FILE`] in the environment's folder if it exists,
/// else a configuration with one provider for each provider key in the environment.
///
/// # Errors
/// Returns everything that is wrong with the file, `.env` and the environment, and the warnings.
pub fn load(path: Option<&Path>, environment: &Environment) -> Result<Loaded, Report> {
    let default = environment.folder().join(DEFAULT_FILE);
    match path {
        Some(path) => load_file(path, environment),
        None if default.exists() => load_file(&default, environment),
        None => load_text(
            &default_text(environment),
            Path::new("built-in"),
            environment,
        ),
    }
}

/// As [`load`], from the text of the file. The path is used in messages, and its folder for
/// relative paths.
///
/// # Errors
/// As [`load`].
pub fn load_text(text: &str, path: &Path, environment: &Environment) -> Result<Loaded, Report> {
    let mut diagnostics = Diagnostics::new(&path.to_string_lossy());
    for problem in environment.problems() {
        diagnostics.add(problem.clone());
    }
    let secrets = Secrets::check(environment, &mut diagnostics);
    let config = match parse(text, environment) {
        Ok(root) => check(Rc::new(root), path, environment, secrets, &mut diagnostics),
        Err(syntax) => {
            let (at, error) = (ConfigPath::default(), syntax.error);
            diagnostics.shape_error_at(syntax.mark, &at, error.problem, error.remedy);
            None
        }
    };
    let has_errors = diagnostics.has_errors();
    let report = Report::new(diagnostics.into_problems());
    match config {
        Some((config, masked)) if !has_errors => Ok(Loaded {
            masked,
            files: config.files().map(Path::to_path_buf).collect(),
            config,
            warnings: report,
        }),
        _ => Err(report),
    }
}

/// Returns the JSON Schema (draft 2020-12) of the config file, for editors.
#[must_use]
pub fn schema() -> Json {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<Json> = LazyLock::new(generate_schema);

fn load_file(path: &Path, environment: &Environment) -> Result<Loaded, Report> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let mut diagnostics = Diagnostics::new(&path.to_string_lossy());
        let problem = format!("failed to read the file: {error}");
        diagnostics.error(
            &ConfigPath::default(),
            problem,
            "name a readable UTF-8 text file",
        );
        Report::new(diagnostics.into_problems())
    })?;
    let mut loaded = load_text(&text, path, environment)?;
    loaded.files.insert(0, path.to_path_buf());
    Ok(loaded)
}

/// Returns the text of a file with one provider for each type that is used without a file and whose
/// variable is set.
fn default_text(environment: &Environment) -> String {
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
    root: Rc<Node>,
    path: &Path,
    environment: &Environment,
    secrets: Secrets,
    diagnostics: &mut Diagnostics,
) -> Option<(Config, Json)> {
    diagnostics.set_tree(Rc::clone(&root));
    let reader = SchemaReader {
        root: &SCHEMA,
        file_folder: path.parent().unwrap_or(Path::new("")),
        environment_folder: environment.folder(),
    };
    let json = reader.read(&root, diagnostics)?;
    let masked = mask_secrets(&SCHEMA, &SCHEMA, &json);
    let Ok(raw) = serde_json::from_value::<RawConfig>(json) else {
        diagnostics.schema_mismatch(&ConfigPath::default());
        return None;
    };
    let names = DefinedNames::new(&root);
    let config = raw.check(&names, environment, secrets, diagnostics);
    Some((config, masked))
}
