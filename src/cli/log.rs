//! Logs, on standard error: as text, or as JSON for machines.

mod filter;

use std::io::IsTerminal;

use super::Failure;
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

/// Starts logging.
pub(super) fn start(format: LogFormat, filter: Filter) -> Result<(), Failure> {
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter.into_env_filter())
        .with_writer(std::io::stderr)
        // If standard error is closed, reporting that on standard error would panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    }
}
