//! The test bed: starts upstream and proxies on free ports, each on its CPU, and ends them.
//! It measures nothing.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::child::Process;
use crate::payload::{self, MODEL};
use crate::proc::{self, Memory};
use crate::target::{self, LoadTarget};
use crate::{certificate, clock};

/// The key that clients of the router use here.
pub(crate) const KEY: &str = "sk-bench-5f1d0c3b9a8e4d27b6c1";
/// The path most of the load goes to.
pub(crate) const CHAT: &str = "/v1/chat/completions";
/// A process has to answer within this time of its start.
const PATIENCE: Duration = Duration::from_secs(20);

/// CPUs by part of the bench; `None`: any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus {
    pub(crate) proxy: Option<usize>,
    pub(crate) load: Option<usize>,
}

impl Cpus {
    /// Proxy on CPU 0, everything else on CPU 1, if there are two.
    pub(crate) fn default_here() -> Self {
        let two = available_parallelism().is_ok_and(|count| count.get() > 1);
        Self {
            proxy: two.then_some(0),
            load: two.then_some(1),
        }
    }
}

/// A kind of proxy.
#[derive(Clone, Debug)]
pub(crate) enum ProxyKind {
    /// The plain Pingora pass-through.
    Floor,
    /// The router's binary.
    Router(PathBuf),
    /// The router's binary with TLS.
    RouterTls(PathBuf),
    /// The router's binary without its ledger.
    RouterUnbilled(PathBuf),
    /// A command with `{listen}` and `{upstream}` in it.
    Command(String),
    /// The nginx binary.
    Nginx(PathBuf),
    /// Runs already: URL and process id.
    Running(String, u32),
}

/// The proxy that a command is about.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct ProxyUnderTest {
    /// The router's binary; it is started with a config made for this
    #[arg(long)]
    pub(crate) router: Option<PathBuf>,
    /// Another proxy's command, with {listen} and {upstream} for HOST:PORT
    #[arg(long, value_name = "COMMAND")]
    pub(crate) router_cmd: Option<String>,
}

impl ProxyUnderTest {
    /// Returns the kind of proxy to start.
    pub(crate) fn kind(&self) -> ProxyKind {
        match (&self.router, &self.router_cmd) {
            (Some(path), _) => ProxyKind::Router(path.clone()),
            (None, Some(command)) => ProxyKind::Command(command.clone()),
            (None, None) => ProxyKind::Floor,
        }
    }
}

/// A proxy that answers.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) name: String,
    pub(crate) target: LoadTarget,
    pub(crate) pid: u32,
    process: Option<Process>,
}

impl Proxy {
    /// CPU time used so far, in nanoseconds.
    ///
    /// # Errors
    /// Returns an error if the proxy has exited.
    pub(crate) fn cpu_nanos(&self) -> anyhow::Result<u64> {
        proc::cpu_nanos(self.pid).with_context(|| format!("{} has ended", self.name))
    }

