//! Prepares what each candidate is sent: the client's body with another model name, the same without
//! what a provider would refuse, or a translation. How formats convert is `llm-router-wire`'s; which
//! candidate is tried is not decided here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use llm_router_config::UsageChunk;
use llm_router_domain::format::{Endpoint, Format};
use llm_router_providers::{Call, UpstreamRoute};
use llm_router_wire::ceiling::lower_ceilings;
use llm_router_wire::request::RequestHead;
use llm_router_wire::translate::{
    RequestOptions, TranslateError, TranslatedRequest, clean_history, translate_count_request,
    translate_request,
};

use crate::clock;
use crate::proxy::attempt::bodies::{CleanTarget, Cleaned, Target, Translated, usage_option};
use crate::proxy::attempt::headers::UpstreamTarget;
use crate::proxy::attempt::inference::Inference;
use crate::snapshot::Deployment;

impl Inference {
    /// Prepares what the current candidate is sent.
    ///
    /// # Errors
    /// When the candidate's format can't express the request: another candidate may take it.
    pub(crate) fn prepare(&mut self) -> Result<(), TranslateError> {
        let Some(deployment) = self.deployment().cloned() else {
            return Ok(());
        };
        let upstream = self.request.live.upstreams.get(deployment.provider_index);
        let refuses = upstream.is_some_and(|one| one.refuses_usage_option(clock::now()));
        self.attempts.bodies.asks_usage =
            deployment.provider.usage_chunk == UsageChunk::OnRequest && !refuses;
        match self.upstream_route() {
            Some(UpstreamRoute::Translated(format)) => self.translate(&deployment, format),
            Some(UpstreamRoute::Native) => self.clean(&deployment),
            None => Ok(()),
        }
    }

    fn translate(&mut self, deployment: &Deployment, format: Format) -> Result<(), TranslateError> {
        let target = Target {
            format,
            model: Arc::clone(&deployment.model),
            compat: deployment.provider.compat,
            dialect: deployment.provider.kind.quirks().chat_dialect,
            usage_chunk: self.attempts.bodies.asks_usage,
            max_output: self
                .request
                .snapshot()
                .max_output(&deployment.provider, &deployment.model),
        };
        let made = self.attempts.bodies.translated.as_ref();
        if made.is_some_and(|made| made.target == target) {
            return Ok(());
        }
        let options = RequestOptions {
            compat: target.compat,
            dialect: target.dialect,
            no_usage_chunk: !target.usage_chunk,
            max_output: target.max_output,
            now: unix_seconds(),
            request_id: self.request.id.to_string(),
            ..RequestOptions::default()
        };
        let request = if self.request.endpoint == Endpoint::CountTokens {
            translate_count_request(
                format,
                self.attempts.bodies.client(),
                &target.model,
                &options,
            )?
        } else {
            let from = self.request.endpoint.format();
            translate_request(
                from,
                format,
                self.attempts.bodies.client(),
                &target.model,
                &options,
            )?
        };
        self.attempts.bodies.translated = Some(Translated { target, request });
        Ok(())
    }

    /// Takes out of a request in the client's own format what the candidate would refuse: thoughts
    /// of others, and ceilings of output above the model's own.
    fn clean(&mut self, deployment: &Deployment) -> Result<(), TranslateError> {
        let endpoint = self.request.endpoint;
        let target = CleanTarget {
            dialect: deployment.provider.kind.quirks().chat_dialect,
            compat: deployment.provider.compat,
            max_output: self
                .request
                .snapshot()
                .max_output(&deployment.provider, &deployment.model),
        };
        let made = self.attempts.bodies.cleaned.as_ref();
        if made.is_some_and(|made| made.target == target) {
            return Ok(());
        }
        let client = self.attempts.bodies.client();
        let history = has_history(endpoint)
            .then(|| clean_history(endpoint.format(), target.dialect, client))
            .flatten();
        let (body, mut dropped) =
            history.map_or((None, Vec::new()), |made| (Some(made.body), made.dropped));
        let mut request = body.and_then(|body| Some((RequestHead::read(&body).ok()?, body)));
        if let Some(most) = target.max_output {
            let (head, body) = match &request {
                Some((head, body)) => (head, body),
                None => (&self.request.head, client),
            };
            let lowered = lower_ceilings(endpoint, body, &head.scan, most, target.compat)?;
            if let Some(lowered) = lowered {
                dropped.extend(lowered.fields.iter().map(|&field| field.to_owned()));
                let head = RequestHead::read(&lowered.body).ok();
                request = head.map(|head| (head, lowered.body));
            }
        }
        let request = request.map(|(head, body)| {
            let ask = usage_option(&head, &body, endpoint);
            (head, body, ask)
        });
        self.attempts.bodies.cleaned = Some(Cleaned {
            target,
            request,
            dropped,
        });
        Ok(())
    }

