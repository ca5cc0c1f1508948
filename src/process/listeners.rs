//! The sockets that the process listens on: bound once, or taken over from the process before,
//! and kept so that they can be handed on. It must not know what is served on them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use llm_router_config::Config;
use tokio::net::TcpSocket;

/// Connections that may wait to be accepted, as far as the system allows.
const BACKLOG: i32 = 65_535;

/// One socket for each port, in this order wherever they are listed.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) clients: TcpListener,
    pub(crate) admin: TcpListener,
}

impl Sockets {
    /// Binds the addresses of a configuration. Nothing is accepted until [`Self::listen`]: a client
    /// that connected before the rest has started would be reset if that failed.
    ///
    /// # Errors
    /// When an address can't be had; it is named.
    pub(crate) fn bind(config: &Config) -> io::Result<Self> {
        Ok(Self {
            clients: bind(config.server.listen)?,
            admin: bind(config.admin.listen)?,
        })
    }

    /// Of the sockets that another process had, those on the addresses of a configuration; the
    /// others are bound.
    ///
    /// # Errors
    /// When an address can't be had; it is named.
    pub(crate) fn adopt(clients: OwnedFd, admin: OwnedFd, config: &Config) -> io::Result<Self> {
        Ok(Self {
            clients: fitting(clients, config.server.listen)?,
            admin: fitting(admin, config.admin.listen)?,
        })
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// When another process was faster.
    pub(crate) fn listen(&self) -> io::Result<()> {
        for socket in [&self.clients, &self.admin] {
            let address = socket.local_addr()?;
            rustix::net::listen(socket, BACKLOG)
                .map_err(|error| cannot_listen(address, &error.into()))?;
        }
        Ok(())
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// When the process may have no more open files.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            clients: self.clients.try_clone()?,
            admin: self.admin.try_clone()?,
        })
    }

    pub(crate) fn as_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.clients.as_fd(), self.admin.as_fd()]
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let bound = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(TcpListener::from(socket.as_fd().try_clone_to_owned()?))
    });
    bound.map_err(|error| cannot_listen(address, &error))
}

fn fitting(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpListener::from(socket);
    let bound = socket.local_addr()?;
    if bound == address {
        return Ok(socket);
    }
    tracing::warn!(%bound, %address, "the listen address has changed; connections to the old one are refused from now on");
    drop(socket);
    bind(address)
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("can't listen on {address}: {error}"))
}
