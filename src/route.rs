//! Where a request may go: from the model asked to the ordered deployments that can serve it.

use std::sync::Arc;

use llm_router_domain::format::Endpoint;
use llm_router_domain::key::Key;

use crate::balance::{Course, Tier};
use crate::fault::Fault;
use crate::snapshot::{Deployment, Model, Snapshot};

/// The name that lets the router choose.
const AUTO: &str = "auto";

/// The deployments to try, and how they were found.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) course: Course,
    /// The public name that was meant, if it was one.
    pub(crate) model: Option<Arc<Model>>,
}

/// Finds the deployments for a model as asked.
///
/// # Errors
/// 404 for a name that nothing here serves, 403 for one that the key may not use, 400 for one
/// whose providers speak another format.
pub(crate) fn route(
    snapshot: &Snapshot,
    key: &Key,
    asked: &str,
    endpoint: Endpoint,
) -> Result<Route, Fault> {
    let name = match &snapshot.default_model {
        Some(default) if asked == AUTO => default.as_str(),
        None if asked == AUTO => return Err(Fault::model_not_found(asked)),
        _ => asked,
    };
    let route = resolve(snapshot, name, endpoint).ok_or_else(|| Fault::model_not_found(asked))?;
    for name in [asked, name] {
        if name != AUTO && !key.models.allows(name) {
            return Err(not_allowed(key, asked));
        }
    }
    if !route.course.has_next() {
        return Err(Fault::wrong_format(asked, endpoint.format().name()));
    }
    Ok(route)
}

fn not_allowed(key: &Key, asked: &str) -> Fault {
    let message = format!(
        "The key \"{}\" may not use the model \"{asked}\".",
        key.name
    );
    Fault::permission_denied(message)
}

fn resolve(snapshot: &Snapshot, name: &str, endpoint: Endpoint) -> Option<Route> {
    // Who doesn't speak the endpoint's format can't be asked.
    let in_format = |deployment: &Deployment| deployment.provider.kind.path(endpoint).is_some();
    if let Some(model) = snapshot.model_by_name.get(name) {
        return Some(Route {
            course: Course::new(with_fallbacks(snapshot, model), in_format),
            model: Some(Arc::clone(model)),
        });
    }
    let deployment = qualified(snapshot, name).or_else(|| bare(snapshot, name, endpoint))?;
    Some(Route {
        course: Course::new([Tier::Named(deployment)], in_format),
        model: None,
    })
}

/// The model, then its fallbacks.
fn with_fallbacks(snapshot: &Snapshot, model: &Arc<Model>) -> Vec<Tier> {
    let fallbacks = model
        .fallbacks
        .iter()
        .filter_map(|name| snapshot.model_by_name.get(name));
    let models = std::iter::once(model).chain(fallbacks);
    models.cloned().map(Tier::Model).collect()
}

/// `provider/model`. A model's own name may hold slashes, so only the first one counts.
fn qualified(snapshot: &Snapshot, name: &str) -> Option<Deployment> {
    let (id, model) = name.split_once('/')?;
    let (index, provider) = snapshot.provider(id)?;
    (!model.is_empty() && provider.models.allows(model))
        .then(|| snapshot.deployment(index, provider, model))
}

/// A provider's own name of a model: the first provider in the file that serves it, one that
/// speaks the endpoint's format before one that doesn't.
fn bare(snapshot: &Snapshot, name: &str, endpoint: Endpoint) -> Option<Deployment> {
    let find = |in_format: bool| {
        snapshot.providers.iter().enumerate().find(|(_, provider)| {
            provider.kind.path(endpoint).is_some() == in_format && provider.models.allows(name)
        })
    };
    let (index, provider) = find(true).or_else(|| find(false))?;
    Some(snapshot.deployment(index, provider, name))
}

#[cfg(test)]
mod tests {
    use llm_router_domain::key::Role;
    use llm_router_domain::pattern::PatternList;

    use super::*;
    use crate::snapshot::ProviderKind::{Anthropic, OpenAi};
    use crate::snapshot::testing::{model, provider, snapshot};

