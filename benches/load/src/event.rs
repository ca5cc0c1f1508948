//! The streamed events, from both ends: the upstream writes them, the driver knows each byte to
//! expect. No sockets, no clock.

use std::time::Duration;

/// Stream of an upstream for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventPlan {
    /// Events before the end.
    pub(crate) events: u64,
    /// Time from one event to the next; zero: as fast as it goes.
    pub(crate) interval: Duration,
    /// Bytes of an event; raised to what its fixed parts need.
    pub(crate) size: usize,
}

impl Default for EventPlan {
    fn default() -> Self {
        Self {
            events: 100,
            interval: Duration::from_millis(20),
            size: 220,
        }
    }
}

impl EventPlan {
    /// The plan as the words that [`Self::apply`] understands.
    pub(crate) fn knob(&self) -> String {
        let micros = self.interval.as_micros();
        format!(
            "events={};interval_us={micros};size={}",
            self.events, self.size
        )
    }

    /// Sets what `knob` names; words it doesn't know are passed over.
    pub(crate) fn apply(&mut self, knob: &str) {
        for (name, value) in knob.split(';').filter_map(|word| word.split_once('=')) {
            self.set(name, value);
        }
    }

    /// Sets one field by its name, unless `value` is no number.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let Ok(value) = value.trim().parse::<u64>() else {
            return;
        };
        match name {
            "events" => self.events = value,
            "interval_us" => self.interval = Duration::from_micros(value).min(LONGEST),
            "size" => self.size = usize::try_from(value).map_or(LARGEST, |size| size.min(LARGEST)),
            _ => {}
        }
    }
}

/// Events are not further apart than this.
const LONGEST: Duration = Duration::from_secs(3600);
/// Events are not made larger than this.
const LARGEST: usize = 1 << 20;
const OPENING: &[u8] = b"data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\
    \"created\":1764000000,\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"";
const CLOSING: &[u8] = b"\"},\"finish_reason\":null}]}\n\n";
/// Events after the last one: the finish, the usage, the terminator.
pub(crate) const TAIL: &[u8] =
    b"data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\
    \"created\":1764000000,\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{},\
    \"finish_reason\":\"stop\"}]}\n\n\
    data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\
    \"created\":1764000000,\"model\":\"bench\",\"choices\":[],\"usage\":{\"prompt_tokens\":200,\
    \"completion_tokens\":100,\"total_tokens\":300}}\n\n\
    data: [DONE]\n\n";

const SEQUENCE: usize = 10;
const STAMP: usize = 19;
/// Sequence number, stamp, and the stamp once more, so that a changed digit shows.
const NUMBERS: usize = SEQUENCE + 1 + STAMP + 1 + STAMP;

/// Appends event number `sequence` sent at `stamp` (Unix time in nanoseconds) to `out`.
pub(crate) fn write(out: &mut Vec<u8>, sequence: u64, stamp: u64, size: usize) {
    let end = out.len() + size.saturating_sub(CLOSING.len());
    out.extend_from_slice(OPENING);
    digits(out, sequence, SEQUENCE);
    out.push(b' ');
    digits(out, stamp, STAMP);
    out.push(b' ');
    digits(out, stamp, STAMP);
    if end > out.len() {
        out.resize(end, b'.');
    }
    out.extend_from_slice(CLOSING);
}

/// `value` in exactly `width` digits, the upper ones dropped.
fn digits(out: &mut Vec<u8>, value: u64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut left = value;
    for digit in out.iter_mut().skip(start).rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
}

/// Compares a stream as it arrives with the one that was to be sent.
#[derive(Debug)]
pub(crate) struct EventChecker {
    plan: EventPlan,
    partial: Vec<u8>,
    expected: Vec<u8>,
    /// Events that were right so far.
    pub(crate) events: u64,
    tail: usize,
    /// The first thing that was wrong.
    pub(crate) fault: Option<String>,
}

impl EventChecker {
    /// Expects the stream of `plan`.
    pub(crate) fn new(plan: EventPlan) -> Self {
        let (partial, expected) = (Vec::new(), Vec::new());
        Self {
            plan,
            partial,
            expected,
            events: 0,
            tail: 0,
            fault: None,
        }
    }

    /// Checks the next `bytes` of the stream, and hands the stamp of each right event to `seen`.
    pub(crate) fn feed(&mut self, bytes: &[u8], seen: &mut impl FnMut(u64)) {
        if self.fault.is_some() {
            return;
        }
        self.partial.extend_from_slice(bytes);
        let mut partial = std::mem::take(&mut self.partial);
        let used = self.check(&partial, seen);
        partial.drain(..used);
        self.partial = partial;
    }

