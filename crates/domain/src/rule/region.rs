//! Sets of requests as conditions describe them, and what is left of one when another is taken
//! away. A region here may be larger than what it stands for, never smaller when it matters: a
//! rule is called dead only for certain.

use std::collections::HashMap;

use super::{
    glob,
    literal::PatternShape,
    node::{ConditionNode, HeaderCondition, Test},
    pattern::{PatternId, Patterns, Search},
    spec::{Area, Feature},
    week::Week,
};
use crate::pattern::Pattern;

/// A condition of more alternatives than this isn't looked into.
const MAX_REGIONS: usize = 32;
/// Texts of more patterns than this aren't searched for one another.
const MAX_SEARCHED: usize = 20_000;
/// Patterns of models with wildcards beyond this many aren't compared.
const MAX_GLOBS: usize = 1_000;

/// A condition that holds or doesn't, without bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Atom<'n> {
    Regex(Area, PatternId),
    HeaderEquals(&'n str, &'n str),
    HeaderRegex(&'n str, &'n str),
    Key(&'n str),
    Owner(&'n str),
    Model(&'n str),
    Has(Feature),
}

/// An atom's place among all.
pub(super) type AtomId = u32;

/// Requests that meet all of these.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Region {
    score: (f64, f64),
    tokens: (u64, u64),
    week: Week,
    pub(super) yes: Vec<AtomId>,
    pub(super) no: Vec<AtomId>,
}

impl Region {
    fn everything() -> Self {
        let week = Week::whole();
        Self {
            score: (0.0, 1.0),
            tokens: (0, u64::MAX),
            week,
            yes: Vec::new(),
            no: Vec::new(),
        }
    }
}

/// One condition of a region.
enum Bound {
    Score,
    Tokens,
    Week,
    Yes(AtomId),
    No(AtomId),
}

/// The atoms of all rules, and how they bear on each other.
#[derive(Default)]
pub(super) struct Atoms<'n> {
    ids: HashMap<Atom<'n>, AtomId>,
    atoms: Vec<Atom<'n>>,
    /// Other atoms that hold wherever this one does, by atom.
    implied: Vec<Vec<AtomId>>,
}

impl<'n> Atoms<'n> {
    fn id(&mut self, atom: Atom<'n>) -> AtomId {
        let next = self.atoms.len() as AtomId;
        let id = *self.ids.entry(atom).or_insert(next);
        if id == next {
            self.atoms.push(atom);
            self.implied.push(Vec::new());
        }
        id
    }

    /// Finds out which atoms imply which, once all are known.
    pub(super) fn relate(&mut self, patterns: &Patterns, shapes: &[PatternShape]) {
        self.relate_globs();
        let regexes: Vec<(AtomId, Area, PatternId)> =
            (0..).zip(&self.atoms).filter_map(only_regex).collect();
        for (id, area, pattern) in regexes {
            let mut implied = self.same_in_any(area, pattern, shapes);
            if patterns.len() <= MAX_SEARCHED {
                implied.extend(self.found_within(area, pattern, patterns, shapes));
            }
            implied.retain(|other| *other != id);
            implied.sort_unstable();
            implied.dedup();
            self.implied[id as usize] = implied;
        }
    }

    fn relate_globs(&mut self) {
        let globs: Vec<(AtomId, Pattern)> = (0..).zip(&self.atoms).filter_map(only_glob).collect();
        let wild: Vec<&(AtomId, Pattern)> = globs.iter().filter(|(_, g)| !g.is_literal()).collect();
        if wild.len() > MAX_GLOBS {
            return;
        }
        for (id, glob) in &globs {
            let wider = wild
                .iter()
                .filter(|(other, wide)| other != id && glob::covers(wide, glob));
            self.implied[*id as usize] = wider.map(|(other, _)| *other).collect();
        }
    }

    /// Returns the atom of the same pattern in `any`, which holds too, unless the match depends on
    /// where the area ends.
    fn same_in_any(&self, area: Area, pattern: PatternId, shapes: &[PatternShape]) -> Vec<AtomId> {
        if area == Area::Any || !shapes[pattern as usize].local {
            return Vec::new();
        }
        self.ids
            .get(&Atom::Regex(Area::Any, pattern))
            .copied()
            .into_iter()
            .collect()
    }

    /// The patterns found in every text that a pattern without wildcards stands for.
    fn found_within(
        &self,
        area: Area,
        pattern: PatternId,
        patterns: &Patterns,
        shapes: &[PatternShape],
    ) -> Vec<AtomId> {
        let shape = &shapes[pattern as usize];
        let mut implied = Vec::new();
        for place in [area, Area::Any] {
            let mut common: Option<Vec<PatternId>> = None;
            for literal in &shape.literals {
                let found = Search::new(patterns, place, literal).matches();
                common = Some(match common {
                    None => found,
                    Some(before) => before.into_iter().filter(|id| found.contains(id)).collect(),
                });
            }
            let sound = |id: &PatternId| {
                let other = &shapes[*id as usize];
                other.local && (other.caseless || !shape.caseless)
            };
            let found = common.into_iter().flatten().filter(sound);
            implied.extend(found.filter_map(|id| self.ids.get(&Atom::Regex(place, id)).copied()));
        }
        implied
    }

