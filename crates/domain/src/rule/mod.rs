//! Rules: conditions on a request that decide its route. Written as [`RuleSpec`], checked and
//! compiled by [`compile`] into [`Rules`], which [`Rules::decide`] and [`Rules::explain`] a
//! request. What the request is, they ask of [`Facts`]; nothing here reads a body.

mod check;
mod decide;
mod glob;
mod literal;
mod node;
mod pattern;
mod problem;
mod reach;
mod region;
mod spec;
mod week;

pub use self::{
    check::{CompiledRules, compile},
    decide::{Facts, Matched, RuleDecision, RuleRoute, RuleTrace, Rules},
    problem::{RuleFinding, RuleNames, Severity},
    spec::{
        Action, Area, Block, Condition, Day, Feature, HeaderTest, RuleSpec, ScoreRange, Share,
        TimeWindow, TokenRange,
    },
    week::WeekMinute,
};
