//! `serve` and `demo`: loads the configuration, wires the parts and runs them.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures::future::BoxFuture;
use http::HeaderMap;
use jiff::civil::Date;
use llm_router_admin::Caller;
use llm_router_config::Config;
use llm_router_domain as domain;
use llm_router_domain::key::KeyHasher;
use llm_router_store::{LedgerStore, StoreError};
use secrecy::{ExposeSecret as _, SecretString};

use crate::access_log::AccessLog;
use crate::authenticate::authenticate;
use crate::clock;
use crate::ledger::{self, Ledger};
use crate::limits::Limiter;
use crate::metrics::Metrics;
use crate::proxy::{self, Live, ServiceOptions, Shared, SharedLive, SideTask};
use crate::reload::{LoadError, Loader, Reloader, watch};
use crate::snapshot::Snapshot;
use crate::unserved::unserved;

/// How `serve` was asked to run.
pub(crate) struct Start {
    /// The configuration, or nothing for the built-in defaults.
    pub(crate) file: Option<PathBuf>,
    /// The working directory: `.env` is read here.
    pub(crate) folder: PathBuf,
    pub(crate) mock: llm_router_mock::Config,
    /// A key that the caller has made up for this run.
    pub(crate) admin_key: Option<SecretString>,
    /// Whether the access log is JSON.
    pub(crate) json_log: bool,
}

/// Serves until a signal ends the process.
///
/// # Errors
/// A configuration that can't be used, a port that can't be had, or a ledger that can't be opened.
pub(crate) fn serve(start: Start) -> Result<(), LoadError> {
    let environment = llm_router_config::Environment::read(&start.folder);
    let salt = environment
        .non_empty("API_KEY_SALT")
        .map_or_else(random_secret, SecretString::from);
    let admin_key = start.admin_key.or_else(|| {
        environment
            .non_empty("ADMIN_API_KEY")
            .map(SecretString::from)
    });
    let hasher = KeyHasher::new(&salt);
    let loader = Loader::new(
        start.file,
        start.folder,
        admin_key.clone(),
        hasher,
        start.mock,
    );
    let loaded = loader.load()?;
    for warning in loaded.warnings.warnings() {
        tracing::warn!("{warning}");
    }
    let config = loaded.config;
    let loader = with_some_key(loader, &config, admin_key.is_some())?;
    let metrics = Arc::new(Metrics::new().map_err(io::Error::other)?);
    let live = Live::bind(loader.compile(&config, 1)?, None)?;
    announce(&loader, &config, &live.snapshot);
    must_be_free(config.server.listen)?;
    let runtime = ledger::runtime()?;
    let store = runtime.block_on(ledger::open_store(&config.store.url))?;
    let ledger = Arc::new(Ledger::open(&config.store, store, &runtime)?);
    let live: SharedLive = Arc::new(ArcSwap::from_pointee(live));
    metrics.config_loaded(1);
    let limits = Arc::new(Limiter::new(Arc::clone(&metrics)));
    let access_log = AccessLog::start(start.json_log)?;
    let side_tasks = vec![
        ("admin", admin_task(&config, &live, &metrics, &ledger)?),
        ("reload", reload_task(loader, &live, &metrics)),
    ];
    let shared = Shared {
        live,
        metrics,
        access_log: access_log.clone(),
        ledger: Arc::clone(&ledger),
        limits,
    };
    let ran = proxy::run(&service_options(&config), shared, side_tasks);
    runtime.block_on(ledger.close());
    access_log.write_out();
    ran.map_err(|error| LoadError::System(io::Error::other(error.to_string())))
}

fn announce(loader: &Loader, config: &Config, snapshot: &Snapshot) {
    for sentence in unserved(config) {
        tracing::warn!("{sentence}");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %config.server.listen,
        admin = %config.admin.listen,
        config = %loader.file().unwrap_or(Path::new("built-in defaults")).display(),
        providers = snapshot.providers.len(),
        models = snapshot.models.len(),
        keys = snapshot.keys.len(),
        "starting"
    );
}

