//! The compiled configuration that requests are served by: immutable, numbered, swapped whole.
//! Built by [`crate::snapshot::compile`]; knows nothing of YAML and nothing of Pingora.

pub(crate) mod compile;
pub(crate) mod facts;
pub(crate) mod mock_host;
pub(crate) mod prices;
pub(crate) mod revision;
pub(crate) mod stored_providers;
pub(crate) mod stored_rules;

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use llm_router_config::{self as config, AnswersAs, Http2, RouterLimits, Server};
use llm_router_domain::balance::{self, Balancer, DeploymentStates};
use llm_router_domain::budget::{Account, Budget};
use llm_router_domain::circuit::CircuitSettings;
use llm_router_domain::format::Endpoint;
use llm_router_domain::key::{Allowance, Key};
use llm_router_domain::limit::Limits;
use llm_router_domain::network::ClientAddressDetail;
use llm_router_domain::price::PriceTable;
use llm_router_domain::retry::RetryBounds;
use llm_router_domain::rule::Rules;
use llm_router_prices::{FactsTable, ModelFacts};
use llm_router_providers::{Credential, UpstreamRoute};
use llm_router_wire::translate::family_ceiling;

use crate::clock;
use crate::keys::key_ring::KeyRing;
use crate::snapshot::stored_rules::Listed;

/// Everything a request needs to know of the configuration.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Number that the content of the configuration decides.
    pub(crate) revision: u64,
    /// In the order of the file; deployments refer to them by index.
    pub(crate) providers: Vec<Arc<CompiledProvider>>,
    /// Public names, in the order of the file.
    pub(crate) models: Vec<Arc<Model>>,
    pub(crate) model_by_name: HashMap<String, Arc<Model>>,
    /// Health state of each deployment; see [`Deployment::id_of`].
    pub(crate) states: DeploymentStates,
    /// Limits of attempts and of time for a request.
    pub(crate) bounds: RetryBounds,
    /// Model that `auto` stands for.
    pub(crate) default_model: Option<String>,
    /// The rules of the file and those made by API, in the order they are tried.
    pub(crate) rules: Arc<Rules>,
    /// The same rules as they were written, also those that can't work.
    pub(crate) listed_rules: Arc<[Listed]>,
    pub(crate) keys: KeyRing,
    /// Budgets of owners, for all their keys together.
    pub(crate) owners: HashMap<String, Allowance>,
    /// The limits of keys, owners and everybody.
    pub(crate) limits: RouterLimits,
    /// Prices of models.
    pub(crate) prices: Arc<PriceTable>,
    /// Facts of models: lengths and abilities.
    pub(crate) facts: Arc<FactsTable>,
    /// Settings of the port that clients connect to. Those that need a restart may differ from the
    /// ones in effect.
    pub(crate) server: Server,
    /// The part of clients' addresses that is shown.
    pub(crate) client_address: ClientAddressDetail,
}

/// A provider as requests see it: the checked configuration, which it dereferences to, and what is
/// derived from it.
pub(crate) struct CompiledProvider {
    /// The checked configuration.
    pub(crate) config: Arc<config::Provider>,
    /// Hash of the address and of what is sent there to authenticate. Once it changes, the state
    /// of the provider's deployments begins anew.
    pub(crate) fingerprint: u64,
    pub(crate) origin: Origin,
    /// Path below which the endpoints are, without a slash at the end.
    pub(crate) base_path: String,
    /// The value of `host` that it expects.
    pub(crate) host_header: HeaderValue,
    /// The configured credential, ready to be sent.
    pub(crate) authorization: Option<Credential>,
    /// Texts that clients must never see: the credential and the values of added headers.
    pub(crate) secrets: Vec<secrecy::SecretString>,
    /// The configured headers that are added to every request, ready to be sent.
    pub(crate) extra_headers: Vec<(HeaderName, HeaderValue)>,
}

impl CompiledProvider {
    /// Returns how it is sent a client's request to `endpoint` for `model`; `None` if it has
    /// nothing for it.
    pub(crate) fn route(&self, endpoint: Endpoint, model: &str) -> Option<UpstreamRoute> {
        self.kind.route(endpoint, model, &self.settings)
    }
}

impl Deref for CompiledProvider {
    type Target = config::Provider;

    fn deref(&self) -> &Self::Target {
        &self.config
    }
}

impl fmt::Debug for CompiledProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledProvider")
            .field("id", &self.id)
            .field("origin", &self.origin)
            .finish()
    }
}

/// Network endpoint of a provider; providers with equal origins share their connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// Certificates to trust besides the system's.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) http2: Http2,
    /// True if link-local addresses are connected to.
    pub(crate) allow_link_local: bool,
}

