//! How long a connection may live.

use std::time::Duration;

use tokio::time::Instant;

/// Up to this part is taken off an age at random: clients that came together shall not all leave together.
const JITTER: f64 = 0.2;

/// When a connection is old. Then the next answer says so (`Connection: close`) and is its last: the
/// client comes back, through the load balancer, perhaps to a replica that was not there before. Nobody is cut off.
#[derive(Clone, Copy)]
pub(in crate::http) struct Age(Option<Instant>);

impl Age {
    /// Of a connection that begins now.
    pub(in crate::http) fn begin(limit: Option<Duration>) -> Self {
        Self(limit.map(|limit| Instant::now() + limit.mul_f64(1.0 - JITTER * fastrand::f64())))
    }

    /// When it is old, if ever.
    pub(in crate::http) fn end(self) -> Option<Instant> {
        self.0
    }

    /// Resolves when it is old.
    pub(in crate::http) async fn over(self) {
        match self.0 {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    }

    /// Whether the answer that is about to be written is the last.
    pub(in crate::http) fn is_over(self) -> bool {
        self.is_over_at(Instant::now())
    }

    /// The same for who has just looked at the clock.
    pub(in crate::http) fn is_over_at(self, now: Instant) -> bool {
        self.0.is_some_and(|end| now >= end)
    }
}
