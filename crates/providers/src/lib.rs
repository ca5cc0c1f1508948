#![doc = include_str!("../README.md")]

mod anthropic;
mod authorization;
pub mod client_request;
mod custom;
mod gemini;
mod mock;
mod openai;
mod openai_compatible;
mod provider_type;
#[cfg(test)]
mod testing;

pub use authorization::{AuthorizeError, Credential, OutgoingRequest};
pub use openai_compatible::OpenAiCompatible;
pub use provider_type::{
    Call, DefaultBaseUrl, Framing, ProviderType, Quirks, Settings, UpstreamRoute,
};

/// Every type, in the order in which documentation and schema list them.
static REGISTRY: [&dyn ProviderType; 5] = [
    &openai::OPENAI,
    &anthropic::Anthropic,
    &gemini::Gemini,
    &custom::CUSTOM,
    &mock::Mock,
];

/// Returns every provider type.
#[must_use]
pub fn all() -> &'static [&'static dyn ProviderType] {
    &REGISTRY
}

/// Returns the type of that name, as the configuration spells it.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn ProviderType> {
    all().iter().copied().find(|kind| kind.name() == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let names: HashSet<_> = all().iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), all().len());
        for kind in all() {
            assert_eq!(find(kind.name()), Some(*kind));
            assert!(kind.description().ends_with('.'), "{}", kind.name());
        }
        assert_eq!(find("openia"), None);
    }

    #[test]
    fn every_type_is_documented() {
        let text = include_str!("../../../docs/translation.md");
        let table = text.split("| provider type |").nth(1).unwrap();
        let table = table.split("\n\n").next().unwrap();
        for kind in all() {
            let name = format!("`{}`", kind.name());
            assert!(
                table.contains(&name),
                "{name} is not in docs/translation.md"
            );
        }
    }

    #[test]
    fn types_used_without_a_file_know_where_they_are() {
        let settings = Settings::default();
        for kind in all().iter().filter(|kind| kind.is_used_without_file()) {
            let address = kind.base_url(&settings);
            assert!(matches!(address, DefaultBaseUrl::Known(_)), "{kind:?}");
        }
    }
}
