//! The latest requests that were refused before any deployment was called, in memory. They have no entry
//! in the ledger, because nothing was spent. It must not hold a key's text or a message.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llm_router_admin::RefusedRequest;
use llm_router_domain::refusal::RefusedBy;

/// Most requests that are kept of each kind of refusal: a flood of one kind displaces no other.
const MOST: usize = 1_000;

/// Most of them by one key, or by one client address without a key.
const MOST_BY_ONE: usize = MOST / 4;

/// Keeps the latest refusals of this process.
#[derive(Default)]
pub(crate) struct Refusals {
    kinds: Mutex<HashMap<RefusedBy, Kind>>,
}

/// The refusals of one kind, oldest first.
#[derive(Default)]
struct Kind {
    kept: VecDeque<(Box<str>, Arc<RefusedRequest>)>,
    /// Number of those of each caller.
    by_caller: HashMap<Box<str>, usize>,
}

impl Refusals {
    /// Keeps a refusal. Where there is no room left, the oldest goes: the caller's own, if it has its
    /// share.
    pub(crate) fn add(&self, caller: &str, refused: RefusedRequest) {
        let mut kinds = self.kinds();
        let kind = kinds.entry(refused.refused_by).or_default();
        let own = kind.by_caller.get(caller).copied().unwrap_or_default();
        if own >= MOST_BY_ONE {
            let oldest = kind.kept.iter().position(|(one, _)| **one == *caller);
            oldest.map(|position| kind.remove(position));
        } else if kind.kept.len() >= MOST {
            kind.remove(0);
        }
        *kind.by_caller.entry(caller.into()).or_default() += 1;
        kind.kept.push_back((caller.into(), Arc::new(refused)));
    }

    /// Returns all that is kept, newest first.
    pub(crate) fn list(&self) -> Vec<Arc<RefusedRequest>> {
        let mut all: Vec<_> = {
            let kinds = self.kinds();
            let kept = kinds.values().flat_map(|kind| &kind.kept);
            kept.map(|(_, refused)| Arc::clone(refused)).collect()
        };
        all.sort_by_key(|refused| std::cmp::Reverse(refused.place));
        all
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<RefusedBy, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    fn remove(&mut self, position: usize) {
        let Some((caller, _)) = self.kept.remove(position) else {
            return;
        };
        if let Some(count) = self.by_caller.get_mut(&caller) {
            *count -= 1;
            if *count == 0 {
                self.by_caller.remove(&caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn refused(by: RefusedBy, number: u128) -> RefusedRequest {
        RefusedRequest {
            place: Uuid::from_u128(number),
            refused_by: by,
            id: format!("req_{number}"),
            ..RefusedRequest::default()
        }
    }

    #[test]
    fn a_flood_displaces_neither_other_kinds_nor_other_callers() {
        let refusals = Refusals::default();
        refusals.add("team", refused(RefusedBy::Budget, 1));
        refusals.add("quiet", refused(RefusedBy::Key, 2));
        for number in 10..5_000 {
            refusals.add("loud", refused(RefusedBy::Key, number));
        }
        let all = refusals.list();
        assert_eq!(all.len(), 2 + MOST_BY_ONE);
        assert_eq!(all[0].id, "req_4999");
        assert_eq!(all[all.len() - 1].id, "req_1");
        assert_eq!(all[all.len() - 2].id, "req_2");
    }

    #[test]
    fn memory_is_bounded_whoever_calls() {
        let refusals = Refusals::default();
        for number in 0..10_000 {
            let caller = format!("address {number}");
            refusals.add(&caller, refused(RefusedBy::Key, number));
        }
        assert_eq!(refusals.list().len(), MOST);
        assert_eq!(refusals.kinds()[&RefusedBy::Key].by_caller.len(), MOST);
    }
}
