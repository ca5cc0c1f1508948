//! The switch that turns routing rules on and off: a change waits, can be cancelled while it waits,
//! takes effect at its instant, and is followed by a cooldown. A pure state: the store keeps it,
//! replicas share it, and each sees the effect at the same instant by asking with its own clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How the toggle acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToggleSettings {
    /// From a request to its effect, unless the request says otherwise.
    pub delay: Duration,
    /// From an effect until another change may be requested.
    pub cooldown: Duration,
}

/// The toggle's whole state, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toggle {
    enabled: bool,
    pending: Option<PendingChange>,
    cooldown_until: Option<Timestamp>,
    changed_at: Option<Timestamp>,
    revision: u64,
    last_id: u64,
}

/// A change that waits for its instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingChange {
    /// Identifies the request.
    pub id: u64,
    /// What the toggle will be.
    pub value: bool,
    /// When.
    pub effective_at: Timestamp,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub actor: String,
    /// When it was asked for.
    pub requested_at: Timestamp,
}

/// A request to change the toggle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToggleChange {
    /// What it shall be.
    pub value: bool,
    /// Why.
    pub reason: String,
    /// Who asks.
    pub actor: String,
    /// How long it waits, instead of the usual delay.
    pub delay: Option<Duration>,
    /// Skips delay and cooldown. That the actor may do so is checked before.
    pub force: bool,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToggleAnswer {
    /// It waits for its instant.
    Pending,
    /// It took effect at once.
    Applied,
    /// The toggle had that value already.
    Unchanged,
    /// The cooldown refuses it for so long.
    Refused(Duration),
}

/// An entry of the history. An entry with the id of an earlier one replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToggleRecord {
    /// Identifies the request.
    pub id: u64,
    /// What it asked for.
    pub value: bool,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub actor: String,
    /// When.
    pub requested_at: Timestamp,
    /// When it takes or took effect; never, if it was cancelled, superseded or refused.
    pub effective_at: Option<Timestamp>,
    /// What became of it.
    pub outcome: ToggleOutcome,
    /// Who cancelled or superseded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToggleOutcome {
    /// It waits.
    Pending,
    /// It took effect.
    Applied,
    /// It was cancelled while it waited.
    Cancelled,
    /// Another request took its place while it waited.
    Superseded,
    /// The cooldown refused it.
    Refused,
}

/// What people see of the toggle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToggleView {
    /// Whether rules are in force.
    pub enabled: bool,
    /// The change that waits.
    pub pending: Option<PendingChange>,
    /// Until when changes are refused.
    pub cooldown_until: Option<Timestamp>,
    /// When it last changed.
    pub changed_at: Option<Timestamp>,
    /// Grows with every change of the state.
    pub revision: u64,
}

impl Toggle {
    /// The toggle at the very first start.
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

    /// Whether rules are in force. A pending change counts from its instant on, settled or not.
    #[must_use]
    pub fn is_enabled(&self, now: Timestamp) -> bool {
        self.due(now).map_or(self.enabled, |pending| pending.value)
    }

    /// Grows with every change of the state: what a store compares before it replaces one.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// When the pending change takes effect: when to [`Self::settle`] next.
    #[must_use]
    pub fn effective_at(&self) -> Option<Timestamp> {
        self.pending.as_ref().map(|pending| pending.effective_at)
    }

    /// What people see now.
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

    /// Puts a pending change into force whose instant has come. The entry to record, if any. Every
    /// replica that settles the same state comes to the same one.
    pub fn settle(&mut self, settings: &ToggleSettings, now: Timestamp) -> Option<ToggleRecord> {
        self.due(now)?;
        let pending = self.pending.take()?;
        self.apply(pending.value, settings, pending.effective_at);
        self.revision += 1;
        Some(ToggleRecord::new(pending, ToggleOutcome::Applied))
    }

    /// Asks for a change. The entries to record, in order.
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

    /// Cancels the pending change. The entries to record; the last is the one cancelled. Cancelling
    /// starts no cooldown. `None`: there was nothing to cancel.
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

    /// How long the cooldown still refuses a request. What changes nothing is never refused.
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
        /// Whoever settles, and when, makes no difference to what is in force; ids and revisions
        /// grow; no change but a forced one comes within a cooldown.
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
