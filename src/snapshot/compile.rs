//! Turns a checked configuration into the snapshot that requests are served by. Nothing here
//! fails on what an operator wrote: that has been checked.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use llm_router_config as config;
use llm_router_domain::balance::{Balancer, DeploymentStates, PoolMember};
use llm_router_domain::circuit::CircuitSettings;
use llm_router_domain::key::{Allowance, Key, KeyHasher, Role};
use llm_router_domain::limit::Limits;
use llm_router_domain::pattern::PatternList;
use llm_router_domain::price::PriceTable;
use llm_router_providers::Credential;
use llm_router_store::objects::Objects;
use secrecy::{ExposeSecret as _, SecretString};

use crate::clock;
use crate::keys::key_ring::KeyRing;
use crate::keys::stored_keys::IssuedKeys;
use crate::snapshot::stored_rules::{self, RuleSet};
use crate::snapshot::{CompiledProvider, Deployment, Model, Origin, Snapshot, UNNAMED, facts};

/// Inputs of a snapshot besides the configuration.
pub(crate) struct CompileInputs<'a> {
    /// Address of the built-in mock provider, once one is configured.
    pub(crate) mock: Option<SocketAddr>,
    /// The key that works whatever the configuration says.
    pub(crate) admin_key: Option<&'a SecretString>,
    pub(crate) hasher: &'a KeyHasher,
    pub(crate) prices: Arc<PriceTable>,
    /// Objects made by API, but for keys.
    pub(crate) objects: &'a Objects,
    /// The keys made by API.
    pub(crate) issued: &'a Arc<IssuedKeys>,
    /// The snapshot before this one: what it compiled already isn't compiled again, and what it
    /// knows of deployments that stay the same is kept.
    pub(crate) previous: Option<&'a Snapshot>,
}

/// The name under which the bootstrap admin key is logged.
pub(crate) const ADMIN_KEY_NAME: &str = "bootstrap-admin";

/// Compiles `config` as revision `revision`.
pub(crate) fn compile(
    config: &config::Config,
    revision: u64,
    surroundings: &CompileInputs<'_>,
) -> Snapshot {
    let mut index_of = HashMap::new();
    let mut providers = Vec::new();
    for (position, raw) in config.providers.iter().enumerate() {
        if let Some(provider) = provider(raw, surroundings.mock).filter(|_| raw.enabled) {
            index_of.insert(position, providers.len());
            providers.push(Arc::new(provider));
        }
    }
    let states = states(config, &providers, &index_of, surroundings.previous);
    let name = |position: &usize| Some(config.models.get(*position)?.name.clone());
    let models: Vec<_> = config
        .models
        .iter()
        .map(|raw| {
            let deployments = deployments(raw, &providers, &index_of, &states);
            let (deployments, members) = deployments.into_iter().unzip();
            let previous = surroundings.previous;
            let previous = previous.and_then(|found| found.model_by_name.get(&raw.name));
            let previous = previous.map(|model| &model.balancer);
            Arc::new(Model {
                name: raw.name.clone(),
                deployments,
                balancer: Balancer::new(raw.strategy, members, previous),
                fallbacks: raw.fallbacks.iter().filter_map(name).collect(),
                answers_as: raw.answers_as,
                fallbacks_included: raw.fallbacks_included,
                limits: raw.limits,
            })
        })
        .collect();
    let by_name = models
        .iter()
        .map(|model| (model.name.clone(), Arc::clone(model)));
    let rules = rules(config, surroundings);
    Snapshot {
        revision,
        model_by_name: by_name.collect(),
        providers,
        models,
        states,
        bounds: config.routing.attempts,
        default_model: config
            .routing
            .default_model
            .as_ref()
            .and_then(|found| match found {
                config::Target::Model(position) => name(position),
                config::Target::Provider { provider, model } => {
                    Some(format!("{}/{model}", config.providers.get(*provider)?.id))
                }
            }),
        rules: rules.compiled,
        listed_rules: rules.listed,
        owners: owners(config),
        limits: config.limits.clone(),
        keys: keys(config, surroundings),
        prices: Arc::clone(&surroundings.prices),
        facts: facts::built_in(),
        server: config.server.clone(),
        client_address: config.telemetry.client_address,
    }
}

/// A state for every deployment that the configuration names, and for each provider one for all
/// others. States outlive a reload where their provider stays as it was.
fn states(
    config: &config::Config,
    providers: &[Arc<CompiledProvider>],
    index_of: &HashMap<usize, usize>,
    previous: Option<&Snapshot>,
) -> DeploymentStates {
    let deployed = config.models.iter().flat_map(|model| &model.deployments);
    let deployed = deployed.filter_map(|deployment| {
        let index = index_of.get(&deployment.provider)?;
        Some((providers.get(*index)?, deployment.model.as_str()))
    });
    let listed = providers.iter().flat_map(|provider| {
        let literal = provider.models.patterns().iter();
        let literal = literal.filter(|pattern| pattern.is_literal());
        let names = literal.map(|pattern| pattern.as_str()).chain([UNNAMED]);
        names.map(move |name| (provider, name))
    });
    let is_known = |provider: &CompiledProvider| {
        let before = previous.and_then(|previous| previous.provider(&provider.id));
        before.is_some_and(|(_, before)| before.fingerprint == provider.fingerprint)
    };
    let ids = deployed.chain(listed).map(|(provider, model)| {
        let known = previous.filter(|_| is_known(provider));
        (Deployment::id_of(provider, model), known)
    });
    let ids: Vec<_> = ids.collect();
    let each = ids.iter().map(|(id, known)| {
        let known = known.map(|previous| &previous.states);
        (id.as_str(), CircuitSettings::default(), known)
    });
    DeploymentStates::new(each, fastrand::u64(..), clock::now())
}

