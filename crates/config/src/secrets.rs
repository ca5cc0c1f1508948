//! Secrets that come from the environment only, never from the file.

use secrecy::SecretString;

use crate::environment::Environment;
use crate::findings::{Findings, Wrong};
use crate::report::Severity;
use crate::scalar::TextSetting;

/// A key shorter than this many characters may be guessed.
pub(crate) const SHORTEST_GOOD_KEY: usize = 16;

/// The fewest characters of `SECRET_KEY`.
const SHORTEST_SECRET_KEY: usize = 32;

/// The router's own secrets. A variable that is set to nothing counts as not set.
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
    pub(crate) fn check(environment: &Environment, findings: &mut Findings) -> Self {
        let secret = |name| environment.non_empty(name).map(SecretString::from);
        check_admin_key(environment, findings);
        check_length(
            "API_KEY_SALT",
            SHORTEST_GOOD_KEY,
            Severity::Warning,
            environment,
            findings,
        );
        check_length(
            "SECRET_KEY",
            SHORTEST_SECRET_KEY,
            Severity::Error,
            environment,
            findings,
        );
        Self {
            admin_key: secret("ADMIN_API_KEY"),
            key_salt: secret("API_KEY_SALT"),
            secret_key: secret("SECRET_KEY"),
        }
    }
}

fn check_admin_key(environment: &Environment, findings: &mut Findings) {
    let name = "ADMIN_API_KEY";
    let key = environment.non_empty(name).map(SecretString::parse);
    match key {
        Some(Err(wrong)) => findings.add(environment.problem(Severity::Error, name, wrong)),
        _ => check_length(
            name,
            SHORTEST_GOOD_KEY,
            Severity::Warning,
            environment,
            findings,
        ),
    }
}

fn check_length(
    name: &str,
    least: usize,
    severity: Severity,
    environment: &Environment,
    findings: &mut Findings,
) {
    let length = environment
        .non_empty(name)
        .map(|value| value.chars().count());
    let Some(length) = length.filter(|length| *length < least) else {
        return;
    };
    let what = format!("has {length} characters, so it may be guessed");
    let remedy = format!("use {least} or more, from `openssl rand -hex 32`");
    findings.add(environment.problem(severity, name, Wrong::new(what, remedy)));
}
