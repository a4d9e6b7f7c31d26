//! The wake rate limiter.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A spread shorter than this, in seconds, is not worth a delay.
const MIN_SPREAD_S: f64 = 0.1;

/// Spreads the answers to one breadcrumb over time, so that about so many waiters are answered per second.
///
/// Without it a change that concerns 50,000 waiters keeps all cores busy until the last one is answered, and all
/// 50,000 clients act on the change at the same moment.
pub(super) struct WakeRate {
    per_second: NonZeroU32,
    waiters: AtomicU32,
}

impl WakeRate {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, waiters: AtomicU32::new(0) }
    }

    /// Counts a waiter until the guard is dropped.
    pub(super) fn add_waiter(&self) -> WaiterGuard<'_> {
        self.waiters.fetch_add(1, Ordering::Relaxed);
        WaiterGuard(self)
    }

    /// Sleeps for a random part of the time over which all waiters are spread.
    pub(super) async fn delay(&self) {
        let waiters = self.waiters.load(Ordering::Relaxed);
        let spread_s = f64::from(waiters) / f64::from(self.per_second.get());
        if spread_s > MIN_SPREAD_S {
            tokio::time::sleep(Duration::from_secs_f64(spread_s * fastrand::f64())).await;
        }
    }
}

/// A counted waiter; see [`WakeRate::add_waiter`].
pub(super) struct WaiterGuard<'a>(&'a WakeRate);

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}
