//! Hands the listening sockets of a running router to the next one: the messages exchanged over a
//! Unix socket, and who may send them. When that is done and what follows is [`crate::process::shutdown`]'s
//! and [`crate::startup`]'s to say.
//!
//! The new process listens on the socket, the old one connects:
//! - old: one line of JSON, [`Hello`], with the listening sockets attached (`SCM_RIGHTS`, unix(7));
//! - new: `serving`, once it accepts connections;
//! - old: `yours`, and from then on it accepts none; or `mine` if that took too long.
//!
//! Until `yours` the old process goes on as if nothing had been, so that a new one that fails harms
//! nobody. A new process that hears `mine`, or nothing, ends; but if the old one is gone it goes on.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::process::listeners::Sockets;

/// Timeout of one process for the other to connect.
pub(crate) const COME: Duration = Duration::from_secs(60);

/// Timeout of the old process for the new one to serve.
const SERVE: Duration = Duration::from_secs(30);

/// Timeout for an answer that needs no work.
const ANSWER: Duration = Duration::from_secs(5);

/// Interval at which the old process looks for the new one.
const LOOK: Duration = Duration::from_millis(50);

/// Version of the protocol.
const PROTOCOL: u32 = 1;

/// The longest first line.
const LONGEST: usize = 4096;

/// Sockets that one message may carry.
const MOST: usize = 8;

const SERVING: &str = "serving\n";
const YOURS: &str = "yours\n";
const MINE: &str = "mine\n";

/// First message of the old process.
#[derive(Debug, Deserialize, Serialize)]
struct Hello {
    protocol: u32,
    version: String,
    pid: u32,
}

/// Reason that the handover failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error("{path} can't be used: {error}; server.upgrade_socket may name another place")]
    Socket {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error(
        "no new process is waiting at {0}: start one with `serve --upgrade` and the same \
         configuration"
    )]
    NobodyWaits(PathBuf),
    #[error(
        "no running router came to {0} to hand over its sockets: send it SIGQUIT while this one \
         waits"
    )]
    NobodyCame(PathBuf),
    #[error("the process at the other end of {0} is another user's")]
    Stranger(PathBuf),
    #[error("the running router is version {0}, whose way of handing over is another: restart it")]
    Version(String),
    #[error("the other process {0}")]
    Broke(&'static str),
    #[error("the other process can't be talked with: {0}")]
    Talk(#[from] io::Error),
}

/// Hands `sockets` to the process that waits at `path`, or comes there within [`COME`].
///
/// # Errors
/// When it doesn't come, or doesn't serve with them. Then nothing has changed.
pub(crate) async fn hand_over(path: &Path, sockets: &Sockets) -> Result<(), HandoverError> {
    let stream = timeout(COME, find(path)).await;
    let stream = stream.map_err(|_| HandoverError::NobodyWaits(path.to_owned()))??;
    must_be_friend(&stream, path)?;
    send(&stream, sockets).await?;
    let mut stream = BufReader::new(stream);
    let serving = timeout(SERVE, hear(&mut stream)).await;
    let broke = match serving {
        Ok(heard) => match heard?.as_str() {
            SERVING => return Ok(stream.write_all(YOURS.as_bytes()).await?),
            "" => "has ended",
            _ => "speaks gibberish",
        },
        Err(_) => "does not serve in time",
    };
    stream.write_all(MINE.as_bytes()).await?;
    Err(HandoverError::Broke(broke))
}

async fn find(path: &Path) -> Result<UnixStream, HandoverError> {
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                sleep(LOOK).await;
            }
            Err(error) => return Err(at(path)(error)),
        }
    }
}

async fn send(stream: &UnixStream, sockets: &Sockets) -> io::Result<()> {
    let hello = Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
    };
    let mut line = serde_json::to_vec(&hello)?;
    line.push(b'\n');
    let fds = sockets.as_fds();
    let sent = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut attached = SendAncillaryBuffer::new(&mut space);
        attached.push(SendAncillaryMessage::ScmRights(&fds));
        let text = [IoSlice::new(&line)];
        Ok(rustix::net::sendmsg(
            stream,
            &text,
            &mut attached,
            SendFlags::NOSIGNAL,
        )?)
    });
    if sent.await? == line.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// A new process that waits for the sockets of the one that runs.
#[derive(Debug)]
pub(crate) struct Successor {
    listener: UnixListener,
    path: PathBuf,
}

impl Successor {
    /// Begins to wait at `path`.
    ///
    /// # Errors
    /// When the socket can't be made there.
    pub(crate) fn wait_at(path: &Path) -> Result<Self, HandoverError> {
        Ok(Self {
            listener: private_listener(path).map_err(at(path))?,
            path: path.to_owned(),
        })
    }

