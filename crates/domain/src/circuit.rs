//! Availability of a deployment: its circuit (closed, open, half-open with one probe), its cooldown
//! after a refusal, and its slow start after either. State is in atomics; time is an argument.
//!
//! A closed circuit opens after consecutive failures, or when too large a share of the requests in
//! a sliding window failed. While open it admits none. When its time is over, exactly one request
//! is admitted as a probe: success closes the circuit, failure opens it for twice as long, up to a
//! maximum. A circuit just closed admits a growing share of its requests, so that a recovering
//! deployment isn't overloaded.

mod window;

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use self::window::Window;
use crate::rendezvous::{fraction, mix};

/// Settings of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CircuitSettings {
    /// Consecutive failures that open it.
    pub failures_in_row: u32,
    /// Window over which the share of failures is measured.
    pub window: Duration,
    /// Finished requests within the window from which on their share counts.
    pub least_volume: u32,
    /// Share of failures within the window that opens it, above 0 and at most 1.
    pub failure_share: f64,
    /// Time that it stays open at first.
    pub open: Duration,
    /// Longest time that it stays open.
    pub open_max: Duration,
    /// Time over which its share of requests grows after it has closed.
    pub slow_start: Duration,
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self {
            failures_in_row: 5,
            window: Duration::from_secs(30),
            least_volume: 20,
            failure_share: 0.5,
            open: Duration::from_secs(10),
            open_max: Duration::from_secs(300),
            slow_start: Duration::from_secs(15),
        }
    }
}

/// Consecutive failures that reopen a circuit while it recovers.
const FAILURES_WHILE_RECOVERING: u32 = 2;
/// Share of requests admitted at the beginning of recovery.
const FIRST_SHARE: f64 = 0.1;
/// Slow starts after which a circuit that stayed closed resets its count of openings.
const FORGIVEN_AFTER: u32 = 4;
/// Share of the nominal time by which reopening varies, so that replicas don't probe in step.
const JITTER: f64 = 0.2;
/// Cooldown after a refusal that names no time; doubled for each consecutive one.
const COOLDOWN: Duration = Duration::from_secs(1);
/// Longest cooldown after doubling.
const COOLDOWN_MAX: Duration = Duration::from_secs(60);

/// Availability of a deployment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Availability {
    /// Requests may be sent: this share of them, from 0 to 1.
    Ready {
        /// Less than 1 while the deployment recovers.
        share: f64,
    },
    /// One request may be sent, as a probe.
    ProbeDue,
    /// No request may be sent.
    Resting {
        /// The reason.
        why: RestReason,
        /// End of the rest; now, while a probe is in flight.
        until: Instant,
    },
}

/// Reason for which a deployment rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestReason {
    /// Its circuit is open.
    Open,
    /// Its circuit is half open and the probe is in flight.
    Probing,
    /// It refused a request temporarily: rate limit, overload.
    Cooldown,
    /// Its health checks fail.
    Down,
}

/// Change of a circuit caused by a report, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitChange {
    /// It opened for this long.
    Opened(Duration),
    /// It closed.
    Closed,
}

/// Circuit breaker of one deployment.
#[derive(Debug)]
pub struct Circuit {
    settings: CircuitSettings,
    origin: Instant,
    seed: u64,
    phase: AtomicU64,
    failures_in_row: AtomicU32,
    refusals_in_row: AtomicU32,
    window: Window,
    /// End of the cooldown and its length, in milliseconds since `origin`.
    cooldown_until: AtomicU64,
    cooldown_length: AtomicU64,
}

impl Circuit {
    /// Creates a closed circuit. `seed` makes its jitter differ from others'.
    #[must_use]
    pub fn new(settings: CircuitSettings, seed: u64, now: Instant) -> Self {
        Self {
            settings,
            origin: now,
            seed,
            phase: AtomicU64::new(Phase::NEW.pack()),
            failures_in_row: AtomicU32::new(0),
            refusals_in_row: AtomicU32::new(0),
            window: Window::default(),
            cooldown_until: AtomicU64::new(0),
            cooldown_length: AtomicU64::new(0),
        }
    }

