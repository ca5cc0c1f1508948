//! Walks through an answer step by step and lets an encoder write the events of each step. It names
//! the next step, so that the caller can wait before it, and must not wait itself.

use crate::{
    ask::{AnswerPart, MockAnswer},
    clock,
    format::{Encoder, EventBuffer, PiecePosition},
};

/// An answer on its way through an encoder.
pub(crate) struct Script {
    answer: MockAnswer,
    encoder: Box<dyn Encoder>,
    stamp: bool,
    at: ScriptStep,
    sent: u64,
}

/// Next part to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScriptStep {
    Begin,
    OpenChoice(usize),
    OpenPart(PiecePosition),
    /// The piece that starts at this byte of the part's text.
    Piece(PiecePosition, usize),
    ClosePart(PiecePosition),
    CloseChoice(usize),
    Finish,
    Done,
}

impl Script {
    /// With `stamp`, pieces of text are replaced by the time they are written at.
    pub(crate) fn new(answer: MockAnswer, encoder: Box<dyn Encoder>, stamp: bool) -> Self {
        Self {
            answer,
            encoder,
            stamp,
            at: ScriptStep::Begin,
            sent: 0,
        }
    }

    pub(crate) fn next_step(&self) -> ScriptStep {
        self.at
    }

    /// Returns the number of pieces written.
    pub(crate) fn pieces_sent(&self) -> u64 {
        self.sent
    }

    /// Writes the next step; that may be no event at all.
    pub(crate) fn advance(&mut self, events: &mut EventBuffer) {
        let Self {
            answer, encoder, ..
        } = self;
        let part = |at: PiecePosition| answer.choices.get(at.choice)?.parts.get(at.part);
        self.at = match self.at {
            ScriptStep::Begin => {
                encoder.begin(events);
                ScriptStep::OpenChoice(0)
            }
            ScriptStep::OpenChoice(index) => match answer.choices.get(index) {
                Some(choice) => {
                    encoder.open_choice(index, choice, events);
                    ScriptStep::OpenPart(PiecePosition {
                        choice: index,
                        part: 0,
                    })
                }
                None => ScriptStep::Finish,
            },
            ScriptStep::OpenPart(at) => match part(at) {
                Some(part) => {
                    encoder.open_part(at, part, events);
                    after_text(at, part, 0)
                }
                None => ScriptStep::CloseChoice(at.choice),
            },
            ScriptStep::Piece(at, start) => match part(at) {
                Some(part) => {
                    let piece = part.prose().piece(start);
                    write_piece(encoder.as_mut(), at, part, piece, self.stamp, events);
                    self.sent += 1;
                    after_text(at, part, start + piece.len())
                }
                None => ScriptStep::CloseChoice(at.choice),
            },
            ScriptStep::ClosePart(at) => {
                if let Some(part) = part(at) {
                    encoder.close_part(at, part, events);
                }
                ScriptStep::OpenPart(PiecePosition {
                    part: at.part + 1,
                    ..at
                })
            }
            ScriptStep::CloseChoice(choice) => {
                if let Some(ended) = answer.choices.get(choice) {
                    encoder.close_choice(choice, &ended.stop, events);
                }
                ScriptStep::OpenChoice(choice + 1)
            }
            ScriptStep::Finish => {
                encoder.finish(answer, events);
                ScriptStep::Done
            }
            ScriptStep::Done => ScriptStep::Done,
        };
    }

    /// Writes an error in place of what was still to come.
    pub(crate) fn fail(&mut self, message: &str, events: &mut EventBuffer) {
        self.encoder.failure(message, events);
        self.at = ScriptStep::Done;
    }
}

fn after_text(at: PiecePosition, part: &AnswerPart, position: usize) -> ScriptStep {
    if position < part.prose().text().len() {
        ScriptStep::Piece(at, position)
    } else {
        ScriptStep::ClosePart(at)
    }
}

fn write_piece(
    encoder: &mut dyn Encoder,
    at: PiecePosition,
    part: &AnswerPart,
    piece: &str,
    stamp: bool,
    events: &mut EventBuffer,
) {
    if stamp && matches!(part, AnswerPart::Text(_)) {
        let time = format!("@{} ", clock::unix_nanos());
        encoder.piece(at, part, &time, events);
    } else {
        encoder.piece(at, part, piece, events);
    }
}
