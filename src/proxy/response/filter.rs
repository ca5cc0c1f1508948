//! An upstream's answer on its way to the client: its header, then its bytes as they come. What a
//! failure in it means is told by [`failure`](crate::proxy::attempt::outcome), how bytes are read by
//! [`response`](crate::proxy::response::stream).

use std::mem;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use llm_router_domain::format::{Endpoint, Format};
use llm_router_domain::retry::{Ending, Fault, Health, Next};
use pingora::http::ResponseHeader;
use pingora::{Error, Result};

use crate::clock;
use crate::proxy::attempt::headers::{self, Marks};
use crate::proxy::attempt::ledger_entry::EntryDraft;
use crate::proxy::attempt::outcome::{Failure, Refusal};
use crate::proxy::attempt::translation::{Answer, Progress};
use crate::proxy::context::{Context, Inference};
use crate::proxy::downstream::exchange::ResponseGate;
use crate::proxy::gateway::{Gateway, TRY_NEXT};
use crate::proxy::request::limit;
use crate::proxy::response::stream::{
    ERROR_BODY_LIMIT, Response, Stream, Verdict, begins_with_error, redact,
};
use crate::snapshot::Provider;

impl Gateway {
    /// The upstream's header came: decides what becomes of the answer.
    pub(crate) fn response_began(
        &self,
        header: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        if header.status.is_informational() {
            return Ok(());
        }
        let (Some(exchange), Some(inference)) = (&ctx.exchange, ctx.inference.as_deref_mut())
        else {
            return Ok(());
        };
        let Some(provider) = inference.deployment().map(|found| found.provider.clone()) else {
            return Ok(());
        };
        let now = clock::now();
        exchange.progress(now, provider.timeouts.idle);
        inference.attempt.answered = true;
        let stream = is_event_stream(header);
        let filter = stream && inference.ask.is_some() && inference.translated().is_none();
        if let Some(tab) = inference.tab.as_deref_mut() {
            let free = inference.endpoint == Endpoint::CountTokens;
            tab.responded(header.status.as_u16(), stream, filter, free);
        }
        let refusal = Refusal::of(header);
        let verdict = refusal.ending(false).verdict();
        if verdict.next == Next::NextCandidate {
            return self.candidate_refused(refusal, inference, exchange);
        }
        if header.status.is_client_error() {
            self.tell_circuit(inference, verdict.health, refusal.wait());
            inference.attempt.told = true;
        }
        inference.first_byte = Some(now);
        let answer = Answer::new(inference, header.status.as_u16(), stream);
        inference.response = if let Some(answer) = answer {
            answer.adapt(header)?;
            exchange.set_hold(ResponseGate::Judge);
            Response::Translated(Box::new(answer))
        } else if header.status.is_client_error() {
            exchange.set_hold(ResponseGate::Judge);
            Response::Refusal(BytesMut::new())
        } else if stream {
            if header
                .headers
                .get(CONTENT_LENGTH)
                .is_some_and(|length| length != "0")
            {
                // What is taken out of a stream or added to its end would not fit its length.
                header.remove_header(&CONTENT_LENGTH);
                header.insert_header(TRANSFER_ENCODING, "chunked")?;
            }
            exchange.set_hold(ResponseGate::Judge);
            Response::Stream(Box::default())
        } else if has_type(header, "application/json") {
            exchange.set_hold(ResponseGate::Judge);
            Response::Opening(BytesMut::new())
        } else {
            inference.forget_body();
            Response::Plain
        };
        ctx.answered = Some((header.status.as_u16(), None));
        mark(header, inference, &provider, &ctx.request_id)?;
        limit::tell(header, ctx)
    }

    /// The answer ended in a form that carries no bytes: lets go of those that were held.
    pub(crate) fn response_ended(&self, ctx: &mut Context) -> Result<()> {
        let mut rest = None;
        self.response_continued(&mut rest, true, ctx)?;
        if let (Some(exchange), Some(rest)) = (&ctx.exchange, rest.filter(|rest| !rest.is_empty()))
        {
            exchange.put_tail(rest);
        }
        Ok(())
    }

    /// More of the answer came, or its end.
    pub(crate) fn response_continued(
        &self,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        let format = ctx.format();
        let (Some(exchange), Some(inference)) = (&ctx.exchange, ctx.inference.as_deref_mut())
        else {
            return Ok(());
        };
        let Some(deployment) = inference.deployment() else {
            return Ok(());
        };
        let provider = Arc::clone(&deployment.provider);
        let now = clock::now();
        exchange.progress(now, provider.timeouts.idle);
        if let Some(tab) = inference.tab.as_deref_mut() {
            tab.pass(body, end, now);
        }
        match &mut inference.response {
            Response::Plain => {}
            Response::Opening(held) => {
                held.extend_from_slice(&body.take().unwrap_or_default());
                match begins_with_error(held) {
                    None if !end => {}
                    Some(true) => {
                        let held = mem::take(held);
                        return self.error_body_began(held, end, inference, exchange);
                    }
                    _ => {
                        *body = Some(mem::take(held).freeze());
                        inference.response = Response::Plain;
                        inference.forget_body();
                        exchange.set_hold(ResponseGate::Pass);
                    }
                }
            }
            Response::Stream(stream) if stream.passes_untouched(body.as_deref(), end) => {}
            Response::Stream(stream) => {
                match pass_events(stream, body, end, format) {
                    Verdict::Failed(status) => {
                        let ending = Ending::ErrorFirst(Fault::of_status(status));
                        let failure = Failure::ErrorEvent(status);
                        if self.attempt_ended(inference, failure, ending, None) {
                            return Error::err_up(TRY_NEXT);
                        }
                        clean(body, &provider);
                    }
                    // Comments say that the provider lives, which matters where none is next.
                    Verdict::Wait if !end && (body.is_none() || inference.may_go_on(now)) => {
                        return Ok(());
                    }
                    _ => {}
                }
                inference.forget_body();
                exchange.set_hold(ResponseGate::Pass);
            }
            Response::Translated(_) => {
                return self.translation_continued(body, end, &provider, ctx);
            }
            Response::Refusal(held) => {
                if hold(held, body, end) {
                    clean(body, &provider);
                    inference.forget_body();
                    exchange.set_hold(ResponseGate::Pass);
                }
            }
            Response::Failed(held) => {
                if let Some(chunk) = body.take() {
                    let room = ERROR_BODY_LIMIT.saturating_sub(held.len()).min(chunk.len());
                    held.extend_from_slice(&chunk[..room]);
                }
                if end || held.len() >= ERROR_BODY_LIMIT {
                    self.refusal_ended(inference);
                    return Error::err_up(TRY_NEXT);
                }
            }
        }
        self.answer_passed(inference, end);
        Ok(())
    }

