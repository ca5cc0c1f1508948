//! An upstream's answer on its way to the client: its header, then its bytes as they come. What it
//! means for the attempt is [`attempt`](crate::proxy::attempt)'s.

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_ENCODING;
use llm_router_wire::answer_model::AnswerModel;
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::proxy::attempt::headers::{self, Marks};
use crate::proxy::attempt::inference::Inference;
use crate::proxy::attempt::{HeadVerdict, Passed};
use crate::proxy::context::Context;
use crate::proxy::gateway::Gateway;
use crate::proxy::response::limit_headers;

impl Gateway {
    /// The upstream's header came.
    pub(crate) fn response_began(
        &self,
        header: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let switches = header.status == StatusCode::SWITCHING_PROTOCOLS;
        if header.status.is_informational() && !switches {
            return Ok(());
        }
        let (Some(exchange), Some(inference)) = (&ctx.exchange, ctx.inference.as_deref_mut())
        else {
            return Ok(());
        };
        if self.head(inference, exchange, header)? == HeadVerdict::Withheld {
            return Ok(());
        }
        ctx.answer.status = Some((header.status.as_u16(), None));
        mark(header, inference)?;
        ctx.answer_model = name_model(header, inference)?;
        limit_headers::insert(header, ctx)
    }

    /// More of the answer came, or its end.
    pub(crate) fn response_continued(
        &self,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        let (Some(exchange), Some(inference)) = (&ctx.exchange, ctx.inference.as_deref_mut())
        else {
            return Ok(());
        };
        match self.chunk(inference, exchange, body, end)? {
            Passed::Bytes => {}
            Passed::Status(status) => ctx.answer.status = Some((status, None)),
            Passed::BrokenOff => ctx.answer.broke_off = Some("upstream_error"),
        }
        if let Some(model) = &mut ctx.answer_model {
            rename(model, body, end);
        }
        if end {
            // Before the client sees the end, so that costs it asks for then include this one.
            self.settle_last(ctx);
        }
        Ok(())
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

    /// Settles the attempt that the request ends with, unless that is done.
    pub(crate) fn settle_last(&self, ctx: &mut Context) {
        let end = ctx.end();
        if let Some(inference) = ctx.inference.as_deref_mut() {
            self.settle(inference, end);
        }
    }
}

/// Prepares an answer of which the client is to read the name that it asked for.
fn name_model(header: &mut ResponseHeader, inference: &Inference) -> Result<Option<AnswerModel>> {
    let coded = header.headers.contains_key(CONTENT_ENCODING);
    let Some(name) = inference.model_in_answers() else {
        return Ok(None);
    };
    if coded || !header.status.is_success() {
        return Ok(None);
    }
    let format = inference.request.endpoint.format();
    let model = if headers::has_type(header, "text/event-stream") {
        AnswerModel::events(format, name)
    } else if headers::has_type(header, "application/json") {
        AnswerModel::plain(name)
    } else {
        return Ok(None);
    };
    headers::open_length(header)?;
    Ok(Some(model))
}

/// Passes on what the client may be sent of an answer by now.
fn rename(model: &mut AnswerModel, body: &mut Option<Bytes>, end: bool) {
    let mut out = body
        .take()
        .map(|chunk| model.push(chunk))
        .unwrap_or_default();
    if end {
        let rest = model.end();
        if !rest.is_empty() {
            out = [out, rest].concat().into();
        }
    }
    if end || !out.is_empty() {
        *body = Some(out);
    }
}

/// Turns a provider's header into the client's.
///
/// # Errors
/// When a header can't be set.
pub(crate) fn mark(header: &mut ResponseHeader, inference: &Inference) -> Result<()> {
    let Some(deployment) = inference.deployment() else {
        return Ok(());
    };
    let request = &inference.request;
    headers::for_client(
        header,
        &deployment.provider,
        &Marks {
            request_id: &request.id,
            provider: &deployment.provider.id,
            model: &deployment.model,
            rule: request.rule.as_deref(),
            attempts: inference.attempts.begun,
            dropped: inference.dropped_fields(),
        },
    )
}
