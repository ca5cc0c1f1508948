//! Budgets shared by three replicas, in Redis or in PostgreSQL: their spending together never
//! exceeds them while the store answers, is bounded while it doesn't, and nothing stays reserved.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Gateway, GatewayBuilder, Mock, eventually, gateway, mock};
use crate::ledger::{PRICES, expected_cost};
use crate::postgres::Postgres;
use crate::redis::Redis;

/// 0.026 USD, in hundredths of a micro-dollar: what 50 requests with 20 tokens of input and 100 of
/// output cost.
const BUDGET: u64 = 2_600_000;

const KEY: &str = "Bearer sk-of-poor-0123456789";

/// Redis key of the budget; its reservations are beside it.
const LINE: &str = "{llm-router}:budget:key:poor:total:";
const HOLDS: &str = "{llm-router}:holds:key:poor:total:";

/// Store of the replicas' budgets.
pub(crate) enum BudgetPlace {
    /// Each has a store of its own.
    Redis(Redis),
    /// They share the store, by the database's name, and have no Redis.
    Postgres(Postgres, String),
}

impl BudgetPlace {
    pub(crate) fn redis() -> Option<Self> {
        Redis::start().map(Self::Redis)
    }

    pub(crate) fn postgres() -> Option<Self> {
        let server = Postgres::start()?;
        server.database("first");
        Some(Self::Postgres(server, "first".to_owned()))
    }

    /// Nothing was spent.
    fn begin_anew(&mut self) {
        match self {
            Self::Redis(server) => drop(server.ask(&["FLUSHALL"])),
            Self::Postgres(server, database) => {
                database.push_str("_next");
                server.database(database);
            }
        }
    }

    /// Sets up a replica.
    pub(crate) fn equip(&self, builder: GatewayBuilder) -> GatewayBuilder {
        match self {
            // A busy machine must not look like a slow Redis.
            Self::Redis(server) => {
                builder.set("/counters", json!({ "url": server.url(), "timeout": "1s" }))
            }
            Self::Postgres(server, database) => builder.set(
                "/store",
                json!({ "url": server.url(database), "journal": "journal" }),
            ),
        }
    }

    /// Crashes it: what isn't on a disk is lost.
    fn stop(&mut self) {
        match self {
            Self::Redis(server) => server.stop(),
            Self::Postgres(server, _) => server.stop(),
        }
    }

    fn run(&mut self) {
        match self {
            Self::Redis(server) => server.run(),
            Self::Postgres(server, _) => server.run(),
        }
    }

    fn pause(&self) {
        match self {
            Self::Redis(server) => server.pause(),
            Self::Postgres(server, _) => server.pause(),
        }
    }

    fn resume(&self) {
        match self {
            Self::Redis(server) => server.resume(),
            Self::Postgres(server, _) => server.resume(),
        }
    }

    /// Returns the amounts spent and reserved in the store, in hundredths of a micro-dollar.
    fn figures(&self) -> (u64, u64) {
        match self {
            Self::Redis(server) => figures_in_redis(server),
            Self::Postgres(server, database) => {
                let sql = "SELECT spent * 100000000, reserved * 100000000 FROM llm_router.budget_lines \
                           WHERE line = 'key:poor:total:'";
                let row = server.ask(database, sql);
                let (spent, reserved) = row.split_once('|').unwrap_or(("0", "0"));
                (whole(spent), whole(reserved))
            }
        }
    }

    /// Returns the number of reservations in the store.
    fn holds(&self) -> u64 {
        match self {
            Self::Redis(server) => whole(&server.ask(&["ZCARD", HOLDS])),
            Self::Postgres(server, database) => {
                whole(&server.ask(database, "SELECT count(*) FROM llm_router.budget_holds"))
            }
        }
    }
}

/// A number that must be whole, whatever zeros follow its point.
fn whole(text: &str) -> u64 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    assert!(part.bytes().all(|digit| digit == b'0'), "{text}");
    whole.parse().unwrap()
}

fn figures_in_redis(redis: &Redis) -> (u64, u64) {
    let amount = |field: &str| -> u64 {
        let stored = redis.ask(&["HGET", LINE, field]);
        let (whole, part) = stored.split_once(' ').unwrap_or(("0", "0"));
        let (whole, part): (u64, u64) = (whole.parse().unwrap(), part.parse().unwrap());
        assert_eq!(part % 10_000_000, 0, "{stored}");
        whole * 100_000_000 + part / 10_000_000
    };
    (amount("spent"), amount("reserved"))
}

