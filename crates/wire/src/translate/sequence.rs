//! Puts interleaved blocks one after the other: clients of block formats can't take the fragments
//! of two parallel calls in turn. The block in front streams; the others wait for it to close.

use std::collections::VecDeque;

use super::event::{AnswerEvent, BlockKind, Sink};
use super::signature::Signature;

/// Holds back what comes out of turn, for every choice on its own.
#[derive(Debug, Default)]
pub(crate) struct Sequencer {
    choices: Vec<ChoiceQueue>,
}

/// The blocks of one choice: the first one is being streamed.
#[derive(Debug)]
struct ChoiceQueue {
    choice: u64,
    blocks: VecDeque<QueuedBlock>,
}

#[derive(Debug)]
struct QueuedBlock {
    block: usize,
    kind: BlockKind<'static>,
    text: String,
    signature: Option<Signature<'static>>,
    closed: bool,
}

impl Sequencer {
    /// Takes an event and passes on what is in turn.
    pub(crate) fn push(&mut self, event: AnswerEvent<'_>, sink: &mut Sink<'_>) {
        match event {
            AnswerEvent::Open {
                choice,
                block,
                kind,
            } => self.open(choice, block, kind, sink),
            AnswerEvent::Text { block, .. } | AnswerEvent::Signature { block, .. } => {
                match self.place(block) {
                    Some((_, 0)) => sink(event),
                    Some((line, at)) => self.hold(line, at, event),
                    // Closed already: nothing can be added any more.
                    None => {}
                }
            }
            AnswerEvent::Close { block } => self.close(block, sink),
            AnswerEvent::Finish { choice, .. } => {
                self.flush(choice, sink);
                sink(event);
            }
            other => sink(other),
        }
    }

    fn open(&mut self, choice: u64, block: usize, kind: BlockKind<'_>, sink: &mut Sink<'_>) {
        let at = match self.choices.iter().position(|line| line.choice == choice) {
            Some(at) => at,
            None => {
                self.choices.push(ChoiceQueue {
                    choice,
                    blocks: VecDeque::new(),
                });
                self.choices.len() - 1
            }
        };
        let Some(line) = self.choices.get_mut(at) else {
            return;
        };
        let first = line.blocks.is_empty();
        let held = if first {
            BlockKind::Text
        } else {
            kind.clone().into_owned()
        };
        line.blocks.push_back(QueuedBlock {
            block,
            kind: held,
            text: String::new(),
            signature: None,
            closed: false,
        });
        if first {
            sink(AnswerEvent::Open {
                choice,
                block,
                kind,
            });
        }
    }

    /// Which line a block is in, and where.
    fn place(&self, block: usize) -> Option<(usize, usize)> {
        self.choices.iter().enumerate().find_map(|(number, line)| {
            let at = line
                .blocks
                .iter()
                .position(|waiting| waiting.block == block)?;
            Some((number, at))
        })
    }

    fn hold(&mut self, line: usize, at: usize, event: AnswerEvent<'_>) {
        let waiting = self
            .choices
            .get_mut(line)
            .and_then(|line| line.blocks.get_mut(at));
        match (waiting, event) {
            (Some(waiting), AnswerEvent::Text { text, .. }) => waiting.text.push_str(&text),
            (Some(waiting), AnswerEvent::Signature { signature, .. }) => {
                waiting.signature = Some(signature.into_owned());
            }
            _ => {}
        }
    }

    fn close(&mut self, block: usize, sink: &mut Sink<'_>) {
        match self.place(block) {
            Some((line, 0)) => {
                sink(AnswerEvent::Close { block });
                if let Some(line) = self.choices.get_mut(line) {
                    line.blocks.pop_front();
                    line.advance(false, sink);
                }
            }
            Some((line, at)) => {
                let waiting = self
                    .choices
                    .get_mut(line)
                    .and_then(|line| line.blocks.get_mut(at));
                if let Some(waiting) = waiting {
                    waiting.closed = true;
                }
            }
            None => {}
        }
    }

    /// Closes and passes on everything of a choice.
    fn flush(&mut self, choice: u64, sink: &mut Sink<'_>) {
        if let Some(line) = self.choices.iter_mut().find(|line| line.choice == choice)
            && let Some(front) = line.blocks.pop_front()
        {
            sink(AnswerEvent::Close { block: front.block });
            line.advance(true, sink);
        }
    }
}

impl ChoiceQueue {
    /// Passes on the blocks that were waiting, up to the first that is still being filled.
    fn advance(&mut self, all: bool, sink: &mut Sink<'_>) {
        while let Some(front) = self.blocks.front_mut() {
            let block = front.block;
            sink(AnswerEvent::Open {
                choice: self.choice,
                block,
                kind: front.kind.clone(),
            });
            if !front.text.is_empty() {
                let text = std::mem::take(&mut front.text).into();
                sink(AnswerEvent::Text {
                    block,
                    text,
                    logprobs: None,
                });
            }
            if let Some(signature) = front.signature.take() {
                sink(AnswerEvent::Signature { block, signature });
            }
            if !(all || front.closed) {
                return;
            }
            sink(AnswerEvent::Close { block });
            self.blocks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(block: usize) -> AnswerEvent<'static> {
        AnswerEvent::Open {
            choice: 0,
            block,
            kind: BlockKind::Text,
        }
    }

    fn text(block: usize, text: &'static str) -> AnswerEvent<'static> {
        AnswerEvent::Text {
            block,
            text: text.into(),
            logprobs: None,
        }
    }

    fn close(block: usize) -> AnswerEvent<'static> {
        AnswerEvent::Close { block }
    }

    fn run(events: Vec<AnswerEvent<'static>>) -> String {
        let mut sequencer = Sequencer::default();
        let mut log = String::new();
        for event in events {
            sequencer.push(event, &mut |event| match event {
                AnswerEvent::Open { block, .. } => log.push_str(&format!("[{block}")),
                AnswerEvent::Text { text, .. } => log.push_str(&text),
                AnswerEvent::Close { block } => log.push_str(&format!("{block}]")),
                _ => log.push('.'),
            });
        }
        log
    }

    fn finish() -> AnswerEvent<'static> {
        AnswerEvent::Finish {
            choice: 0,
            finish: super::super::neutral::Finish::Stop,
        }
    }

    #[test]
    fn blocks_in_turn_pass_through() {
        let log = run(vec![
            open(0),
            text(0, "a"),
            close(0),
            open(1),
            text(1, "b"),
            close(1),
            finish(),
        ]);
        assert_eq!(log, "[0a0][1b1].");
    }

    #[test]
    fn interleaved_blocks_wait() {
        let log = run(vec![
            open(0),
            open(1),
            text(1, "b"),
            text(0, "a"),
            text(1, "B"),
            close(1),
            text(0, "A"),
            close(0),
            open(2),
            finish(),
        ]);
        assert_eq!(log, "[0aA0][1bB1][22].");
    }

    #[test]
    fn what_was_never_closed_is_closed_at_the_end() {
        let log = run(vec![
            open(0),
            open(1),
            text(1, "b"),
            finish(),
            text(1, "late"),
        ]);
        assert_eq!(log, "[00][1b1].");
    }
}
