//! Toggle of the routing rules: a change waits, can be cancelled while it waits, takes effect at
//! its instant and is followed by a cooldown. Pure state: the store keeps it, replicas share it,
//! and each applies it at the same instant by its own clock. It must not do I/O.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Settings of the toggle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToggleSettings {
    /// Delay from a request to its effect, unless the request names another.
    pub delay: Duration,
    /// Time after an effect during which other changes are refused.
    pub cooldown: Duration,
}

/// State of the toggle, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toggle {
    enabled: bool,
    pending: Option<PendingChange>,
    cooldown_until: Option<Timestamp>,
    changed_at: Option<Timestamp>,
    revision: u64,
    last_id: u64,
}

/// Change that waits for its instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingChange {
    /// Identifies the request.
    pub id: u64,
    /// New value of the toggle.
    pub value: bool,
    /// Time of its effect.
    pub effective_at: Timestamp,
    /// Reason given.
    pub reason: String,
    /// Requester.
    pub actor: String,
    /// Time of the request.
    pub requested_at: Timestamp,
}

/// Request to change the toggle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToggleChange {
    /// Requested value.
    pub value: bool,
    /// Reason given.
    pub reason: String,
    /// Requester.
    pub actor: String,
    /// Delay instead of the configured one.
    pub delay: Option<Duration>,
    /// Skips delay and cooldown. The caller checks that the actor may do so.
    pub force: bool,
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToggleAnswer {
    /// Waits for its instant.
    Pending,
    /// Took effect at once.
    Applied,
    /// The toggle already had that value.
    Unchanged,
    /// Refused by the cooldown for this long.
    Refused(Duration),
}

/// Entry of the history. It replaces an earlier entry with the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToggleRecord {
    /// Identifies the request.
    pub id: u64,
    /// Requested value.
    pub value: bool,
    /// Reason given.
    pub reason: String,
    /// Requester.
    pub actor: String,
    /// Time of the request.
    pub requested_at: Timestamp,
    /// Time of its effect; none if it was cancelled, superseded or refused.
    pub effective_at: Option<Timestamp>,
    /// Outcome of the request.
    pub outcome: ToggleOutcome,
    /// Actor that cancelled or superseded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToggleOutcome {
    /// Waiting.
    Pending,
    /// In effect.
    Applied,
    /// Cancelled while it waited.
    Cancelled,
    /// Replaced by another request while it waited.
    Superseded,
    /// Refused by the cooldown.
    Refused,
}

/// Toggle as shown by the admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToggleView {
    /// True if rules apply.
    pub enabled: bool,
    /// The pending change.
    pub pending: Option<PendingChange>,
    /// Time until which changes are refused.
    pub cooldown_until: Option<Timestamp>,
    /// Time of the last change.
    pub changed_at: Option<Timestamp>,
    /// Grows with every change of the state.
    pub revision: u64,
}

impl Toggle {
    /// Creates the toggle of the very first start.
    #[must_use]
    pub const fn new(enabled: bool) -> Self {
        Self {
            enabled,
            pending: None,
            cooldown_until: None,
            changed_at: None,
            revision: 0,
            last_id: 0,
        }
    }

    /// Returns true if rules apply. A pending change counts from its instant on, settled or not.
    #[must_use]
    pub fn is_enabled(&self, now: Timestamp) -> bool {
        self.due(now).map_or(self.enabled, |pending| pending.value)
    }

    /// Returns the revision, which grows with every change of the state. A store compares it before
    /// replacing a state.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the instant at which the pending change takes effect and [`Self::settle`] is due.
    #[must_use]
    pub fn effective_at(&self) -> Option<Timestamp> {
        self.pending.as_ref().map(|pending| pending.effective_at)
    }

    /// Returns the toggle as shown by the admin API.
    #[must_use]
    pub fn status(&self, settings: &ToggleSettings, now: Timestamp) -> ToggleView {
        let mut settled = self.clone();
        settled.settle(settings, now);
        ToggleView {
            enabled: settled.enabled,
            pending: settled.pending,
            cooldown_until: settled.cooldown_until.filter(|until| now < *until),
            changed_at: settled.changed_at,
            revision: settled.revision,
        }
    }

    /// Applies a pending change whose instant has come and returns the entry to record, if any. All
    /// replicas that settle the same state produce the same one.
    pub fn settle(&mut self, settings: &ToggleSettings, now: Timestamp) -> Option<ToggleRecord> {
        self.due(now)?;
        let pending = self.pending.take()?;
        self.apply(pending.value, settings, pending.effective_at);
        self.revision += 1;
        Some(ToggleRecord::new(pending, ToggleOutcome::Applied))
    }

