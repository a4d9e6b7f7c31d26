//! Going down without dropping anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// Of the drain window, the part over which waiters are answered; the rest is for their last bytes.
const SPREAD: f64 = 0.6;

/// A few waiters need no spreading: so much per waiter at the most.
const SPREAD_PER_WAITER: Duration = Duration::from_millis(1);

/// Tells everything that serves clients that it is time to stop. Clones share it.
#[derive(Clone)]
pub struct Shutdown {
    /// The drain window, once it has begun.
    draining: watch::Sender<Option<Duration>>,
    /// The same as a flag that costs nothing to read.
    begun: Arc<AtomicBool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { draining: watch::Sender::new(None), begun: Arc::default() }
    }
}

impl Shutdown {
    /// Begins to drain: not ready any more, waiters are answered within the window.
    pub fn begin(&self, window: Duration) {
        self.draining.send_if_modified(|draining| {
            let first = draining.is_none();
            // Before anybody is woken by it.
            self.begun.store(true, Ordering::Release);
            draining.get_or_insert(window);
            first
        });
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Resolves when it begins, with the window.
    pub async fn begun(&self) -> Duration {
        let mut receiver = self.draining.subscribe();
        // The sender lives as long as `self`, so waiting for it cannot fail.
        receiver.wait_for(Option::is_some).await.ok().and_then(|window| *window).unwrap_or_default()
    }

    /// When a waiter is to be answered, counted from the beginning: at random within the window, so
    /// that the clients of a daemon with many do not all reconnect elsewhere at once.
    pub(in crate::http) fn turn(window: Duration, waiters: usize) -> Duration {
        let waiters = u32::try_from(waiters).unwrap_or(u32::MAX);
        let spread = window.mul_f64(SPREAD).min(SPREAD_PER_WAITER.saturating_mul(waiters));
        spread.mul_f64(fastrand::f64())
    }
}
