//! The whole file: its raw type, from which the schema is generated, and the checked type that the
//! rest of the program uses. Each section is checked in its own file; this one checks what spans
//! sections.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::admin::{Admin, RawAdmin};
use crate::diagnostics::Diagnostics;
use crate::environment::Environment;
use crate::file::require_readable;
use crate::items::Items;
use crate::key::{self, RawKey, StaticKey};
use crate::limits::{RawRouterLimits, RouterLimits};
use crate::model::{self, Model, RawModel};
use crate::names::DefinedNames;
use crate::owner::{Owner, RawOwner, check_owners};
use crate::path::ConfigPath;
use crate::provider::{Provider, RawProvider};
use crate::restart::{RestartOnly, RestartOnlySettings, describe_restarts};
use crate::routing::{RawRouting, Routing};
use crate::scalar::Text;
use crate::secrets::Secrets;
use crate::server::{RawServer, Server};
use crate::store::{Counters, RawCounters, RawStore, Store};
use crate::telemetry::{RawTelemetry, Telemetry};

/// A configuration without mistakes: defaults filled in, references resolved to positions, paths
/// absolute or relative to the working directory.
#[derive(Clone, Debug)]
pub struct Config {
    /// The port that clients connect to.
    pub server: Server,
    /// The port of the admin service.
    pub admin: Admin,
    /// Storage of state that outlives the process.
    pub store: Store,
    /// Storage of state that replicas share.
    pub counters: Counters,
    /// Providers in the order of the file, by which positions elsewhere refer to them.
    pub providers: Vec<Arc<Provider>>,
    /// Public models in the order of the file, by which positions elsewhere refer to them.
    pub models: Vec<Model>,
    /// The choice of a model for each request.
    pub routing: Routing,
    /// Keys in the order of the file.
    pub keys: Vec<StaticKey>,
    /// Limits of all requests and of owners.
    pub limits: RouterLimits,
    /// Owners in the order of the file.
    pub owners: Vec<Owner>,
    /// The prices file, if there is one besides the built-in table.
    pub prices: Option<PathBuf>,
    /// Access log and traces.
    pub telemetry: Telemetry,
    /// Secrets from the environment.
    pub secrets: Secrets,
    /// The values that only a restart changes.
    pub restart_only: RestartOnlySettings,
}

impl Config {
    /// Returns the socket by which a process hands its listening sockets to the next one.
    #[must_use]
    pub fn upgrade_socket(&self) -> PathBuf {
        let path = self.server.upgrade_socket.clone();
        path.unwrap_or_else(|| self.store.journal.join("upgrade.sock"))
    }

    /// Returns the files that the configuration names, whose changes call for a reload.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let tls = self.server.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]);
        let ca = self
            .providers
            .iter()
            .filter_map(|provider| provider.ca_file.as_ref());
        let files = self.prices.iter().chain(tls).chain(ca);
        files.map(PathBuf::as_path)
    }
}

/// The configuration of LLM Router.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Config")]
pub(crate) struct RawConfig {
    /// The port that clients connect to.
    server: RawServer,
    /// The port of the admin service: admin API, dashboard, /docs and /metrics.
    admin: RawAdmin,
    /// Storage of state that outlives the process: keys, rules, ledger, audit.
    store: RestartOnly<RawStore>,
    /// Storage of short-lived state that replicas share: limits, budgets of requests in flight,
    /// the routing toggle.
    counters: RestartOnly<RawCounters>,
    /// The providers of models.
    providers: Items<RawProvider>,
    /// Public model names, each with its deployments. Providers' own models need no entry: clients
    /// can ask for "provider/model".
    models: Items<RawModel>,
    /// The choice of a model for each request.
    routing: RawRouting,
    /// Keys that clients send. The admin API and the command line create more.
    keys: Items<RawKey>,
    /// Limits besides those of keys and models, and the behaviour of all limits while the counter
    /// service is unavailable.
    limits: RawRouterLimits,
    /// Teams and projects whose keys share a budget.
    owners: Items<RawOwner>,
    /// A file of prices in US dollars per million tokens, merged over the built-in table.
    prices: Option<Text<PathBuf>>,
    /// Access log and traces.
    telemetry: RestartOnly<RawTelemetry>,
}

