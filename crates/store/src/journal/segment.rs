//! The files of a journal and the records in them: magic, length, CRC-32C of length and payload,
//! payload. It must not know what a payload says.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::JournalError;

/// Begins every record: where bytes are damaged, the next record is found by it.
const MAGIC: [u8; 4] = *b"LRj1";

/// Bytes before a payload: magic, length, checksum.
pub(super) const HEADER: usize = 12;

/// The longest payload; texts are clipped, so real ones are a few hundred bytes.
const MAX_PAYLOAD: usize = 64 << 10;

/// Bytes that are read at a time.
const READ_AHEAD: usize = 256 << 10;

/// The path of a segment.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016x}.journal"))
}

/// The numbers of the segments in a folder, ascending.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>, JournalError> {
    let mut numbers = Vec::new();
    for file in std::fs::read_dir(folder).map_err(JournalError::disk(folder))? {
        let file = file.map_err(JournalError::disk(folder))?;
        let name = file.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".journal"));
        numbers.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Writes the header of a record whose payload stands in `buffer` past [`HEADER`] bytes.
pub(super) fn seal(buffer: &mut [u8]) {
    let Some((header, payload)) = buffer.split_first_chunk_mut::<HEADER>() else {
        return;
    };
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    let sum = checksum(length, payload).to_le_bytes();
    let parts = [MAGIC, length, sum];
    for (to, from) in header.iter_mut().zip(parts.as_flattened()) {
        *to = *from;
    }
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), payload)
}

/// Content at a position of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParsedRecord {
    /// A whole record with a payload of this length.
    Record(usize),
    /// The bytes end within a record that may be whole on disk.
    Short,
    Bad,
}

fn parse(bytes: &[u8]) -> ParsedRecord {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        let head = bytes
            .get(..MAGIC.len().min(bytes.len()))
            .unwrap_or_default();
        return if MAGIC.starts_with(head) {
            ParsedRecord::Short
        } else {
            ParsedRecord::Bad
        };
    };
    let [m0, m1, m2, m3, l0, l1, l2, l3, c0, c1, c2, c3] = *header;
    let length = [l0, l1, l2, l3];
    let payload_len = u32::from_le_bytes(length) as usize;
    if [m0, m1, m2, m3] != MAGIC || payload_len > MAX_PAYLOAD {
        return ParsedRecord::Bad;
    }
    match rest.get(..payload_len) {
        None => ParsedRecord::Short,
        Some(payload) if checksum(length, payload) == u32::from_le_bytes([c0, c1, c2, c3]) => {
            ParsedRecord::Record(payload_len)
        }
        Some(_) => ParsedRecord::Bad,
    }
}

/// Reads the records of a segment.
pub(super) struct SegmentReader {
    file: File,
    path: PathBuf,
    /// Offset of `buffer` in the file.
    offset: u64,
    buffer: Vec<u8>,
    /// Part of `buffer` already parsed.
    used: usize,
    /// End of the last whole record.
    position: u64,
    /// Damaged places that were passed over.
    pub(super) damaged: usize,
}

impl SegmentReader {
    /// Reads a segment from `offset` on, where a record begins.
    pub(super) fn open(folder: &Path, number: u64, offset: u64) -> Result<Self, JournalError> {
        let path = path(folder, number);
        let file = File::open(&path).map_err(JournalError::disk(&path))?;
        Ok(Self {
            file,
            path,
            offset,
            buffer: Vec::new(),
            used: 0,
            position: offset,
            damaged: 0,
        })
    }

    /// Returns the end of the last whole record.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// The payload of the next record before `end`; none if there is no further whole record.
    pub(super) fn next(&mut self, end: u64) -> Result<Option<&[u8]>, JournalError> {
        self.seek_back();
        let mut passed_over = false;
        let range = loop {
            match parse(self.buffer.get(self.used..).unwrap_or_default()) {
                ParsedRecord::Record(length) => {
                    let start = self.used + HEADER;
                    break start..start + length;
                }
                ParsedRecord::Short if self.refill(end)? => {}
                // The end, or damage: a length that is too long looks like the end.
                _ if self.resync() => passed_over = true,
                _ if self.skip(end)? => passed_over = true,
                _ => return Ok(None),
            }
        };
        self.damaged += usize::from(passed_over);
        self.used = range.end;
        self.position = self.offset + range.end as u64;
        Ok(self.buffer.get(range))
    }

    /// Back to the end of the last record, if the last call found nothing past it.
    fn seek_back(&mut self) {
        let at = self
            .position
            .checked_sub(self.offset)
            .and_then(|at| usize::try_from(at).ok());
        match at {
            Some(at) if at <= self.buffer.len() => self.used = at,
            _ => {
                self.buffer.clear();
                (self.offset, self.used) = (self.position, 0);
            }
        }
    }

    /// Moves to the next whole record in the buffer; false if there is none.
    fn resync(&mut self) -> bool {
        let rest = self.buffer.get(self.used + 1..).unwrap_or_default();
        let found = memchr::memmem::find_iter(rest, &MAGIC).find(|at| {
            matches!(
                parse(rest.get(*at..).unwrap_or_default()),
                ParsedRecord::Record(_)
            )
        });
        self.used += found.map_or(0, |at| at + 1);
        found.is_some()
    }

    /// Moves over a buffer in which no record begins and ends; false at the end of the file.
    fn skip(&mut self, end: u64) -> Result<bool, JournalError> {
        // A record may begin here and end past the buffer.
        let tail = self
            .buffer
            .len()
            .saturating_sub(HEADER + MAX_PAYLOAD)
            .max(self.used);
        self.used = tail;
        self.refill(end)
    }

    /// Reads on; false if there was nothing more.
    fn refill(&mut self, end: u64) -> Result<bool, JournalError> {
        self.offset += self.used as u64;
        self.buffer.drain(..self.used);
        self.used = 0;
        let start = self.buffer.len();
        let from = self.offset + start as u64;
        let want = end.saturating_sub(from).min(READ_AHEAD as u64);
        self.buffer
            .resize(start + usize::try_from(want).unwrap_or_default(), 0);
        let space = self.buffer.get_mut(start..).unwrap_or_default();
        let read = read_full(&self.file, space, from).map_err(JournalError::disk(&self.path))?;
        self.buffer.truncate(start + read);
        Ok(read > 0)
    }
}

fn read_full(file: &File, space: &mut [u8], from: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = space.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, from + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
