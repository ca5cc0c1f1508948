//! `admin`: the port of the admin service.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::findings::{At, Findings};
use crate::items::Items;
use crate::scalar::{Text, WebOrigin};

/// The port of admin API, dashboard, docs and metrics.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether `/metrics` is served without a key.
    pub metrics_public: bool,
    /// The origins whose pages may call the service from a browser.
    pub cors: Vec<String>,
}

/// The port of admin API, dashboard, docs and metrics.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Admin")]
pub(crate) struct RawAdmin {
    /// Where the admin service listens. Its own address, not that of server.listen.
    listen: Text<SocketAddr>,
    /// Serve /metrics without a key. Otherwise it needs one of role viewer or above.
    metrics_public: bool,
    /// The origins whose pages may call the admin API from a browser; "*" is any. Without them,
    /// only its own pages may.
    cors: Items<Text<WebOrigin>>,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self {
            listen: Text(SocketAddr::from(([127, 0, 0, 1], 8001))),
            metrics_public: false,
            cors: Items::default(),
        }
    }
}

impl RawAdmin {
    pub(crate) fn check(self, clients: SocketAddr, at: &At, findings: &mut Findings) -> Admin {
        let listen = self.listen.0;
        if collide(clients, listen) {
            findings.error(
                &at.field("listen"),
                format!("`{listen}` is taken by server.listen, which is {clients}"),
                "give the two different ports",
            );
        }
        let cors = self.cors.indexed(&at.field("cors"), findings).into_iter();
        Admin {
            listen,
            metrics_public: self.metrics_public,
            cors: cors.map(|(_, origin)| origin.0.0).collect(),
        }
    }
}

/// Whether two sockets can't be bound at the same time. Port 0 is any free one.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (everywhere || a.ip() == b.ip())
}
