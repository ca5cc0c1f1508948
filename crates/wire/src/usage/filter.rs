//! Removes from a stream what only [`super::ask_for_usage`] brought into it: the extra chunk and the
//! `"usage":null` of the others. It must not change any other byte.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json;
use crate::sse::Event;

use super::stream::may_hold_usage;

const NULL: &[u8] = b"\"usage\":null";

static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// Treatment of an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EventChange {
    /// It passes as it came.
    None,
    /// It is the extra chunk, without choices but with usage, and doesn't pass.
    Drop,
    /// It passes without these bytes.
    Cut(Range<usize>),
}

/// Decides how an event passes in a stream whose client didn't ask for usage. `data` is the
/// event's.
pub(crate) fn without_usage(event: &Event, data: &[u8]) -> EventChange {
    let start = event.raw().as_ptr_range();
    if !start.contains(&data.as_ptr()) {
        // Data that is spread over lines was copied; no server that knows the option sends it.
        return EventChange::None;
    }
    if may_hold_usage(data) && is_extra(data) {
        return EventChange::Drop;
    }
    let Some(cut) = null_usage(data) else {
        return EventChange::None;
    };
    let offset = data.as_ptr().addr() - start.start.addr();
    EventChange::Cut(offset + cut.start..offset + cut.end)
}

fn is_extra(data: &[u8]) -> bool {
    let mut no_choices = false;
    let mut usage = false;
    for (key, value) in json::entries(data) {
        match key {
            b"choices" => no_choices = json::elements(value).next().is_none(),
            b"usage" => usage = json::is_object(value),
            _ => {}
        }
    }
    no_choices && usage
}

/// The member `"usage":null` at the top of the data, with the comma that belongs to it.
fn null_usage(data: &[u8]) -> Option<Range<usize>> {
    let key = KEY.find(data)?;
    let end = key + NULL.len();
    // As OpenAI writes it: after a comma, without spaces, near the end.
    let usual = data.get(key..end) == Some(NULL)
        && key.checked_sub(1).and_then(|comma| data.get(comma)) == Some(&b',')
        && closes_the_top(data.get(end..).unwrap_or_default());
    if usual {
        Some(key - 1..end)
    } else {
        searched_null_usage(data)
    }
}

/// Returns true if the text after a value closes just the outermost object: the value was a member
/// of it.
fn closes_the_top(rest: &[u8]) -> bool {
    let mut at = 0;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'{' | b'[' | b']' => return false,
            b'}' => return rest.get(at + 1..).is_none_or(<[u8]>::is_empty),
            b'"' => match json::string_len(rest.get(at..).unwrap_or_default()) {
                Some(length) => at += length,
                None => return false,
            },
            _ => at += 1,
        }
    }
    false
}

fn searched_null_usage(data: &[u8]) -> Option<Range<usize>> {
    let mut previous_end = None;
    for member in json::members(data) {
        let found = data.get(member.key.clone()) == Some(b"usage")
            && data.get(member.value.clone()) == Some(b"null");
        if !found {
            previous_end = Some(member.value.end);
            continue;
        }
        return Some(match previous_end {
            Some(end) => end..member.value.end,
            None => member.key.start - 1..after_comma(data, member.value.end),
        });
    }
    None
}

fn after_comma(data: &[u8], end: usize) -> usize {
    let comma = json::skip_space(data, end);
    if data.get(comma) == Some(&b',') {
        json::skip_space(data, comma + 1)
    } else {
        end
    }
}