fn deployments(
    model: &config::Model,
    providers: &[Arc<CompiledProvider>],
    index_of: &HashMap<usize, usize>,
    states: &DeploymentStates,
) -> Vec<(Deployment, PoolMember)> {
    let deployments = model.deployments.iter().filter_map(|raw| {
        let index = *index_of.get(&raw.provider)?;
        let deployment = Deployment::new(index, providers.get(index)?, &raw.model, states);
        let member = PoolMember {
            deployment: Arc::clone(&deployment.state),
            weight: raw.weight,
        };
        Some((deployment, member))
    });
    deployments.collect()
}

fn provider(raw: &Arc<config::Provider>, mock: Option<SocketAddr>) -> Option<CompiledProvider> {
    let (origin, base_path, host) = match &raw.base_url {
        Some(url) => with_location(raw, url),
        None => built_in(mock?),
    };
    let headers = raw.headers.iter().filter_map(|(name, value)| {
        let mut value = HeaderValue::from_str(value.expose_secret()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
    });
    let credential = raw.credential.as_ref();
    Some(CompiledProvider {
        fingerprint: fingerprint(raw, &origin, &base_path),
        origin,
        base_path,
        host_header: HeaderValue::from_str(&host).ok()?,
        authorization: credential.and_then(|secret| Credential::new(secret).ok()),
        secrets: secrets(raw),
        extra_headers: headers.collect(),
        config: Arc::clone(raw),
    })
}

fn fingerprint(raw: &config::Provider, origin: &Origin, base_path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (raw.kind.name(), origin, base_path).hash(&mut hasher);
    let credential = raw.credential.as_ref();
    credential
        .map(|secret| secret.expose_secret())
        .hash(&mut hasher);
    for (name, value) in &raw.headers {
        (name, value.expose_secret()).hash(&mut hasher);
    }
    hasher.finish()
}

fn with_location(raw: &config::Provider, url: &config::BaseUrl) -> (Origin, String, String) {
    let origin = Origin {
        host: url.host.clone(),
        port: url.port,
        tls: url.scheme == config::Scheme::Https,
        ca_file: raw.ca_file.clone(),
        http2: raw.http2,
        allow_link_local: raw.allow_link_local,
    };
    (origin, url.path.clone(), url.authority())
}

fn built_in(address: SocketAddr) -> (Origin, String, String) {
    let origin = Origin {
        host: address.ip().to_string(),
        port: address.port(),
        tls: false,
        ca_file: None,
        http2: config::Http2::Never,
        allow_link_local: false,
    };
    (origin, "/v1".to_owned(), address.to_string())
}

/// A header's value that is this short is no secret, and could stand anywhere.
const SHORTEST_SECRET: usize = 8;

fn secrets(raw: &config::Provider) -> Vec<SecretString> {
    let added = raw.headers.iter().map(|(_, value)| value);
    let secrets = raw.credential.iter().chain(added);
    let long = |secret: &&SecretString| secret.expose_secret().len() >= SHORTEST_SECRET;
    secrets.filter(long).cloned().collect()
}

/// Returns the budgets of owners.
fn owners(config: &config::Config) -> HashMap<String, Allowance> {
    let owners = config.owners.iter();
    owners
        .map(|owner| (owner.name.clone(), owner.budget))
        .collect()
}

fn rules(config: &config::Config, surroundings: &CompileInputs<'_>) -> RuleSet {
    let previous = surroundings.previous;
    let compiled = previous.map(|snapshot| &*snapshot.rules);
    let rules = stored_rules::compile(config, surroundings.objects, surroundings.issued, compiled);
    let known = previous.map(|snapshot| &*snapshot.listed_rules);
    stored_rules::log_broken(&rules.listed, known.unwrap_or_default());
    rules
}

/// A key of the configuration.
pub(crate) fn static_key(raw: &config::StaticKey) -> Key {
    Key {
        name: raw.name.clone(),
        owner: Some(raw.owner.clone()),
        role: raw.role,
        models: PatternList::new(raw.models.iter().map(config::NamePattern::as_str)),
        expires_at: raw.expires_at.map(Into::into),
        limits: raw.limits,
        budget: raw.budget,
    }
}

fn keys(config: &config::Config, surroundings: &CompileInputs<'_>) -> KeyRing {
    let previous = surroundings.previous.map(|previous| &previous.keys);
    let issued = Arc::clone(surroundings.issued);
    let mut ring = KeyRing::new(surroundings.hasher.clone(), issued, previous);
    for raw in config.keys.iter().filter(|raw| raw.enabled) {
        ring.add(raw.key.expose_secret(), static_key(raw));
    }
    if let Some(text) = surroundings.admin_key {
        let key = Key {
            name: ADMIN_KEY_NAME.to_owned(),
            owner: None,
            role: Role::Admin,
            models: PatternList::new(["*"]),
            expires_at: None,
            limits: Limits::NONE,
            budget: None,
        };
        ring.add(text.expose_secret(), key);
    }
    ring
}
