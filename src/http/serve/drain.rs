//! Graceful shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// The part of the drain window over which waiters are answered. The rest is for their last bytes.
const SPREAD: f64 = 0.6;

/// The longest spread per waiter: few waiters are answered within a short time.
const SPREAD_PER_WAITER: Duration = Duration::from_millis(1);

/// The part of the drain window in which a new connection may send its first request, and the longest such time. Its client
/// has just connected: it cannot know of the shutdown, and would take the end of the connection for an error.
const FIRST_REQUEST: f64 = 0.2;
const MAX_FIRST_REQUEST: Duration = Duration::from_millis(500);

/// The shutdown signal. Clones share it.
#[derive(Clone)]
pub struct Shutdown {
    /// The drain window, once the shutdown has begun.
    draining: watch::Sender<Option<Duration>>,
    /// Whether it has begun, as a flag that is cheap to read.
    begun: Arc<AtomicBool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { draining: watch::Sender::new(None), begun: Arc::default() }
    }
}

impl Shutdown {
    /// Begins the shutdown: the daemon is no longer ready, and waiters are answered within the window.
    pub fn begin(&self, window: Duration) {
        self.draining.send_if_modified(|draining| {
            let first = draining.is_none();
            // Set before any task is woken.
            self.begun.store(true, Ordering::Release);
            draining.get_or_insert(window);
            first
        });
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Resolves when it begins, to the drain window.
    pub async fn begun(&self) -> Duration {
        let mut receiver = self.draining.subscribe();
        // The sender lives as long as `self`, so waiting for it cannot fail.
        receiver.wait_for(Option::is_some).await.ok().and_then(|window| *window).unwrap_or_default()
    }

    /// The time from the beginning until a connection that has sent nothing is closed.
    pub(in crate::http) fn first_request_time(window: Duration) -> Duration {
        window.mul_f64(FIRST_REQUEST).min(MAX_FIRST_REQUEST)
    }

    /// Resolves when a connection that has sent nothing has to be closed because of the shutdown.
    pub(in crate::http) async fn first_request_is_late(&self) {
        let window = self.begun().await;
        tokio::time::sleep(Self::first_request_time(window)).await;
    }

    /// The time from the beginning until a waiter is answered. It is random within the window, so that clients do not all
    /// reconnect elsewhere at once.
    pub(in crate::http) fn answer_delay(window: Duration, waiters: usize) -> Duration {
        let waiters = u32::try_from(waiters).unwrap_or(u32::MAX);
        let spread = window.mul_f64(SPREAD).min(SPREAD_PER_WAITER.saturating_mul(waiters));
        spread.mul_f64(fastrand::f64())
    }
}
