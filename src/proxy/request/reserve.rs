//! Reserve: admits a request past the limits, charges the tokens that it is expected to use, and
//! settles what it used. The limits themselves are [`crate::limits`]'.

use llm_router_domain::format::Endpoint;
use llm_router_domain::key::Key;
use llm_router_domain::limit::ExpectedTokens;

use crate::clock;
use crate::error::ApiError;
use crate::limits::{Need, Refusal};
use crate::proxy::attempt::inference::Inference;
use crate::proxy::context::Context;
use crate::proxy::gateway::Gateway;

impl Gateway {
    /// Lets a request in before its body is read.
    pub(crate) fn admit(&self, ctx: &mut Context, key: &Key) -> Result<(), ApiError> {
        let live = ctx.live.clone().ok_or_else(ApiError::internal)?;
        ctx.degraded = self.limits.is_degraded();
        let admitted = self.limits.admit(&live.snapshot.limits, key, clock::now());
        ctx.permit = Some(admitted.map_err(|refusal| refuse(ctx, *refusal))?);
        Ok(())
    }

    /// Charges a request with the tokens it is expected to use, and its model's limits.
    pub(crate) async fn reserve_tokens(&self, ctx: &mut Context) -> Result<(), ApiError> {
        let (Some(live), Some(permit), Some(inference)) =
            (&ctx.live, &mut ctx.permit, &ctx.inference)
        else {
            return Ok(());
        };
        let failure = live.snapshot.limits.on_counter_failure;
        let model = inference.request.model.as_deref();
        let need = Need {
            model: model.map(|model| (model.name.as_str(), model.limits)),
            tokens: self.expected_tokens(inference),
        };
        let reserved = self
            .limits
            .reserve(permit, &need, failure, clock::now())
            .await;
        ctx.rate_limits = *permit.standing();
        ctx.degraded |= self.limits.is_degraded();
        reserved.map_err(|refusal| refuse(ctx, *refusal))
    }

    /// Returns the tokens that a request is expected to use. The output is what the model produced
    /// lately, at most what the client allows.
    fn expected_tokens(&self, inference: &Inference) -> ExpectedTokens {
        let size = inference.size();
        let input = size.usage(None, 0).input_total();
        let output = match inference.request.endpoint {
            Endpoint::CountTokens | Endpoint::Embeddings => 0,
            _ => {
                // None is chosen yet: the first that may be is taken for all of them.
                let typical = inference.attempts.cursor.remaining().next().map(|first| {
                    let provider = &first.provider.id;
                    self.budgets.typical_output(provider, &first.model)
                });
                let output = [typical, size.output_limit()].into_iter().flatten();
                output.min().unwrap_or_default()
            }
        };
        ExpectedTokens { input, output }
    }
}

fn refuse(ctx: &mut Context, refusal: Refusal) -> ApiError {
    ctx.rate_limits = refusal.standing;
    refusal.fault
}

/// Charges what a request used in place of what was reserved for it, and frees its place.
pub(crate) fn settle_limits(ctx: &mut Context) {
    if let Some(mut permit) = ctx.permit.take() {
        let used = ctx.inference.as_deref();
        let used = used.map_or(0, |inference| {
            let sums = &inference.attempts.sums;
            sums.input_tokens + sums.output_tokens
        });
        permit.settle(used, clock::now());
    }
}
