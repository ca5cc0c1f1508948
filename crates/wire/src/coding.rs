//! Undoes the content codings of responses (RFC 9110, section 8.4.1): gzip, deflate, br and zstd, also
//! one over another. Chunks go in and come out as they arrive. It must not know headers but their
//! value, nor what a body means.

use std::io::{self, Write};

use bytes::Bytes;

/// The most codings that may be applied one over another.
const MOST_CODINGS: usize = 3;

/// The most that one chunk may become, in bytes: larger is no answer but an attack on memory.
const MOST_FROM_CHUNK: usize = 16 << 20;

/// The largest window that a zstd frame may ask for, as a power of two: what RFC 9659 wants of HTTP.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Decodes a body chunk by chunk.
pub struct Decoder {
    /// The outermost coding first.
    layers: Vec<Layer>,
}

/// A body that can't be decoded.
#[derive(Debug, thiserror::Error)]
#[error("the body can't be decoded: {0}")]
pub struct DecodeError(#[from] io::Error);

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("layers", &self.layers.len())
            .finish()
    }
}

/// Codings of a body.
#[derive(Debug)]
pub enum Codings {
    /// None: the body is as it is.
    Identity,
    /// Codings that can be undone.
    Known(Decoder),
    /// At least one that can't be.
    Unknown,
}

impl Codings {
    /// Reads the values of `content-encoding`, in the order of the header.
    pub fn read<'v>(values: impl Iterator<Item = &'v str>) -> Self {
        let mut layers = Vec::new();
        let names = values.flat_map(|value| value.split(',')).map(str::trim);
        for name in names.filter(|name| !name.is_empty()) {
            match Layer::new(name) {
                Ok(layer) => layers.extend(layer),
                Err(Unsupported) => return Self::Unknown,
            }
        }
        if layers.len() > MOST_CODINGS {
            return Self::Unknown;
        }
        if layers.is_empty() {
            return Self::Identity;
        }
        layers.reverse();
        Self::Known(Decoder { layers })
    }
}

impl Decoder {
    /// Takes the next chunk, and returns what can be told of the body by now. `end`: it is the last.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes aren't of the coding, end too soon, or become too many.
    pub fn push(&mut self, chunk: &[u8], end: bool) -> Result<Bytes, DecodeError> {
        let mut bytes = chunk.to_vec();
        for layer in &mut self.layers {
            bytes = layer.push(&bytes, end)?;
        }
        Ok(bytes.into())
    }
}

/// One coding being undone.
enum Layer {
    Gzip(flate2::write::MultiGzDecoder<Output>),
    /// Its first two bytes tell which of the two it is.
    Deflate(Vec<u8>),
    Zlib(flate2::write::ZlibDecoder<Output>),
    /// Bare deflate, which some servers send.
    RawDeflate(flate2::write::DeflateDecoder<Output>),
    Brotli(Box<brotli::DecompressorWriter<Output>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Output>>),
    /// No byte may follow.
    Ended,
}

struct Unsupported;

impl Layer {
    /// Begins a coding; none for one that changes nothing.
    fn new(name: &str) -> Result<Option<Self>, Unsupported> {
        let is = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
        let out = Output::default();
        Ok(Some(if is(&["gzip", "x-gzip"]) {
            Self::Gzip(flate2::write::MultiGzDecoder::new(out))
        } else if is(&["deflate"]) {
            Self::Deflate(Vec::new())
        } else if is(&["br"]) {
            Self::Brotli(Box::new(brotli::DecompressorWriter::new(out, 4096)))
        } else if is(&["zstd"]) {
            let mut decoder = zstd::stream::write::Decoder::new(out).map_err(|_| Unsupported)?;
            let limited = decoder.window_log_max(ZSTD_WINDOW_LOG);
            limited.map_err(|_| Unsupported)?;
            Self::Zstd(Box::new(decoder))
        } else if is(&["identity"]) {
            return Ok(None);
        } else {
            return Err(Unsupported);
        }))
    }

    fn push(&mut self, chunk: &[u8], end: bool) -> io::Result<Vec<u8>> {
        if let Self::Deflate(first) = self {
            first.extend_from_slice(chunk);
            if first.len() < 2 && !end {
                return Ok(Vec::new());
            }
            let first = std::mem::take(first);
            *self = Self::of_deflate(&first);
            return self.write(&first, end);
        }
        self.write(chunk, end)
    }

    /// Tells zlib's frame (RFC 1950), which is what `deflate` means, from bare deflate (RFC 1951).
    fn of_deflate(first: &[u8]) -> Self {
        let is_zlib = match first {
            [method, flags, ..] => {
                method & 0x0F == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0
            }
            _ => true,
        };
        if is_zlib {
            Self::Zlib(flate2::write::ZlibDecoder::new(Output::default()))
        } else {
            Self::RawDeflate(flate2::write::DeflateDecoder::new(Output::default()))
        }
    }

