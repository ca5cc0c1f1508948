//! Which deployment of a route is tried next: the strategy of the model asked chooses, then those
//! of its fallbacks; when all rest, the one whose rest ends first. What the end of an attempt means
//! is not decided here.

use std::sync::Arc;
use std::time::Instant;

use llm_router_domain::balance::{
    Exclusion, InFlightGuard, Pick, Ranking, SelectionContext, TriedMembers,
};
use rust_decimal::Decimal;

use crate::snapshot::{Deployment, Model};

/// Facts that a strategy may ask of the request.
pub(crate) trait SelectionFacts {
    /// Returns the expected cost of the request at a deployment, in USD; `None` without a price.
    fn cost(&self, deployment: &Deployment) -> Option<Decimal>;
    /// Returns a hash that identifies its conversation.
    fn conversation(&self) -> u64;
}

/// Deployments among which one strategy chooses.
#[derive(Clone, Debug)]
pub(crate) enum Tier {
    /// Those of a public name.
    Model(Arc<Model>),
    /// The one that was named itself.
    Named(Deployment),
}

/// A request's way through the deployments of its route, tier by tier.
#[derive(Debug, Default)]
pub(crate) struct RouteCursor {
    tiers: Vec<(Tier, TriedMembers)>,
    current: Option<Current>,
}

/// Deployments in order, and those left out with the reason.
pub(crate) type Ranked = (Vec<Deployment>, Vec<(Deployment, String)>);

/// The deployment chosen last, and the request to it.
#[derive(Debug)]
struct Current {
    deployment: Deployment,
    /// None once the request is over.
    flight: Option<InFlightGuard>,
}

impl RouteCursor {
    /// A course through `tiers`. Deployments that are not `fit` for the request are left out.
    pub(crate) fn new(
        tiers: impl IntoIterator<Item = Tier>,
        fit: impl Fn(&Deployment) -> bool,
    ) -> Self {
        let with_unfit = |tier: Tier| {
            let mut tried = TriedMembers::default();
            for (member, deployment) in tier.deployments().iter().enumerate() {
                if !fit(deployment) {
                    tried.insert(member);
                }
            }
            (tier, tried)
        };
        Self {
            tiers: tiers.into_iter().map(with_unfit).collect(),
            current: None,
        }
    }

    /// The deployments that may be tried yet, in the order of the configuration.
    pub(crate) fn remaining(&self) -> impl Iterator<Item = &Deployment> {
        self.tiers.iter().flat_map(|(tier, tried)| {
            let deployments = tier.deployments().iter().enumerate();
            deployments.filter_map(|(member, deployment)| {
                (!tried.contains(member) && tier.takes_part(member)).then_some(deployment)
            })
        })
    }

    /// Returns whether there is another deployment to try.
    pub(crate) fn has_next(&self) -> bool {
        self.remaining().next().is_some()
    }

    /// The deployment chosen last.
    pub(crate) fn deployment(&self) -> Option<&Deployment> {
        self.current.as_ref().map(|current| &current.deployment)
    }

    /// The request to it.
    pub(crate) fn flight(&mut self) -> Option<&mut InFlightGuard> {
        self.current.as_mut()?.flight.as_mut()
    }

    /// Goes on to the next deployment, one not tried before; false if none is left.
    pub(crate) fn advance(
        &mut self,
        question: &impl SelectionFacts,
        now: Instant,
        mut random: impl FnMut() -> u64,
    ) -> bool {
        let mut each = self.tiers.iter_mut().enumerate();
        let ready = each.find_map(|(at, (tier, tried))| {
            let pick = tier.next(question, tried, now, &mut random)?;
            Some((at, pick))
        });
        let Some((
            at,
            Pick {
                member,
                guard: flight,
            },
        )) = ready.or_else(|| self.last_resort(now))
        else {
            return false;
        };
        let Some(deployment) = self.deployment_at(at, member) else {
            return false;
        };
        self.leave_out(&deployment);
        let flight = Some(flight);
        self.current = Some(Current { deployment, flight });
        true
    }

    /// Names a deployment tried before as the one tried last: those after it could not be asked.
    pub(crate) fn go_back(&mut self, deployment: Option<Deployment>) {
        let flight = None;
        self.current = deployment.map(|deployment| Current { deployment, flight });
    }

