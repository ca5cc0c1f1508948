//! Properties of the strategies, in virtual time: shares, order, stickiness, recovery.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use llm_router_domain::{
    balance::{
        Balancer, DeploymentState, DeploymentStates, Exclusion, InFlightGuard, PoolMember,
        SelectionContext, Strategy, TriedMembers,
    },
    circuit::{Availability, CircuitChange, CircuitSettings, RestReason},
    rendezvous::mix,
};
use proptest::prelude::{Strategy as _, *};
use rust_decimal::Decimal;

#[expect(clippy::disallowed_methods, reason = "tests count from any instant")]
fn origin() -> Instant {
    Instant::now()
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A request with the price of each member and the conversation it belongs to.
#[derive(Default)]
struct Request {
    costs: Vec<Option<u32>>,
    conversation: u64,
}

impl SelectionContext for Request {
    fn cost(&self, member: usize) -> Option<Decimal> {
        self.costs.get(member).copied().flatten().map(Decimal::from)
    }

    fn conversation(&self) -> u64 {
        self.conversation
    }
}

fn members(weights: &[u32], now: Instant) -> Vec<PoolMember> {
    let member = |(at, weight): (usize, &u32)| PoolMember {
        deployment: Arc::new(DeploymentState::new(
            &format!("d{at}"),
            CircuitSettings::default(),
            0,
            now,
        )),
        weight: *weight,
    };
    weights.iter().enumerate().map(member).collect()
}

fn chance() -> impl FnMut() -> u64 {
    let mut state = 7;
    move || {
        state += 1;
        mix(state)
    }
}

/// Counts how often each member is the first choice; every request succeeds at once.
fn shares(balancer: &Balancer, picks: u32, now: Instant) -> Vec<u32> {
    let mut random = chance();
    let mut counts = vec![0; balancer.members().len()];
    for at in 0..picks {
        let ask = Request {
            conversation: u64::from(at),
            ..Request::default()
        };
        let mut pick = balancer
            .next(&ask, &mut TriedMembers::default(), now, &mut random)
            .unwrap();
        pick.guard.report_content(now);
        counts[pick.member] += 1;
    }
    counts
}

/// Rests a deployment for a long time.
fn rest(deployment: &Arc<DeploymentState>, now: Instant) {
    let members = vec![PoolMember {
        deployment: Arc::clone(deployment),
        weight: 1,
    }];
    let balancer = Balancer::new(Strategy::Priority, members, None);
    let mut pick = balancer
        .next(&Request::default(), &mut TriedMembers::default(), now, || 0)
        .unwrap();
    pick.guard.report_refusal(Some(ms(1_000_000)), now);
}

proptest! {
    // Each case is 200,000 picks.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn weighted_and_sticky_follow_weights(
        weights in prop::collection::vec(0_u32..100, 1..8).prop_filter("some", |w| w.iter().any(|w| *w > 0)),
    ) {
        let now = origin();
        let total: u32 = weights.iter().sum();
        for strategy in [Strategy::Weighted, Strategy::Sticky] {
            let balancer = Balancer::new(strategy, members(&weights, now), None);
            for (count, weight) in shares(&balancer, 100_000, now).into_iter().zip(&weights) {
                let share = f64::from(count) / 100_000.0 - f64::from(*weight) / f64::from(total);
                prop_assert!(share.abs() < 0.01, "{:?}: {} off", strategy, share);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Keeps every member within one turn of its credit, so that none starves.
    #[test]
    fn weighted_is_smooth(weights in prop::collection::vec(1_u32..20, 2..6)) {
        let now = origin();
        let balancer = Balancer::new(Strategy::Weighted, members(&weights, now), None);
        let total: u32 = weights.iter().sum();
        let mut counts = vec![0; weights.len()];
        for turn in 1..500 {
            let pick = balancer.next(&Request::default(), &mut TriedMembers::default(), now, || 0).unwrap();
            counts[pick.member] += 1;
            for (count, weight) in counts.iter().zip(&weights) {
                let owed = f64::from(turn * weight) / f64::from(total);
                prop_assert!((f64::from(*count) - owed).abs() <= f64::from(weights.len() as u32));
            }
        }
    }

    #[test]
    fn round_robin_takes_turns(count in 1_usize..9, resting in 0_usize..9) {
        let now = origin();
        let members = members(&vec![1; count], now);
        let resting = resting.min(count - 1);
        members[..resting].iter().for_each(|member| rest(&member.deployment, now));
        let balancer = Balancer::new(Strategy::RoundRobin, members, None);
        let counts = shares(&balancer, 100_000, now);
        let each = 100_000 / (count - resting) as u32;
        prop_assert!(counts[..resting].iter().all(|count| *count == 0));
        prop_assert!(counts[resting..].iter().all(|count| count.abs_diff(each) <= 1), "{:?}", counts);
    }

    /// Never chooses a member busier than another, and uses every member over time.
    #[test]
    fn least_busy_evens_out(weights in prop::collection::vec(1_u32..5, 2..6), ends: Vec<u16>) {
        let now = origin();
        let balancer = Balancer::new(Strategy::LeastBusy, members(&weights, now), None);
        let mut random = chance();
        let mut flights = Vec::new();
        for end in ends {
            if end % 3 == 0 && !flights.is_empty() {
                drop(flights.swap_remove(usize::from(end) % flights.len()));
            }
            let load = |member: &PoolMember| {
                f64::from(member.deployment.in_flight() + 1) / f64::from(member.weight)
            };
            let least = balancer.members().iter().map(load).fold(f64::MAX, f64::min);
            let pick = balancer.next(&Request::default(), &mut TriedMembers::default(), now, &mut random);
            let pick = pick.unwrap();
            let chosen = &balancer.members()[pick.member];
            let before = f64::from(chosen.deployment.in_flight()) / f64::from(chosen.weight);
            prop_assert!(before <= least);
            flights.push(pick.guard);
        }
    }

    #[test]
    fn cheapest_is_cheapest(costs in prop::collection::vec(prop::option::of(0_u32..5), 1..6), down: u8) {
        let now = origin();
        let members = members(&vec![1; costs.len()], now);
        let up: Vec<usize> = (0..costs.len()).filter(|at| down >> at & 1 == 0).collect();
        (0..costs.len()).filter(|at| !up.contains(at)).for_each(|at| rest(&members[at].deployment, now));
        let balancer = Balancer::new(Strategy::Cheapest, members, None);
        let ask = Request { costs: costs.clone(), ..Request::default() };
        let pick = balancer.next(&ask, &mut TriedMembers::default(), now, chance());
        let price = |at: &usize| costs[*at].unwrap_or(u32::MAX);
        let least = up.iter().map(price).min();
        prop_assert_eq!(pick.map(|pick| price(&pick.member)), least);
        let ranked: Vec<u32> = balancer.rank(&ask, now).candidates.iter().map(price).collect();
        prop_assert!(ranked.is_sorted());
    }

    #[test]
    fn priority_takes_the_first_that_is_up(count in 1_usize..8, down: u8) {
        let now = origin();
        let members = members(&vec![1; count], now);
        let up: Vec<usize> = (0..count).filter(|at| down >> at & 1 == 0).collect();
        (0..count).filter(|at| !up.contains(at)).for_each(|at| rest(&members[at].deployment, now));
        let balancer = Balancer::new(Strategy::Priority, members, None);
        let pick = balancer.next(&Request::default(), &mut TriedMembers::default(), now, || 0);
        prop_assert_eq!(pick.map(|pick| pick.member), up.first().copied());
        prop_assert_eq!(balancer.rank(&Request::default(), now).candidates, up);
    }

    /// Moves only a deployment's own conversations when it leaves, and only those back when it
    /// returns.
    #[test]
    fn sticky_moves_only_what_it_must(weights in prop::collection::vec(1_u32..10, 2..8), leaves: prop::sample::Index) {
        let now = origin();
        let all = members(&weights, now);
        let leaves = leaves.index(all.len());
        let mut fewer = all.clone();
        fewer.remove(leaves);
        let (all, fewer) = (
            Balancer::new(Strategy::Sticky, all, None),
            Balancer::new(Strategy::Sticky, fewer, None),
        );
        let home = |balancer: &Balancer, conversation| {
            let ask = Request { conversation, ..Request::default() };
            let pick = balancer.next(&ask, &mut TriedMembers::default(), now, || 0).unwrap();
            pick.guard.deployment().id().to_owned()
        };
        for conversation in 0..2_000 {
            let before = home(&all, conversation);
            if before != format!("d{leaves}") {
                prop_assert_eq!(home(&fewer, conversation), before);
            }
        }
    }

    /// Every strategy offers each member that may be asked once, and no other.
    #[test]
    fn a_request_tries_each_member_once(
        strategy in strategies(), weights in prop::collection::vec(0_u32..4, 1..7), down: u8, seed: u64,
    ) {
        let now = origin();
        let members = members(&weights, now);
        let up: Vec<usize> =
            (0..weights.len()).filter(|at| weights[*at] > 0 && down >> at & 1 == 0).collect();
        let rests = |at: &usize| down >> at & 1 == 1;
        (0..weights.len()).filter(rests).for_each(|at| rest(&members[at].deployment, now));
        let balancer = Balancer::new(strategy, members, None);
        let ask = Request { conversation: seed, ..Request::default() };
        let (mut tried, mut picked, mut random) = (TriedMembers::default(), Vec::new(), chance());
        while let Some(pick) = balancer.next(&ask, &mut tried, now, &mut random) {
            picked.push(pick.member);
        }
        picked.sort_unstable();
        prop_assert_eq!(&picked, &up);
        let ranking = balancer.rank(&ask, now);
        prop_assert_eq!(ranking.candidates.len(), up.len());
        prop_assert_eq!(ranking.left_out.len(), weights.len() - up.len());
        for (member, why) in ranking.left_out {
            prop_assert_eq!(why == Exclusion::Drained, weights[member] == 0);
        }
        let mut last = 0;
        while let Some(pick) = balancer.last_resort(&mut tried, now) {
            prop_assert!(weights[pick.member] > 0 && !up.contains(&pick.member));
            last += 1;
        }
        let resting = (0..weights.len()).filter(|at| weights[*at] > 0 && !up.contains(at)).count();
        prop_assert_eq!(last, resting);
    }
}

fn strategies() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop::sample::select(&ALL[..])
}

const ALL: [Strategy; 7] = [
    Strategy::Weighted,
    Strategy::RoundRobin,
    Strategy::LeastLatency,
    Strategy::LeastBusy,
    Strategy::Cheapest,
    Strategy::Priority,
    Strategy::Sticky,
];

#[test]
fn a_burst_of_threads_follows_weights_too() {
    let now = origin();
    let balancer = Balancer::new(Strategy::Weighted, members(&[1, 2, 5], now), None);
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| shares(&balancer, 20_000, now)))
            .collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap());
        counts
            .reduce(|a, b| a.iter().zip(b).map(|(a, b)| a + b).collect())
            .unwrap()
    });
    assert_eq!(counts, [10_000, 20_000, 50_000]);
}

