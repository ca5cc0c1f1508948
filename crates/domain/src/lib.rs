//! Vocabulary and arithmetic of LLM Router: what a key, a format or a retry is, and how each is
//! computed. No I/O, no async, no clock: the time comes in as an argument.

pub mod balance;
pub mod budget;
pub mod circuit;
pub mod complexity;
pub mod format;
pub mod header;
pub mod key;
pub mod ledger;
pub mod limit;
pub mod network;
pub mod pattern;
pub mod price;
pub mod quantile;
pub mod rendezvous;
pub mod retry;
pub mod rule;
pub mod store_url;
pub mod toggle;
pub mod usage;
