//! Readings of processes on this machine (CPU time, memory) and where they may run. Linux only.

use std::fs;
use std::io;

use anyhow::{Context, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::ClockId;
use nix::unistd::Pid;
use serde::Serialize;

/// CPU time that process `pid` and its descendants have used, user and system, in nanoseconds.
/// Read from the processes' CPU clocks, which count what `utime` and `stime` of
/// `/proc/PID/stat` count, threads that have ended included, but by the nanosecond.
///
/// # Errors
/// Returns an error if the process is gone.
pub(crate) fn cpu_nanos(pid: u32) -> anyhow::Result<u64> {
    tree(pid).into_iter().map(cpu_of).sum()
}

/// Memory of a process and its descendants, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// Proportional set size: pages shared with others count by their share.
    pub(crate) pss: u64,
    /// Resident set size.
    pub(crate) rss: u64,
}

/// Memory that process `pid` and its descendants hold.
///
/// # Errors
/// Returns an error if the process is gone.
pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let mut sum = Memory::default();
    for pid in tree(pid) {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| path)?;
        sum.pss += kilobytes(&text, "Pss:").unwrap_or(0) << 10;
        sum.rss += kilobytes(&text, "Rss:").unwrap_or(0) << 10;
    }
    Ok(sum)
}

/// Runs `start` with this thread on `cpu` only, so that a process it starts stays there.
///
/// # Errors
/// Returns an error if there is no such CPU, or that of `start`.
pub(crate) fn on_cpu<T>(
    cpu: Option<usize>,
    start: impl FnOnce() -> io::Result<T>,
) -> anyhow::Result<T> {
    let Some(cpu) = cpu else { return Ok(start()?) };
    let before = sched_getaffinity(THIS)?;
    pin(cpu)?;
    let started = start();
    sched_setaffinity(THIS, &before)?;
    Ok(started?)
}

/// Keeps this thread on `cpu`.
///
/// # Errors
/// Returns an error if there is no such CPU.
pub(crate) fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(THIS, &set).with_context(|| format!("can't run on CPU {cpu}"))
}

const THIS: Pid = Pid::from_raw(0);

/// Raises the limit of open files as far as it goes, for this process and those it starts.
///
/// # Errors
/// Returns an error if the system refuses.
pub(crate) fn raise_open_files() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}

/// Returns the average number of processes that wanted to run in the last minute.
pub(crate) fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split(' ')
        .next()?
        .parse()
        .ok()
}

fn cpu_of(pid: u32) -> anyhow::Result<u64> {
    let raw = i32::try_from(pid).context("process id")?;
    ensure!(raw > 0, "process id 0");
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(raw))
        .with_context(|| format!("process {pid} is gone"))?;
    let time = clock.now()?;
    let seconds = u64::try_from(time.tv_sec())?;
    Ok(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
}

/// `pid` and all its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let parents = parents();
    let mut tree = vec![pid];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        tree.extend(
            parents
                .iter()
                .filter(|pair| pair.1 == parent)
                .map(|pair| pair.0),
        );
        next += 1;
    }
    tree
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| {
        Some((
            pid,
            parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?,
        ))
    })
    .collect()
}

/// The fourth field of `/proc/PID/stat`; the second, in parentheses, may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// The number of a line like `Pss:   123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process;

    #[test]
    fn fields_are_found() {
        assert_eq!(parent("12 (a) b) c) S 7 12 12 0"), Some(7));
        assert_eq!(parent("nonsense"), None);
        let rollup = "Rss:                1234 kB\nPss:                 567 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(
            (kilobytes(rollup, "Pss:"), kilobytes(rollup, "Rss:")),
            (Some(567), Some(1234))
        );
        assert_eq!(kilobytes(rollup, "Swap:"), None);
    }

    /// `utime` + `stime` of `/proc/PID/stat`, in ticks of 10 ms.
    fn ticks(pid: u32) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().unwrap())
            .sum()
    }

    #[test]
    fn the_cpu_clock_agrees_with_proc_stat() {
        let pid = process::id();
        let (mut sum, begin, ticks_begin) = (0_u64, cpu_of(pid).unwrap(), ticks(pid));
        while cpu_of(pid).unwrap() - begin < 200_000_000 {
            sum = sum.wrapping_add((0..10_000).sum::<u64>());
        }
        let (spent, by_stat) = (
            cpu_of(pid).unwrap() - begin,
            (ticks(pid) - ticks_begin) * 10_000_000,
        );
        assert!(
            sum > 0 && spent.abs_diff(by_stat) < 60_000_000,
            "{spent} and {by_stat}"
        );
    }

    #[test]
    fn a_child_belongs_to_the_tree_and_counts() {
        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let family = tree(process::id());
        let (memory, own) = (memory(process::id()).unwrap(), memory(child.id()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.contains(&child.id()) && memory.rss > own.rss && own.pss > 0);
        assert!(cpu_nanos(child.id()).is_err());
    }

    #[test]
    fn a_process_stays_on_the_cpu_it_was_started_on() {
        let before = sched_getaffinity(THIS).unwrap();
        let mut child =
            on_cpu(Some(0), || process::Command::new("sleep").arg("60").spawn()).unwrap();
        let set = sched_getaffinity(Pid::from_raw(i32::try_from(child.id()).unwrap())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(set.is_set(0).unwrap() && !set.is_set(1).unwrap());
        assert_eq!(sched_getaffinity(THIS).unwrap(), before);
    }
}