    /// Returns whether requests may be sent now.
    #[must_use]
    pub fn availability(&self, now: Instant) -> Availability {
        let ms = self.ms(now);
        let cooldown = self.cooldown_until.load(Relaxed);
        let phase = self.phase();
        match phase.kind {
            PhaseKind::Open if ms < phase.at => {
                let until = self.instant(phase.at.max(cooldown));
                Availability::Resting {
                    why: RestReason::Open,
                    until,
                }
            }
            _ if ms < cooldown => Availability::Resting {
                why: RestReason::Cooldown,
                until: self.instant(cooldown),
            },
            PhaseKind::Open => Availability::ProbeDue,
            PhaseKind::Probing => Availability::Resting {
                why: RestReason::Probing,
                until: now,
            },
            PhaseKind::Closed => {
                let recovered = if phase.level == 0 {
                    1.0
                } else {
                    self.recovery_share(ms, phase.at)
                };
                Availability::Ready {
                    share: recovered.min(self.warmup_share(ms, cooldown)),
                }
            }
        }
    }

    /// Returns the share admitted at `ms` after the circuit closed.
    fn recovery_share(&self, ms: u64, closed: u64) -> f64 {
        ramp(ms.saturating_sub(closed), millis(self.settings.slow_start))
    }

    /// Returns the share admitted after the cooldown ended. It grows for as long as the cooldown
    /// lasted.
    fn warmup_share(&self, ms: u64, ended: u64) -> f64 {
        let length = self.cooldown_length.load(Relaxed);
        if length < millis(COOLDOWN) {
            return 1.0;
        }
        ramp(
            ms.saturating_sub(ended),
            length.min(millis(self.settings.slow_start)),
        )
    }

    /// Takes the probe if it is due. Returns `false` if another request has it or none is due.
    #[must_use]
    pub fn take_probe(&self, now: Instant) -> bool {
        let phase = self.phase();
        let due = phase.kind == PhaseKind::Open && self.ms(now) >= phase.at;
        due && self.exchange(
            phase,
            Phase {
                kind: PhaseKind::Probing,
                ..phase
            },
        )
    }

    /// Returns a probe that ended in neither success nor failure.
    pub fn return_probe(&self, now: Instant) {
        let phase = self.phase();
        if phase.kind == PhaseKind::Probing {
            self.exchange(
                phase,
                Phase {
                    kind: PhaseKind::Open,
                    at: self.ms(now),
                    ..phase
                },
            );
        }
    }

    /// Records a success. A `decisive` one, of the probe or of a request sent although the circuit
    /// was open, closes it.
    pub fn record_success(&self, decisive: bool, now: Instant) -> Option<CircuitChange> {
        self.failures_in_row.store(0, Relaxed);
        self.refusals_in_row.store(0, Relaxed);
        let phase = self.phase();
        if phase.kind == PhaseKind::Closed {
            self.window.add(false, self.ms(now), &self.settings);
            return None;
        }
        let closed = Phase {
            kind: PhaseKind::Closed,
            level: phase.level,
            at: self.ms(now),
        };
        (decisive && self.exchange(phase, closed)).then(|| {
            self.window.clear();
            CircuitChange::Closed
        })
    }

    /// Records a failure; `probe` if it was the probe.
    pub fn record_failure(&self, probe: bool, now: Instant) -> Option<CircuitChange> {
        self.fail(probe, false, now)
    }

    /// Records that an answer broke whose content had been recorded as a success: the request counts
    /// once, as a failure.
    pub fn record_break(&self, now: Instant) -> Option<CircuitChange> {
        self.fail(false, true, now)
    }

    fn fail(&self, probe: bool, added: bool, now: Instant) -> Option<CircuitChange> {
        let phase = self.phase();
        match phase.kind {
            PhaseKind::Probing if probe => self.open(phase, now),
            // Requests sent before it opened may still fail; that changes nothing.
            PhaseKind::Open | PhaseKind::Probing => None,
            PhaseKind::Closed => {
                let ms = self.ms(now);
                let in_row = self.failures_in_row.fetch_add(1, Relaxed) + 1;
                if added {
                    self.window.fail_added(ms, &self.settings);
                } else {
                    self.window.add(true, ms, &self.settings);
                }
                let too_many = self.window.too_many(ms, &self.settings);
                let least = if self.is_recovering(phase, ms) {
                    FAILURES_WHILE_RECOVERING.min(self.settings.failures_in_row)
                } else {
                    self.settings.failures_in_row
                };
                if in_row >= least || too_many {
                    self.open(phase, now)
                } else {
                    None
                }
            }
        }
    }

