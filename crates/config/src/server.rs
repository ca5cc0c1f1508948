//! `server`: the port that clients call.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::file::must_be_readable;
use crate::findings::{At, Findings};
use crate::scalar::{ByteSize, Text, TimeSpan};

/// The port that clients call.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Whether the admin API's paths are served here too.
    pub admin_paths: bool,
    /// The largest request body in bytes, inclusive.
    pub max_body: u64,
    /// The certificate, if clients speak TLS.
    pub tls: Option<Tls>,
    /// How long open streams may go on after the signal to stop.
    pub drain_timeout: Duration,
    /// How long they may go on in a process that has handed its sockets to a new one.
    pub upgrade_drain_timeout: Duration,
    /// Where the sockets are handed over; [`crate::Config::upgrade_socket`] has the default.
    pub upgrade_socket: Option<PathBuf>,
    /// How long a client may take to send a request's head.
    pub header_timeout: Duration,
    /// How long a client may pause while it sends a body.
    pub body_timeout: Duration,
    /// The most connections that one address may have open; `None`: any number.
    pub max_connections_per_address: Option<NonZeroU32>,
    /// Worker threads; `None`: one per core.
    pub threads: Option<NonZeroU16>,
}

/// A certificate and its key, as PEM files that exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, followed by those that sign it.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The port that clients call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Server")]
pub(crate) struct RawServer {
    /// Where clients connect. OpenAI SDKs take http://HOST:8000/v1 as base URL, Anthropic SDKs
    /// http://HOST:8000.
    listen: Text<SocketAddr>,
    /// Serve the admin API's paths on this port too.
    admin_paths: bool,
    /// The largest request body, from 1KiB to 1GiB. Larger ones are answered 413.
    max_body: Text<ByteSize>,
    /// Speak TLS, and HTTP/2 with clients that can.
    tls: Option<RawTls>,
    /// How long open streams may go on after SIGTERM.
    drain_timeout: Text<TimeSpan>,
    /// How long open streams may go on in a process that has handed its sockets to a new one, as
    /// for an upgrade. What a provider's timeouts.total allows should fit in.
    upgrade_drain_timeout: Text<TimeSpan>,
    /// The Unix socket by which a process hands its sockets to the next one, made by `serve
    /// --upgrade`: of each router its own, 93 bytes at most. Without it: upgrade.sock in the
    /// journal's folder.
    upgrade_socket: Option<Text<PathBuf>>,
    /// How long a client may take to send the head of a request.
    header_timeout: Text<TimeSpan>,
    /// How long a client may pause while it sends a body.
    body_timeout: Text<TimeSpan>,
    /// The most connections that one client address (of IPv6, one /64 network) may have open at a
    /// time, each HTTP/2 stream counting as one; more are answered 429 and closed. Without it: any
    /// number. Behind a load balancer all clients have its address.
    #[schemars(range(min = 1))]
    max_connections_per_address: Option<NonZeroU32>,
    /// Worker threads. Without it: one per core.
    #[schemars(range(min = 1, max = 1024))]
    threads: Option<NonZeroU16>,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tls")]
struct RawTls {
    /// The certificate, followed by those that sign it.
    cert: Text<PathBuf>,
    /// The private key.
    key: Text<PathBuf>,
}

impl Default for RawServer {
    fn default() -> Self {
        let seconds = |seconds| Text(TimeSpan(Duration::from_secs(seconds)));
        Self {
            listen: Text(SocketAddr::from(([0, 0, 0, 0], 8000))),
            admin_paths: true,
            max_body: Text(ByteSize(32 << 20)),
            tls: None,
            drain_timeout: seconds(30),
            upgrade_drain_timeout: seconds(900),
            upgrade_socket: None,
            header_timeout: seconds(10),
            body_timeout: seconds(60),
            max_connections_per_address: None,
            threads: None,
        }
    }
}

impl RawServer {
    pub(crate) fn check(self, at: &At, findings: &mut Findings) -> Server {
        check_max_body(self.max_body.0, &at.field("max_body"), findings);
        for (name, span) in [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
        ] {
            must_pass(span.0, &at.field(name), findings);
        }
        let upgrade_socket = self.upgrade_socket.map(|path| path.0);
        if let Some(path) = &upgrade_socket {
            check_socket(path, &at.field("upgrade_socket"), findings);
        }
        Server {
            listen: self.listen.0,
            admin_paths: self.admin_paths,
            max_body: self.max_body.0.0,
            tls: self.tls.map(|tls| tls.check(&at.field("tls"), findings)),
            drain_timeout: self.drain_timeout.0.0,
            upgrade_drain_timeout: self.upgrade_drain_timeout.0.0,
            upgrade_socket,
            header_timeout: self.header_timeout.0.0,
            body_timeout: self.body_timeout.0.0,
            max_connections_per_address: self.max_connections_per_address,
            threads: self.threads,
        }
    }
}

/// The longest path of a Unix socket that can be made beside it first, under a name of its own:
/// `sun_path` of unix(7) has 107 bytes.
const LONGEST_SOCKET: usize = 93;

impl RawTls {
    fn check(self, at: &At, findings: &mut Findings) -> Tls {
        must_be_readable(&self.cert.0, &at.field("cert"), findings);
        must_be_readable(&self.key.0, &at.field("key"), findings);
        Tls {
            cert: self.cert.0,
            key: self.key.0,
        }
    }
}

/// Reports a time that is over before anything can happen in it.
pub(crate) fn must_pass(span: TimeSpan, at: &At, findings: &mut Findings) {
    if span.0.is_zero() {
        findings.error(at, "`0s` is no time at all", "write a time above 0s");
    }
}

fn check_socket(path: &Path, at: &At, findings: &mut Findings) {
    let length = path.as_os_str().len();
    if length > LONGEST_SOCKET {
        let what =
            format!("the path has {length} bytes; a Unix socket's has {LONGEST_SOCKET} at most");
        findings.error(at, what, "write a shorter one, as in /run");
    }
}

fn check_max_body(size: ByteSize, at: &At, findings: &mut Findings) {
    let (least, most) = (ByteSize(1 << 10), ByteSize(1 << 30));
    if size < least || size > most {
        let remedy = format!("write a size from {least} to {most}");
        findings.error(at, format!("`{size}` is out of range"), remedy);
    }
}
