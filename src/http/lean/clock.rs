//! The time of day, derived from the monotonic clock.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A change of the system clock is noticed after this time.
const PRECISION: Duration = Duration::from_millis(100);

thread_local! {
    /// The last readings of both clocks.
    static LAST: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
}

/// The time of day; `now` is the current time. Saves a system call for each of thousands of answers.
pub(super) fn time_of_day(now: Instant) -> SystemTime {
    if let Some((then, time)) = LAST.get()
        && let Some(since) = now.checked_duration_since(then)
        && since < PRECISION
    {
        return time + since;
    }
    let time = SystemTime::now();
    LAST.set(Some((now, time)));
    time
}
