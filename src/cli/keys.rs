//! `keys create`, `keys list` and `keys revoke`: the keys of the store from the shell, whether a
//! router runs or not. Running ones follow within a second.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use llm_router_admin::ObjectError;
use llm_router_config::{Config, Environment, StaticKey};
use llm_router_domain::budget::Period;
use llm_router_domain::key::{BudgetSpec, KeyHasher, KeySpec, LimitSpec, Role};
use llm_router_store::objects::{AuditQuery, Handle, ObjectChange, ObjectKind, StoredObject};
use llm_router_store::{Store, StoreUrl};
use rust_decimal::Decimal;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Runtime;

use crate::admin_api::editor::{by, to_object_error};
use crate::cli::ledger::{load, must_exist};
use crate::cli::{Failure, Outcome};
use crate::keys::generate::{check_spec, new_key, no_salt};
use crate::keys::stored_keys::{PREFIX, spec_of};
use crate::ledger;
use crate::sync::change_notifier::ChangeNotifier;
use crate::sync::reload::LoadError;

/// Actions on the keys of the store.
#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it. It is shown once.
    Create(Create),
    /// List the keys of the store.
    List {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// End a key.
    Revoke {
        /// Its id or its name.
        key: String,
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Args)]
pub(crate) struct ConfigFile {
    /// The configuration; found as by serve.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Create {
    /// Its name, unique among all keys.
    #[arg(long)]
    name: String,
    /// Its role: user, viewer, operator or admin.
    #[arg(long, default_value = "user", value_parser = role)]
    role: Role,
    /// The team or project it belongs to; the key's name if not given.
    #[arg(long)]
    owner: Option<String>,
    /// The models it may use, separated by commas; * stands for any text.
    #[arg(long, default_value = "*", value_delimiter = ',')]
    models: Vec<String>,
    /// Requests in any 60 seconds.
    #[arg(long)]
    rpm: Option<u64>,
    /// Tokens in any 60 seconds.
    #[arg(long)]
    tpm: Option<u64>,
    /// Requests at the same time.
    #[arg(long)]
    concurrency: Option<u32>,
    /// Requests let through at once, the others at an even pace; all of rpm if not given.
    #[arg(long)]
    burst: Option<u64>,
    /// US dollars that it may spend in a period.
    #[arg(long, value_name = "USD", requires = "period")]
    budget: Option<Decimal>,
    /// The period of the budget: day, week, month or total.
    #[arg(long, value_parser = period, requires = "budget")]
    period: Option<Period>,
    /// From when on it is refused, as 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
    #[command(flatten)]
    config: ConfigFile,
}

/// `keys`
pub(crate) fn keys(command: KeysCommand) -> Outcome {
    match command {
        KeysCommand::Create(create) => create_key(create),
        KeysCommand::List { config } => list(config),
        KeysCommand::Revoke { key, config } => revoke(&key, config),
    }
}

