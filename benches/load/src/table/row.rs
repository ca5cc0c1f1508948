//! The rows of the bench table: what each is called, compared by, and aimed at. No measuring.

use serde::Serialize;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TableRow {
    CpuSmall,
    CpuLarge,
    CpuEvent,
    MemoryStream,
    LatencyP50,
    LatencyP99,
    FirstEvent,
    EventDelay,
    Stalled,
    Rate,
    Busy,
    MemoryRest,
}

/// Comparison of the router with the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Router ÷ floor.
    Ratio,
    /// Router − floor.
    Difference,
    /// The router's value by itself.
    Value,
}

impl TableRow {
    /// In the order they are printed.
    pub(crate) const ALL: [Self; 12] = [
        Self::CpuSmall,
        Self::CpuLarge,
        Self::CpuEvent,
        Self::MemoryStream,
        Self::LatencyP50,
        Self::LatencyP99,
        Self::FirstEvent,
        Self::EventDelay,
        Self::Stalled,
        Self::Rate,
        Self::Busy,
        Self::MemoryRest,
    ];

    /// Returns the title at the start of the line.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::CpuSmall => "CPU per 1 KB request",
            Self::CpuLarge => "CPU per 256 KB request",
            Self::CpuEvent => "CPU per streamed event",
            Self::MemoryStream => "memory per open stream",
            Self::LatencyP50 => "latency p50 at a low rate",
            Self::LatencyP99 => "latency p99 at a low rate",
            Self::FirstEvent => "time to first event, p50",
            Self::EventDelay => "delay of a streamed event, p99",
            Self::Stalled => "stalled of the streams held open",
            Self::Rate => "requests/s at saturation",
            Self::Busy => "proxy's CPU busy at saturation",
            Self::MemoryRest => "memory at rest",
        }
    }

    /// Unit of the values.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::CpuSmall
            | Self::CpuLarge
            | Self::CpuEvent
            | Self::LatencyP50
            | Self::LatencyP99
            | Self::FirstEvent => "µs",
            Self::EventDelay => "ms",
            Self::MemoryStream => "KiB",
            Self::MemoryRest => "MiB",
            Self::Busy => "%",
            Self::Stalled | Self::Rate => "",
        }
    }

    /// Digits after the point.
    pub(crate) fn digits(self) -> usize {
        match self {
            Self::Stalled | Self::Rate | Self::Busy => 0,
            Self::CpuEvent | Self::EventDelay => 2,
            _ => 1,
        }
    }

    /// Returns the comparison.
    pub(crate) fn compare(self) -> Compare {
        match self {
            Self::CpuSmall
            | Self::CpuLarge
            | Self::CpuEvent
            | Self::MemoryStream
            | Self::Rate
            | Self::MemoryRest => Compare::Ratio,
            Self::LatencyP50 | Self::LatencyP99 | Self::FirstEvent => Compare::Difference,
            Self::EventDelay | Self::Stalled | Self::Busy => Compare::Value,
        }
    }

    /// The most that the comparison should come to, where a limit is set.
    pub(crate) fn aim(self) -> Option<f64> {
        match self {
            Self::CpuSmall => Some(1.3),
            Self::CpuLarge => Some(1.5),
            Self::CpuEvent => Some(1.15),
            Self::MemoryStream => Some(1.1),
            Self::LatencyP50 => Some(60.0),
            Self::EventDelay => Some(5.0),
            Self::Stalled => Some(0.0),
            Self::LatencyP99 | Self::FirstEvent | Self::Rate | Self::Busy | Self::MemoryRest => {
                None
            }
        }
    }
}

impl Compare {
    /// `ours` compared with `base`.
    pub(crate) fn apply(self) -> fn(f64, f64) -> f64 {
        match self {
            Self::Ratio => |ours, base| ours / base,
            Self::Difference => |ours, base| ours - base,
            Self::Value => |ours, _| ours,
        }
    }
}