    /// Requests a change and returns the entries to record, in order.
    pub fn request(
        &mut self,
        request: ToggleChange,
        settings: &ToggleSettings,
        now: Timestamp,
    ) -> (ToggleAnswer, Vec<ToggleRecord>) {
        let mut items = Vec::from_iter(self.settle(settings, now));
        self.revision += 1;
        let id = self.last_id + 1;
        self.last_id = id;
        if let Some(wait) = self.refusal(&request, now) {
            items.push(ToggleRecord::new_refused(id, request, now));
            return (ToggleAnswer::Refused(wait), items);
        }
        let superseded = self.pending.take();
        items.extend(superseded.map(|pending| {
            ToggleRecord::new(pending, ToggleOutcome::Superseded).with_ended_by(&request.actor)
        }));
        let delay = if request.force {
            Duration::ZERO
        } else {
            request.delay.unwrap_or(settings.delay)
        };
        let ToggleChange {
            value,
            reason,
            actor,
            ..
        } = request;
        let effective_at = later(now, delay);
        let change = PendingChange {
            id,
            value,
            effective_at,
            reason,
            actor,
            requested_at: now,
        };
        let answer = if value == self.enabled {
            items.push(ToggleRecord::new(
                PendingChange {
                    effective_at: now,
                    ..change
                },
                ToggleOutcome::Applied,
            ));
            ToggleAnswer::Unchanged
        } else if effective_at <= now {
            self.apply(value, settings, now);
            items.push(ToggleRecord::new(change, ToggleOutcome::Applied));
            ToggleAnswer::Applied
        } else {
            items.push(ToggleRecord::new(change.clone(), ToggleOutcome::Pending));
            self.pending = Some(change);
            ToggleAnswer::Pending
        };
        (answer, items)
    }

    /// Cancels the pending change and returns the entry to record; `None` if nothing was pending.
    /// Cancelling starts no cooldown.
    pub fn cancel(&mut self, actor: &str, now: Timestamp) -> Option<ToggleRecord> {
        if self.due(now).is_some() {
            // Its instant has come: it is in force, settled or not.
            return None;
        }
        let pending = self.pending.take()?;
        self.revision += 1;
        Some(ToggleRecord::new(pending, ToggleOutcome::Cancelled).with_ended_by(actor))
    }

    fn due(&self, now: Timestamp) -> Option<&PendingChange> {
        self.pending
            .as_ref()
            .filter(|pending| pending.effective_at <= now)
    }

    /// Returns the time for which the cooldown still refuses a request. A request that changes
    /// nothing is never refused.
    fn refusal(&self, request: &ToggleChange, now: Timestamp) -> Option<Duration> {
        let until = self.cooldown_until.filter(|until| now < *until)?;
        let left = Duration::try_from(until.duration_since(now)).ok()?;
        (!request.force && request.value != self.enabled).then_some(left)
    }

    fn apply(&mut self, value: bool, settings: &ToggleSettings, at: Timestamp) {
        self.enabled = value;
        self.changed_at = Some(at);
        self.cooldown_until = Some(later(at, settings.cooldown));
    }
}

impl ToggleOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Applied,
        Self::Cancelled,
        Self::Superseded,
        Self::Refused,
    ];

    /// The name used in the API and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Applied => "applied",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
        }
    }
}

impl ToggleRecord {
    fn new(pending: PendingChange, outcome: ToggleOutcome) -> Self {
        let PendingChange {
            id,
            value,
            effective_at,
            reason,
            actor,
            requested_at,
        } = pending;
        let effective = matches!(outcome, ToggleOutcome::Pending | ToggleOutcome::Applied);
        let effective_at = effective.then_some(effective_at);
        Self {
            id,
            value,
            reason,
            actor,
            requested_at,
            effective_at,
            outcome,
            ended_by: None,
        }
    }

    fn new_refused(id: u64, request: ToggleChange, requested_at: Timestamp) -> Self {
        let ToggleChange {
            value,
            reason,
            actor,
            ..
        } = request;
        let outcome = ToggleOutcome::Refused;
        Self {
            id,
            value,
            reason,
            actor,
            requested_at,
            effective_at: None,
            outcome,
            ended_by: None,
        }
    }

    fn with_ended_by(self, actor: &str) -> Self {
        Self {
            ended_by: Some(actor.to_owned()),
            ..self
        }
    }
}

