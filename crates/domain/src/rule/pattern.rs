//! The regular expressions of all rules, compiled together and searched together. It knows texts
//! and patterns, not rules.
//!
//! One `RegexSet` of everything doesn't scale: past a few dozen patterns its lazy automaton
//! outgrows its cache and falls back to a simulation whose memory grows with states × patterns
//! (10,000 patterns of 20 characters ask for 140 GB). So the patterns are parted:
//!
//! - Those with literals they can't match without are found by one Aho-Corasick pass over the text
//!   (about 8 ms per MiB, however many patterns). A pattern is run only when a literal of
//!   it was seen and a rule asks for it.
//! - The others are searched in sets of [`SET_SIZE`], a size whose automata stay in cache; a set is
//!   run when a rule asks for one of its patterns.

use std::{collections::HashMap, sync::Arc};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex_automata::{
    Input, MatchKind, PatternSet,
    meta::{Config, Regex},
};
use regex_syntax::hir::Hir;

use super::{
    literal::{self, PatternShape},
    spec::Area,
};

/// Patterns searched at once when no literal spares the search.
const SET_SIZE: usize = 16;
/// Bytes that one compiled pattern may take.
const PATTERN_LIMIT: usize = 1 << 20;
/// Bytes that all patterns of a snapshot may take.
const TOTAL_LIMIT: usize = 1 << 30;
/// Bytes of lazily built automaton that a pattern, or a set, may keep per thread.
const CACHE_LIMIT: usize = 1 << 20;
/// Parentheses and repetitions that a pattern may nest.
const NEST_LIMIT: u32 = 64;
/// Bytes of a pattern as written.
const SOURCE_LIMIT: usize = 16 << 10;

/// A pattern's place in [`Patterns`].
pub(super) type PatternId = u32;

/// Compiles one pattern on its own, under the same limits. For header values.
pub(super) fn single(source: &str) -> Result<Regex, String> {
    build(&parse(source)?)
}

fn parse(source: &str) -> Result<Hir, String> {
    if source.len() > SOURCE_LIMIT {
        let length = source.len();
        return Err(format!(
            "is {length} bytes long, at most {SOURCE_LIMIT} are allowed"
        ));
    }
    let mut parser = regex_syntax::ParserBuilder::new()
        .nest_limit(NEST_LIMIT)
        .build();
    parser.parse(source).map_err(|error| describe(&error))
}

/// One line instead of the library's drawing of several.
fn describe(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => {
            format!(
                "{} (at character {})",
                error.kind(),
                error.span().start.column
            )
        }
        regex_syntax::Error::Translate(error) => {
            format!(
                "{} (at character {})",
                error.kind(),
                error.span().start.column
            )
        }
        other => other.to_string(),
    }
}

fn config() -> Config {
    Config::new()
        .onepass(false)
        .dfa(false)
        .nfa_size_limit(Some(PATTERN_LIMIT))
        .hybrid_cache_capacity(CACHE_LIMIT)
}

fn build(hir: &Hir) -> Result<Regex, String> {
    Regex::builder()
        .configure(config())
        .build_from_hir(hir)
        .map_err(|error| match error.size_limit() {
            Some(limit) => format!("compiles to more than {limit} bytes; simplify it"),
            None => error.to_string(),
        })
}

/// Collects the patterns of a snapshot; equal ones are compiled once.
#[derive(Default)]
pub(super) struct PatternCollector<'p> {
    previous: Option<&'p Patterns>,
    ids: HashMap<Box<str>, PatternId>,
    parsed: Vec<Hir>,
    shapes: Vec<PatternShape>,
    patterns: Vec<TextPattern>,
    literals: Vec<Option<Vec<Vec<u8>>>>,
    areas: Vec<[bool; 3]>,
    bytes: usize,
}

/// One compiled pattern.
struct TextPattern {
    source: Box<str>,
    run: SearchKind,
}

/// Kind of search for a pattern.
enum SearchKind {
    Alone(Arc<Regex>),
    /// In this set.
    Set(usize),
}

impl<'p> PatternCollector<'p> {
    /// Takes over what `previous` has compiled already.
    pub(super) fn new(previous: Option<&'p Patterns>) -> Self {
        Self {
            previous,
            ..Self::default()
        }
    }