async fn replica(place: &BudgetPlace, mock: &Mock, on_counter_failure: &str) -> Gateway {
    // Where not each replica goes by its share, a limit of one request shows who counts.
    let limits = match place {
        BudgetPlace::Redis(_) if on_counter_failure != "local" => json!({ "rpm": 1, "burst": 1 }),
        _ => json!({}),
    };
    let builder = gateway()
        .add(
            "providers",
            json!({
                "id": "up", "type": "mock", "base_url": mock.base_url(),
                "timeouts": { "connect": "1s", "first_byte": "4s", "idle": "4s", "total": "5s" },
            }),
        )
        .file("prices.yaml", PRICES)
        .set("/prices", "prices.yaml".into())
        .add(
            "keys",
            json!({ "name": "poor", "key": "sk-of-poor-0123456789", "limits": limits,
                "budget": { "usd": 0.026, "period": "total" } }),
        )
        .set(
            "/limits",
            json!({ "on_counter_failure": on_counter_failure }),
        );
    place.equip(builder).run().await
}

async fn three(place: &BudgetPlace, mock: &Mock) -> Vec<Gateway> {
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(replica(place, mock, "local").await);
    }
    all_up(&replicas).await;
    replicas
}

/// Waits until every replica uses Redis and knows the others.
async fn all_up(replicas: &[Gateway]) {
    for gateway in replicas {
        eventually("it knows of the others", || async {
            let count = f64::from(u32::try_from(replicas.len()).unwrap());
            gateway.metric("llm_router_counters_up", &[]).await == 1.0
                && gateway.metric("llm_router_replicas", &[]).await == count
        })
        .await;
    }
}

/// Outcomes of requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct AnswerTally {
    answered: usize,
    over_budget: usize,
    unavailable: usize,
    /// Answers that named the counters as unavailable.
    degraded: usize,
    lost: usize,
}

/// Asks `each` times of every replica, all at once.
async fn ask(replicas: &[Gateway], each: usize, delay: &str) -> AnswerTally {
    ask_for(100, replicas, each, delay).await
}

/// Asks for answers of `output` tokens.
async fn ask_for(output: u32, replicas: &[Gateway], each: usize, delay: &str) -> AnswerTally {
    let usage = format!("input=20,output={output}");
    let usage = usage.as_str();
    let body = json!({ "model": "up/mock-gpt", "max_tokens": output,
        "messages": [{ "role": "user", "content": "Tell me about the sea." }] });
    let asked = replicas.iter().flat_map(|gateway| {
        (0..each).map(|_| {
            let request = reqwest::Client::new()
                .post(format!("{}/v1/chat/completions", gateway.url))
                .header("authorization", KEY)
                .header("x-mock-usage", usage)
                .header("x-mock-delay", delay);
            request.body(body.to_string()).send()
        })
    });
    let mut tally = AnswerTally::default();
    for answer in futures::future::join_all(asked.collect::<Vec<_>>()).await {
        let Ok(answer) = answer else {
            tally.lost += 1;
            continue;
        };
        tally.degraded += usize::from(answer.headers().contains_key("x-llm-router-degraded"));
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        match (status, body["error"]["code"].as_str()) {
            (200, _) => tally.answered += 1,
            (429, Some("insufficient_quota")) => tally.over_budget += 1,
            (503, Some("limits_unavailable")) => tally.unavailable += 1,
            _ => panic!("{status}: {body}"),
        }
    }
    tally
}

/// Waits until the store has the mock's billing, and nothing is reserved.
async fn wait_until_settled(place: &BudgetPlace, replicas: &[Gateway], mock: &Mock) {
    for gateway in replicas {
        eventually("nothing is reserved", || async {
            gateway.metric("llm_router_requests_in_flight", &[]).await == 0.0
                && gateway.metric("llm_router_budget_reservations", &[]).await == 0.0
        })
        .await;
    }
    eventually("the store knows the spending", || async {
        place.figures() == (expected_cost(mock, "mock-gpt"), 0)
    })
    .await;
    assert_eq!(place.holds(), 0);
}