/// Requests at a steady pace against deployments with a given time to the first token, in virtual
/// time.
struct Simulation {
    balancer: Balancer,
    now: Instant,
    random: Box<dyn FnMut() -> u64>,
    /// Pending answers, by the time at which they arrive.
    answers: BTreeMap<(Instant, u64), llm_router_domain::balance::Pick>,
    requests: u64,
}

/// Behaviour of a deployment: it answers after a time, or fails at once.
type Behaviour<'b> = &'b dyn Fn(usize) -> Option<Duration>;

impl Simulation {
    fn new(strategy: Strategy, weights: &[u32], now: Instant) -> Self {
        let balancer = Balancer::new(strategy, members(weights, now), None);
        let random = Box::new(chance());
        Self {
            balancer,
            now,
            random,
            answers: BTreeMap::new(),
            requests: 0,
        }
    }

    /// Sends requests for `time`, one every `pace`. Returns the requests of each member, and the
    /// number of requests without one.
    fn run(&mut self, time: Duration, pace: Duration, behave: Behaviour<'_>) -> (Vec<u32>, u32) {
        let end = self.now + time;
        let mut asked = vec![0; self.balancer.members().len()];
        let mut lost = 0;
        while self.now < end {
            self.now += pace;
            while let Some(answer) = self.answers.first_entry().filter(|a| a.key().0 <= self.now) {
                let ((at, _), mut pick) = answer.remove_entry();
                pick.guard.report_content(at);
            }
            self.requests += 1;
            let ask = Request {
                conversation: self.requests,
                ..Request::default()
            };
            let mut tried = TriedMembers::default();
            loop {
                let pick = self
                    .balancer
                    .next(&ask, &mut tried, self.now, &mut self.random);
                let Some(mut pick) = pick else {
                    lost += 1;
                    break;
                };
                asked[pick.member] += 1;
                match behave(pick.member) {
                    Some(time) => {
                        self.answers.insert((self.now + time, self.requests), pick);
                        break;
                    }
                    None => {
                        pick.guard.report_failure(self.now);
                    }
                }
            }
        }
        (asked, lost)
    }
}

