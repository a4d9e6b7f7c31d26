//! The replicas that are asked, one at a time.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::Client;

/// One daemon, or several with the same state.
#[derive(Debug)]
pub(super) struct Endpoints {
    clients: Vec<Endpoint>,
    current: usize,
}

#[derive(Debug)]
struct Endpoint {
    client: Client,
    /// The time before which it does not want to be asked.
    not_before: Instant,
}

impl Endpoints {
    pub(super) fn new(first: Client) -> Self {
        Self { clients: vec![Endpoint { client: first, not_before: Instant::now() }], current: 0 }
    }

    pub(super) fn add(&mut self, client: Client) {
        self.clients.push(Endpoint { client, not_before: Instant::now() });
    }

    /// The one that is asked now.
    pub(super) fn current(&self) -> &Client {
        &self.clients[self.current].client
    }

    /// It has failed: the next one is asked. It does not want to be asked again before that time, if it says so.
    pub(super) fn failed(&mut self, retry_after: Option<Duration>) {
        if let Some(seconds) = retry_after {
            // Those that were refused together do not all come back together.
            let spread = Duration::from_secs(1) + seconds / 4;
            let spread = spread.min(Duration::from_secs(5)).mul_f64(fastrand::f64());
            self.clients[self.current].not_before = Instant::now() + seconds + spread;
        }
        self.current = (self.current + 1) % self.clients.len();
    }

    /// Chooses the first one, from the current one on, that may be asked at this time; else the one that may be asked
    /// first. Returns the time at which it may be.
    pub(super) fn choose(&mut self, now: Instant) -> Instant {
        let count = self.clients.len();
        let from_current = (0..count).map(|i| (self.current + i) % count);
        let at = |i: &usize| self.clients[*i].not_before.max(now);
        // The first of several that are equal.
        if let Some(chosen) = from_current.min_by_key(at) {
            self.current = chosen;
        }
        self.clients[self.current].not_before
    }
}