    /// Adds a pattern that is searched in `area`; the error says what is wrong with it.
    pub(super) fn add(&mut self, source: &str, area: Area) -> Result<PatternId, String> {
        let id = match self.ids.get(source) {
            Some(id) => *id,
            None => self.compile(source)?,
        };
        self.areas[id as usize][area as usize] = true;
        Ok(id)
    }

    fn compile(&mut self, source: &str) -> Result<PatternId, String> {
        let hir = parse(source)?;
        let known = self.previous.and_then(|previous| previous.regex(source));
        let regex = match known {
            Some(regex) => regex,
            None => Arc::new(build(&hir)?),
        };
        self.bytes += regex.memory_usage();
        if self.bytes > TOTAL_LIMIT {
            return Err(format!(
                "all patterns together compile to more than {TOTAL_LIMIT} bytes"
            ));
        }
        let id = PatternId::try_from(self.patterns.len()).map_err(|error| error.to_string())?;
        self.ids.insert(source.into(), id);
        self.literals.push(literal::required_literals(&hir));
        self.shapes.push(PatternShape::from_hir(&hir));
        self.parsed.push(hir);
        self.patterns.push(TextPattern {
            source: source.into(),
            run: SearchKind::Alone(regex),
        });
        self.areas.push([false; 3]);
        Ok(id)
    }

    /// Returns the properties of a pattern by its syntax.
    pub(super) fn shape(&self, id: PatternId) -> &PatternShape {
        &self.shapes[id as usize]
    }

    /// Builds the sets and the literal automata.
    pub(super) fn finish(mut self) -> Result<(Patterns, Vec<PatternShape>), String> {
        let sets = self.build_sets()?;
        let mut areas = Vec::with_capacity(Area::ALL.len());
        for area in Area::ALL {
            areas.push(self.build_area(area)?);
        }
        let patterns = Patterns {
            ids: self.ids,
            patterns: self.patterns,
            sets,
            areas,
        };
        Ok((patterns, self.shapes))
    }

    fn build_sets(&mut self) -> Result<Vec<Set>, String> {
        let plain = self
            .literals
            .iter()
            .enumerate()
            .filter(|(_, literals)| literals.is_none());
        let plain: Vec<usize> = plain.map(|(id, _)| id).collect();
        let mut sets = Vec::new();
        for members in plain.chunks(SET_SIZE) {
            let hirs: Vec<&Hir> = members.iter().map(|id| &self.parsed[*id]).collect();
            let config = config()
                .match_kind(MatchKind::All)
                .nfa_size_limit(Some(PATTERN_LIMIT * SET_SIZE));
            let built = Regex::builder()
                .configure(config)
                .build_many_from_hir(&hirs);
            for id in members {
                self.patterns[*id].run = SearchKind::Set(sets.len());
            }
            let regex = built.map_err(|error| error.to_string())?;
            sets.push(Set {
                regex,
                members: members.iter().map(|id| *id as PatternId).collect(),
            });
        }
        Ok(sets)
    }

    fn build_area(&self, area: Area) -> Result<AreaLiterals, String> {
        let mut owners: HashMap<&[u8], Vec<PatternId>> = HashMap::new();
        for (id, literals) in self.literals.iter().enumerate() {
            if !self.areas[id][area as usize] {
                continue;
            }
            for literal in literals.iter().flatten() {
                owners.entry(literal).or_default().push(id as PatternId);
            }
        }
        if owners.is_empty() {
            return Ok(AreaLiterals::default());
        }
        let mut owners: Vec<_> = owners.into_iter().collect();
        owners.sort_unstable();
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(owners.iter().map(|(literal, _)| literal))
            .map_err(|error| error.to_string())?;
        let owners = owners
            .into_iter()
            .map(|(_, ids)| ids.into_boxed_slice())
            .collect();
        Ok(AreaLiterals {
            automaton: Some(automaton),
            owners,
        })
    }
}

/// Every pattern of a snapshot, ready to search.
#[derive(Default)]
pub(super) struct Patterns {
    ids: HashMap<Box<str>, PatternId>,
    patterns: Vec<TextPattern>,
    sets: Vec<Set>,
    areas: Vec<AreaLiterals>,
}

struct Set {
    regex: Regex,
    members: Vec<PatternId>,
}

/// The literals to look for in one area, and whose they are.
#[derive(Default)]
struct AreaLiterals {
    automaton: Option<AhoCorasick>,
    owners: Vec<Box<[PatternId]>>,
}

