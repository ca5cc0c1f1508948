//! Readiness of the process: it is ready as soon as connections to every port are accepted.

use std::sync::Arc;

use tokio::sync::watch;

/// The clients' port and the admin service's.
const PORTS: usize = 2;

/// Counts the ports whose connections are accepted. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Readiness(Arc<watch::Sender<usize>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Readiness {
    /// Says that connections to one more port are accepted.
    pub(crate) fn port_is_open(&self) {
        self.0.send_modify(|open| *open += 1);
    }

    /// Waits until connections to every port are accepted.
    pub(crate) async fn all_open(&self) {
        // It fails only without a sender, and this is one.
        let _ = self.0.subscribe().wait_for(|open| *open >= PORTS).await;
    }
}
