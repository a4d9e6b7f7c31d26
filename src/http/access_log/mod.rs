//! The access log: a line for each request, or for each that was refused.
//!
//! A line is written when the answer has been written, or the client has gone. It holds no values and no tokens: of a query it
//! has the parameters that the daemon knows. The long polls of the lean front have lines too; while one waits, its line in
//! the making takes some 300 bytes, and nothing while the log is off.

mod head;
mod line;
mod routes;
mod span;

pub(in crate::http) use head::{REQUEST_ID, RequestHead, TRACEPARENT};
pub(in crate::http) use line::Line;
pub(in crate::http) use routes::{Notes, record};
pub use span::{RequestSpan, RequestSpans, TraceParent};

/// The target of the lines.
pub(crate) const TARGET: &str = "crumbd::http::access_log";

/// Which requests have a line in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// None.
    #[default]
    Off,
    /// Those that were refused or failed: with a status of 400 and more, or whose client left before the answer.
    Errors,
    /// All.
    All,
}

impl AccessLog {
    /// Whether any request may have a line.
    pub(in crate::http) fn is_on(self) -> bool {
        self != Self::Off
    }
}