fn service_options(config: &Config) -> ServiceOptions {
    let server = &config.server;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    ServiceOptions {
        listen: server.listen.to_string(),
        tls: server
            .tls
            .as_ref()
            .map(|tls| (tls.cert.clone(), tls.key.clone())),
        threads: server
            .threads
            .map_or_else(cores, |threads| usize::from(threads.get())),
        header_timeout: server.header_timeout,
        drain_timeout: server.drain_timeout,
    }
}

/// A router that nobody has a key for is of no use: makes one up for this run and shows it.
fn with_some_key(loader: Loader, config: &Config, has_admin_key: bool) -> io::Result<Loader> {
    if has_admin_key || config.keys.iter().any(|key| key.enabled) {
        return Ok(loader);
    }
    let key = random_key();
    writeln!(
        io::stderr(),
        "No key is configured. For this run only, use the admin key {}\n\
         Set ADMIN_API_KEY or add keys to the configuration to choose your own.",
        key.expose_secret()
    )?;
    Ok(loader.with_admin_key(key))
}

/// A new key: 32 random bytes in two version 4 UUIDs' worth of text.
pub(crate) fn random_key() -> SecretString {
    format!("sk-router-{}", random_secret().expose_secret()).into()
}

fn random_secret() -> SecretString {
    let (one, two) = (uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    format!("{one}{two}").into()
}

/// Tells of a taken port before any service starts, in one sentence.
fn must_be_free(address: SocketAddr) -> io::Result<()> {
    std::net::TcpListener::bind(address)
        .map(drop)
        .map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("can't listen on {address}: {error}"))
}

fn admin_task(
    config: &Config,
    live: &SharedLive,
    metrics: &Arc<Metrics>,
    ledger: &Arc<Ledger>,
) -> io::Result<SideTask> {
    let address = config.admin.listen;
    let listener =
        std::net::TcpListener::bind(address).map_err(|error| cannot_listen(address, &error))?;
    listener.set_nonblocking(true)?;
    let source = Arc::new(AdminSource {
        live: Arc::clone(live),
        metrics: Arc::clone(metrics),
        ledger: Arc::clone(ledger),
        metrics_public: config.admin.metrics_public,
    });
    Ok(Box::new(move |stop| {
        let (listener, source) = (listener.try_clone(), Arc::clone(&source));
        Box::pin(async move {
            let serving = async {
                let listener = tokio::net::TcpListener::from_std(listener?)?;
                llm_router_admin::serve(listener, source, stop).await
            };
            if let Err(error) = serving.await {
                tracing::error!(%error, "the admin service ended");
            }
        })
    }))
}

fn reload_task(loader: Loader, live: &SharedLive, metrics: &Arc<Metrics>) -> SideTask {
    let reloader = Arc::new(Reloader::new(loader, Arc::clone(live), Arc::clone(metrics)));
    Box::new(move |stop| until(stop, watch(Arc::clone(&reloader))))
}

/// Runs a task until `stop` resolves.
fn until(
    stop: BoxFuture<'static, ()>,
    task: impl Future<Output = ()> + Send + 'static,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        tokio::select! {
            () = task => {}
            () = stop => {}
        }
    })
}

/// What the admin service reads of the router.
struct AdminSource {
    live: SharedLive,
    metrics: Arc<Metrics>,
    ledger: Arc<Ledger>,
    metrics_public: bool,
}

#[async_trait]
impl llm_router_admin::Source for AdminSource {
    fn metrics(&self) -> String {
        self.metrics.render()
    }

    fn metrics_are_public(&self) -> bool {
        self.metrics_public
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, String> {
        let live = self.live.load();
        let key = authenticate(&live.snapshot.keys, headers, clock::wall())
            .map_err(|fault| fault.message.into_owned())?;
        Ok(Caller {
            role: key.role,
            key: key.name.clone(),
            owner: key.owner.clone(),
        })
    }

    fn today(&self) -> Date {
        let now = jiff::Timestamp::try_from(clock::wall());
        domain::ledger::day(now.unwrap_or_default())
    }

    async fn ledger(&self) -> Result<Arc<dyn LedgerStore>, StoreError> {
        self.ledger.up_to_date().await
    }
}
