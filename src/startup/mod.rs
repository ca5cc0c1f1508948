//! `serve` and `demo`: loads the configuration, wires the parts and runs them.

pub(crate) mod counters;
pub(crate) mod predecessors;
pub(crate) mod running;

use std::future::Future;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use llm_router_config::{Config, Loaded, LogFormat};
use llm_router_domain::key::KeyHasher;
use llm_router_store::objects::Objects;
use llm_router_store::seal::Sealer;
use llm_router_store::{Store, StoreError};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Runtime;

use crate::admin_api::AdminBackend;
use crate::admin_api::config::ConfigEditor;
use crate::admin_api::editor::Editor;
use crate::admin_api::keys::KeyEditor;
use crate::admin_api::providers::ProviderEditor;
use crate::admin_api::routing::RoutingEditor;
use crate::budgets::Budgets;
use crate::health::Health;
use crate::keys::generate;
use crate::keys::last_used::{UseLog, keep_written};
use crate::keys::stored_keys::IssuedKeys;
use crate::ledger::metrics::LedgerMetrics;
use crate::ledger::{self, Ledger};
use crate::limits::Limiter;
use crate::process::listeners::Sockets;
use crate::proxy::{self, AppState, Collector, Live, SharedLive, SideTask, keep_checked};
use crate::routing::toggle::ToggleReplica;
use crate::snapshot::Snapshot;
use crate::snapshot::stored_rules::broken;
use crate::startup::predecessors::follow_others;
use crate::startup::running::Running;
use crate::sync::change_notifier::ChangeNotifier;
use crate::sync::reload::{LoadError, Loader, Reloader, SighupListener, watch};
use crate::sync::store_poller::Follower;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::refusals::Refusals;
use crate::telemetry::traces::Traces;

/// Options of `serve`.
pub(crate) struct Start {
    /// The configuration, or nothing for the built-in defaults.
    pub(crate) file: Option<PathBuf>,
    /// Set if the sockets of a running process are taken over.
    pub(crate) upgrade: bool,
    /// The working directory: `.env` is read here.
    pub(crate) folder: PathBuf,
    pub(crate) mock: llm_router_mock::MockConfig,
    /// A key that the caller has made up for this run.
    pub(crate) admin_key: Option<SecretString>,
    /// Set if the access log is JSON.
    pub(crate) json_log: bool,
}

/// Serves until a signal ends the process.
///
/// # Errors
/// A configuration that can't be used, a port that can't be had, or a ledger that can't be opened.
pub(crate) fn serve(start: Start) -> Result<(), LoadError> {
    let hasher = KeyHasher::new(&generate::random_secret());
    let loader = Loader::new(start.file, start.folder, hasher, start.mock);
    let loaded = loader.load()?;
    log_warnings(&loaded);
    let config = loaded.config.clone();
    let sealer = sealer(&config)?;
    // Stored keys would be void after a run in which they were hashed with a salt of its own.
    let issuer = config.secrets.key_salt.as_ref().map(KeyHasher::new);
    let admin_key = start.admin_key.or_else(|| config.secrets.admin_key.clone());
    let loader = with_some_key(loader.with_hasher(issuer.clone()), &config, admin_key)?;
    let loader = loader.with_sealer(sealer.clone());
    let metrics = Arc::new(Metrics::new().map_err(io::Error::other)?);
    let money = LedgerMetrics::new(metrics.registry()).map_err(io::Error::other)?;
    let sockets = (!start.upgrade)
        .then(|| Sockets::bind(&config))
        .transpose()?;
    let runtime = ledger::runtime()?;
    let sighups = SighupListener::listen(&runtime)?;
    let store = runtime.block_on(ledger::open_store(&config.store.url))?;
    let (objects, issued) = runtime.block_on(made_by_api(store.as_ref()))?;
    let live = Live::bind(loader.compile(&config, &objects, &issued, None)?, None)?;
    announce(&loader, &config, &live.snapshot);
    let entries = Arc::<dyn Store>::clone(&store);
    let ledger = Ledger::open(&config.store, entries, money, &runtime, start.upgrade)?;
    let ledger = Arc::new(ledger);
    metrics.config_loaded(1);
    let (limits, budgets) = counters::start(&config, &runtime, &metrics)?;
    metrics.rules_broken(broken(&live.snapshot.listed_rules).count());
    let live: SharedLive = Arc::new(ArcSwap::from_pointee(live));
    let access_log = access_log(&config, start.json_log)?;
    let traces = traces(&config, &runtime, &metrics)?;
    let (health, refusals) = (Arc::<Health>::default(), Arc::<Refusals>::default());
    let routing = routing_editor(&runtime, loader, loaded, objects, store, &live, &metrics)?;
    let editor = routing.editor.clone();
    let switch = Arc::clone(&routing.switch);
    let uses = Arc::clone(live.load().snapshot.keys.uses());
    let parts = Parts {
        budgets: Arc::clone(&budgets),
        limits: Arc::clone(&limits),
        refusals: Arc::clone(&refusals),
        routing,
        keys: KeyEditor {
            editor: editor.clone(),
            live: Arc::clone(&live),
            hasher: issuer,
        },
        sealer,
    };
    let source = admin_backend(&config, parts, &live, &metrics, &ledger, &health);
    let admin = llm_router_admin::service(Arc::new(source), &config.admin.cors);
    let running = Running::begin(&config, &runtime, sockets, &ledger)?;
    runtime.spawn(follow_others(Arc::clone(&ledger), Arc::clone(&budgets)));
    let mut side_tasks = vec![
        ("admin", running.admin_task(admin.clone())?),
        ("health", health_task(&live, health)),
        ("uses", uses_task(&uses, &editor.store)),
    ];
    side_tasks.extend(keeping_in_step(&editor, sighups, &metrics));
    let shared = AppState {
        live,
        metrics,
        access_log: access_log.clone(),
        refusals,
        ledger: Arc::clone(&ledger),
        admin: config.server.admin_paths.then_some(admin),
        limits,
        budgets,
        switch,
        traces: traces.clone(),
        ending: Arc::clone(&running.ending),
    };
    let ran = proxy::run(running.options(&config), shared, side_tasks);
    runtime.block_on(async {
        write_uses(&uses, editor.store.as_ref()).await;
        ledger.close().await;
    });
    end_telling(traces, &access_log);
    ran.map_err(|error| LoadError::System(io::Error::other(error.to_string())))
}