impl RawConfig {
    /// Checks everything that the schema can't express. The result is usable only if the
    /// diagnostics have no error.
    pub(crate) fn check(
        self,
        names: &DefinedNames,
        environment: &Environment,
        secrets: Secrets,
        diagnostics: &mut Diagnostics,
    ) -> Config {
        let at = |name| ConfigPath::default().field(name);
        let mut restart_only = RestartOnlySettings::default();
        let restart = &mut restart_only;
        let server = self.server.check(&at("server"), restart, diagnostics);
        let admin = self
            .admin
            .check(server.listen, &at("admin"), restart, diagnostics);
        let store = self.store.check(&at("store"), restart, |store| {
            store.check(&at("store"), environment, diagnostics)
        });
        let counters = self.counters.check(&at("counters"), restart, |counters| {
            counters.check(&at("counters"), environment, diagnostics)
        });
        let telemetry = self
            .telemetry
            .check(&at("telemetry"), restart, |telemetry| {
                telemetry.check(&at("telemetry"), diagnostics)
            });
        let providers = check_providers(self.providers, &at("providers"), names, diagnostics);
        let models = check_models(self.models, &at("models"), names, &providers, diagnostics);
        let keys = check_keys(self.keys, &at("keys"), names, &providers, diagnostics);
        let routing = self
            .routing
            .check(&at("routing"), names, &providers, &keys, diagnostics);
        let prices = self.prices.map(|path| path.0);
        if let Some(path) = &prices {
            require_readable(path, &at("prices"), diagnostics);
        }
        let owners = check_owners(self.owners, &at("owners"), diagnostics);
        if !store.ledger {
            let has_budgets = keys.iter().any(|key| key.budget.is_some()) || !owners.is_empty();
            check_without_ledger(has_budgets, &at("store").field("ledger"), diagnostics);
        }
        Config {
            server,
            admin,
            store,
            counters,
            providers: providers.into_iter().map(Arc::new).collect(),
            models,
            routing,
            keys,
            limits: self.limits.check(&at("limits"), diagnostics),
            owners,
            prices,
            telemetry,
            secrets,
            restart_only,
        }
    }
}

fn check_without_ledger(has_budgets: bool, at: &ConfigPath, diagnostics: &mut Diagnostics) {
    if has_budgets {
        diagnostics.error(
            at,
            "budgets need the ledger",
            "set it to true, or remove the budgets of keys and owners",
        );
    } else {
        diagnostics.warn(
            at,
            "the ledger is off, so costs are not recorded",
            "set it to true to record them",
        );
    }
}

/// Generates the JSON Schema of the file, for editors and for [`crate::schema::SchemaReader`].
pub(crate) fn generate_schema() -> Json {
    let settings = SchemaSettings::draft2020_12();
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<RawConfig>();
    let mut schema = schema.to_value();
    schema["title"] = "LLM Router".into();
    drop_null_defaults(&mut schema);
    describe_restarts(&mut schema);
    schema
}

/// Settings without a default have none in the schema, instead of null.
fn drop_null_defaults(schema: &mut Json) {
    match schema {
        Json::Object(fields) => {
            if fields.get("default").is_some_and(Json::is_null) {
                fields.remove("default");
            }
            fields.values_mut().for_each(drop_null_defaults);
        }
        Json::Array(items) => items.iter_mut().for_each(drop_null_defaults),
        _ => {}
    }
}

fn check_providers(
    raw: Items<RawProvider>,
    at: &ConfigPath,
    names: &DefinedNames,
    diagnostics: &mut Diagnostics,
) -> Vec<Provider> {
    let raw = raw.with_paths(at, diagnostics).into_iter();
    let providers = raw.map(|(at, provider)| provider.check(&at, names, diagnostics));
    let providers: Vec<Provider> = providers.collect();
    if providers.is_empty() {
        let problem = "no provider is configured, so every request fails";
        let remedy = format!("add one, or set {} and use no file", variables_used());
        diagnostics.warn(at, problem, remedy);
    }
    providers
}

/// The variables that make providers without a file, as a list in words.
fn variables_used() -> String {
    let types = llm_router_providers::all().iter();
    let used = types.filter(|kind| kind.is_used_without_file());
    let names: Vec<&str> = used.map(|kind| kind.environment_variable()).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

fn check_models(
    raw: Items<RawModel>,
    at: &ConfigPath,
    names: &DefinedNames,
    providers: &[Provider],
    diagnostics: &mut Diagnostics,
) -> Vec<Model> {
    let raw = raw.with_positions(at, diagnostics).into_iter();
    let models = raw.map(|(position, model)| {
        let at = at.item(position);
        (position, model.check(&at, names, providers, diagnostics))
    });
    let models: Vec<(usize, Model)> = models.collect();
    model::check_cycles(&models, at, diagnostics);
    models.into_iter().map(|(_, model)| model).collect()
}

fn check_keys(
    raw: Items<RawKey>,
    at: &ConfigPath,
    names: &DefinedNames,
    providers: &[Provider],
    diagnostics: &mut Diagnostics,
) -> Vec<StaticKey> {
    let raw = raw.with_positions(at, diagnostics).into_iter();
    let keys = raw.map(|(position, key)| {
        let at = at.item(position);
        (position, key.check(&at, names, providers, diagnostics))
    });
    let keys: Vec<(usize, StaticKey)> = keys.collect();
    key::check_unique(&keys, at, diagnostics);
    keys.into_iter().map(|(_, key)| key).collect()
}
