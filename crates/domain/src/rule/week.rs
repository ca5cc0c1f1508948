//! Times of the week, to the minute, in UTC. What the time is now comes in as an argument.

use std::fmt;

use super::spec::{Day, TimeWindow};

const DAY: u16 = 24 * 60;
const WEEK: u16 = 7 * DAY;

/// A minute of the week, counted from Monday 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WeekMinute(u16);

impl WeekMinute {
    /// The minute that a Unix time, in seconds, falls in.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Self {
        // The epoch was a Thursday, three days after a Monday.
        let minutes = seconds.div_euclid(60) + 3 * i64::from(DAY);
        Self(minutes.rem_euclid(i64::from(WEEK)) as u16)
    }

    /// A minute of a day; hours and minutes beyond the day run on into the next.
    #[must_use]
    pub const fn at(day: Day, hour: u16, minute: u16) -> Self {
        Self(((day as u16 * DAY) as u32 + hour as u32 * 60 + minute as u32) as u16 % WEEK)
    }
}

impl fmt::Display for WeekMinute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = Day::ALL[usize::from(self.0 / DAY)].name();
        write!(f, "{day} {:02}:{:02}", self.0 % DAY / 60, self.0 % 60)
    }
}

/// A set of minutes of the week, as ascending ranges (start included, end not) that neither
/// overlap nor touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Week(Vec<(u16, u16)>);

impl Week {
    pub(super) fn whole() -> Self {
        Self(vec![(0, WEEK)])
    }

    pub(super) fn contains(&self, minute: WeekMinute) -> bool {
        self.0
            .iter()
            .any(|(start, end)| (*start..*end).contains(&minute.0))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.0 == [(0, WEEK)]
    }

    pub(super) fn complement(&self) -> Self {
        let mut rest = Vec::new();
        let mut from = 0;
        for (start, end) in &self.0 {
            rest.push((from, *start));
            from = *end;
        }
        rest.push((from, WEEK));
        rest.retain(|(start, end)| start < end);
        Self(rest)
    }

    pub(super) fn intersect(&self, other: &Self) -> Self {
        let pairs = self
            .0
            .iter()
            .flat_map(|a| other.0.iter().map(move |b| (a, b)));
        let common = pairs.map(|(a, b)| (a.0.max(b.0), a.1.min(b.1)));
        Self::merge(common.collect())
    }

    pub(super) fn covers(&self, other: &Self) -> bool {
        other.intersect(self) == *other
    }

