//! Ids of tool calls that are unique within a conversation: providers repeat theirs, within an answer
//! and from one answer to the next. It must not know the alphabet of any format.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};

use super::neutral::Text;
use super::tool_id;

/// Ids that are taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallIds {
    taken: HashSet<String>,
    /// The number to try next for an id that is taken.
    next: HashMap<String, usize>,
}

impl CallIds {
    /// Ids none of which is among those of the conversation so far.
    pub(crate) fn beside(conversation: &HashSet<String>) -> Self {
        Self {
            taken: conversation.clone(),
            next: HashMap::new(),
        }
    }

    /// Takes an id: the one given, or that with a number behind it.
    pub(crate) fn take<'i>(&mut self, id: Cow<'i, str>) -> Cow<'i, str> {
        if self.taken.insert(id.to_string()) {
            return id;
        }
        let number = self.next.entry(id.to_string()).or_insert(2);
        loop {
            let other = format!("{id}_{number}");
            *number += 1;
            if self.taken.insert(other.clone()) {
                return Cow::Owned(other);
            }
        }
    }

    /// The same for a call of an answer; `answer` is its seed where the provider gave no id.
    pub(crate) fn take_or_make<'i>(&mut self, id: Cow<'i, str>, answer: &str) -> Cow<'i, str> {
        if id.is_empty() {
            let made = tool_id::make(answer, self.taken.len());
            return self.take(Cow::Owned(made));
        }
        self.take(id)
    }
}

/// The ids of a history: each call gets one of its own, each result that of its call.
#[derive(Debug, Default)]
pub(crate) struct PairedIds {
    ids: CallIds,
    turn: usize,
    made: usize,
    /// By the id that calls came with: the calls without a result so far.
    waiting: HashMap<String, VecDeque<WaitingCall>>,
}

#[derive(Debug)]
struct WaitingCall {
    turn: usize,
    id: String,
}

impl PairedIds {
    /// Begins an answer of the assistant's. Of calls with one id, those before it whose results never
    /// came are given up.
    pub(crate) const fn next_turn(&mut self) {
        self.turn += 1;
    }

    pub(crate) fn call(&mut self, id: &mut Text<'_>) {
        let came = id.to_string();
        let wanted = if came.is_empty() {
            let made = tool_id::make("request", self.made);
            self.made += 1;
            Cow::Owned(made)
        } else {
            std::mem::take(id)
        };
        *id = self.ids.take(wanted);
        let turn = self.turn;
        let waiting = self.waiting.entry(came).or_default();
        if waiting.back().is_some_and(|call| call.turn < turn) {
            waiting.clear();
        }
        waiting.push_back(WaitingCall {
            turn,
            id: id.to_string(),
        });
    }

    pub(crate) fn result(&mut self, id: &mut Text<'_>) {
        let waiting = self.waiting.get_mut(id.as_ref());
        if let Some(call) = waiting.and_then(VecDeque::pop_front)
            && call.id != *id
        {
            *id = call.id.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_once() {
        let mut ids = CallIds::beside(&HashSet::from(["x".to_owned(), "x_3".to_owned()]));
        let mut take = |id: &'static str| ids.take(id.into()).into_owned();
        assert_eq!(
            [take("y"), take("x"), take("x"), take("y")],
            ["y", "x_2", "x_4", "y_2"]
        );
    }
}