    /// Records a temporary refusal and returns the cooldown. `wait` is the time that the refusal
    /// names.
    pub fn record_refusal(&self, wait: Option<Duration>, now: Instant) -> Duration {
        let in_row = self.refusals_in_row.fetch_add(1, Relaxed);
        let wait = wait.unwrap_or_else(|| backoff(COOLDOWN, in_row, COOLDOWN_MAX));
        let until = self.ms(now).saturating_add(millis(wait));
        if self.cooldown_until.fetch_max(until, Relaxed) < until {
            self.cooldown_length.store(millis(wait), Relaxed);
        }
        wait
    }

    fn is_recovering(&self, phase: Phase, ms: u64) -> bool {
        phase.level > 0 && ms < phase.at + millis(self.settings.slow_start)
    }

    fn open(&self, phase: Phase, now: Instant) -> Option<CircuitChange> {
        let ms = self.ms(now);
        let forgiven = phase.at + u64::from(FORGIVEN_AFTER) * millis(self.settings.slow_start);
        let first = phase.kind == PhaseKind::Closed && ms >= forgiven || phase.level == 0;
        let level = if first {
            1
        } else {
            phase.level.saturating_add(1).min(Phase::MAX_LEVEL)
        };
        let nominal = backoff(self.settings.open, level - 1, self.settings.open_max);
        let time = if first {
            nominal
        } else {
            self.add_jitter(nominal, level, ms)
        };
        let opened = Phase {
            kind: PhaseKind::Open,
            level,
            at: ms.saturating_add(millis(time)),
        };
        self.exchange(phase, opened).then(|| {
            self.failures_in_row.store(0, Relaxed);
            CircuitChange::Opened(time)
        })
    }

    fn add_jitter(&self, time: Duration, level: u32, ms: u64) -> Duration {
        let random = fraction(mix(self.seed ^ mix(ms ^ u64::from(level))));
        time.mul_f64(1.0 + JITTER * (2.0 * random - 1.0))
    }

    fn phase(&self) -> Phase {
        Phase::unpack(self.phase.load(Relaxed))
    }

    fn exchange(&self, from: Phase, to: Phase) -> bool {
        self.phase
            .compare_exchange(from.pack(), to.pack(), Relaxed, Relaxed)
            .is_ok()
    }

    fn ms(&self, now: Instant) -> u64 {
        // One is added so that 0 means the time before the first request.
        millis(now.saturating_duration_since(self.origin)) + 1
    }

    fn instant(&self, ms: u64) -> Instant {
        let since = Duration::from_millis(ms.saturating_sub(1));
        self.origin.checked_add(since).unwrap_or(self.origin)
    }
}

fn millis(time: Duration) -> u64 {
    // 56 bits of milliseconds are two million years.
    u64::try_from(time.as_millis())
        .unwrap_or(u64::MAX)
        .min(Phase::MAX_TIME / 4)
}

fn backoff(time: Duration, times: u32, max: Duration) -> Duration {
    time.saturating_mul(2_u32.saturating_pow(times))
        .min(max.max(time))
}

/// Grows from the first share to 1 over `length`.
fn ramp(passed: u64, length: u64) -> f64 {
    if passed >= length {
        return 1.0;
    }
    FIRST_SHARE + (1.0 - FIRST_SHARE) * passed as f64 / length as f64
}

/// State of a circuit, packed into one word so that one exchange changes all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Phase {
    kind: PhaseKind,
    /// Number of openings without recovery in between; 0 if it never opened.
    level: u32,
    /// Time at which it closed, or until which it is open, in milliseconds.
    at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PhaseKind {
    Closed = 0,
    Open = 1,
    Probing = 2,
}

impl Phase {
    const NEW: Self = Self {
        kind: PhaseKind::Closed,
        level: 0,
        at: 0,
    };
    const MAX_LEVEL: u32 = 63;
    const MAX_TIME: u64 = (1 << 56) - 1;

    fn pack(self) -> u64 {
        (self.kind as u64) << 62 | u64::from(self.level) << 56 | self.at.min(Self::MAX_TIME)
    }

