//! Answers the client when every candidate failed or the answer under way broke off.

use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, ErrorSource, Result};

use crate::error::ApiError;
use crate::proxy::attempt::inference::Inference;
use crate::proxy::attempt::outcome::Failure;
use crate::proxy::attempt::redact::clean_text;
use crate::proxy::context::Context;
use crate::proxy::describe;
use crate::proxy::downstream::reply::{body_of, error_text, send_fault};
use crate::proxy::gateway::Gateway;
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
        let begun = session.response_written().is_some();
        if !begun {
            ctx.answer.status = Some((fault.status, Some(fault.code)));
        }
        ctx.error_text = error_text(&fault);
        self.settle_last(ctx);
        let sent = if begun {
            self.break_off(session, ctx, &fault).await
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

/// Returns the error for the client when every candidate failed.
fn last_failure(inference: &Inference, provider: Option<&CompiledProvider>) -> ApiError {
    let name = provider.map_or("The provider", |provider| &provider.id);
    match &inference.attempts.failure {
        Some(Failure::Status {
            status,
            retry_after,
            said,
            details,
        }) => {
            let said = said.clone().map(|said| match provider {
                Some(provider) => clean_text(said, provider),
                None => said,
            });
            let message = match said {
                Some(said) => format!("{name} answered {status}: {said}"),
                None => format!("{name} answered {status}."),
            };
            // A redirect is not an answer that a client could do anything with.
            let shown = if *status < 400 { 502 } else { *status };
            ApiError {
                retry_after: retry_after.clone(),
                details: details.clone(),
                ..ApiError::upstream_error(shown, message)
            }
        }
        Some(Failure::Silent(waited)) => ApiError::upstream_timeout(name, *waited),
        Some(Failure::ErrorEvent(status)) => {
            ApiError::upstream_error(*status, format!("{name} began its answer with an error."))
        }
        Some(Failure::Unusable { status, said }) => {
            let said = match provider {
                Some(provider) => clean_text(said.clone(), provider),
                None => said.clone(),
            };
            ApiError::upstream_error(*status, format!("{name} failed: {said}"))
        }
        Some(Failure::Untranslatable(error)) => ApiError::untranslatable(error),
        Some(Failure::Connection(kind)) => {
            ApiError::upstream_error(502, format!("The connection to {name} failed ({kind})."))
        }
        Some(Failure::OverBudget(why)) => ApiError::insufficient_quota(why.clone()),
        Some(Failure::Unbounded(missing)) => {
            ApiError::unbounded(missing.field.clone(), missing.message.clone())
        }
        Some(Failure::Unjournalled) => ApiError::ledger_unavailable(),
        Some(Failure::Uncounted) => ApiError::limits_unavailable(),
        Some(Failure::Stopped) => ApiError::stopping(),
        None => ApiError::internal(),
    }
}
