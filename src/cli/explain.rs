//! `explain` on the command line: a request from a file, by a configuration and by what its store has of
//! rules, providers, keys and the toggle. Nothing is sent.

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
use llm_router_store::StoreError;
use llm_router_store::objects::Objects;
use llm_router_wire::formats::client_formats;

use crate::cli::ledger::must_exist;
use crate::cli::{Failure, Outcome};
use crate::clock;
use crate::keys::stored_keys::IssuedKeys;
use crate::ledger;
use crate::routing::explain::{ExplainRequest, explain};
use crate::snapshot::compile::{self, CompileInputs, compile};
use crate::snapshot::prices;
use crate::snapshot::stored_providers::{self, with_stored_providers};
use crate::startup::sealer;
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
    /// The key that asks, of the configuration or of the store, by its name; unless set, one that may use every model.
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
    let mut config = loaded.config;
    let stored = StoredState::read(&mut config)?;
    let config = with_stored_providers(&config, &stored.objects, sealer(&config)?.as_ref());
    let prices = prices::table(config.prices.as_deref()).map_err(LoadError::Config)?;
    let prices = prices.merge(stored_providers::prices(&stored.objects));
    let hasher = KeyHasher::new(&String::new().into());
    let surroundings = CompileInputs {
        // Nothing is sent: any address will do.
        mock: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        admin_key: None,
        hasher: &hasher,
        prices: Arc::new(prices),
        objects: &stored.objects,
        issued: &stored.issued,
        previous: None,
    };
    let snapshot = compile(&config, 0, &surroundings);
    let key = asking_key(&config, &stored.issued, arguments.key.as_deref())?;
    let body = read(&arguments.request)?;
    // Nothing was learned of any model yet, as when a router begins.
    let unknown = TypicalOutput::default();
    let question = ExplainRequest {
        snapshot: &snapshot,
        enabled: stored.enabled.unwrap_or(config.routing.enabled),
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

/// State of a configuration's store that decides about routes.
#[derive(Default)]
struct StoredState {
    objects: Objects,
    issued: Arc<IssuedKeys>,
    /// State of the toggle, once there is one.
    enabled: Option<bool>,
}

impl StoredState {
    /// Reads the store. A SQLite file that isn't there is not made: then nothing is stored.
    fn read(config: &mut Config) -> Result<Self, Failure> {
        if must_exist(&config.store.url).is_err() {
            return Ok(Self::default());
        }
        let runtime = ledger::runtime()?;
        runtime.block_on(async {
            let store = ledger::open_store(&mut config.store).await;
            let store = store.map_err(LoadError::Ledger)?;
            let read = async {
                let objects = store.objects().await?;
                let issued = IssuedKeys::load(store.as_ref(), &IssuedKeys::default()).await?;
                let toggle = store.toggle().await?;
                Ok::<_, StoreError>((objects, issued, toggle))
            };
            let (objects, issued, toggle) = read.await.map_err(LoadError::Store)?;
            Ok(Self {
                objects,
                issued: Arc::new(issued),
                enabled: toggle.map(|toggle| toggle.is_enabled(clock::timestamp())),
            })
        })
    }
}

/// The key that asks: one of the file or of the store, or one that may use everything.
fn asking_key(config: &Config, issued: &IssuedKeys, name: Option<&str>) -> Result<Key, Failure> {
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
        .or_else(|| issued.find_by_name(name))
        .ok_or_else(|| {
            let nobody = format!("no key of the configuration or the store is named `{name}`");
            Failure::Usage(nobody)
        })
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
