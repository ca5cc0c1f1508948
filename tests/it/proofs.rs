//! The ledger compared with the mock's own meter, on SQLite and on PostgreSQL: random usage,
//! crashes under load, an unavailable store. Small in every run; `LEDGER_PROOF=full` makes them as
//! large as claimed, and `--nocapture` shows their counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{Gateway, GatewayBuilder, KEY, Mock, eventually, gateway, mock, mock_with};
use crate::ledger::{assert_counts, cost, hundredths};
use crate::postgres::Postgres;

const MODELS: u64 = 5;
const USERS: u64 = 20;
/// Concurrent requests.
const WORKERS: usize = 48;

/// Returns the size of a proof.
fn size(small: usize, full: usize) -> usize {
    match std::env::var("LEDGER_PROOF").as_deref() {
        Ok("full") => full,
        _ => small,
    }
}

/// Returns a model of its own for every user, so that the meter's totals by model are totals by
/// user too.
fn name(model: u64, user: u64) -> String {
    format!("m{model}-u{user}")
}

/// Rates of model `m` are `m + 1` times those of model 0.
fn prices() -> String {
    let mut text = String::new();
    for model in 0..MODELS {
        for user in 0..USERS {
            let rate = |hundredths: u64| {
                let hundredths = hundredths * (model + 1);
                format!("{}.{:02}", hundredths / 100, hundredths % 100)
            };
            let writes = match model {
                3 => format!(
                    ", cache_write_5m: {}, cache_write_1h: {}",
                    rate(125),
                    rate(200)
                ),
                _ => String::new(),
            };
            text.push_str(&format!(
                "up/{}:\n  - {{ from: 2026-01-01, input: {}, cached_input: {}, output: {}{writes} }}\n",
                name(model, user),
                rate(100),
                rate(10),
                rate(500),
            ));
        }
    }
    text
}

fn priced_by_user(mock: &Mock) -> GatewayBuilder {
    gateway()
        .provider("up", mock)
        .file("prices.yaml", Box::leak(prices().into_boxed_str()))
        .set("/prices", "prices.yaml".into())
}

/// Returns the meter's totals of the models that `wanted` keeps: counts, and the cost in hundredths
/// of a micro-dollar.
fn metered_totals(mock: &Mock, wanted: impl Fn(&str) -> bool) -> (Value, u64) {
    let totals = mock.meter.totals();
    let mut counts = [0_u64; 5];
    let mut owed = 0;
    for (model, ended) in totals.models.iter().filter(|(model, _)| wanted(model)) {
        let usage = &ended.usage;
        let of_model = [
            usage.input,
            usage.cached,
            usage.cache_write(),
            usage.output,
            usage.reasoning,
        ];
        counts
            .iter_mut()
            .zip(of_model)
            .for_each(|(sum, count)| *sum += count);
        let number: u64 = model[1..2].parse().unwrap();
        let writes = if number == 3 {
            125 * usage.cache_write_5m + 200 * usage.cache_write_1h
        } else {
            100 * usage.cache_write()
        };
        let unit = 100 * usage.uncached_input() + 10 * usage.cached + writes + 500 * usage.output;
        owed += unit * (number + 1);
    }
    let names = [
        "input_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
    ];
    let counts: serde_json::Map<_, _> = names
        .into_iter()
        .zip(counts)
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    (counts.into(), owed)
}

/// The path and body of request `n`: every format, plain and streaming, by every user.
fn request_body(n: u64) -> (&'static str, Value) {
    let (model, user) = (n % MODELS, n / MODELS % USERS);
    let stream = (n / (MODELS * USERS)).is_multiple_of(2);
    let name = name(model, user);
    let user = format!("user-{user}");
    let messages = json!([{ "role": "user", "content": "Tell me about the sea." }]);
    match model {
        0 | 1 => (
            "/v1/chat/completions",
            json!({ "model": name, "user": user, "stream": stream, "messages": messages }),
        ),
        2 => (
            "/v1/responses",
            json!({ "model": name, "user": user, "stream": stream, "input": "The sea" }),
        ),
        3 => (
            "/v1/messages",
            json!({ "model": name, "metadata": { "user_id": user }, "stream": stream,
                "max_tokens": 100, "messages": messages }),
        ),
        _ => (
            "/v1/completions",
            json!({ "model": name, "user": user, "stream": stream, "prompt": "The sea" }),
        ),
    }
}

