//! The compiled configuration that requests are served by: immutable, numbered, swapped whole.
//! Built by [`crate::snapshot::compile`]; knows nothing of YAML and nothing of Pingora.

pub(crate) mod compile;
pub(crate) mod mock_host;
pub(crate) mod prices;
pub(crate) mod stored_providers;
pub(crate) mod stored_rules;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use llm_router_config::{RouterLimits, Server};
use llm_router_domain::balance::{self, Balancer, DeploymentStates};
use llm_router_domain::budget::Account;
use llm_router_domain::circuit::CircuitSettings;
use llm_router_domain::format::{Endpoint, Format};
use llm_router_domain::key::{Allowance, Key};
use llm_router_domain::limit::Limits;
use llm_router_domain::pattern::PatternList;
use llm_router_domain::price::PriceTable;
use llm_router_domain::retry::RetryBounds;
use llm_router_domain::rule::Rules;
use llm_router_wire::translate::{ChatDialect, Compat};

use crate::budgets::KeyBudget;
use crate::clock;
use crate::keys::key_ring::KeyRing;
use crate::snapshot::stored_rules::Listed;

/// Everything a request needs to know of the configuration.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Counts effective configurations, from 1.
    pub(crate) revision: u64,
    /// In the order of the file; deployments refer to them by index.
    pub(crate) providers: Vec<Arc<Provider>>,
    /// Public names, in the order of the file.
    pub(crate) models: Vec<Arc<Model>>,
    pub(crate) model_by_name: HashMap<String, Arc<Model>>,
    /// What is known of each deployment while it serves; see [`Deployment::id_of`].
    pub(crate) states: DeploymentStates,
    /// How often and how long a request is tried.
    pub(crate) bounds: RetryBounds,
    /// What model `auto` means.
    pub(crate) default_model: Option<String>,
    /// The rules of the file and those made by API, in the order they are tried.
    pub(crate) rules: Arc<Rules>,
    /// The same rules as they were written, also those that can't work.
    pub(crate) listed_rules: Arc<[Listed]>,
    pub(crate) keys: KeyRing,
    /// What owners may spend, with all their keys.
    pub(crate) owners: HashMap<String, Allowance>,
    /// The limits of keys, owners and everybody.
    pub(crate) limits: RouterLimits,
    /// What models cost.
    pub(crate) prices: Arc<PriceTable>,
    /// CircuitSettings of the port that clients connect to. Those that need a restart may differ from the
    /// ones in effect.
    pub(crate) server: Server,
}

/// A provider as requests see it.
pub(crate) struct Provider {
    pub(crate) id: String,
    /// Changes with where requests go and what is shown there: then what was known of the
    /// provider's deployments is of no more use.
    pub(crate) fingerprint: u64,
    pub(crate) kind: ProviderKind,
    /// Whether it has OpenAI's responses, if it is asked in OpenAI's formats.
    pub(crate) responses: bool,
    /// Whose chat completions it speaks, if it speaks them.
    pub(crate) dialect: ChatDialect,
    /// What becomes of fields that it can't express.
    pub(crate) compat: Compat,
    /// The type as the configuration names it; prices may be given by it.
    pub(crate) type_name: &'static str,
    pub(crate) origin: Origin,
    /// Path below which the endpoints are, without a slash at the end.
    pub(crate) base_path: String,
    /// The value of `host` that it expects.
    pub(crate) host_header: HeaderValue,
    /// The credential as it is sent, marked sensitive.
    pub(crate) credential: Option<HeaderValue>,
    /// What clients must never be shown: the credential and the values of added headers.
    pub(crate) secrets: Vec<secrecy::SecretString>,
    /// Headers added to every request.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) timeouts: Timeouts,
    pub(crate) check: Check,
    /// Names it serves.
    pub(crate) models: PatternList,
}

impl Provider {
    /// How it is asked for what an endpoint does: in the client's format if it speaks that, else
    /// translated; nothing if it can't do it at all.
    pub(crate) fn way(&self, endpoint: Endpoint) -> Option<Way> {
        if endpoint == Endpoint::Responses && !self.responses && self.kind == ProviderKind::OpenAi {
            return Some(Way::Translated(Format::OpenAiChat));
        }
        self.kind.way(endpoint)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("id", &self.id)
            .field("origin", &self.origin)
            .finish()
    }
}

