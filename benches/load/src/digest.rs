//! SHA-256 as hexadecimal text, of whole or arriving bytes.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// A digest being made of what arrives.
#[derive(Default)]
pub(crate) struct RunningDigest {
    hash: Sha256,
    /// Bytes so far.
    pub(crate) length: u64,
}

impl RunningDigest {
    /// Adds the next bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// The digest of all bytes added.
    pub(crate) fn hex(self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.hash.finalize() {
            // Writing to a string can't fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// The digest of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut running = RunningDigest::default();
    running.add(bytes);
    running.hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        // FIPS 180-2, appendix B.1, and the digest of nothing.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b"abc"), abc);
        assert_eq!(sha256(b""), nothing);
        let mut running = RunningDigest::default();
        running.add(b"a");
        running.add(b"bc");
        assert_eq!((running.length, running.hex().as_str()), (3, abc));
    }
}
