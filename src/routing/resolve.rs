//! Which deployments serve a name. Who may use them, and whether a request can be sent to them, is
//! judged by others.

use std::sync::Arc;

use llm_router_domain::format::Endpoint;
use llm_router_domain::key::Key;
use llm_router_domain::pattern::Pattern;
use llm_router_providers::UpstreamRoute;

use crate::routing::balance::Tier;
use crate::routing::{AUTO, RouteRequest};
use crate::snapshot::{CompiledProvider, Deployment, Model, Snapshot};

/// Deployments that serve a name.
#[derive(Debug)]
pub(super) struct Candidates {
    /// Those of the name, then those to fall back on.
    pub(super) tiers: Vec<Tier>,
    /// The provider, by its index, that alone may be asked.
    pub(super) only: Option<usize>,
    /// The public name that was meant, if it was one.
    pub(super) model: Option<Arc<Model>>,
    /// The names it goes by; a key must have one of them on its list.
    pub(super) names: Vec<String>,
}

impl Candidates {
    /// Removes the fallbacks that a key may not use, unless the public name includes them, and
    /// returns their deployments.
    pub(super) fn remove_forbidden_fallbacks(&mut self, key: &Key) -> Vec<Deployment> {
        let Some(asked) = self.model.clone().filter(|model| !model.fallbacks_included) else {
            return Vec::new();
        };
        let is_allowed = |tier: &Tier| match tier {
            Tier::Model(model) => model.name == asked.name || key.models.allows(&model.name),
            Tier::Named(_) => true,
        };
        let tiers = std::mem::take(&mut self.tiers).into_iter();
        let (allowed, forbidden) = tiers.partition(is_allowed);
        self.tiers = allowed;
        let forbidden: Vec<Tier> = forbidden;
        let deployments = forbidden.iter().flat_map(Tier::deployments);
        deployments
            .filter(|one| self.allows(one))
            .cloned()
            .collect()
    }

    /// Returns whether a deployment is at a provider that may be asked.
    pub(super) fn allows(&self, deployment: &Deployment) -> bool {
        self.only
            .is_none_or(|index| deployment.provider_index == index)
    }

    /// The deployments that may be asked, in the order of the configuration.
    pub(super) fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        let all = self.tiers.iter().flat_map(Tier::deployments);
        all.filter(|deployment| self.allows(deployment))
    }
}

/// Returns whether a client may ask for a name at all; whether `auto` leads anywhere shows later.
pub(super) fn is_known(asking: &RouteRequest<'_>) -> bool {
    let RouteRequest {
        snapshot, model, ..
    } = *asking;
    model == AUTO
        || snapshot.model_by_name.contains_key(model)
        || one(snapshot, model, asking.endpoint).is_some()
}

/// Returns true for `provider/model`, unless a public name is spelled so.
pub(super) fn is_qualified(snapshot: &Snapshot, name: &str) -> bool {
    !snapshot.model_by_name.contains_key(name) && split_qualified(snapshot, name).is_some()
}

/// The deployments of a public name, `provider/model`, or a name that a provider serves.
pub(super) fn by_name(snapshot: &Snapshot, name: &str, endpoint: Endpoint) -> Option<Candidates> {
    if let Some(model) = snapshot.model_by_name.get(name) {
        return Some(Candidates {
            tiers: with_fallbacks(snapshot, model),
            only: None,
            model: Some(Arc::clone(model)),
            names: vec![name.to_owned()],
        });
    }
    Some(Candidates {
        tiers: vec![Tier::Named(one(snapshot, name, endpoint)?)],
        only: None,
        model: None,
        names: vec![name.to_owned()],
    })
}

/// The deployments of a provider for a model that was asked: that model if the provider serves it,
/// else the provider's first. It is the provider that counts: no other is fallen back on.
pub(super) fn at_provider(snapshot: &Snapshot, id: &str, asked: &str) -> Option<Candidates> {
    let (index, provider) = snapshot.provider(id)?;
    if let Some(model) = snapshot.model_by_name.get(asked) {
        let found = Candidates {
            tiers: with_fallbacks(snapshot, model),
            only: Some(index),
            model: Some(Arc::clone(model)),
            names: vec![asked.to_owned()],
        };
        if found.deployments().next().is_some() {
            return Some(found);
        }
    }
    let deployment = match chosen_model(snapshot, index, provider, asked) {
        Choice::Deployed(deployment) => deployment,
        Choice::Named(model) => snapshot.deployment(index, provider, model),
        Choice::None => return None,
    };
    let qualified = format!("{id}/{}", deployment.model);
    Some(Candidates {
        names: vec![qualified, deployment.model.to_string()],
        tiers: vec![Tier::Named(deployment)],
        only: None,
        model: None,
    })
}

/// Which of a provider's models stands in for the one asked.
enum Choice<'a> {
    Deployed(Deployment),
    Named(&'a str),
    None,
}

fn chosen_model<'a>(
    snapshot: &Snapshot,
    index: usize,
    provider: &'a CompiledProvider,
    asked: &'a str,
) -> Choice<'a> {
    let patterns = provider.models.patterns();
    let lists = |pattern: &Pattern| !pattern.is_any() && pattern.matches(asked);
    if asked != AUTO && patterns.iter().any(lists) {
        return Choice::Named(asked);
    }
    let mut deployments = snapshot.models.iter().flat_map(|model| &model.deployments);
    if let Some(first) = deployments.find(|found| found.provider_index == index) {
        return Choice::Deployed(first.clone());
    }
    let literal = patterns.iter().find(|pattern| pattern.is_literal());
    match literal {
        Some(first) => Choice::Named(first.as_str()),
        // It serves any name, so also this one.
        None if asked != AUTO && provider.models.allows(asked) => Choice::Named(asked),
        None => Choice::None,
    }
}

/// The model, then its fallbacks.
fn with_fallbacks(snapshot: &Snapshot, model: &Arc<Model>) -> Vec<Tier> {
    let fallbacks = model
        .fallbacks
        .iter()
        .filter_map(|name| snapshot.model_by_name.get(name));
    let models = std::iter::once(model).chain(fallbacks);
    models.cloned().map(Tier::Model).collect()
}

/// A deployment that a client names without a public name for it.
fn one(snapshot: &Snapshot, name: &str, endpoint: Endpoint) -> Option<Deployment> {
    split_qualified(snapshot, name).or_else(|| bare(snapshot, name, endpoint))
}

/// `provider/model`. A model's own name may hold slashes, so only the first one counts.
fn split_qualified(snapshot: &Snapshot, name: &str) -> Option<Deployment> {
    let (id, model) = name.split_once('/')?;
    let (index, provider) = snapshot.provider(id)?;
    (!model.is_empty() && provider.models.allows(model))
        .then(|| snapshot.deployment(index, provider, model))
}

/// A provider's own name of a model: the first provider in the file that serves it, one that
/// speaks the endpoint's format before one that doesn't.
fn bare(snapshot: &Snapshot, name: &str, endpoint: Endpoint) -> Option<Deployment> {
    let find = |in_format: bool| {
        snapshot.providers.iter().enumerate().find(|(_, provider)| {
            let native = provider.route(endpoint, name) == Some(UpstreamRoute::Native);
            native == in_format && provider.models.allows(name)
        })
    };
    let (index, provider) = find(true).or_else(|| find(false))?;
    Some(snapshot.deployment(index, provider, name))
}
