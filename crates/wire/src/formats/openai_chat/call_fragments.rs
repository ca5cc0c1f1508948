//! Joins the fragments of streamed tool calls, in whatever pieces servers send them. It must not know
//! chunks or choices.

use super::balance::Balance;
use crate::translate::event::{AnswerEvent, BlockKind, Sink};
use crate::translate::neutral::Text;
use crate::translate::tool_id;

/// A piece of a call, as a chunk has it.
#[derive(Debug)]
pub(super) struct CallFragment<'f> {
    pub(super) index: Option<u64>,
    pub(super) id: Text<'f>,
    pub(super) name: Text<'f>,
    pub(super) arguments: Text<'f>,
    /// Gemini's signature of the thought behind the call.
    pub(super) signature: Option<Text<'f>>,
}

impl CallFragment<'_> {
    fn is_empty(&self) -> bool {
        self.id.is_empty() && self.name.is_empty() && self.arguments.is_empty()
    }
}

/// Numbers that are unique in an answer, and what they count for.
#[derive(Debug)]
pub(super) struct Numbers {
    /// Seed of ids where the provider gives none.
    pub(super) seed: String,
    pub(super) blocks: usize,
    pub(super) calls: usize,
}

/// Moment up to which calls are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// As they come.
    Now,
    /// Something else begins: calls whose arguments are whole have ended.
    Next,
    /// The answer ends.
    End,
}

/// The calls of one choice, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<CallState>,
}

/// A tool call being written.
///
/// It is passed on when its arguments begin and its name and id are known: either may come in pieces
/// or late, and clients of block formats can't be told later. What comes until then is held.
#[derive(Debug)]
struct CallState {
    number: usize,
    index: Option<u64>,
    id: String,
    name: String,
    signature: Option<String>,
    held: String,
    balance: Balance,
    /// Arguments came.
    began: bool,
    /// They came before the name, whose end nothing tells then.
    early: bool,
    block: Option<usize>,
    closed: bool,
}

impl Calls {
    pub(super) const fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns true if a fragment begins another call.
    pub(super) fn begins(&self, fragment: &CallFragment<'_>) -> bool {
        !fragment.is_empty() && self.position(fragment).is_none()
    }

    /// Adds a fragment to its call, and passes on what can be.
    pub(super) fn add(
        &mut self,
        fragment: CallFragment<'_>,
        choice: u64,
        numbers: &mut Numbers,
        sink: &mut Sink<'_>,
    ) {
        if fragment.is_empty() {
            return;
        }
        let at = match self.position(&fragment) {
            Some(at) => at,
            None => {
                self.pass(Until::Next, choice, numbers, sink);
                self.calls.push(CallState::new(fragment.index, numbers));
                self.calls.len() - 1
            }
        };
        if let Some(call) = self.calls.get_mut(at) {
            call.add(fragment, sink);
        }
        self.pass(Until::Now, choice, numbers, sink);
    }

    /// Passes on, in their order, the calls that can be.
    pub(super) fn pass(
        &mut self,
        until: Until,
        choice: u64,
        numbers: &mut Numbers,
        sink: &mut Sink<'_>,
    ) {
        for call in &mut self.calls {
            let ends = match until {
                Until::Now => false,
                Until::Next => call.balance.is_whole(),
                Until::End => true,
            };
            if call.block.is_none() {
                if call.name.is_empty() && until == Until::End {
                    continue;
                }
                if !call.is_ready(ends) {
                    return;
                }
                call.open(choice, numbers, sink);
            }
            if ends {
                call.close(sink);
            }
        }
    }

