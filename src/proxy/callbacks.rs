//! The callbacks of Pingora: each hands plain values to a phase and turns its answer into bytes.
//! Decisions belong to the phases.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use crate::proxy::attempt;
use crate::proxy::context::Context;
use crate::proxy::gateway::Gateway;
use crate::proxy::response::keep_alive;

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::default()
    }

    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {
        // Bytes pass as they are: no compression module.
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        self.accept(session, ctx);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        self.receive(session, ctx).await
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Context,
    ) -> Result<Box<HttpPeer>> {
        keep_alive::arm(ctx)?;
        let (Some(exchange), Some(inference)) = (&ctx.exchange, ctx.inference.as_deref_mut())
        else {
            return Error::err_in(ErrorType::InternalError);
        };
        self.begin(inference, exchange).await
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        match (ctx.inference.as_deref(), &ctx.exchange) {
            (Some(inference), Some(exchange)) => attempt::address(request, inference, exchange),
            _ => Ok(()),
        }
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::fd::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Context,
    ) -> Result<()> {
        if let Some(inference) = ctx.inference.as_deref_mut() {
            self.connected(inference, reused);
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Context,
        error: Box<Error>,
    ) -> Box<Error> {
        match ctx.inference.as_deref_mut() {
            Some(inference) => self.connect_failed(inference, error),
            None => error,
        }
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        client_reused: bool,
    ) -> Box<Error> {
        let written = session.response_written().is_some();
        let Some(inference) = ctx.inference.as_deref_mut() else {
            return error;
        };
        let failed = self.fail(inference, error, client_reused, written);
        ctx.client_gone |= failed.client_gone;
        failed.error
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        self.response_began(response, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        self.response_continued(body, end_of_stream, ctx)?;
        if end_of_stream {
            // Before the client sees the end, so that costs it asks for then include this one.
            self.settle_last(ctx);
        }
        Ok(None)
    }

    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        _trailers: &mut http::HeaderMap,
        ctx: &mut Context,
    ) -> Result<()> {
        self.response_ended(ctx)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        self.give_up(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        self.record(session, error, ctx);
    }

    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        // The access line tells of every request once, failures included.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Context,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
