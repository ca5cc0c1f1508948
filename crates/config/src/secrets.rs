//! Secrets that come from the environment only, never from the file.

use llm_router_yaml::ValueError;
use secrecy::SecretString;

use crate::diagnostics::Diagnostics;
use crate::environment::Environment;
use crate::report::Severity;
use crate::scalar::TextSetting;

/// The least length in characters of a key; shorter ones are easy to guess.
pub(crate) const SHORTEST_GOOD_KEY: usize = 16;

/// The least length in characters of `SECRET_KEY`.
const SHORTEST_SECRET_KEY: usize = 32;

/// The router's own secrets. An empty variable counts as not set.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// `ADMIN_API_KEY`: the bootstrap admin key.
    pub admin_key: Option<SecretString>,
    /// `API_KEY_SALT`: the secret of the HMAC that keys are hashed with.
    pub key_salt: Option<SecretString>,
    /// `SECRET_KEY`: encrypts stored credentials; 32 characters or more.
    pub secret_key: Option<SecretString>,
}

impl Secrets {
    pub(crate) fn check(environment: &Environment, diagnostics: &mut Diagnostics) -> Self {
        let secret = |name| environment.non_empty(name).map(SecretString::from);
        check_admin_key(environment, diagnostics);
        check_length(
            "API_KEY_SALT",
            SHORTEST_GOOD_KEY,
            Severity::Warning,
            environment,
            diagnostics,
        );
        check_length(
            "SECRET_KEY",
            SHORTEST_SECRET_KEY,
            Severity::Error,
            environment,
            diagnostics,
        );
        Self {
            admin_key: secret("ADMIN_API_KEY"),
            key_salt: secret("API_KEY_SALT"),
            secret_key: secret("SECRET_KEY"),
        }
    }
}

/// Describes a secret that is short enough to be guessed.
pub(crate) fn too_short(length: usize, least: usize) -> ValueError {
    ValueError::new(
        format!("is only {length} characters long and easy to guess"),
        format!("use at least {least}, for example from `openssl rand -hex 32`"),
    )
}

fn check_admin_key(environment: &Environment, diagnostics: &mut Diagnostics) {
    let name = "ADMIN_API_KEY";
    let key = environment.non_empty(name).map(SecretString::parse);
    match key {
        Some(Err(error)) => diagnostics.add(environment.problem(Severity::Error, name, error)),
        _ => check_length(
            name,
            SHORTEST_GOOD_KEY,
            Severity::Error,
            environment,
            diagnostics,
        ),
    }
}

fn check_length(
    name: &str,
    least: usize,
    severity: Severity,
    environment: &Environment,
    diagnostics: &mut Diagnostics,
) {
    let length = environment
        .non_empty(name)
        .map(|value| value.chars().count());
    if let Some(length) = length.filter(|length| *length < least) {
        diagnostics.add(environment.problem(severity, name, too_short(length, least)));
    }
}