    /// The sockets, clients' first, and who they come from.
    ///
    /// # Errors
    /// When nobody comes within [`COME`], or not with what is expected.
    pub(crate) async fn receive(self) -> Result<([OwnedFd; 2], Predecessor), HandoverError> {
        let came = timeout(COME, self.listener.accept()).await;
        let (stream, _) = came.map_err(|_| HandoverError::NobodyCame(self.path.clone()))??;
        must_be_friend(&stream, &self.path)?;
        let (line, sockets) = timeout(ANSWER, receive(&stream))
            .await
            .map_err(|_| HandoverError::Broke("came and says nothing"))??;
        let hello: Hello =
            serde_json::from_slice(&line).map_err(|_| HandoverError::Broke("speaks gibberish"))?;
        if hello.protocol != PROTOCOL {
            return Err(HandoverError::Version(hello.version));
        }
        let sockets: [OwnedFd; 2] = sockets
            .try_into()
            .map_err(|_| HandoverError::Broke("sent another number of sockets"))?;
        tracing::info!(
            pid = hello.pid,
            version = hello.version,
            "took the sockets over"
        );
        let stream = BufReader::new(stream);
        Ok((sockets, Predecessor { stream }))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // The next one makes it anew.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The process whose sockets were taken over, and which serves until it hears that this one does.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: BufReader<UnixStream>,
}

impl Predecessor {
    /// Says that this process serves, and waits until the other one has heard it.
    ///
    /// # Errors
    /// When it has given up waiting: then it goes on serving. If it is gone there is nobody left to
    /// serve but this process, which is no error.
    pub(crate) async fn relieve(mut self) -> Result<(), HandoverError> {
        if self.stream.write_all(SERVING.as_bytes()).await.is_err() {
            return gone();
        }
        let heard = timeout(ANSWER, hear(&mut self.stream)).await;
        let heard = heard.map_err(|_| HandoverError::Broke("does not answer"))?;
        match heard.as_deref() {
            Ok(YOURS) => Ok(()),
            Ok("") | Err(_) => gone(),
            Ok(MINE) => Err(HandoverError::Broke("has given up waiting")),
            Ok(_) => Err(HandoverError::Broke("speaks gibberish")),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it stands for an answer")]
fn gone() -> Result<(), HandoverError> {
    tracing::warn!("the previous process has ended");
    Ok(())
}

async fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let received = stream.async_io(Interest::READABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut attached = RecvAncillaryBuffer::new(&mut space);
        let mut line = vec![0; LONGEST];
        let read = rustix::net::recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut line)],
            &mut attached,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        line.truncate(read.bytes);
        let sockets = attached.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        Ok((line, sockets.flatten().collect()))
    });
    received.await
}

/// The next line; empty if the other process has ended.
async fn hear(stream: &mut BufReader<UnixStream>) -> Result<String, HandoverError> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line)
}

/// Listens at `path` so that at no moment another user can connect. What was there is replaced.
fn private_listener(path: &Path) -> io::Result<UnixListener> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let closed = folder.join(format!(".up-{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&closed)?;
    let made = closed.join("s");
    let bound = UnixListener::bind(&made).and_then(|listener| {
        std::fs::set_permissions(&made, Permissions::from_mode(0o600))?;
        std::fs::rename(&made, path)?;
        Ok(listener)
    });
    if bound.is_err() {
        let _ = std::fs::remove_file(&made);
    }
    let _ = std::fs::remove_dir(&closed);
    bound
}

/// Sockets are given to and taken from processes of this user, or of root, only.
fn must_be_friend(stream: &UnixStream, path: &Path) -> Result<(), HandoverError> {
    let other = stream.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    if other == own || other == 0 {
        Ok(())
    } else {
        Err(HandoverError::Stranger(path.to_owned()))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> HandoverError + '_ {
    move |error| HandoverError::Socket {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn sockets() -> Sockets {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        Sockets {
            clients: listener(),
            admin: listener(),
        }
    }

    /// A new process that has received the sockets, and what it talks with.
    async fn receive_all(path: &Path) -> (Predecessor, UnixStream, [OwnedFd; 2], Sockets) {
        let successor = Successor::wait_at(path).unwrap();
        let given = sockets();
        let old = async {
            let stream = find(path).await.unwrap();
            send(&stream, &given).await.unwrap();
            stream
        };
        let (received, stream) = tokio::join!(successor.receive(), old);
        let (taken, predecessor) = received.unwrap();
        (predecessor, stream, taken, given)
    }

    #[tokio::test]
    async fn the_sockets_arrive_in_their_order_and_strangers_can_not_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/upgrade.sock");
        let successor = Successor::wait_at(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(successor);
        assert!(!path.exists());
        let (_, _, taken, given) = receive_all(&path).await;
        let taken = taken.map(|socket| TcpListener::from(socket).local_addr().unwrap());
        let given = [given.clients, given.admin].map(|socket| socket.local_addr().unwrap());
        assert_eq!(taken, given);
    }

    #[tokio::test]
    async fn who_hears_that_the_sockets_are_not_its_own_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        for (answer, relieved) in [
            (Some(YOURS), true),
            (Some(MINE), false),
            (Some("what\n"), false),
            // The old process has died: somebody must serve.
            (None, true),
        ] {
            let (predecessor, mut stream, ..) = receive_all(&path).await;
            if let Some(answer) = answer {
                stream.write_all(answer.as_bytes()).await.unwrap();
            } else {
                drop(stream);
            }
            assert_eq!(predecessor.relieve().await.is_ok(), relieved, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn who_hands_over_to_a_process_that_is_of_no_use_keeps_the_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        for answer in ["", "what\n"] {
            let listener = private_listener(&path).unwrap();
            let dies = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let given = sockets();
            let (handed, ()) = tokio::join!(hand_over(&path, &given), dies);
            assert!(handed.is_err(), "{answer:?}");
        }
    }
}
