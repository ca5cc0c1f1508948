//! Selection among the deployments of a model: which ones are candidates, and which one the
//! strategy prefers. Addresses and connections belong to the proxy; time and randomness are
//! arguments.

mod deployment;
mod latency;

use std::{
    cell::LazyCell,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::deployment::{DeploymentState, DeploymentStates, InFlightGuard};
use crate::{
    circuit::{Availability, RestReason},
    rendezvous::{attraction, fraction, mix},
};

/// Strategy by which a model chooses among its deployments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// In proportion to their weights, evenly mixed.
    #[default]
    Weighted,
    /// One after the other.
    RoundRobin,
    /// Of two random ones, the one with the lower estimated latency for its load.
    LeastLatency,
    /// The one with the fewest requests in flight for its weight.
    LeastBusy,
    /// The one where the request costs the least.
    Cheapest,
    /// The first available one of the list.
    Priority,
    /// The same for the same conversation.
    Sticky,
}

/// Facts about the request that strategies use.
pub trait SelectionContext {
    /// Returns the expected cost of the request at a member; `None` if it has no price.
    fn cost(&self, member: usize) -> Option<Decimal>;
    /// Returns a hash that identifies the conversation.
    fn conversation(&self) -> u64;
}

/// Deployment as a member of a model.
#[derive(Clone, Debug)]
pub struct PoolMember {
    /// The deployment.
    pub deployment: Arc<DeploymentState>,
    /// Its weight. A member with weight 0 is drained and gets no requests.
    pub weight: u32,
}

/// Members already tried for a request.
#[derive(Clone, Debug, Default)]
pub struct TriedMembers(Vec<usize>);

impl TriedMembers {
    /// Returns true if a member was tried.
    #[must_use]
    pub fn contains(&self, member: usize) -> bool {
        self.0.contains(&member)
    }

    /// Marks a member as tried, so that it is not chosen.
    pub fn insert(&mut self, member: usize) {
        if !self.contains(member) {
            self.0.push(member);
        }
    }

    /// Returns the number of tried members.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.0.len()
    }
}

/// Chosen member, with the request to it begun.
#[derive(Debug)]
#[must_use]
pub struct Pick {
    /// Position of the member.
    pub member: usize,
    /// The request in flight.
    pub guard: InFlightGuard,
}

/// Reason for which a member isn't a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// Its weight is 0.
    Drained,
    /// It rests for this reason and this long.
    Resting(RestReason, Duration),
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained => f.write_str("its weight is 0"),
            Self::Resting(RestReason::Probing, _) => {
                f.write_str("its circuit is half open: one request probes it")
            }
            Self::Resting(RestReason::Open, time) => {
                write!(
                    f,
                    "its circuit is open for {:.1} s more",
                    time.as_secs_f64()
                )
            }
            Self::Resting(RestReason::Cooldown, time) => {
                write!(f, "it is cooling down for {:.1} s more", time.as_secs_f64())
            }
            Self::Resting(RestReason::Down, _) => f.write_str("its health checks fail"),
        }
    }
}

/// Order of a model's members, for explanations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking {
    /// The candidates, the most likely first.
    pub candidates: Vec<usize>,
    /// The other members, with the reason.
    pub left_out: Vec<(usize, Exclusion)>,
}

/// Load balancer of one model.
#[derive(Debug)]
pub struct Balancer {
    strategy: Strategy,
    members: Box<[PoolMember]>,
    turn: AtomicUsize,
    /// Credits of smooth weighted round robin, by member. Locked for a few additions.
    credits: Mutex<Box<[i64]>>,
}

impl Balancer {
    /// Creates a balancer. Credits and turn are kept from `previous`.
    #[must_use]
    pub fn new(strategy: Strategy, members: Vec<PoolMember>, previous: Option<&Self>) -> Self {
        let owed = |member: &PoolMember| previous.map_or(0, |previous| previous.credit_of(member));
        let credits = members.iter().map(owed).collect();
        let turn = previous.map_or(0, |previous| previous.turn.load(Relaxed));
        Self {
            strategy,
            members: members.into_boxed_slice(),
            turn: AtomicUsize::new(turn),
            credits: Mutex::new(credits),
        }
    }