    fn merge(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.retain(|(start, end)| start < end);
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// The minutes of a window. The error names the field that is wrong, and says how.
    pub(super) fn from_window(window: &TimeWindow) -> Result<Self, (&'static str, String)> {
        let from = clock(window.from.as_deref(), 0).ok_or_else(|| bad("from", &window.from))?;
        let to = clock(window.to.as_deref(), DAY).ok_or_else(|| bad("to", &window.to))?;
        if from == DAY {
            return Err(("from", "must be before 24:00".to_owned()));
        }
        if from == to {
            return Err((
                "to",
                "equals `from`: leave both out for the whole day".to_owned(),
            ));
        }
        let days = window.days.as_deref().unwrap_or(&Day::ALL);
        if days.is_empty() {
            return Err((
                "days",
                "names no day: leave it out for every day".to_owned(),
            ));
        }
        let length = if to > from {
            to - from
        } else {
            DAY - from + to
        };
        let mut ranges = Vec::new();
        for day in days {
            let start = *day as u16 * DAY + from;
            let end = start + length;
            ranges.push((start, end.min(WEEK)));
            ranges.push((0, end.saturating_sub(WEEK)));
        }
        Ok(Self::merge(ranges))
    }
}

fn bad(field: &'static str, value: &Option<String>) -> (&'static str, String) {
    let value = value.as_deref().unwrap_or_default();
    (
        field,
        format!("`{value}` is no time of day: write HH:MM, as in 06:30"),
    )
}

/// `HH:MM` as minutes of the day, `24:00` included; `default` when absent.
fn clock(text: Option<&str>, default: u16) -> Option<u16> {
    let Some(text) = text else {
        return Some(default);
    };
    let (hour, minute) = text.split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY).then_some(minutes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(from: &str, to: &str, days: &[Day]) -> TimeWindow {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        TimeWindow {
            from: some(from),
            to: some(to),
            days: (!days.is_empty()).then(|| days.to_vec()),
        }
    }

    #[test]
    fn windows_hold_their_minutes() {
        for (from, to, days, day, hour, minute, want) in [
            ("09:00", "17:00", vec![], Day::Wed, 9, 0, true),
            ("09:00", "17:00", vec![], Day::Wed, 17, 0, false),
            ("22:00", "06:00", vec![], Day::Mon, 5, 59, true),
            ("22:00", "06:00", vec![], Day::Mon, 6, 0, false),
            ("22:00", "06:00", vec![Day::Fri], Day::Sat, 3, 0, true),
            ("22:00", "06:00", vec![Day::Fri], Day::Fri, 3, 0, false),
            ("22:00", "06:00", vec![Day::Sun], Day::Mon, 3, 0, true),
            ("", "", vec![Day::Sat, Day::Sun], Day::Sun, 23, 59, true),
            ("", "", vec![Day::Sat, Day::Sun], Day::Mon, 0, 0, false),
            ("18:00", "", vec![Day::Tue], Day::Tue, 23, 59, true),
            ("18:00", "24:00", vec![Day::Tue], Day::Wed, 0, 0, false),
        ] {
            let week = Week::from_window(&window(from, to, &days)).unwrap();
            let minute = WeekMinute::at(day, hour, minute);
            assert_eq!(
                week.contains(minute),
                want,
                "{from}-{to} {days:?} at {minute}"
            );
        }
    }

    #[test]
    fn bad_windows_name_the_field() {
        for (from, to, field) in [
            ("9:00", "", "from"),
            ("24:00", "", "from"),
            ("25:00", "", "from"),
            ("", "12:60", "to"),
            ("", "noon", "to"),
            ("", "24:01", "to"),
            ("08:00", "08:00", "to"),
        ] {
            assert_eq!(
                Week::from_window(&window(from, to, &[])).unwrap_err().0,
                field,
                "{from}-{to}"
            );
        }
        let none = TimeWindow {
            days: Some(Vec::new()),
            ..TimeWindow::default()
        };
        assert_eq!(Week::from_window(&none).unwrap_err().0, "days");
    }

    #[test]
    fn unix_times_fall_on_their_day() {
        for (seconds, want) in [
            (0, "thu 00:00"),
            (1_767_225_599, "wed 23:59"),
            (-1, "wed 23:59"),
            (345_600, "mon 00:00"),
        ] {
            assert_eq!(
                WeekMinute::from_unix(seconds).to_string(),
                want,
                "{seconds}"
            );
        }
    }

    proptest! {
        #[test]
        fn set_operations_agree_with_membership(
            a in proptest::collection::vec((0u16..WEEK, 0u16..WEEK), 0..5),
            b in proptest::collection::vec((0u16..WEEK, 0u16..WEEK), 0..5),
            minute in 0u16..WEEK,
        ) {
            let (a, b) = (Week::merge(a), Week::merge(b));
            let minute = WeekMinute(minute);
            prop_assert_eq!(a.complement().contains(minute), !a.contains(minute));
            let both = a.contains(minute) && b.contains(minute);
            prop_assert_eq!(a.intersect(&b).contains(minute), both);
            prop_assert_eq!(a.complement().complement(), a.clone());
            prop_assert!(a.covers(&a.intersect(&b)));
            if a.covers(&b) && b.contains(minute) {
                prop_assert!(a.contains(minute));
            }
        }
    }
}
