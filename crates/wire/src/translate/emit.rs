//! JSON written field by field into a buffer, without a tree in between. It knows no format.

use std::fmt::{Display, Write as _};

use bytes::{BufMut as _, BytesMut};

use super::json::{Json, write_string, write_string_content};

/// Appends an object; `fill` writes its fields.
pub(crate) fn object(out: &mut BytesMut, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
    out.put_u8(b'{');
    fill(&mut ObjectWriter { out, first: true });
    out.put_u8(b'}');
}

/// Appends a list; `fill` writes its items.
pub(crate) fn list(out: &mut BytesMut, fill: impl FnOnce(&mut ListWriter<'_>)) {
    out.put_u8(b'[');
    fill(&mut ListWriter { out, first: true });
    out.put_u8(b']');
}

/// The fields of an object being written.
pub(crate) struct ObjectWriter<'o> {
    out: &'o mut BytesMut,
    first: bool,
}

impl ObjectWriter<'_> {
    /// Begins a field whose name is plain ASCII; the value must follow.
    fn key(&mut self, key: &str) -> &mut BytesMut {
        self.separate();
        self.out.put_u8(b'"');
        self.out.put_slice(key.as_bytes());
        self.out.put_slice(b"\":");
        self.out
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.put_u8(b',');
        }
    }

    pub(crate) fn str(&mut self, key: &str, value: &str) {
        write_string(self.key(key), value);
    }

    pub(crate) fn opt_str(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.str(key, value);
        }
    }

    /// A string, or null.
    pub(crate) fn str_or_null(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.str(key, value),
            None => self.null(key),
        }
    }

    /// A string made of several pieces.
    pub(crate) fn concat(&mut self, key: &str, pieces: &[&str]) {
        let out = self.key(key);
        out.put_u8(b'"');
        for piece in pieces {
            write_string_content(out, piece);
        }
        out.put_u8(b'"');
    }

    /// A data URL. Base64 needs no escapes, so the payload is copied as it is when it is clean.
    pub(crate) fn data_url(&mut self, key: &str, media_type: &str, data: &str) {
        let out = self.key(key);
        out.put_slice(b"\"data:");
        write_string_content(out, media_type);
        out.put_slice(b";base64,");
        if data
            .bytes()
            .all(|byte| byte > b'"' && byte != b'\\' && byte < 0x7F)
        {
            out.put_slice(data.as_bytes());
        } else {
            write_string_content(out, data);
        }
        out.put_u8(b'"');
    }

    pub(crate) fn num(&mut self, key: &str, value: impl Display) {
        // Writing into a growing buffer can't fail.
        write!(self.key(key), "{value}").ok();
    }

    pub(crate) fn opt_num(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.num(key, value);
        }
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        self.raw(key, if value { "true" } else { "false" });
    }

    pub(crate) fn opt_bool(&mut self, key: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.bool(key, value);
        }
    }

    pub(crate) fn null(&mut self, key: &str) {
        self.raw(key, "null");
    }

    /// A value that is JSON text already.
    pub(crate) fn raw(&mut self, key: &str, json: &str) {
        self.key(key).put_slice(json.as_bytes());
    }

    pub(crate) fn json(&mut self, key: &str, value: &Json<'_>) {
        value.write(self.key(key));
    }

    pub(crate) fn opt_json(&mut self, key: &str, value: Option<&Json<'_>>) {
        if let Some(value) = value {
            self.json(key, value);
        }
    }

    /// A field whose name came from outside.
    pub(crate) fn field_from_outside(&mut self, key: &str, value: &Json<'_>) {
        self.separate();
        write_string(self.out, key);
        self.out.put_u8(b':');
        value.write(self.out);
    }

    pub(crate) fn obj(&mut self, key: &str, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
        object(self.key(key), fill);
    }

    pub(crate) fn list(&mut self, key: &str, fill: impl FnOnce(&mut ListWriter<'_>)) {
        list(self.key(key), fill);
    }

    pub(crate) fn strings<S: AsRef<str>>(&mut self, key: &str, values: &[S]) {
        self.list(key, |items| {
            for value in values {
                items.str(value.as_ref());
            }
        });
    }

    /// Fields that are written out already, separated by commas.
    pub(crate) fn raw_fields(&mut self, fields: &str) {
        if !fields.is_empty() {
            self.separate();
            self.out.put_slice(fields.as_bytes());
        }
    }
}

/// The items of a list being written.
pub(crate) struct ListWriter<'o> {
    out: &'o mut BytesMut,
    first: bool,
}

impl ListWriter<'_> {
    fn next(&mut self) -> &mut BytesMut {
        if !std::mem::take(&mut self.first) {
            self.out.put_u8(b',');
        }
        self.out
    }

    pub(crate) fn str(&mut self, value: &str) {
        write_string(self.next(), value);
    }

    pub(crate) fn raw(&mut self, json: &str) {
        self.next().put_slice(json.as_bytes());
    }

    pub(crate) fn obj(&mut self, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
        object(self.next(), fill);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_nested_values() {
        let mut out = BytesMut::new();
        object(&mut out, |fields| {
            fields.str("a", "x\"y");
            fields.opt_num("none", None::<u64>);
            fields.num("b", 2);
            fields.list("c", |items| {
                items.str("z");
                items.obj(|inner| inner.null("d"));
            });
            fields.concat("e", &["p\n", "q"]);
            fields.data_url("f", "image/png", "aGk=");
        });
        assert_eq!(
            &out[..],
            br#"{"a":"x\"y","b":2,"c":["z",{"d":null}],"e":"p\nq","f":"data:image/png;base64,aGk="}"#
        );
    }

    #[test]
    fn payloads_that_are_no_base64_are_escaped() {
        let mut out = BytesMut::new();
        object(&mut out, |fields| fields.data_url("f", "a", "b\"\u{1}"));
        assert_eq!(&out[..], br#"{"f":"data:a;base64,b\"\u0001"}"#);
    }
}
