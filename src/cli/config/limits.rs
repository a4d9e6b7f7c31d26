//! Between what bounds each number may be.
//!
//! No duration is so long that a clock, a timer or a multiplication on its way overflows, and no number so large that
//! it means something else to whoever gets it. What is over a bound is refused, never cut down in silence.

use std::time::Duration;

use crate::cli::units::{Bounds, Bytes, Span};

const DAY_S: u64 = 24 * 60 * 60;

const fn spans(least: Duration, most: Duration) -> Bounds<Span> {
    Bounds { least: Span(least), most: Span(most) }
}

const fn sizes(least: usize, most: usize) -> Bounds<Bytes> {
    Bounds { least: Bytes(least), most: Bytes(most) }
}

/// For what happens between two machines: less is less than a network takes, so nobody would ever be in time.
const NETWORK: Duration = Duration::from_millis(100);

/// The least that timers know.
const TICK: Duration = Duration::from_millis(1);

const YEAR: Duration = Duration::from_secs(31_557_600);

pub(super) const STATE_INTERVAL: Bounds<Span> = spans(TICK, Duration::from_secs(DAY_S));
/// 0 is: cut them at once.
pub(super) const DRAIN: Bounds<Span> = spans(Duration::ZERO, Duration::from_secs(DAY_S));
pub(super) const HEADER_TIMEOUT: Bounds<Span> = spans(NETWORK, Duration::from_secs(DAY_S));
pub(super) const IDLE_TIMEOUT: Bounds<Span> = spans(NETWORK, YEAR);
/// The system counts it in 31 bits of milliseconds, which is 24 days.
pub(super) const STALL_TIMEOUT: Bounds<Span> = spans(NETWORK, Duration::from_secs(DAY_S));
pub(super) const CONNECTION_AGE: Bounds<Span> = spans(TICK, YEAR);
pub(super) const HEARTBEAT: Bounds<Span> = spans(TICK, Duration::from_secs(DAY_S));
/// 0 is: only the newest, and what is read at that moment.
pub(super) const KEEP_AGE: Bounds<Span> = spans(Duration::ZERO, YEAR.saturating_mul(100));
/// A writer waits for the answer for so long.
pub(super) const MIN_INTERVAL: Bounds<Span> = spans(Duration::ZERO, Duration::from_secs(60 * 60));

/// Of what is only counted. No machine has room for more.
pub(super) const COUNT: Bounds<usize> = Bounds { least: 1, most: 1_000_000_000 };
/// The ring has memory for all of them from the start.
pub(super) const INGEST_CAPACITY: Bounds<usize> = Bounds { least: 1, most: 1_000_000 };

/// Memory that the daemon may do without.
pub(super) const CACHE: Bounds<Bytes> = sizes(0, 1 << 40);
/// Memory of which nothing would work without any.
pub(super) const BUDGET: Bounds<Bytes> = sizes(1, 1 << 40);
pub(super) const BODY: Bounds<Bytes> = sizes(1, 1 << 36);
pub(super) const VALUE: Bounds<Bytes> = sizes(1, 1 << 30);