fn create_key(create: Create) -> Outcome {
    let spec = KeySpec {
        name: create.name,
        role: create.role,
        owner: create.owner,
        models: create.models,
        limits: LimitSpec {
            rpm: create.rpm,
            tpm: create.tpm,
            concurrency: create.concurrency,
            burst: create.burst,
        },
        budget: create
            .budget
            .zip(create.period)
            .map(|(usd, period)| BudgetSpec {
                usd,
                period,
                allow_unpriced: false,
            }),
        expires_at: create.expires_at,
        enabled: true,
    };
    check_spec(&spec).map_err(|error| Failure::Usage(error.to_string()))?;
    let salt = salt()?.ok_or_else(|| Failure::Usage(no_salt().to_string()))?;
    let opened = Opened::open(create.config)?;
    if opened.in_file.contains(&spec.name) {
        return Err(Failure::Usage(format!(
            "a key of the file has the name {}",
            spec.name
        )));
    }
    let (draft, text) = new_key(&KeyHasher::new(&salt), &spec).map_err(to_failure)?;
    opened.change(ObjectChange::Create(draft))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.expose_secret())?;
    writeln!(
        io::stderr(),
        "The key is shown this once. It is in {}; routers with that store take it within a second.",
        opened.url
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Name of the store's first admin key.
const FIRST: &str = "first-admin";

/// Result of `migrate` concerning an admin key.
pub(crate) enum FirstKey {
    /// There is one, or there once was a key: nothing is to be done.
    NotNeeded,
    /// It was made. It is shown once.
    Made(SecretString),
    /// None is there and none can be kept.
    NoSalt,
}

/// Makes the first admin key, where the environment and the file name none and no key was ever made
/// in the store: not even one that was revoked since.
pub(crate) fn first_key(file: Option<PathBuf>) -> Result<FirstKey, Failure> {
    let opened = Opened::open(ConfigFile { config: file })?;
    let environment = Environment::read(&env::current_dir()?);
    if opened.has_admin || environment.non_empty("ADMIN_API_KEY").is_some() {
        return Ok(FirstKey::NotNeeded);
    }
    if opened.ever_had_a_key()? {
        return Ok(FirstKey::NotNeeded);
    }
    let Some(salt) = salt()? else {
        return Ok(FirstKey::NoSalt);
    };
    let spec = KeySpec {
        name: FIRST.to_owned(),
        role: Role::Admin,
        owner: None,
        models: vec!["*".to_owned()],
        limits: LimitSpec::default(),
        budget: None,
        expires_at: None,
        enabled: true,
    };
    check_spec(&spec).map_err(|error| Failure::Usage(error.to_string()))?;
    let (draft, text) = new_key(&KeyHasher::new(&salt), &spec).map_err(to_failure)?;
    opened.change(ObjectChange::Create(draft))?;
    Ok(FirstKey::Made(text))
}

fn list(config: ConfigFile) -> Outcome {
    let opened = Opened::open_existing(config)?;
    let mut out = io::stdout().lock();
    writeln!(out, "ID\tNAME\tPREFIX\tROLE\tOWNER\tENABLED\tEXPIRES")?;
    let mut after: Option<String> = None;
    loop {
        let keys = opened.page(after.as_deref())?;
        for key in &keys {
            write_line(&mut out, key)?;
        }
        match keys.last() {
            Some(last) => after = Some(last.id.clone()),
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn write_line(out: &mut impl io::Write, key: &StoredObject) -> io::Result<()> {
    let Ok(spec) = spec_of(&key.body) else {
        return Ok(());
    };
    writeln!(
        out,
        "{}\t{}\t{}\t{}\t{}\t{}\t{}",
        key.id,
        spec.name,
        key.body[PREFIX].as_str().unwrap_or_default(),
        spec.role.name(),
        spec.owner(),
        if spec.enabled { "yes" } else { "no" },
        spec.expires_at
            .map_or_else(|| "never".to_owned(), |at| at.to_string()),
    )
}

fn revoke(key: &str, config: ConfigFile) -> Outcome {
    let opened = Opened::open_existing(config)?;
    let found = match opened.find(Handle::Id(key))? {
        None => opened.find(Handle::Name(key))?,
        found => found,
    };
    let found = found.ok_or_else(|| Failure::Usage(format!("the store has no key {key}")))?;
    opened.change(ObjectChange::Delete {
        kind: ObjectKind::Key,
        id: found.id.clone(),
        expected: None,
    })?;
    writeln!(io::stdout(), "{} is revoked", found.name)?;
    Ok(ExitCode::SUCCESS)
}

/// Keys that are read at once.
const PAGE: u32 = 1_000;

/// The store of a configuration, open.
struct Opened {
    runtime: Runtime,
    store: Arc<dyn Store>,
    /// Address of the store, without its password.
    url: StoreUrl,
    /// Tells running routers.
    broadcast: ChangeNotifier,
    /// The names of the file's keys.
    in_file: Vec<String>,
    /// Returns whether one of those is an admin's.
    has_admin: bool,
}

impl Opened {
    /// Opens the store, and makes it if there is none.
    fn open(file: ConfigFile) -> Result<Self, Failure> {
        Self::of(load(file.config)?)
    }

    /// Opens the store that a router or an earlier command has made.
    fn open_existing(file: ConfigFile) -> Result<Self, Failure> {
        let config = load(file.config)?;
        must_exist(&config.store.url)?;
        Self::of(config)
    }

    fn of(config: Config) -> Result<Self, Failure> {
        let runtime = ledger::runtime()?;
        let store = runtime.block_on(ledger::open_store(&config.store.url));
        let store = store.map_err(LoadError::Ledger)?;
        let admin = |key: &StaticKey| key.enabled && key.role == Role::Admin;
        let broadcast = ChangeNotifier::of(&config);
        let broadcast = broadcast.map_err(|error| LoadError::System(io::Error::other(error)))?;
        Ok(Self {
            runtime,
            store,
            url: config.store.url.clone(),
            broadcast,
            has_admin: config.keys.iter().any(admin),
            in_file: config.keys.into_iter().map(|key| key.name).collect(),
        })
    }

    fn ever_had_a_key(&self) -> Result<bool, Failure> {
        let query = AuditQuery {
            kind: Some(ObjectKind::Key.name().to_owned()),
            limit: 1,
            ..AuditQuery::default()
        };
        let audited = self.runtime.block_on(self.store.audit(&query));
        let audited = audited.map_err(LoadError::Store)?;
        Ok(!audited.items.is_empty() || !self.page(None)?.is_empty())
    }

    /// The next keys after that of an id.
    fn page(&self, after: Option<&str>) -> Result<Vec<StoredObject>, Failure> {
        let keys = self.store.page(ObjectKind::Key, after, PAGE);
        Ok(self.runtime.block_on(keys).map_err(LoadError::Store)?)
    }

    fn find(&self, handle: Handle<'_>) -> Result<Option<StoredObject>, Failure> {
        let found = self.store.find(ObjectKind::Key, handle);
        Ok(self.runtime.block_on(found).map_err(LoadError::Store)?)
    }

    fn change(&self, change: ObjectChange) -> Result<(), Failure> {
        let changed = self.store.change(change, by("shell"));
        let changed = self.runtime.block_on(changed);
        changed.map_err(|error| to_failure(to_object_error(error)))?;
        if let Err(error) = self.runtime.block_on(self.broadcast.say()) {
            tracing::warn!(
                error,
                "failed to notify routers of the change; they poll the store"
            );
        }
        Ok(())
    }
}

fn to_failure(error: ObjectError) -> Failure {
    match error {
        ObjectError::Store(error) => LoadError::Store(error).into(),
        ObjectError::AlreadyExists => Failure::Usage("another key has that name".to_owned()),
        other => Failure::Usage(other.to_string()),
    }
}

fn salt() -> Result<Option<SecretString>, Failure> {
    let environment = Environment::read(&env::current_dir()?);
    Ok(environment
        .non_empty("API_KEY_SALT")
        .map(SecretString::from))
}

fn role(name: &str) -> Result<Role, String> {
    let roles = [Role::User, Role::Viewer, Role::Operator, Role::Admin];
    let found = roles.into_iter().find(|role| role.name() == name);
    found.ok_or_else(|| "it is user, viewer, operator or admin".to_owned())
}

fn period(name: &str) -> Result<Period, String> {
    let periods = [Period::Day, Period::Week, Period::Month, Period::Total];
    let found = periods.into_iter().find(|period| period.name() == name);
    found.ok_or_else(|| "it is day, week, month or total".to_owned())
}
