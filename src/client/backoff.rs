//! The pause after failures.

use std::time::Duration;

use super::{ClientError, Step};

/// The first and the longest pause. It doubles with every failure, and half of it is random.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The failures in a row, and the pause that follows from them.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts the outcome of a step.
    pub(super) fn record(&mut self, step: &Result<Step, ClientError>) {
        self.failures = if step.is_ok() { 0 } else { self.failures.saturating_add(1) };
    }

    /// The daemon has answered.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause: longer each time, and never the same for two clients.
    pub(super) fn pause(&self) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        doubled.min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}