#[test]
fn least_latency_prefers_the_quick_and_adapts() {
    let mut run = Simulation::new(Strategy::LeastLatency, &[1, 1, 1], origin());
    let times = [20, 60, 200];
    let (asked, _) = run.run(ms(20_000), ms(10), &|member| Some(ms(times[member])));
    println!("20, 60 and 200 ms: {asked:?}");
    assert!(asked[0] > asked[1] && asked[1] > asked[2], "{asked:?}");
    assert!(asked[2] > 0, "never starved");
    // The quickest slows down tenfold: it must lose its lead within a second.
    let slowed = [200, 60, 200];
    let (asked, _) = run.run(ms(1_000), ms(10), &|member| Some(ms(slowed[member])));
    println!("one second after slowing down: {asked:?}");
    let (asked, _) = run.run(ms(10_000), ms(10), &|member| Some(ms(slowed[member])));
    println!("ten seconds more: {asked:?}");
    assert!(asked[1] > 2 * asked[0], "{asked:?}");
    // And regains it when it has recovered.
    run.run(ms(30_000), ms(10), &|member| Some(ms(times[member])));
    let (asked, _) = run.run(ms(10_000), ms(10), &|member| Some(ms(times[member])));
    println!("after recovery: {asked:?}");
    assert!(asked[0] > asked[1], "{asked:?}");
}

