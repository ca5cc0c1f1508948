//! `server`: the port that clients connect to.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;

use llm_router_domain::network::{IpNet, TrustedProxies};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::Diagnostics;
use crate::file::require_readable;
use crate::items::Items;
use crate::path::ConfigPath;
use crate::restart::{RestartOnly, RestartOnlySettings};
use crate::scalar::{ByteSize, Text, TimeSpan};

/// The port that clients connect to.
#[derive(Clone, Debug)]
pub struct Server {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Serve the admin API's paths on this port too.
    pub admin_paths: bool,
    /// The largest request body in bytes, inclusive.
    pub max_body: u64,
    /// The most bytes of request bodies held at once; `None`: half of the machine's memory.
    pub max_memory: Option<u64>,
    /// The certificate, if clients use TLS.
    pub tls: Option<Tls>,
    /// The time that open requests have to finish after SIGTERM.
    pub drain_timeout: Duration,
    /// The same after the sockets were handed to a new process.
    pub upgrade_drain_timeout: Duration,
    /// The Unix socket for that hand-over; [`crate::Config::upgrade_socket`] has the default.
    pub upgrade_socket: Option<PathBuf>,
    /// The time a client has to send a request's head.
    pub header_timeout: Duration,
    /// The longest pause of a client that sends a body.
    pub body_timeout: Duration,
    /// Longest wait of a client for the head of a streamed answer, and time between two comments then.
    pub keep_alive: Duration,
    /// The most connections of one client address at a time; `None`: any number.
    pub max_connections_per_address: Option<NonZeroU32>,
    /// The proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: TrustedProxies,
    /// Worker threads; `None`: one per core.
    pub threads: Option<NonZeroU16>,
}

/// A certificate and its key, as PEM files that exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, followed by its intermediate certificates.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The settings of an empty file.
impl Default for Server {
    fn default() -> Self {
        RawServer::default().check(
            &ConfigPath::default(),
            &mut RestartOnlySettings::default(),
            &mut Diagnostics::new(""),
        )
    }
}

