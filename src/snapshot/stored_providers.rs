//! Converts stored provider objects into `config::Provider`, beside those of the file. One that
//! can't be used is skipped, for it is too late to refuse it.

use std::sync::Arc;

use jiff::civil::date;
use llm_router_config::{Config, MASK, Provider, check_provider};
use llm_router_domain::price::PriceTable;
use llm_router_store::objects::{ObjectKind, Objects, StoredObject};
use llm_router_store::seal::Sealer;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

/// The field of a stored provider that holds the prices of its models.
pub(crate) const PRICES: &str = "prices";

/// The fields that hold secrets: they are stored sealed.
const CREDENTIAL: &str = "api_key";
const HEADERS: &str = "headers";

/// Returns the file's configuration with the stored providers after those of the file.
pub(crate) fn with_stored_providers(
    config: &Config,
    objects: &Objects,
    sealer: Option<&Sealer>,
) -> Config {
    let mut config = config.clone();
    for object in objects.by_kind(ObjectKind::Provider) {
        let taken = config
            .providers
            .iter()
            .any(|provider| provider.id == object.id);
        let stored = if taken {
            Err("the configuration file has a provider of that id".to_owned())
        } else {
            to_config(object, sealer)
        };
        match stored {
            Ok(provider) => config.providers.push(provider),
            Err(problem) => {
                tracing::warn!(
                    provider.id = object.id,
                    problem,
                    "skipping a stored provider that can't be used"
                );
            }
        }
    }
    config
}

/// Converts a stored provider into what the file would have said.
///
/// # Errors
/// Returns a sentence if it can't be used.
pub(crate) fn to_config(
    object: &StoredObject,
    sealer: Option<&Sealer>,
) -> Result<Arc<Provider>, String> {
    let secrets = open_secrets(object, sealer)?;
    let fields = object.body.as_object().cloned().unwrap_or_default();
    check_provider(&with_secrets(&object.id, fields, &secrets).into()).map_err(|problems| {
        let problem = problems.into_iter().next();
        problem.map_or_else(String::new, |problem| {
            format!("{}: {}", problem.path, problem.message)
        })
    })
}

/// Returns the prices of stored providers' models.
pub(crate) fn prices(objects: &Objects) -> PriceTable {
    let mut table = PriceTable::default();
    for object in objects.by_kind(ObjectKind::Provider) {
        for (model, price) in object.body[PRICES].as_object().into_iter().flatten() {
            match price_table(&object.id, model, price) {
                Ok(price) => table = table.merge(price),
                Err(problem) => tracing::warn!(
                    provider.id = object.id,
                    model,
                    problem,
                    "skipping a stored price that can't be used"
                ),
            }
        }
    }
    table.set_revision("api");
    table
}

/// Returns the table that holds one model's price.
///
/// # Errors
/// Returns a sentence if the price is invalid.
pub(crate) fn price_table(
    provider: &str,
    model: &str,
    price: &Value,
) -> Result<PriceTable, String> {
    let mut period = price.as_object().cloned().unwrap_or_default();
    // The ledger bills by the day of the request: a price without one holds for all.
    let always = date(2000, 1, 1).to_string();
    period.entry("from").or_insert_with(|| always.into());
    let file = json!({ format!("{provider}/{model}"): [period] });
    llm_router_prices::read(&file.to_string()).map_err(|errors| {
        let first = errors.into_iter().next();
        first.map_or_else(String::new, |error| error.message)
    })
}

/// Secrets of a stored provider.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets {
    credential: Option<SecretString>,
    headers: Vec<(String, SecretString)>,
}

impl Secrets {
    /// Takes the secrets out of a provider's fields and leaves masks. Fields that are masked already
    /// keep the secret of `known`.
    pub(crate) fn take(fields: &mut Map<String, Value>, known: Self) -> Self {
        let given = fields.get(CREDENTIAL).and_then(Value::as_str);
        let credential = match given {
            None | Some(MASK) => known.credential,
            Some(text) => Some(SecretString::from(text)),
        };
        if credential.is_some() {
            fields.insert(CREDENTIAL.to_owned(), MASK.into());
        }
        let mut headers = Vec::new();
        for (name, value) in fields
            .get_mut(HEADERS)
            .and_then(Value::as_object_mut)
            .into_iter()
            .flatten()
        {
            let text = value.as_str().unwrap_or_default();
            let secret = if text == MASK {
                let found = known.headers.iter().find(|(known, _)| known == name);
                found.map(|(_, secret)| secret.clone())
            } else {
                Some(SecretString::from(text))
            };
            headers.extend(secret.map(|secret| (name.clone(), secret)));
            *value = MASK.into();
        }
        Self {
            credential,
            headers,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.credential.is_none() && self.headers.is_empty()
    }

    /// Returns the secrets sealed for storage.
    ///
    /// # Errors
    /// Returns an error if they can't be sealed.
    pub(crate) fn seal(&self, id: &str, sealer: &Sealer) -> Result<SecretString, String> {
        let headers: Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, secret)| (name.clone(), secret.expose_secret().into()))
            .collect();
        let credential = self
            .credential
            .as_ref()
            .map(|secret| secret.expose_secret());
        let text = json!({ CREDENTIAL: credential, HEADERS: headers }).to_string();
        let sealed = sealer.seal(&context(id), &text.into());
        sealed
            .map(SecretString::from)
            .map_err(|error| error.to_string())
    }
}

