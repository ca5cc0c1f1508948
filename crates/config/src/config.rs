//! The whole file: its raw type with the schema made from it, and the checked type that the rest of
//! the program sees. The parts check themselves, each in its own file; what spans them is here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::admin::{Admin, RawAdmin};
use crate::environment::Environment;
use crate::file::must_be_readable;
use crate::findings::{At, Findings};
use crate::items::Items;
use crate::key::{self, RawKey, StaticKey};
use crate::known::Known;
use crate::limits::{RawRouterLimits, RouterLimits};
use crate::model::{self, Model, RawModel};
use crate::owner::{Owner, RawOwner, check_owners};
use crate::provider::{Provider, RawProvider};
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
    /// The port that clients call.
    pub server: Server,
    /// The port of the admin service.
    pub admin: Admin,
    /// Where state that outlives the process is kept.
    pub store: Store,
    /// Where state that replicas share is kept.
    pub counters: Counters,
    /// In the order of the file. Positions elsewhere refer to it.
    pub providers: Vec<Arc<Provider>>,
    /// In the order of the file. Positions elsewhere refer to it.
    pub models: Vec<Model>,
    /// How requests find their model.
    pub routing: Routing,
    /// In the order of the file.
    pub keys: Vec<StaticKey>,
    /// Ceilings of everybody and of owners.
    pub limits: RouterLimits,
    /// In the order of the file.
    pub owners: Vec<Owner>,
    /// The prices file, if there is one besides the built-in table.
    pub prices: Option<PathBuf>,
    /// What the router tells of single requests.
    pub telemetry: Telemetry,
    /// Secrets from the environment.
    pub secrets: Secrets,
}

impl Config {
    /// Where a process hands its sockets to the next one.
    #[must_use]
    pub fn upgrade_socket(&self) -> PathBuf {
        let set = self.server.upgrade_socket.clone();
        set.unwrap_or_else(|| self.store.journal.join("upgrade.sock"))
    }
}

/// The configuration of LLM Router.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Config")]
pub(crate) struct RawConfig {
    /// The port that clients call.
    server: RawServer,
    /// The port of the admin service: admin API, dashboard, /docs, /metrics.
    admin: RawAdmin,
    /// Where state that outlives the process is kept: keys, rules, ledger, audit.
    store: RawStore,
    /// Where state that replicas share from moment to moment is kept: limits, budgets in flight,
    /// the toggle.
    counters: RawCounters,
    /// The providers of models.
    providers: Items<RawProvider>,
    /// Public names, each a set of deployments. Models of providers need none: clients can ask for
    /// "provider/model".
    models: Items<RawModel>,
    /// How requests find their model.
    routing: RawRouting,
    /// Keys that clients show. More are made with the admin API or the command line.
    keys: Items<RawKey>,
    /// Ceilings besides those of keys and models, and what becomes of all of them while the counter
    /// service is away.
    limits: RawRouterLimits,
    /// Teams and projects whose keys have a budget together.
    owners: Items<RawOwner>,
    /// A file of prices in US dollars per million tokens, merged over the built-in table.
    prices: Option<Text<PathBuf>>,
    /// What the router tells of single requests: in its access log and, if wanted, in traces.
    telemetry: RawTelemetry,
}

impl Config {
    /// The files that the configuration names, whose change calls for a reload.
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

impl RawConfig {
    /// Checks what the shape of the file can't say. What comes out is good only if the findings
    /// have no error.
    pub(crate) fn check(
        self,
        known: &Known,
        environment: &Environment,
        secrets: Secrets,
        findings: &mut Findings,
    ) -> Config {
        let at = |name| At::default().field(name);
        let server = self.server.check(&at("server"), findings);
        let admin = self.admin.check(server.listen, &at("admin"), findings);
        let providers = check_providers(self.providers, &at("providers"), known, findings);
        let models = check_models(self.models, &at("models"), known, &providers, findings);
        let keys = check_keys(self.keys, &at("keys"), known, &providers, findings);
        let routing = self
            .routing
            .check(&at("routing"), known, &providers, &keys, findings);
        let prices = self.prices.map(|path| path.0);
        if let Some(path) = &prices {
            must_be_readable(path, &at("prices"), findings);
        }
        let store = self.store.check(environment, findings);
        let owners = check_owners(self.owners, &at("owners"), findings);
        if !store.ledger {
            let budgets = keys.iter().any(|key| key.budget.is_some()) || !owners.is_empty();
            without_ledger(budgets, &at("store").field("ledger"), findings);
        }
        Config {
            server,
            admin,
            store,
            counters: self.counters.check(&at("counters"), environment, findings),
            providers: providers.into_iter().map(Arc::new).collect(),
            models,
            routing,
            keys,
            limits: self.limits.check(&at("limits"), findings),
            owners,
            prices,
            telemetry: self.telemetry.check(&at("telemetry"), findings),
            secrets,
        }
    }
}

/// What is spent of a budget is known by the ledger only.
fn without_ledger(budgets: bool, at: &At, findings: &mut Findings) {
    if budgets {
        findings.error(
            at,
            "budgets need the ledger",
            "leave `ledger` out, or take the budgets of keys and owners out",
        );
    } else {
        findings.warn(
            at,
            "the ledger is off: what requests cost is not kept",
            "leave `ledger` out to keep it",
        );
    }
}

/// The JSON Schema of the file, for editors and for the walk over the file.
pub(crate) fn schema() -> Json {
    let settings = SchemaSettings::draft2020_12();
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<RawConfig>();
    let mut schema = schema.to_value();
    schema["title"] = "LLM Router".into();
    drop_null_defaults(&mut schema);
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
    at: &At,
    known: &Known,
    findings: &mut Findings,
) -> Vec<Provider> {
    let raw = raw.located(at, findings).into_iter();
    let providers = raw.map(|(at, provider)| provider.check(&at, known, findings));
    let providers: Vec<Provider> = providers.collect();
    if providers.is_empty() {
        let remedy = format!("add one, or set {} and use no file", variables_used());
        findings.warn(at, "there are none, so no request can be answered", remedy);
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
    at: &At,
    known: &Known,
    providers: &[Provider],
    findings: &mut Findings,
) -> Vec<Model> {
    let raw = raw.indexed(at, findings).into_iter();
    let models = raw.map(|(position, model)| {
        (
            position,
            model.check(&at.item(position), known, providers, findings),
        )
    });
    let models: Vec<(usize, Model)> = models.collect();
    model::check_circles(&models, at, findings);
    models.into_iter().map(|(_, model)| model).collect()
}

fn check_keys(
    raw: Items<RawKey>,
    at: &At,
    known: &Known,
    providers: &[Provider],
    findings: &mut Findings,
) -> Vec<StaticKey> {
    let raw = raw.indexed(at, findings).into_iter();
    let keys = raw.map(|(position, key)| {
        (
            position,
            key.check(&at.item(position), known, providers, findings),
        )
    });
    let keys: Vec<(usize, StaticKey)> = keys.collect();
    key::check_unique(&keys, at, findings);
    keys.into_iter().map(|(_, key)| key).collect()
}