#[test]
fn a_new_deployment_is_neither_starved_nor_flooded() {
    let now = origin();
    let mut run = Simulation::new(Strategy::LeastLatency, &[1, 1, 1, 1], now);
    run.run(ms(10_000), ms(5), &|_| Some(ms(100)));
    let mut members = run.balancer.members().to_vec();
    let deployment = Arc::new(DeploymentState::new(
        "new",
        CircuitSettings::default(),
        0,
        run.now,
    ));
    members.push(PoolMember {
        deployment,
        weight: 1,
    });
    run.balancer = Balancer::new(Strategy::LeastLatency, members, Some(&run.balancer));
    // Before it has answered even once, and after.
    for time in [80, 2_000] {
        let (asked, _) = run.run(ms(time), ms(5), &|_| Some(ms(100)));
        let share = f64::from(asked[4]) / f64::from(asked.iter().sum::<u32>());
        println!("share of the new one of five in {time} ms: {share:.2}");
        assert!((0.1..0.35).contains(&share), "{asked:?}");
    }
}

#[test]
fn a_failing_deployment_is_left_alone_and_taken_back_gently() {
    for strategy in ALL {
        // The failing one is the one that priority prefers.
        let mut run = Simulation::new(strategy, &[1, 1, 1], origin());
        run.run(ms(5_000), ms(10), &|_| Some(ms(50)));
        let dead = |member: usize| (member != 0).then(|| ms(50));
        let (asked, lost) = run.run(ms(60_000), ms(10), &dead);
        let touched = asked[0];
        assert_eq!(lost, 0, "{strategy:?}: no client sees it");
        assert!(
            touched <= 15,
            "{strategy:?}: {touched} of 6,000 requests went there"
        );
        // It heals: at most one circuit's time later it is back, and not all at once.
        let mut first = Vec::new();
        for second in 0..60 {
            let (asked, lost) = run.run(ms(1_000), ms(10), &|_| Some(ms(50)));
            assert_eq!(lost, 0);
            if asked[0] > 0 || !first.is_empty() {
                first.push((second, asked[0]));
            }
        }
        println!(
            "{strategy:?}: {touched} of 6,000 while down; back after {} s: {:?}",
            first[0].0,
            first.iter().take(20).map(|(_, n)| n).collect::<Vec<_>>()
        );
        let usual = first.last().unwrap().1;
        assert!(first[1].1 <= usual / 2 + 2, "{strategy:?}: {first:?}");
    }
}