/// Clients that send one request after the other until stopped.
struct ProofLoad {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl ProofLoad {
    /// Begins at request `first` and ends before `last`. `pause` is what a client waits between.
    fn start(gateway: &Gateway, range: std::ops::Range<u64>, tokens: u64, pause: Duration) -> Self {
        let load = Self {
            stop: Arc::default(),
            answered: Arc::default(),
            failed: Arc::default(),
            workers: Vec::new(),
        };
        let next = Arc::new(AtomicUsize::new(usize::try_from(range.start).unwrap()));
        let client = reqwest::Client::new();
        let worker = |_| {
            let (stop, next) = (Arc::clone(&load.stop), Arc::clone(&next));
            let (answered, failed) = (Arc::clone(&load.answered), Arc::clone(&load.failed));
            let (client, url) = (client.clone(), gateway.url.clone());
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    let n = next.fetch_add(1, Relaxed) as u64;
                    if n >= range.end {
                        return;
                    }
                    let sent = send(&client, &url, n, tokens).await;
                    let counter = if sent { &answered } else { &failed };
                    counter.fetch_add(1, Relaxed);
                    // A router that is down is not asked as fast as it refuses.
                    let pause = if sent {
                        pause
                    } else {
                        Duration::from_millis(10)
                    };
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                }
            })
        };
        let workers = (0..WORKERS).map(worker).collect();
        Self { workers, ..load }
    }

    /// Waits for the clients' last requests; how many were answered whole, and how many not.
    async fn end(self) -> (usize, usize) {
        for worker in self.workers {
            worker.await.unwrap();
        }
        (self.answered.load(Relaxed), self.failed.load(Relaxed))
    }

    async fn stop(self) -> (usize, usize) {
        self.stop.store(true, Relaxed);
        self.end().await
    }
}

/// Returns true if request `n` was answered completely.
async fn send(client: &reqwest::Client, url: &str, n: u64, tokens: u64) -> bool {
    let (path, body) = request_body(n);
    let request = client
        .post(format!("{url}{path}"))
        .header("authorization", format!("Bearer {KEY}"))
        .header("anthropic-version", "2023-06-01")
        .header("x-request-id", format!("proof-{n}"))
        .header("x-mock-usage", "random")
        .header("x-mock-seed", n)
        .header("x-mock-tokens", tokens)
        .header(
            "x-mock-token-delay",
            if tokens > 10 { "4ms" } else { "0ms" },
        )
        .body(body.to_string());
    let Ok(response) = request.send().await else {
        return false;
    };
    if response.status() != 200 {
        return false;
    }
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        if chunk.is_err() {
            return false;
        }
    }
    true
}

fn find<'a>(items: &'a Value, field: &str, value: &str) -> &'a Value {
    let items = items["items"].as_array().unwrap();
    let found = items.iter().find(|item| item[field] == value);
    found.unwrap_or_else(|| panic!("no {field} {value} in {items:?}"))
}

fn assert_agrees(item: &Value, (counts, owed): &(Value, u64)) {
    assert_counts(item, counts);
    assert_eq!(hundredths(&item["cost_usd"]), *owed, "{item}");
}

