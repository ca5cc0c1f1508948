//! Reads the price maps of LiteLLM and of genai-prices, as JSON. It takes rates of tokens from them;
//! fees, hours and factors are the table's own.

use std::collections::BTreeMap;

use jiff::civil::Date;
use llm_router_domain::price::Amount;
use llm_router_domain::usage::{Class, ServiceTier};
use rust_decimal::Decimal;
use serde_json::{Map, Value};

/// Providers as LiteLLM, genai-prices and this router call them.
const PROVIDERS: [(&str, &str, &str); 21] = [
    ("openai", "openai", "openai"),
    ("anthropic", "anthropic", "anthropic"),
    ("gemini", "google", "gemini"),
    ("deepseek", "deepseek", "deepseek"),
    ("mistral", "mistral", "mistral"),
    ("groq", "groq", "groq"),
    ("xai", "x-ai", "xai"),
    ("dashscope", "", "alibaba"),
    ("moonshot", "moonshotai", "moonshot"),
    ("zai", "zai", "zai"),
    ("minimax", "minimax", "minimax"),
    ("xiaomi_mimo", "", "xiaomi"),
    ("meta", "meta", "meta"),
    ("cohere", "cohere", "cohere"),
    ("cohere_chat", "", "cohere"),
    ("perplexity", "perplexity", "perplexity"),
    ("together_ai", "together", "together"),
    ("fireworks_ai", "fireworks", "fireworks"),
    ("cerebras", "cerebras", "cerebras"),
    ("voyage", "voyageai", "voyage"),
    ("bedrock_converse", "aws", "bedrock"),
];

const LITELLM_CLASSES: [(&str, Class); 13] = [
    ("input_cost_per_token", Class::Input),
    ("output_cost_per_token", Class::Output),
    ("cache_read_input_token_cost", Class::CacheRead),
    (
        "cache_creation_input_token_cost_above_1hr",
        Class::CacheWrite1h,
    ),
    (
        "cache_creation_input_token_cost_above_12hr",
        Class::CacheWrite12h,
    ),
    ("cache_creation_input_token_cost", Class::CacheWrite5m),
    ("input_cost_per_audio_token", Class::AudioInput),
    ("input_cost_per_image_token", Class::ImageInput),
    ("output_cost_per_audio_token", Class::AudioOutput),
    ("output_cost_per_image_token", Class::ImageOutput),
    ("output_cost_per_reasoning_token", Class::Reasoning),
    ("cache_read_input_audio_token_cost", Class::CachedAudioInput),
    ("cache_read_input_image_token_cost", Class::CachedImageInput),
];

const LITELLM_TIERS: [(&str, &str); 4] = [
    ("_batches", "batch"),
    ("_flex", "flex"),
    ("_priority", "priority"),
    ("_ultrafast", "ultrafast"),
];

const GENAI_CLASSES: [(&str, Class); 11] = [
    ("input_mtok", Class::Input),
    ("output_mtok", Class::Output),
    ("cache_read_mtok", Class::CacheRead),
    ("cache_write_mtok", Class::CacheWrite5m),
    ("cache_write_1h_mtok", Class::CacheWrite1h),
    ("input_audio_mtok", Class::AudioInput),
    ("input_image_mtok", Class::ImageInput),
    ("output_audio_mtok", Class::AudioOutput),
    ("output_image_mtok", Class::ImageOutput),
    ("cache_audio_read_mtok", Class::CachedAudioInput),
    ("cache_image_read_mtok", Class::CachedImageInput),
];

/// Place of a rate in a price: the tier, the number of input tokens above which it holds, the class.
pub type RatePlace = (ServiceTier, u64, Class);

/// The rates of one model in somebody else's map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedPrice {
    /// `provider/model`, in this router's names.
    pub name: String,
    /// USD per million tokens.
    pub rates: BTreeMap<RatePlace, Amount>,
}

/// A map that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedPrices {
    /// Name of the map: `litellm` or `genai-prices`.
    pub source: &'static str,
    /// Its models, by name.
    pub prices: Vec<ImportedPrice>,
}

