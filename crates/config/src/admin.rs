//! `admin`: the port of the admin service.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::Diagnostics;
use crate::items::Items;
use crate::path::ConfigPath;
use crate::restart::{RestartOnly, RestartOnlySettings};
use crate::scalar::{Text, WebOrigin};

/// The port of admin API, dashboard, docs and metrics.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Serve `/metrics` without a key.
    pub metrics_public: bool,
    /// The origins whose pages may call the service from a browser.
    pub cors: Vec<String>,
}

/// The port of admin API, dashboard, docs and metrics.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Admin")]
pub(crate) struct RawAdmin {
    /// The address to listen on. It must differ from server.listen.
    listen: RestartOnly<Text<SocketAddr>>,
    /// Serve /metrics without a key. Otherwise it needs a key of role viewer or above.
    metrics_public: RestartOnly<bool>,
    /// The origins whose pages may call the admin API from a browser; "*" allows any. Default: the
    /// service's own pages only.
    cors: RestartOnly<Items<Text<WebOrigin>>>,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self {
            listen: RestartOnly::new(Text(SocketAddr::from(([127, 0, 0, 1], 8001)))),
            metrics_public: RestartOnly::new(false),
            cors: RestartOnly::new(Items::default()),
        }
    }
}

impl RawAdmin {
    pub(crate) fn check(
        self,
        clients: SocketAddr,
        at: &ConfigPath,
        restart: &mut RestartOnlySettings,
        diagnostics: &mut Diagnostics,
    ) -> Admin {
        let path = |name| at.field(name);
        Admin {
            listen: self.listen.check(&path("listen"), restart, |listen| {
                check_free(listen.0, clients, &path("listen"), diagnostics);
                listen.0
            }),
            metrics_public: self
                .metrics_public
                .check(&path("metrics_public"), restart, |on| on),
            cors: self.cors.check(&path("cors"), restart, |origins| {
                let origins = origins.with_positions(&path("cors"), diagnostics);
                origins.into_iter().map(|(_, origin)| origin.0.0).collect()
            }),
        }
    }
}

/// Reports two sockets that can't be bound at the same time. Port 0 is any free one.
fn check_free(
    listen: SocketAddr,
    clients: SocketAddr,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) {
    let everywhere = clients.ip().is_unspecified() || listen.ip().is_unspecified();
    let same_port = clients.port() != 0 && clients.port() == listen.port();
    if same_port && (everywhere || clients.ip() == listen.ip()) {
        diagnostics.error(
            at,
            format!("`{listen}` conflicts with server.listen, which is {clients}"),
            "use different ports",
        );
    }
}