/// Totals by model, by user and by day are the meter's, to the last token and digit.
async fn books_agree(gateway: &Gateway, mock: &Mock, requests: usize) {
    let all = metered_totals(mock, |_| true);
    let current = cost(gateway, "current").await;
    assert_eq!(current["total"]["requests"], requests, "{current}");
    assert_agrees(&current["total"], &all);
    let days = cost(gateway, "daily").await;
    let days = days["items"].as_array().unwrap().clone();
    // One day, or two where midnight passed meanwhile.
    let sum: u64 = days.iter().map(|day| hundredths(&day["cost_usd"])).sum();
    assert!(days.len() <= 2 && sum == all.1, "{days:?}");
    let models = cost(gateway, "by-model").await;
    for model in mock.meter.totals().models.keys() {
        assert_agrees(
            find(&models, "model", model),
            &metered_totals(mock, |one| one == model),
        );
    }
    let users = cost(gateway, "by-user").await;
    for user in 0..USERS {
        let suffix = format!("-u{user}");
        let of_user = metered_totals(mock, |model| model.ends_with(&suffix));
        assert_agrees(find(&users, "user", &format!("user-{user}")), &of_user);
    }
}

/// Journal, store and sums say the same once the router has ended.
async fn verifies(mut gateway: Gateway) {
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_exit().await, Some(0));
    let verified = gateway.command(&["ledger", "verify"]);
    let printed = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(verified.status.code(), Some(0), "{printed}");
}

