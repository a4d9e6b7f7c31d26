//! Counters of log lines.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use tracing::Level;

/// The levels, and their names.
const LEVELS: [(Level, &str); 5] = [
    (Level::ERROR, "error"),
    (Level::WARN, "warn"),
    (Level::INFO, "info"),
    (Level::DEBUG, "debug"),
    (Level::TRACE, "trace"),
];

/// The counters of log lines, by level. The program that sets up the log counts into them. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LogLines(Arc<[Counter; LEVELS.len()]>);

impl LogLines {
    /// Counts a line of this level.
    pub fn count(&self, level: Level) {
        LEVELS
            .iter()
            .zip(&*self.0)
            .filter(|((known, _), _)| *known == level)
            .for_each(|(_, count)| _ = count.inc());
    }

    /// The levels and the number of lines of each.
    pub(super) fn by_level(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LEVELS.into_iter().zip(&*self.0).map(|((_, name), count)| (name, count.get()))
    }
}
