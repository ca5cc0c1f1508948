//! Anthropic's list of iterations: what was used beside the message, and by which model. It must not
//! decide prices.

use llm_router_domain::usage::{Class, Usage, UsagePart};

use crate::json;

use super::Counting;
use super::counts::ProviderCounts;

/// The most parts that are kept of one answer.
const MOST_PARTS: usize = 16;

/// The longest model that is kept.
const LONGEST_MODEL: usize = 128;

/// Usage of the iterations that made an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Iterations {
    /// Tokens used by compacting the context, which the top-level figures leave out.
    pub(super) compaction: Usage,
    /// Parts that the top-level figures leave out and that have a model of their own.
    beside: Vec<UsagePart>,
    /// Iterations of the message, with the model that each names.
    messages: Vec<UsagePart>,
    /// The model that served after the one asked had declined.
    pub(super) fallback: Option<Box<str>>,
}

impl Iterations {
    /// Reads the list; none if it is no list.
    pub(super) fn read(list: &[u8]) -> Option<Self> {
        if list.first() != Some(&b'[') {
            return None;
        }
        let mut iterations = Self::default();
        for item in json::elements(list) {
            iterations.read_item(item);
        }
        Some(iterations)
    }

    fn read_item(&mut self, item: &[u8]) {
        let Some(counts) = ProviderCounts::read(item) else {
            return;
        };
        let usage = counts.own_usage(Counting::Anthropic);
        let model: Option<Box<str>> = json::member(item, b"model")
            .and_then(json::string)
            .filter(|name| name.len() <= LONGEST_MODEL)
            .map(|name| name.as_ref().into());
        match (json::member(item, b"type"), model) {
            (Some(b"\"compaction\""), None) => add(&mut self.compaction, &usage),
            (Some(b"\"message\""), model) => {
                push(&mut self.messages, model.unwrap_or_default(), usage);
            }
            (Some(b"\"fallback_message\""), model) => {
                self.fallback.clone_from(&model);
                push(&mut self.messages, model.unwrap_or_default(), usage);
            }
            // An advisor, and whatever else names a model of its own.
            (_, Some(model)) => push(&mut self.beside, model, usage),
            (_, None) => {}
        }
    }

    /// Returns the parts that are billed at another model's rates than `served`, and those of them
    /// that the top-level figures `top` include.
    pub(super) fn parts(&self, served: Option<&str>, top: &Usage) -> (Vec<UsagePart>, Usage) {
        let mut parts = self.beside.clone();
        let mut included = Usage::default();
        let sum = self.messages.iter().fold(Usage::default(), |mut sum, one| {
            add(&mut sum, &one.usage);
            sum
        });
        let counted = [sum.input_total(), sum.output_total()];
        if counted != [top.input_total(), top.output_total()] {
            return (parts, included);
        }
        let others = self.messages.iter().filter(|one| {
            !one.model.is_empty() && served.is_some_and(|served| served != &*one.model)
        });
        for one in others.take(MOST_PARTS) {
            add(&mut included, &one.usage);
            parts.push(one.clone());
        }
        (parts, included)
    }
}

fn push(parts: &mut Vec<UsagePart>, model: Box<str>, usage: Usage) {
    if let Some(part) = parts.iter_mut().find(|part| part.model == model) {
        add(&mut part.usage, &usage);
    } else if parts.len() < MOST_PARTS {
        parts.push(UsagePart { model, usage });
    }
}

/// Adds the tokens of `more`.
pub(super) fn add(sum: &mut Usage, more: &Usage) {
    for (class, tokens) in more.iter() {
        sum.set(class, sum.get(class).saturating_add(tokens));
    }
}

/// Takes the tokens of `less` away.
pub(super) fn subtract(from: &mut Usage, less: &Usage) {
    for class in Class::ALL {
        from.set(class, from.get(class).saturating_sub(less.get(class)));
    }
}
