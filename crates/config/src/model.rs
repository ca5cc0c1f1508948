//! `models`: public names, each with its deployments.

use std::collections::HashSet;

use llm_router_domain::balance::Strategy;
use llm_router_domain::key::LimitSpec;
use llm_router_domain::limit::Limits;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::Diagnostics;
use crate::items::Items;
use crate::limits::check_limits;
use crate::names::DefinedNames;
use crate::path::ConfigPath;
use crate::provider::Provider;
use crate::scalar::{ModelName, Text};

/// A public name and its deployments.
#[derive(Clone, Debug)]
pub struct Model {
    /// The name that clients ask for; unique.
    pub name: String,
    /// The way in which a deployment is chosen.
    pub strategy: Strategy,
    /// The deployments; never empty.
    pub deployments: Vec<Deployment>,
    /// Positions in the list of models, tried in this order when every deployment failed. They form
    /// no cycle.
    pub fallbacks: Vec<usize>,
    /// The model's name in answers; by the client's format where none is set.
    pub answers_as: Option<AnswersAs>,
    /// True if keys that may use this name may also use its fallbacks, for its own requests.
    pub fallbacks_included: bool,
    /// Limits for all requests for this model together.
    pub limits: Limits,
}

/// The model's name in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnswersAs {
    /// The name that the client asked for.
    Asked,
    /// The provider's name for the model that answered.
    Served,
}

/// A model at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Position in the list of providers.
    pub provider: usize,
    /// The provider's name for the model.
    pub model: String,
    /// Its share relative to the model's other deployments, at least one of which is above 0.
    pub weight: u32,
}

/// A public name and its deployments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Model")]
pub(crate) struct RawModel {
    /// The name that clients ask for.
    name: Text<ModelName>,
    /// The way in which a deployment is chosen.
    #[serde(default)]
    strategy: Strategy,
    /// The providers that serve the model.
    #[schemars(length(min = 1))]
    deployments: Items<RawDeployment>,
    /// Other public names, tried in this order when every deployment failed.
    #[serde(default)]
    fallbacks: Items<Text<ModelName>>,
    /// The model's name in answers. Default: asked for `/v1/messages`, whose agents throw signed thoughts
    /// away where the name isn't the one they asked for; else served. The header `x-llm-router-model`
    /// always has the provider's name.
    answers_as: Option<AnswersAs>,
    /// Set to true to let the requests of every key that may use this name fall back, also to
    /// names that are not on the key's own list.
    #[serde(default)]
    fallbacks_included: bool,
    /// Limits for all requests for this model together. A limit that is left out does not apply.
    #[serde(default)]
    limits: LimitSpec,
}

/// A model at a provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Deployment")]
struct RawDeployment {
    /// The id of a provider.
    provider: String,
    /// The provider's name for the model.
    model: Text<ModelName>,
    /// Its share of the requests relative to the other deployments; 0 for none.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    weight: u32,
}

impl RawModel {
    pub(crate) fn check(
        self,
        at: &ConfigPath,
        names: &DefinedNames,
        providers: &[Provider],
        diagnostics: &mut Diagnostics,
    ) -> Model {
        check_name(&self.name.0.0, &at.field("name"), names, diagnostics);
        let list = at.field("deployments");
        let deployments = self.deployments.with_paths(&list, diagnostics).into_iter();
        let deployments = deployments.filter_map(|(at, raw)| {
            let deployment = raw.check(&at, names, providers, diagnostics)?;
            Some((at, deployment))
        });
        let deployments: Vec<(ConfigPath, Deployment)> = deployments.collect();
        check_deployments(&deployments, &list, names, providers, diagnostics);
        let fallbacks = at.field("fallbacks");
        let fallbacks = check_fallbacks(self.fallbacks, &fallbacks, names, diagnostics);
        Model {
            name: self.name.0.0,
            strategy: self.strategy,
            deployments: deployments.into_iter().map(|(_, one)| one).collect(),
            fallbacks,
            answers_as: self.answers_as,
            fallbacks_included: self.fallbacks_included,
            limits: check_limits(&self.limits, &at.field("limits"), diagnostics),
        }
    }
}

impl RawDeployment {
    fn check(
        self,
        at: &ConfigPath,
        names: &DefinedNames,
        providers: &[Provider],
        diagnostics: &mut Diagnostics,
    ) -> Option<Deployment> {
        let at_provider = at.field("provider");
        let position = names
            .providers
            .resolve(&self.provider, &at_provider, diagnostics)?;
        let mut providers = providers.iter();
        let provider = providers.find(|provider| provider.id == self.provider);
        let model = self.model.0.0;
        if provider.is_some_and(|provider| !provider.serves(&model)) {
            let problem = format!(
                "provider `{}` does not list the model `{model}`",
                self.provider
            );
            let remedy = "add it to the provider's models, or correct the name";
            diagnostics.warn(&at.field("model"), problem, remedy);
        }
        Some(Deployment {
            provider: position,
            model,
            weight: self.weight,
        })
    }
}

