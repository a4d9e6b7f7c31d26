//! The maximum age of a connection.

use std::time::Duration;

use tokio::time::Instant;

/// Up to this part of the age is taken off at random, so that clients that connected together do not all reconnect
/// together.
const JITTER: f64 = 0.2;

/// The time at which a connection reaches its maximum age. Its next answer is then its last, with `Connection: close`.
/// The client reconnects through the load balancer, perhaps to a new replica. No request is interrupted.
#[derive(Clone, Copy)]
pub(in crate::http) struct ConnectionAge(Option<Instant>);

impl ConnectionAge {
    /// The age of a connection that begins now.
    pub(in crate::http) fn new(limit: Option<Duration>) -> Self {
        Self(limit.map(|limit| Instant::now() + limit.mul_f64(1.0 - JITTER * fastrand::f64())))
    }

    /// The time at which it is reached, if there is a limit.
    pub(in crate::http) fn reached_at(self) -> Option<Instant> {
        self.0
    }

    /// Resolves when it is reached.
    pub(in crate::http) async fn reached(self) {
        match self.0 {
            Some(end) => tokio::time::sleep_until(end).await,
            None => std::future::pending().await,
        }
    }

    /// Whether it is reached.
    pub(in crate::http) fn is_reached(self) -> bool {
        self.is_reached_by(Instant::now())
    }

    /// Whether it is reached by this time.
    pub(in crate::http) fn is_reached_by(self, now: Instant) -> bool {
        self.0.is_some_and(|end| now >= end)
    }
}