/// Reads a map as it holds on a day.
///
/// # Errors
/// Returns a sentence if the text is neither LiteLLM's map nor that of genai-prices.
pub fn import(text: &str, day: Date) -> Result<ImportedPrices, String> {
    let root: Value =
        serde_json::from_str(text).map_err(|error| format!("the file is not JSON: {error}"))?;
    let (source, mut prices) = match &root {
        Value::Object(entries) => ("litellm", read_litellm(entries)),
        Value::Array(providers) => ("genai-prices", read_genai(providers, day)),
        _ => ("", Vec::new()),
    };
    if prices.is_empty() {
        let message = "no price was found: expected LiteLLM's model_prices_and_context_window.json \
                       or the data.json of genai-prices";
        return Err(message.to_owned());
    }
    prices.sort_by(|one, other| one.name.cmp(&other.name));
    prices.dedup_by(|one, other| one.name == other.name);
    Ok(ImportedPrices { source, prices })
}

fn read_litellm(entries: &Map<String, Value>) -> Vec<ImportedPrice> {
    let models = entries.iter().filter_map(|(key, entry)| {
        let vendor = entry.get("litellm_provider")?.as_str()?;
        let (_, _, provider) = PROVIDERS
            .iter()
            .find(|(litellm, _, _)| *litellm == vendor)?;
        let model = key.strip_prefix(&format!("{vendor}/")).unwrap_or(key);
        let fields = entry.as_object()?.iter();
        let rates = fields.filter_map(|(field, value)| {
            let (tier, above, class) = litellm_place(field)?;
            let usd = decimal(value)?.checked_mul(Decimal::from(1_000_000))?;
            // Zero is that map's word for a write that isn't charged apart.
            let is_none = class.is_cache_write() && usd.is_zero();
            let place = (tier, above, cache_class(provider, class));
            (!is_none).then_some((place, amount(usd)?))
        });
        to_import(provider, model, rates.collect())
    });
    models.collect()
}

/// Reads `output_cost_per_token_above_272k_tokens_flex`.
fn litellm_place(field: &str) -> Option<RatePlace> {
    let (mut rest, mut tier) = (field, ServiceTier::STANDARD);
    for (suffix, name) in LITELLM_TIERS {
        if let Some(short) = rest.strip_suffix(suffix) {
            (rest, tier) = (short, ServiceTier::from_name(name));
        }
    }
    let mut above = 0;
    if let Some(short) = rest.strip_suffix("k_tokens")
        && let Some((base, thousands)) = short.rsplit_once("_above_")
    {
        above = thousands.parse::<u64>().ok()?.checked_mul(1000)?;
        rest = base;
    }
    let found = LITELLM_CLASSES.iter().find(|(name, _)| *name == rest);
    found.map(|(_, class)| (tier, above, *class))
}

fn read_genai(providers: &[Value], day: Date) -> Vec<ImportedPrice> {
    let mut prices = Vec::new();
    for provider in providers {
        let id = provider["id"].as_str().unwrap_or_default();
        let known = PROVIDERS.iter().find(|(_, genai, _)| *genai == id);
        let Some((_, _, kind)) = known.filter(|_| !id.is_empty()) else {
            continue;
        };
        for model in provider["models"].as_array().into_iter().flatten() {
            let name = model["id"].as_str().unwrap_or_default();
            let rates = genai_period(&model["prices"], day).map(|fields| {
                let fields = fields.iter();
                fields.flat_map(|(field, price)| genai_rates(kind, field, price))
            });
            prices.extend(rates.and_then(|rates| to_import(kind, name, rates.collect())));
        }
    }
    prices
}

/// Returns the prices that hold on a day: of a list the last that has begun.
fn genai_period(prices: &Value, day: Date) -> Option<&Map<String, Value>> {
    let Some(periods) = prices.as_array() else {
        return prices.as_object();
    };
    let mut holds = periods.iter().filter(|period| {
        let constraint = &period["constraint"];
        if constraint.get("start_time").is_some() {
            return false;
        }
        let start = constraint["start_date"].as_str();
        start.is_none_or(|start| start.parse().is_ok_and(|start: Date| start <= day))
    });
    holds.next_back()?["prices"].as_object()
}

fn genai_rates(kind: &str, field: &str, price: &Value) -> Vec<(RatePlace, Amount)> {
    let Some((_, class)) = GENAI_CLASSES.iter().find(|(name, _)| *name == field) else {
        return Vec::new();
    };
    let class = cache_class(kind, *class);
    let place = |above, value: &Value| {
        let usd = amount(decimal(value)?)?;
        Some(((ServiceTier::STANDARD, above, class), usd))
    };
    let Some(steps) = price.as_object() else {
        return place(0, price).into_iter().collect();
    };
    let tiers = steps.get("tiers").and_then(Value::as_array);
    let tiers = tiers.into_iter().flatten();
    let tiers = tiers.filter_map(|tier| place(tier["start"].as_u64()?, &tier["price"]));
    let base = steps.get("base").and_then(|base| place(0, base));
    base.into_iter().chain(tiers).collect()
}

