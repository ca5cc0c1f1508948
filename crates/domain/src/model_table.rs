//! Finds what is known of a model by the names that providers have for it: aliases, patterns, names
//! with a date, a region or a path. It must not know what the entries hold.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::pattern::Pattern;

/// Regions before a model's name on Bedrock (`us.anthropic.…`).
const REGIONS: [&str; 9] = [
    "us", "us-gov", "eu", "apac", "jp", "au", "ca", "in", "global",
];

/// Entries by `provider/model`. Names are compared without regard to case.
#[derive(Clone, Debug)]
pub struct ModelTable<T> {
    entries: HashMap<String, TableRow<T>>,
    /// Names of entries by an alias of theirs.
    aliases: HashMap<String, String>,
    /// Aliases with `*` and the names of their entries, by provider.
    patterns: BTreeMap<String, Vec<(Pattern, String)>>,
    /// Providers that have the models of another one under a prefix.
    shared: Vec<SharedModels>,
}

/// An entry with its name as it was written.
#[derive(Debug)]
pub struct TableRow<T> {
    /// `provider/model`.
    pub name: Arc<str>,
    /// The entry.
    pub value: Arc<T>,
}

impl<T> Clone for TableRow<T> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            value: Arc::clone(&self.value),
        }
    }
}

/// A provider whose models are those of another one, where it has no entry of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedModels {
    /// Provider that is asked for.
    pub provider: String,
    /// Beginning of the names that this holds for, without the provider; it is taken off.
    pub prefix: String,
    /// Provider that has the entries.
    pub of: String,
}

impl<T> Default for ModelTable<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            aliases: HashMap::new(),
            patterns: BTreeMap::new(),
            shared: Vec::new(),
        }
    }
}

impl<T> ModelTable<T> {
    /// Puts one entry in, in place of one of the same name.
    pub fn insert(&mut self, name: &str, value: T) {
        let row = TableRow {
            name: name.into(),
            value: Arc::new(value),
        };
        self.entries.insert(name.to_lowercase(), row);
    }

    /// Gives an entry another name, without the provider; in it `*` stands for any characters.
    pub fn add_alias(&mut self, name: &str, alias: &str) {
        let Some((provider, _)) = name.split_once('/') else {
            return;
        };
        let (provider, alias, name) = (
            provider.to_lowercase(),
            alias.to_lowercase(),
            name.to_lowercase(),
        );
        if alias.contains('*') {
            let patterns = self.patterns.entry(provider).or_default();
            patterns.push((Pattern::new(&alias), name));
        } else {
            self.aliases.insert(format!("{provider}/{alias}"), name);
        }
    }

    /// Lets a provider's models be found under another one.
    pub fn share(&mut self, shared: SharedModels) {
        self.shared.push(shared);
    }

    /// Returns this table with every entry of `other`, in place of one of the same name.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self.aliases.extend(other.aliases);
        for (provider, patterns) in other.patterns {
            // The other table's come first: it is the one that overrides.
            let own = self.patterns.entry(provider).or_default();
            own.splice(0..0, patterns);
        }
        self.shared.splice(0..0, other.shared);
        self
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &TableRow<T>> {
        self.entries.values()
    }

    /// The entry of exactly `provider/model`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<T>> {
        let row = self.entries.get(&name.to_lowercase());
        row.map(|row| &row.value)
    }

    /// Returns the entry of a deployment: by the provider's id, then by its type, then by that of
    /// a provider whose models it shares; for the model's name first, then for the name without
    /// what providers add to it: a path, a region, a version, a date.
    #[must_use]
    pub fn find(&self, id: &str, kind: &str, model: &str) -> Option<&TableRow<T>> {
        let model = model.to_lowercase();
        let (id, kind) = (id.to_lowercase(), kind.to_lowercase());
        let names = spellings(&model);
        let own = names.iter().find_map(|name| {
            self.row(&id, name)
                .or_else(|| (kind != id).then(|| self.row(&kind, name)).flatten())
        });
        own.or_else(|| {
            let shared = self
                .shared
                .iter()
                .filter(|shared| shared.provider == id || shared.provider == kind);
            shared.into_iter().find_map(|shared| {
                names.iter().find_map(|name| {
                    let rest = name.strip_prefix(shared.prefix.as_str())?;
                    self.row(&shared.of, rest)
                })
            })
        })
    }

    fn row(&self, provider: &str, model: &str) -> Option<&TableRow<T>> {
        let key = format!("{provider}/{model}");
        if let Some(row) = self.entries.get(&key) {
            return Some(row);
        }
        if let Some(name) = self.aliases.get(&key) {
            return self.entries.get(name);
        }
        let mut patterns = self.patterns.get(provider)?.iter();
        let (_, name) = patterns.find(|(pattern, _)| pattern.matches(model))?;
        self.entries.get(name)
    }
}

