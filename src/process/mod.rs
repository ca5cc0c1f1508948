//! The life of the process: its sockets, readiness, signals, and the handover to the next process.
//! It must not know what is served.

pub(crate) mod handover;
pub(crate) mod listeners;
pub(crate) mod readiness;
pub(crate) mod shutdown;
pub(crate) mod systemd;

use rustix::fs::Mode;

/// Makes what the process writes readable for its own account only: files 0600, folders 0700. The
/// store and the journal hold names of keys, users and models.
pub(crate) fn restrict_new_files() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}