/// OpenAI keeps what is written to its cache for 30 minutes, others for five.
fn cache_class(provider: &str, class: Class) -> Class {
    match class {
        Class::CacheWrite5m if provider == "openai" => Class::CacheWrite30m,
        class => class,
    }
}

fn to_import(
    provider: &str,
    model: &str,
    rates: BTreeMap<RatePlace, Amount>,
) -> Option<ImportedPrice> {
    let input = rates.get(&(ServiceTier::STANDARD, 0, Class::Input))?;
    // A price of zero is these maps' word for one that isn't known.
    let is_known = !model.is_empty() && !input.usd().is_zero();
    is_known.then(|| ImportedPrice {
        name: format!("{provider}/{model}"),
        rates,
    })
}

/// The number as it was written, as far as JSON's floats keep it.
fn decimal(value: &Value) -> Option<Decimal> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let number = Decimal::from_str_exact(&text).or_else(|_| Decimal::from_scientific(&text));
    number.ok()
}

fn amount(usd: Decimal) -> Option<Amount> {
    // Floats that were computed have noise behind the ninth digit.
    Amount::new(usd.round_dp(9)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Date = jiff::civil::date(2026, 12, 1);

    fn lines(text: &str) -> Vec<String> {
        let imported = import(text, DAY).unwrap();
        let mut lines = vec![imported.source.to_owned()];
        for price in imported.prices {
            for ((tier, above, class), usd) in price.rates {
                let (tier, class) = (tier.name().to_owned(), class.name());
                lines.push(format!("{} {tier} {above} {class} {usd:?}", price.name));
            }
        }
        lines
    }

    #[test]
    fn the_map_of_litellm_is_read() {
        let text = r#"{
            "sample_spec": { "input_cost_per_token": 0.0, "litellm_provider": "one of" },
            "gpt-x": {
                "litellm_provider": "openai", "mode": "chat",
                "input_cost_per_token": 1.5e-07,
                "cache_creation_input_token_cost": 1.875e-07,
                "output_cost_per_token_above_272k_tokens_flex": 4.5e-07,
                "output_cost_per_token": "6e-07"
            },
            "xai/grok-x": { "litellm_provider": "xai", "input_cost_per_token": 2e-06 },
            "free": { "litellm_provider": "openai", "input_cost_per_token": 0 }
        }"#;
        assert_eq!(
            lines(text),
            [
                "litellm",
                "openai/gpt-x standard 0 input 0.15",
                "openai/gpt-x standard 0 cache_write_30m 0.1875",
                "openai/gpt-x standard 0 output 0.6",
                "openai/gpt-x flex 272000 output 0.45",
                "xai/grok-x standard 0 input 2",
            ]
        );
    }

    #[test]
    fn the_data_of_genai_prices_is_read() {
        let text = r#"[{ "id": "x-ai", "models": [
            { "id": "grok-x", "prices": { "input_mtok": { "base": 2, "tiers": [
                { "start": 200000, "price": 4 }] }, "output_mtok": 6, "requests_kcount": 5 } },
            { "id": "grok-y", "prices": [
                { "prices": { "input_mtok": 1 } },
                { "constraint": { "start_date": "2026-11-01" }, "prices": { "input_mtok": 0.5 } },
                { "constraint": { "start_date": "2027-01-01" }, "prices": { "input_mtok": 9 } }] }
        ] }, { "id": "unknown", "models": [{ "id": "m", "prices": { "input_mtok": 1 } }] }]"#;
        assert_eq!(
            lines(text),
            [
                "genai-prices",
                "xai/grok-x standard 0 input 2",
                "xai/grok-x standard 0 output 6",
                "xai/grok-x standard 200000 input 4",
                "xai/grok-y standard 0 input 0.5",
            ]
        );
    }

    #[test]
    fn other_texts_are_refused() {
        assert!(import("{", DAY).unwrap_err().contains("not JSON"));
        for text in ["{}", "[]", "3", r#"{"a": {"litellm_provider": "openai"}}"#] {
            let error = import(text, DAY).unwrap_err();
            assert!(error.starts_with("no price was found"), "{text}: {error}");
        }
    }
}