async fn random_usage(name: &str, builder: GatewayBuilder, mock: &Mock) {
    let count = size(400, 100_000);
    let gateway = builder.run().await;
    let began = Instant::now();
    let load = ProofLoad::start(&gateway, 0..count as u64, 3, Duration::ZERO);
    assert_eq!(load.end().await, (count, 0));
    let took = began.elapsed();
    books_agree(&gateway, mock, count).await;
    println!(
        "random usage, {name}: {count} requests in {took:?}; {} models, {USERS} users and the day \
         agree with the meter: {}",
        mock.meter.totals().models.len(),
        metered_totals(mock, |_| true).0
    );
    verifies(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_usage_agrees_on_sqlite() {
    let mock = mock().await;
    random_usage("sqlite", priced_by_user(&mock), &mock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_usage_agrees_on_postgres() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let mock = mock().await;
    let builder = priced_by_user(&mock).set("/store", json!({ "url": server.database("router") }));
    random_usage("postgresql", builder, &mock).await;
}

/// Every request in the ledger by its id: how often it is there, and whether it is complete.
async fn list_requests(gateway: &Gateway) -> HashMap<String, Vec<bool>> {
    let mut found: HashMap<String, Vec<bool>> = HashMap::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/requests?limit=500{cursor}");
        let page = gateway.admin(&path, None).await.json();
        for item in page["items"].as_array().unwrap() {
            let id = item["id"].as_str().unwrap().to_owned();
            found.entry(id).or_default().push(item["complete"] == true);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_lose_nothing_and_bill_nothing_twice() {
    let rounds = size(3, 50);
    let mock = mock_with(llm_router_mock::MockConfig {
        log_capacity: 1 << 20,
        ..llm_router_mock::MockConfig::default()
    })
    .await;
    let mut gateway = priced_by_user(&mock).run().await;
    let mut first = 0;
    for _ in 0..rounds {
        let load = ProofLoad::start(&gateway, first..u64::MAX, 30, Duration::ZERO);
        let moment = Duration::from_millis(fastrand::u64(100..900));
        tokio::time::sleep(moment).await;
        gateway.kill_and_restart().await;
        let (answered, failed) = load.stop().await;
        // Ids are used once, whatever became of them.
        first += (answered + failed + WORKERS) as u64;
    }
    eventually("the mock is at rest", || async {
        mock.meter.totals().open_requests == 0
    })
    .await;
    let total = cost(&gateway, "current").await["total"].clone();
    let listed = list_requests(&gateway).await;
    let records = mock.meter.requests(usize::MAX, |_| true);
    let mut complete = 0;
    for record in &records {
        let id = record.request_id.as_deref().unwrap();
        let entries = listed.get(id).unwrap_or_else(|| panic!("{id} is lost"));
        assert_eq!(entries.len(), 1, "{id} is there twice");
        complete += usize::from(entries[0]);
    }
    assert!(listed.values().all(|entries| entries.len() == 1));
    assert_eq!(total["requests"], listed.len());
    println!(
        "crashes: {rounds} rounds of kill -9; {} attempts metered, {complete} settled complete, {} \
         interrupted, 0 lost, 0 twice; {} more were journalled and never reached the provider",
        records.len(),
        records.len() - complete,
        listed.len() - records.len(),
    );
    verifies(gateway).await;
}

/// Resident memory of a process in MiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|text| text.parse().ok())
        .unwrap();
    kib / 1024
}

async fn outage(name: &str, server: &mut Postgres, paused: bool) {
    let away = Duration::from_secs(size(3, 60) as u64);
    let mock = mock().await;
    let url = server.database(name);
    let gateway = priced_by_user(&mock)
        .set("/store", json!({ "url": url }))
        .run()
        .await;
    let load = ProofLoad::start(&gateway, 0..u64::MAX, 3, Duration::from_millis(40));
    tokio::time::sleep(away / 6).await;
    let before = memory(gateway.pid());
    if paused {
        server.pause();
    } else {
        server.stop();
    }
    let began = Instant::now();
    let mut most = before;
    while began.elapsed() < away {
        tokio::time::sleep(Duration::from_millis(200)).await;
        most = most.max(memory(gateway.pid()));
    }
    if paused {
        server.resume();
    } else {
        server.run();
    }
    let back = Instant::now();
    let waiting = load.answered.load(Relaxed);
    eventually_within(Duration::from_secs(60), || async {
        let answer = gateway.admin("/api/v1/cost/current", None).await;
        answer.status == 200 && answer.json()["total"]["requests"].as_u64() >= Some(waiting as u64)
    })
    .await;
    let caught_up = back.elapsed();
    let (answered, failed) = load.stop().await;
    assert_eq!(failed, 0, "requests failed while the store was away");
    books_agree(&gateway, &mock, answered).await;
    assert!(
        most < before + 100,
        "memory grew from {before} to {most} MiB"
    );
    println!(
        "{name}: the store was away for {away:?}; {answered} requests answered, 0 failed, memory \
         {before} MiB before, at most {most} MiB; caught up {caught_up:?} after it was back"
    );
    verifies(gateway).await;
}

async fn eventually_within<F: Future<Output = bool>>(
    longest: Duration,
    mut holds: impl FnMut() -> F,
) {
    let deadline = Instant::now() + longest;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {longest:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_store_fails_no_request() {
    if let Some(mut server) = Postgres::start() {
        outage("stopped", &mut server, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_store_fails_no_request() {
    if let Some(mut server) = Postgres::start() {
        outage("paused", &mut server, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_speaks_tls() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let root = server.speak_tls();
    server.stop();
    server.run();
    let url = server.database("secret");
    let mock = mock().await;
    let verified = format!("{url}?sslmode=verify-full&sslrootcert={}", root.display());
    for url in [format!("{url}?sslmode=require"), verified] {
        let builder = priced_by_user(&mock).set("/store", json!({ "url": url }));
        let gateway = builder.run().await;
        let load = ProofLoad::start(&gateway, 0..100, 3, Duration::ZERO);
        assert_eq!(load.end().await, (100, 0));
        let requests = mock.meter.totals().requests;
        books_agree(&gateway, &mock, usize::try_from(requests).unwrap()).await;
        verifies(gateway).await;
    }
    let unknown = priced_by_user(&mock).set(
        "/store",
        json!({ "url": format!("{url}?sslmode=verify-full") }),
    );
    let told = unknown.fails_to_start();
    assert!(told.contains("certificate verify failed"), "{told}");
}
