#![doc = include_str!("../README.md")]

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

mod ask;
mod body;
mod clock;
mod config;
mod control;
mod format;
mod headers;
mod meter;
mod panel;
mod prose;
mod schema;
mod script;
mod server;
mod service;
mod socket;
mod usage;

pub use config::MockConfig;
pub use meter::{BillingMeter, Credential, EndedTotals, MeterRecord, MeterTotals, RecordState};
pub use usage::MockUsage;

use control::Controls;
use service::ServiceState;

/// A mock provider. Clones share its meter and its controls.
#[derive(Clone, Debug)]
pub struct MockProvider {
    shared: Arc<ServiceState>,
}

/// Controls that could not be read; says which and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ControlError(String);

impl MockProvider {
    /// A mock that answers by `config`.
    #[must_use]
    pub fn new(config: MockConfig) -> Self {
        Self {
            shared: Arc::new(ServiceState::new(config)),
        }
    }

    /// Serves connections of `listener` until `shutdown` is ready; then lets open answers finish
    /// for as long as the config says. Dropping the future ends everything at once.
    ///
    /// # Errors
    /// None now; connections that fail are left, and the listener is asked again.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        server::serve(listener, Arc::clone(&self.shared), shutdown).await
    }

    /// Serves on a free port of the loopback interface, in a task of the current runtime.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(config: MockConfig) -> io::Result<RunningMock> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let mock = Self::new(config);
        let (stop, stopped) = oneshot::channel();
        let served = mock.clone();
        let task = tokio::spawn(async move {
            let shutdown = async move { stopped.await.unwrap_or_default() };
            served.serve(listener, shutdown).await
        });
        Ok(RunningMock {
            mock,
            addr,
            stop: Some(stop),
            task,
        })
    }

    /// Returns the meter of requests and served tokens.
    #[must_use]
    pub fn meter(&self) -> &BillingMeter {
        &self.shared.meter
    }

    /// Sets the controls of every request that does not say otherwise, in the grammar of the
    /// model name: `status=503:delay=1s`. Empty, they are as at the start.
    ///
    /// # Errors
    /// If a control is unknown or has a wrong value; then nothing changes.
    pub fn set_controls(&self, controls: &str) -> Result<(), ControlError> {
        let controls = Controls::from_text(controls).map_err(ControlError)?;
        self.shared.controls.store(Arc::new(controls));
        Ok(())
    }
}

/// A mock that serves in a task of its own, until it is stopped or dropped.
#[derive(Debug)]
pub struct RunningMock {
    mock: MockProvider,
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

impl RunningMock {
    /// Returns the address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The mock that serves.
    #[must_use]
    pub fn mock(&self) -> &MockProvider {
        &self.mock
    }

    /// Returns the meter of requests and served tokens.
    #[must_use]
    pub fn meter(&self) -> &BillingMeter {
        self.mock.meter()
    }

    /// Stops serving and waits until it has stopped.
    ///
    /// # Errors
    /// If serving had failed.
    pub async fn stop(mut self) -> io::Result<()> {
        if let Some(stop) = self.stop.take() {
            // Refused only if the task has ended, and then there is nothing to stop.
            let _ = stop.send(());
        }
        (&mut self.task).await.map_err(io::Error::other)?
    }
}

impl Drop for RunningMock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves a new mock on `listener` until `shutdown` is ready. See [`MockProvider`] for one whose meter
/// can be read in the same process.
///
/// # Errors
/// As [`MockProvider::serve`].
pub async fn serve(
    listener: TcpListener,
    config: MockConfig,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    MockProvider::new(config).serve(listener, shutdown).await
}