    fn credit_of(&self, member: &PoolMember) -> i64 {
        let same = |other: &PoolMember| other.deployment.id() == member.deployment.id();
        let at = self.members.iter().position(same);
        let credits = self.credits.lock().unwrap_or_else(PoisonError::into_inner);
        at.and_then(|at| credits.get(at)).copied().unwrap_or(0)
    }

    /// Returns the strategy.
    #[must_use]
    pub const fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Returns the members, in the order given.
    #[must_use]
    pub fn members(&self) -> &[PoolMember] {
        &self.members
    }

    /// Chooses the next available member that hasn't been tried, and begins a request to it.
    /// Returns `None` if there is none left.
    pub fn next<A: SelectionContext>(
        &self,
        ask: &A,
        tried: &mut TriedMembers,
        now: Instant,
        mut random: impl FnMut() -> u64,
    ) -> Option<Pick> {
        loop {
            let ready = self.ready(ask, tried, now, &mut random);
            let member = self.choose(&ready, ask, now, &mut random)?;
            tried.0.push(member);
            // Another request may have taken the probe in the meantime; then the next member is
            // chosen.
            if let Some(flight) = InFlightGuard::acquire(&self.members[member].deployment, now) {
                return Some(Pick {
                    member,
                    guard: flight,
                });
            }
        }
    }

    /// Chooses, when no member is available, the untried one whose rest ends first. Success there
    /// ends the rest.
    pub fn last_resort(&self, tried: &mut TriedMembers, now: Instant) -> Option<Pick> {
        let untried = (0..self.members.len()).filter(|member| !tried.contains(*member));
        let left = untried.filter_map(|member| match self.exclusion(member, now) {
            None => Some((Duration::ZERO, member)),
            Some(Exclusion::Resting(_, time)) => Some((time, member)),
            Some(Exclusion::Drained) => None,
        });
        let (_, member) = left.min()?;
        tried.0.push(member);
        let flight = InFlightGuard::force(&self.members[member].deployment, now);
        Some(Pick {
            member,
            guard: flight,
        })
    }

    /// Returns the members in the order in which [`Self::next`] would choose them, and the reasons
    /// for the others. Changes nothing.
    pub fn rank<A: SelectionContext>(&self, ask: &A, now: Instant) -> Ranking {
        let mut ranking = Ranking::default();
        for member in 0..self.members.len() {
            match self.exclusion(member, now) {
                None => ranking.candidates.push(member),
                Some(why) => ranking.left_out.push((member, why)),
            }
        }
        self.sort(&mut ranking.candidates, ask, now);
        ranking
    }

    /// Iterates over the members that would not be chosen now, with the reasons.
    pub fn resting(&self, now: Instant) -> impl Iterator<Item = (usize, Exclusion)> + '_ {
        let members = 0..self.members.len();
        members.filter_map(move |member| Some((member, self.exclusion(member, now)?)))
    }

    fn exclusion(&self, member: usize, now: Instant) -> Option<Exclusion> {
        let PoolMember { deployment, weight } = &self.members[member];
        if *weight == 0 {
            return Some(Exclusion::Drained);
        }
        match deployment.availability(now) {
            Availability::Resting { why, until } => Some(Exclusion::Resting(
                why,
                until.saturating_duration_since(now),
            )),
            Availability::Ready { .. } | Availability::ProbeDue => None,
        }
    }

    /// Returns the available members. A recovering one is skipped now and then, unless there are no
    /// others.
    fn ready<A: SelectionContext>(
        &self,
        ask: &A,
        tried: &TriedMembers,
        now: Instant,
        random: &mut impl FnMut() -> u64,
    ) -> Vec<ReadyMember> {
        let mut ready = Vec::with_capacity(self.members.len());
        let mut passed_over = Vec::new();
        for (member, PoolMember { deployment, weight }) in self.members.iter().enumerate() {
            if *weight == 0 || tried.contains(member) {
                continue;
            }
            match deployment.availability(now) {
                Availability::Resting { .. } => {}
                Availability::ProbeDue => ready.push(ReadyMember {
                    member,
                    probe: true,
                }),
                Availability::Ready { share } => {
                    let admitted = share >= 1.0 || {
                        // Once the growing share has reached a conversation, it stays admitted.
                        let draw = match self.strategy {
                            Strategy::Sticky => mix(ask.conversation() ^ mix(!deployment.hash())),
                            _ => random(),
                        };
                        fraction(draw) < share
                    };
                    let list = if admitted {
                        &mut ready
                    } else {
                        &mut passed_over
                    };
                    list.push(ReadyMember {
                        member,
                        probe: false,
                    });
                }
            }
        }
        if ready.is_empty() { passed_over } else { ready }
    }
}

