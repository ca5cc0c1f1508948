//! A router and its mock providers, started in one sentence:
//! `gateway().provider("up", &mock).model("fast", "up", "mock-gpt").run().await`.
//! When a gateway is dropped it is checked: it must exit by itself with code 0, and
//! its log must hold neither a panic nor a secret.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::secrets::{assert_kept, secrets_of};

/// The key that every gateway accepts, with role admin.
pub(crate) const KEY: &str = "sk-client-key-0123456789";
/// The credential that providers are configured with.
pub(crate) const CREDENTIAL: &str = "sk-provider-credential-0123456789";

/// A mock provider of its own, on a port of its own.
pub(crate) struct Mock {
    pub(crate) address: SocketAddr,
    pub(crate) meter: llm_router_mock::BillingMeter,
    _stop: oneshot::Sender<()>,
}

/// Starts a mock provider.
pub(crate) async fn mock() -> Mock {
    mock_with(llm_router_mock::MockConfig::default()).await
}

/// Starts a mock provider of another kind.
pub(crate) async fn mock_with(config: llm_router_mock::MockConfig) -> Mock {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mock = llm_router_mock::MockProvider::new(config);
    let meter = mock.meter().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let stop = async move {
            let _ = stopped.await;
        };
        mock.serve(listener, stop).await.unwrap();
    });
    Mock {
        address,
        meter,
        _stop: stop,
    }
}

impl Mock {
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Sets what it does with requests that don't say themselves.
    pub(crate) async fn set_controls(&self, controls: &str) {
        let url = format!("http://{}/mock/controls", self.address);
        let request = reqwest::Client::new().put(url).body(controls.to_owned());
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }

    /// The base URL for a provider of a type.
    pub(crate) fn url_for(&self, kind: &str) -> String {
        let version = if kind == "gemini" { "v1beta" } else { "v1" };
        format!("http://{}/{version}", self.address)
    }
}

/// A port that nothing listens on.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Settings that a gateway is started with.
pub(crate) struct GatewayBuilder {
    config: Value,
    environment: Vec<(String, String)>,
    files: Vec<(&'static str, &'static str)>,
}

