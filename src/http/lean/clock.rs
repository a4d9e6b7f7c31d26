//! The time of day, for who has just asked for the time.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A clock that was set is noticed after this.
const PRECISION: Duration = Duration::from_millis(100);

thread_local! {
    /// The last look at both clocks.
    static LOOKED: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
}

/// The time of day at this moment, which is now. To ask the system is not much, but is done for each
/// of thousands of answers at the same moment.
pub(super) fn time_of_day(now: Instant) -> SystemTime {
    if let Some((then, time)) = LOOKED.get()
        && let Some(since) = now.checked_duration_since(then)
        && since < PRECISION
    {
        return time + since;
    }
    let time = SystemTime::now();
    LOOKED.set(Some((now, time)));
    time
}
