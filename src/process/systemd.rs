//! Notifies the supervisor of this process, such as systemd (sd_notify(3)).

use sd_notify::NotifyState::{self, MainPid, Ready, Reloading, Status, Stopping};

/// Connections to every port are accepted. A process that has `taken_over` another's sockets is
/// the service's main process from now on.
pub(crate) fn ready(taken_over: bool) {
    if taken_over {
        tell(&[MainPid(std::process::id())]);
    }
    tell(&[Ready, Status("serving")]);
}

/// The configuration is being read anew.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // In one message: systemd asks for both.
        Ok(now) => tell(&[Reloading, now]),
        Err(error) => tracing::debug!(%error, "the monotonic clock can't be read"),
    }
}

/// The configuration was read anew, or stays as it was.
pub(crate) fn notify_reloaded(refused: bool) {
    let status = if refused {
        "serving; a new configuration was refused, the log says why"
    } else {
        "serving"
    };
    tell(&[Ready, Status(status)]);
}

/// The service ends. Not for a process whose sockets another one has: the service goes on.
pub(crate) fn stopping() {
    tell(&[Stopping, Status("draining")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the supervisor can't be told");
    }
}