/// Opens the secrets of a stored provider.
///
/// # Errors
/// Returns an error if they can't be opened.
pub(crate) fn open_secrets(
    object: &StoredObject,
    sealer: Option<&Sealer>,
) -> Result<Secrets, String> {
    let Some(sealed) = &object.sealed else {
        return Ok(Secrets::default());
    };
    let sealer = sealer.ok_or("SECRET_KEY is not set, so its credential can't be opened")?;
    let text = sealer.open(&context(&object.id), sealed.expose_secret());
    let text = text.map_err(|error| error.to_string())?;
    let secrets: Value = serde_json::from_str(text.expose_secret()).unwrap_or_default();
    let headers = secrets[HEADERS].as_object().into_iter().flatten();
    let header = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.into()));
    Ok(Secrets {
        credential: secrets[CREDENTIAL].as_str().map(SecretString::from),
        headers: headers.filter_map(header).collect(),
    })
}

/// Returns the fields of the file, with the secrets in place of their masks.
pub(crate) fn with_secrets(
    id: &str,
    mut fields: Map<String, Value>,
    secrets: &Secrets,
) -> Map<String, Value> {
    fields.remove(PRICES);
    fields.insert("id".to_owned(), id.into());
    fields.remove(CREDENTIAL);
    if let Some(secret) = &secrets.credential {
        fields.insert(CREDENTIAL.to_owned(), secret.expose_secret().into());
    }
    if let Some(headers) = fields.get_mut(HEADERS).and_then(Value::as_object_mut) {
        for (name, secret) in &secrets.headers {
            headers.insert(name.clone(), secret.expose_secret().into());
        }
    }
    fields
}

/// Context that a sealed text is bound to.
fn context(id: &str) -> String {
    format!("provider/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&"0123456789abcdef0123456789abcdef".into(), &[]).unwrap()
    }

    fn object(fields: Value, sealed: Option<SecretString>) -> StoredObject {
        StoredObject {
            kind: ObjectKind::Provider,
            id: "a".to_owned(),
            name: "a".to_owned(),
            body: fields,
            sealed,
            version: 1,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            updated_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn secrets_are_kept_apart_and_put_back() {
        let given = json!({ "type": "openai", "api_key": "sk-1", "headers": { "x-a": "h-1" } });
        let mut fields = given.as_object().unwrap().clone();
        let secrets = Secrets::take(&mut fields, Secrets::default());
        assert_eq!(
            Value::from(fields.clone()),
            json!({ "type": "openai", "api_key": "***", "headers": { "x-a": "***" } })
        );
        let sealed = secrets.seal("a", &sealer()).unwrap();
        assert!(!sealed.expose_secret().contains("sk-1"));
        let stored = object(fields.clone().into(), Some(sealed));
        let found = to_config(&stored, Some(&sealer())).unwrap();
        assert_eq!(found.credential.as_ref().unwrap().expose_secret(), "sk-1");
        assert_eq!(found.headers[0].1.expose_secret(), "h-1");
        assert!(to_config(&stored, None).unwrap_err().contains("SECRET_KEY"));
        let kept = Secrets::take(&mut fields, open_secrets(&stored, Some(&sealer())).unwrap());
        assert_eq!(kept.credential.unwrap().expose_secret(), "sk-1");
        assert_eq!(kept.headers[0].1.expose_secret(), "h-1");
    }

    #[test]
    fn prices_are_those_of_a_prices_file() {
        let priced = json!({ "type": "mock", "prices": { "m": { "input": 1, "output": 2.5 } } });
        let objects = Objects {
            change_number: 1,
            items: vec![object(priced, None)],
        };
        assert!(prices(&objects).get("a/m").is_some());
        assert!(price_table("a", "m", &json!({ "input": -1 })).is_err());
        assert!(price_table("a", "m", &json!({ "inptu": 1 })).is_err());
    }
}
