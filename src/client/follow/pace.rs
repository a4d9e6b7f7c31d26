//! How soon a request is sent again.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause after the first failure. It doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The requests that may be repeated at once, and how many more a second. They hold whatever the pauses are: an
/// endpoint that answers and fails in turns would otherwise be asked in a loop.
const BURST: f64 = 4.0;
const REPEATS_A_SECOND: f64 = 1.0;

/// The pauses after failures: a random part ("full jitter") of a time that doubles, and at least the time until a token
/// is there.
#[derive(Debug)]
pub(super) struct Pace {
    failures: u32,
    first_failure: Instant,
    tokens: f64,
    refilled: Instant,
    until: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { failures: 0, first_failure: now, tokens: BURST, refilled: now, until: now }
    }

    /// The daemon has answered.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
    }

    /// A request has failed; returns the pause before the next one.
    pub(super) fn failed(&mut self) -> Duration {
        if self.failures == 0 {
            self.first_failure = Instant::now();
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        // A short outage with many quick failures is not taken for a long one.
        let longest = doubled.min(FIRST_PAUSE + self.first_failure.elapsed() * 2);
        self.failures = self.failures.saturating_add(1);
        let pause = longest.mul_f64(fastrand::f64());
        self.until = Instant::now() + pause;
        self.repeats();
        self.until.saturating_duration_since(Instant::now())
    }

    /// A request follows at once that no answer with news has led to.
    pub(super) fn repeats(&mut self) {
        let now = Instant::now();
        let refill = now.duration_since(self.refilled).as_secs_f64() * REPEATS_A_SECOND;
        self.tokens = (self.tokens + refill).min(BURST) - 1.0;
        self.refilled = now;
        if self.tokens < 0.0 {
            self.until = self.until.max(now + Duration::from_secs_f64(-self.tokens / REPEATS_A_SECOND));
        }
    }

    /// The time before which nothing is asked.
    pub(super) fn until(&self) -> Instant {
        self.until
    }
}
