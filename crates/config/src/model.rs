//! `models`: public names, each a set of deployments.

use std::collections::HashSet;

use llm_router_domain::balance::Strategy;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::findings::{At, Findings};
use crate::items::Items;
use crate::known::Known;
use crate::provider::Provider;
use crate::scalar::{ModelName, Text};

/// A public name and what stands behind it.
#[derive(Clone, Debug)]
pub struct Model {
    /// What clients ask for; unique.
    pub name: String,
    /// How a deployment is chosen.
    pub strategy: Strategy,
    /// Never empty.
    pub deployments: Vec<Deployment>,
    /// Positions in the list of models, tried in this order when every deployment failed. Following
    /// them never leads back.
    pub fallbacks: Vec<usize>,
}

/// A model at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Position in the list of providers.
    pub provider: usize,
    /// The provider's name for the model.
    pub model: String,
    /// Its share among the deployments of the model; at least one of those is above 0.
    pub weight: u32,
}

/// A public name, and the deployments behind it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Model")]
pub(crate) struct RawModel {
    /// What clients ask for.
    name: Text<ModelName>,
    /// How a deployment is chosen.
    #[serde(default)]
    strategy: Strategy,
    /// Where the model is to be had.
    #[schemars(length(min = 1))]
    deployments: Items<RawDeployment>,
    /// Other public names, tried in this order when every deployment failed.
    #[serde(default)]
    fallbacks: Items<Text<ModelName>>,
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
    /// Its share of the requests in relation to the others; 0 for none.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    weight: u32,
}

impl RawModel {
    pub(crate) fn check(
        self,
        at: &At,
        known: &Known,
        providers: &[Provider],
        findings: &mut Findings,
    ) -> Model {
        check_name(&self.name.0.0, &at.field("name"), known, findings);
        let list = at.field("deployments");
        let deployments = self.deployments.located(&list, findings).into_iter();
        let deployments = deployments.filter_map(|(at, raw)| {
            let deployment = raw.check(&at, known, providers, findings)?;
            Some((at, deployment))
        });
        let deployments: Vec<(At, Deployment)> = deployments.collect();
        check_deployments(&deployments, &list, known, providers, findings);
        let fallbacks = check_fallbacks(self.fallbacks, &at.field("fallbacks"), known, findings);
        Model {
            name: self.name.0.0,
            strategy: self.strategy,
            deployments: deployments.into_iter().map(|(_, one)| one).collect(),
            fallbacks,
        }
    }
}

impl RawDeployment {
    fn check(
        self,
        at: &At,
        known: &Known,
        providers: &[Provider],
        findings: &mut Findings,
    ) -> Option<Deployment> {
        let position = known
            .providers
            .refer(&self.provider, &at.field("provider"), findings)?;
        let provider = providers
            .iter()
            .find(|provider| provider.id == self.provider);
        let model = self.model.0.0;
        if provider.is_some_and(|provider| !provider.serves(&model)) {
            let what = format!("`{model}` is not among the models of `{}`", self.provider);
            findings.warn(&at.field("model"), what, "add it there, or correct it here");
        }
        Some(Deployment {
            provider: position,
            model,
            weight: self.weight,
        })
    }
}

/// Reports fallbacks that lead back to where they began, once for each circle. The models come
/// with their positions in the file.
pub(crate) fn check_circles(models: &[(usize, Model)], list: &At, findings: &mut Findings) {
    let count = models.last().map_or(0, |(last, _)| last + 1);
    let mut targets: Vec<&[usize]> = vec![&[]; count];
    for (position, model) in models {
        targets[*position] = &model.fallbacks;
    }
    for circle in circles(&targets) {
        let Some(last) = circle.last() else { continue };
        let names = circle.iter().chain(circle.first()).filter_map(|position| {
            let (_, model) = models.iter().find(|(at, _)| at == position)?;
            Some(model.name.as_str())
        });
        let names: Vec<&str> = names.collect();
        let what = format!("lead round in a circle: {}", names.join(" → "));
        findings.error(
            &list.item(*last).field("fallbacks"),
            what,
            "remove one of these steps",
        );
    }
}

fn check_name(name: &str, at: &At, known: &Known, findings: &mut Findings) {
    known.models.check_unique(name, at, findings);
    if name == "auto" {
        let remedy = "choose another; routing.default_model says what `auto` means";
        findings.error(
            at,
            "`auto` is what clients ask for to have rules decide",
            remedy,
        );
    }
    let prefix = name.split_once('/').map_or(name, |(prefix, _)| prefix);
    if prefix != name && known.providers.position(prefix).is_some() {
        let what = format!("`{name}` hides a model of the provider `{prefix}`");
        findings.warn(
            at,
            what,
            "choose a name that does not begin with a provider's id",
        );
    }
}

fn check_deployments(
    deployments: &[(At, Deployment)],
    list: &At,
    known: &Known,
    providers: &[Provider],
    findings: &mut Findings,
) {
    let mut seen = HashSet::new();
    for (at, one) in deployments {
        if !seen.insert((one.provider, one.model.as_str())) {
            let what = format!("`{}` at the same provider is listed twice", one.model);
            findings.error(at, what, "remove one and add their weights");
        }
    }
    if deployments.is_empty() {
        return;
    }
    if deployments.iter().all(|(_, one)| one.weight == 0) {
        findings.error(
            list,
            "all have the weight 0",
            "give one of them a weight of 1 or more",
        );
    }
    let is_off = |one: &Deployment| {
        let mut off = providers.iter().filter(|provider| !provider.enabled);
        off.any(|provider| known.providers.position(&provider.id) == Some(one.provider))
    };
    if deployments.iter().all(|(_, one)| is_off(one)) {
        findings.warn(
            list,
            "all their providers are switched off",
            "switch one of those on",
        );
    }
}

fn check_fallbacks(
    names: Items<Text<ModelName>>,
    at: &At,
    known: &Known,
    findings: &mut Findings,
) -> Vec<usize> {
    let mut positions = Vec::new();
    for (at, name) in names.located(at, findings) {
        let name = name.0.0;
        let Some(position) = known.models.refer(&name, &at, findings) else {
            continue;
        };
        if positions.contains(&position) {
            findings.error(&at, format!("`{name}` is listed twice"), "remove one");
            continue;
        }
        positions.push(position);
    }
    positions
}

const fn one() -> u32 {
    1
}

/// The circles in a graph given by its edges, each as the nodes along it.
fn circles(targets: &[&[usize]]) -> Vec<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Node {
        New,
        OnPath,
        Done,
    }
    let mut nodes = vec![Node::New; targets.len()];
    let mut found = Vec::new();
    // A walk in depth without recursion: chains of fallbacks may be long.
    for start in 0..targets.len() {
        let mut path: Vec<(usize, usize)> = Vec::new();
        if nodes[start] == Node::New {
            path.push((start, 0));
        }
        while let Some((node, next)) = path.last_mut() {
            nodes[*node] = Node::OnPath;
            let Some(target) = targets[*node].get(*next).copied() else {
                nodes[*node] = Node::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match nodes.get(target) {
                Some(Node::New) => path.push((target, 0)),
                Some(Node::OnPath) => {
                    let nodes = path.iter().map(|(node, _)| *node);
                    found.push(nodes.skip_while(|node| *node != target).collect());
                }
                Some(Node::Done) | None => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_once() {
        let check = |targets: &[&[usize]], expected: &[&[usize]]| {
            assert_eq!(circles(targets), expected, "{targets:?}");
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
        assert!(circles(&chain).is_empty());
    }
}
