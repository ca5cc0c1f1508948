//! The switch that turns routing rules on and off, as this replica holds it: a copy of the state
//! in the store, read by every request, and changed only through the store. How the toggle acts is
//! the domain's; when the store is asked, `follow.rs`'s.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use llm_router_domain::toggle::{
    Toggle, ToggleAnswer, ToggleChange, ToggleRecord, ToggleSettings, ToggleView,
};
use llm_router_store::objects::AuditDraft;
use llm_router_store::toggle::ToggleStep;
use llm_router_store::{Store, StoreError};
use serde_json::json;

use crate::clock;
use crate::telemetry::metrics::Metrics;

/// Most tries of a change that another replica was faster with.
const TRIES: usize = 50;

/// This replica's copy of the toggle.
pub(crate) struct ToggleReplica {
    toggle: ArcSwap<Toggle>,
    settings: ArcSwap<ToggleSettings>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    /// Held while the store is asked, so that a slow answer can't bring an old state back.
    turn: tokio::sync::Mutex<()>,
}

impl ToggleReplica {
    /// The switch as the store has it; at the very first start as `enabled` says.
    ///
    /// # Errors
    /// When the store can't be reached.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        enabled: bool,
        settings: ToggleSettings,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let toggle = store.begin_toggle(&Toggle::new(enabled)).await?;
        Ok(Self {
            toggle: ArcSwap::from_pointee(toggle),
            settings: ArcSwap::from_pointee(settings),
            store,
            metrics,
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Returns whether rules are enabled. A change counts from its instant on, by the clock of this
    /// replica, whether or not the store can be reached.
    pub(crate) fn is_enabled(&self, now: SystemTime) -> bool {
        self.toggle.load().is_enabled(timestamp(now))
    }

    /// Returns the status for the admin API.
    pub(crate) fn status(&self, now: Timestamp) -> ToggleView {
        self.toggle.load().status(&self.settings.load(), now)
    }

    /// The revision of the copy.
    pub(crate) fn revision(&self) -> u64 {
        self.toggle.load().revision()
    }

    /// Returns the time at which the pending change takes effect.
    pub(crate) fn effective_at(&self) -> Option<Timestamp> {
        self.toggle.load().effective_at()
    }

    /// Waits and cooldowns from now on, as a new configuration has them.
    pub(crate) fn configure(&self, settings: ToggleSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// Asks for a change. What became of it, and the status then.
    ///
    /// # Errors
    /// When the store fails: then nothing was changed, or the change shows in the status later.
    pub(crate) async fn request(
        &self,
        request: &ToggleChange,
    ) -> Result<(ToggleAnswer, ToggleView), StoreError> {
        self.step(|toggle, settings, now| {
            let id = toggle
                .status(settings, now)
                .pending
                .map(|pending| pending.id);
            let (answer, items) = toggle.request(request.clone(), settings, now);
            let after = json!({
                "value": request.value, "reason": request.reason, "force": request.force,
                "delay_seconds": request.delay.map(|delay| delay.as_secs_f64()),
                "outcome": items.last().map(|item| item.outcome.name()), "supersedes": id,
            });
            let audit = audit(&request.actor, "request", items.last(), after, now);
            Some((answer, items, Some(audit)))
        })
        .await
        .map(|(answer, status)| (answer.unwrap_or(ToggleAnswer::Unchanged), status))
    }

    /// Cancels the change that waits. Whether there was one, and the status then.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn cancel(&self, actor: &str) -> Result<(bool, ToggleView), StoreError> {
        self.step(|toggle, settings, now| {
            let settled = toggle.settle(settings, now);
            let cancelled = toggle.cancel(actor, now)?;
            let audit = audit(actor, "cancel", Some(&cancelled), json!(null), now);
            let items = settled.into_iter().chain([cancelled]).collect();
            Some(((), items, Some(audit)))
        })
        .await
        .map(|(answer, status)| (answer.is_some(), status))
    }

    /// Notes in the store that a change took effect, if its instant has come.
    ///
    /// # Errors
    /// When the store fails. The change is in force all the same.
    pub(crate) async fn settle(&self, now: Timestamp) -> Result<(), StoreError> {
        if self.effective_at().is_none_or(|at| at > now) {
            return Ok(());
        }
        self.step(|toggle, settings, now| {
            let item = toggle.settle(settings, now)?;
            Some(((), vec![item], None))
        })
        .await
        .map(drop)
    }

    /// Takes the store's state over.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        self.load().await.map(drop)
    }

    async fn load(&self) -> Result<Arc<Toggle>, StoreError> {
        if let Some(toggle) = self.store.toggle().await? {
            self.toggle.store(Arc::new(toggle));
        }
        Ok(self.toggle.load_full())
    }

    /// Takes a step from the store's state, again as often as another replica was faster. Nothing
    /// is stored where the step says that there is none to take.
    async fn step<A>(
        &self,
        take: impl Fn(
            &mut Toggle,
            &ToggleSettings,
            Timestamp,
        ) -> Option<(A, Vec<ToggleRecord>, Option<AuditDraft>)>,
    ) -> Result<(Option<A>, ToggleView), StoreError> {
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            let (toggle, settings) = (self.load().await?, **self.settings.load());
            let now = now();
            let mut to = Toggle::clone(&toggle);
            let Some((answer, items, audit)) = take(&mut to, &settings, now) else {
                return Ok((None, toggle.status(&settings, now)));
            };
            let step = ToggleStep {
                from: toggle.revision(),
                to: to.clone(),
                items: items.clone(),
                audit,
            };
            if self.store.step_toggle(step).await? {
                let status = to.status(&settings, now);
                self.toggle.store(Arc::new(to));
                self.tell(&items);
                return Ok((Some(answer), status));
            }
        }
        let busy = "others change the toggle without end".to_owned();
        Err(StoreError::Unavailable(busy))
    }

    fn tell(&self, items: &[ToggleRecord]) {
        for item in items {
            self.metrics.toggle_changed(item.outcome);
            tracing::info!(
                toggle.id = item.id,
                toggle.value = item.value,
                toggle.outcome = ?item.outcome,
                toggle.actor = %item.actor,
                toggle.reason = %item.reason,
                toggle.effective_at = item.effective_at.map(tracing::field::display),
                "routing toggle"
            );
        }
    }
}

/// The time, in whole milliseconds: what every store keeps exactly.
pub(crate) fn now() -> Timestamp {
    let now = timestamp(clock::wall());
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

fn timestamp(time: SystemTime) -> Timestamp {
    // A clock beyond year 9999 is as far as can be told.
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}

fn audit(
    actor: &str,
    action: &str,
    item: Option<&ToggleRecord>,
    after: serde_json::Value,
    at: Timestamp,
) -> AuditDraft {
    AuditDraft {
        at,
        actor: actor.to_owned(),
        action: action.to_owned(),
        kind: "toggle".to_owned(),
        object: item.map(|item| item.id.to_string()).unwrap_or_default(),
        before: None,
        after: Some(after).filter(|after| !after.is_null()),
    }
}
