//! A TCP stream that can be told, from within a request, to end once what was written is out.
//! Knows nothing of HTTP.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Planned end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SocketEnd {
    /// A FIN, as if the server had crashed in good order.
    Close = 1,
    /// An RST, as if it had crashed in disorder.
    Reset = 2,
}

/// A connection's end, if it was decided on. Shared by its socket and its requests.
#[derive(Debug, Default)]
pub(crate) struct PlannedEnd(AtomicU8);

impl PlannedEnd {
    /// Ends the connection at the next flush, that is when all bytes written before are out.
    pub(crate) fn decide(&self, end: SocketEnd) {
        self.0.store(end as u8, Ordering::Release);
    }

    fn is_decided(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    fn is_reset(&self) -> bool {
        self.0.load(Ordering::Acquire) == SocketEnd::Reset as u8
    }
}

/// A TCP stream bound to a fate.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    fate: Arc<PlannedEnd>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, fate: Arc<PlannedEnd>) -> Self {
        Self { stream, fate }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.fate.is_reset() {
            // Closing a socket that lingers for no time sends an RST. It can only fail on a
            // socket that is closed already, and then there is nothing left to reset.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes its socket only when its own buffer is empty, so that this is the moment to
    /// end a connection without losing a byte.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fate.is_decided() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
