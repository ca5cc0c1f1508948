//! Hours of the day and days of the week at which a provider charges other prices.

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{Offset, TimeZone};

use super::amount::Factor;

/// Hours at which rates are multiplied. A condition that is empty always holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HourWindow {
    /// Offset of the clock and the calendar that the rest is told by.
    pub zone: Offset,
    /// Days of the week.
    pub days: Vec<Weekday>,
    /// Days of the calendar.
    pub dates: Vec<Date>,
    /// Spans of the day: the first moment, and the moment after the last; none for midnight at the
    /// day's end.
    pub times: Vec<(Time, Option<Time>)>,
    /// Number that the rates of tokens are multiplied by.
    pub factor: Factor,
}

impl HourWindow {
    /// Returns true if a moment lies in the window.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        let local = at.to_zoned(TimeZone::fixed(self.zone)).datetime();
        let in_time = |(from, until): &(Time, Option<Time>)| {
            local.time() >= *from && until.is_none_or(|until| local.time() < until)
        };
        (self.days.is_empty() || self.days.contains(&local.date().weekday()))
            && (self.dates.is_empty() || self.dates.contains(&local.date()))
            && (self.times.is_empty() || self.times.iter().any(in_time))
    }
}