    fn unpack(word: u64) -> Self {
        let kind = match word >> 62 {
            0 => PhaseKind::Closed,
            1 => PhaseKind::Open,
            _ => PhaseKind::Probing,
        };
        Self {
            kind,
            level: (word >> 56 & 0x3f) as u32,
            at: word & Self::MAX_TIME,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "tests count from any instant")]
    fn origin() -> Instant {
        Instant::now()
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn circuit(now: Instant) -> Circuit {
        Circuit::new(CircuitSettings::default(), 1, now)
    }

    fn fail_until_open(circuit: &Circuit, now: Instant) -> Duration {
        for _ in 0..100 {
            if let Some(CircuitChange::Opened(time)) = circuit.record_failure(false, now) {
                return time;
            }
        }
        panic!("never opened");
    }

    #[test]
    fn opens_after_failures_in_a_row() {
        let now = origin();
        let circuit = circuit(now);
        for _ in 0..4 {
            assert_eq!(circuit.record_failure(false, now), None);
        }
        circuit.record_success(false, now);
        for _ in 0..4 {
            assert_eq!(circuit.record_failure(false, now), None);
        }
        assert_eq!(
            circuit.record_failure(false, now),
            Some(CircuitChange::Opened(s(10)))
        );
        assert_eq!(circuit.record_failure(false, now), None, "already open");
        let resting = Availability::Resting {
            why: RestReason::Open,
            until: now + s(10),
        };
        assert_eq!(circuit.availability(now + s(9)), resting);
        assert_eq!(circuit.availability(now + s(10)), Availability::ProbeDue);
    }

    #[test]
    fn opens_when_too_many_fail() {
        let now = origin();
        let circuit = circuit(now);
        let mut opened = None;
        for at in 0..40 {
            circuit.record_success(false, now + s(at) / 10);
            opened = circuit.record_failure(false, now + s(at) / 10);
            if opened.is_some() {
                assert_eq!(at, 9, "at the twentieth request");
                break;
            }
        }
        assert!(opened.is_some());
    }

    #[test]
    fn old_failures_are_forgotten() {
        let now = origin();
        let circuit = circuit(now);
        for at in 0..1_000 {
            // One of three fails, within any window.
            let now = now + s(at);
            circuit.record_success(false, now);
            circuit.record_success(false, now);
            assert_eq!(circuit.record_failure(false, now), None, "{at}");
        }
    }

    #[test]
    fn answers_that_break_after_content_open_it() {
        let now = origin();
        let circuit = circuit(now);
        let opened = (1..=100).find(|_| {
            assert_eq!(circuit.record_success(false, now), None);
            circuit.record_break(now).is_some()
        });
        assert_eq!(opened, Some(20));
    }

    #[test]
    fn one_probe_at_a_time() {
        let now = origin();
        let circuit = circuit(now);
        fail_until_open(&circuit, now);
        assert!(!circuit.take_probe(now + s(9)));
        assert!(circuit.take_probe(now + s(10)));
        assert!(!circuit.take_probe(now + s(10)));
        let probing = Availability::Resting {
            why: RestReason::Probing,
            until: now + s(11),
        };
        assert_eq!(circuit.availability(now + s(11)), probing);
        assert_eq!(
            circuit.record_success(false, now + s(11)),
            None,
            "an old request's success"
        );
        circuit.return_probe(now + s(11));
        assert!(circuit.take_probe(now + s(11)));
        assert_eq!(
            circuit.record_success(true, now + s(12)),
            Some(CircuitChange::Closed)
        );
    }

    #[test]
    fn only_one_of_many_threads_gets_the_probe() {
        let now = origin();
        let circuit = circuit(now);
        fail_until_open(&circuit, now);
        let taken: usize = std::thread::scope(|scope| {
            let take = || usize::from(circuit.take_probe(now + s(10)));
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(taken, 1);
    }

    #[test]
    fn failed_probes_double_the_time_up_to_the_cap() {
        let mut now = origin();
        let circuit = circuit(now);
        let mut nominal = fail_until_open(&circuit, now);
        now += nominal;
        for _ in 0..10 {
            assert!(circuit.take_probe(now));
            let Some(CircuitChange::Opened(time)) = circuit.record_failure(true, now) else {
                panic!("opens")
            };
            nominal = (nominal * 2).min(s(300));
            let ratio = time.as_secs_f64() / nominal.as_secs_f64();
            assert!((0.8..=1.2).contains(&ratio), "{time:?} for {nominal:?}");
            now += time + s(1);
        }
    }

    #[test]
    fn recovery_is_gradual_and_wary() {
        let now = origin();
        let circuit = circuit(now);
        fail_until_open(&circuit, now);
        assert!(circuit.take_probe(now + s(10)));
        circuit.record_success(true, now + s(10));
        let share = |at: u64| match circuit.availability(now + s(at)) {
            Availability::Ready { share } => share,
            other => panic!("{other:?}"),
        };
        assert!((share(10) - 0.1).abs() < 0.01);
        assert!((share(17) - 0.52).abs() < 0.01);
        assert!((share(25) - 1.0).abs() < f64::EPSILON);
        assert_eq!(circuit.record_failure(false, now + s(12)), None);
        let Some(CircuitChange::Opened(time)) = circuit.record_failure(false, now + s(12)) else {
            panic!("opens")
        };
        assert!(time > s(15), "twice as long as before");
    }

    #[test]
    fn a_long_health_makes_a_first_opening_again() {
        let now = origin();
        let circuit = circuit(now);
        fail_until_open(&circuit, now);
        assert!(circuit.take_probe(now + s(10)));
        circuit.record_success(true, now + s(10));
        assert_eq!(fail_until_open(&circuit, now + s(100)), s(10));
    }

    #[test]
    fn refusals_rest_and_warm_up() {
        let now = origin();
        let circuit = circuit(now);
        assert_eq!(circuit.record_refusal(Some(s(20)), now), s(20));
        assert_eq!(
            circuit.record_refusal(Some(s(5)), now),
            s(5),
            "a shorter one changes nothing"
        );
        let resting = Availability::Resting {
            why: RestReason::Cooldown,
            until: now + s(20),
        };
        assert_eq!(circuit.availability(now + s(19)), resting);
        let Availability::Ready { share } = circuit.availability(now + s(21)) else {
            panic!()
        };
        assert!(share < 0.2, "{share}");
        assert_eq!(
            circuit.availability(now + s(40)),
            Availability::Ready { share: 1.0 }
        );
    }

    #[test]
    fn refusals_without_a_time_double() {
        let now = origin();
        let circuit = circuit(now);
        let waits: Vec<u64> = (0..8)
            .map(|_| circuit.record_refusal(None, now).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        circuit.record_success(false, now);
        assert_eq!(circuit.record_refusal(None, now), s(1));
    }

    #[test]
    fn a_decisive_success_closes_an_open_circuit() {
        let now = origin();
        let circuit = circuit(now);
        fail_until_open(&circuit, now);
        assert_eq!(circuit.record_success(false, now), None);
        assert_eq!(
            circuit.record_success(true, now),
            Some(CircuitChange::Closed)
        );
    }

    proptest! {
        #[test]
        fn phases_survive_packing(kind in 0..3_u8, level in 0..=63_u32, at in 0..=Phase::MAX_TIME) {
            let kind = [PhaseKind::Closed, PhaseKind::Open, PhaseKind::Probing][usize::from(kind)];
            let phase = Phase { kind, level, at };
            prop_assert_eq!(Phase::unpack(phase.pack()), phase);
        }

        /// Whatever happens, in whatever order: never two probes, and an open circuit always comes
        /// to a probe in time.
        #[test]
        fn any_history_leads_to_a_probe(steps in proptest::collection::vec((0..6_u8, 0..20_000_u64), 0..200)) {
            let mut now = origin();
            let circuit = circuit(now);
            let mut probe = false;
            for (step, wait) in steps {
                now += Duration::from_millis(wait);
                match step {
                    0 => { circuit.record_success(false, now); }
                    1 | 2 => { circuit.record_failure(false, now); }
                    3 if !probe => probe = circuit.take_probe(now),
                    3 => prop_assert!(!circuit.take_probe(now)),
                    4 if probe => { circuit.record_success(true, now); probe = false; }
                    5 if probe => { circuit.record_failure(true, now); probe = false; }
                    _ => { circuit.record_refusal(Some(Duration::from_millis(wait)), now); }
                }
                match circuit.availability(now) {
                    Availability::Ready { share } => prop_assert!((0.1..=1.0).contains(&share)),
                    Availability::Resting { why: RestReason::Open, until } => prop_assert!(until > now),
                    Availability::Resting { .. } | Availability::ProbeDue => {}
                }
            }
            if probe {
                circuit.return_probe(now);
            }
            let later = now + s(400);
            match circuit.availability(later) {
                Availability::Ready { share } => prop_assert_eq!(share, 1.0),
                Availability::ProbeDue => prop_assert!(circuit.take_probe(later)),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
