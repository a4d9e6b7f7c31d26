//! Says when the daemon is lost, and when it is back: not at every attempt.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::output::say;
use super::units::Span;
use crate::client::{Client, ClientError};

/// How long after a request was sent again it is asked whether that request is waited on: a daemon that is not there
/// has refused it by then, mostly.
const ASKED_AFTER: Duration = Duration::from_millis(500);

/// How long the answer to that may take, and the pause before it is asked again.
const ANSWER: Duration = Duration::from_secs(5);

/// A daemon, and since when it is lost.
pub(super) struct LostDaemon {
    client: Client,
    since: Option<Instant>,
    /// How long after the loss it is said again.
    say_at_seconds: u64,
    ask_at: Instant,
}

impl LostDaemon {
    pub(super) fn new(client: Client) -> Self {
        Self { client, since: None, say_at_seconds: 0, ask_at: Instant::now() }
    }

    /// A request has failed, and is sent again after the pause.
    pub(super) fn failed(&mut self, error: &impl Display, pause: Duration) {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        self.ask_at = now + pause + ASKED_AFTER;
        let lost_for = now.duration_since(since).as_secs();
        if lost_for >= self.say_at_seconds {
            self.say_at_seconds = said_next_at(lost_for);
            say(format_args!("{error}; the files stay as they are, and it is tried again"));
        }
    }

    /// It has answered.
    pub(super) fn answered(&mut self) {
        if let Some(since) = self.since.take() {
            self.say_at_seconds = 0;
            say(format_args!(
                "the daemon is back after {}",
                Span(Duration::from_secs(since.elapsed().as_secs()))
            ));
        }
    }

    /// Resolves when a lost daemon answers again. A long poll does not say so before there is news. Cancel-safe.
    pub(super) async fn back(&mut self) {
        if self.since.is_none() {
            return std::future::pending().await;
        }
        loop {
            sleep_until(self.ask_at).await;
            self.ask_at = Instant::now() + ANSWER;
            let is_there = match timeout(ANSWER, self.client.status()).await {
                Ok(Ok(_)) => true,
                // A token may be for other requests only.
                Ok(Err(ClientError::Refused { status, .. })) => matches!(status, 401 | 403),
                _ => false,
            };
            if is_there {
                return self.answered();
            }
        }
    }
}

/// When a loss is said again that was said after so many seconds: after 1, 10 and 60 s, then every minute.
fn said_next_at(seconds: u64) -> u64 {
    match seconds {
        0 => 1,
        1..10 => 10,
        _ => (seconds / 60 + 1) * 60,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_loss_is_said_rarely() {
        let times: Vec<u64> = std::iter::successors(Some(0), |at| Some(said_next_at(*at))).take(6).collect();
        assert_eq!(times, [0, 1, 10, 60, 120, 180]);
        assert_eq!(said_next_at(75), 120);
    }
}