/// A public name and the deployments behind it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) deployments: Vec<Deployment>,
    /// Chooses among the deployments; its members are in their order.
    pub(crate) balancer: Balancer,
    /// Public names to try when every deployment failed.
    pub(crate) fallbacks: Vec<String>,
    /// The model's name in answers, where one is set.
    pub(crate) answers_as: Option<AnswersAs>,
    /// True if whoever may use this name may also use its fallbacks, for its own requests.
    pub(crate) fallbacks_included: bool,
    pub(crate) limits: Limits,
}

/// One model at one provider.
#[derive(Clone, Debug)]
pub(crate) struct Deployment {
    pub(crate) provider: Arc<CompiledProvider>,
    /// Index of the provider in [`Snapshot::providers`].
    pub(crate) provider_index: usize,
    /// The provider's own name of the model.
    pub(crate) model: Arc<str>,
    /// Its health and latency; of models that the configuration doesn't name, the provider's.
    pub(crate) state: Arc<balance::DeploymentState>,
}

impl Snapshot {
    /// Returns the most output tokens of a model, if that is known: by its own facts, by those of its
    /// family, or by the provider's setting.
    pub(crate) fn max_output(&self, provider: &CompiledProvider, model: &str) -> Option<u64> {
        let facts = self.model_facts(&provider.id, provider.kind.price_type(), model);
        let known = facts.and_then(|facts| facts.max_output);
        known
            .or_else(|| family_ceiling(model))
            .or(provider.max_output)
    }

    /// Returns the facts of a model: by the provider's id, else by its type, as prices are found.
    pub(crate) fn model_facts(&self, id: &str, kind: &str, model: &str) -> Option<&ModelFacts> {
        self.facts.find(id, kind, model).map(|row| &*row.value)
    }

    /// The deployment of a provider's model that a client names by itself.
    pub(crate) fn deployment(
        &self,
        provider_index: usize,
        provider: &Arc<CompiledProvider>,
        model: &str,
    ) -> Deployment {
        Deployment::new(provider_index, provider, model, &self.states)
    }

    /// The budgets that a key spends from: its own and its owner's.
    pub(crate) fn budget(&self, key: &Key) -> Option<KeyBudget> {
        let owner = key.owner.as_deref();
        let owned = owner.and_then(|owner| Some((owner, self.owners.get(owner)?)));
        let own = key.budget.as_ref();
        let own = own.map(|found| (Account::Key(key.name.as_str().into()), found));
        let owned = owned.map(|(owner, found)| (Account::Owner(owner.into()), found));
        let all = || own.iter().chain(owned.iter());
        let allow_unpriced = all().all(|(_, allowance)| allowance.allow_unpriced);
        let line = all().map(|(account, allowance)| (account.clone(), allowance.budget));
        KeyBudget::new(line.collect(), allow_unpriced)
    }

    /// The provider of that id, with its index.
    pub(crate) fn provider(&self, id: &str) -> Option<(usize, &Arc<CompiledProvider>)> {
        self.providers
            .iter()
            .enumerate()
            .find(|(_, provider)| provider.id == id)
    }
}

/// Budgets that one key spends from.
#[derive(Clone, Debug)]
pub(crate) struct KeyBudget {
    pub(crate) line: Arc<[(Account, Budget)]>,
    /// Allows models without a price.
    pub(crate) allow_unpriced: bool,
}

impl KeyBudget {
    /// Creates the budgets of `line`; none if it is empty.
    fn new(line: Vec<(Account, Budget)>, allow_unpriced: bool) -> Option<Self> {
        (!line.is_empty()).then(|| Self {
            line: line.into(),
            allow_unpriced,
        })
    }
}

/// Stands for every model of a provider that the configuration doesn't name: those names are made
/// by clients, so none of them has a state of its own.
pub(crate) const UNNAMED: &str = "*";

impl Deployment {
    /// The deployment of a provider's model.
    pub(crate) fn new(
        provider_index: usize,
        provider: &Arc<CompiledProvider>,
        model: &str,
        states: &DeploymentStates,
    ) -> Self {
        let known = states.get(&Self::id_of(provider, model));
        let state = known.or_else(|| states.get(&Self::id_of(provider, UNNAMED)));
        Self {
            provider: Arc::clone(provider),
            provider_index,
            model: model.into(),
            state: state.map_or_else(|| fresh(provider), Arc::clone),
        }
    }

    /// Returns the id of a deployment in [`Snapshot::states`], in logs and in metrics.
    pub(crate) fn id_of(provider: &CompiledProvider, model: &str) -> String {
        format!("{}/{model}", provider.id)
    }

    /// Returns whether both are the same model at the same provider.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.provider_index == other.provider_index && self.model == other.model
    }
}

