//! When an attempt's line of the ledger is opened and settled. What it says is the meter's.

use std::time::Instant;

use pingora::{Error, ErrorType, Result};

use super::Gateway;
use super::context::{Context, Inference};
use super::meter::{Asker, Closing, Tab};
use crate::clock;

impl Gateway {
    /// Journals the attempt that is about to begin, after settling the one before it.
    ///
    /// # Errors
    /// When the journal doesn't take it: then nothing must go upstream.
    pub(super) fn open_tab(
        &self,
        asker: &Asker<'_>,
        inference: &mut Inference,
        now: Instant,
    ) -> Result<()> {
        if let Some(tab) = inference.tab.take() {
            let closing = Closing {
                now,
                last: false,
                client_gone: false,
                answered: 0,
            };
            self.ledger.settled(&tab.close(asker.snapshot, &closing));
        }
        let Some(deployment) = inference.deployment() else {
            return Error::err_in(ErrorType::InternalError);
        };
        let tab = Tab::new(asker, inference, deployment, now);
        if let Err(error) = self.ledger.opened(tab.opened()) {
            tracing::error!(%error, "an attempt can't be journalled and is not made");
            return Error::err_in(ErrorType::InternalError);
        }
        inference.tab = Some(Box::new(tab));
        Ok(())
    }

    /// Settles the attempt that the request ends with, unless that is done.
    pub(super) fn settle_last(&self, ctx: &mut Context) {
        let tab = ctx
            .inference
            .as_deref_mut()
            .and_then(|inference| inference.tab.take());
        if let (Some(tab), Some(live)) = (tab, &ctx.live) {
            let closing = Closing {
                now: clock::now(),
                last: true,
                client_gone: ctx.client_gone,
                answered: ctx.answered.map_or(0, |(status, _)| status),
            };
            self.ledger.settled(&tab.close(&live.snapshot, &closing));
        }
    }
}

impl Context {
    /// The attempt under way has its connection.
    pub(super) fn connected(&mut self, reused: bool) {
        let inference = self.inference.as_deref_mut();
        if let Some(tab) = inference.and_then(|inference| inference.tab.as_deref_mut()) {
            tab.connected(reused, clock::now());
        }
    }
}