/// Available member.
#[derive(Clone, Copy, Debug)]
struct ReadyMember {
    member: usize,
    /// True if its circuit waits for a probe.
    probe: bool,
}

/// Implementations of the strategies.
impl Balancer {
    fn choose<A: SelectionContext>(
        &self,
        ready: &[ReadyMember],
        ask: &A,
        now: Instant,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        if let [only] = ready {
            return Some(only.member);
        }
        match self.strategy {
            Strategy::Weighted => self.highest_credit(ready),
            Strategy::RoundRobin => {
                let turn = self.turn.fetch_add(1, Relaxed);
                ready
                    .get(turn.checked_rem(ready.len())?)
                    .map(|ready| ready.member)
            }
            Strategy::LeastLatency => self.faster_of_two(ready, now, random),
            Strategy::LeastBusy => {
                let mut load = |ready: &ReadyMember| (self.busyness(ready.member), random());
                ready
                    .iter()
                    .map(|ready| (load(ready), ready.member))
                    .min_by(by_load)
                    .map(|b| b.1)
            }
            Strategy::Cheapest => {
                let mut cost = |ready: &ReadyMember| {
                    let cost = ask.cost(ready.member);
                    (cost.is_none(), cost, self.in_flight(ready.member), random())
                };
                ready
                    .iter()
                    .map(|ready| (cost(ready), ready.member))
                    .min()
                    .map(|best| best.1)
            }
            Strategy::Priority => ready.first().map(|ready| ready.member),
            Strategy::Sticky => {
                let conversation = ask.conversation();
                let drawn = |ready: &ReadyMember| self.attraction(conversation, ready.member);
                let best = ready.iter().max_by(|a, b| drawn(a).total_cmp(&drawn(b)));
                best.map(|ready| ready.member)
            }
        }
    }

    /// Sorts members by the likelihood of being chosen.
    fn sort<A: SelectionContext>(&self, members: &mut [usize], ask: &A, now: Instant) {
        match self.strategy {
            Strategy::Weighted => {
                let credits = self.credits.lock().unwrap_or_else(PoisonError::into_inner);
                let owed =
                    |member: usize| credits.get(member).copied().unwrap_or(0) + self.weight(member);
                members.sort_by_key(|member| std::cmp::Reverse(owed(*member)));
            }
            Strategy::RoundRobin => {
                let turn = self
                    .turn
                    .load(Relaxed)
                    .checked_rem(members.len())
                    .unwrap_or(0);
                members.rotate_left(turn);
            }
            Strategy::LeastLatency => {
                let neutral = self.default_latency(members.iter().copied(), now);
                let load = |member: usize| self.latency_load(member, || neutral, now);
                members.sort_by(|a, b| load(*a).total_cmp(&load(*b)));
            }
            Strategy::LeastBusy => {
                let load = |member: usize| self.busyness(member);
                members.sort_by(|a, b| load(*a).total_cmp(&load(*b)));
            }
            Strategy::Cheapest => {
                members.sort_by_cached_key(|member| {
                    let cost = ask.cost(*member);
                    (cost.is_none(), cost, self.in_flight(*member))
                });
            }
            Strategy::Priority => {}
            Strategy::Sticky => {
                let conversation = ask.conversation();
                let drawn = |member: usize| self.attraction(conversation, member);
                members.sort_by(|a, b| drawn(*b).total_cmp(&drawn(*a)));
            }
        }
    }

