//! Request bodies for the load: valid chats of an exact size. It must not know HTTP.

use crate::event::EventPlan;

/// Model named in the body, and the upstream's name for it, so that a proxy that splices names
/// leaves the bytes unchanged.
pub(crate) const MODEL: &str = "bench";

/// A message is about so long before the next begins.
const MESSAGE: usize = 4096;
const END: &str = "\"}]}";
const NEXT: [&str; 2] = [
    "\"},{\"role\":\"assistant\",\"content\":\"",
    "\"},{\"role\":\"user\",\"content\":\"",
];
/// Prose as chats have it: with escapes and characters of more than one byte.
const SENTENCES: [&str; 6] = [
    "The meeting moved to Thursday because the auditors need one more day for the ledgers.\\n",
    "Please summarise the attached minutes in three points, each with the person who owns it. ",
    "She answered: \\\"we ship when the tests are green\\\", and nobody in the room disagreed. ",
    "```rust\\nfn area(width: u32, height: u32) -> u64 {\\n    u64::from(width) * u64::from(height)\\n}\\n```\\n",
    "Größe, Übermaß und Kürze: der Rückruf um zwölf klärt, was im Vertrag über Gebühren steht. ",
    "The total came to 1,482.50 after the discount of 7.5 % that the contract grants in March.\\n\\n",
];

/// A chat completion request of exactly `size` bytes, or of its least size if that is more.
/// With a `plan` it asks for a stream, and tells the bench upstream what to stream.
pub(crate) fn chat(model: &str, size: usize, plan: Option<&EventPlan>) -> Vec<u8> {
    let mut body = opening(model, plan).into_bytes();
    let room = size.saturating_sub(END.len());
    let (mut begun, mut roles) = (body.len(), NEXT.iter().cycle());
    for sentence in SENTENCES.iter().cycle() {
        if body.len() + sentence.len() + MESSAGE_FRAME > room {
            break;
        }
        if body.len() - begun > MESSAGE {
            body.extend(roles.next().into_iter().flat_map(|role| role.bytes()));
            begun = body.len();
        }
        body.extend_from_slice(sentence.as_bytes());
    }
    body.resize(room.max(body.len()), b'.');
    body.extend_from_slice(END.as_bytes());
    body
}

/// The longest of `NEXT`.
const MESSAGE_FRAME: usize = NEXT[0].len();

fn opening(model: &str, plan: Option<&EventPlan>) -> String {
    let stream = plan.map_or(String::new(), |plan| {
        format!(
            r#""stream":true,"stream_options":{{"include_usage":true}},"metadata":{{"bench":"{}"}},"#,
            plan.knob()
        )
    });
    format!(
        r#"{{"model":"{model}",{stream}"messages":[{{"role":"system","content":"You are brief."}},{{"role":"user","content":""#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_size_asked_for_and_are_json() {
        let plan = EventPlan::default();
        for plan in [None, Some(&plan)] {
            for size in [300, 1024, 4200, 65_535, 65_536, 65_537, 256 << 10, 1 << 20] {
                let body = chat(MODEL, size, plan);
                assert_eq!(body.len(), size);
                let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(json["model"], MODEL);
                assert_eq!(json["stream"].as_bool(), plan.map(|_| true));
            }
        }
    }

    #[test]
    fn a_size_too_small_gives_the_least_body() {
        let body = chat(MODEL, 1, None);
        assert!(body.len() < 150 && serde_json::from_slice::<serde_json::Value>(&body).is_ok());
    }

    #[test]
    fn large_bodies_have_many_messages_of_both_roles() {
        let body = chat(MODEL, 256 << 10, None);
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let messages = json["messages"].as_array().unwrap();
        assert!(messages.len() > 40);
        assert!(
            messages
                .iter()
                .any(|message| message["role"] == "assistant")
        );
    }
}