/// Returns true if two names are of one model as far as their additions tell.
#[must_use]
pub fn is_same_model(one: &str, other: &str) -> bool {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let (one, other) = (last(&one), last(&other));
    let known = spellings(&one);
    spellings(&other).iter().any(|name| known.contains(name))
}

/// The name, and what it is without the additions of providers, the closest first.
fn spellings(model: &str) -> Vec<Cow<'_, str>> {
    let mut names: Vec<Cow<'_, str>> = vec![Cow::Borrowed(model)];
    let mut add = |name: &str| {
        if !name.is_empty() && names.iter().all(|known| known != name) {
            names.push(Cow::Owned(name.to_owned()));
        }
    };
    let short = strip_path(model);
    add(short);
    let tuned = strip_tuning(short);
    add(tuned);
    let local = strip_region(tuned);
    add(local);
    let plain = strip_version(local);
    add(plain);
    for name in [tuned, local, plain] {
        if let Some(undated) = strip_date(name) {
            add(undated);
            add(strip_version(undated));
        }
    }
    // Anthropic's names have no point; some resellers write one.
    if plain.contains("claude") && plain.contains('.') {
        let dashed = plain.replace('.', "-");
        add(strip_date(&dashed).unwrap_or(&dashed));
    }
    names
}

/// `models/x`, `publishers/google/models/x` and the ARN of an inference profile, without the path.
fn strip_path(model: &str) -> &str {
    if model.starts_with("arn:") {
        return model.rsplit_once('/').map_or(model, |(_, name)| name);
    }
    let end = model.rfind("models/").map(|at| at + "models/".len());
    end.and_then(|at| model.get(at..)).unwrap_or(model)
}

/// `ft:gpt-4o-mini:acme::id` without whose tuning it is.
fn strip_tuning(model: &str) -> &str {
    let Some(rest) = model.strip_prefix("ft:") else {
        return model;
    };
    let base = rest.split(':').next().unwrap_or(rest);
    model.get(.."ft:".len() + base.len()).unwrap_or(model)
}

fn strip_region(model: &str) -> &str {
    match model.split_once('.') {
        Some((region, name)) if REGIONS.contains(&region) => name,
        _ => model,
    }
}

/// The name without Bedrock's `-v1:0`, `-v1` or `:0` at its end.
fn strip_version(model: &str) -> &str {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let name = match model.rsplit_once(':') {
        Some((name, last)) if digits(last) => name,
        _ => model,
    };
    match name.rsplit_once("-v") {
        Some((name, last)) if digits(last) => name,
        _ => name,
    }
}

