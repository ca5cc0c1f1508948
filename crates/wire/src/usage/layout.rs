//! Places of usage, text, model and end in the responses of a format: the data that drives meters.
//! It must not read bytes.

use std::sync::LazyLock;

use llm_router_domain::format::{Endpoint, Format};
use memchr::memmem::Finder;

use crate::formats::codec;

/// Finds a quoted key. It can't match inside a string, where quotes are escaped.
pub(crate) type KeyFinder = LazyLock<Finder<'static>>;

/// A finder of `"delta"` and the like.
macro_rules! finder {
    ($key:literal) => {
        std::sync::LazyLock::new(|| {
            memchr::memmem::Finder::new(concat!("\"", $key, "\"").as_bytes())
        })
    };
}
pub(crate) use finder;

/// Layout of a provider's responses to requests to an endpoint.
#[derive(Debug)]
pub struct UsageLayout {
    /// The key that streamed text stands below.
    pub(crate) text: KeyFinder,
    /// The path of keys to the served model in a stream's event.
    pub(crate) model: &'static [&'static [u8]],
    /// The key whose string value says why the answer, or a choice of it, ended.
    pub(crate) finish_reason: Option<KeyFinder>,
    /// The types of events, where they have any.
    pub(crate) types: Option<EventTypes>,
    /// The convention of the figures.
    pub(crate) counting: Counting,
    /// The member of an event whose counts are placeholders for those of a later event.
    pub(crate) placeholder: Option<&'static [u8]>,
    /// Responses generate tokens: a usage that reports none is not the whole of it.
    pub(crate) generates: bool,
    /// A stream reports usage only when it is asked to, by `stream_options.include_usage`.
    pub(crate) usage_option: bool,
    /// Answers cite the pages of a web search that nothing else tells of.
    pub(crate) cites: bool,
}

/// The types of events that say more than text.
#[derive(Debug)]
pub(crate) struct EventTypes {
    /// Of a complete response.
    pub(crate) ends: &'static [&'static [u8]],
    /// Of a failed one.
    pub(crate) failures: &'static [&'static [u8]],
    /// Of an item of the output that is done, with the item in it.
    pub(crate) item_done: Option<&'static [u8]>,
}

/// Convention of the figures in a usage object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// Input includes what the cache served and stored; output may leave reasoning out, which the
    /// total shows.
    OpenAi,
    /// Input leaves out what the cache served and stored; output includes reasoning.
    Anthropic,
}

impl UsageLayout {
    /// The layout that a provider speaking `format` answers requests to `endpoint` in.
    #[must_use]
    pub fn for_endpoint(format: Format, endpoint: Endpoint) -> &'static Self {
        codec(format).usage_layout(endpoint)
    }

    /// Returns true if a stream of this layout reports usage only when it is asked to.
    #[must_use]
    pub const fn has_usage_option(&self) -> bool {
        self.usage_option
    }
}
