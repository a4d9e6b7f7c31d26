//! The pause of a feed between two attempts.

use std::time::Duration;

use tracing::warn;

use super::{Activity, Upstream};

/// The first pause after a failure and the longest; half of it is random.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pauses of one feed: each twice as long as the one before, until the upstream answers.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// How often the upstream had been heard at the last failure.
    heard: u64,
}

impl Backoff {
    /// Records a failure. Returns the number of failures in a row, without an answer of the upstream in between.
    pub(super) fn failed(&mut self, upstream: &Upstream) -> u32 {
        upstream.reconnects.inc();
        let heard = upstream.heard_count();
        let was_heard = heard > self.heard;
        if !was_heard {
            upstream.connect_failures.inc();
        }
        self.failures = if was_heard { 1 } else { self.failures.saturating_add(1) };
        self.heard = heard;
        self.failures
    }

    /// Reports why the last attempt failed, and waits: at least for `at_least`, if the upstream has asked for it.
    pub(super) async fn pause(
        &self,
        upstream: &Upstream,
        feed: &str,
        error: &str,
        at_least: Option<Duration>,
    ) {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        let longest = doubled.min(LONGEST_PAUSE).max(at_least.unwrap_or_default().saturating_mul(2));
        let pause = longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        if let Some(times) = upstream.keeps_failing(error) {
            warn!(times, "{feed}: {error}; trying again in {} ms", pause.as_millis());
        }
        upstream.does(Activity::Retrying);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_limit_and_start_over_after_an_answer() {
        let upstream = Upstream::remote();
        let mut backoff = Backoff::default();
        let mut longest = Duration::ZERO;
        for failure in 1..20 {
            assert_eq!(backoff.failed(&upstream), failure);
            let begun = Instant::now();
            backoff.pause(&upstream, "test", "no answer", None).await;
            longest = longest.max(begun.elapsed());
        }
        assert!(
            longest > LONGEST_PAUSE / 2 && longest <= LONGEST_PAUSE + Duration::from_millis(1),
            "{longest:?}"
        );
        upstream.heard();
        assert_eq!(backoff.failed(&upstream), 1);
        let begun = Instant::now();
        backoff.pause(&upstream, "test", "busy", Some(Duration::from_secs(30))).await;
        assert!(begun.elapsed() >= Duration::from_secs(30), "the upstream has asked for it");
        let report = upstream.activity();
        assert_eq!(report.activity, Activity::Retrying);
        assert_eq!(report.last_error.map(|(error, _)| error), Some("busy".to_owned()));
    }
}
