//! The scripts of limits in a Redis server of the tests' own, by a clock that the tests set. They
//! must decide as `llm-router-domain` does, for two replicas together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use llm_router_domain::limit::{RateCounter, SECONDS};
use redis::aio::MultiplexedConnection;
use tokio::runtime::Handle;

use super::*;
use crate::link::LinkOptions;

#[path = "../../tests/counters/support/redis.rs"]
#[expect(dead_code, reason = "other tests pause the server and ask it")]
mod server;

/// Replaces the call that reads the clock.
pub(super) const CLOCK: &str = "redis.call('HMGET', '{llm-router}:clock', 'second', 'micro')";

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;

/// Moment at which the tests begin, in the middle of a second.
const START: u64 = 1_800_000_000 * SECOND + 300_000;

struct Replicas {
    both: [Counters; 2],
    clock: MultiplexedConnection,
    _server: server::Redis,
}

impl Replicas {
    async fn start() -> Option<Self> {
        let server = server::Redis::start()?;
        let client = redis::Client::open(server.url()).unwrap();
        let clock = client.get_multiplexed_async_connection().await.unwrap();
        let start = || {
            let timeout = Duration::from_secs(5);
            Counters::start(
                &server.url().into(),
                LinkOptions { timeout },
                &Handle::current(),
            )
        };
        let both = [start().unwrap(), start().unwrap()];
        for one in &both {
            assert!(one.link().ready(Duration::from_secs(10)).await);
        }
        Some(Self {
            both,
            clock,
            _server: server,
        })
    }

    async fn set_clock(&mut self, now: u64) {
        let () = redis::cmd("HSET")
            .arg("{llm-router}:clock")
            .arg(&["second", &(now / SECOND).to_string()])
            .arg(&["micro", &(now % SECOND).to_string()])
            .query_async(&mut self.clock)
            .await
            .unwrap();
    }

    async fn take(&self, replica: usize, request: &LimitRequest) -> TakeOutcome {
        let requests = std::slice::from_ref(request);
        self.both[replica]
            .take(Uuid::new_v4(), requests)
            .await
            .unwrap()
    }

    /// Reports an end and waits until it is counted.
    async fn settle(&self, request: &LimitRequest, used: u64, second: u64) {
        let call = rate_script(concat!(
            include_str!("../scripts/clock.lua"),
            include_str!("../scripts/rates.lua"),
            include_str!("../scripts/end.lua")
        ));
        let (tpm, burst) = rate_arguments(request.limits.tokens);
        let mut call = call.arg(Uuid::new_v4().to_string());
        call.arg(LEVEL_OF_ONE).arg(second);
        call.key(names::tokens(&request.subject))
            .key(names::leases(&request.subject));
        call.arg(tpm)
            .arg(burst)
            .arg(to_signed(used) - to_signed(request.tokens));
        self.both[0].call::<i64>(&call).await.unwrap();
    }
}

fn request(subject: &str, rate: Rate, tokens: u64) -> LimitRequest {
    let limits = Limits {
        tokens: Some(rate),
        ..Limits::NONE
    };
    LimitRequest {
        subject: subject.to_owned(),
        limits,
        requests: 1,
        tokens,
        known: KnownAmounts::default(),
        wants_seconds: false,
    }
}

#[tokio::test]
async fn scripts_decide_as_the_domain_does() {
    let Some(mut replicas) = Replicas::start().await else {
        return;
    };
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let burst = (seed % 4 == 3).then(|| random.u64(1..50));
        let rate = Rate::new(
            [20, 600, 100_000][usize::try_from(seed % 3).unwrap()],
            burst,
        );
        let subject = format!("key:{seed}");
        let (mut counter, mut now, mut open) = (RateCounter::default(), START, Vec::new());
        for step in 0..400 {
            now += match random.u8(..4) {
                0 => 0,
                1 => random.u64(..SECOND),
                2 => random.u64(..8 * SECOND),
                _ => random.u64(..if step % 40 == 0 { 100 * SECOND } else { 1_000 }),
            };
            replicas.set_clock(now).await;
            if let Some((request, used, charged)) = open.pop_if(|_| random.u8(..3) == 0) {
                let _: &LimitRequest = &request;
                replicas.settle(&request, used, charged / SECOND).await;
                counter.settle(rate, request.tokens, used, charged, now);
                continue;
            }
            let most = rate.per_minute() / if random.bool() { 1 } else { 15 };
            let tokens = random.u64(1..=most.max(1));
            let mut request = request(&subject, rate, tokens);
            request.wants_seconds = true;
            let wait = counter.wait(rate, tokens, now);
            let outcome = replicas.take(random.usize(..2), &request).await;
            let usage = match outcome {
                TakeOutcome::Passed { second, usage } => {
                    assert!(
                        wait.is_zero(),
                        "{seed} {step}: passed, and {wait:?} to wait"
                    );
                    assert_eq!(second, now / SECOND);
                    counter.charge(rate, tokens, now);
                    let used = tokens * random.u64(..=130) / 100;
                    open.insert(random.usize(..=open.len()), (request, used, now));
                    usage
                }
                TakeOutcome::Full { full, usage, .. } => {
                    assert_eq!(full.wait, Some(wait), "{seed} {step}");
                    counter.refuse(rate, tokens, now, wait);
                    usage
                }
                TakeOutcome::Forgotten => panic!("nothing was lost"),
            };
            let amounts = counter.amounts(rate, now);
            let sum: u64 = amounts.iter().map(|second| second.amount).sum();
            assert_eq!(usage[0].tokens, sum, "{seed} {step}");
            if burst.is_none() {
                assert_eq!(usage[0].seconds.as_ref().unwrap().tokens, amounts);
            }
        }
    }
}