/// Which dialect and which credential header a provider wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProviderKind {
    /// OpenAI and every compatible server.
    OpenAi,
    Anthropic,
    /// Google: its own format, and an OpenAI-compatible endpoint for embeddings.
    Gemini,
    /// Speaks every client's format.
    Mock,
}

/// How a provider is asked for what an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In the client's own format, at this path below the provider's base.
    Native(&'static str),
    /// Translated into this format.
    Translated(Format),
}

impl ProviderKind {
    /// The path of an endpoint below the provider's base, or nothing if it is not served.
    pub(crate) const fn path(self, endpoint: Endpoint) -> Option<&'static str> {
        let anthropic = matches!(endpoint, Endpoint::Messages | Endpoint::CountTokens);
        match self {
            Self::OpenAi if !anthropic => Some(endpoint.path()),
            Self::Mock => Some(endpoint.path()),
            Self::Anthropic => match endpoint {
                Endpoint::Messages => Some("/v1/messages"),
                Endpoint::CountTokens => Some("/v1/messages/count_tokens"),
                _ => None,
            },
            Self::Gemini => match endpoint {
                Endpoint::Embeddings => Some("/openai/embeddings"),
                _ => None,
            },
            Self::OpenAi => None,
        }
    }

    /// How a provider of this kind is asked for what an endpoint does, if nothing is set.
    const fn way(self, endpoint: Endpoint) -> Option<Way> {
        if let Some(path) = self.path(endpoint) {
            return Some(Way::Native(path));
        }
        let format = match (self, endpoint) {
            (_, Endpoint::Completions | Endpoint::Embeddings)
            | (Self::OpenAi | Self::Mock, Endpoint::CountTokens) => return None,
            (Self::OpenAi | Self::Mock, _) => Format::OpenAiChat,
            (Self::Anthropic, _) => Format::AnthropicMessages,
            (Self::Gemini, _) => Format::Gemini,
        };
        Some(Way::Translated(format))
    }
}

/// Where a provider's connections go; providers with equal origins share theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// Certificates to trust besides the system's.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) http: HttpVersions,
    /// Whether link-local addresses are connected to.
    pub(crate) allow_link_local: bool,
}

/// Which versions of HTTP are spoken with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HttpVersions {
    /// HTTP/1.1 only.
    One,
    /// HTTP/2 over TLS where the upstream offers it.
    Both,
    /// HTTP/2 only; without TLS by prior knowledge.
    Two,
}

/// How long an upstream may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    pub(crate) first_byte: Duration,
    pub(crate) idle: Duration,
    pub(crate) total: Duration,
    /// How long an answer is read on when its client has gone; nothing: it is ended at once.
    pub(crate) drain: Option<Duration>,
}

/// How a provider's health is checked.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// Asked for with GET, below the base path; begins with a slash.
    pub(crate) path: String,
    /// From one check to the next; `None`: only when asked for.
    pub(crate) interval: Option<Duration>,
    /// For one check.
    pub(crate) timeout: Duration,
    /// Failures in a row after which the provider is down.
    pub(crate) unhealthy_after: u32,
    /// Successes in a row after which it is up again.
    pub(crate) healthy_after: u32,
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
    pub(crate) limits: Limits,
}

/// One model at one provider.
#[derive(Clone, Debug)]
pub(crate) struct Deployment {
    pub(crate) provider: Arc<Provider>,
    /// Index of the provider in [`Snapshot::providers`].
    pub(crate) provider_index: usize,
    /// The provider's own name of the model.
    pub(crate) model: Arc<str>,
    /// Its health and latency; of models that the configuration doesn't name, the provider's.
    pub(crate) state: Arc<balance::DeploymentState>,
}

