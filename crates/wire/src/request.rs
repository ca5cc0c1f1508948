//! Reads the head of an inference request and renames the model in it. It must not judge the rest of
//! the body: the provider does.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::scan::{Field, Scan, ScanError, scan};
use crate::usage::{self, Splice};

/// The part of a request that decides where it goes.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The model as asked, escapes resolved.
    pub model: String,
    /// True if the client asked for a stream.
    pub stream: bool,
    /// Positions of the fields.
    pub scan: Scan,
    model_span: Range<usize>,
}

/// Error of a body that can't be routed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The body is no JSON object.
    #[error("The request body is not valid JSON: {0}.")]
    Json(ScanError),
    /// A field that the router reads is missing or has another type.
    #[error("{message}")]
    Field {
        /// The field's name.
        param: &'static str,
        /// The problem with it.
        message: Cow<'static, str>,
    },
}

impl RequestHead {
    /// Reads the head of a request body.
    ///
    /// # Errors
    /// [`HeadError`] when the body is no JSON object, `model` is missing or no string, or
    /// `stream` is no boolean.
    pub fn read(body: &[u8]) -> Result<Self, HeadError> {
        let scan = scan(body).map_err(|error| match error {
            ScanError::Duplicate(param) => field(
                param,
                format!("The field \"{param}\" is given twice; give it once."),
            ),
            error => HeadError::Json(error),
        })?;
        let Some(model_span) = scan.span(Field::Model) else {
            return Err(field("model", "You must provide a \"model\"."));
        };
        let model = read_string(&body[model_span.clone()])
            .ok_or_else(|| field("model", "The field \"model\" must be a non-empty string."))?;
        if model.len() > LONGEST_MODEL {
            return Err(field(
                "model",
                "The field \"model\" is too long to be a model's name.",
            ));
        }
        let stream = match scan.value(body, Field::Stream) {
            None | Some(b"false" | b"null") => false,
            Some(b"true") => true,
            Some(_) => return Err(field("stream", "The field \"stream\" must be a boolean.")),
        };
        Ok(Self {
            model,
            stream,
            scan,
            model_span,
        })
    }

    /// The body with another model name, and with one more `change` if any: every other byte as
    /// it was.
    ///
    /// Bodies up to [`JOIN_LIMIT`] come back in one piece, larger ones in up to five that share
    /// the original's memory; sent one after the other they are the body.
    #[must_use]
    pub fn rewrite(&self, body: &Bytes, model: &str, change: Option<&Splice>) -> Vec<Bytes> {
        let name = (model != self.model).then(|| {
            let name = Bytes::from(serde_json::Value::from(model).to_string());
            (self.model_span.clone(), name)
        });
        let change = change.map(|splice| {
            (
                splice.at.clone(),
                Bytes::from_static(splice.with.as_bytes()),
            )
        });
        let mut edits: [Option<(Range<usize>, Bytes)>; 2] = [name, change];
        edits.sort_unstable_by_key(|edit| edit.as_ref().map(|(at, _)| at.start));
        let mut pieces = Vec::with_capacity(5);
        let mut from = 0;
        for (at, with) in edits.into_iter().flatten() {
            pieces.push(body.slice(from..at.start));
            pieces.push(with);
            from = at.end;
        }
        if pieces.is_empty() {
            return vec![body.clone()];
        }
        pieces.push(body.slice(from..));
        if body.len() > JOIN_LIMIT {
            return pieces;
        }
        let length = pieces.iter().map(Bytes::len).sum();
        let mut joined = BytesMut::with_capacity(length);
        for piece in &pieces {
            joined.put_slice(piece);
        }
        vec![joined.freeze()]
    }

    /// The change that makes a streaming chat or completions request ask for usage, if it doesn't
    /// by itself: [`usage::ask_for_usage`] without a second look at the body.
    #[must_use]
    pub fn ask_for_usage(&self, body: &[u8]) -> Option<Splice> {
        if self.scan.span(Field::StreamOptions).is_some() {
            return usage::ask_for_usage(body);
        }
        // The object holds the model, so a comma is wanted.
        let (at, _) = self.scan.insertion_point();
        Some(Splice {
            at: at..at,
            with: r#""stream_options":{"include_usage":true},"#,
        })
    }
}

