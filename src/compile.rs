//! Turns a checked configuration into the snapshot that requests are served by. Nothing here
//! fails on what an operator wrote: that has been checked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use llm_router_config as config;
use llm_router_domain::budget::{Account, Budget, Period};
use llm_router_domain::key::{Key, KeyHasher, Role};
use llm_router_domain::pattern::PatternList;
use llm_router_domain::price::Table;
use llm_router_store::objects::Objects;
use llm_router_wire::translate::{ChatDialect, Compat};
use secrecy::{ExposeSecret as _, SecretString};

use crate::budgets::KeyBudget;
use crate::rules::{self, RuleSet};
use crate::snapshot::{
    Deployment, HttpVersions, KeyRing, Model, Origin, Provider, ProviderKind, Snapshot, Timeouts,
};

/// What a snapshot is made of besides the configuration.
pub(crate) struct Surroundings<'a> {
    /// Where the built-in mock provider listens, once one is configured.
    pub(crate) mock: Option<SocketAddr>,
    /// The key that works whatever the configuration says.
    pub(crate) admin_key: Option<&'a SecretString>,
    pub(crate) hasher: &'a KeyHasher,
    pub(crate) prices: Arc<Table>,
    /// What was made by API.
    pub(crate) objects: &'a Objects,
    /// The snapshot before this one: what it compiled already isn't compiled again.
    pub(crate) previous: Option<&'a Snapshot>,
}

/// The name under which the bootstrap admin key is logged.
const ADMIN_KEY_NAME: &str = "bootstrap-admin";