/// The state of a deployment that nothing is known of and that nobody else shares.
fn fresh(provider: &CompiledProvider) -> Arc<balance::DeploymentState> {
    let id = Deployment::id_of(provider, UNNAMED);
    let state = balance::DeploymentState::new(&id, CircuitSettings::default(), 0, clock::now());
    Arc::new(state)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Snapshots for tests, built from as little as they need.

    use std::time::Duration;

    use config::{HealthCheck, OnDisconnect, Timeouts, UsageChunk};
    use llm_router_domain::balance::{PoolMember, Strategy};
    use llm_router_domain::format::Compat;
    use llm_router_domain::key::KeyHasher;
    use llm_router_domain::pattern::PatternList;
    use llm_router_providers::{ProviderType, Settings};

    use super::*;

    /// A provider of the type of that name.
    pub(crate) fn provider(id: &str, kind: &str, models: &[&str]) -> Arc<CompiledProvider> {
        let kind = llm_router_providers::find(kind).unwrap();
        provider_of(id, kind, models)
    }

    pub(crate) fn provider_of(
        id: &str,
        kind: &'static dyn ProviderType,
        models: &[&str],
    ) -> Arc<CompiledProvider> {
        let second = Duration::from_secs(1);
        let credential = secrecy::SecretString::from("sk-theirs");
        Arc::new(CompiledProvider {
            fingerprint: 0,
            origin: Origin {
                host: "127.0.0.1".into(),
                port: 9,
                tls: false,
                ca_file: None,
                http2: Http2::Never,
                allow_link_local: false,
            },
            base_path: "/base".into(),
            host_header: HeaderValue::from_static("provider.test"),
            authorization: Some(Credential::new(&credential).unwrap()),
            secrets: vec![credential.clone()],
            extra_headers: vec![(
                HeaderName::from_static("x-extra"),
                HeaderValue::from_static("1"),
            )],
            config: Arc::new(config::Provider {
                id: id.to_owned(),
                kind,
                settings: Settings::default(),
                base_url: None,
                credential: Some(credential),
                models: PatternList::new(models.iter().copied()),
                timeouts: Timeouts {
                    connect: second,
                    first_byte: second,
                    first_byte_plain: None,
                    idle: second,
                    total: second,
                    drain: second,
                },
                health_check: HealthCheck {
                    path: "/models".into(),
                    interval: None,
                    timeout: second,
                    unhealthy_after: 1,
                    healthy_after: 1,
                },
                ca_file: None,
                http2: Http2::Never,
                on_disconnect: OnDisconnect::Cancel,
                usage_chunk: UsageChunk::OnRequest,
                price_from: config::PriceFrom::Table,
                compat: Compat::Lenient,
                headers: vec![("x-extra".to_owned(), "1".into())],
                forward_headers: PatternList::new(["x-tenant*"]),
                forward_query: PatternList::new(["tenant"]),
                max_output: None,
                enabled: true,
                allow_link_local: false,
                price_factor: llm_router_domain::price::Factor::ONE,
            }),
        })
    }

    pub(crate) fn model(
        name: &str,
        deployments: &[(usize, &Arc<CompiledProvider>, &str)],
        fallbacks: &[&str],
    ) -> Arc<Model> {
        let states = DeploymentStates::default();
        let deployments: Vec<_> = deployments
            .iter()
            .map(|(index, found, model)| Deployment::new(*index, found, model, &states))
            .collect();
        let member = |deployment: &Deployment| PoolMember {
            deployment: Arc::clone(&deployment.state),
            weight: 1,
        };
        let members = deployments.iter().map(member).collect();
        Arc::new(Model {
            name: name.to_owned(),
            balancer: Balancer::new(Strategy::Priority, members, None),
            deployments,
            fallbacks: fallbacks.iter().map(|&name| name.to_owned()).collect(),
            answers_as: None,
            fallbacks_included: false,
            limits: Limits::NONE,
        })
    }

    pub(crate) fn snapshot(
        providers: Vec<Arc<CompiledProvider>>,
        models: Vec<Arc<Model>>,
        default_model: Option<&str>,
    ) -> Snapshot {
        let by_name = models
            .iter()
            .map(|model| (model.name.clone(), Arc::clone(model)));
        Snapshot {
            revision: 1,
            providers,
            model_by_name: by_name.collect(),
            models,
            states: DeploymentStates::default(),
            bounds: RetryBounds::default(),
            default_model: default_model.map(str::to_owned),
            listed_rules: Arc::default(),
            rules: Arc::default(),
            keys: KeyRing::new(KeyHasher::new(&"salt".into()), Arc::default(), None),
            owners: HashMap::new(),
            limits: RouterLimits::default(),
            prices: Arc::default(),
            facts: facts::built_in(),
            server: Server::default(),
            client_address: ClientAddressDetail::default(),
        }
    }
}
