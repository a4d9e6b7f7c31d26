//! How long to wait after failures.

use std::time::Duration;

use super::{ClientError, Step};

/// The first pause after a failure; it doubles up to the longest, and half of it is random.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
}

impl Pause {
    pub(super) fn after(&mut self, step: &Result<Step, ClientError>) {
        self.failures = if step.is_ok() { 0 } else { self.failures.saturating_add(1) };
    }

    /// The daemon has answered.
    pub(super) fn forget(&mut self) {
        self.failures = 0;
    }

    /// Longer each time, and never the same for two clients.
    pub(super) fn next(&self) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        doubled.min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}
