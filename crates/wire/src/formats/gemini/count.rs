//! Counting tokens at Gemini's `countTokens`.

use bytes::{BufMut as _, BytesMut};

use super::path::{Method, path};
use crate::formats::CountRequest;

/// Wraps the body of a `generateContent` request into one that counts its tokens.
pub(super) fn request(body: &[u8], model: &str) -> CountRequest {
    let path = path(model, Method::Count);
    let name = path.trim_start_matches('/').split(':').next();
    let mut out = BytesMut::with_capacity(body.len() + 128);
    out.put_slice(b"{\"generateContentRequest\":{\"model\":\"");
    // The path's form of the name has nothing to escape.
    out.put_slice(name.unwrap_or_default().as_bytes());
    out.put_slice(b"\",");
    out.put_slice(body.get(1..).unwrap_or_default());
    out.put_slice(b"}");
    CountRequest {
        path,
        body: out.freeze(),
    }
}
