//! Accept: pins the configuration, gives the request its id and begins its trace.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::HeaderMap;
use llm_router_config::Server;
use llm_router_domain::format::Endpoint;
use pingora::proxy::Session;

use crate::clock;
use crate::proxy::context::{Context, new_request_id};
use crate::proxy::downstream::exchange::Arrival;
use crate::proxy::gateway::Gateway;
use crate::telemetry::traces::Trace;

impl Gateway {
    /// Pins the configuration and gives the request its id.
    pub(crate) fn accept(&self, session: &mut Session, ctx: &mut Context) {
        let arrival = Arrival::take(session.req_header_mut());
        ctx.arrived = Some(
            arrival
                .as_ref()
                .map_or_else(clock::now, |arrival| arrival.at),
        );
        ctx.exchange = arrival.map(|arrival| arrival.exchange);
        let live = self.live.load_full();
        ctx.client = client_address(session, &live.snapshot.server);
        ctx.live = Some(live);
        ctx.in_flight = Some(self.metrics.begin());
        ctx.request_id = client_request_id(&session.req_header().headers)
            .map_or_else(|| new_request_id().into(), Into::into);
    }

    /// Begins the trace of a request that arrived at that moment, if traces are made.
    pub(crate) fn begin_trace(
        &self,
        headers: &HeaderMap,
        endpoint: Endpoint,
        arrived: Option<Instant>,
    ) -> Option<Box<Trace>> {
        let traces = self.traces.as_deref()?;
        let passed = arrived.map_or(Duration::ZERO, |arrived| {
            clock::now().saturating_duration_since(arrived)
        });
        let at = clock::wall().checked_sub(passed)?;
        Some(Box::new(traces.begin(headers, endpoint, at)))
    }
}

/// Returns the client's address, by the word of trusted proxies where there are some.
fn client_address(session: &Session, server: &Server) -> Option<IpAddr> {
    let connection = session.client_addr()?.as_inet()?.ip();
    let lines = session.req_header().headers.get_all("x-forwarded-for");
    let lines = lines.iter().filter_map(|line| line.to_str().ok());
    Some(server.trusted_proxies.client(connection, lines))
}

/// Returns the id that the client gave its request, if it is fit for headers, logs and file names.
fn client_request_id(headers: &HeaderMap) -> Option<&str> {
    const LONGEST: usize = 128;
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (!id.is_empty() && id.len() <= LONGEST && id.bytes().all(sane)).then_some(id)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn ids_of_clients_are_kept_if_they_are_fit_for_logs() {
        let long = "x".repeat(129);
        for (id, kept) in [
            ("req_1-2.3:4", true),
            ("", false),
            ("a b", false),
            ("a/b", false),
            (long.as_str(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_str(id).unwrap());
            assert_eq!(client_request_id(&headers).is_some(), kept, "{id}");
        }
    }
}