    /// The atoms that hold wherever this one does, without itself.
    pub(super) fn implications(&self, id: AtomId) -> &[AtomId] {
        &self.implied[id as usize]
    }

    fn implies(&self, id: AtomId, other: AtomId) -> bool {
        id == other || self.implied[id as usize].binary_search(&other).is_ok()
    }

    /// Returns true if two atoms can't both hold.
    fn exclude(&self, a: AtomId, b: AtomId) -> bool {
        match (self.atoms[a as usize], self.atoms[b as usize]) {
            (Atom::Key(a), Atom::Key(b)) | (Atom::Owner(a), Atom::Owner(b)) => a != b,
            (Atom::HeaderEquals(n, a), Atom::HeaderEquals(m, b)) => n == m && a != b,
            (Atom::Model(a), Atom::Model(b)) => glob::exclude(&Pattern::new(a), &Pattern::new(b)),
            _ => false,
        }
    }
}

fn only_regex((id, atom): (AtomId, &Atom<'_>)) -> Option<(AtomId, Area, PatternId)> {
    match atom {
        Atom::Regex(area, pattern) => Some((id, *area, *pattern)),
        _ => None,
    }
}

fn only_glob((id, atom): (AtomId, &Atom<'_>)) -> Option<(AtomId, Pattern)> {
    match atom {
        Atom::Model(pattern) => Some((id, Pattern::new(pattern))),
        _ => None,
    }
}

/// From conditions to regions.
impl<'n> Atoms<'n> {
    /// The regions of the requests for which a condition comes out as `want`. Some may be empty.
    /// `None`: there are too many.
    pub(super) fn regions(
        &mut self,
        node: &'n ConditionNode,
        want: bool,
        shapes: &[PatternShape],
    ) -> Option<Vec<Region>> {
        match node {
            ConditionNode::Not(node) => self.regions(node, !want, shapes),
            ConditionNode::All(nodes) if want => self.product(nodes, want, shapes),
            ConditionNode::Any(nodes) if !want => self.product(nodes, want, shapes),
            ConditionNode::All(nodes) | ConditionNode::Any(nodes) => {
                self.union(nodes, want, shapes)
            }
            ConditionNode::Regex { area, pattern } => {
                let shape = &shapes[*pattern as usize];
                if shape.matches_all || shape.matches_none {
                    let holds = shape.matches_all == want;
                    return Some(if holds {
                        vec![Region::everything()]
                    } else {
                        Vec::new()
                    });
                }
                Some(self.atom(Atom::Regex(*area, *pattern), want))
            }
            ConditionNode::Test(test) => Some(self.test(test, want)),
        }
    }

    fn union(
        &mut self,
        nodes: &'n [ConditionNode],
        want: bool,
        shapes: &[PatternShape],
    ) -> Option<Vec<Region>> {
        let mut union = Vec::new();
        for node in nodes {
            union.extend(self.regions(node, want, shapes)?);
        }
        (union.len() <= MAX_REGIONS).then_some(union)
    }

    fn product(
        &mut self,
        nodes: &'n [ConditionNode],
        want: bool,
        shapes: &[PatternShape],
    ) -> Option<Vec<Region>> {
        let mut product = vec![Region::everything()];
        for node in nodes {
            let regions = self.regions(node, want, shapes)?;
            if product.len() * regions.len() > MAX_REGIONS {
                return None;
            }
            let both = |a: &Region| regions.iter().map(|b| meet(a, b)).collect::<Vec<_>>();
            product = product.iter().flat_map(both).collect();
        }
        Some(product)
    }

    fn atom(&mut self, atom: Atom<'n>, want: bool) -> Vec<Region> {
        let id = self.id(atom);
        let mut region = Region::everything();
        if want {
            region.yes.push(id)
        } else {
            region.no.push(id)
        }
        vec![region]
    }

    fn test(&mut self, test: &'n Test, want: bool) -> Vec<Region> {
        let all = Region::everything();
        match test {
            Test::Complexity { min, max } => {
                let ranges = if want {
                    vec![(*min, *max)]
                } else {
                    outside_score((*min, *max))
                };
                ranges
                    .into_iter()
                    .map(|score| Region {
                        score,
                        ..all.clone()
                    })
                    .collect()
            }
            Test::Tokens { min, max } => {
                let ranges = if want {
                    vec![(*min, *max)]
                } else {
                    outside_tokens((*min, *max))
                };
                ranges
                    .into_iter()
                    .map(|tokens| Region {
                        tokens,
                        ..all.clone()
                    })
                    .collect()
            }
            Test::Time(week) => {
                let week = if want {
                    week.clone()
                } else {
                    week.complement()
                };
                vec![Region { week, ..all }]
            }
            Test::Model(glob) => self.atom(Atom::Model(glob.as_str()), want),
            Test::Key(key) => self.atom(Atom::Key(key), want),
            Test::Owner(owner) => self.atom(Atom::Owner(owner), want),
            Test::Has(feature) => self.atom(Atom::Has(*feature), want),
            Test::Header { name, value } => match value {
                HeaderCondition::Equals(value) => self.atom(Atom::HeaderEquals(name, value), want),
                HeaderCondition::Regex { source, .. } => {
                    self.atom(Atom::HeaderRegex(name, source), want)
                }
            },
        }
    }
}

/// The scores below and above a range.
fn outside_score((min, max): (f64, f64)) -> Vec<(f64, f64)> {
    let mut ranges = vec![(0.0, min.next_down()), (max.next_up(), 1.0)];
    ranges.retain(|(min, max)| min <= max);
    ranges
}

/// The counts below and above a range.
fn outside_tokens((min, max): (u64, u64)) -> Vec<(u64, u64)> {
    let below = min.checked_sub(1).map(|last| (0, last));
    let above = max.checked_add(1).map(|first| (first, u64::MAX));
    below.into_iter().chain(above).collect()
}

fn meet(a: &Region, b: &Region) -> Region {
    let join = |a: &[AtomId], b: &[AtomId]| {
        let mut ids = [a, b].concat();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    Region {
        score: (a.score.0.max(b.score.0), a.score.1.min(b.score.1)),
        tokens: (a.tokens.0.max(b.tokens.0), a.tokens.1.min(b.tokens.1)),
        week: a.week.intersect(&b.week),
        yes: join(&a.yes, &b.yes),
        no: join(&a.no, &b.no),
    }
}

/// Comparing regions.
impl Atoms<'_> {
    /// Returns true if certainly no request lies in the region.
    pub(super) fn is_empty(&self, region: &Region) -> bool {
        let yes = &region.yes;
        region.score.0 > region.score.1
            || region.tokens.0 > region.tokens.1
            || region.week.is_empty()
            || yes
                .iter()
                .any(|y| region.no.iter().any(|n| self.implies(*y, *n)))
            || yes
                .iter()
                .enumerate()
                .any(|(i, a)| yes[i + 1..].iter().any(|b| self.exclude(*a, *b)))
    }

    /// Returns `region` without `taken`, if that is known and smaller. Records that an atom doesn't
    /// hold only if `noted` says that this can matter.
    pub(super) fn subtract(
        &self,
        region: &Region,
        taken: &Region,
        noted: impl Fn(AtomId) -> bool,
    ) -> Option<Vec<Region>> {
        let mut lacking = self.lacking(region, taken);
        let Some(bound) = lacking.next() else {
            return Some(Vec::new());
        };
        if lacking.next().is_some() {
            return None;
        }
        let one = |change: Region| vec![change];
        let mut rest = match bound {
            Bound::Yes(id) if !noted(id) => return None,
            Bound::Yes(id) => one(meet(
                region,
                &Region {
                    no: vec![id],
                    ..Region::everything()
                },
            )),
            Bound::No(id) => one(meet(
                region,
                &Region {
                    yes: vec![id],
                    ..Region::everything()
                },
            )),
            Bound::Week => {
                let week = taken.week.complement();
                one(meet(
                    region,
                    &Region {
                        week,
                        ..Region::everything()
                    },
                ))
            }
            Bound::Score => {
                let ranges = outside_score(taken.score).into_iter();
                let outside = ranges.map(|score| Region {
                    score,
                    ..Region::everything()
                });
                outside.map(|outside| meet(region, &outside)).collect()
            }
            Bound::Tokens => {
                let ranges = outside_tokens(taken.tokens).into_iter();
                let outside = ranges.map(|tokens| Region {
                    tokens,
                    ..Region::everything()
                });
                outside.map(|outside| meet(region, &outside)).collect()
            }
        };
        rest.retain(|rest| !self.is_empty(rest));
        (rest != [region.clone()]).then_some(rest)
    }

    /// The conditions of `taken` that `region` doesn't imply.
    fn lacking<'a>(
        &'a self,
        region: &'a Region,
        taken: &'a Region,
    ) -> impl Iterator<Item = Bound> + 'a {
        let score = region.score.0 < taken.score.0 || region.score.1 > taken.score.1;
        let tokens = region.tokens.0 < taken.tokens.0 || region.tokens.1 > taken.tokens.1;
        let yes = taken
            .yes
            .iter()
            .filter(|x| !region.yes.iter().any(|y| self.implies(*y, **x)));
        let no = taken.no.iter().filter(|x| !self.rules_out(region, **x));
        let atoms = yes
            .map(|id| Bound::Yes(*id))
            .chain(no.map(|id| Bound::No(*id)));
        let ranges = score
            .then_some(Bound::Score)
            .into_iter()
            .chain(tokens.then_some(Bound::Tokens));
        let week =
            std::iter::once_with(|| !taken.week.is_whole() && !taken.week.covers(&region.week));
        ranges
            .chain(atoms)
            .chain(week.filter(|lacks| *lacks).map(|_| Bound::Week))
    }

    fn rules_out(&self, region: &Region, id: AtomId) -> bool {
        region.no.iter().any(|n| self.implies(id, *n))
            || region.yes.iter().any(|y| self.exclude(*y, id))
    }
}
