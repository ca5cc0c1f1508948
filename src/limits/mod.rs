//! Rate limits at run time: a request is admitted before its body is read (requests, concurrency),
//! reserves what it may use once that is known (tokens, the model's limits), and settles what it
//! used at its end. With Redis all replicas count together, in one question for each request; while
//! that is away each goes by its share. The arithmetic is `llm-router-domain`'s.

pub(crate) mod status;
pub(crate) mod usage;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use llm_router_config::{OnCounterFailure, RouterLimits};
use llm_router_counters::{Counters, LimitRequest, LinkStatus, TakeOutcome};
use llm_router_domain::header::KEY_HEADERS;
use llm_router_domain::key::Key;
use llm_router_domain::limit::{
    Bucket, Ceiling, ExpectedTokens, LimitExceeded, Limits, Pace, Rate,
};
use llm_router_domain::network::client_network;
use uuid::Uuid;

use crate::clock;
use crate::error::ApiError;
use crate::telemetry::metrics::Metrics;

pub(crate) use status::RateLimitStatus;
pub(crate) use usage::LimitScope;
use usage::{Ask, ScopedLimits, Uses, reserved_tokens};

/// Counts what is let through, for every subject with a limit.
pub(crate) struct Limiter {
    /// Held for a few look-ups at a time.
    uses: Mutex<Uses>,
    /// Clients that present unknown keys.
    unknown_key_clients: Mutex<HashMap<IpAddr, Bucket>>,
    metrics: Arc<Metrics>,
    origin: Instant,
    /// Counters that all replicas share, if they do.
    shared: Option<Counters>,
}

/// Counter of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// This process, in which each request and token counts for as many as there are replicas.
    Local(u32),
    /// All replicas together; what this process counts is a copy.
    Shared,
    /// Nobody.
    Free,
}

/// A request that was let in. Its place is free again when this is dropped.
pub(crate) struct Permit {
    limiter: Arc<Limiter>,
    lines: Vec<ScopedLimits>,
    mode: Mode,
    /// The request in the shared counters.
    lease: Option<SharedLease>,
    /// Amounts charged on each line.
    charged: Ask,
    /// Microsecond at which the tokens were charged.
    tokens_at: u64,
    standing: RateLimitStatus,
    /// Set if all limits let it pass; otherwise its charges are taken back.
    passed: bool,
}

/// Request that the shared counters may have counted.
struct SharedLease {
    id: Uuid,
    requests: Vec<LimitRequest>,
    /// Second of their clock in which it was counted, if they said so.
    second: u64,
}

/// Reply of the shared counters to a request that fits.
enum SharedReply {
    Counted,
    /// They don't answer.
    Unavailable,
    /// They have lost their data, and didn't count it.
    Forgotten,
}

/// Expected use of a request.
pub(crate) struct Need<'a> {
    /// The public model it goes to, with its limits.
    pub(crate) model: Option<(&'a str, Limits)>,
    /// Tokens it is expected to use.
    pub(crate) tokens: ExpectedTokens,
}

/// A request that was not let in, and where the limit stands that it met.
pub(crate) struct Refusal {
    pub(crate) fault: ApiError,
    pub(crate) standing: RateLimitStatus,
}

impl Limiter {
    pub(crate) fn new(metrics: Arc<Metrics>, shared: Option<Counters>) -> Self {
        Self {
            uses: Mutex::default(),
            unknown_key_clients: Mutex::default(),
            metrics,
            origin: clock::now(),
            shared,
        }
    }

    /// Returns the status of the shared counters, if there are any.
    pub(crate) fn status(&self) -> Option<LinkStatus> {
        self.shared.as_ref().map(|shared| shared.link().status())
    }

    /// Returns whether the shared counters are unavailable.
    pub(crate) fn is_degraded(&self) -> bool {
        let shared = self.shared.as_ref();
        shared.is_some_and(|shared| !shared.link().is_up())
    }

