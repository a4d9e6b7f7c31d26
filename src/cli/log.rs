//! Logs, on standard error: as text, or as JSON for machines.

mod filter;

use std::fmt::{self, Debug};
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::Failure;
use super::escaped::Escaped;
use crate::http::{ACCESS_LOG, LogLines};
pub(super) use filter::{Filter, FilterError};

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. Returns the counters of its lines.
pub(super) fn start(format: LogFormat, filter: Filter) -> Result<LogLines, Failure> {
    let log_lines = LogLines::default();
    let counter = LineCounter(log_lines.clone());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter.into_env_filter())
        .with_writer(std::io::stderr)
        // If standard error is closed, reporting that on standard error would panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Json => logs.json().flatten_event(true).finish().with(counter).try_init()?,
        LogFormat::Text => logs
            .fmt_fields(EscapedFields)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .finish()
            .with(counter)
            .try_init()?,
    }
    Ok(log_lines)
}

/// Counts the lines that pass the filter, without those of the access log: requests are counted elsewhere.
struct LineCounter(LogLines);

impl<S: Subscriber> Layer<S> for LineCounter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let is_access_log = event.metadata().target() == ACCESS_LOG;
        if !is_access_log {
            self.0.count(*event.metadata().level());
        }
    }
}

/// Fields of a text log in the library's format. Messages and values may hold text from outside, so they are escaped.
struct EscapedFields;

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = EscapingVisitor(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct EscapingVisitor<'a>(DefaultVisitor<'a>);

impl Visit for EscapingVisitor<'_> {
    /// Called for values of every type.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.record_debug(field, &Escaped::in_one_line(value));
    }
}