    /// The call that a fragment belongs to, or none if it begins another.
    ///
    /// Fragments name their call by index. Some servers give none (Mistral), or the same for all
    /// calls, each of which then comes whole (Gemini); some repeat id or name in every fragment, or
    /// give them later than the rest.
    fn position(&self, fragment: &CallFragment<'_>) -> Option<usize> {
        let last = self.calls.len().checked_sub(1);
        let found = match fragment.index {
            Some(_) => {
                let same = |call: &CallState| call.index == fragment.index;
                let unnumbered = || {
                    last.filter(|at| self.calls.get(*at).is_some_and(|call| call.index.is_none()))
                        .filter(|_| fragment.name.is_empty())
                };
                self.calls.iter().rposition(same).or_else(unnumbered)
            }
            None if !fragment.id.is_empty() => {
                let same = |call: &CallState| call.id == fragment.id;
                let nameless =
                    || last.filter(|at| self.calls.get(*at).is_some_and(|call| call.id.is_empty()));
                self.calls.iter().rposition(same).or_else(nameless)
            }
            None => last,
        }?;
        let call = self.calls.get(found)?;
        (!call.is_another(fragment)).then_some(found)
    }
}

impl CallState {
    fn new(index: Option<u64>, numbers: &mut Numbers) -> Self {
        let number = numbers.calls;
        numbers.calls += 1;
        Self {
            number,
            index,
            id: String::new(),
            name: String::new(),
            signature: None,
            held: String::new(),
            balance: Balance::default(),
            began: false,
            early: false,
            block: None,
            closed: false,
        }
    }

    /// Returns true if a fragment with the call's number or id can't be a part of it.
    fn is_another(&self, fragment: &CallFragment<'_>) -> bool {
        let whole = self.balance.is_whole();
        let other_id = !fragment.id.is_empty() && !self.id.is_empty() && *fragment.id != *self.id;
        if fragment.name.is_empty() {
            return other_id && whole;
        }
        if other_id || self.name.is_empty() {
            return other_id;
        }
        let other_name = *fragment.name != *self.name;
        if whole {
            let anew = fragment.arguments.trim_start().starts_with(['{', '[']);
            return anew || (other_name && !self.early);
        }
        other_name && self.began && fragment.index.is_none()
    }

    fn add(&mut self, fragment: CallFragment<'_>, sink: &mut Sink<'_>) {
        self.index = self.index.or(fragment.index);
        if self.signature.is_none() {
            self.signature = fragment.signature.map(Text::into_owned);
        }
        if self.block.is_none() {
            join(&mut self.id, &fragment.id, !self.began);
            join(&mut self.name, &fragment.name, true);
        }
        if fragment.arguments.is_empty() || self.closed {
            return;
        }
        self.began = true;
        self.early |= self.name.is_empty();
        self.balance.add(&fragment.arguments);
        match self.block {
            Some(block) => sink(AnswerEvent::Text {
                block,
                text: fragment.arguments,
                logprobs: None,
            }),
            None => self.held.push_str(&fragment.arguments),
        }
    }

    fn is_ready(&self, ends: bool) -> bool {
        let told = self.began && !self.early && !self.id.is_empty();
        !self.name.is_empty() && (ends || told)
    }

    fn open(&mut self, choice: u64, numbers: &mut Numbers, sink: &mut Sink<'_>) {
        let block = numbers.blocks;
        numbers.blocks += 1;
        self.block = Some(block);
        let id = if self.id.is_empty() {
            tool_id::make(&numbers.seed, self.number)
        } else {
            self.id.clone()
        };
        sink(AnswerEvent::Open {
            choice,
            block,
            kind: BlockKind::Tool {
                id: id.into(),
                name: self.name.as_str().into(),
                signature: self.signature.take().map(Into::into),
            },
        });
        if !self.held.is_empty() {
            sink(AnswerEvent::Text {
                block,
                text: std::mem::take(&mut self.held).into(),
                logprobs: None,
            });
        }
    }

    fn close(&mut self, sink: &mut Sink<'_>) {
        if let (false, Some(block)) = (self.closed, self.block) {
            self.closed = true;
            sink(AnswerEvent::Close { block });
        }
    }
}