    /// Reports to the shared counters, until the runtime stops, what is counted here whenever they
    /// may have missed or lost it. Requests report it, too, but only for the scopes that they are in.
    pub(crate) async fn report_losses(self: Arc<Self>) {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        let mut reported = shared.link().generation();
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            let generation = shared.link().generation();
            if generation != reported && shared.link().is_up() {
                self.report_known(&shared, generation).await;
                reported = generation;
            }
        }
    }

    /// Reports what is counted here and the shared counters may not know.
    async fn report_known(&self, shared: &Counters, generation: u64) {
        let at = self.micros(clock::now());
        let lines = self.uses().untold(generation, at);
        for lines in lines.chunks(REPORTED_AT_ONCE) {
            let request = |line: &ScopedLimits| LimitRequest {
                subject: line.subject.name(),
                limits: line.limits,
                requests: 0,
                tokens: 0,
                known: self.uses().unsaid(line, generation, at),
                wants_seconds: false,
            };
            let requests: Vec<_> = lines.iter().map(request).collect();
            if let Ok(TakeOutcome::Passed { usage, .. }) =
                shared.take(Uuid::new_v4(), &requests).await
            {
                self.uses().mirror(lines, &usage, generation, at);
            }
        }
    }

    /// Tells the other replicas that this one is gone.
    pub(crate) async fn leave(&self) {
        if let Some(shared) = &self.shared {
            shared.link().leave().await;
        }
    }

    /// Lets a request in before its body is read, if its key, its owner and everybody together
    /// have room for one more.
    ///
    /// # Errors
    /// When they haven't.
    pub(crate) fn admit(
        self: &Arc<Self>,
        table: &RouterLimits,
        key: &Key,
        now: Instant,
    ) -> Result<Permit, Box<Refusal>> {
        let lines = limits_of_key(table, key);
        let mut admission = Permit {
            limiter: Arc::clone(self),
            lines: Vec::new(),
            mode: Mode::Free,
            lease: None,
            charged: Ask::default(),
            tokens_at: 0,
            standing: RateLimitStatus::default(),
            passed: false,
        };
        admission.mode = self.mode(table.on_counter_failure, !lines.is_empty())?;
        self.enter(&mut admission, lines, now)?;
        Ok(admission)
    }

    /// Charges a request with what it is about to use, once its body has told.
    ///
    /// # Errors
    /// When there is no room for that.
    pub(crate) async fn reserve(
        &self,
        admission: &mut Permit,
        need: &Need<'_>,
        on_counter_failure: OnCounterFailure,
        now: Instant,
    ) -> Result<(), Box<Refusal>> {
        if let Some((name, limits)) = need.model.filter(|(_, limits)| !limits.is_none()) {
            if admission.lines.is_empty() {
                admission.mode = self.mode(on_counter_failure, true)?;
            }
            let line = ScopedLimits {
                subject: LimitScope::Model(name.into()),
                limits,
                charged: 0,
            };
            self.enter(admission, vec![line], now)?;
        }
        if admission.lines.is_empty() || admission.mode == Mode::Free {
            admission.passed = true;
            return Ok(());
        }
        if admission.mode == Mode::Shared {
            admission.mode = match self.take_shared(admission, need.tokens, now).await? {
                SharedReply::Counted => Mode::Shared,
                // They went away or lost their data just now: this replica's share must do.
                SharedReply::Unavailable => self.fallback(on_counter_failure)?,
                SharedReply::Forgotten => self.share(),
            };
            if admission.mode != Mode::Shared {
                self.take_request(admission, now)?;
            }
        }
        self.take_tokens(admission, need.tokens, now)?;
        admission.passed = true;
        Ok(())
    }

    /// Returns the counter of a request, if any limit concerns it.
    fn mode(&self, failure: OnCounterFailure, limited: bool) -> Result<Mode, Box<Refusal>> {
        match self.status() {
            None => Ok(Mode::Local(1)),
            Some(status) if status.up && status.synced => Ok(Mode::Shared),
            // Not every replica has reported what the counters missed or lost.
            Some(status) if status.up => Ok(self.share()),
            Some(_) if !limited => Ok(Mode::Free),
            Some(_) => self.fallback(failure),
        }
    }

    fn fallback(&self, failure: OnCounterFailure) -> Result<Mode, Box<Refusal>> {
        match failure {
            OnCounterFailure::Local => Ok(self.share()),
            OnCounterFailure::Allow => Ok(Mode::Free),
            OnCounterFailure::Refuse => Err(Box::new(Refusal {
                fault: ApiError::limits_unavailable(),
                standing: RateLimitStatus::default(),
            })),
        }
    }

    /// Returns the mode in which this replica admits its share.
    fn share(&self) -> Mode {
        Mode::Local(self.status().map_or(1, |status| status.replicas))
    }

    /// Counts a request as under way on `lines`, and as one let through if this process counts.
    fn enter(
        &self,
        admission: &mut Permit,
        mut lines: Vec<ScopedLimits>,
        now: Instant,
    ) -> Result<(), Box<Refusal>> {
        if lines.is_empty() {
            return Ok(());
        }
        let at = self.micros(now);
        let ask = Ask {
            enters: true,
            request: matches!(admission.mode, Mode::Local(_)),
            weight: admission.weight(),
            ..Ask::default()
        };
        let mut uses = self.uses();
        let checked = match admission.mode {
            Mode::Local(_) => uses.check(&lines, &ask, at),
            Mode::Shared => uses.check_shared(&lines, at),
            Mode::Free => Ok(()),
        };
        if let Err((position, full)) = checked {
            return Err(self.refuse(uses, &lines[position], &full, ask.tokens, at));
        }
        uses.charge(&mut lines, &ask, at);
        admission.charged = ask;
        admission.lines.extend(lines);
        admission.standing = RateLimitStatus::of(&mut uses, &admission.lines, at);
        Ok(())
    }

    /// Counts a request that is under way on every line, if there is room.
    fn take_request(&self, admission: &mut Permit, now: Instant) -> Result<(), Box<Refusal>> {
        let ask = Ask {
            request: true,
            weight: admission.weight(),
            ..Ask::default()
        };
        self.charge(admission, &ask, now)?;
        admission.charged.request = true;
        admission.charged.weight = ask.weight;
        Ok(())
    }

    /// Counts the tokens of a request, if this process counts them.
    fn take_tokens(
        &self,
        admission: &mut Permit,
        tokens: ExpectedTokens,
        now: Instant,
    ) -> Result<(), Box<Refusal>> {
        if tokens == ExpectedTokens::default() || !matches!(admission.mode, Mode::Local(_)) {
            return Ok(());
        }
        let ask = Ask {
            tokens,
            weight: admission.weight(),
            ..Ask::default()
        };
        self.charge(admission, &ask, now)?;
        admission.charged.tokens = tokens;
        admission.tokens_at = self.micros(now);
        Ok(())
    }

    fn charge(&self, admission: &mut Permit, ask: &Ask, now: Instant) -> Result<(), Box<Refusal>> {
        let at = self.micros(now);
        let mut uses = self.uses();
        if let Err((position, full)) = uses.check(&admission.lines, ask, at) {
            let line = &admission.lines[position];
            return Err(self.refuse(uses, line, &full, ask.tokens, at));
        }
        uses.charge(&mut admission.lines, ask, at);
        admission.standing = RateLimitStatus::of(&mut uses, &admission.lines, at);
        Ok(())
    }

    /// Asks the shared counters.
    async fn take_shared(
        &self,
        admission: &mut Permit,
        tokens: ExpectedTokens,
        now: Instant,
    ) -> Result<SharedReply, Box<Refusal>> {
        let Some(shared) = &self.shared else {
            return Ok(SharedReply::Unavailable);
        };
        let at = self.micros(now);
        let id = Uuid::new_v4();
        let generation = shared.link().generation();
        let requests = self.shared_requests(&admission.lines, tokens, generation, at)?;
        let verdict = shared.take(id, &requests).await;
        // Told at the end even if there was no answer: it may have been counted all the same.
        let mut lease = SharedLease {
            id,
            requests,
            second: 0,
        };
        let (usage, refused) = match verdict {
            Err(_) => {
                admission.lease = Some(lease);
                return Ok(SharedReply::Unavailable);
            }
            Ok(TakeOutcome::Forgotten) => return Ok(SharedReply::Forgotten),
            Ok(TakeOutcome::Passed { second, usage }) => {
                lease.second = second;
                admission.lease = Some(lease);
                (usage, None)
            }
            Ok(TakeOutcome::Full {
                position,
                full,
                usage,
            }) => (usage, Some((position, full))),
        };
        let mut uses = self.uses();
        uses.mirror(&admission.lines, &usage, generation, at);
        let Some((position, full)) = refused else {
            admission.standing = RateLimitStatus::of(&mut uses, &admission.lines, at);
            return Ok(SharedReply::Counted);
        };
        let line = &admission.lines[position.min(admission.lines.len() - 1)];
        uses.note_full(line, &full, at);
        Err(self.refuse(uses, line, &full, tokens, at))
    }

    fn shared_requests(
        &self,
        lines: &[ScopedLimits],
        tokens: ExpectedTokens,
        generation: u64,
        now: u64,
    ) -> Result<Vec<LimitRequest>, Box<Refusal>> {
        let mut uses = self.uses();
        let mut requests = Vec::with_capacity(lines.len());
        for line in lines {
            let tokens = match reserved_tokens(line, tokens) {
                Ok(tokens) => tokens,
                Err(never) => return Err(self.refuse(uses, line, &never, tokens, now)),
            };
            requests.push(LimitRequest {
                subject: line.subject.name(),
                limits: line.limits,
                requests: 1,
                tokens,
                known: uses.unsaid(line, generation, now),
                wants_seconds: uses.wants_seconds(line, now),
            });
        }
        Ok(requests)
    }

    /// Returns the error for a client whose key doesn't work: `error`, or 429 once too many such keys
    /// came from its address. A request without a key isn't counted.
    pub(crate) fn throttle_unknown_key(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
        error: ApiError,
        now: Instant,
    ) -> ApiError {
        let mut names = KEY_HEADERS.iter().chain(&["authorization"]);
        let address = address.filter(|_| names.any(|name| headers.contains_key(*name)));
        let throttled = address.and_then(|address| self.count_unknown_key(address, now));
        throttled.unwrap_or(error)
    }

    /// Counts an unknown key. Returns an error once its address has presented too many. Clients that
    /// present a known key from there are admitted all the same.
    fn count_unknown_key(&self, address: IpAddr, now: Instant) -> Option<ApiError> {
        let pace = Pace::new(UNKNOWN_KEYS, UNKNOWN_KEYS_AT_ONCE);
        let at = self.micros(now);
        let mut clients = self
            .unknown_key_clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MOST_CLIENTS {
            clients.retain(|_, bucket| bucket.level(pace, at) > 0);
            if clients.len() >= MOST_CLIENTS {
                clients.clear();
            }
        }
        let bucket = clients.entry(client_network(address)).or_default();
        let wait = bucket.wait(pace, 1, at);
        if wait.is_zero() {
            bucket.charge(pace, 1, at);
            return None;
        }
        self.metrics.limit_refused("address", "unknown_keys");
        let message = "Too many unknown API keys came from this address.".to_owned();
        Some(ApiError::rate_limit_exceeded(message, whole_seconds(wait)))
    }

    /// Returns the refusal of a request that met a limit of `line`.
    fn refuse(
        &self,
        mut uses: MutexGuard<'_, Uses>,
        line: &ScopedLimits,
        full: &LimitExceeded,
        tokens: ExpectedTokens,
        at: u64,
    ) -> Box<Refusal> {
        let standing = RateLimitStatus::of(&mut uses, std::slice::from_ref(line), at);
        drop(uses);
        self.metrics
            .limit_refused(line.subject.kind(), full.ceiling.name());
        let (unit, ceiling) = match full.ceiling {
            Ceiling::Requests => ("requests a minute", line.limits.requests),
            Ceiling::Tokens => ("tokens a minute", line.limits.tokens),
            Ceiling::Concurrency => ("requests at a time", None),
        };
        let most = ceiling.map_or_else(
            || u64::from(line.limits.concurrency.unwrap_or_default()),
            Rate::per_minute,
        );
        let limited = format!("{} limited to {most} {unit}", line.subject.as_sentence());
        let fault = if let Some(wait) = full.wait {
            let seconds = whole_seconds(wait);
            let message = format!("{limited}. Try again in {seconds} s.");
            ApiError::rate_limit_exceeded(message, seconds)
        } else {
            ApiError::larger_than_limit(format!(
                "{limited}. The input of this request is about {} tokens: it can never pass. \
                 Shorten it, or have the limit raised.",
                tokens.input
            ))
        };
        Box::new(Refusal { fault, standing })
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin).as_micros();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Returns the status of the tightest limits that the request is subject to.
    pub(crate) const fn standing(&self) -> &RateLimitStatus {
        &self.standing
    }

    /// Charges what the request used in place of what was reserved for it.
    pub(crate) fn settle(&mut self, used: u64, now: Instant) {
        if !self.passed || self.lines.is_empty() {
            return;
        }
        let limiter = &self.limiter;
        match (self.mode, &limiter.shared) {
            (Mode::Shared, Some(shared)) => {
                if let Some(lease) = self.lease.take() {
                    shared.end(lease.id, &lease.requests, used, lease.second);
                }
            }
            (Mode::Local(_), _) => {
                let at = limiter.micros(now);
                let ask = Ask {
                    weight: self.weight(),
                    ..self.charged
                };
                let mut uses = limiter.uses();
                uses.settle(&self.lines, &ask, used, self.tokens_at, at);
            }
            _ => {}
        }
    }

    /// For how many each request and token counts.
    fn weight(&self) -> u64 {
        match self.mode {
            Mode::Local(replicas) => u64::from(replicas),
            Mode::Shared | Mode::Free => 1,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let at = self.limiter.micros(clock::now());
        let mut uses = self.limiter.uses();
        uses.leave(&self.lines);
        if !self.passed {
            uses.take_back(&self.lines, &self.charged, at);
        }
        drop(uses);
        if let (Some(mut lease), Some(shared)) = (self.lease.take(), &self.limiter.shared) {
            // The place only: what was reserved stays charged.
            for request in &mut lease.requests {
                request.tokens = 0;
            }
            shared.end(lease.id, &lease.requests, 0, lease.second);
        }
    }
}