/// The longest model name in bytes. Names are put into errors, headers and logs.
pub const LONGEST_MODEL: usize = 256;

/// The body size in bytes up to which copying it once is cheaper than two more writes.
pub const JOIN_LIMIT: usize = 32 * 1024;

fn field(param: &'static str, message: impl Into<Cow<'static, str>>) -> HeadError {
    HeadError::Field {
        param,
        message: message.into(),
    }
}

fn read_string(value: &[u8]) -> Option<String> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let text = if inner.contains(&b'\\') {
        serde_json::from_slice(value).ok()?
    } else {
        String::from_utf8(inner.to_vec()).ok()?
    };
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(pieces: &[Bytes]) -> Vec<u8> {
        pieces.concat()
    }

    #[test]
    fn reads_model_and_stream() {
        let head = RequestHead::read(br#"{"model":"gpt\u002d4o","stream":true}"#).unwrap();
        assert_eq!((head.model.as_str(), head.stream), ("gpt-4o", true));
        let head = RequestHead::read(br#"{"stream":null,"model":"m"}"#).unwrap();
        assert!(!head.stream);
    }

    #[test]
    fn names_the_field_at_fault() {
        let cases: &[(&str, &str)] = &[
            ("{}", "model"),
            (r#"{"model":7}"#, "model"),
            (r#"{"model":""}"#, "model"),
            (r#"{"model":null}"#, "model"),
            (r#"{"model":"\ud800"}"#, "model"),
            (r#"{"model":"m","stream":"yes"}"#, "stream"),
            (r#"{"model":"m","stream":1}"#, "stream"),
            (r#"{"model":"m","model":"n"}"#, "model"),
        ];
        for (body, expected) in cases {
            match RequestHead::read(body.as_bytes()) {
                Err(HeadError::Field { param, .. }) => assert_eq!(param, *expected, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        assert!(matches!(RequestHead::read(b"{"), Err(HeadError::Json(_))));
    }

    #[test]
    fn renames_only_the_model() {
        let body = Bytes::from_static(b"{ \"x\":1e5, \"model\" :  \"a\" , \"model_\":\"a\"}");
        let head = RequestHead::read(&body).unwrap();
        let renamed = join(&head.rewrite(&body, "b \"q\"", None));
        assert_eq!(
            renamed,
            b"{ \"x\":1e5, \"model\" :  \"b \\\"q\\\"\" , \"model_\":\"a\"}"
        );
        assert_eq!(join(&head.rewrite(&body, "a", None)), body);
    }

    #[test]
    fn asks_for_usage_beside_the_new_name() {
        let cases = [
            (
                r#"{ "model":"a","stream":true}"#,
                r#"{ "stream_options":{"include_usage":true},"model":"b","stream":true}"#,
            ),
            (
                r#"{"model":"a","stream_options":{"include_usage":false}}"#,
                r#"{"model":"b","stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream_options":{},"model":"a"}"#,
                r#"{"stream_options":{"include_usage":true},"model":"b"}"#,
            ),
            (
                r#"{"stream_options":{"include_usage":true},"model":"a"}"#,
                r#"{"stream_options":{"include_usage":true},"model":"b"}"#,
            ),
        ];
        for (body, expected) in cases {
            let body = Bytes::from_static(body.as_bytes());
            let head = RequestHead::read(&body).unwrap();
            let change = head.ask_for_usage(&body);
            let rewritten = join(&head.rewrite(&body, "b", change.as_ref()));
            assert_eq!(rewritten, expected.as_bytes());
        }
    }

    #[test]
    fn large_bodies_are_not_copied() {
        let text = format!(
            "{{\"model\":\"a\",\"input\":\"{}\"}}",
            "x".repeat(JOIN_LIMIT)
        );
        let body = Bytes::from(text.clone());
        let head = RequestHead::read(&body).unwrap();
        let pieces = head.rewrite(&body, "long-name", None);
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[2].as_ptr(), body[12..].as_ptr());
        assert_eq!(
            join(&pieces),
            text.replacen("\"a\"", "\"long-name\"", 1).as_bytes()
        );
    }
}
