//! OpenAI embeddings: `POST /v1/embeddings`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fastrand::Rng;
use serde::Serialize;
use serde_json::Value;

use super::{AnswerJob, MockRefusal, Surface, json, reading};
use crate::ask::{self, AnswerRequest};

/// The surface of `/v1/embeddings`.
pub(crate) struct Embeddings;

/// Length of a vector when the request does not say.
const USUAL_DIMENSIONS: usize = 1_536;

const MOST_DIMENSIONS: u64 = 4_096;
const MOST_INPUTS: usize = 2_048;

impl Surface for Embeddings {
    fn read(&self, body: &Value) -> Result<AnswerRequest, MockRefusal> {
        let inputs = inputs(&body["input"])?;
        if inputs.len() > MOST_INPUTS {
            return Err(MockRefusal::field(
                "input",
                "At most 2048 inputs are taken.",
            ));
        }
        dimensions(body)?;
        match reading::text(body, "encoding_format")? {
            None | Some("float" | "base64") => {}
            Some(_) => return Err(MockRefusal::field("encoding_format", "Unknown encoding.")),
        }
        Ok(AnswerRequest {
            input_tokens: reading::tokens(body, &["input"]),
            ..AnswerRequest::default()
        })
    }

    fn whole(&self, body: &Value, job: &mut AnswerJob) -> Vec<u8> {
        let base64 = body["encoding_format"] == "base64";
        let dimensions = dimensions(body).unwrap_or(USUAL_DIMENSIONS);
        let inputs = inputs(&body["input"]).unwrap_or_default();
        let data = inputs.iter().enumerate().map(|(index, input)| {
            let vector = vector(input, dimensions);
            let embedding = if base64 {
                Vector::Base64(encode(&vector))
            } else {
                Vector::Floats(vector)
            };
            Embedding {
                object: "embedding",
                index,
                embedding,
            }
        });
        let input = job.answer.usage.input;
        let usage = EmbeddingUsage {
            prompt_tokens: input,
            total_tokens: input,
        };
        json(&EmbeddingList {
            object: "list",
            data: data.collect(),
            model: &job.model,
            usage: job.answer.usage_told.then_some(usage),
        })
    }
}

/// The inputs: one text, a list of texts, one list of token numbers, or a list of such lists.
fn inputs(input: &Value) -> Result<Vec<String>, MockRefusal> {
    let wrong = || MockRefusal::field("input", "Missing, empty or wrong 'input'.");
    match input {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) if items.is_empty() => Err(wrong()),
        Value::Array(items) if items.iter().all(Value::is_u64) => Ok(vec![input.to_string()]),
        Value::Array(items) => {
            let text = |item: &Value| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Array(_) => Ok(item.to_string()),
                _ => Err(wrong()),
            };
            items.iter().map(text).collect()
        }
        _ => Err(wrong()),
    }
}

fn dimensions(body: &Value) -> Result<usize, MockRefusal> {
    match reading::count(body, "dimensions")? {
        None => Ok(USUAL_DIMENSIONS),
        Some(n @ 1..=MOST_DIMENSIONS) => Ok(usize::try_from(n).unwrap_or(USUAL_DIMENSIONS)),
        Some(_) => Err(MockRefusal::field(
            "dimensions",
            "At most 4096 dimensions are made.",
        )),
    }
}

/// A vector of length one: the same for the same text, near to no other.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut rng: Rng = ask::seed_rng(0, text);
    let mut vector: Vec<f32> = (0..dimensions).map(|_| rng.f32() - 0.5).collect();
    let length = vector
        .iter()
        .map(|x| x * x)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|x| *x /= length);
    vector
}

fn encode(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[derive(Serialize)]
struct EmbeddingList<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<EmbeddingUsage>,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct EmbeddingUsage {
    prompt_tokens: u64,
    total_tokens: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn vectors_have_length_one_and_belong_to_their_text() {
        let one = vector("hello", 512);
        let length: f32 = one.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-4);
        assert_eq!(one, vector("hello", 512));
        assert_ne!(one, vector("world", 512));
        assert_eq!(STANDARD.decode(encode(&one)).unwrap().len(), 2_048);
    }

    #[test]
    fn every_form_of_input_is_counted() {
        for (input, count) in [
            (json!("a"), 1),
            (json!(["a", "b"]), 2),
            (json!([1, 2, 3]), 1),
            (json!([[1], [2, 3]]), 2),
        ] {
            assert_eq!(inputs(&input).unwrap().len(), count, "{input}");
        }
        for input in [json!(null), json!([]), json!(3), json!([{}])] {
            assert!(inputs(&input).is_err(), "{input}");
        }
    }
}