/// Compiles `config` as revision `revision`.
pub(crate) fn compile(
    config: &config::Config,
    revision: u64,
    surroundings: &Surroundings<'_>,
) -> Snapshot {
    let mut index_of = HashMap::new();
    let mut providers = Vec::new();
    for (position, raw) in config.providers.iter().enumerate() {
        if let Some(provider) = provider(raw, surroundings.mock).filter(|_| raw.enabled) {
            index_of.insert(position, providers.len());
            providers.push(Arc::new(provider));
        }
    }
    let name = |position: &usize| Some(config.models.get(*position)?.name.clone());
    let models: Vec<_> = config
        .models
        .iter()
        .map(|raw| {
            Arc::new(Model {
                name: raw.name.clone(),
                deployments: deployments(raw, &providers, &index_of),
                fallbacks: raw.fallbacks.iter().filter_map(name).collect(),
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
        keys: keys(config, surroundings),
        budgets: budgets(config),
        prices: Arc::clone(&surroundings.prices),
        max_body: config.server.max_body,
        body_timeout: config.server.body_timeout,
    }
}

fn deployments(
    model: &config::Model,
    providers: &[Arc<Provider>],
    index_of: &HashMap<usize, usize>,
) -> Vec<Deployment> {
    let deployments = model.deployments.iter().filter_map(|raw| {
        let index = *index_of.get(&raw.provider)?;
        Some(Deployment {
            provider: Arc::clone(providers.get(index)?),
            provider_index: index,
            model: raw.model.as_str().into(),
            named: true,
        })
    });
    deployments.collect()
}

fn provider(raw: &config::Provider, mock: Option<SocketAddr>) -> Option<Provider> {
    let (origin, base_path, host) = match &raw.base_url {
        Some(url) => located(raw, url),
        None => built_in(mock?),
    };
    let kind = match raw.kind {
        config::ProviderKind::Openai | config::ProviderKind::Custom => ProviderKind::OpenAi,
        config::ProviderKind::Anthropic => ProviderKind::Anthropic,
        config::ProviderKind::Gemini => ProviderKind::Gemini,
        config::ProviderKind::Mock => ProviderKind::Mock,
    };
    let headers = raw.headers.iter().filter_map(|(name, value)| {
        Some((
            HeaderName::from_bytes(name.as_bytes()).ok()?,
            sensitive(value.expose_secret())?,
        ))
    });
    Some(Provider {
        id: raw.id.clone(),
        kind,
        dialect: match raw.kind {
            config::ProviderKind::Custom => ChatDialect::Compatible,
            _ => ChatDialect::OpenAi,
        },
        compat: match raw.compat {
            config::Compat::Lenient => Compat::Lenient,
            config::Compat::Strict => Compat::Strict,
        },
        type_name: raw.kind.name(),
        origin,
        base_path,
        host_header: HeaderValue::from_str(&host).ok()?,
        credential: raw
            .credential
            .as_ref()
            .and_then(|secret| credential(kind, secret)),
        secrets: secrets(raw),
        headers: headers.collect(),
        timeouts: Timeouts {
            connect: raw.timeouts.connect,
            first_byte: raw.timeouts.first_byte,
            idle: raw.timeouts.idle,
            total: raw.timeouts.total,
            drain: (raw.on_disconnect == config::OnDisconnect::Drain).then_some(raw.timeouts.drain),
        },
        models: PatternList::new(raw.models.iter().map(config::NamePattern::as_str)),
    })
}

fn located(raw: &config::Provider, url: &config::BaseUrl) -> (Origin, String, String) {
    let origin = Origin {
        host: url.host.clone(),
        port: url.port,
        tls: url.scheme == config::Scheme::Https,
        ca_file: raw.ca_file.clone(),
        http: match raw.http2 {
            config::Http2::Never => HttpVersions::One,
            config::Http2::Auto => HttpVersions::Both,
            config::Http2::Always => HttpVersions::Two,
        },
    };
    (origin, url.path.clone(), url.authority())
}

fn built_in(address: SocketAddr) -> (Origin, String, String) {
    let origin = Origin {
        host: address.ip().to_string(),
        port: address.port(),
        tls: false,
        ca_file: None,
        http: HttpVersions::One,
    };
    (origin, "/v1".to_owned(), address.to_string())
}

fn credential(kind: ProviderKind, secret: &SecretString) -> Option<HeaderValue> {
    match kind {
        ProviderKind::Anthropic | ProviderKind::Gemini => sensitive(secret.expose_secret()),
        _ => sensitive(&format!("Bearer {}", secret.expose_secret())),
    }
}

/// A header's value that is this short is no secret, and could stand anywhere.
const SHORTEST_SECRET: usize = 8;

fn secrets(raw: &config::Provider) -> Vec<SecretString> {
    let added = raw.headers.iter().map(|(_, value)| value);
    let secrets = raw.credential.iter().chain(added);
    let long = |secret: &&SecretString| secret.expose_secret().len() >= SHORTEST_SECRET;
    secrets.filter(long).cloned().collect()
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The budgets that each key spends from: its own and its owner's.
fn budgets(config: &config::Config) -> HashMap<String, Arc<KeyBudget>> {
    let owners: HashMap<&str, config::Budget> = config
        .owners
        .iter()
        .map(|owner| (owner.name.as_str(), owner.budget))
        .collect();
    let of_key = |key: &config::StaticKey| {
        let own = key
            .budget
            .map(|found| (Account::Key(key.name.as_str().into()), found));
        let owners = owners.get(key.owner.as_str());
        let owners = owners.map(|found| (Account::Owner(key.owner.as_str().into()), *found));
        let all: Vec<_> = own.into_iter().chain(owners).collect();
        let allow_unpriced = all.iter().all(|(_, found)| found.allow_unpriced);
        let line = all
            .into_iter()
            .map(|(account, found)| (account, budget(found)));
        let line: Vec<_> = line.collect();
        let budget = KeyBudget::new(line, allow_unpriced)?;
        Some((key.name.clone(), Arc::new(budget)))
    };
    config.keys.iter().filter_map(of_key).collect()
}

const fn budget(found: config::Budget) -> Budget {
    let period = match found.period {
        config::Period::Day => Period::Day,
        config::Period::Week => Period::Week,
        config::Period::Month => Period::Month,
        config::Period::Total => Period::Total,
    };
    Budget {
        usd: found.usd,
        period,
    }
}

fn rules(config: &config::Config, surroundings: &Surroundings<'_>) -> RuleSet {
    let previous = surroundings.previous;
    let compiled = previous.map(|snapshot| &*snapshot.rules);
    let rules = rules::compile(config, surroundings.objects, compiled);
    let known = previous.map(|snapshot| &*snapshot.listed_rules);
    rules::tell_of_broken(&rules.listed, known.unwrap_or_default());
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
    }
}

fn keys(config: &config::Config, surroundings: &Surroundings<'_>) -> KeyRing {
    let mut ring = KeyRing::new(surroundings.hasher.clone());
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
        };
        ring.add(text.expose_secret(), key);
    }
    ring
}