impl Patterns {
    /// The pattern as written.
    pub(super) fn source(&self, id: PatternId) -> &str {
        &self.patterns[id as usize].source
    }

    /// Returns the number of patterns.
    pub(super) fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Returns true if a search for literals can rule out the pattern.
    pub(super) fn has_literals(&self, id: PatternId) -> bool {
        matches!(self.patterns[id as usize].run, SearchKind::Alone(_))
    }

    /// Heap bytes of the compiled patterns, without the caches that searches grow.
    pub(super) fn memory(&self) -> usize {
        let singles: usize = self.patterns.iter().map(TextPattern::memory).sum();
        let sets: usize = self.sets.iter().map(|set| set.regex.memory_usage()).sum();
        let areas = self.areas.iter().filter_map(|area| area.automaton.as_ref());
        singles + sets + areas.map(AhoCorasick::memory_usage).sum::<usize>()
    }

    fn regex(&self, source: &str) -> Option<Arc<Regex>> {
        match &self.patterns[*self.ids.get(source)? as usize].run {
            SearchKind::Alone(regex) => Some(Arc::clone(regex)),
            SearchKind::Set(_) => None,
        }
    }
}

impl TextPattern {
    fn memory(&self) -> usize {
        match &self.run {
            SearchKind::Alone(regex) => regex.memory_usage(),
            SearchKind::Set(_) => 0,
        }
    }
}

/// The search of one text for the patterns of one area; what was found is remembered.
pub(super) struct Search<'p, 't> {
    patterns: &'p Patterns,
    text: &'t str,
    /// Patterns that may match: a literal of theirs was seen.
    candidates: Bits,
    known: Bits,
    found: Bits,
}

impl<'p, 't> Search<'p, 't> {
    /// Looks for the literals; no pattern is run yet.
    pub(super) fn new(patterns: &'p Patterns, area: Area, text: &'t str) -> Self {
        let mut candidates = Bits::new(patterns.len());
        if let Some(literals) = patterns.areas.get(area as usize)
            && let Some(automaton) = &literals.automaton
        {
            for seen in automaton.find_overlapping_iter(text) {
                for id in &literals.owners[seen.pattern().as_usize()] {
                    candidates.insert(*id as usize);
                }
            }
        }
        let len = patterns.len();
        Self {
            patterns,
            text,
            candidates,
            known: Bits::new(len),
            found: Bits::new(len),
        }
    }

    /// The patterns with literals that do match, in ascending order.
    pub(super) fn matches(mut self) -> Vec<PatternId> {
        let mut matches: Vec<PatternId> = self.candidates().collect();
        matches.retain(|id| self.is_match(*id));
        matches
    }

    /// The patterns with literals that may match, in ascending order.
    pub(super) fn candidates(&self) -> impl Iterator<Item = PatternId> {
        self.candidates.iter().map(|id| id as PatternId)
    }

    /// Returns true if the pattern is found in the text.
    pub(super) fn is_match(&mut self, id: PatternId) -> bool {
        let at = id as usize;
        if !self.known.contains(at) {
            match &self.patterns.patterns[at].run {
                SearchKind::Set(set) => self.run_set(*set),
                SearchKind::Alone(regex) => {
                    let hit = self.candidates.contains(at) && regex.is_match(self.text);
                    self.learn(at, hit);
                }
            }
        }
        self.found.contains(at)
    }

    fn run_set(&mut self, set: usize) {
        let set = &self.patterns.sets[set];
        let mut hits = PatternSet::new(set.members.len());
        set.regex
            .which_overlapping_matches(&Input::new(self.text), &mut hits);
        let mut hit = vec![false; set.members.len()];
        hits.iter().for_each(|at| hit[at.as_usize()] = true);
        for (id, hit) in set.members.iter().zip(hit) {
            self.learn(*id as usize, hit);
        }
    }

    fn learn(&mut self, at: usize, hit: bool) {
        self.known.insert(at);
        if hit {
            self.found.insert(at);
        }
    }
}

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    pub(super) fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    pub(super) fn remove_all(&mut self, other: &Self) {
        self.0
            .iter_mut()
            .zip(&other.0)
            .for_each(|(word, other)| *word &= !other);
    }

    /// The first member that is at least `from`.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.0.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.0.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        std::iter::successors(self.next(0), |at| self.next(at + 1))
    }
}
