//! The table in which metrics are declared: a line each with its field, type, name, labels, buckets
//! and help text. Nothing here counts.

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Result,
};

/// Prefix of every metric's name.
const NAMESPACE: &str = "llm_router";

/// A line of the table.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) help: &'a str,
    /// Names of the labels, for metrics that have some.
    pub(crate) labels: &'a [&'a str],
    /// Upper bounds of a histogram's buckets.
    pub(crate) buckets: &'a [f64],
}

impl Line<'_> {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help).namespace(NAMESPACE)
    }

    fn histogram(&self) -> HistogramOpts {
        HistogramOpts::from(self.opts()).buckets(self.buckets.to_vec())
    }
}

/// A type of metric.
pub(crate) trait Metric: Collector + Clone + Sized + 'static {
    /// Makes the metric of a line.
    ///
    /// # Errors
    /// When the name, a label or the buckets can't be used.
    fn declare(line: &Line<'_>) -> Result<Self>;
}

macro_rules! metric {
    ($($kind:ty => |$line:ident| $make:expr;)*) => {
        $(impl Metric for $kind {
            fn declare($line: &Line<'_>) -> Result<Self> {
                $make
            }
        })*
    };
}

metric! {
    IntCounter => |line| Self::with_opts(line.opts());
    IntGauge => |line| Self::with_opts(line.opts());
    Gauge => |line| Self::with_opts(line.opts());
    Histogram => |line| Self::with_opts(line.histogram());
    IntCounterVec => |line| Self::new(line.opts(), line.labels);
    CounterVec => |line| Self::new(line.opts(), line.labels);
    IntGaugeVec => |line| Self::new(line.opts(), line.labels);
    GaugeVec => |line| Self::new(line.opts(), line.labels);
    HistogramVec => |line| Self::new(line.histogram(), line.labels);
}

/// Declares a set of metrics as a struct with a field for each:
/// `field: Type = "name" [labels] (buckets), "help";`, labels and buckets where the type has them.
/// `Set::register(&registry)` makes and registers all of them.
macro_rules! metrics {
    (
        $(#[$meta:meta])*
        $vis:vis struct $set:ident {
            $($field:ident: $kind:ty =
                $name:literal $([$($label:expr),+])? $(($buckets:expr))?, $help:literal;)+
        }
    ) => {
        $(#[$meta])*
        $vis struct $set {
            $($field: $kind,)+
        }

        impl $set {
            /// Makes the metrics and registers them.
            ///
            /// # Errors
            /// When a name is taken or can't be used, which a test would have shown.
            $vis fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
                use $crate::telemetry::metrics::declare::{Line, Metric};
                let set = Self {
                    $($field: <$kind as Metric>::declare(&Line {
                        name: $name,
                        help: $help,
                        labels: &[$($($label),+)?],
                        buckets: metrics!(@buckets $($buckets)?),
                    })?,)+
                };
                $(registry.register(Box::new(set.$field.clone()))?;)+
                Ok(set)
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { &$buckets };
}

pub(crate) use metrics;
