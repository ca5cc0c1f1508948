//! An upstream's response on its way to the client, and the end of a request.

pub(crate) mod filter;
pub(crate) mod give_up;
pub(crate) mod keep_alive;
pub(crate) mod limit_headers;
pub(crate) mod record;