    const CHAT: Endpoint = Endpoint::ChatCompletions;
    const MESSAGES: Endpoint = Endpoint::Messages;

    fn routing() -> Snapshot {
        let providers = vec![
            provider("openai", OpenAi, &["*"]),
            provider("claude", Anthropic, &["*"]),
            provider("local", OpenAi, &["llama", "org/qwen"]),
        ];
        let models = vec![
            model(
                "fast",
                &[(&providers[0], "gpt-4o-mini"), (&providers[2], "llama")],
                &["smart"],
            ),
            model(
                "smart",
                &[(&providers[1], "opus"), (&providers[0], "gpt-4o")],
                &[],
            ),
        ];
        snapshot(providers, models, Some("fast"))
    }

    fn tried(allowed: &[&str], asked: &str, endpoint: Endpoint) -> Result<Vec<String>, u16> {
        let models = PatternList::new(allowed.iter().copied());
        let key = Key {
            name: "k".into(),
            owner: None,
            role: Role::User,
            models,
            expires_at: None,
        };
        route(&routing(), &key, asked, endpoint)
            .map(|route| {
                let name = |found: &Deployment| format!("{}:{}", found.provider.id, found.model);
                route.course.untried().map(name).collect()
            })
            .map_err(|fault| fault.status)
    }

    #[test]
    fn names_lead_to_deployments() {
        let cases: &[(&str, Endpoint, &[&str])] = &[
            (
                "fast",
                CHAT,
                &["openai:gpt-4o-mini", "local:llama", "openai:gpt-4o"],
            ),
            (
                "auto",
                CHAT,
                &["openai:gpt-4o-mini", "local:llama", "openai:gpt-4o"],
            ),
            ("smart", MESSAGES, &["claude:opus"]),
            ("openai/gpt-5", CHAT, &["openai:gpt-5"]),
            ("local/org/qwen", CHAT, &["local:org/qwen"]),
            ("org/qwen", CHAT, &["openai:org/qwen"]),
            ("gpt-5", CHAT, &["openai:gpt-5"]),
            ("opus", MESSAGES, &["claude:opus"]),
        ];
        for (asked, endpoint, expected) in cases {
            let found = tried(&["*"], asked, *endpoint);
            assert_eq!(
                found.as_deref(),
                Ok(&expected.map_to_owned()[..]),
                "{asked}"
            );
        }
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        assert_eq!(
            tried(&["*"], "local/unknown", CHAT),
            Ok(vec!["openai:local/unknown".into()])
        );
        assert_eq!(tried(&["*"], "local/llama", MESSAGES), Err(400));
        assert_eq!(tried(&["fast"], "smart", CHAT), Err(403));
        assert_eq!(tried(&["smart"], "auto", CHAT), Err(403));
        assert_eq!(
            tried(&["fast"], "auto", CHAT).map(|found| found.len()),
            Ok(3)
        );
        assert_eq!(
            tried(&["gpt-*"], "gpt-5", CHAT).map(|found| found.len()),
            Ok(1)
        );
    }

    #[test]
    fn unknown_models_are_404_for_every_key() {
        let snapshot = snapshot(vec![provider("local", OpenAi, &["llama"])], vec![], None);
        for allowed in ["*", "llama"] {
            let models = PatternList::new([allowed]);
            let key = Key {
                name: "k".into(),
                owner: None,
                role: Role::User,
                models,
                expires_at: None,
            };
            for asked in ["gpt-4o", "auto", "local/", "local/x", "/llama"] {
                let fault = route(&snapshot, &key, asked, CHAT).unwrap_err();
                assert_eq!(
                    (fault.status, fault.code),
                    (404, "model_not_found"),
                    "{asked}"
                );
            }
        }
    }

    trait MapToOwned {
        fn map_to_owned(&self) -> Vec<String>;
    }

    impl MapToOwned for [&str] {
        fn map_to_owned(&self) -> Vec<String> {
            self.iter().map(|&text| text.to_owned()).collect()
        }
    }
}
