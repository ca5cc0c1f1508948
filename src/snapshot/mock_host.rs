//! Runs the built-in mock provider inside this process, for providers of type `mock` without a
//! base URL. The mock itself is `llm-router-mock`'s.

use std::future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Starts the mock when it is first needed, and remembers where.
#[derive(Default)]
pub(crate) struct MockHost {
    address: Mutex<Option<SocketAddr>>,
}

impl MockHost {
    /// Returns the mock's address; starts it if it isn't running yet.
    ///
    /// # Errors
    /// When no port or no thread is to be had.
    pub(crate) fn address(&self, config: llm_router_mock::MockConfig) -> io::Result<SocketAddr> {
        self.address_with(config, "")
    }

    /// As [`Self::address`], with controls for every request.
    ///
    /// # Errors
    /// When no port or no thread is to be had, or a control is unknown.
    pub(crate) fn address_with(
        &self,
        config: llm_router_mock::MockConfig,
        controls: &str,
    ) -> io::Result<SocketAddr> {
        let mut address = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = *address {
            return Ok(address);
        }
        let mock = llm_router_mock::MockProvider::new(config);
        mock.set_controls(controls).map_err(io::Error::other)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let started = listener.local_addr()?;
        thread::Builder::new()
            .name("mock-provider".into())
            .spawn(move || {
                if let Err(error) = serve(listener, &mock) {
                    tracing::error!(%error, "the built-in mock provider failed");
                }
            })?;
        *address = Some(started);
        Ok(started)
    }
}

fn serve(listener: TcpListener, mock: &llm_router_mock::MockProvider) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        mock.serve(listener, future::pending()).await
    })
}
