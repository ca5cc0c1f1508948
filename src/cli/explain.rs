//! `explain` on the command line: a configuration and a request from files, no network.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use llm_router_config::{Config, Environment};
use llm_router_domain::budget::TypicalOutput;
use llm_router_domain::format::Format;
use llm_router_domain::key::{Key, KeyHasher, Role};
use llm_router_domain::limit::Limits;
use llm_router_domain::pattern::PatternList;
use llm_router_store::objects::Objects;
use llm_router_wire::formats::client_formats;

use crate::cli::{Failure, Outcome};
use crate::clock;
use crate::routing::explain::{ExplainRequest, explain};
use crate::snapshot::compile::{self, CompileInputs, compile};
use crate::snapshot::prices;
use crate::sync::reload::LoadError;

/// Arguments of `explain`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The request's body as JSON; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// The configuration; found as by serve.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The body's format, openai-chat, openai-responses or anthropic-messages; guessed unless set.
    #[arg(long, value_parser = format_named)]
    format: Option<Format>,
    /// The static key that asks, by its name; unless set, one that may use every model.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// A header of the request, as `NAME: VALUE`; may be given several times.
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// `explain`
pub(crate) fn command(arguments: &Arguments) -> Outcome {
    let environment = Environment::read(&std::env::current_dir()?);
    let loaded = llm_router_config::load(arguments.config.as_deref(), &environment)
        .map_err(LoadError::Config)?;
    let config = loaded.config;
    let prices = prices::table(config.prices.as_deref()).map_err(LoadError::Config)?;
    let hasher = KeyHasher::new(&String::new().into());
    let surroundings = CompileInputs {
        // Nothing is sent: any address will do.
        mock: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        admin_key: None,
        hasher: &hasher,
        prices: Arc::new(prices),
        // The store isn't asked: what was made by API is not known here.
        objects: &Objects::default(),
        issued: &Arc::default(),
        previous: None,
    };
    let snapshot = compile(&config, 0, &surroundings);
    let key = asking_key(&config, arguments.key.as_deref())?;
    let body = read(&arguments.request)?;
    // Nothing was learned of any model yet, as when a router begins.
    let unknown = TypicalOutput::default();
    let question = ExplainRequest {
        snapshot: &snapshot,
        enabled: config.routing.enabled,
        key: &key,
        headers: &arguments.headers.iter().cloned().collect::<HeaderMap>(),
        body: &body,
        format: arguments.format,
        now: clock::wall(),
        random: fastrand::u64(..),
        typical_output: &|provider, model| unknown.estimate(provider, model, None),
        pretty: true,
    };
    let explained = explain(&question);
    let json = explained.map_err(|fault| Failure::Usage(fault.message.into_owned()))?;
    writeln!(io::stdout(), "{json}")?;
    Ok(ExitCode::SUCCESS)
}

/// The key that asks: a static one, or one that may use everything.
fn asking_key(config: &Config, name: Option<&str>) -> Result<Key, Failure> {
    let Some(name) = name else {
        return Ok(Key {
            name: String::new(),
            owner: None,
            role: Role::Admin,
            models: PatternList::new(["*"]),
            expires_at: None,
            limits: Limits::NONE,
            budget: None,
        });
    };
    let found = config.keys.iter().find(|key| key.name == name);
    found
        .map(compile::static_key)
        .ok_or_else(|| Failure::Usage(format!("no key of the configuration is named `{name}`")))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut body = Vec::new();
        io::stdin().read_to_end(&mut body)?;
        return Ok(body);
    }
    fs::read(file).map_err(|error| {
        let message = format!("{} can't be read: {error}", file.display());
        io::Error::new(error.kind(), message)
    })
}

fn format_named(name: &str) -> Result<Format, String> {
    let found = client_formats().find(|format| format.name() == name);
    found.ok_or_else(|| {
        let known: Vec<_> = client_formats().map(Format::name).collect();
        format!("`{name}` is none of {}", known.join(", "))
    })
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = text.split_once(':').and_then(|(name, value)| {
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value.trim()).ok()?))
    });
    parsed.ok_or_else(|| format!("`{text}` is no header; write NAME: VALUE"))
}