/// Moments and costs of what two replicas admit of clients that wait as they are told.
async fn hour(
    replicas: &mut Replicas,
    subject: &str,
    limits: Limits,
    sizes: impl Fn(&mut fastrand::Rng) -> u64,
) -> Vec<(u64, u64)> {
    let mut random = fastrand::Rng::with_seed(3);
    let (mut asks, mut admitted) = (BinaryHeap::new(), Vec::new());
    for client in 0..20_usize {
        asks.push(Reverse((
            START + random.u64(..SECOND),
            client,
            sizes(&mut random),
        )));
    }
    while let Some(Reverse((now, client, size))) = asks.pop() {
        if now > START + 60 * MINUTE {
            break;
        }
        replicas.set_clock(now).await;
        let mut request = request(subject, Rate::new(1, None), size);
        request.limits = limits;
        match replicas.take(client % 2, &request).await {
            TakeOutcome::Passed { .. } => {
                admitted.push((now, size));
                asks.push(Reverse((
                    now + random.u64(..100_000),
                    client,
                    sizes(&mut random),
                )));
            }
            TakeOutcome::Full { full, .. } => {
                let wait = full.wait.unwrap();
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let late = random.u64(..50_000);
                asks.push(Reverse((now + seconds * SECOND + late, client, size)));
            }
            TakeOutcome::Forgotten => panic!("nothing was lost"),
        }
    }
    admitted
}

#[tokio::test]
async fn an_hour_of_two_replicas_uses_the_limit_and_no_minute_exceeds_it() {
    let Some(mut replicas) = Replicas::start().await else {
        return;
    };
    let requests = |limit| Limits {
        requests: Some(Rate::new(limit, None)),
        ..Limits::NONE
    };
    let tokens = |limit| Limits {
        tokens: Some(Rate::new(limit, None)),
        ..Limits::NONE
    };
    let one = |_: &mut fastrand::Rng| 1;
    let any = |random: &mut fastrand::Rng| {
        (100.0_f64.ln() + random.f64() * 1_000.0_f64.ln()).exp() as u64
    };
    for (what, limit, admitted) in [
        (
            "requests",
            120,
            hour(&mut replicas, "r", requests(120), one).await,
        ),
        (
            "tokens",
            1_000_000,
            hour(&mut replicas, "t", tokens(1_000_000), any).await,
        ),
        (
            "few tokens",
            200_000,
            hour(&mut replicas, "u", tokens(200_000), any).await,
        ),
    ] {
        let (mut first, mut sum, mut most) = (0, 0, 0);
        for (at, cost) in &admitted {
            sum += cost;
            while admitted[first].0 + MINUTE <= *at {
                sum -= admitted[first].1;
                first += 1;
            }
            most = most.max(sum);
        }
        assert!(most <= limit + limit / 10, "{what}: {most} in a minute");
        let all: u64 = admitted.iter().map(|(_, cost)| cost).sum();
        let used = all as f64 / (limit * 60) as f64;
        assert!(used >= 0.97, "{what}: {used} used");
    }
}

#[tokio::test]
async fn who_was_quiet_gets_all_at_once_and_an_empty_server_learns_what_replicas_know() {
    let Some(mut replicas) = Replicas::start().await else {
        return;
    };
    let rate = Rate::new(1_000, None);
    for now in [START, START + u64::from(SECONDS) * SECOND] {
        replicas.set_clock(now).await;
        for number in 0..10 {
            let outcome = replicas.take(number % 2, &request("q", rate, 100)).await;
            assert!(matches!(outcome, TakeOutcome::Passed { .. }), "{outcome:?}");
        }
        let outcome = replicas.take(0, &request("q", rate, 1)).await;
        assert!(matches!(outcome, TakeOutcome::Full { .. }), "{outcome:?}");
    }
    // Two replicas report the same amounts, one of them a second later: they count once.
    let known = |ages: [u32; 2]| {
        let amounts = ages.map(|age| SecondAmount { age, amount: 400 });
        let mut request = request("new", rate, 100);
        request.wants_seconds = true;
        request.known.tokens = amounts.to_vec();
        request
    };
    for (replica, ages, used) in [(0, [2, 30], 900), (1, [3, 31], 1_000)] {
        match replicas.take(replica, &known(ages)).await {
            TakeOutcome::Passed { usage, .. } => {
                assert_eq!(usage[0].tokens, used);
                let ages = usage[0].seconds.as_ref().unwrap().tokens.iter();
                assert_eq!(ages.map(|one| one.age).collect::<Vec<_>>(), [0, 2, 30]);
            }
            outcome => panic!("{outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_clock_that_steps_back_frees_nothing_and_blocks_nobody_for_longer_than_a_minute() {
    let Some(mut replicas) = Replicas::start().await else {
        return;
    };
    let rate = Rate::new(1_000, None);
    replicas.set_clock(START + 3_600 * SECOND).await;
    let outcome = replicas.take(0, &request("c", rate, 1_000)).await;
    assert!(matches!(outcome, TakeOutcome::Passed { .. }));
    replicas.set_clock(START).await;
    match replicas.take(0, &request("c", rate, 1)).await {
        TakeOutcome::Full { full, .. } => {
            assert!(full.wait.unwrap() <= Duration::from_secs(61), "{full:?}");
        }
        outcome => panic!("{outcome:?}"),
    }
    replicas.set_clock(START + 61 * SECOND).await;
    let outcome = replicas.take(0, &request("c", rate, 1)).await;
    assert!(matches!(outcome, TakeOutcome::Passed { .. }), "{outcome:?}");
}