    /// Memory held now.
    ///
    /// # Errors
    /// Returns an error if the proxy has exited.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        proc::memory(self.pid).with_context(|| format!("{} has ended", self.name))
    }

    /// Everything it logged, if it was started here.
    pub(crate) fn log(&self) -> String {
        let read = |process: &Process| fs::read(process.log()).ok();
        let log = self.process.as_ref().and_then(read).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

/// Upstream and temporary folder; dropping it ends the upstream.
pub(crate) struct TestBed {
    pub(crate) cpus: Cpus,
    pub(crate) upstream: SocketAddr,
    folder: TempDir,
    _upstream: Process,
}

impl TestBed {
    /// Starts the upstream, and moves this thread to the load's CPU.
    ///
    /// # Errors
    /// Returns an error if the upstream doesn't answer.
    pub(crate) async fn start(
        cpus: Cpus,
        at: Option<SocketAddr>,
        digest: bool,
    ) -> anyhow::Result<Self> {
        proc::raise_open_files()?;
        if let Some(cpu) = cpus.load {
            proc::pin(cpu)?;
        }
        let folder = tempfile::tempdir()?;
        let upstream = at.map_or_else(free_address, Ok)?;
        let mut command = Command::new(env::current_exe()?);
        command
            .arg("upstream")
            .arg("--listen")
            .arg(upstream.to_string());
        command.args(digest.then_some("--digest"));
        let process = Process::start(command, cpus.load, folder.path().join("upstream.log"))?;
        let bed = Self {
            cpus,
            upstream,
            folder,
            _upstream: process,
        };
        bed.open_streams_when_ready().await?;
        Ok(bed)
    }

    /// Starts a proxy and waits until it answers a chat.
    ///
    /// # Errors
    /// Returns an error with the end of its log if it doesn't.
    pub(crate) async fn proxy(&self, name: &str, kind: &ProxyKind) -> anyhow::Result<Proxy> {
        let listen = free_address()?;
        let url = format!("http://{listen}{CHAT}");
        if let ProxyKind::Running(url, pid) = kind {
            let target = LoadTarget::new(url, Some(KEY), &[])?;
            return Ok(Proxy {
                name: name.to_owned(),
                target,
                pid: *pid,
                process: None,
            });
        }
        let command = self.command(kind, listen)?;
        let log = self.folder.path().join(format!("{name}.log"));
        let mut process = Process::start(command, self.cpus.proxy, log)?;
        let target = LoadTarget::new(&url, Some(KEY), &[])?;
        ready(
            &mut process,
            &target,
            matches!(kind, ProxyKind::RouterTls(_)),
        )
        .await
        .with_context(|| format!("{name} doesn't answer; it said:\n{}", process.last_words()))?;
        Ok(Proxy {
            name: name.to_owned(),
            target,
            pid: process.id(),
            process: Some(process),
        })
    }

    /// Streams that the upstream has open now.
    ///
    /// # Errors
    /// Returns an error if it doesn't answer.
    pub(crate) async fn open_streams(&self) -> anyhow::Result<u64> {
        let target = LoadTarget::new(&format!("http://{}/bench/open", self.upstream), None, &[])?;
        let (_, body) = target::once(target.address, &target.get()).await?;
        Ok(serde_json::from_slice::<UpstreamCounts>(&body)?.open)
    }

    async fn open_streams_when_ready(&self) -> anyhow::Result<()> {
        let end = clock::now() + PATIENCE;
        while let Err(error) = self.open_streams().await {
            ensure!(clock::now() < end, "the upstream doesn't answer: {error:#}");
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn command(&self, kind: &ProxyKind, listen: SocketAddr) -> anyhow::Result<Command> {
        match kind {
            ProxyKind::Floor => self.floor(listen),
            ProxyKind::Router(path) => self.router(path, listen, RouterVariant::Usual),
            ProxyKind::RouterTls(path) => self.router(path, listen, RouterVariant::Tls),
            ProxyKind::RouterUnbilled(path) => self.router(path, listen, RouterVariant::Unbilled),
            ProxyKind::Command(template) => self.command_from_template(template, listen),
            ProxyKind::Nginx(path) => self.nginx(path, listen),
            ProxyKind::Running(..) => bail!("runs already"),
        }
    }

    fn floor(&self, listen: SocketAddr) -> anyhow::Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        let (listen, upstream) = (listen.to_string(), self.upstream.to_string());
        command.args(["floor", "--listen", &listen, "--upstream", &upstream]);
        Ok(command)
    }

    fn router(
        &self,
        path: &Path,
        listen: SocketAddr,
        variant: RouterVariant,
    ) -> anyhow::Result<Command> {
        let folder = tempfile::tempdir_in(self.folder.path())?.keep();
        let (tls, store) = match variant {
            RouterVariant::Usual => (String::new(), ""),
            RouterVariant::Tls => (certificate::write(&folder)?, ""),
            RouterVariant::Unbilled => (String::new(), "store:\n  ledger: false\n"),
        };
        let config = folder.join("router.yaml");
        let text = router_config(listen, free_address()?, self.upstream, &tls);
        fs::write(&config, text + store)?;
        fs::write(folder.join("prices.yaml"), PRICES)?;
        let path = path
            .canonicalize()
            .with_context(|| path.display().to_string())?;
        let mut command = Command::new(path);
        command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .current_dir(folder);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.env("API_KEY_SALT", "bench-salt-bench-salt-bench-salt");
        command.env("SECRET_KEY", "bench-secret-bench-secret-bench-secret");
        Ok(command)
    }

    fn command_from_template(&self, template: &str, listen: SocketAddr) -> anyhow::Result<Command> {
        let words = shlex::split(template).context("unbalanced quotes in the command")?;
        let fill = |word: String| {
            word.replace("{listen}", &listen.to_string())
                .replace("{upstream}", &self.upstream.to_string())
        };
        let mut words = words.into_iter().map(fill);
        let mut command = Command::new(words.next().context("the command is empty")?);
        command.args(words);
        Ok(command)
    }

    fn nginx(&self, path: &Path, listen: SocketAddr) -> anyhow::Result<Command> {
        let folder = self.folder.path();
        let config = folder.join("nginx.conf");
        fs::write(&config, nginx_config(folder, listen, self.upstream))?;
        let mut command = Command::new(path);
        command.arg("-p").arg(folder).arg("-c").arg(config);
        Ok(command)
    }
}

/// Configuration of the router.
#[derive(Clone, Copy)]
enum RouterVariant {
    Usual,
    Tls,
    Unbilled,
}

/// Prices of the model, so that costs are computed as for paid models.
const PRICES: &str =
    "bench/bench:\n  - { from: 2026-01-01, input: 0.15, cached_input: 0.075, output: 0.60 }\n";

#[derive(Deserialize)]
struct UpstreamCounts {
    open: u64,
}

/// Settings of the machine's user that must not reach the router under test.
const FOREIGN: [&str; 6] = [
    "DATABASE_URL",
    "REDIS_URL",
    "ADMIN_API_KEY",
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
];

fn router_config(listen: SocketAddr, admin: SocketAddr, upstream: SocketAddr, tls: &str) -> String {
    format!(
        "server:\n  listen: {listen}\n{tls}\
         admin:\n  listen: {admin}\n\
         providers:\n  - id: bench\n    type: custom\n    base_url: http://{upstream}/v1\n    \
         api_key: upstream-credential\n    models: [\"*\"]\n\
         keys:\n  - name: bench\n    key: {KEY}\n    role: user\n\
         prices: prices.yaml\n"
    )
}

/// A pass-through as plain as the floor: nothing logged, nothing buffered, connections kept.
fn nginx_config(folder: &Path, listen: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\nworker_rlimit_nofile 20000;\n\
         pid {folder}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 9000; }}\n\
         http {{\n  access_log off;\n  tcp_nodelay on;\n  keepalive_requests 100000000;\n  \
         client_body_temp_path {folder};\n  proxy_temp_path {folder};\n  \
         fastcgi_temp_path {folder};\n  uwsgi_temp_path {folder};\n  scgi_temp_path {folder};\n  \
         upstream bench {{ server {upstream}; keepalive 128; keepalive_requests 100000000; }}\n  \
         server {{\n    listen {listen};\n    client_max_body_size 0;\n    location / {{\n      \
         proxy_pass http://bench;\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n      proxy_buffering off;\n      \
         proxy_request_buffering off;\n    }}\n  }}\n}}\n"
    )
}

/// Waits until a chat is answered with 200, or until the port is open for TLS.
async fn ready(process: &mut Process, target: &LoadTarget, tls: bool) -> anyhow::Result<()> {
    let request = target.post(&payload::chat(MODEL, 256, None));
    let end = clock::now() + PATIENCE;
    loop {
        let answered = if tls {
            tokio::net::TcpStream::connect(target.address)
                .await
                .map(|_| 200)
                .map_err(Into::into)
        } else {
            target::once(target.address, &request)
                .await
                .map(|(status, _)| status)
        };
        if matches!(answered, Ok(200)) {
            return Ok(());
        }
        ensure!(process.runs(), "it has ended");
        ensure!(
            clock::now() < end,
            "after {} s: {answered:?}",
            PATIENCE.as_secs()
        );
        sleep(Duration::from_millis(20)).await;
    }
}

/// An address of this machine that nothing listens on.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
