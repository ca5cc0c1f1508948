//! Three mock providers and a router in front of them, each a process of its own, and the router's
//! metrics. It must not send load.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::bed::{CHAT, KEY};
use crate::child::Process;
use crate::clock;
use crate::target::{self, LoadTarget};

/// The ids of the providers; the first is the one that is made to fail.
pub(crate) const PROVIDERS: [&str; 3] = ["a", "b", "c"];
/// Timeout of anything on the stage.
const PATIENCE: Duration = Duration::from_secs(20);

/// A router with three providers; dropping it ends everything.
pub(crate) struct Stage {
    router: Process,
    mocks: Vec<StageMock>,
    listen: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

struct StageMock {
    binary: PathBuf,
    address: SocketAddr,
    log: PathBuf,
    process: Option<Process>,
}

impl StageMock {
    fn start(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(["mock", "--listen", &self.address.to_string()]);
        self.process = Some(Process::start(command, None, self.log.clone())?);
        Ok(())
    }
}

impl Stage {
    /// Starts everything; `models` is the YAML of the models.
    ///
    /// # Errors
    /// Returns an error if a process doesn't answer.
    pub(crate) async fn start(binary: &Path, models: &str) -> anyhow::Result<Self> {
        let binary = binary
            .canonicalize()
            .with_context(|| binary.display().to_string())?;
        let folder = tempfile::tempdir()?;
        let mut mocks = Vec::new();
        for id in PROVIDERS {
            let mut mock = StageMock {
                binary: binary.clone(),
                address: free_address()?,
                log: folder.path().join(format!("{id}.log")),
                process: None,
            };
            mock.start()?;
            mocks.push(mock);
        }
        let (listen, admin) = (free_address()?, free_address()?);
        let addresses: Vec<_> = mocks.iter().map(|mock| mock.address).collect();
        let config = folder.path().join("router.yaml");
        fs::write(&config, yaml(listen, admin, &addresses, models))?;
        let mut command = Command::new(binary);
        command
            .args(["serve", "--config"])
            .arg(config)
            .current_dir(&folder)
            .env_clear();
        let router = Process::start(command, None, folder.path().join("router.log"))?;
        let mut stage = Self {
            router,
            mocks,
            listen,
            admin,
            folder,
        };
        for mock in 0..PROVIDERS.len() {
            stage.set(mock, "").await?;
        }
        stage.ready().await?;
        Ok(stage)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let end = clock::now() + PATIENCE;
        loop {
            let metrics = self.metrics().await.map(drop);
            let connected = TcpStream::connect(self.listen).await;
            if metrics.is_ok() && connected.is_ok() {
                return Ok(());
            }
            let said = || format!("{metrics:?}: {}", self.router.last_words());
            ensure!(clock::now() < end, "the router doesn't answer: {}", said());
            ensure!(self.router.runs(), "the router has ended");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the target of chats.
    pub(crate) fn target(&self) -> anyhow::Result<LoadTarget> {
        LoadTarget::new(&format!("http://{}{CHAT}", self.listen), Some(KEY), &[])
    }

    /// Sets the controls of a mock, in the mock's own grammar.
    ///
    /// # Errors
    /// Returns an error if it refuses them.
    pub(crate) async fn set(&self, mock: usize, controls: &str) -> anyhow::Result<()> {
        let address = self.mocks.get(mock).context("no such mock")?.address;
        let request = format!(
            "PUT /mock/controls HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{controls}",
            controls.len()
        );
        let end = clock::now() + PATIENCE;
        loop {
            match target::once(address, request.as_bytes()).await {
                Ok((200..=299, _)) => return Ok(()),
                Ok((status, body)) => bail!("{status}: {}", String::from_utf8_lossy(&body)),
                Err(error) => ensure!(clock::now() < end, "{error}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends a mock, so that connections to it are refused.
    pub(crate) fn stop(&mut self, mock: usize) {
        if let Some(mock) = self.mocks.get_mut(mock) {
            mock.process = None;
        }
    }

    /// Starts a mock that was ended.
    ///
    /// # Errors
    /// Returns an error if it doesn't start.
    pub(crate) async fn restart(&mut self, mock: usize) -> anyhow::Result<()> {
        self.mocks.get_mut(mock).context("no such mock")?.start()?;
        self.set(mock, "").await
    }

    /// The router's metrics.
    ///
    /// # Errors
    /// Returns an error if it doesn't answer.
    pub(crate) async fn metrics(&self) -> anyhow::Result<ScrapedMetrics> {
        let target = LoadTarget::new(&format!("http://{}/metrics", self.admin), None, &[])?;
        let (status, body) = target::once(target.address, &target.get()).await?;
        ensure!(status == 200, "metrics: {status}");
        Ok(ScrapedMetrics(String::from_utf8(body)?))
    }

    /// The router's process.
    pub(crate) fn pid(&self) -> u32 {
        self.router.id()
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("router.yaml")
    }
}

/// Metrics of the router.
pub(crate) struct ScrapedMetrics(String);

impl ScrapedMetrics {
    /// A metric's value, summed over the lines whose labels hold all of `labels`.
    pub(crate) fn get(&self, name: &str, labels: &[&str]) -> f64 {
        let wanted = |line: &&str| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        self.0.lines().filter(wanted).filter_map(value).sum()
    }

    /// Attempts at a provider, of one outcome or of all.
    pub(crate) fn attempts(&self, provider: &str, outcome: Option<&str>) -> f64 {
        let provider = format!("provider=\"{provider}\"");
        let outcome = outcome.map_or(String::new(), |outcome| format!("outcome=\"{outcome}\""));
        self.get("llm_router_attempts_total", &[&provider, &outcome])
    }

    /// Returns true if a provider's deployment is resting.
    pub(crate) fn rests(&self, provider: &str) -> bool {
        let provider = format!("provider=\"{provider}\"");
        let labels = [provider.as_str(), "deployment=\"mock-gpt\""];
        self.get("llm_router_deployment_resting", &labels) > 0.0
    }
}

/// A model of all three providers.
pub(crate) fn model(name: &str, strategy: &str) -> String {
    let deployments = PROVIDERS.map(|id| format!("{{ provider: {id}, model: mock-gpt }}"));
    format!(
        "  - name: {name}\n    strategy: {strategy}\n    deployments: [{}]\n",
        deployments.join(", ")
    )
}

fn yaml(listen: SocketAddr, admin: SocketAddr, mocks: &[SocketAddr], models: &str) -> String {
    let providers = PROVIDERS.iter().zip(mocks).map(|(id, mock)| {
        format!(
            "  - id: {id}\n    type: mock\n    base_url: http://{mock}/v1\n    \
             timeouts: {{ connect: 1s, first_byte: 500ms, first_byte_plain: 500ms, idle: 5s, total: 60s }}\n"
        )
    });
    let providers: String = providers.collect();
    format!(
        "server: {{ listen: \"{listen}\", drain_timeout: 2s }}\n\
         admin: {{ listen: \"{admin}\", metrics_public: true }}\n\
         providers:\n{providers}models:\n{models}\
         keys:\n  - {{ name: bench, key: {KEY}, role: user }}\n"
    )
}

/// An address of this machine that nothing listens on.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
