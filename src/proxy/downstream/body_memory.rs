//! Memory of the request bodies that are held at once, counted up to a limit. It must not hold the
//! bodies.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

use procfs::{Current as _, Meminfo};

/// Bytes of all bodies that are held.
#[derive(Debug, Default)]
pub(crate) struct BodyMemory(AtomicU64);

/// Bytes of one request's body. They are free again when this is dropped.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    memory: Arc<BodyMemory>,
    bytes: u64,
}

impl BodyMemory {
    /// Begins to count a body.
    pub(crate) fn begin(self: &Arc<Self>) -> HeldBytes {
        HeldBytes {
            memory: Arc::clone(self),
            bytes: 0,
        }
    }
}

impl HeldBytes {
    /// Counts `more` bytes. Returns false, and counts none, if all bodies together would then be
    /// larger than `most`, or than half of the machine's memory if that is not given.
    pub(crate) fn grow(&mut self, more: usize, most: Option<u64>) -> bool {
        let most = most.unwrap_or(*HALF_OF_MEMORY);
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        let fits = |held: u64| held.checked_add(more).filter(|held| *held <= most);
        let grown = self.memory.0.fetch_update(Relaxed, Relaxed, fits);
        if grown.is_ok() {
            self.bytes += more;
        }
        grown.is_ok()
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.bytes, Relaxed);
    }
}

/// Half of the memory of the machine or, if that is less, of the container; no limit if neither is
/// known.
static HALF_OF_MEMORY: LazyLock<u64> = LazyLock::new(|| {
    let machine = Meminfo::current().ok().map(|memory| memory.mem_total);
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max");
    let container = container.ok().and_then(|bytes| bytes.trim().parse().ok());
    let memory = machine.into_iter().chain(container).min();
    memory.map_or(u64::MAX, |bytes: u64| bytes / 2)
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_counted_together_and_freed() {
        let memory = Arc::<BodyMemory>::default();
        let (mut one, mut two) = (memory.begin(), memory.begin());
        assert!(one.grow(60, Some(100)) && two.grow(40, Some(100)));
        assert!(!two.grow(1, Some(100)));
        drop(one);
        assert!(two.grow(60, Some(100)));
        drop(two);
        assert_eq!(memory.0.load(Relaxed), 0);
        // A machine has memory for a small body.
        assert!(memory.begin().grow(1 << 20, None));
        assert!(!memory.begin().grow(usize::MAX, None));
    }
}
