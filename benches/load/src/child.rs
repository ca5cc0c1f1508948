//! A process that ends when its owner is done with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{clock, proc};

/// Time a process gets from SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(3);

/// A running process with its output in a file; dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` on `cpu` with all its output going to `log`.
    ///
    /// # Errors
    /// Returns an error if it can't be started.
    pub(crate) fn start(
        mut command: Command,
        cpu: Option<usize>,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let output = File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let name = command.get_program().to_string_lossy().into_owned();
        let child =
            proc::on_cpu(cpu, || command.spawn()).with_context(|| format!("start {name}"))?;
        Ok(Self { child, log })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns true while it runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns the file of its output.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its output.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n")
    }

    fn ask_to_end(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let end = clock::now() + GRACE;
        while self.runs() && clock::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.runs() {
            self.ask_to_end();
        }
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_with_its_owner_and_its_output_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo begun; exec sleep 60"]);
        let mut process = Process::start(command, None, log).unwrap();
        let pid = process.id();
        while process.last_words() != "begun" {
            assert!(process.runs());
            thread::yield_now();
        }
        drop(process);
        assert!(proc::cpu_nanos(pid).is_err());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Process::start(Command::new("/no/such"), None, folder.path().join("log"));
        assert!(error.unwrap_err().to_string().contains("/no/such"));
    }
}