impl Snapshot {
    /// The deployment of a provider's model that a client names by itself.
    pub(crate) fn deployment(
        &self,
        provider_index: usize,
        provider: &Arc<Provider>,
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
    pub(crate) fn provider(&self, id: &str) -> Option<(usize, &Arc<Provider>)> {
        self.providers
            .iter()
            .enumerate()
            .find(|(_, provider)| provider.id == id)
    }
}

/// Stands for every model of a provider that the configuration doesn't name: those names are made
/// by clients, so none of them has a state of its own.
pub(crate) const UNNAMED: &str = "*";

impl Deployment {
    /// The deployment of a provider's model.
    pub(crate) fn new(
        provider_index: usize,
        provider: &Arc<Provider>,
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

    /// What identifies a deployment in [`Snapshot::states`], in logs and in metrics.
    pub(crate) fn id_of(provider: &Provider, model: &str) -> String {
        format!("{}/{model}", provider.id)
    }

    /// Whether both are the same model at the same provider.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.provider_index == other.provider_index && self.model == other.model
    }
}

/// The state of a deployment that nothing is known of and that nobody else shares.
fn fresh(provider: &Provider) -> Arc<balance::DeploymentState> {
    let id = Deployment::id_of(provider, UNNAMED);
    let state = balance::DeploymentState::new(&id, CircuitSettings::default(), 0, clock::now());
    Arc::new(state)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Snapshots for tests, built from as little as they need.

    use llm_router_domain::balance::{PoolMember, Strategy};
    use llm_router_domain::key::KeyHasher;

    use super::*;

    pub(crate) fn provider(id: &str, kind: ProviderKind, models: &[&str]) -> Arc<Provider> {
        let second = Duration::from_secs(1);
        Arc::new(Provider {
            id: id.to_owned(),
            fingerprint: 0,
            kind,
            responses: true,
            dialect: ChatDialect::OpenAi,
            compat: Compat::Lenient,
            type_name: "custom",
            origin: Origin {
                host: "127.0.0.1".into(),
                port: 9,
                tls: false,
                ca_file: None,
                http: HttpVersions::One,
                allow_link_local: false,
            },
            base_path: "/base".into(),
            host_header: HeaderValue::from_static("provider.test"),
            credential: Some(HeaderValue::from_static("sk-theirs")),
            secrets: vec!["sk-theirs".into()],
            headers: vec![(
                HeaderName::from_static("x-extra"),
                HeaderValue::from_static("1"),
            )],
            timeouts: Timeouts {
                connect: second,
                first_byte: second,
                idle: second,
                total: second,
                drain: None,
            },
            check: Check {
                path: "/models".into(),
                interval: None,
                timeout: second,
                unhealthy_after: 1,
                healthy_after: 1,
            },
            models: PatternList::new(models.iter().copied()),
        })
    }

    pub(crate) fn model(
        name: &str,
        deployments: &[(usize, &Arc<Provider>, &str)],
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
            limits: Limits::NONE,
        })
    }

    pub(crate) fn snapshot(
        providers: Vec<Arc<Provider>>,
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
            server: Server::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ProviderKind::{Anthropic, Gemini, Mock, OpenAi};
    use super::*;

    #[test]
    fn providers_are_asked_in_their_own_format() {
        use Endpoint::{
            ChatCompletions, Completions, CountTokens, Embeddings, Messages, Responses,
        };
        use Format::{AnthropicMessages, OpenAiChat};
        let gemini = Some(Way::Translated(Format::Gemini));
        for (kind, endpoint, expected) in [
            (
                OpenAi,
                ChatCompletions,
                Some(Way::Native("/chat/completions")),
            ),
            (OpenAi, Responses, Some(Way::Native("/responses"))),
            (OpenAi, Messages, Some(Way::Translated(OpenAiChat))),
            (OpenAi, CountTokens, None),
            (Anthropic, Messages, Some(Way::Native("/v1/messages"))),
            (
                Anthropic,
                ChatCompletions,
                Some(Way::Translated(AnthropicMessages)),
            ),
            (
                Anthropic,
                Responses,
                Some(Way::Translated(AnthropicMessages)),
            ),
            (Anthropic, Embeddings, None),
            (Anthropic, Completions, None),
            (Gemini, ChatCompletions, gemini),
            (Gemini, Responses, gemini),
            (Gemini, Messages, gemini),
            (Gemini, CountTokens, gemini),
            (Gemini, Embeddings, Some(Way::Native("/openai/embeddings"))),
            (Gemini, Completions, None),
            (Mock, Messages, Some(Way::Native("/messages"))),
        ] {
            assert_eq!(kind.way(endpoint), expected, "{kind:?} {endpoint:?}");
        }
        let chat_only = Provider {
            responses: false,
            ..Arc::into_inner(testing::provider("p", OpenAi, &["*"])).unwrap()
        };
        assert_eq!(chat_only.way(Responses), Some(Way::Translated(OpenAiChat)));
        assert_eq!(
            chat_only.way(ChatCompletions),
            Some(Way::Native("/chat/completions"))
        );
    }
}