    fn write(&mut self, chunk: &[u8], end: bool) -> io::Result<Vec<u8>> {
        if !end {
            return match self {
                Self::Gzip(decoder) => write(decoder, chunk).map(|()| decoder.get_mut().take()),
                Self::Zlib(decoder) => write(decoder, chunk).map(|()| decoder.get_mut().take()),
                Self::RawDeflate(decoder) => {
                    write(decoder, chunk).map(|()| decoder.get_mut().take())
                }
                Self::Brotli(decoder) => write(decoder, chunk).map(|()| decoder.get_mut().take()),
                Self::Zstd(decoder) => write(decoder, chunk).map(|()| decoder.get_mut().take()),
                Self::Deflate(_) => Ok(Vec::new()),
                Self::Ended if chunk.is_empty() => Ok(Vec::new()),
                Self::Ended => Err(io::ErrorKind::InvalidData.into()),
            };
        }
        match std::mem::replace(self, Self::Ended) {
            Self::Gzip(mut decoder) => {
                write(&mut decoder, chunk)?;
                decoder.finish().map(|mut out| out.take())
            }
            Self::Zlib(mut decoder) => {
                write(&mut decoder, chunk)?;
                decoder.finish().map(|mut out| out.take())
            }
            Self::RawDeflate(mut decoder) => {
                write(&mut decoder, chunk)?;
                decoder.finish().map(|mut out| out.take())
            }
            Self::Brotli(mut decoder) => {
                write(&mut decoder, chunk)?;
                decoder.close()?;
                Ok(decoder.get_mut().take())
            }
            Self::Zstd(mut decoder) => {
                write(&mut decoder, chunk)?;
                decoder.do_finish()?;
                Ok(decoder.get_mut().take())
            }
            Self::Deflate(_) | Self::Ended => Ok(Vec::new()),
        }
    }
}

/// Writes a chunk and everything that follows from it.
fn write(decoder: &mut impl Write, chunk: &[u8]) -> io::Result<()> {
    decoder.write_all(chunk)?;
    decoder.flush()
}

/// Bytes that came out of a coding and were not fetched yet.
#[derive(Default)]
struct Output(Vec<u8>);

impl Output {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_FROM_CHUNK {
            return Err(io::Error::other("it becomes too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

    fn encode(name: &str, text: &[u8]) -> Vec<u8> {
        use flate2::Compression;
        match name {
            "gzip" => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
                out.write_all(text).unwrap();
                out.finish().unwrap()
            }
            "deflate" => {
                let mut out = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
                out.write_all(text).unwrap();
                out.finish().unwrap()
            }
            "bare deflate" => {
                let mut out = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
                out.write_all(text).unwrap();
                out.finish().unwrap()
            }
            "br" => {
                let mut out = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
                out.write_all(text).unwrap();
                out.into_inner()
            }
            "zstd" => zstd::encode_all(text, 1).unwrap(),
            other => panic!("{other}"),
        }
    }

    fn decoder(value: &str) -> Decoder {
        match Codings::read([value].into_iter()) {
            Codings::Known(decoder) => decoder,
            other => panic!("{value}: {other:?}"),
        }
    }

    fn decode(value: &str, coded: &[u8], size: usize) -> Result<Vec<u8>, DecodeError> {
        let mut decoder = decoder(value);
        let mut out = Vec::new();
        for chunk in coded.chunks(size) {
            out.extend_from_slice(&decoder.push(chunk, false)?);
        }
        out.extend_from_slice(&decoder.push(b"", true)?);
        Ok(out)
    }

    fn text() -> Vec<u8> {
        let lines = (0..3000).map(|i| format!("data: {{\"n\":{i},\"text\":\"{}\"}}\n\n", i * i));
        lines.collect::<String>().into_bytes()
    }

    #[test]
    fn every_coding_is_undone_wherever_chunks_end() {
        let text = text();
        for (value, coding) in NAMES.map(|name| (name, name)).into_iter().chain([
            ("x-gzip", "gzip"),
            ("GZIP", "gzip"),
            ("identity, br", "br"),
            ("deflate", "bare deflate"),
        ]) {
            let coded = encode(coding, &text);
            for size in [1, 7, 1000, coded.len()] {
                assert_eq!(
                    decode(value, &coded, size).unwrap(),
                    text,
                    "{value} by {size}"
                );
            }
        }
        let twice = encode("br", &encode("gzip", &text));
        assert_eq!(decode("gzip, br", &twice, 100).unwrap(), text);
    }

    #[test]
    fn what_was_flushed_is_told_at_once() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut decoder = decoder("gzip");
        for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let chunk = std::mem::take(encoder.get_mut());
            assert_eq!(decoder.push(&chunk, false).unwrap(), event);
        }
    }

    #[test]
    fn a_body_that_is_cut_or_something_else_is_an_error() {
        let text = text();
        for name in NAMES {
            let coded = encode(name, &text);
            for length in [0, 1, 5, coded.len() / 2, coded.len() - 1] {
                assert!(
                    decode(name, &coded[..length], 64).is_err(),
                    "{name}: {length}"
                );
            }
            assert!(decode(name, b"{\"choices\":[]}", 64).is_err(), "{name}");
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_fills_the_memory() {
        let zeros = vec![0; 64 << 20];
        for name in NAMES {
            let coded = encode(name, &zeros);
            let mut decoder = decoder(name);
            let error = decoder.push(&coded, false).unwrap_err();
            assert!(error.to_string().contains("too large"), "{name}: {error}");
        }
    }

    #[test]
    fn codings_that_can_not_be_undone_are_known_as_such() {
        let read = |values: &[&str]| Codings::read(values.iter().copied());
        for values in [&["compress"][..], &["gzip, x"], &["gzip", "br, gzip, zstd"]] {
            assert!(matches!(read(values), Codings::Unknown), "{values:?}");
        }
        for values in [&[][..], &[""], &["identity"], &["Identity, identity"]] {
            assert!(matches!(read(values), Codings::Identity), "{values:?}");
        }
    }
}