/// So much later, or as late as can be.
fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: ToggleSettings = ToggleSettings {
        delay: Duration::from_secs(10),
        cooldown: Duration::from_secs(60),
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_772_366_400 + second).unwrap()
    }

    fn ask(value: bool) -> ToggleChange {
        let (reason, actor) = ("drill".to_owned(), "ann".to_owned());
        ToggleChange {
            value,
            reason,
            actor,
            delay: None,
            force: false,
        }
    }

    fn outcomes(items: &[ToggleRecord]) -> Vec<(u64, ToggleOutcome)> {
        items.iter().map(|item| (item.id, item.outcome)).collect()
    }

    #[test]
    fn a_change_waits_takes_effect_and_cools_down() {
        let mut toggle = Toggle::new(true);
        let (answer, items) = toggle.request(ask(false), &SETTINGS, at(0));
        assert_eq!(
            (answer, outcomes(&items)),
            (ToggleAnswer::Pending, vec![(1, ToggleOutcome::Pending)])
        );
        let status = toggle.status(&SETTINGS, at(9));
        assert!(status.enabled && status.pending.is_some() && status.cooldown_until.is_none());
        // At the instant, before anybody has settled it.
        assert!(toggle.is_enabled(at(9)) && !toggle.is_enabled(at(10)));
        let seen = toggle.status(&SETTINGS, at(12));
        let item = toggle.settle(&SETTINGS, at(12)).unwrap();
        assert_eq!(
            (item.id, item.outcome, item.effective_at),
            (1, ToggleOutcome::Applied, Some(at(10)))
        );
        assert_eq!(toggle.status(&SETTINGS, at(12)), seen);
        assert_eq!(seen.cooldown_until, Some(at(70)));
        assert_eq!(seen.changed_at, Some(at(10)));
        assert_eq!(toggle.settle(&SETTINGS, at(13)), None, "once");
        // Refused until the cooldown is over.
        let (answer, items) = toggle.request(ask(true), &SETTINGS, at(30));
        assert_eq!(answer, ToggleAnswer::Refused(Duration::from_secs(40)));
        assert_eq!(outcomes(&items), [(2, ToggleOutcome::Refused)]);
        let (answer, _) = toggle.request(ask(true), &SETTINGS, at(70));
        assert_eq!(answer, ToggleAnswer::Pending);
        assert_eq!(toggle.effective_at(), Some(at(80)));
    }

    #[test]
    fn cancelling_starts_no_cooldown() {
        let mut toggle = Toggle::new(true);
        assert_eq!(toggle.cancel("bob", at(0)), None);
        let _ = toggle.request(ask(false), &SETTINGS, at(0));
        let item = toggle.cancel("bob", at(5)).unwrap();
        assert_eq!(
            (item.outcome, item.ended_by.as_deref()),
            (ToggleOutcome::Cancelled, Some("bob"))
        );
        assert!(toggle.is_enabled(at(100)));
        let (answer, _) = toggle.request(ask(false), &SETTINGS, at(6));
        assert_eq!(answer, ToggleAnswer::Pending);
        assert_eq!(
            toggle.cancel("bob", at(16)),
            None,
            "too late: it is in force"
        );
        assert!(!toggle.is_enabled(at(16)));
    }

    #[test]
    fn a_second_request_supersedes_the_first() {
        let mut toggle = Toggle::new(true);
        let _ = toggle.request(ask(false), &SETTINGS, at(0));
        let again = ToggleChange {
            delay: Some(Duration::from_secs(30)),
            ..ask(false)
        };
        let (answer, items) = toggle.request(again, &SETTINGS, at(5));
        assert_eq!(answer, ToggleAnswer::Pending);
        assert_eq!(
            outcomes(&items),
            [(1, ToggleOutcome::Superseded), (2, ToggleOutcome::Pending)]
        );
        assert_eq!(toggle.effective_at(), Some(at(35)));
        // Back to what it is: nothing changes, and nothing waits any more.
        let (answer, items) = toggle.request(ask(true), &SETTINGS, at(6));
        assert_eq!(answer, ToggleAnswer::Unchanged);
        assert_eq!(
            outcomes(&items),
            [(2, ToggleOutcome::Superseded), (3, ToggleOutcome::Applied)]
        );
        let status = toggle.status(&SETTINGS, at(60));
        assert!(status.enabled && status.pending.is_none() && status.changed_at.is_none());
    }

    #[test]
    fn force_skips_delay_and_cooldown() {
        let mut toggle = Toggle::new(true);
        let force = |value| ToggleChange {
            force: true,
            ..ask(value)
        };
        let (answer, _) = toggle.request(force(false), &SETTINGS, at(0));
        assert!(answer == ToggleAnswer::Applied && !toggle.is_enabled(at(0)));
        let (answer, _) = toggle.request(ask(true), &SETTINGS, at(1));
        assert_eq!(answer, ToggleAnswer::Refused(Duration::from_secs(59)));
        let (answer, _) = toggle.request(force(true), &SETTINGS, at(2));
        assert!(answer == ToggleAnswer::Applied && toggle.is_enabled(at(2)));
        assert_eq!(toggle.status(&SETTINGS, at(2)).cooldown_until, Some(at(62)));
    }

    #[test]
    fn the_same_value_changes_nothing_even_in_a_cooldown() {
        let mut toggle = Toggle::new(true);
        let _ = toggle.request(
            ToggleChange {
                force: true,
                ..ask(false)
            },
            &SETTINGS,
            at(0),
        );
        let before = toggle.status(&SETTINGS, at(1));
        let (answer, items) = toggle.request(ask(false), &SETTINGS, at(1));
        assert_eq!(
            (answer, outcomes(&items)),
            (ToggleAnswer::Unchanged, vec![(2, ToggleOutcome::Applied)])
        );
        let after = toggle.status(&SETTINGS, at(1));
        assert_eq!(after.changed_at, before.changed_at);
        assert_eq!(after.cooldown_until, before.cooldown_until);
    }

    #[test]
    fn a_due_change_is_settled_by_the_next_request() {
        let mut toggle = Toggle::new(true);
        let _ = toggle.request(ask(false), &SETTINGS, at(0));
        let (answer, items) = toggle.request(ask(true), &SETTINGS, at(20));
        assert_eq!(answer, ToggleAnswer::Refused(Duration::from_secs(50)));
        assert_eq!(
            outcomes(&items),
            [(1, ToggleOutcome::Applied), (2, ToggleOutcome::Refused)]
        );
    }

    #[test]
    fn state_survives_storing() {
        let mut toggle = Toggle::new(true);
        let _ = toggle.request(ask(false), &SETTINGS, at(0));
        let stored = serde_json::to_string(&toggle).unwrap();
        let back: Toggle = serde_json::from_str(&stored).unwrap();
        assert_eq!(back, toggle);
        assert!(!back.is_enabled(at(10)), "pending across a restart");
        let status = serde_json::to_value(toggle.status(&SETTINGS, at(0))).unwrap();
        assert_eq!(status["pending"]["effective_at"], "2026-03-01T12:00:10Z");
        assert_eq!(status["cooldown_until"], serde_json::Value::Null);
    }

    #[test]
    fn endless_delays_are_survived() {
        let mut toggle = Toggle::new(true);
        let request = ToggleChange {
            delay: Some(Duration::MAX),
            ..ask(false)
        };
        assert_eq!(
            toggle.request(request, &SETTINGS, at(0)).0,
            ToggleAnswer::Pending
        );
        assert!(toggle.is_enabled(at(1_000_000)));
    }

    proptest! {
        /// Gives the same state in effect whichever replica settles, and when; ids and revisions
        /// grow; only a forced change comes within a cooldown.
        #[test]
        fn any_history_is_sound(steps in proptest::collection::vec((0..5_u8, any::<bool>(), 0..40_i64), 0..60)) {
            let (mut eager, mut lazy) = (Toggle::new(true), Toggle::new(true));
            let mut now = 0;
            let mut last_change: Option<Timestamp> = None;
            for (step, value, wait) in steps {
                now += wait;
                eager.settle(&SETTINGS, at(now));
                let before = eager.clone();
                let request = ToggleChange { force: step == 4, ..ask(value) };
                match step {
                    0 | 4 => {
                        let (a, _) = eager.request(request.clone(), &SETTINGS, at(now));
                        let (b, items) = lazy.request(request, &SETTINGS, at(now));
                        prop_assert_eq!(a, b);
                        prop_assert!(items.iter().map(|item| item.id).is_sorted());
                        prop_assert!(eager.revision > before.revision);
                    }
                    1 => { prop_assert_eq!(eager.cancel("x", at(now)), lazy.cancel("x", at(now))); }
                    _ => {}
                }
                prop_assert_eq!(eager.is_enabled(at(now)), lazy.is_enabled(at(now)));
                let (a, b) = (eager.status(&SETTINGS, at(now)), lazy.status(&SETTINGS, at(now)));
                prop_assert_eq!(&a, &b);
                if let (Some(earlier), Some(changed)) = (last_change, a.changed_at)
                    && changed != earlier && step != 4
                {
                    prop_assert!(changed.duration_since(earlier) >= SignedDuration::from_secs(60));
                }
                last_change = a.changed_at;
            }
        }
    }
}