/// The port that clients connect to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Server")]
pub(crate) struct RawServer {
    /// The address to listen on. The base URL is http://HOST:8000/v1 for OpenAI SDKs and
    /// http://HOST:8000 for Anthropic SDKs.
    listen: RestartOnly<Text<SocketAddr>>,
    /// Serve the admin API's paths on this port too.
    admin_paths: RestartOnly<bool>,
    /// The largest request body, from 1KiB to 1GiB. Larger ones are answered with 413.
    max_body: Text<ByteSize>,
    /// The most memory for request bodies that are held at once. Requests beyond it are answered with
    /// 503 and retry-after. Default: half of the machine's memory, or of the container's limit.
    max_memory: Option<Text<ByteSize>>,
    /// Use TLS, and HTTP/2 with clients that support it.
    tls: RestartOnly<Option<RawTls>>,
    /// The time that open requests have to finish after SIGTERM.
    drain_timeout: RestartOnly<Text<TimeSpan>>,
    /// The time that open requests have to finish after this process has handed its sockets to a new
    /// one, as in an upgrade. It should cover the providers' timeouts.total.
    upgrade_drain_timeout: RestartOnly<Text<TimeSpan>>,
    /// The Unix socket by which `serve --upgrade` takes the sockets over. It must be unique per
    /// router and at most 93 bytes long. Default: upgrade.sock in the journal's folder.
    upgrade_socket: RestartOnly<Option<Text<PathBuf>>>,
    /// The time a client has to send the head of a request.
    header_timeout: RestartOnly<Text<TimeSpan>>,
    /// The longest pause of a client that sends a request's body.
    body_timeout: Text<TimeSpan>,
    /// The longest that a streamed answer keeps its client waiting for its head. Then 200 is sent, and
    /// a comment as often as this, until the first content comes or every candidate has failed.
    keep_alive: Text<TimeSpan>,
    /// The most connections that one client address (for IPv6, one /64 network) may have open at a
    /// time; each HTTP/2 stream counts as one. More are answered with 429 and closed. Default: no
    /// limit. Behind a load balancer all clients share its address.
    #[schemars(range(min = 1))]
    max_connections_per_address: RestartOnly<Option<NonZeroU32>>,
    /// Networks of the proxies in front of the router whose x-forwarded-for is believed, such as
    /// 10.0.0.0/8. The client is the rightmost address of it that is not in one of them. Default: none,
    /// so that the client is whoever has the connection.
    trusted_proxies: Items<Text<IpNet>>,
    /// Worker threads. Default: one per core.
    #[schemars(range(min = 1, max = 1024))]
    threads: RestartOnly<Option<NonZeroU16>>,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tls")]
struct RawTls {
    /// The certificate, followed by its intermediate certificates.
    cert: Text<PathBuf>,
    /// The private key.
    key: Text<PathBuf>,
}

impl Default for RawServer {
    fn default() -> Self {
        let seconds = |seconds| Text(TimeSpan(Duration::from_secs(seconds)));
        Self {
            listen: RestartOnly::new(Text(SocketAddr::from(([0, 0, 0, 0], 8000)))),
            admin_paths: RestartOnly::new(true),
            max_body: Text(ByteSize(32 << 20)),
            max_memory: None,
            tls: RestartOnly::new(None),
            drain_timeout: RestartOnly::new(seconds(30)),
            upgrade_drain_timeout: RestartOnly::new(seconds(900)),
            upgrade_socket: RestartOnly::new(None),
            header_timeout: RestartOnly::new(seconds(10)),
            body_timeout: seconds(60),
            keep_alive: seconds(15),
            max_connections_per_address: RestartOnly::new(None),
            trusted_proxies: Items::default(),
            threads: RestartOnly::new(None),
        }
    }
}

impl RawServer {
    pub(crate) fn check(
        self,
        at: &ConfigPath,
        restart: &mut RestartOnlySettings,
        diagnostics: &mut Diagnostics,
    ) -> Server {
        let path = |name| at.field(name);
        Server {
            listen: self
                .listen
                .check(&path("listen"), restart, |address| address.0),
            admin_paths: self
                .admin_paths
                .check(&path("admin_paths"), restart, |on| on),
            max_body: check_max_body(self.max_body.0, &path("max_body"), diagnostics),
            max_memory: self.max_memory.map(|size| {
                check_max_memory(size.0, self.max_body.0, &path("max_memory"), diagnostics)
            }),
            tls: self.tls.check(&path("tls"), restart, |tls| {
                tls.map(|tls| tls.check(&path("tls"), diagnostics))
            }),
            drain_timeout: self
                .drain_timeout
                .check(&path("drain_timeout"), restart, |span| span.0.0),
            upgrade_drain_timeout: self.upgrade_drain_timeout.check(
                &path("upgrade_drain_timeout"),
                restart,
                |span| span.0.0,
            ),
            upgrade_socket: self
                .upgrade_socket
                .check(&path("upgrade_socket"), restart, |socket| {
                    let socket = socket?.0;
                    check_socket(&socket, &path("upgrade_socket"), diagnostics);
                    Some(socket)
                }),
            header_timeout: self
                .header_timeout
                .check(&path("header_timeout"), restart, |span| {
                    require_nonzero(span.0, &path("header_timeout"), diagnostics)
                }),
            body_timeout: require_nonzero(self.body_timeout.0, &path("body_timeout"), diagnostics),
            keep_alive: require_nonzero(self.keep_alive.0, &path("keep_alive"), diagnostics),
            max_connections_per_address: self.max_connections_per_address.check(
                &path("max_connections_per_address"),
                restart,
                |most| most,
            ),
            trusted_proxies: TrustedProxies::new(
                self.trusted_proxies
                    .with_paths(&path("trusted_proxies"), diagnostics)
                    .into_iter()
                    .map(|(_, network)| network.0)
                    .collect(),
            ),
            threads: self
                .threads
                .check(&path("threads"), restart, |threads| threads),
        }
    }
}

impl RawTls {
    fn check(self, at: &ConfigPath, diagnostics: &mut Diagnostics) -> Tls {
        require_readable(&self.cert.0, &at.field("cert"), diagnostics);
        require_readable(&self.key.0, &at.field("key"), diagnostics);
        Tls {
            cert: self.cert.0,
            key: self.key.0,
        }
    }
}

/// Reports a time of 0s, in which nothing can happen.
pub(crate) fn require_nonzero(
    span: TimeSpan,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) -> Duration {
    if span.0.is_zero() {
        diagnostics.error(at, "`0s` is too short", "write a time above 0s");
    }
    span.0
}

/// The longest path of a Unix socket of which a temporary name can be created in the same folder:
/// `sun_path` of unix(7) has 107 bytes.
const LONGEST_SOCKET: usize = 93;

fn check_socket(path: &Path, at: &ConfigPath, diagnostics: &mut Diagnostics) {
    let length = path.as_os_str().len();
    if length > LONGEST_SOCKET {
        let problem = format!(
            "the path is {length} bytes long; the most for this socket is {LONGEST_SOCKET}"
        );
        diagnostics.error(at, problem, "use a shorter path, for example in /run");
    }
}

fn check_max_memory(
    size: ByteSize,
    max_body: ByteSize,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) -> u64 {
    if size < max_body {
        let message = format!("`{size}` is smaller than max_body, which is {max_body}");
        diagnostics.error(at, message, "raise it, or lower max_body");
    }
    size.0
}

fn check_max_body(size: ByteSize, at: &ConfigPath, diagnostics: &mut Diagnostics) -> u64 {
    let (least, most) = (ByteSize(1 << 10), ByteSize(1 << 30));
    if size < least || size > most {
        let remedy = format!("write a size from {least} to {most}");
        diagnostics.error(at, format!("`{size}` is out of range"), remedy);
    }
    size.0
}
