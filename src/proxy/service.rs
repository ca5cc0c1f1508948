//! Starts the process's services on Pingora's server, and ends them: stop accepting, let open
//! requests finish within the drain time, write out, leave.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use pingora::listeners::tls::TlsSettings;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service;

use super::app::{App, AppOptions};
use super::connections::Connections;
use super::{Gateway, SharedLive};
use crate::access_log::AccessLog;
use crate::budgets::Budgets;
use crate::ledger::Ledger;
use crate::limits::Limiter;
use crate::metrics::Metrics;
use crate::switch::Switch;
use crate::traces::Traces;

/// What the process listens on and how it ends.
pub(crate) struct ServiceOptions {
    pub(crate) listen: String,
    /// Certificate chain and private key, both PEM.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    pub(crate) threads: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) max_connections_per_address: Option<NonZeroU32>,
    pub(crate) drain_timeout: Duration,
}

/// A task that runs beside the proxy until the future it is given resolves.
pub(crate) type SideTask =
    Box<dyn Fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Everything that is shared with the services.
pub(crate) struct Shared {
    pub(crate) live: SharedLive,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: AccessLog,
    pub(crate) ledger: Arc<Ledger>,
    /// The admin service, if its paths are to be served to clients.
    pub(crate) admin: Option<axum::Router>,
    pub(crate) limits: Arc<Limiter>,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) switch: Arc<Switch>,
    pub(crate) traces: Option<Arc<Traces>>,
}

/// What is kept of the drain time for ending what isn't done: an error event for the client, the
/// ledger, the access line.
const FAREWELL: Duration = Duration::from_millis(500);

/// How often the drain looks whether anything is still open.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// What an ended request's last bytes get to leave the process.
const LAST_BYTES: Duration = Duration::from_millis(100);

/// Runs until a signal ends the process: SIGTERM drains, SIGINT doesn't. Returns when open
/// requests were still unfinished after the drain time; otherwise the process ends in here.
///
/// # Errors
/// When the certificate or its key can't be used.
pub(crate) fn run(
    options: &ServiceOptions,
    shared: Shared,
    side_tasks: Vec<(&'static str, SideTask)>,
) -> pingora::Result<()> {
    let conf = ServerConf {
        threads: options.threads,
        grace_period_seconds: Some(options.drain_timeout.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        max_retries: MOST_ATTEMPTS,
        upstream_keepalive_pool_size: POOL_SIZE,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let gateway = Gateway {
        live: Arc::clone(&shared.live),
        metrics: Arc::clone(&shared.metrics),
        access_log: shared.access_log.clone(),
        ledger: Arc::clone(&shared.ledger),
        budgets: Arc::clone(&shared.budgets),
        admin: shared.admin.clone(),
        limits: Arc::clone(&shared.limits),
        switch: Arc::clone(&shared.switch),
        traces: shared.traces.clone(),
    };
    let proxy = pingora::proxy::http_proxy(&server.configuration, gateway);
    let drain = options.drain_timeout.saturating_sub(FAREWELL);
    let app = AppOptions {
        header_timeout: options.header_timeout,
        drain,
        connections: options.max_connections_per_address.map(Connections::new),
    };
    let app = App::new(proxy, Arc::clone(&shared.metrics), app);
    let mut service = Service::new("proxy".to_owned(), app);
    match &options.tls {
        None => service.add_tcp(&options.listen),
        Some((certificate, key)) => {
            let settings = tls_settings(certificate, key)?;
            service.add_tls_with_settings(&options.listen, None, settings);
        }
    }
    server.add_service(service);
    let live = Arc::clone(&shared.live);
    let resolve: SideTask = Box::new(move |stop| {
        let resolving = super::live::keep_resolved(Arc::clone(&live));
        Box::pin(async move {
            tokio::select! {
                () = resolving => {}
                () = stop => {}
            }
        })
    });
    add_side_task(&mut server, "resolve", resolve);
    for (name, task) in side_tasks {
        add_side_task(&mut server, name, task);
    }
    let mut drain = background_service("drain", Drain(shared));
    drain.threads = Some(1);
    server.add_service(drain);
    server.run(RunArgs::default());
    Ok(())
}

/// A ceiling over every route's candidates and reconnections.
const MOST_ATTEMPTS: usize = 32;

/// Idle connections kept to upstreams.
const POOL_SIZE: usize = 1024;

fn tls_settings(
    certificate: &std::path::Path,
    key: &std::path::Path,
) -> pingora::Result<TlsSettings> {
    let mut settings =
        TlsSettings::intermediate(&certificate.to_string_lossy(), &key.to_string_lossy())?;
    settings.enable_h2();
    Ok(settings)
}

fn add_side_task(server: &mut Server, name: &'static str, task: SideTask) {
    let mut service = background_service(name, Side(task));
    service.threads = Some(1);
    server.add_service(service);
}

struct Side(SideTask);

#[async_trait]
impl BackgroundService for Side {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let stop = Box::pin(async move {
            // An error means that the server is gone, which is a stop too.
            let _ = shutdown.wait_for(|stop| *stop).await;
        });
        (self.0)(stop).await;
    }
}

/// Ends the process once nothing is open any more.
struct Drain(Shared);

#[async_trait]
impl BackgroundService for Drain {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        if shutdown.wait_for(|stop| *stop).await.is_err() {
            return;
        }
        tracing::info!(open = self.0.metrics.open_requests(), "draining");
        tokio::time::sleep(LAST_BYTES).await;
        while self.0.metrics.open_requests() > 0 {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        tokio::time::sleep(LAST_BYTES).await;
        self.0.budgets.leave().await;
        self.0.limits.leave().await;
        self.0.ledger.close().await;
        if let Some(traces) = self.0.traces.clone() {
            // It can't fail but by a panic, and there is nothing to be done about one here.
            let _ = tokio::task::spawn_blocking(move || traces.close()).await;
        }
        tracing::info!("drained");
        self.0.access_log.write_out();
        process::exit(0);
    }
}