/// Reports fallbacks that form a cycle, once for each cycle. The models come with their positions
/// in the file.
pub(crate) fn check_cycles(
    models: &[(usize, Model)],
    list: &ConfigPath,
    diagnostics: &mut Diagnostics,
) {
    let count = models.last().map_or(0, |(last, _)| last + 1);
    let mut targets: Vec<&[usize]> = vec![&[]; count];
    for (position, model) in models {
        targets[*position] = &model.fallbacks;
    }
    for cycle in find_cycles(&targets) {
        let Some(last) = cycle.last() else { continue };
        let names = cycle.iter().chain(cycle.first()).filter_map(|position| {
            let (_, model) = models.iter().find(|(at, _)| at == position)?;
            Some(model.name.as_str())
        });
        let names: Vec<&str> = names.collect();
        let problem = format!("form a cycle: {}", names.join(" → "));
        let at = list.item(*last).field("fallbacks");
        diagnostics.error(&at, problem, "remove one of these fallbacks");
    }
}

fn check_name(name: &str, at: &ConfigPath, names: &DefinedNames, diagnostics: &mut Diagnostics) {
    names.models.check_unique(name, at, diagnostics);
    if name == "auto" {
        diagnostics.error(
            at,
            "`auto` is reserved for requests whose model the rules choose",
            "choose another name; routing.default_model sets the model of `auto`",
        );
    }
    let (prefix, model) = name.split_once('/').unwrap_or((name, ""));
    if prefix != name && names.providers.position(prefix).is_some() {
        diagnostics.warn(
            at,
            format!("`{name}` hides the model `{model}` of the provider `{prefix}`"),
            "choose a name that does not begin with a provider's id",
        );
    }
}

fn check_deployments(
    deployments: &[(ConfigPath, Deployment)],
    list: &ConfigPath,
    names: &DefinedNames,
    providers: &[Provider],
    diagnostics: &mut Diagnostics,
) {
    let mut seen = HashSet::new();
    for (at, one) in deployments {
        if !seen.insert((one.provider, one.model.as_str())) {
            let problem = format!("`{}` is listed twice for the same provider", one.model);
            diagnostics.error(at, problem, "remove one and add up the weights");
        }
    }
    if deployments.is_empty() {
        return;
    }
    if deployments.iter().all(|(_, one)| one.weight == 0) {
        diagnostics.error(
            list,
            "all have the weight 0",
            "give at least one of them a weight of 1 or more",
        );
    }
    let is_disabled = |one: &Deployment| {
        let mut disabled = providers.iter().filter(|provider| !provider.enabled);
        disabled.any(|provider| names.providers.position(&provider.id) == Some(one.provider))
    };
    if deployments.iter().all(|(_, one)| is_disabled(one)) {
        diagnostics.warn(
            list,
            "all their providers are disabled",
            "enable one of them",
        );
    }
}

fn check_fallbacks(
    fallbacks: Items<Text<ModelName>>,
    at: &ConfigPath,
    names: &DefinedNames,
    diagnostics: &mut Diagnostics,
) -> Vec<usize> {
    let mut positions = Vec::new();
    for (at, name) in fallbacks.with_paths(at, diagnostics) {
        let name = name.0.0;
        let Some(position) = names.models.resolve(&name, &at, diagnostics) else {
            continue;
        };
        if positions.contains(&position) {
            diagnostics.error(&at, format!("`{name}` is listed twice"), "remove one");
            continue;
        }
        positions.push(position);
    }
    positions
}

const fn one() -> u32 {
    1
}

/// Returns the cycles of a graph, each as the nodes along it. The graph is given by its edges.
fn find_cycles(targets: &[&[usize]]) -> Vec<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        New,
        OnPath,
        Done,
    }
    let mut visits = vec![Visit::New; targets.len()];
    let mut cycles = Vec::new();
    // A depth-first search without recursion: chains of fallbacks may be long.
    for start in 0..targets.len() {
        let mut path: Vec<(usize, usize)> = Vec::new();
        if visits[start] == Visit::New {
            path.push((start, 0));
        }
        while let Some((node, next)) = path.last_mut() {
            visits[*node] = Visit::OnPath;
            let Some(target) = targets[*node].get(*next).copied() else {
                visits[*node] = Visit::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match visits.get(target) {
                Some(Visit::New) => path.push((target, 0)),
                Some(Visit::OnPath) => {
                    let nodes = path.iter().map(|(node, _)| *node);
                    cycles.push(nodes.skip_while(|node| *node != target).collect());
                }
                Some(Visit::Done) | None => {}
            }
        }
    }
    cycles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_found_once() {
        let check = |targets: &[&[usize]], expected: &[&[usize]]| {
            assert_eq!(find_cycles(targets), expected, "{targets:?}");
        };
        check(&[], &[]);
        check(&[&[1], &[2], &[]], &[]);
        check(&[&[1, 2], &[2], &[]], &[]);
        check(&[&[0]], &[&[0]]);
        check(&[&[1], &[0]], &[&[0, 1]]);
        check(&[&[1], &[2], &[1]], &[&[1, 2]]);
        check(&[&[1], &[], &[3], &[2]], &[&[2, 3]]);
        check(&[&[7]], &[]);
    }

    #[test]
    fn long_chains_do_not_exhaust_the_stack() {
        let chain: Vec<[usize; 1]> = (1..=200_000).map(|next| [next]).collect();
        let chain: Vec<&[usize]> = chain.iter().map(|step| step.as_slice()).collect();
        assert!(find_cycles(&chain).is_empty());
    }
}
