//! Answers the client when every candidate failed or the answer under way broke off.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, ErrorSource, Result};

use crate::error::ApiError;
use crate::proxy::attempt::inference::Inference;
use crate::proxy::attempt::outcome::{Failure, ProviderReply};
use crate::proxy::attempt::redact::{clean, clean_text};
use crate::proxy::context::Context;
use crate::proxy::describe;
use crate::proxy::downstream::reply::{body_of, deliver, error_text, send_fault};
use crate::proxy::gateway::Gateway;
use crate::proxy::response::filter::mark;
use crate::proxy::response::limit_headers;
use crate::snapshot::CompiledProvider;

impl Gateway {
    /// Every attempt failed, or the one under way broke: tells the client, if it can be told.
    pub(crate) async fn give_up(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        if *error.esource() == ErrorSource::Downstream {
            ctx.client_gone = true;
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        }
        let fault = match ctx.inference.as_deref() {
            Some(inference) => {
                let provider = inference.deployment().map(|found| found.provider.as_ref());
                last_failure(inference, provider)
            }
            None => ApiError::internal(),
        };
        tracing::debug!(
            error = describe(error),
            request.id = &*ctx.request_id,
            "a request failed"
        );
        let waiting = ctx.exchange.as_ref().is_some_and(|one| one.head_sent());
        let begun = waiting || session.response_written().is_some();
        if begun {
            ctx.answer.status = ctx.answer.status.or(Some((200, None)));
        } else {
            ctx.answer.status = Some((fault.status, Some(fault.code)));
        }
        ctx.error_text = error_text(&fault);
        self.settle_last(ctx);
        let sent = if begun {
            self.break_off(session, ctx, &fault).await
        } else if let Some(reply) = take_reply(ctx) {
            send_reply(session, ctx, *reply).await.map(|()| true)
        } else {
            send_fault(session, ctx, &fault).await.map(|()| true)
        };
        match sent {
            Ok(complete) => ctx.answer.complete = complete,
            Err(error) => {
                tracing::debug!(%error, "the client could not be told of a failure");
                ctx.client_gone = true;
            }
        }
        FailToProxy {
            error_code: fault.status,
            can_reuse_downstream: false,
        }
    }

    /// Ends a stream that has begun with an error event, never as if it were complete; true if
    /// that is done. An answer that is no stream is cut off, which every client notices by its
    /// length.
    async fn break_off(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        fault: &ApiError,
    ) -> Result<bool> {
        let body = body_of(fault, &ctx.request_id);
        let inference = ctx.inference.as_deref_mut();
        let event = inference.and_then(|found| found.attempts.response.break_off(&body));
        let waiting = ctx.exchange.as_ref().is_some_and(|one| one.head_sent());
        let event = event.or_else(|| waiting.then(|| body.render_event(ctx.format())));
        let Some(event) = event else {
            return Ok(false);
        };
        let event = Some(event).filter(|event| !event.is_empty());
        if event.is_some() {
            ctx.answer.broke_off = Some(fault.code);
        }
        session.write_response_body(event, true).await?;
        Ok(true)
    }
}

/// Takes the answer of the only candidate, where it is the client's to see.
fn take_reply(ctx: &mut Context) -> Option<Box<ProviderReply>> {
    match &mut ctx.inference.as_deref_mut()?.attempts.failure {
        Some(Failure::Status { reply, .. }) => reply.take(),
        _ => None,
    }
}

/// Sends the answer of the only candidate as it came, but for our secrets.
async fn send_reply(session: &mut Session, ctx: &mut Context, reply: ProviderReply) -> Result<()> {
    let ProviderReply {
        head: mut header,
        body,
    } = reply;
    ctx.answer.status = Some((header.status.as_u16(), Some("upstream_error")));
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING] {
        header.remove_header(&name);
    }
    let mut body = Some(body);
    if let Some(inference) = ctx.inference.as_deref() {
        if let Some(deployment) = inference.deployment() {
            clean(&mut body, &deployment.provider);
        }
        mark(&mut header, inference)?;
    }
    limit_headers::remove_foreign(&mut header, ctx);
    header.insert_header("x-should-retry", "false")?;
    deliver(session, ctx, header, body.unwrap_or_default()).await
}

/// Returns the error for the client when every candidate failed.
fn last_failure(inference: &Inference, provider: Option<&CompiledProvider>) -> ApiError {
    let name = provider.map_or("The provider", |provider| &provider.id);
    match &inference.attempts.failure {
        Some(Failure::Status {
            status,
            retry_after,
            said,
            details,
            ..
        }) => {
            let said = said.clone().map(|said| match provider {
                Some(provider) => clean_text(said, provider),
                None => said,
            });
            let message = match said {
                Some(said) => format!("{name} answered {status}: {said}"),
                None => format!("{name} answered {status}."),
            };
            // A redirect, or a status that HTTP doesn't know, is no use to a client.
            let shown = if (400..600).contains(status) {
                *status
            } else {
                502
            };
            ApiError {
                retry_after: retry_after.clone(),
                details: details.clone(),
                ..ApiError::upstream_error(shown, message)
            }
        }
        Some(Failure::Silent(waited)) => ApiError::upstream_timeout(name, *waited),
        Some(Failure::ErrorFirst { status, said }) => {
            let said = said.clone().map(|said| match provider {
                Some(provider) => clean_text(said, provider),
                None => said,
            });
            let message = match said {
                Some(said) => format!("{name} answered with an error: {said}"),
                None => format!("{name} answered with an error."),
            };
            ApiError::upstream_error(*status, message)
        }
        Some(Failure::Account { account, .. }) => ApiError::provider_auth(name, *account),
        Some(Failure::NoAnswer(why)) => {
            ApiError::upstream_error(502, format!("{name} sent no answer: {why}."))
        }
        Some(Failure::Untranslatable(error)) => ApiError::untranslatable(error),
        Some(Failure::Connection(kind)) => {
            ApiError::upstream_error(502, format!("The connection to {name} failed ({kind})."))
        }
        Some(Failure::OverBudget(why)) => ApiError::insufficient_quota(why.clone()),
        Some(Failure::Unbounded(missing)) => {
            ApiError::unbounded_cost(missing.field.clone(), missing.message.clone())
        }
        Some(Failure::Unjournalled) => ApiError::ledger_unavailable(),
        Some(Failure::Uncounted) => ApiError::limits_unavailable(),
        Some(Failure::Stopped) => ApiError::stopping(),
        None => ApiError::internal(),
    }
}