/// Asks until all is spent but what is less than the price of a few requests.
async fn spent_but_little(replicas: &[Gateway], mock: &Mock) {
    eventually("all is spent", || async {
        ask(replicas, 1, "10ms").await;
        expected_cost(mock, "mock-gpt") > BUDGET - 200_000
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_redis_never_overspend_together() {
    if let Some(mut place) = BudgetPlace::redis() {
        never_overspend_together(&mut place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_postgres_never_overspend_together() {
    if let Some(mut place) = BudgetPlace::postgres() {
        never_overspend_together(&mut place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_redis_share_what_was_left_while_it_is_away() {
    if let Some(mut place) = BudgetPlace::redis() {
        share_what_was_left_while_it_is_away(&mut place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_postgres_share_what_was_left_while_it_is_away() {
    if let Some(mut place) = BudgetPlace::postgres() {
        share_what_was_left_while_it_is_away(&mut place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_redis_let_go_of_what_a_killed_one_reserved() {
    if let Some(mut place) = BudgetPlace::redis() {
        let_go_of_what_a_killed_one_reserved(&mut place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_postgres_let_go_of_what_a_killed_one_reserved() {
    if let Some(mut place) = BudgetPlace::postgres() {
        let_go_of_what_a_killed_one_reserved(&mut place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_redis_do_as_configured_while_it_is_away() {
    if let Some(mut place) = BudgetPlace::redis() {
        do_as_configured_while_it_is_away(&mut place).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_postgres_do_as_configured_while_it_is_away() {
    if let Some(mut place) = BudgetPlace::postgres() {
        do_as_configured_while_it_is_away(&mut place).await;
    }
}

async fn never_overspend_together(place: &mut BudgetPlace) {
    let mock = mock().await;
    let replicas = three(place, &mock).await;
    for _ in 0..2 {
        let tally = ask(&replicas, 60, "10ms").await;
        assert_eq!(tally.answered + tally.over_budget, 180, "{tally:?}");
        wait_until_settled(place, &replicas, &mock).await;
    }
    spent_but_little(&replicas, &mock).await;
    let spent = expected_cost(&mock, "mock-gpt");
    assert!(spent <= BUDGET, "{spent}");
    // A later replica knows too, even after the store has lost its data.
    let late = vec![replica(place, &mock, "local").await];
    ask(&late, 30, "10ms").await;
    let spent = expected_cost(&mock, "mock-gpt");
    assert!(spent <= BUDGET, "{spent}");
}

async fn share_what_was_left_while_it_is_away(place: &mut BudgetPlace) {
    for restart in [false, true] {
        let mock = mock().await;
        let replicas = three(place, &mock).await;
        assert_eq!(ask(&replicas, 3, "10ms").await.answered, 9);
        wait_until_settled(place, &replicas, &mock).await;
        // Every replica reads the totals of lines in use once a second.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        if restart {
            place.stop();
        } else {
            place.pause();
        }
        let tally = ask(&replicas, 60, "10ms").await;
        assert_eq!(tally.answered + tally.over_budget, 180, "{tally:?}");
        assert!(tally.answered >= 20 && tally.degraded > 0, "{tally:?}");
        let away = expected_cost(&mock, "mock-gpt");
        assert!(away <= BUDGET, "{away} while it is away");
        if restart {
            place.run();
        } else {
            place.resume();
        }
        all_up(&replicas).await;
        ask(&replicas, 30, "10ms").await;
        wait_until_settled(place, &replicas, &mock).await;
        // Not only their shares: what one replica left is free for all again.
        spent_but_little(&replicas, &mock).await;
        let spent = expected_cost(&mock, "mock-gpt");
        assert!(spent <= BUDGET, "{spent} after it came back");
        drop(replicas);
        place.begin_anew();
    }
}

async fn let_go_of_what_a_killed_one_reserved(place: &mut BudgetPlace) {
    let mock = mock().await;
    let mut replicas = three(place, &mock).await;
    let mut victim = replicas.pop().unwrap();
    let url = victim.url.clone();
    let asked = tokio::spawn(async move {
        // Longer than the provider's total timeout, so that only the expiry releases it.
        let body = json!({ "model": "up/mock-gpt", "max_tokens": 100, "stream": true,
            "messages": [{ "role": "user", "content": "Tell me about the sea." }] });
        let ask = |_| {
            let request = reqwest::Client::new().post(format!("{url}/v1/chat/completions"));
            let request = request.header("authorization", KEY);
            request
                .header("x-mock-delay", "30s")
                .body(body.to_string())
                .send()
        };
        futures::future::join_all((0..10).map(ask)).await;
    });
    eventually("ten are held, and on their way", || async {
        place.holds() == 10 && mock.meter.requests(20, |_| true).len() == 10
    })
    .await;
    // Held comes before journalled, and only what is journalled can be billed.
    eventually("ten are journalled", || async {
        let verified = victim.command(&["ledger", "verify"]).stdout;
        let verified = String::from_utf8_lossy(&verified).into_owned();
        let words: Vec<&str> = verified.split_whitespace().collect();
        words.windows(2).any(|pair| pair == ["open", "10"])
    })
    .await;
    victim.kill_and_restart().await;
    asked.await.unwrap();
    assert_eq!(place.holds(), 10);
    // At most as long as an attempt may take, 6 s.
    eventually("they are released", || async {
        ask(&replicas, 1, "10ms").await;
        place.holds() == 0
    })
    .await;
    // What it may have been billed for is spent, once the replica is there to say so.
    let replicas = vec![victim];
    eventually("it is spent", || async {
        ask(&replicas, 1, "10ms").await;
        place.figures().0 >= expected_cost(&mock, "mock-gpt") + 10 * 50_000
    })
    .await;
}

async fn do_as_configured_while_it_is_away(place: &mut BudgetPlace) {
    for (failure, answered) in [("allow", 100), ("refuse", 0)] {
        let mock = mock().await;
        let replicas = vec![replica(place, &mock, failure).await];
        assert_eq!(ask(&replicas, 1, "10ms").await.answered, 1);
        place.stop();
        eventually("it notices", || async {
            replicas[0].metric("llm_router_counters_up", &[]).await == 0.0
        })
        .await;
        let tally = ask(&replicas, 100, "10ms").await;
        assert_eq!(tally.answered, answered, "{failure}: {tally:?}");
        assert_eq!(tally.unavailable, 100 - answered, "{failure}: {tally:?}");
        assert_eq!(tally.degraded, 100, "{failure}: {tally:?}");
        place.run();
        all_up(&replicas).await;
        wait_until_settled(place, &replicas, &mock).await;
        drop(replicas);
        place.begin_anew();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_loses_its_data_behind_a_connection_doesnt_sell_the_budget_twice() {
    let Some(redis) = Redis::start() else { return };
    let place = BudgetPlace::Redis(redis);
    let BudgetPlace::Redis(redis) = &place else {
        return;
    };
    // Emptied, or replaced by a replica that is behind: the connections stay as they are.
    for behind in [false, true] {
        redis.ask(&["FLUSHALL"]);
        let mock = mock().await;
        let mut replicas = three(&place, &mock).await;
        replicas.pop();
        assert_eq!(ask(&replicas, 1, "10ms").await.answered, 2);
        // A new server is trusted once every replica had the time to report.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        if behind {
            redis.ask(&["SAVE"]);
        }
        let loss = async {
            eventually("all is reserved", || async {
                place.figures().1 > BUDGET * 8 / 10
            })
            .await;
            // Each replica asks once a second what the others reserved. What they reserved since isn't
            // known to it, and comes on top where the data is lost in that second.
            tokio::time::sleep(Duration::from_millis(1_300)).await;
            if behind {
                redis.ask(&["DEBUG", "RELOAD", "NOSAVE"]);
            } else {
                redis.ask(&["FLUSHALL"]);
            }
            ask_for(400, &replicas, 8, "10ms").await
        };
        let (under_way, after) = tokio::join!(ask_for(400, &replicas, 8, "3500ms"), loss);
        assert!(under_way.answered >= 8, "{under_way:?}");
        wait_until_settled(&place, &replicas, &mock).await;
        let spent = expected_cost(&mock, "mock-gpt");
        assert!(
            spent <= BUDGET,
            "behind: {behind}, {spent}; {under_way:?}, {after:?}"
        );
        // What was left is free for all again.
        spent_but_little(&replicas, &mock).await;
        assert!(expected_cost(&mock, "mock-gpt") <= BUDGET);
    }
}