/// Adds a piece to a word, unless it repeats the word. One that is whole takes no more.
fn join(word: &mut String, piece: &str, open: bool) {
    if word != piece && (open || word.is_empty()) {
        word.push_str(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs fragments given as `index id name arguments`, with `_` for what is missing, and shows
    /// the calls.
    fn run(fragments: &[&str]) -> Vec<String> {
        let mut calls = Calls::default();
        let mut numbers = Numbers {
            seed: "s".to_owned(),
            blocks: 0,
            calls: 0,
        };
        let mut shown: Vec<String> = Vec::new();
        let mut sink = |event: AnswerEvent<'_>| match event {
            AnswerEvent::Open {
                block,
                kind: BlockKind::Tool { id, name, .. },
                ..
            } => {
                assert_eq!(block, shown.len());
                let id = if tool_id::is_made(&id) { "made" } else { &id };
                shown.push(format!("{id} {name} "));
            }
            AnswerEvent::Text { block, text, .. } => shown[block].push_str(&text),
            AnswerEvent::Close { block } => shown[block].push('.'),
            other => panic!("{other:?}"),
        };
        for fragment in fragments {
            let words: Vec<&str> = fragment
                .split(' ')
                .map(|word| if word == "_" { "" } else { word })
                .collect();
            let fragment = CallFragment {
                index: words[0].parse().ok(),
                id: words[1].into(),
                name: words[2].into(),
                arguments: words[3].into(),
                signature: None,
            };
            calls.add(fragment, 0, &mut numbers, &mut sink);
        }
        calls.pass(Until::End, 0, &mut numbers, &mut sink);
        shown
    }

    #[test]
    fn fragments_are_joined() {
        for (fragments, expected) in [
            // As OpenAI sends them.
            (&["0 a f _", "0 _ _ {", "0 _ _ }"][..], &["a f {}."][..]),
            // The name in pieces, and repeated.
            (
                &["0 a get_ _", "0 _ weather {", "0 _ _ }"],
                &["a get_weather {}."],
            ),
            (&["0 a f {", "0 a f }"], &["a f {}."]),
            (&["0 a f _", "0 _ f {}"], &["a f {}."]),
            // The id in the second chunk, at the end, in pieces, or not at all.
            (&["0 _ f _", "0 a _ {", "0 _ _ }"], &["a f {}."]),
            (&["0 _ f {", "0 _ _ }", "0 a _ _"], &["a f {}."]),
            (&["0 call_ f _", "0 a _ _", "0 _ _ {}"], &["call_a f {}."]),
            (&["0 _ f {", "0 _ _ }"], &["made f {}."]),
            // Arguments before the name.
            (&["0 a _ {", "0 _ _ }", "0 _ f _"], &["a f {}."]),
            (
                &["0 _ _ {}", "0 a get_ _", "0 _ weather _"],
                &["a get_weather {}."],
            ),
            // The index missing, in all fragments or in some.
            (&["_ a f {}", "_ b g {}"], &["a f {}.", "b g {}."]),
            (&["_ a f {", "_ _ _ }", "_ b f {}"], &["a f {}.", "b f {}."]),
            (&["0 a f _", "_ _ _ {}"], &["a f {}."]),
            (&["_ a f _", "0 _ _ {}"], &["a f {}."]),
            (&["_ _ f _", "_ a _ {}"], &["a f {}."]),
            // The index repeated: each call comes whole.
            (&["0 _ f {}", "0 _ f {}"], &["made f {}.", "made f {}."]),
            (&["0 a f {}", "0 b g {}"], &["a f {}.", "b g {}."]),
            (&["0 a f {}", "0 a f {}"], &["a f {}.", "a f {}."]),
            // Interleaved, and one id for both.
            (
                &["0 a f _", "1 b g _", "1 _ _ {", "0 _ _ {}", "1 _ _ }"],
                &["a f {}.", "b g {}."],
            ),
            (
                &["0 x f {", "1 x g {", "0 _ _ }", "1 _ _ }"],
                &["x f {}.", "x g {}."],
            ),
            (
                &["0 _ f _", "1 _ g _", "0 a _ {}", "1 b _ {}"],
                &["a f {}.", "b g {}."],
            ),
            // No arguments at all, and nothing that could be called.
            (&["0 a f _"], &["a f ."]),
            (&["0 a f _", "1 b g {}"], &["a f .", "b g {}."]),
            (&["0 a _ {}"], &[]),
            (&["0 _ _ _", "0 _ _ _"], &[]),
        ] {
            assert_eq!(run(fragments), expected, "{fragments:?}");
        }
    }
}
