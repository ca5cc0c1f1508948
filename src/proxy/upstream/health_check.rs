//! Health checks of providers: made by the clock or when asked for, with what Pingora has for one
//! address. What follows from them is [`health`](crate::health)'s. They are no attempts: nothing is
//! journalled or billed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, StatusCode};
use pingora::http::RequestHeader;
use pingora::lb::health_check::{HealthCheck as _, HttpHealthCheck};
use pingora::{Error, ErrorType, Result};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock;
use crate::health::{Checked, Health};
use crate::proxy::attempt::headers::authorize;
use crate::proxy::describe;
use crate::proxy::upstream::Upstream;
use crate::proxy::upstream::live::{Live, SharedLive};
use crate::snapshot::CompiledProvider;

/// Interval at which due checks are looked for.
const TICK: Duration = Duration::from_millis(250);

/// Checks the providers that ask for it, each at its interval, until the task is dropped.
pub(crate) async fn keep_checked(live: SharedLive, health: Arc<Health>) {
    let mut ticks = tokio::time::interval(TICK);
    let mut due: HashMap<String, Instant> = HashMap::new();
    let mut running = JoinSet::new();
    let mut applied: Option<Arc<Live>> = None;
    loop {
        ticks.tick().await;
        while running.try_join_next().is_some() {}
        let now = clock::now();
        let current = live.load_full();
        // A changed secret is a new snapshot of the same revision.
        if !applied
            .as_ref()
            .is_some_and(|last| Arc::ptr_eq(last, &current))
        {
            applied = Some(Arc::clone(&current));
            health.apply(&current.snapshot, now);
            due.retain(|id, _| current.snapshot.provider(id).is_some());
        }
        for provider in &current.snapshot.providers {
            let Some(interval) = provider.health_check.interval else {
                continue;
            };
            let is_due = due.get(&provider.id).is_none_or(|at| *at <= now);
            if is_due {
                due.insert(provider.id.clone(), now + interval);
                let (live, health) = (Arc::clone(&live), Arc::clone(&health));
                let id = provider.id.clone();
                running.spawn(async move { check_now(&live, &health, &id).await });
            }
        }
    }
}

/// Checks a provider now, by the configuration in force. `None` if there is none of that id.
pub(crate) async fn check_now(live: &SharedLive, health: &Health, id: &str) -> Option<Checked> {
    let current = live.load_full();
    let (index, provider) = current.snapshot.provider(id)?;
    let checked = check(current.upstreams.get(index)?, provider).await;
    note(&current, health, provider, checked.clone());
    Some(checked)
}

fn note(live: &Live, health: &Health, provider: &CompiledProvider, checked: Checked) {
    let Checked {
        at,
        healthy,
        latency,
        status,
        error,
    } = &checked;
    let healthy = *healthy;
    let latency_ms = latency.as_millis();
    let id = &provider.id;
    tracing::debug!(
        provider = id,
        ?at,
        healthy,
        latency_ms,
        status,
        error,
        "checked"
    );
    if health.note(provider, checked) && provider.health_check.interval.is_some() {
        if healthy {
            tracing::info!(provider = id, "provider is healthy again");
        } else {
            let latest = health.history(id);
            let error = latest.last().and_then(|last| last.error.as_deref());
            tracing::warn!(
                provider = id,
                error,
                "health checks failed; provider marked unhealthy"
            );
        }
    }
    health.apply_to(provider, &live.snapshot.states, clock::now());
}

async fn check(upstream: &Upstream, provider: &CompiledProvider) -> Checked {
    let (at, begun) = (clock::wall(), clock::now());
    let status = Arc::new(AtomicU16::new(0));
    let checking = timeout(
        provider.health_check.timeout,
        ask(upstream, provider, &status),
    );
    let error = match checking.await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(describe(&error)),
        Err(_) => Some(format!(
            "no answer within {} s",
            provider.health_check.timeout.as_secs_f64()
        )),
    };
    let status = status.load(Relaxed);
    Checked {
        at,
        healthy: error.is_none(),
        latency: clock::now().saturating_duration_since(begun),
        status: (status > 0).then_some(status),
        error,
    }
}

/// Asks one address after the other, until one answers well.
async fn ask(
    upstream: &Upstream,
    provider: &CompiledProvider,
    status: &Arc<AtomicU16>,
) -> Result<()> {
    let template = upstream.peer(&provider.timeouts).await?;
    let check = http_check(*template, request(provider)?, status);
    let mut last = Error::err(ErrorType::ConnectNoRoute);
    for address in upstream.addresses() {
        last = check.check(&address).await;
        if last.is_ok() {
            break;
        }
    }
    last
}

fn http_check(
    peer: pingora::upstreams::peer::HttpPeer,
    request: RequestHeader,
    status: &Arc<AtomicU16>,
) -> HttpHealthCheck {
    let mut check = HttpHealthCheck::new("", false);
    check.peer_template = peer;
    check.req = request;
    let status = Arc::clone(status);
    check.validator = Some(Box::new(move |header| {
        status.store(header.status.as_u16(), Relaxed);
        // Who says that we ask too often is alive.
        let well = header.status.is_success() || header.status == StatusCode::TOO_MANY_REQUESTS;
        if well {
            return Ok(());
        }
        let answered = format!("the answer was {}", header.status.as_u16());
        Error::e_explain(ErrorType::HTTPStatus(header.status.as_u16()), answered)
    }));
    check
}

fn request(provider: &CompiledProvider) -> Result<RequestHeader> {
    let path = format!("{}{}", provider.base_path, provider.health_check.path);
    let mut request = RequestHeader::build("GET", path.as_bytes(), None)?;
    request.insert_header(HOST, provider.host_header.clone())?;
    request.insert_header(ACCEPT, HeaderValue::from_static("application/json"))?;
    request.insert_header(USER_AGENT, HeaderValue::from_static("llm-router"))?;
    for (name, value) in &provider.extra_headers {
        request.insert_header(name.clone(), value.clone())?;
    }
    authorize(&mut request, provider, &provider.health_check.path, &[])?;
    Ok(request)
}