    /// Returns the translation that the current candidate is sent, if it is sent one.
    pub(crate) fn translation(&self) -> Option<&TranslatedRequest> {
        let made = self.attempts.bodies.translated.as_ref();
        match self.upstream_route()? {
            UpstreamRoute::Translated(_) => made.map(|made| &made.request),
            UpstreamRoute::Native => None,
        }
    }

    /// Returns how the current candidate is sent the request.
    fn upstream_route(&self) -> Option<UpstreamRoute> {
        let deployment = self.deployment()?;
        let endpoint = self.request.endpoint;
        deployment.provider.route(endpoint, &deployment.model)
    }

    /// Returns the format that the current candidate is asked and answers in.
    pub(crate) fn provider_format(&self) -> Format {
        match self.upstream_route() {
            Some(UpstreamRoute::Translated(format)) => format,
            _ => self.request.endpoint.format(),
        }
    }

    /// Returns the body for the current candidate, in pieces to be sent in order.
    pub(crate) fn body_pieces(&self) -> VecDeque<Bytes> {
        if let Some(translated) = self.translation() {
            return [translated.body.clone()].into();
        }
        let Some(deployment) = self.deployment() else {
            return VecDeque::new();
        };
        let cleaned = self.attempts.bodies.cleaned.as_ref();
        let (head, body, ask) = match cleaned.and_then(|cleaned| cleaned.request.as_ref()) {
            Some((head, body, ask)) => (head, body, ask),
            None => (
                &self.request.head,
                self.attempts.bodies.client(),
                &self.request.usage_option,
            ),
        };
        let ask = ask.as_ref().filter(|_| self.attempts.bodies.asks_usage);
        head.rewrite(body, &deployment.model, ask).into()
    }

    /// Returns whether the current candidate is asked for a stream.
    pub(crate) fn asks_stream(&self) -> bool {
        self.translation()
            .map_or(self.request.head.stream, |sent| sent.stream)
    }

    /// Returns whether the current candidate was sent a field that asks for a usage chunk and that
    /// the client didn't send.
    pub(crate) fn injected_usage_option(&self) -> bool {
        let asks = match self.translation() {
            Some(sent) => sent.stream && self.provider_format() == Format::OpenAiChat,
            None => self.request.usage_option.is_some(),
        };
        asks && self.attempts.bodies.asks_usage
    }

    /// Returns where the current candidate's request goes, below the provider's base URL.
    pub(crate) fn upstream_target(&self) -> UpstreamTarget<'_> {
        let endpoint = self.request.endpoint;
        let sent = self.translation();
        let (path, stream) = sent.map_or_else(
            || (endpoint.path(), self.request.head.stream),
            |sent| (sent.path.as_str(), sent.stream),
        );
        let path = self.deployment().map(|deployment| {
            let provider = &deployment.provider;
            provider.kind.path(&Call {
                endpoint,
                format: self.provider_format(),
                format_path: path,
                model: &deployment.model,
                stream,
                settings: &provider.settings,
            })
        });
        UpstreamTarget {
            path: path.unwrap_or_default(),
            request_id: Some(&self.request.id),
            format: sent.is_none().then(|| endpoint.format()),
        }
    }

    /// Returns the fields that the provider is not sent, as the client spells them.
    pub(crate) fn dropped_fields(&self) -> &[String] {
        let cleaned = self.attempts.bodies.cleaned.as_ref();
        match (self.translation(), cleaned) {
            (Some(translated), _) => &translated.dropped,
            (None, Some(cleaned)) if self.upstream_route() == Some(UpstreamRoute::Native) => {
                &cleaned.dropped
            }
            _ => &[],
        }
    }
}

/// Returns whether requests to an endpoint bring earlier answers along.
const fn has_history(endpoint: Endpoint) -> bool {
    !matches!(endpoint, Endpoint::Completions | Endpoint::Embeddings)
}

fn unix_seconds() -> u64 {
    let since = clock::wall().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
