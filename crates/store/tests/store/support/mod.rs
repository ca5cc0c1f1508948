//! Shared helpers of this package's tests: a PostgreSQL server of their own and random entries.

pub(crate) mod postgres;

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use llm_router_domain::bill::{Billing, PriceRef};
use llm_router_domain::format::Format;
use llm_router_domain::inexact::{Reason, Reasons};
use llm_router_domain::ledger::{
    AttemptEnd, AttemptOutcome, AttemptStart, Disconnect, LedgerEntry, OpenEntry, RouteExplanation,
    Timings,
};
use llm_router_domain::price::Cost;
use llm_router_domain::usage::{
    Class, EstimateMethod, Fee, ServiceTier, ShortName, Usage, UsagePart, UsageSource,
};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::support::postgres::Postgres;

/// Numbers that look random and are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.below(items.len() as u64)).unwrap()]
    }
}

pub(crate) fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// A version 7 UUID of a moment, unique by `salt`.
pub(crate) fn id(at: Timestamp, salt: u64) -> Uuid {
    let millis = u64::try_from(at.as_millisecond()).unwrap();
    let mut bytes = [0_u8; 10];
    bytes[2..].copy_from_slice(&salt.to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
}

pub(crate) fn usage(random: &mut Random) -> Usage {
    let mut usage = Usage::default();
    for class in Class::ALL {
        if random.below(3) == 0 {
            usage.set(class, random.below(100_000));
        }
    }
    for fee in Fee::ALL {
        if random.below(4) == 0 {
            usage.set_uses(fee, random.below(3));
        }
    }
    usage.inference_geo = random.pick(&[ShortName::EMPTY, ShortName::new("us")]);
    usage.speed = random.pick(&[ShortName::EMPTY, ShortName::new("fast")]);
    usage.search_context = random.pick(&[ShortName::EMPTY, ShortName::new("high")]);
    usage.thinking = random.below(2) == 0;
    usage.reported_cost = random.pick(&[None, Some(Decimal::new(167, 4))]);
    usage.inexact = reasons(random);
    usage.service_tier = random.pick(&[
        ServiceTier::STANDARD,
        ServiceTier::FLEX,
        ServiceTier::PRIORITY,
        ServiceTier::BATCH,
        ServiceTier::from_name("ultrafast"),
    ]);
    if random.below(5) == 0 {
        usage.source = UsageSource::Estimated(random.pick(&[
            EstimateMethod::Tokenizer,
            EstimateMethod::TextLength,
            EstimateMethod::Reservation,
        ]));
    }
    usage
}

pub(crate) fn cost(random: &mut Random) -> Cost {
    if random.below(10) == 0 {
        Cost::Unpriced
    } else {
        let digits = i64::try_from(random.below(1_000_000_000_000_000)).unwrap();
        Cost::Usd(Decimal::new(digits, 15).normalize())
    }
}

/// An attempt at a random moment of the `days` after [`start`].
pub(crate) fn attempt(random: &mut Random, days: u64) -> AttemptStart {
    let micros = random.below(days * 86_400_000_000);
    let at = start() + SignedDuration::from_micros(i64::try_from(micros).unwrap());
    let name = |kind: &str, number: u64| format!("{kind}-{number}").into_boxed_str();
    let maybe = |yes: bool, text: Box<str>| yes.then_some(text);
    let (owner, salt) = (random.below(5), random.next());
    AttemptStart {
        id: id(at, salt),
        request_id: name("req", salt),
        number: 1,
        at,
        key: name("key", owner * 3 + random.below(3)),
        owner: name("team", owner),
        end_user: maybe(random.below(2) == 0, name("user", random.below(20))),
        format: random.pick(&[
            Format::OpenAiChat,
            Format::OpenAiResponses,
            Format::AnthropicMessages,
            Format::Gemini,
        ]),
        model_asked: "auto".into(),
        model: maybe(random.below(2) == 0, "fast".into()),
        provider: name("provider", random.below(3)),
        deployment: name("model", random.below(8)),
        rule: maybe(random.below(3) == 0, "größe ☃".into()),
        stream: random.below(2) == 0,
        revision: random.below(1_000),
    }
}

pub(crate) fn random_open_entry(random: &mut Random, days: u64) -> OpenEntry {
    OpenEntry {
        attempt: attempt(random, days),
        estimate: usage(random),
        cost: cost(random),
    }
}

pub(crate) fn outcome(random: &mut Random) -> AttemptOutcome {
    let time = |random: &mut Random| {
        (random.below(2) == 0).then(|| u32::try_from(random.below(60_000_000)).unwrap())
    };
    AttemptOutcome {
        usage: usage(random),
        cost: cost(random),
        billing: billing(random),
        status: random.pick(&[0, 200, 429, 500]),
        error: (random.below(4) == 0).then(|| "upstream_timeout".into()),
        timings: Timings {
            queue: time(random),
            connect: time(random),
            first_token: time(random),
            total: time(random),
        },
        ending: random.pick(&AttemptEnd::ALL),
        disconnect: random.pick(&[None, Some(Disconnect::Cancel), Some(Disconnect::Drain)]),
        last: true,
        // Out of numbers of its own: what the rest is made of stays as it is.
        explanation: explanation(&mut Random(random.0)),
    }
}

fn reasons(random: &mut Random) -> Reasons {
    let all: Vec<Reason> = Reason::all().collect();
    let some = (0..random.below(3)).map(|_| random.pick(&all));
    some.collect()
}

fn billing(random: &mut Random) -> Billing {
    let mut part = usage(random);
    part.source = UsageSource::Reported;
    let price = PriceRef {
        table: "built-in \"1\"".into(),
        entry: "openai/größe".into(),
        from: random.pick(&[None, Some(date(2026, 1, 1))]),
    };
    Billing {
        parts: (0..random.below(2))
            .map(|_| UsagePart {
                model: "claude-opus-4-8".into(),
                usage: part,
            })
            .collect(),
        served_model: (random.below(2) == 0).then(|| "gpt-4.1-2025-04-14".into()),
        inexact: reasons(random),
        price: (random.below(2) == 0).then_some(price),
        costs: (0..random.below(3))
            .map(|number| (format!("input {number}").into(), Decimal::new(105, 4)))
            .collect(),
    }
}

fn explanation(random: &mut Random) -> Option<Box<RouteExplanation>> {
    if random.below(3) > 0 {
        return None;
    }
    let mut explanation = RouteExplanation::new("`größe` is found in last_user");
    for number in 0..random.below(4) {
        explanation.add_candidate(format!("provider-{number}/model"));
        explanation.leave_out(format!("provider-{number}/other"), "its health checks fail");
    }
    Some(Box::new(explanation))
}

pub(crate) fn entry(random: &mut Random, days: u64) -> LedgerEntry {
    LedgerEntry {
        attempt: attempt(random, days),
        outcome: outcome(random),
    }
}

pub(crate) fn entries(seed: u64, count: usize, days: u64) -> Vec<LedgerEntry> {
    let mut random = Random(seed);
    (0..count).map(|_| entry(&mut random, days)).collect()
}

/// A place that makes empty stores, and changes them behind their backs.
pub(crate) enum StorePlace {
    Sqlite(tempfile::TempDir),
    Postgres(Postgres),
}

impl StorePlace {
    pub(crate) fn url(&self, name: &str) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite:{}", folder.path().join(name).display()),
            Self::Postgres(server) => server.database(name),
        }
    }

    pub(crate) fn tamper(&self, name: &str, sql: &str) {
        match self {
            Self::Sqlite(folder) => {
                let connection = rusqlite::Connection::open(folder.path().join(name)).unwrap();
                connection.execute(sql, []).unwrap();
            }
            Self::Postgres(server) => server.sql(name, sql),
        }
    }
}
