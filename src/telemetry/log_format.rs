//! The JSON form of log lines, the same for every line: `timestamp`, `level`, `target`, `message`, then
//! the fields. Access lines are written apart, in this form too. It must not know what is logged.

use std::fmt;

use serde::Serializer as _;
use serde::ser::SerializeMap as _;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock;

/// Writes each event as one JSON object.
pub(crate) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // Lines of libraries that log by the `log` crate have their target in a field.
        let target = fields.target.as_deref();
        let target = target.unwrap_or_else(|| event.metadata().target());
        let level = event.metadata().level().as_str();
        let line = fields.to_line(level, target).map_err(|_| fmt::Error)?;
        writer.write_str(&line)?;
        writer.write_char('\n')
    }
}

/// Returns the time of a line.
pub(crate) fn timestamp() -> String {
    format!("{:.6}", clock::timestamp())
}

/// The fields of an event, in their order.
#[derive(Default)]
struct Fields {
    target: Option<String>,
    message: Option<String>,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn to_line(&self, level: &str, target: &str) -> serde_json::Result<String> {
        let mut line = Vec::with_capacity(256);
        let mut serializer = serde_json::Serializer::new(&mut line);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", &timestamp())?;
        map.serialize_entry("level", level)?;
        map.serialize_entry("target", target)?;
        map.serialize_entry("message", self.message.as_deref().unwrap_or_default())?;
        for (name, value) in &self.others {
            map.serialize_entry(name, value)?;
        }
        map.end()?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = Some(text),
            ("log.target", Value::String(text)) => self.target = Some(text),
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_have_one_form() {
        let lines = Lines::default();
        let sink = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || sink.clone())
            .event_format(JsonLines)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let error = "a \"quoted\"\nerror";
            tracing::warn!(%error, request.id = "r", count = 3, share = 0.5, up = false, "it failed");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(rest.is_empty());
        let mut line: Value = serde_json::from_str(first).unwrap();
        let time = line["timestamp"].take();
        assert!(time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        let expected = serde_json::json!({
            "timestamp": null, "level": "WARN", "target": "llm_router::telemetry::log_format::tests",
            "message": "it failed", "error": "a \"quoted\"\nerror", "request.id": "r", "count": 3,
            "share": 0.5, "up": false,
        });
        assert_eq!(line, expected);
        assert!(first.starts_with("{\"timestamp\":"), "{first}");
    }
}
