//! The revision of a configuration: a number that its content alone decides, so that replicas and
//! restarts with the same configuration have the same one. It must hold no secret.

use std::path::Path;

use llm_router_store::objects::{ObjectKind, Objects};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Settings of one process: routers that differ in them have the same configuration otherwise.
const OF_THE_PROCESS: [(&str, &[&str]); 3] = [
    ("server", &["listen", "tls", "threads", "upgrade_socket"]),
    ("admin", &["listen"]),
    ("store", &["journal"]),
];

/// Bits of the number: JSON readers and Prometheus take it for a float, which holds 53 bits exactly.
const BITS: u32 = 52;

/// Returns the revision of a file with its secrets masked, its prices file, and the objects made by API.
/// Keys made by API don't count, nor do the secrets themselves.
pub(crate) fn revision(masked: &Value, prices: Option<&Path>, objects: &Objects) -> u64 {
    let mut file = masked.clone();
    for (section, fields) in OF_THE_PROCESS {
        let Some(settings) = file.get_mut(section).and_then(Value::as_object_mut) else {
            continue;
        };
        for field in fields {
            settings.remove(*field);
        }
        // A section of nothing else is as good as none.
        if settings.is_empty()
            && let Some(sections) = file.as_object_mut()
        {
            sections.remove(section);
        }
    }
    let mut stored: Vec<_> = ObjectKind::ALL
        .into_iter()
        .filter(|kind| *kind != ObjectKind::Key)
        .flat_map(|kind| objects.by_kind(kind))
        .map(|object| json!([object.kind.name(), object.id, object.body]))
        .map(|object| canonical(&object))
        .collect();
    stored.sort_unstable();
    let prices = prices.and_then(|path| std::fs::read(path).ok());
    let mut hash = Sha256::new();
    for part in [
        canonical(&file).as_bytes(),
        prices.as_deref().unwrap_or_default(),
        stored.join("\n").as_bytes(),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let first = digest.iter().take(8);
    let number = first.fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    // Zero stands for a request without a configuration.
    (number >> (u64::BITS - BITS)).max(1)
}

/// Returns a value as JSON whose members are in the order of their names.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            let members = members.into_iter().map(|(name, value)| {
                format!("{}:{}", Value::from(name.as_str()), canonical(value))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: &Value) -> u64 {
        revision(file, None, &Objects::default())
    }

    #[test]
    fn content_decides_and_the_process_does_not() {
        let file = json!({ "server": { "listen": "a", "max_body": "1KiB" }, "models": [1] });
        let same = [
            json!({ "models": [1], "server": { "max_body": "1KiB", "listen": "b", "threads": 2 } }),
            json!({ "admin": { "listen": "c" }, "models": [1], "server": { "max_body": "1KiB" } }),
        ];
        for one in &same {
            assert_eq!(of(one), of(&file), "{one}");
        }
        for other in [
            json!({ "server": { "listen": "a", "max_body": "2KiB" }, "models": [1] }),
            json!({ "server": { "listen": "a", "max_body": "1KiB" }, "models": [2] }),
            json!({}),
        ] {
            assert_ne!(of(&other), of(&file), "{other}");
        }
        assert!(of(&file) < 1 << BITS);
    }
}
