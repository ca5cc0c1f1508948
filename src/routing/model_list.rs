//! Which models a key is shown: public names first, then `provider/model` names that are known.

use std::borrow::Cow;

use llm_router_domain::key::Key;
use llm_router_wire::models::ListedModel;

use crate::routing::AUTO;
use crate::snapshot::Snapshot;

/// A name that a client may ask for.
pub(crate) struct Entry<'a> {
    pub(crate) id: Cow<'a, str>,
    owned_by: &'a str,
}

impl Entry<'_> {
    pub(crate) fn to_listed(&self) -> ListedModel<'_> {
        ListedModel {
            id: &self.id,
            owned_by: self.owned_by,
        }
    }
}

/// Owner shown for public names.
const ROUTER: &str = "llm-router";

/// The models that a key may use, without repetition, in the order of the file.
/// `auto` comes first where it may lead somewhere; `enabled`: whether rules apply.
pub(crate) fn visible<'a>(snapshot: &'a Snapshot, enabled: bool, key: &Key) -> Vec<Entry<'a>> {
    let auto = leads_somewhere(snapshot, enabled, key).then_some(Entry {
        id: Cow::Borrowed(AUTO),
        owned_by: ROUTER,
    });
    let public = snapshot.models.iter().map(|model| Entry {
        id: Cow::Borrowed(model.name.as_str()),
        owned_by: ROUTER,
    });
    let named = snapshot.providers.iter().flat_map(|provider| {
        provider
            .models
            .patterns()
            .iter()
            .filter(|pattern| pattern.is_literal())
            .map(|pattern| Entry {
                id: format!("{}/{pattern}", provider.id).into(),
                owned_by: &provider.id,
            })
    });
    let deployed = snapshot
        .models
        .iter()
        .flat_map(|model| &model.deployments)
        .map(|deployment| {
            let provider = &deployment.provider.id;
            Entry {
                id: format!("{provider}/{}", deployment.model).into(),
                owned_by: provider,
            }
        });
    let mut seen = std::collections::HashSet::new();
    let models = public
        .chain(named)
        .chain(deployed)
        .filter(|entry| key.models.allows(&entry.id) && seen.insert(entry.id.clone()));
    auto.into_iter().chain(models).collect()
}

/// Returns whether `auto` may lead to a model that the key may use: by a rule, or to the default.
fn leads_somewhere(snapshot: &Snapshot, enabled: bool, key: &Key) -> bool {
    let default = snapshot.default_model.as_deref();
    let ruled = enabled && !snapshot.rules.is_empty();
    ruled || default.is_some_and(|name| key.models.allows(name))
}
