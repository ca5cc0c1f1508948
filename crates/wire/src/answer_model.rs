//! Puts another model name into an answer of the client's format: clients compare it with the name
//! that they asked for. It must not change any other byte, nor decide which name that is.

use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use llm_router_domain::format::Format;
use memchr::memmem::find;

use crate::json;
use crate::sse::{Event, Piece, Splitter};

/// Renames the model in one answer, plain or streamed.
#[derive(Debug)]
pub struct AnswerModel {
    /// The name as a JSON string.
    name: String,
    form: AnswerForm,
}

#[derive(Debug)]
enum AnswerForm {
    /// A JSON body, held until it is whole.
    Plain(BytesMut),
    Events {
        splitter: Splitter,
        /// The model stands in the first event alone.
        once: bool,
    },
    /// Nothing is left to be renamed.
    Done,
}

impl AnswerModel {
    /// A plain answer that is to name `model`.
    #[must_use]
    pub fn plain(model: &str) -> Self {
        Self::new(model, AnswerForm::Plain(BytesMut::new()))
    }

    /// A streamed answer in `format` that is to name `model`.
    #[must_use]
    pub fn events(format: Format, model: &str) -> Self {
        let form = AnswerForm::Events {
            splitter: Splitter::default(),
            once: format == Format::AnthropicMessages,
        };
        Self::new(model, form)
    }

    fn new(model: &str, form: AnswerForm) -> Self {
        let name = serde_json::Value::from(model).to_string();
        Self { name, form }
    }

    /// Takes more of the answer and returns what the client may be sent by now.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        let (splitter, once) = match &mut self.form {
            AnswerForm::Done => return chunk,
            AnswerForm::Plain(held) => {
                held.extend_from_slice(&chunk);
                return Bytes::new();
            }
            AnswerForm::Events { splitter, once } => (splitter, *once),
        };
        splitter.push(chunk);
        let (mut out, mut renamed) = (BytesMut::new(), false);
        while let Some(piece) = splitter.next_piece() {
            if once && renamed {
                out.put(piece.into_bytes());
            } else {
                renamed |= write_piece(piece, &self.name, &mut out);
            }
        }
        if once && renamed {
            out.extend(splitter.finish().map(Piece::into_bytes));
            self.form = AnswerForm::Done;
        }
        out.freeze()
    }

    /// Takes the end of the answer and returns the rest.
    pub fn end(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        match std::mem::replace(&mut self.form, AnswerForm::Done) {
            AnswerForm::Done => {}
            AnswerForm::Plain(held) => match position(&held) {
                Some(at) => write_renamed(&held, at, &self.name, &mut out),
                None => out = held,
            },
            AnswerForm::Events { mut splitter, .. } => {
                if let Some(piece) = splitter.finish() {
                    write_piece(piece, &self.name, &mut out);
                }
            }
        }
        out.freeze()
    }
}

/// Writes a piece of a stream; true if the model was renamed in it.
fn write_piece(piece: Piece, name: &str, out: &mut BytesMut) -> bool {
    if let Piece::Event(event) = &piece
        && let Some(at) = position_in(event)
    {
        write_renamed(event.raw(), at, name, out);
        return true;
    }
    out.put(piece.into_bytes());
    false
}

fn write_renamed(text: &[u8], at: Range<usize>, name: &str, out: &mut BytesMut) {
    out.put_slice(text.get(..at.start).unwrap_or_default());
    out.put_slice(name.as_bytes());
    out.put_slice(text.get(at.end..).unwrap_or_default());
}

/// Returns where the model's name stands in an event, by its position in the raw bytes.
fn position_in(event: &Event) -> Option<Range<usize>> {
    find(event.raw(), b"\"model")?;
    let data = event.data()?;
    let raw = event.raw().as_ptr_range();
    if !raw.contains(&data.as_ptr()) {
        // Data over several lines was copied; no provider sends an answer's head like that.
        return None;
    }
    let offset = data.as_ptr().addr() - raw.start.addr();
    let at = position(&data)?;
    Some(offset + at.start..offset + at.end)
}

/// Returns where the model's name stands: at the top, or in the message or response that begins.
fn position(text: &[u8]) -> Option<Range<usize>> {
    for member in json::members(text) {
        let value = text.get(member.value.clone())?;
        match text.get(member.key)? {
            b"model" | b"modelVersion" if value.starts_with(b"\"") => return Some(member.value),
            b"message" | b"response" if json::is_object(value) => {
                let from = member.value.start;
                if let Some(at) = position(value) {
                    return Some(from + at.start..from + at.end);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(format: Format, text: &str, size: usize) -> String {
        let mut model = AnswerModel::events(format, "my \"strong\"");
        let mut out = BytesMut::new();
        for chunk in text.as_bytes().chunks(size) {
            out.put(model.push(Bytes::copy_from_slice(chunk)));
        }
        out.put(model.end());
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn streams_name_the_model_as_asked() {
        let messages = ": hi\n\nevent: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude\"}}\n\nevent: x\ndata: {\"model\":\"b\"}\n\ndata: rest";
        let expected = messages.replace("\"claude\"", r#""my \"strong\"""#);
        let responses = "data: {\"response\":{\"model\":\"a\"}}\n\ndata: {\"delta\":\"\\\"model\\\":\"}\n\ndata: {\"response\": {\"x\":1,\"model\" : \"a\"}}\n\n";
        let chat = "data: {\"model\":\"a\",\"choices\":[{\"delta\":{\"content\":\"\"}}]}\n\ndata: {\"choices\":[],\"model\":\"a\"}\n\ndata: [DONE]\n\n";
        let named = |text: &str| text.replace("\"a\"", r#""my \"strong\"""#);
        for size in [1, 7, 4096] {
            assert_eq!(stream(Format::AnthropicMessages, messages, size), expected);
            assert_eq!(
                stream(Format::OpenAiResponses, responses, size),
                named(responses)
            );
            assert_eq!(stream(Format::OpenAiChat, chat, size), named(chat));
        }
    }

    #[test]
    fn plain_answers_name_the_model_as_asked() {
        for (body, expected) in [
            (
                r#"{"id":"m", "model": "a","content":[{"model":"b"}]}"#,
                r#"{"id":"m", "model": "s","content":[{"model":"b"}]}"#,
            ),
            (r#"{"input_tokens":7}"#, r#"{"input_tokens":7}"#),
            ("<html>", "<html>"),
            ("", ""),
        ] {
            let mut model = AnswerModel::plain("s");
            assert_eq!(model.push(Bytes::from(body)), "");
            assert_eq!(model.end(), expected);
        }
    }
}