/// Interval of checking whether the shared counters may have lost something.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Scopes in one report.
const REPORTED_AT_ONCE: usize = 32;

/// Unknown keys that a client may present in a minute, and at once.
const UNKNOWN_KEYS: u64 = 200;
const UNKNOWN_KEYS_AT_ONCE: u64 = 20;

/// The number of clients with unknown keys that are remembered.
const MOST_CLIENTS: usize = 10_000;

/// Seconds to wait, rounded up so that waiting them is enough.
fn whole_seconds(wait: Duration) -> u64 {
    let partial = u64::from(wait.subsec_nanos() > 0);
    (wait.as_secs() + partial).max(1)
}

/// The limits that a key's requests count against: its own, its owner's and everybody's.
fn limits_of_key(limits: &RouterLimits, key: &Key) -> Vec<ScopedLimits> {
    let owner = key.owner.as_deref();
    let of_owner = owner.and_then(|owner| Some((owner, limits.of_owner(owner)?)));
    // Most keys have none: no copy of a name is made for them.
    let of_key = Some(key.limits).filter(|limits| !limits.is_none());
    let scoped = [
        of_key.map(|limits| (LimitScope::Key(key.name.as_str().into()), limits)),
        of_owner.map(|(owner, limits)| (LimitScope::Owner(owner.into()), limits)),
        Some((LimitScope::Everybody, limits.global)),
    ];
    let scoped = scoped.into_iter().flatten();
    scoped
        .filter(|(_, limits)| !limits.is_none())
        .map(|(subject, limits)| ScopedLimits {
            subject,
            limits,
            charged: 0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use llm_router_domain::key::Role;
    use llm_router_domain::pattern::{Pattern, PatternList};

    use super::*;

    fn key(name: &str, owner: &str, limits: Limits) -> Key {
        Key {
            name: name.into(),
            owner: Some(owner.into()),
            role: Role::User,
            models: PatternList::new(["*"]),
            expires_at: None,
            limits,
            budget: None,
        }
    }

    fn limiter() -> Arc<Limiter> {
        Arc::new(Limiter::new(Arc::new(Metrics::new().unwrap()), None))
    }

    fn requests(per_minute: u64, burst: u64) -> Limits {
        Limits {
            requests: Some(Rate::new(per_minute, Some(burst))),
            ..Limits::NONE
        }
    }

    fn table(owners: &[(&str, Limits)], global: Limits) -> RouterLimits {
        let owners = owners
            .iter()
            .map(|(name, limits)| (Pattern::new(name), *limits));
        RouterLimits {
            global,
            owners: owners.collect(),
            on_counter_failure: OnCounterFailure::Local,
        }
    }

    /// Without shared counters nothing is waited for.
    fn reserve_now(
        limiter: &Limiter,
        admission: &mut Permit,
        need: &Need<'_>,
        now: Instant,
    ) -> Option<()> {
        let reserve = limiter.reserve(admission, need, OnCounterFailure::Local, now);
        reserve.now_or_never()?.ok()
    }

    fn need(model: Option<(&str, Limits)>, input: u64) -> Need<'_> {
        let tokens = ExpectedTokens { input, output: 0 };
        Need { model, tokens }
    }

    fn pass(limiter: &Arc<Limiter>, table: &RouterLimits, key: &Key, now: Instant) -> Option<u64> {
        let need = need(None, 0);
        let mut admission = match limiter.admit(table, key, now) {
            Ok(admission) => admission,
            Err(refusal) => return refusal.fault.retry_after?.parse().ok(),
        };
        reserve_now(limiter, &mut admission, &need, now).map(|()| 0)
    }

    #[test]
    fn each_subject_is_counted_by_itself_and_the_tightest_refuses() {
        let limiter = limiter();
        let table = table(&[("team-*", requests(60, 3))], requests(60, 4));
        let one = key("one", "team-a", requests(60, 2));
        let two = key("two", "team-a", requests(60, 5));
        let three = key("three", "team-b", Limits::NONE);
        let four = key("four", "else", Limits::NONE);
        let now = clock::now();
        for (key, expected) in [
            (&one, 0),
            (&one, 0),
            (&one, 1),
            (&two, 0),
            (&two, 1),
            (&three, 0),
            (&three, 1),
            (&four, 1),
        ] {
            assert_eq!(pass(&limiter, &table, key, now), Some(expected), "{key:?}");
        }
        // As told, a second later there is room for one.
        let later = now + Duration::from_millis(1001);
        assert_eq!(pass(&limiter, &table, &four, later), Some(0));
        assert_eq!(pass(&limiter, &table, &four, later), Some(1));
        let text = limiter.metrics.render();
        let counted = "llm_router_limit_refusals_total{limit=\"requests\",of=\"owner\"} 1";
        assert!(text.contains(counted), "{text}");
    }

    #[test]
    fn places_are_free_again_whatever_becomes_of_a_request() {
        let limiter = limiter();
        let limits = Limits {
            concurrency: Some(2),
            ..requests(600, 600)
        };
        let (table, key, now) = (RouterLimits::default(), key("k", "k", limits), clock::now());
        for _ in 0..5 {
            let first = limiter.admit(&table, &key, now);
            let second = limiter.admit(&table, &key, now);
            assert!(first.is_ok() && second.is_ok());
            let Err(third) = limiter.admit(&table, &key, now) else {
                panic!("a third one was let in");
            };
            assert_eq!(
                (third.fault.status, third.fault.code),
                (429, "rate_limit_exceeded")
            );
            assert!(
                third
                    .fault
                    .message
                    .contains("limited to 2 requests at a time")
            );
        }
        // None of those passed, so none was charged.
        let idle = limiter.uses().len();
        assert!(limiter.admit(&table, &key, now).is_ok() && idle == 1);
    }

    #[test]
    fn a_key_that_was_quiet_may_use_all_of_its_limit_at_once() {
        let limiter = limiter();
        let limits = Limits {
            requests: Some(Rate::new(600, None)),
            ..Limits::NONE
        };
        let (table, key, now) = (RouterLimits::default(), key("k", "k", limits), clock::now());
        for _ in 0..600 {
            assert_eq!(pass(&limiter, &table, &key, now), Some(0));
        }
        let Some(wait) = pass(&limiter, &table, &key, now) else {
            panic!("no time to wait");
        };
        assert!((60..=61).contains(&wait), "{wait}");
        let later = now + Duration::from_secs(wait);
        assert_eq!(pass(&limiter, &table, &key, later), Some(0));
    }

    fn tokens(per_minute: u64) -> Limits {
        Limits {
            tokens: Some(Rate::new(per_minute, None)),
            ..Limits::NONE
        }
    }

    #[test]
    fn tokens_are_reserved_and_settled() {
        let limiter = limiter();
        let table = RouterLimits::default();
        let (key, now) = (key("k", "k", tokens(1_000)), clock::now());
        let reserve = |tokens, now| {
            let mut admission = limiter.admit(&table, &key, now).ok()?;
            reserve_now(&limiter, &mut admission, &need(None, tokens), now)?;
            Some(admission)
        };
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut first = reserve(900, now).unwrap();
        assert!(reserve(300, at(1)).is_none());
        first.settle(100, at(2));
        let mut second = reserve(900, at(10)).unwrap();
        // It used more than there was: the debt counts from when it is known.
        second.settle(1_900, at(20));
        assert!(reserve(1, at(75)).is_none());
        assert!(reserve(1, at(80)).is_none());
        assert!(reserve(1, at(82)).is_some());
    }

    #[test]
    fn a_request_that_never_passes_is_told_so_and_a_guess_refuses_none() {
        let limiter = limiter();
        let table = RouterLimits::default();
        let (key, now) = (key("k", "k", tokens(1_000)), clock::now());
        let reserve = |input, output| {
            let mut admission = limiter.admit(&table, &key, now).ok().unwrap();
            let tokens = ExpectedTokens { input, output };
            let need = Need {
                model: None,
                tokens,
            };
            let reserve = limiter.reserve(&mut admission, &need, OnCounterFailure::Local, now);
            reserve
                .now_or_never()
                .unwrap()
                .map_err(|refusal| refusal.fault)
        };
        let fault = reserve(1_001, 0).unwrap_err();
        assert_eq!((fault.status, fault.code), (429, "rate_limit_exceeded"));
        assert!(fault.final_answer && fault.retry_after.is_none());
        assert!(
            fault.message.contains("can never pass"),
            "{}",
            fault.message
        );
        // Of the output nobody knows how long it gets.
        assert!(reserve(500, 100_000).is_ok());
        let fault = reserve(500, 0).unwrap_err();
        assert!(!fault.final_answer && fault.retry_after.is_some());
    }

    #[test]
    fn where_replicas_count_alone_each_has_its_part_and_a_small_limit_passes_one() {
        let (limiter, now) = (limiter(), clock::now());
        let count = |key: &str, per_minute| {
            let limits = Limits {
                requests: Some(Rate::new(per_minute, None)),
                ..Limits::NONE
            };
            let subject = LimitScope::Key(key.into());
            let mut lines = [ScopedLimits {
                subject,
                limits,
                charged: 0,
            }];
            let ask = Ask {
                request: true,
                weight: 2,
                ..Ask::default()
            };
            let (mut uses, at) = (limiter.uses(), limiter.micros(now));
            let mut passed = 0;
            while uses.check(&lines, &ask, at).is_ok() {
                uses.charge(&mut lines, &ask, at);
                passed += 1;
            }
            passed
        };
        assert_eq!((count("a", 600), count("b", 5), count("c", 1)), (300, 2, 1));
    }

    #[test]
    fn models_have_limits_of_their_own() {
        let limiter = limiter();
        let (table, key, now) = (
            RouterLimits::default(),
            key("k", "k", Limits::NONE),
            clock::now(),
        );
        let ask = |tokens| {
            let mut admission = limiter.admit(&table, &key, now).ok()?;
            let need = need(Some(("fast", requests(60, 1))), tokens);
            reserve_now(&limiter, &mut admission, &need, now)?;
            Some(admission)
        };
        assert!(ask(5).is_some());
        assert!(ask(5).is_none());
        assert!(ask(0).is_none());
    }

    #[test]
    fn clients_with_unknown_keys_are_slowed_down_and_not_remembered_for_ever() {
        let (limiter, now) = (limiter(), clock::now());
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for _ in 0..20 {
            assert!(limiter.count_unknown_key(address(1), now).is_none());
        }
        let refused = limiter.count_unknown_key(address(1), now).unwrap();
        assert_eq!(
            (refused.status, refused.retry_after.as_deref()),
            (429, Some("1"))
        );
        assert!(limiter.count_unknown_key(address(2), now).is_none());
        assert!(
            limiter
                .count_unknown_key(address(1), now + Duration::from_secs(1))
                .is_none()
        );
        for number in 0..30_000 {
            let _ = limiter.count_unknown_key(address(number), now);
        }
        assert!(limiter.unknown_key_clients.lock().unwrap().len() <= MOST_CLIENTS);
    }

    #[test]
    fn unknown_keys_are_counted_by_network_and_only_if_there_is_one() {
        let (limiter, now) = (limiter(), clock::now());
        let status = |header: &'static str, number: u16| {
            let mut headers = HeaderMap::new();
            headers.insert(header, http::HeaderValue::from_static("sk-unknown"));
            let address = IpAddr::from([0x2001, 0xdb8, 0, 0, 1, 2, 3, number]);
            let error = ApiError::invalid_api_key("No.");
            let error = limiter.throttle_unknown_key(&headers, Some(address), error, now);
            error.status
        };
        for number in 0..40 {
            assert_eq!(status("accept", number), 401);
        }
        for number in 0..20 {
            assert_eq!(status("x-api-key", number), 401);
        }
        // Another address of the same /64 is the same client.
        assert_eq!(status("authorization", 99), 429);
        assert_eq!(status("accept", 99), 401);
    }

    #[test]
    fn waits_are_rounded_up_to_seconds() {
        for (millis, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (60_000, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