pub(crate) fn gateway() -> GatewayBuilder {
    let config = json!({
        "server": { "listen": free_address().to_string(), "drain_timeout": "5s" },
        "admin": { "listen": free_address().to_string(), "metrics_public": true },
        "providers": [],
        "models": [],
        "keys": [{ "name": "client", "key": "${CLIENT_KEY}", "role": "admin" }],
    });
    let environment = [("CLIENT_KEY", KEY), ("CREDENTIAL", CREDENTIAL)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    GatewayBuilder {
        config,
        environment: environment.into(),
        files: Vec::new(),
    }
}

impl GatewayBuilder {
    /// Adds a provider that speaks both formats.
    pub(crate) fn provider(self, id: &str, mock: &Mock) -> Self {
        self.provider_at(id, "mock", &mock.base_url())
    }

    pub(crate) fn provider_at(self, id: &str, kind: &str, base_url: &str) -> Self {
        self.add(
            "providers",
            json!({
                "id": id, "type": kind, "base_url": base_url, "api_key": "${CREDENTIAL}",
                "forward_headers": ["x-mock-*"],
                "timeouts": { "connect": "2s", "first_byte": "2s", "first_byte_plain": "2s", "idle": "2s" },
            }),
        )
    }

    /// Adds a public name with one deployment.
    pub(crate) fn model(self, name: &str, provider: &str, model: &str) -> Self {
        let deployments = json!([{ "provider": provider, "model": model }]);
        self.add(
            "models",
            json!({ "name": name, "deployments": deployments }),
        )
    }

    /// Adds an item to a list of the configuration.
    pub(crate) fn add(mut self, list: &str, item: Value) -> Self {
        self.config[list].as_array_mut().unwrap().push(item);
        self
    }

    /// Sets a field of the configuration by its JSON pointer.
    pub(crate) fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        self.config.pointer_mut(parent).unwrap()[field] = value;
        self
    }

    /// Sets a variable of the router's environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts a file beside the configuration.
    pub(crate) fn file(mut self, name: &'static str, text: &'static str) -> Self {
        self.files.push((name, text));
        self
    }

    /// Starts the router, which must end by itself; its log.
    pub(crate) fn fails_to_start(self) -> String {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("llm-router.yaml");
        fs::write(&file, self.config.to_string()).unwrap();
        for (name, text) in &self.files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut serve = command(folder.path(), &self.environment);
        let output = serve
            .args(["serve", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "it did not fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Starts the router and waits until it is ready.
    pub(crate) async fn run(self) -> Gateway {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("llm-router.yaml");
        // JSON is YAML.
        fs::write(&file, self.config.to_string()).unwrap();
        let log = folder.path().join("log");
        for (name, text) in &self.files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let child = spawn(folder.path(), &self.environment, &log);
        let address = |pointer: &str| self.config.pointer(pointer).unwrap().as_str().unwrap();
        let scheme = if self.config["server"].get("tls").is_some() {
            "https"
        } else {
            "http"
        };
        let secrets = secrets_of(&self.environment, &self.config);
        let gateway = Gateway {
            address: address("/server/listen").parse().unwrap(),
            url: format!("{scheme}://{}", address("/server/listen")),
            admin_url: format!("http://{}", address("/admin/listen")),
            config: self.config,
            environment: self.environment,
            child,
            folder,
            log,
            secrets,
            client: client(),
        };
        gateway.ready().await;
        gateway
    }
}

/// The router's command in a folder that holds its configuration.
fn command(folder: &Path, environment: &[(String, String)]) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

fn spawn(folder: &Path, environment: &[(String, String)], log: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(log);
    command(folder, environment)
        .args(["serve", "--config"])
        .arg(folder.join("llm-router.yaml"))
        .stderr(log.unwrap())
        .spawn()
        .unwrap()
}

pub(crate) fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_llm-router")
}

fn client() -> reqwest::Client {
    let mut headers = HeaderMap::new();
    let key = HeaderValue::from_str(&format!("Bearer {KEY}")).unwrap();
    headers.insert("authorization", key);
    reqwest::Client::builder()
        .default_headers(headers)
        .build()
        .unwrap()
}

/// A running router.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    pub(crate) admin_url: String,
    pub(crate) config: Value,
    pub(crate) client: reqwest::Client,
    environment: Vec<(String, String)>,
    child: Child,
    folder: TempDir,
    log: PathBuf,
    /// Texts that no answer, metric or log line may contain.
    secrets: Vec<String>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// OpenAI's `error.code`.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Gateway {
    async fn ready(&self) {
        let health = format!("{}/healthz", self.url);
        eventually("the router is ready", || async {
            // A port that takes connections isn't enough: the router tries it out before it starts.
            let answered = self.client.get(&health).send().await.is_ok();
            let taken = || tokio::net::TcpStream::connect(self.address);
            answered || self.url.starts_with("https") && taken().await.is_ok()
        })
        .await;
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("llm-router.yaml")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs another command of the router's, with the same configuration, to its end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        command(self.folder(), &self.environment)
            .args(arguments)
            .arg("--config")
            .arg(self.config_file())
            .output()
            .unwrap()
    }

    /// Ends the process as a crash does, and starts it anew on what it left.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(self.folder.path(), &self.environment, &self.log);
        self.ready().await;
    }

    /// Starts the process that is to replace this one, with the configuration in `file`.
    pub(crate) fn start_next(&self, file: &Path) -> Child {
        let log = fs::File::options().append(true).open(&self.log);
        command(self.folder(), &self.environment)
            .args(["serve", "--upgrade", "--config"])
            .arg(file)
            .stderr(log.unwrap())
            .spawn()
            .unwrap()
    }

    /// Replaces the process by a new one, as an operator does; the old one, which is ending.
    pub(crate) async fn upgrade(&mut self) -> EndingProcess {
        let next = self.start_next(&self.config_file());
        let upgrades = self.log().matches(HANDED_OVER).count();
        self.signal("QUIT");
        eventually("the sockets are handed over", || async {
            self.log().matches(HANDED_OVER).count() > upgrades
        })
        .await;
        EndingProcess(std::mem::replace(&mut self.child, next))
    }

    /// Asks the admin service, with the usual key or as the given `authorization`.
    pub(crate) async fn admin(&self, path: &str, authorization: Option<&str>) -> Answer {
        let request = match authorization {
            None => self.client.get(format!("{}{path}", self.admin_url)),
            Some(value) => reqwest::Client::new()
                .get(format!("{}{path}", self.admin_url))
                .header("authorization", value),
        };
        self.read(request.send().await.unwrap()).await
    }

    /// Replaces the configuration and waits until it is in force.
    pub(crate) async fn reload(&self, config: &Value) {
        let name = "llm_router_config_reloads_total";
        let applied = ["result=\"applied\""];
        let before = self.metric(name, &applied).await;
        fs::write(self.config_file(), config.to_string()).unwrap();
        self.signal("HUP");
        eventually("the configuration is in force", || async {
            self.metric(name, &applied).await > before
        })
        .await;
    }

    /// Sends a request to the admin service, as the holder of a key; headers are given as pairs.
    pub(crate) async fn administer(
        &self,
        key: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let url = format!("{}{path}", self.admin_url);
        let request = reqwest::Client::new()
            .request(method.parse().unwrap(), url)
            .header("authorization", format!("Bearer {key}"))
            .headers(header_map(headers));
        let body = (!body.is_null()).then(|| body.to_string());
        let request = match body {
            Some(body) => request.body(body),
            None => request,
        };
        self.read(request.send().await.unwrap()).await
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the process to end and gives its exit code.
    pub(crate) async fn wait_for_exit(&mut self) -> Option<i32> {
        exit_code(&mut self.child).await
    }

    /// Sends a request; headers are given as pairs.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let response = self.start(method, path, headers, body).await.unwrap();
        self.read(response).await
    }

    /// Reads an answer whole. None of its bytes may be a secret's.
    async fn read(&self, response: reqwest::Response) -> Answer {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let from = response.url().path().to_owned();
        let body = response.bytes().await.unwrap().to_vec();
        assert_kept(
            &self.secrets,
            &format!("headers of {from}"),
            format!("{headers:?}").as_bytes(),
        );
        assert_kept(&self.secrets, &from, &body);
        Answer {
            status,
            headers,
            body,
        }
    }

    /// Sends a request and gives its response while the body may still be coming.
    pub(crate) async fn start(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<reqwest::Response> {
        let method = method.parse().unwrap();
        let request = self.client.request(method, format!("{}{path}", self.url));
        request.headers(header_map(headers)).body(body).send().await
    }

    /// Asks for a chat completion.
    pub(crate) async fn chat(&self, model: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(
            "POST",
            "/v1/chat/completions",
            headers,
            chat_body(model, false),
        )
        .await
    }

    /// Asks for a streamed chat completion.
    pub(crate) async fn chat_stream(&self, model: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(
            "POST",
            "/v1/chat/completions",
            headers,
            chat_body(model, true),
        )
        .await
    }

    /// Waits until a metric has a value: what was counted shows a moment after the answer.
    pub(crate) async fn shows(&self, name: &str, labels: &[&str], value: f64) {
        let what = format!("{name} {labels:?} is {value}");
        eventually(&what, || async { self.metric(name, labels).await == value }).await;
    }

    /// Waits until the log has a text: it is written by a thread of its own.
    pub(crate) async fn logs(&self, text: &str) {
        eventually(text, || async { self.log().contains(text) }).await;
    }

    /// The value of a metric, summed over the lines whose labels hold all of `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self
            .client
            .get(format!("{}/metrics", self.admin_url))
            .send()
            .await
            .unwrap();
        let text = text.text().await.unwrap();
        assert_kept(&self.secrets, "/metrics", text.as_bytes());
        let wanted = |line: &&str| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
        };
        let values = text.lines().filter(wanted);
        values
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

/// Log line of a process that has handed over its sockets.
const HANDED_OVER: &str = "handed the sockets over to a new process";

/// A process that has handed its sockets over.
pub(crate) struct EndingProcess(Child);

impl EndingProcess {
    /// Waits for the process to end and gives its exit code.
    pub(crate) async fn wait_for_exit(mut self) -> Option<i32> {
        exit_code(&mut self.0).await
    }

    /// Sends it SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Waits for a process to end and gives its exit code.
pub(crate) async fn exit_code(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < deadline, "the process did not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let running = self.child.try_wait().unwrap().is_none();
        if running {
            self.signal("TERM");
        }
        let status = self.child.wait().unwrap();
        if std::thread::panicking() {
            eprintln!("the router's log:\n{}", self.log());
            return;
        }
        let log = self.log();
        assert_eq!(status.code(), Some(0), "the router ended badly:\n{log}");
        assert!(!log.contains("panicked"), "a panic:\n{log}");
        assert_kept(&self.secrets, "the log", log.as_bytes());
    }
}

pub(crate) fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    map
}

pub(crate) fn chat_body(model: &str, stream: bool) -> String {
    let messages = json!([{ "role": "user", "content": "Tell me about the sea." }]);
    json!({ "model": model, "messages": messages, "stream": stream }).to_string()
}

pub(crate) fn messages_body(model: &str, stream: bool) -> String {
    let messages = json!([{ "role": "user", "content": "Tell me about the sea." }]);
    json!({ "model": model, "max_tokens": 100, "messages": messages, "stream": stream }).to_string()
}

/// Polls a condition until it holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends raw bytes and reads until the server closes or is silent for a second.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(1), read).await;
    String::from_utf8_lossy(&answer).into_owned()
}