#[test]
fn a_lost_probe_goes_back() {
    let now = origin();
    let mut run = Simulation::new(Strategy::Priority, &[1, 1], now);
    run.run(ms(200), ms(10), &|member| (member != 0).then(|| ms(1)));
    let later = run.now + ms(11_000);
    let ask = Request::default();
    let probe = run
        .balancer
        .next(&ask, &mut TriedMembers::default(), later, || 0)
        .unwrap();
    assert!(probe.member == 0 && probe.guard.is_probe());
    let other = run
        .balancer
        .next(&ask, &mut TriedMembers::default(), later, || 0)
        .unwrap();
    assert_eq!(other.member, 1, "one probe at a time");
    let ranking = run.balancer.rank(&ask, later);
    assert_eq!(
        ranking.left_out,
        [(0, Exclusion::Resting(RestReason::Probing, Duration::ZERO))]
    );
    drop(probe);
    let again = run
        .balancer
        .next(&ask, &mut TriedMembers::default(), later, || 0)
        .unwrap();
    assert!(
        again.guard.is_probe(),
        "the client disconnected before the answer"
    );
}

#[test]
fn when_all_rest_the_first_to_wake_is_the_last_resort() {
    let now = origin();
    let members = members(&[1, 1, 0], now);
    let balancer = Balancer::new(Strategy::Weighted, members, None);
    let ask = Request::default();
    for seconds in [20, 10] {
        let mut pick = balancer
            .next(&ask, &mut TriedMembers::default(), now, || 0)
            .unwrap();
        pick.guard.report_refusal(Some(ms(seconds * 1_000)), now);
    }
    let mut tried = TriedMembers::default();
    assert!(balancer.next(&ask, &mut tried, now, || 0).is_none());
    assert_eq!(balancer.last_resort(&mut tried, now).unwrap().member, 1);
    assert_eq!(balancer.last_resort(&mut tried, now).unwrap().member, 0);
    assert!(
        balancer.last_resort(&mut tried, now).is_none(),
        "drained ones stay out"
    );
}

