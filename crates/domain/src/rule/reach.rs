//! Unreachable rules, whose requests are all taken by rules before them. It must report only what
//! it can prove.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    decide::CompiledRule,
    literal::PatternShape,
    pattern::Patterns,
    problem::{RuleFinding, Severity, whole},
    region::{AtomId, Atoms, Region},
};

/// Comparisons of regions in one check: about a second's work.
const MAX_COMPARISONS: usize = 20_000_000;
/// Most parts that the rest of a rule may be split into.
const MAX_PARTS: usize = 16;
/// Names listed in one message.
const MAX_NAMES: usize = 3;

/// Warnings for rules that can't match and for rules that are never reached.
pub(super) fn check(
    entries: &[CompiledRule],
    patterns: &Patterns,
    shapes: &[PatternShape],
) -> Vec<RuleFinding> {
    let mut atoms = Atoms::default();
    let live: Vec<&CompiledRule> = entries.iter().filter(|entry| entry.enabled).collect();
    let regions: Vec<_> = live
        .iter()
        .map(|entry| atoms.regions(&entry.node, true, shapes))
        .collect();
    atoms.relate(patterns, shapes);
    let negated = regions
        .iter()
        .flatten()
        .flatten()
        .flat_map(|region| &region.no)
        .copied();
    let mut earlier = EarlierRules {
        negated: negated.collect(),
        atoms,
        regions: Vec::new(),
        by_atom: HashMap::new(),
        general: Vec::new(),
        comparisons: 0,
    };
    let mut problems = Vec::new();
    for (entry, regions) in live.iter().zip(regions) {
        let Some(mut regions) = regions else { continue };
        regions.retain(|region| !earlier.atoms.is_empty(region));
        let message = if regions.is_empty() {
            Some("never matches: its conditions contradict each other".to_owned())
        } else {
            earlier.covers(&regions).map(|by| unreachable(&by))
        };
        problems
            .extend(message.map(|text| whole(entry.index, &entry.name, Severity::Warning, text)));
        earlier.add(&entry.name, regions);
        if earlier.comparisons > MAX_COMPARISONS {
            let text = "too many rules from here on to find out which are never reached";
            problems.push(whole(
                entry.index,
                &entry.name,
                Severity::Warning,
                text.to_owned(),
            ));
            break;
        }
    }
    problems
}

fn unreachable(by: &[&str]) -> String {
    let mut names: Vec<String> = by
        .iter()
        .take(MAX_NAMES)
        .map(|name| format!("`{name}`"))
        .collect();
    if by.len() > MAX_NAMES {
        names.push(format!("{} more", by.len() - MAX_NAMES));
    }
    let (noun, verb) = if by.len() == 1 {
        ("rule", "takes")
    } else {
        ("rules", "together take")
    };
    format!(
        "never reached: {noun} {} before it {verb} every request it matches",
        names.join(", ")
    )
}

/// The regions of rules already passed.
struct EarlierRules<'n> {
    atoms: Atoms<'n>,
    /// Atoms that some rule wants not to hold.
    negated: HashSet<AtomId>,
    regions: Vec<(&'n str, Region)>,
    /// Regions to look at for a rule that wants an atom.
    by_atom: HashMap<AtomId, Vec<usize>>,
    /// Regions to look at for every rule.
    general: Vec<usize>,
    comparisons: usize,
}

impl<'n> EarlierRules<'n> {
    fn add(&mut self, rule: &'n str, regions: Vec<Region>) {
        for region in regions {
            let at = self.regions.len();
            // To affect another region, at most one of its conditions may be new there; and an
            // atom that no rule negates is never worth recording as new.
            match region.yes.iter().find(|id| !self.negated.contains(id)) {
                Some(id) => self.by_atom.entry(*id).or_default().push(at),
                None => self.general.push(at),
            }
            self.regions.push((rule, region));
        }
    }

    /// The rules that together take all of these regions, if they do.
    fn covers(&mut self, regions: &[Region]) -> Option<Vec<&'n str>> {
        let candidates = self.candidates(regions);
        let by = self.taken_by(regions, &candidates)?;
        for rule in &by {
            let alone: Vec<usize> = candidates
                .iter()
                .copied()
                .filter(|at| self.regions[*at].0 == *rule)
                .collect();
            if self.taken_by(regions, &alone).is_some() {
                return Some(vec![rule]);
            }
        }
        Some(by)
    }

    fn candidates(&self, regions: &[Region]) -> Vec<usize> {
        let mut atoms: BTreeSet<AtomId> = BTreeSet::new();
        for id in regions.iter().flat_map(|region| &region.yes) {
            atoms.insert(*id);
            atoms.extend(self.atoms.implications(*id));
        }
        let mut candidates = self.general.clone();
        for id in atoms {
            candidates.extend(self.by_atom.get(&id).into_iter().flatten());
        }
        candidates.sort_unstable();
        candidates.dedup();
        candidates
    }

    fn taken_by(&mut self, regions: &[Region], candidates: &[usize]) -> Option<Vec<&'n str>> {
        let mut left = regions.to_vec();
        let mut by: Vec<&str> = Vec::new();
        for at in candidates {
            let (rule, taken) = &self.regions[*at];
            self.comparisons += left.len();
            if self.take(&mut left, taken) && by.last() != Some(rule) {
                by.push(rule);
            }
            if left.is_empty() {
                return Some(by);
            }
        }
        None
    }

    /// Subtracts a region from the rest, and returns true if that changed anything.
    fn take(&self, left: &mut Vec<Region>, taken: &Region) -> bool {
        let mut changed = false;
        let mut rest = Vec::with_capacity(left.len());
        for region in left.drain(..) {
            match self
                .atoms
                .subtract(&region, taken, |id| self.negated.contains(&id))
            {
                Some(parts) if rest.len() + parts.len() <= MAX_PARTS => {
                    changed = true;
                    rest.extend(parts);
                }
                _ => rest.push(region),
            }
        }
        *left = rest;
        changed
    }
}