    /// Smooth weighted round robin, as in nginx: every member gets its weight as credit, the one
    /// with the highest credit is chosen and pays the total.
    fn highest_credit(&self, ready: &[ReadyMember]) -> Option<usize> {
        let mut credits = self.credits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        let mut best: Option<(i64, usize)> = None;
        for ReadyMember { member, .. } in ready {
            let weight = self.weight(*member);
            let credit = credits.get_mut(*member)?;
            *credit += weight;
            total += weight;
            if best.is_none_or(|(most, _)| *credit > most) {
                best = Some((*credit, *member));
            }
        }
        let (_, member) = best?;
        *credits.get_mut(member)? -= total;
        Some(member)
    }

    /// The power of two choices (Mitzenmacher 2001). A member whose probe is due goes first: a
    /// deployment that was slow before it failed would otherwise never be probed.
    fn faster_of_two(
        &self,
        ready: &[ReadyMember],
        now: Instant,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        if let Some(due) = ready.iter().find(|ready| ready.probe) {
            return Some(due.member);
        }
        let first = below(ready.len(), random())?;
        let second = below(ready.len() - 1, random())?;
        let second = if second >= first { second + 1 } else { second };
        let (first, second) = (ready[first].member, ready[second].member);
        let neutral =
            LazyCell::new(|| self.default_latency(ready.iter().map(|ready| ready.member), now));
        let load = |member: usize| self.latency_load(member, || *neutral, now);
        Some(if load(second) < load(first) {
            second
        } else {
            first
        })
    }

    /// Returns the latency assumed for an unmeasured deployment: the mean of the others. So a new
    /// one gets its turn, and its requests in flight protect it from being flooded before its first
    /// answer.
    fn default_latency(&self, members: impl Iterator<Item = usize>, now: Instant) -> f64 {
        let measured = members.filter_map(|member| self.members[member].deployment.seconds(now));
        let (sum, count) = measured.fold((0.0, 0_u32), |(sum, count), one| (sum + one, count + 1));
        if count == 0 {
            1.0
        } else {
            sum / f64::from(count)
        }
    }

    fn latency_load(&self, member: usize, neutral: impl Fn() -> f64, now: Instant) -> f64 {
        let seconds = self.members[member]
            .deployment
            .seconds(now)
            .unwrap_or_else(neutral);
        seconds * (f64::from(self.in_flight(member)) + 1.0)
    }

    fn busyness(&self, member: usize) -> f64 {
        (f64::from(self.in_flight(member)) + 1.0) / f64::from(self.members[member].weight)
    }

    fn attraction(&self, conversation: u64, member: usize) -> f64 {
        let PoolMember { deployment, weight } = &self.members[member];
        attraction(conversation, deployment.hash(), f64::from(*weight))
    }

    fn in_flight(&self, member: usize) -> u32 {
        self.members[member].deployment.in_flight()
    }

    fn weight(&self, member: usize) -> i64 {
        i64::from(self.members[member].weight)
    }
}

fn by_load(a: &((f64, u64), usize), b: &((f64, u64), usize)) -> std::cmp::Ordering {
    a.0.0.total_cmp(&b.0.0).then(a.0.1.cmp(&b.0.1))
}

/// Returns a number below `len`, from a random one.
fn below(len: usize, random: u64) -> Option<usize> {
    (len > 0).then(|| ((u128::from(random) * len as u128) >> 64) as usize)
}