#[test]
fn health_checks_eject_and_readmit() {
    let now = origin();
    let balancer = Balancer::new(Strategy::Priority, members(&[1, 1], now), None);
    let deployment = &balancer.members()[0].deployment;
    let first = || {
        let pick = balancer.next(&Request::default(), &mut TriedMembers::default(), now, || 0);
        pick.unwrap().member
    };
    assert_eq!(first(), 0);
    deployment.eject();
    assert_eq!(first(), 1);
    balancer.members()[1].deployment.eject();
    let mut tried = TriedMembers::default();
    assert!(
        balancer
            .next(&Request::default(), &mut tried, now, || 0)
            .is_none()
    );
    assert_eq!(balancer.last_resort(&mut tried, now).unwrap().member, 0);
    assert_eq!(deployment.readmit(now), None);
    assert_eq!(first(), 0);
    let opened = (0..5).find_map(|_| InFlightGuard::force(deployment, now).report_failure(now));
    assert_eq!(opened, Some(CircuitChange::Opened(ms(10_000))));
    assert_eq!(deployment.readmit(now), None, "its time isn't over");
    let later = now + Duration::from_secs(10);
    assert_eq!(deployment.readmit(later), Some(CircuitChange::Closed));
}

#[test]
fn state_survives_a_reload() {
    let now = origin();
    let settings = CircuitSettings::default();
    let ids = ["a", "b"].map(|id| (id, settings, None));
    let old = DeploymentStates::new(ids, 1, now);
    rest(old.get("a").unwrap(), now);
    let member = |deployments: &DeploymentStates, id: &str, weight| PoolMember {
        deployment: Arc::clone(deployments.get(id).unwrap()),
        weight,
    };
    let balancer = Balancer::new(Strategy::Weighted, vec![member(&old, "b", 1)], None);
    let flight = balancer
        .next(&Request::default(), &mut TriedMembers::default(), now, || 0)
        .unwrap();
    let changed = CircuitSettings {
        failures_in_row: 9,
        ..settings
    };
    let ids = ["a", "b", "c"].map(|id| (id, settings, Some(&old)));
    let new = DeploymentStates::new(ids, 1, now);
    assert!(matches!(
        new.get("a").unwrap().availability(now),
        Availability::Resting { .. }
    ));
    assert_eq!(
        new.get("b").unwrap().in_flight(),
        1,
        "a request in flight is still counted"
    );
    drop(flight);
    assert_eq!(new.get("b").unwrap().in_flight(), 0);
    let anew = DeploymentStates::new([("a", changed, Some(&new))], 1, now);
    assert!(matches!(
        anew.get("a").unwrap().availability(now),
        Availability::Ready { .. }
    ));
    // A reload every few requests doesn't favour the first of the list.
    let mut balancer = Balancer::new(Strategy::Weighted, members(&[1, 1, 1], now), None);
    let mut counts = [0; 3];
    for turn in 0..3_000 {
        if turn % 2 == 0 {
            let members = balancer.members().to_vec();
            balancer = Balancer::new(Strategy::Weighted, members, Some(&balancer));
        }
        let pick = balancer
            .next(&Request::default(), &mut TriedMembers::default(), now, || 0)
            .unwrap();
        counts[pick.member] += 1;
    }
    assert_eq!(counts, [1_000; 3]);
}

#[test]
fn reasons_can_be_read() {
    for (why, want) in [
        (Exclusion::Drained, "its weight is 0"),
        (
            Exclusion::Resting(RestReason::Open, ms(8_250)),
            "its circuit is open for 8.2 s more",
        ),
        (
            Exclusion::Resting(RestReason::Cooldown, ms(20_000)),
            "it is cooling down for 20.0 s more",
        ),
        (
            Exclusion::Resting(RestReason::Down, ms(0)),
            "its health checks fail",
        ),
        (
            Exclusion::Resting(RestReason::Probing, ms(0)),
            "its circuit is half open: one request probes it",
        ),
    ] {
        assert_eq!(why.to_string(), want);
    }
}
