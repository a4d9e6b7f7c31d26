//! Waking many waiters one after the other.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Fewer waiters than this part of a second's worth are woken at once.
const AT_ONCE: f64 = 0.1;

/// Spreads what happens at once over so much time that about so many happen per second.
///
/// Without it a change that concerns 50,000 waiters is answered as fast as the cores can, and for
/// that long nothing else is; and 50,000 clients then do at the same time what the change tells them.
pub(super) struct WakeRate {
    per_second: NonZeroU32,
    waiting: AtomicU32,
}

impl WakeRate {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, waiting: AtomicU32::new(0) }
    }

    /// Counts a waiter until the guard is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// A waiter's place in the line: some random time, when there are many.
    pub(super) async fn turn(&self) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let spread = f64::from(waiting) / f64::from(self.per_second.get());
        if spread > AT_ONCE {
            tokio::time::sleep(Duration::from_secs_f64(spread * fastrand::f64())).await;
        }
    }
}

/// See [`WakeRate::wait`].
pub(super) struct Waiting<'a>(&'a WakeRate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