    /// The deployments in the order they are likely to be tried in, and those that rest, with the
    /// reason. It changes nothing.
    pub(crate) fn rank(&self, question: &impl SelectionFacts, now: Instant) -> Ranked {
        let mut ranked = Ranked::default();
        for (tier, tried) in &self.tiers {
            let Ranking {
                candidates,
                left_out,
            } = tier.rank(question, now);
            let deployment = |member: usize| {
                let found = tier.deployments().get(member)?;
                (!tried.contains(member)).then(|| found.clone())
            };
            for found in candidates.into_iter().filter_map(deployment) {
                if !ranked.0.iter().any(|other| other.is_same(&found)) {
                    ranked.0.push(found);
                }
            }
            let why =
                |(member, why): (usize, Exclusion)| Some((deployment(member)?, why.to_string()));
            ranked.1.extend(left_out.into_iter().filter_map(why));
        }
        ranked
    }

    /// The deployments that rest now, with the reason.
    pub(crate) fn resting(&self, now: Instant) -> impl Iterator<Item = (&Deployment, Exclusion)> {
        self.tiers.iter().flat_map(move |(tier, tried)| {
            let Tier::Model(model) = tier else {
                return Vec::new();
            };
            let resting = model.balancer.resting(now);
            let untried = resting.filter(|(member, _)| !tried.contains(*member));
            let found = |(member, why)| Some((model.deployments.get(member)?, why));
            untried.filter_map(found).collect()
        })
    }

    fn last_resort(&mut self, now: Instant) -> Option<(usize, Pick)> {
        let mut each = self.tiers.iter_mut().enumerate();
        each.find_map(|(at, (tier, tried))| Some((at, tier.last_resort(tried, now)?)))
    }

    fn deployment_at(&self, tier: usize, member: usize) -> Option<Deployment> {
        let (tier, _) = self.tiers.get(tier)?;
        tier.deployments().get(member).cloned()
    }

    /// A deployment may be a member of several tiers; it is tried in one of them.
    fn leave_out(&mut self, deployment: &Deployment) {
        for (tier, tried) in &mut self.tiers {
            let deployments = tier.deployments().iter().enumerate();
            for (member, _) in deployments.filter(|(_, other)| other.is_same(deployment)) {
                tried.insert(member);
            }
        }
    }
}

impl Tier {
    /// Its deployments, in the order of the configuration.
    pub(crate) fn deployments(&self) -> &[Deployment] {
        match self {
            Self::Model(model) => &model.deployments,
            Self::Named(deployment) => std::slice::from_ref(deployment),
        }
    }

    fn takes_part(&self, member: usize) -> bool {
        match self {
            Self::Model(model) => {
                let member = model.balancer.members().get(member);
                member.is_some_and(|member| member.weight > 0)
            }
            Self::Named(_) => true,
        }
    }

    fn next(
        &self,
        question: &impl SelectionFacts,
        tried: &mut TriedMembers,
        now: Instant,
        random: impl FnMut() -> u64,
    ) -> Option<Pick> {
        match self {
            Self::Model(model) => {
                let deployments = &model.deployments;
                let asked = Asked {
                    question,
                    deployments,
                };
                model.balancer.next(&asked, tried, now, random)
            }
            Self::Named(_) if tried.contains(0) => None,
            Self::Named(deployment) => {
                let flight = InFlightGuard::acquire(&deployment.state, now)?;
                Some(Pick {
                    member: 0,
                    guard: flight,
                })
            }
        }
    }

    fn rank(&self, question: &impl SelectionFacts, now: Instant) -> Ranking {
        match self {
            Self::Model(model) => {
                let deployments = &model.deployments;
                let asked = Asked {
                    question,
                    deployments,
                };
                model.balancer.rank(&asked, now)
            }
            // Alone in its tier, it is asked even while it rests.
            Self::Named(_) => Ranking {
                candidates: vec![0],
                left_out: Vec::new(),
            },
        }
    }

    fn last_resort(&self, tried: &mut TriedMembers, now: Instant) -> Option<Pick> {
        match self {
            Self::Model(model) => model.balancer.last_resort(tried, now),
            Self::Named(_) if tried.contains(0) => None,
            Self::Named(deployment) => {
                let flight = InFlightGuard::force(&deployment.state, now);
                Some(Pick {
                    member: 0,
                    guard: flight,
                })
            }
        }
    }
}

/// A question about the deployments of one model, by their places.
struct Asked<'a, Q> {
    question: &'a Q,
    deployments: &'a [Deployment],
}

impl<Q: SelectionFacts> SelectionContext for Asked<'_, Q> {
    fn cost(&self, member: usize) -> Option<Decimal> {
        self.question.cost(self.deployments.get(member)?)
    }

    fn conversation(&self) -> u64 {
        self.question.conversation()
    }
}
