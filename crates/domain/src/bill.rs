//! The bill of an attempt beside its sum: which price it used, what each class cost, what was billed
//! at other models' rates, and why it isn't exact. It must not compute prices ([`crate::price`]).

use jiff::civil::Date;
use rust_decimal::Decimal;

use crate::inexact::Reasons;
use crate::usage::UsagePart;

/// A price of a table, as an entry of the ledger refers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceRef {
    /// The table and its revision; [`PriceRef::REPORTED`] for a cost that the provider stated.
    pub table: Box<str>,
    /// The entry in it, `provider/model`.
    pub entry: Box<str>,
    /// The first day of the period that held.
    pub from: Option<Date>,
}

impl PriceRef {
    /// The table of costs that are the provider's own figure.
    pub const REPORTED: &str = "reported";
}

/// Details of an attempt's bill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Billing {
    /// Usage that is billed at the rates of other models, and isn't in that of the attempt.
    pub parts: Vec<UsagePart>,
    /// The model that the provider says it served, where it is another than the deployment's.
    pub served_model: Option<Box<str>>,
    /// Reasons for which the cost isn't exact.
    pub inexact: Reasons,
    /// The price used; none if there is no cost, or none is due.
    pub price: Option<PriceRef>,
    /// USD by class of tokens, by fee, and `request`; those of a part begin with its model and a
    /// space. Their sum is the cost unless the provider's own figure is used.
    pub costs: Vec<(Box<str>, Decimal)>,
}
