//! The bounds of each number.
//!
//! Durations are short enough that no clock, timer or multiplication overflows. Numbers fit the types that they are
//! converted to. A value out of bounds is refused, never silently clamped.

use std::time::Duration;

use crate::cli::units::{Bounds, Bytes, Span};

const DAY_S: u64 = 24 * 60 * 60;

const fn spans(least: Duration, most: Duration) -> Bounds<Span> {
    Bounds { least: Span(least), most: Span(most) }
}

const fn sizes(least: usize, most: usize) -> Bounds<Bytes> {
    Bounds { least: Bytes(least), most: Bytes(most) }
}

/// The least time for an exchange between two machines. A network may need as long.
const NETWORK: Duration = Duration::from_millis(100);

/// The resolution of timers.
const TICK: Duration = Duration::from_millis(1);

const YEAR: Duration = Duration::from_secs(31_557_600);

pub(super) const STATE_INTERVAL: Bounds<Span> = spans(TICK, Duration::from_secs(DAY_S));
/// 0 cuts waiting clients off at once.
pub(super) const DRAIN: Bounds<Span> = spans(Duration::ZERO, Duration::from_secs(DAY_S));
pub(super) const HEADER_TIMEOUT: Bounds<Span> = spans(NETWORK, Duration::from_secs(DAY_S));
pub(super) const IDLE_TIMEOUT: Bounds<Span> = spans(NETWORK, YEAR);
/// The system stores it in 31 bits of milliseconds, which is 24 days.
pub(super) const STALL_TIMEOUT: Bounds<Span> = spans(NETWORK, Duration::from_secs(DAY_S));
pub(super) const CONNECTION_AGE: Bounds<Span> = spans(TICK, YEAR);
pub(super) const HEARTBEAT: Bounds<Span> = spans(TICK, Duration::from_secs(DAY_S));
/// 0 keeps the newest breadcrumb only, and those that are being read.
pub(super) const KEEP_AGE: Bounds<Span> = spans(Duration::ZERO, YEAR.saturating_mul(100));
/// A writer waits for its answer at most this long.
pub(super) const MIN_INTERVAL: Bounds<Span> = spans(Duration::ZERO, Duration::from_secs(60 * 60));

/// Bounds of counts. No machine has room for more.
pub(super) const COUNT: Bounds<usize> = Bounds { least: 1, most: 1_000_000_000 };
/// About half a gigabyte of rows.
pub(super) const CLIENT_TABLE: Bounds<usize> = Bounds { least: 1, most: 1_000_000 };
/// The ring allocates all slots at the start.
pub(super) const INGEST_CAPACITY: Bounds<usize> = Bounds { least: 1, most: 1_000_000 };

/// Memory that may be 0.
pub(super) const CACHE: Bounds<Bytes> = sizes(0, 1 << 40);
/// Memory that must not be 0.
pub(super) const BUDGET: Bounds<Bytes> = sizes(1, 1 << 40);
pub(super) const BODY: Bounds<Bytes> = sizes(1, 1 << 36);
pub(super) const VALUE: Bounds<Bytes> = sizes(1, 1 << 30);