    /// Tells the circuit of an answer that the client is being sent: of its first content, or of
    /// its end if it has none.
    fn answer_passed(&self, inference: &mut Inference, end: bool) {
        let answers = matches!(
            inference.response,
            Response::Plain | Response::Stream(_) | Response::Translated(_)
        );
        if !answers || inference.attempt.counted || inference.attempt.told {
            return;
        }
        let tab = inference.tab.as_deref();
        if tab.is_some_and(EntryDraft::content_began) {
            self.content_began(inference);
        } else if end {
            self.tell_circuit(inference, Health::Good, None);
        }
    }
}

impl Gateway {
    /// More of an answer in another format came, or its end.
    fn translation_continued(
        &self,
        body: &mut Option<Bytes>,
        end: bool,
        provider: &Provider,
        ctx: &mut Context,
    ) -> Result<()> {
        let (Some(exchange), Some(inference)) = (&ctx.exchange, ctx.inference.as_deref_mut())
        else {
            return Ok(());
        };
        let Response::Translated(answer) = &mut inference.response else {
            return Ok(());
        };
        let passed = match answer.take(body.take(), end) {
            Progress::Wait => return Ok(()),
            Progress::Pass(passed) => passed,
            Progress::Refused(status, passed) => {
                exchange.set_status(status);
                ctx.answered = Some((status, None));
                cleaned(passed, provider)
            }
            Progress::BrokenOff(passed) => {
                ctx.broke_off = Some("upstream_error");
                self.tell_circuit(inference, Ending::BrokenLate.verdict().health, None);
                cleaned(passed, provider)
            }
            Progress::Failed(status, said) => {
                let failure = Failure::Unusable { status, said };
                let ending = Ending::ErrorFirst(Fault::of_status(status));
                self.attempt_ended(inference, failure, ending, None);
                return Error::err_up(TRY_NEXT);
            }
        };
        if end || !passed.is_empty() {
            *body = Some(passed);
        }
        inference.forget_body();
        exchange.set_hold(ResponseGate::Pass);
        self.answer_passed(inference, end);
        Ok(())
    }
}

fn cleaned(bytes: Bytes, provider: &Provider) -> Bytes {
    let mut body = Some(bytes);
    clean(&mut body, provider);
    body.unwrap_or_default()
}

fn is_event_stream(header: &ResponseHeader) -> bool {
    has_type(header, "text/event-stream")
}

fn has_type(header: &ResponseHeader, name: &str) -> bool {
    header.headers.get(CONTENT_TYPE).is_some_and(|value| {
        let start = value.as_bytes().get(..name.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    })
}

fn mark(
    header: &mut ResponseHeader,
    inference: &Inference,
    provider: &Provider,
    request_id: &str,
) -> Result<()> {
    let model = inference
        .deployment()
        .map_or("", |deployment| &deployment.model);
    let attempts = inference.attempts;
    headers::for_client(
        header,
        provider,
        &Marks {
            request_id,
            provider: &provider.id,
            model,
            rule: inference.route.rule.as_deref(),
            attempts,
            dropped: inference.dropped(),
        },
    )
}

/// Lets whole events through.
fn pass_events(
    stream: &mut Stream,
    body: &mut Option<Bytes>,
    end: bool,
    format: Format,
) -> Verdict {
    let mut chunk = body.take().unwrap_or_default();
    let verdict = stream.pass(&mut chunk, format);
    if end && let Some(rest) = stream.rest() {
        // The upstream ended its stream without a last blank line, in its own right.
        chunk = if chunk.is_empty() {
            rest
        } else {
            [chunk, rest].concat().into()
        };
    }
    if end || !chunk.is_empty() {
        *body = Some(chunk);
    }
    verdict
}

/// Holds an error body until it is whole or too long; true when it may go.
fn hold(held: &mut BytesMut, body: &mut Option<Bytes>, end: bool) -> bool {
    if let Some(chunk) = body.take() {
        held.extend_from_slice(&chunk);
    }
    let ready = end || held.len() > ERROR_BODY_LIMIT;
    if ready {
        *body = Some(held.split().freeze());
    }
    ready
}

/// Overwrites our secrets in what a client is shown.
pub(crate) fn clean(body: &mut Option<Bytes>, provider: &Provider) {
    let Some(bytes) = body.as_mut().filter(|_| !provider.secrets.is_empty()) else {
        return;
    };
    let mut cleaned = BytesMut::from(mem::take(bytes));
    for secret in &provider.secrets {
        redact(&mut cleaned, secret);
    }
    *bytes = cleaned.freeze();
}