    /// The stream arrived whole and right.
    pub(crate) fn is_whole(&self) -> bool {
        self.fault.is_none()
            && self.partial.is_empty()
            && self.events == self.plan.events
            && self.tail == TAIL.len()
    }

    /// Checks what is complete in `bytes`, and returns how much that was.
    fn check(&mut self, bytes: &[u8], seen: &mut impl FnMut(u64)) -> usize {
        let mut used = 0;
        while self.fault.is_none() && self.events < self.plan.events {
            let rest = bytes.get(used..).unwrap_or_default();
            let Some(length) = memchr::memmem::find(rest, b"\n\n").map(|at| at + 2) else {
                return used;
            };
            self.event(rest.get(..length).unwrap_or_default(), seen);
            used += length;
        }
        self.end(bytes.get(used..).unwrap_or_default());
        bytes.len()
    }

    fn event(&mut self, event: &[u8], seen: &mut impl FnMut(u64)) {
        let Some(stamp) = stamp(event) else {
            return self.note("no stamp", event);
        };
        self.expected.clear();
        write(&mut self.expected, self.events, stamp, self.plan.size);
        if self.expected != event {
            return self.note("other bytes than sent", event);
        }
        self.events += 1;
        seen(stamp);
    }

    fn end(&mut self, bytes: &[u8]) {
        if TAIL.get(self.tail..self.tail + bytes.len()) == Some(bytes) {
            self.tail += bytes.len();
        } else if self.fault.is_none() {
            self.note("other end than sent", bytes);
        }
    }

    fn note(&mut self, what: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.fault = Some(format!("event {}: {what}: {text}", self.events));
    }
}

fn stamp(event: &[u8]) -> Option<u64> {
    let numbers = event.get(OPENING.len()..OPENING.len() + NUMBERS)?;
    let digits = numbers.get(SEQUENCE + 1..SEQUENCE + 1 + STAMP)?;
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_000_000_123_456_789;

    fn plan(events: u64) -> EventPlan {
        EventPlan {
            events,
            ..EventPlan::default()
        }
    }

    fn stream(events: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for sequence in 0..events {
            write(&mut bytes, sequence, NOW + sequence, 220);
        }
        bytes.extend_from_slice(TAIL);
        bytes
    }

    fn check(parts: &[&[u8]]) -> (EventChecker, Vec<u64>) {
        let (mut checker, mut stamps) = (EventChecker::new(plan(3)), Vec::new());
        for part in parts {
            checker.feed(part, &mut |stamp| stamps.push(stamp));
        }
        (checker, stamps)
    }

    #[test]
    fn events_have_the_size_asked_for_and_are_json() {
        for (size, expected) in [
            (220, 220),
            (1000, 1000),
            (0, OPENING.len() + NUMBERS + CLOSING.len()),
        ] {
            let mut event = Vec::new();
            write(&mut event, 7, NOW, size);
            assert_eq!(event.len(), expected);
            let json = event.strip_prefix(b"data: ").unwrap();
            assert!(serde_json::from_slice::<serde_json::Value>(json).is_ok());
            assert_eq!(stamp(&event), Some(NOW));
        }
    }

    #[test]
    fn knobs_come_back_as_the_plan_they_were() {
        let plan = EventPlan {
            events: 7,
            interval: Duration::from_micros(1500),
            size: 300,
        };
        let mut read = EventPlan::default();
        read.apply(&plan.knob());
        assert_eq!(read, plan);
        read.apply("events=x;nonsense;size=99999999999");
        assert_eq!(
            read,
            EventPlan {
                size: LARGEST,
                ..plan
            }
        );
    }

    #[test]
    fn a_stream_is_right_wherever_it_is_cut() {
        let bytes = stream(3);
        for cut in 0..=bytes.len() {
            let (checker, stamps) = check(&[&bytes[..cut], &bytes[cut..]]);
            assert!(checker.is_whole(), "cut at {cut}: {:?}", checker.fault);
            assert_eq!(stamps, [NOW, NOW + 1, NOW + 2]);
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = stream(3);
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(!check(&[&changed]).0.is_whole(), "byte {place}");
        }
    }

    #[test]
    fn missing_and_added_bytes_are_noticed() {
        let bytes = stream(3);
        let (short, long) = (&bytes[..bytes.len() - 1], [&bytes[..], b"x"].concat());
        for wrong in [short, &long, &stream(2), &stream(4), b""] {
            assert!(!check(&[wrong]).0.is_whole());
        }
    }
}
