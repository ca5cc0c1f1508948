//! The snapshot in force together with the network endpoints of its providers, swapped as one.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::join_all;

use crate::proxy::upstream::{RESOLVE_INTERVAL, Upstream};
use crate::snapshot::{Origin, Snapshot};

/// A snapshot and, for each of its providers, the upstream of the same index.
pub(crate) struct Live {
    pub(crate) snapshot: Snapshot,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
}

/// The state that requests are served by now.
pub(crate) type SharedLive = Arc<ArcSwap<Live>>;

impl Live {
    /// Binds a snapshot to the network. Upstreams of `previous` stay in use where the origin is
    /// the same, so that a reload keeps addresses and connections.
    ///
    /// # Errors
    /// When a provider's CA file can't be read; the provider's id is in the message.
    pub(crate) fn bind(snapshot: Snapshot, previous: Option<&Self>) -> io::Result<Self> {
        let mut known: HashMap<&Origin, Arc<Upstream>> = HashMap::new();
        if let Some(previous) = previous {
            let origins = previous
                .snapshot
                .providers
                .iter()
                .map(|provider| &provider.origin);
            let upstreams = previous.upstreams.iter().cloned();
            known.extend(
                origins
                    .zip(upstreams)
                    .filter(|(_, upstream)| upstream.is_current()),
            );
        }
        let mut upstreams = Vec::with_capacity(snapshot.providers.len());
        for provider in &snapshot.providers {
            let upstream = match known.get(&provider.origin) {
                Some(upstream) => Arc::clone(upstream),
                None => Arc::new(Upstream::new(&provider.origin).map_err(|error| {
                    let ca_file = provider.origin.ca_file.as_deref().unwrap_or("".as_ref());
                    let message =
                        format!("provider {}: {}: {error}", provider.id, ca_file.display());
                    io::Error::new(error.kind(), message)
                })?),
            };
            known.insert(&provider.origin, Arc::clone(&upstream));
            upstreams.push(upstream);
        }
        drop(known);
        Ok(Self {
            snapshot,
            upstreams,
        })
    }
}

/// Keeps the addresses of the live upstreams fresh until the task is dropped.
pub(crate) async fn keep_resolved(live: SharedLive) {
    let mut ticks = tokio::time::interval(RESOLVE_INTERVAL);
    loop {
        ticks.tick().await;
        let upstreams = live.load_full();
        join_all(
            upstreams
                .upstreams
                .iter()
                .map(|upstream| upstream.resolve()),
        )
        .await;
    }
}
