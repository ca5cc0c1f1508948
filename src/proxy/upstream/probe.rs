//! Asks a provider something of the router's own: is it well, which models does it have. When that
//! is asked, and what follows from the answer, is decided elsewhere.

use std::time::Duration;

use bytes::BytesMut;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use tokio::time::timeout;

use crate::proxy::attempt::headers::{UpstreamTarget, for_provider};
use crate::proxy::describe;
use crate::proxy::upstream::live::Live;

/// A provider's answer.
pub(crate) struct Probed {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// The largest answer that is read.
const MOST: usize = 4 * 1024 * 1024;

impl Live {
    /// Asks a provider for a path below its base URL, with its credential.
    ///
    /// # Errors
    /// Why there was no answer, for people to read.
    pub(crate) async fn probe(
        &self,
        id: &str,
        path: &str,
        limit: Duration,
    ) -> Result<Probed, String> {
        let found = |index: &usize| {
            let provider = self.snapshot.providers.get(*index);
            provider.is_some_and(|provider| provider.id == id)
        };
        let index = (0..self.snapshot.providers.len()).find(found);
        let index = index.ok_or("the provider is disabled")?;
        match timeout(limit, self.exchange(index, path)).await {
            Ok(answer) => answer.map_err(|error| describe(&error)),
            Err(_) => Err(format!("no answer within {} s", limit.as_secs_f64())),
        }
    }

    async fn exchange(&self, index: usize, path: &str) -> pingora::Result<Probed> {
        let (Some(provider), Some(upstream)) = (
            self.snapshot.providers.get(index),
            self.upstreams.get(index),
        ) else {
            return pingora::Error::err(pingora::ErrorType::InternalError);
        };
        let peer = upstream.peer(&provider.timeouts).await?;
        let mut header = RequestHeader::build("GET", path.as_bytes(), None)?;
        let target = UpstreamTarget {
            path: path.into(),
            request_id: None,
            format: None,
        };
        for_provider(&mut header, provider, &target, &[])?;
        // A connection of its own: what is to be known is whether a new one can be had.
        let connector = Connector::new(None);
        let (mut session, _) = connector.get_http_session(&*peer).await?;
        session.set_read_timeout(Some(provider.timeouts.first_byte));
        session.write_request_header(Box::new(header)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session
            .response_header()
            .map_or(0, |header| header.status.as_u16());
        let mut body = BytesMut::new();
        while let Some(chunk) = session.read_response_body().await? {
            if body.len() + chunk.len() > MOST {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        session.shutdown().await;
        Ok(Probed {
            status,
            body: body.to_vec(),
        })
    }
}
