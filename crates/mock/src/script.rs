//! Walks through an answer step by step and has an encoder write the events of each step. Says
//! which step comes next, so that the caller can wait before it; never waits itself.

use crate::{
    ask::{Answer, Part},
    clock,
    format::{Encoder, Events, Place},
};

/// An answer on its way through an encoder.
pub(crate) struct Script {
    answer: Answer,
    encoder: Box<dyn Encoder>,
    stamp: bool,
    at: Step,
    sent: u64,
}

/// What is to be written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Begin,
    OpenChoice(usize),
    OpenPart(Place),
    /// The piece that starts at this byte of the part's text.
    Piece(Place, usize),
    ClosePart(Place),
    CloseChoice(usize),
    Finish,
    Done,
}

impl Script {
    /// With `stamp`, pieces of text are replaced by the time they are written at.
    pub(crate) fn new(answer: Answer, encoder: Box<dyn Encoder>, stamp: bool) -> Self {
        Self {
            answer,
            encoder,
            stamp,
            at: Step::Begin,
            sent: 0,
        }
    }

    pub(crate) fn next_step(&self) -> Step {
        self.at
    }

    /// How many pieces have been written.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Writes the next step; that may be no event at all.
    pub(crate) fn advance(&mut self, events: &mut Events) {
        let Self {
            answer, encoder, ..
        } = self;
        let part = |at: Place| answer.choices.get(at.choice)?.parts.get(at.part);
        self.at = match self.at {
            Step::Begin => {
                encoder.begin(events);
                Step::OpenChoice(0)
            }
            Step::OpenChoice(index) => match answer.choices.get(index) {
                Some(choice) => {
                    encoder.open_choice(index, choice, events);
                    Step::OpenPart(Place {
                        choice: index,
                        part: 0,
                    })
                }
                None => Step::Finish,
            },
            Step::OpenPart(at) => match part(at) {
                Some(part) => {
                    encoder.open_part(at, part, events);
                    after_text(at, part, 0)
                }
                None => Step::CloseChoice(at.choice),
            },
            Step::Piece(at, start) => match part(at) {
                Some(part) => {
                    let piece = part.prose().piece(start);
                    write_piece(encoder.as_mut(), at, part, piece, self.stamp, events);
                    self.sent += 1;
                    after_text(at, part, start + piece.len())
                }
                None => Step::CloseChoice(at.choice),
            },
            Step::ClosePart(at) => {
                if let Some(part) = part(at) {
                    encoder.close_part(at, part, events);
                }
                Step::OpenPart(Place {
                    part: at.part + 1,
                    ..at
                })
            }
            Step::CloseChoice(choice) => {
                if let Some(ended) = answer.choices.get(choice) {
                    encoder.close_choice(choice, &ended.stop, events);
                }
                Step::OpenChoice(choice + 1)
            }
            Step::Finish => {
                encoder.finish(answer, events);
                Step::Done
            }
            Step::Done => Step::Done,
        };
    }

    /// Writes an error in place of what was still to come.
    pub(crate) fn fail(&mut self, message: &str, events: &mut Events) {
        self.encoder.failure(message, events);
        self.at = Step::Done;
    }
}

fn after_text(at: Place, part: &Part, position: usize) -> Step {
    if position < part.prose().text().len() {
        Step::Piece(at, position)
    } else {
        Step::ClosePart(at)
    }
}

fn write_piece(
    encoder: &mut dyn Encoder,
    at: Place,
    part: &Part,
    piece: &str,
    stamp: bool,
    events: &mut Events,
) {
    if stamp && matches!(part, Part::Text(_)) {
        let time = format!("@{} ", clock::unix_nanos());
        encoder.piece(at, part, &time, events);
    } else {
        encoder.piece(at, part, piece, events);
    }
}
