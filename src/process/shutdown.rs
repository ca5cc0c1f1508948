//! Starts the shutdown of the process: on a signal, or once a new process has taken the sockets
//! over. It does not stop services itself.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{Fuse, FusedFuture as _, FutureExt as _};
use tokio::process::Command;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::clock;
use crate::process::handover::{HandoverError, hand_over};
use crate::process::listeners::Sockets;
use crate::process::systemd;

/// A shutdown that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Time at which the process ends, whatever is still open.
    pub(crate) at: Instant,
    /// Set if handed the sockets over to a new process.
    pub(crate) handed_over: bool,
    /// Set if idle connections may stay open for their next request.
    pub(crate) idle_may_stay: bool,
}

/// Manner of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Open requests may finish.
    Drain,
    /// At once.
    Now,
}

/// Drain timeouts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drains {
    /// After SIGTERM.
    pub(crate) terminated: Duration,
    /// After the sockets were handed over.
    pub(crate) handed_over: Duration,
}

/// Waits for the shutdown of the process.
pub(crate) struct Ending {
    signals: tokio::sync::Mutex<Signals>,
    stop: watch::Sender<Option<Stop>>,
    drains: Drains,
    /// Path at which the next process waits for the sockets.
    path: PathBuf,
    /// Kept for the next process; none once they must be closed.
    sockets: Mutex<Option<Sockets>>,
    /// Set if the process failed.
    failed: AtomicBool,
    give_up: Notify,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    user2: Signal,
}

/// Request made by a signal.
enum Wanted {
    Drain,
    End,
    HandOver,
    StartNext,
}

impl Signals {
    async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => Wanted::Drain,
            _ = self.interrupt.recv() => Wanted::End,
            _ = self.quit.recv() => Wanted::HandOver,
            _ = self.user2.recv() => Wanted::StartNext,
        }
    }
}

type Handing<'a> = Pin<Box<dyn Future<Output = Result<(), HandoverError>> + Send + 'a>>;

impl Ending {
    /// Begins to listen for signals. `runtime` must live as long as they are waited for.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn listen(
        runtime: &Runtime,
        drains: Drains,
        path: PathBuf,
        sockets: Sockets,
    ) -> io::Result<Arc<Self>> {
        let _entered = runtime.enter();
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            user2: signal(SignalKind::user_defined2())?,
        };
        Ok(Arc::new(Self {
            signals: tokio::sync::Mutex::new(signals),
            stop: watch::Sender::new(None),
            drains,
            path,
            sockets: Mutex::new(Some(sockets)),
            failed: AtomicBool::new(false),
            give_up: Notify::new(),
        }))
    }

    /// Tells of the end, and of changes to when it comes.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Stop>> {
        self.stop.subscribe()
    }

    /// Ends the process as SIGTERM does, but as failed.
    pub(crate) fn give_up(&self) {
        self.failed.store(true, Relaxed);
        self.give_up.notify_one();
    }

    /// The exit code of a process that has drained.
    pub(crate) fn exit_code(&self) -> i32 {
        self.failed.load(Relaxed).into()
    }

    /// Waits until the process is to end: SIGTERM, SIGINT, or a new process that serves. That one
    /// is looked for at SIGQUIT, and started here at SIGUSR2.
    pub(crate) async fn due(&self) -> How {
        let mut signals = self.signals.lock().await;
        let mut handing: Fuse<Handing<'_>> = Fuse::terminated();
        loop {
            let wanted = tokio::select! {
                wanted = signals.next() => wanted,
                () = self.give_up.notified() => Wanted::Drain,
                handed = &mut handing => match handed {
                    Ok(()) => return self.handed_over(),
                    Err(error) => {
                        tracing::error!(%error, "failed to hand the sockets over; this process continues");
                        continue;
                    }
                },
            };
            let handed: Handing<'_> = match wanted {
                Wanted::Drain => {
                    self.stop_in(self.drains.terminated, false);
                    return How::Drain;
                }
                Wanted::End => return How::Now,
                // One handing over at a time.
                _ if !handing.is_terminated() => continue,
                Wanted::HandOver => Box::pin(self.hand_over()),
                Wanted::StartNext => Box::pin(self.start_next()),
            };
            handing = handed.fuse();
        }
    }

    fn handed_over(&self) -> How {
        tracing::info!("handed the sockets over to a new process");
        self.stop_in(self.drains.handed_over, true);
        How::Drain
    }

    /// After [`Self::due`]: SIGTERM shortens the time that is left, SIGINT ends it. Never returns.
    pub(crate) async fn hurry(&self) {
        let mut signals = self.signals.lock().await;
        loop {
            match signals.next().await {
                Wanted::Drain => self.shorten(self.drains.terminated),
                Wanted::End => self.shorten(Duration::ZERO),
                // Nothing is left to hand over.
                Wanted::HandOver | Wanted::StartNext => {}
            }
        }
    }

    /// Says that connections without a request are not to stay any more.
    pub(crate) fn close_idle(&self) {
        self.change(|stop| stop.idle_may_stay = false);
    }

    fn shorten(&self, left: Duration) {
        self.change(|stop| {
            stop.at = stop.at.min(clock::now() + left);
            stop.idle_may_stay = false;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Stop)) {
        self.stop.send_modify(|stop| {
            if let Some(stop) = stop {
                change(stop);
            }
        });
    }

    fn stop_in(&self, left: Duration, handed_over: bool) {
        // As long as one process has it open, connections are taken by the system.
        drop(self.sockets().take());
        if !handed_over {
            systemd::stopping();
        }
        self.stop.send_replace(Some(Stop {
            at: clock::now() + left,
            handed_over,
            idle_may_stay: handed_over,
        }));
    }

    async fn hand_over(&self) -> Result<(), HandoverError> {
        tracing::info!(socket = %self.path.display(), "waiting for the new process to connect");
        let sockets = self
            .sockets()
            .as_ref()
            .map(Sockets::try_clone)
            .transpose()?;
        match sockets {
            Some(sockets) => hand_over(&self.path, &sockets).await,
            None => Ok(()),
        }
    }

    /// Starts this program once more, as it was started, and hands over to it.
    async fn start_next(&self) -> Result<(), HandoverError> {
        let (program, arguments) = next_command(std::env::args_os());
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()?;
        tracing::info!(pid = child.id(), "SIGUSR2: the new process is started");
        tokio::select! {
            handed = self.hand_over() => handed,
            ended = child.wait() => {
                tracing::error!(status = ?ended, "the new process failed; see its log");
                Err(HandoverError::Broke("has ended"))
            }
        }
    }

    fn sockets(&self) -> MutexGuard<'_, Option<Sockets>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The command that starts the successor of a process which was started with `arguments`.
fn next_command(mut arguments: impl Iterator<Item = OsString>) -> (OsString, Vec<OsString>) {
    const UPGRADE: &str = "--upgrade";
    // Not the running file: an upgrade has put another one in its place.
    let program = arguments.next().unwrap_or_else(|| "llm-router".into());
    let others = arguments.filter(|argument| argument != UPGRADE);
    (program, others.chain([UPGRADE.into()]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_is_started_as_this_one_was() {
        for (given, expected) in [
            (&["r", "serve"][..], &["serve", "--upgrade"][..]),
            (
                &["r", "serve", "--upgrade", "--config", "c"],
                &["serve", "--config", "c", "--upgrade"],
            ),
        ] {
            let (program, arguments) = next_command(given.iter().map(OsString::from));
            assert_eq!(
                (program, arguments),
                ("r".into(), expected.iter().map(OsString::from).collect())
            );
        }
    }
}