/// Tasks that follow the file, the store and other replicas.
fn keeping_in_step(
    editor: &Editor,
    sighups: Arc<SighupListener>,
    metrics: &Arc<Metrics>,
) -> [(&'static str, SideTask); 3] {
    let (reloader, broadcast) = (Arc::clone(&editor.reloader), Arc::clone(&editor.broadcast));
    [
        ("reload", reload_task(reloader, sighups)),
        (
            "broadcast",
            broadcast_task(broadcast, &editor.follower, metrics),
        ),
        ("follow", follow_task(Arc::clone(&editor.follower))),
    ]
}

fn end_telling(traces: Option<Arc<Traces>>, access_log: &AccessLog) {
    if let Some(traces) = traces {
        traces.close();
    }
    access_log.write_out();
}

fn log_warnings(loaded: &Loaded) {
    for warning in loaded.warnings.warnings() {
        tracing::warn!("{warning}");
    }
}

/// The access log, as it is configured; JSON where the rest of the log is, if that isn't said.
fn access_log(config: &Config, json: bool) -> io::Result<AccessLog> {
    let settings = config.telemetry.access_log;
    let json = match settings.format {
        LogFormat::Auto => json,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    AccessLog::start(json, settings.sample)
}

/// Starts traces, if they are configured.
fn traces(
    config: &Config,
    runtime: &Runtime,
    metrics: &Metrics,
) -> io::Result<Option<Arc<Traces>>> {
    let Some(settings) = &config.telemetry.traces else {
        return Ok(None);
    };
    let handle = runtime.handle().clone();
    let collector = Collector::new(settings, handle, metrics.trace_exports().clone())?;
    let traces = Traces::start(settings, collector)?;
    tracing::info!(collector = %settings.endpoint, sample = settings.sample, "exporting traces");
    Ok(Some(Arc::new(traces)))
}

/// Loads what was made by API: in this order, so that what is changed meanwhile is noticed.
async fn made_by_api(store: &dyn Store) -> Result<(Objects, Arc<IssuedKeys>), StoreError> {
    let objects = store.objects().await?;
    let issued = IssuedKeys::load(store, &IssuedKeys::default()).await?;
    Ok((objects, Arc::new(issued)))
}

/// Timeout of writing the last uses of keys at shutdown.
const USES: Duration = Duration::from_secs(2);

async fn write_uses(uses: &UseLog, store: &dyn Store) {
    let writing = tokio::time::timeout(USES, uses.write_out(store));
    if !matches!(writing.await, Ok(Ok(()))) {
        tracing::warn!("failed to persist last-used times of keys");
    }
}

/// Parts that the admin service may change.
struct Parts {
    budgets: Arc<Budgets>,
    limits: Arc<Limiter>,
    refusals: Arc<Refusals>,
    routing: RoutingEditor,
    keys: KeyEditor,
    sealer: Option<Sealer>,
}

/// Makes the backend of the admin service.
fn admin_backend(
    config: &Config,
    parts: Parts,
    live: &SharedLive,
    metrics: &Arc<Metrics>,
    ledger: &Arc<Ledger>,
    health: &Arc<Health>,
) -> AdminBackend {
    let editor = parts.routing.editor.clone();
    AdminBackend {
        live: Arc::clone(live),
        metrics: Arc::clone(metrics),
        refusals: parts.refusals,
        ledger: Arc::clone(ledger),
        budgets: parts.budgets,
        limits: parts.limits,
        health: Arc::clone(health),
        metrics_public: config.admin.metrics_public,
        clients_port: config.server.listen.port(),
        providers: ProviderEditor {
            editor: editor.clone(),
            sealer: parts.sealer,
            live: Arc::clone(live),
            health: Arc::clone(health),
        },
        config: ConfigEditor { editor },
        keys: parts.keys,
        routing: parts.routing,
    }
}

/// Parts that keep the running router up to date: with its file, with its store, with its operators.
fn routing_editor(
    runtime: &Runtime,
    loader: Loader,
    loaded: Loaded,
    objects: Objects,
    store: Arc<dyn Store>,
    live: &SharedLive,
    metrics: &Arc<Metrics>,
) -> Result<RoutingEditor, LoadError> {
    let switch = ToggleReplica::open(
        Arc::clone(&store),
        loaded.config.routing.enabled,
        loaded.config.routing.toggle,
        Arc::clone(metrics),
    );
    let switch = Arc::new(runtime.block_on(switch)?);
    let poll = loaded.config.store.poll;
    let broadcast = ChangeNotifier::of(&loaded.config).map_err(io::Error::other)?;
    let broadcast = Arc::new(broadcast);
    let reloader = Arc::new(Reloader::new(
        loader,
        loaded,
        objects,
        Arc::clone(live),
        Arc::clone(&switch),
        Arc::clone(&store),
        Arc::clone(metrics),
    ));
    let follower = Arc::new(Follower::new(
        Arc::clone(&store),
        Arc::clone(&switch),
        Arc::clone(&reloader),
        Arc::clone(metrics),
        poll,
    ));
    let editor = Editor {
        store,
        reloader,
        follower,
        broadcast,
    };
    Ok(RoutingEditor { switch, editor })
}

fn announce(loader: &Loader, config: &Config, snapshot: &Snapshot) {
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

/// Gives the loader the bootstrap admin key. Without one and without keys in the file nobody could use
/// the router: a key is generated for this run and printed.
fn with_some_key(
    loader: Loader,
    config: &Config,
    admin_key: Option<SecretString>,
) -> io::Result<Loader> {
    if let Some(key) = admin_key {
        return Ok(loader.with_admin_key(key));
    }
    if config.keys.iter().any(|key| key.enabled) {
        return Ok(loader);
    }
    let key = generate::random_key();
    writeln!(
        io::stderr(),
        "No key is configured. For this run only, use the admin key {}\n\
         Set ADMIN_API_KEY or add keys to the configuration to choose your own.",
        key.expose_secret()
    )?;
    Ok(loader.with_admin_key(key))
}

/// Returns the sealer of stored credentials, if the environment has a key for it.
fn sealer(config: &Config) -> Result<Option<Sealer>, LoadError> {
    let key = config.secrets.secret_key.as_ref();
    let sealer = key.map(|key| Sealer::new(key, &[])).transpose();
    sealer.map_err(|error| LoadError::System(io::Error::other(error.to_string())))
}

fn reload_task(reloader: Arc<Reloader>, sighups: Arc<SighupListener>) -> SideTask {
    Box::new(move |stop| until(stop, watch(Arc::clone(&reloader), Arc::clone(&sighups))))
}

/// Also while the process drains: a key that is revoked then is revoked for it too.
fn follow_task(follower: Arc<Follower>) -> SideTask {
    Box::new(move |_| {
        let follower = Arc::clone(&follower);
        Box::pin(async move { follower.run().await })
    })
}

fn broadcast_task(
    broadcast: Arc<ChangeNotifier>,
    follower: &Arc<Follower>,
    metrics: &Arc<Metrics>,
) -> SideTask {
    let (follower, metrics) = (Arc::clone(follower), Arc::clone(metrics));
    Box::new(move |stop| {
        let broadcast = Arc::clone(&broadcast);
        let (follower, metrics) = (Arc::clone(&follower), Arc::clone(&metrics));
        until(
            stop,
            async move { broadcast.run(&follower, &metrics).await },
        )
    })
}

fn uses_task(uses: &Arc<UseLog>, store: &Arc<dyn Store>) -> SideTask {
    let (uses, store) = (Arc::clone(uses), Arc::clone(store));
    Box::new(move |stop| until(stop, keep_written(Arc::clone(&uses), Arc::clone(&store))))
}

fn health_task(live: &SharedLive, health: Arc<Health>) -> SideTask {
    let live = Arc::clone(live);
    Box::new(move |stop| until(stop, keep_checked(Arc::clone(&live), Arc::clone(&health))))
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