/// The name without a snapshot date or `-latest` at its end, if it has one.
fn strip_date(model: &str) -> Option<&str> {
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    let (name, last) = model.rsplit_once(['-', '@'])?;
    if digits(last, 8) {
        return Some(name);
    }
    let (name, month) = name.rsplit_once('-')?;
    let (name, year) = name.rsplit_once('-')?;
    (digits(last, 2) && digits(month, 2) && digits(year, 4)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ModelTable<&'static str> {
        let mut table = ModelTable::default();
        for name in [
            "mine/m",
            "openai/m",
            "openai/gpt-4o",
            "openai/gpt-4o-2024-05-13",
            "openai/ft:gpt-4o-mini",
            "anthropic/claude-haiku-4-5",
            "anthropic/claude-sonnet-4-6",
            "gemini/gemini-2.5-flash",
            "bedrock/anthropic.claude-opus-4-8",
            "bedrock/global.anthropic.claude-opus-4-8",
            "bedrock/amazon.nova-pro-v1:0",
            "minimax/MiniMax-M3",
            "mistral/mistral-large-2512",
        ] {
            table.insert(name, name);
        }
        table.add_alias("mistral/mistral-large-2512", "mistral-large-latest");
        table.add_alias("openai/gpt-4o", "gpt-4o-eu*");
        let share = |provider: &str, prefix: &str, of: &str| SharedModels {
            provider: provider.into(),
            prefix: prefix.into(),
            of: of.into(),
        };
        table.share(share("azure", "", "openai"));
        table.share(share("openrouter", "anthropic/", "anthropic"));
        table
    }

    fn check(cases: &[(&str, &str, Option<&str>)]) {
        let table = table();
        for (provider, model, expected) in cases {
            let found = table.find("some-id", provider, model);
            let found = found.map(|row| &*row.name);
            assert_eq!(found, *expected, "{provider} {model}");
        }
    }

    #[test]
    fn an_id_comes_before_its_type() {
        let table = table();
        let found = table.find("mine", "openai", "m").unwrap();
        assert_eq!(&*found.name, "mine/m");
        check(&[("openai", "m", Some("openai/m")), ("openai", "", None)]);
    }

    #[test]
    fn dates_tunings_and_aliases_lead_to_the_model() {
        check(&[
            ("openai", "gpt-4o-2024-08-06", Some("openai/gpt-4o")),
            (
                "openai",
                "gpt-4o-2024-05-13",
                Some("openai/gpt-4o-2024-05-13"),
            ),
            ("openai", "gpt-4o-eu-1", Some("openai/gpt-4o")),
            ("openai", "gpt-4o-mini", None),
            (
                "openai",
                "ft:gpt-4o-mini-2024-07-18:acme::x1",
                Some("openai/ft:gpt-4o-mini"),
            ),
            ("openai", "ft:gpt-4o-2024-08-06:acme::x1", None),
            (
                "anthropic",
                "claude-haiku-4-5-20251001",
                Some("anthropic/claude-haiku-4-5"),
            ),
            (
                "anthropic",
                "claude-haiku-4-5@20251001",
                Some("anthropic/claude-haiku-4-5"),
            ),
            (
                "mistral",
                "mistral-large-latest",
                Some("mistral/mistral-large-2512"),
            ),
            ("minimax", "minimax-m3", Some("minimax/MiniMax-M3")),
        ]);
    }

    #[test]
    fn paths_regions_and_versions_lead_to_the_model() {
        check(&[
            (
                "gemini",
                "models/gemini-2.5-flash",
                Some("gemini/gemini-2.5-flash"),
            ),
            (
                "gemini",
                "publishers/google/models/gemini-2.5-flash",
                Some("gemini/gemini-2.5-flash"),
            ),
            (
                "bedrock",
                "us.anthropic.claude-opus-4-8-20260514-v1:0",
                Some("bedrock/anthropic.claude-opus-4-8"),
            ),
            (
                "bedrock",
                "global.anthropic.claude-opus-4-8",
                Some("bedrock/global.anthropic.claude-opus-4-8"),
            ),
            (
                "bedrock",
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-pro-v1:0",
                Some("bedrock/amazon.nova-pro-v1:0"),
            ),
        ]);
    }

    #[test]
    fn shared_models_are_found_under_other_providers() {
        check(&[
            ("azure", "gpt-4o-2024-11-20", Some("openai/gpt-4o")),
            (
                "openrouter",
                "anthropic/claude-sonnet-4.6",
                Some("anthropic/claude-sonnet-4-6"),
            ),
            ("openrouter", "openai/gpt-4o", None),
        ]);
    }

    #[test]
    fn merged_entries_replace_those_of_their_name_and_its_aliases() {
        let mut own = ModelTable::default();
        own.insert("mistral/mistral-large-2512", "own");
        own.insert("mine/new", "new");
        let merged = table().merge(own);
        let found = merged.find("m", "mistral", "mistral-large-latest");
        assert_eq!(found.map(|row| *row.value), Some("own"));
        assert!(merged.get("mine/new").is_some() && merged.get("openai/m").is_some());
    }
}
