//! What all waiters have heard.
//!
//! Publications are numbered. Waiter `w` hears every `stride`-th number after the one it begins at: all of
//! them with a stride of 1, every `n`-th where each of `n` waiters follows a prefix of its own. So the
//! board knows of each answer which numbers it must bring, and that none was left out, with one number
//! per waiter.

mod counts;
#[cfg(test)]
mod tests;
mod wait;

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Latencies, LoadError};
use counts::Counters;
pub use counts::Counts;

/// Publications whose time is remembered. Who is further behind is counted, but not timed.
const TIMED: u64 = 1 << 16;

/// Latencies taken from one answer: who slept through a thousand publications is late once, not a thousand times.
const TIMED_PER_ANSWER: u64 = 64;

/// What one answer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The highest number in it; that of the answer before, when there is none in it.
    pub last: u64,
    /// How many numbers were in it; `None` where the answer cannot tell, and is believed.
    pub count: Option<u64>,
}

/// Who times the publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// A publication begins when it is announced with [`Board::publishes`].
    Publisher,
    /// Nobody announces them: one begins when the first waiter hears of it.
    FirstWaiter,
}

/// What has been heard so far.
#[derive(Debug)]
pub struct Board {
    started: Instant,
    clock: Clock,
    stride: u64,
    times: Box<[Slot]>,
    /// The last number that each waiter has heard.
    last: Box<[AtomicU64]>,
    /// Latencies, by waiter and publication.
    pub latencies: Latencies,
    counters: Counters,
    first_failure: Mutex<Option<String>>,
    /// Told when `goal` deliveries are reached, or a waiter has failed.
    changed: Notify,
    goal: AtomicU64,
    published: AtomicU64,
}

#[derive(Debug, Default)]
struct Slot {
    number: AtomicU64,
    /// Since the board's start.
    at_ns: AtomicU64,
}

impl Board {
    /// A board for so many waiters; waiter `w` begins after number `begins(w)`.
    pub fn new(waiters: usize, clock: Clock, stride: u64, begins: impl Fn(usize) -> u64) -> Self {
        Self {
            started: Instant::now(),
            clock,
            stride,
            times: std::iter::repeat_with(Slot::default).take(TIMED as usize).collect(),
            last: (0..waiters).map(|waiter| AtomicU64::new(begins(waiter))).collect(),
            latencies: Latencies::default(),
            counters: Counters::default(),
            first_failure: Mutex::new(None),
            changed: Notify::new(),
            goal: AtomicU64::new(u64::MAX),
            published: AtomicU64::new(0),
        }
    }

    /// Publication `number` begins now.
    pub fn publishes(&self, number: u64) {
        self.begin(number, self.now_ns());
        self.published.store(number, Relaxed);
    }

    /// The last number that was announced.
    pub fn last_published(&self) -> u64 {
        self.published.load(Relaxed)
    }

    fn begin(&self, number: u64, at_ns: u64) {
        let slot = self.slot(number);
        slot.at_ns.store(at_ns, Relaxed);
        slot.number.store(number, Release);
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.times[(number % TIMED) as usize]
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The last number that this waiter has heard.
    pub(in crate::load) fn last(&self, waiter: usize) -> u64 {
        self.last[waiter].load(Relaxed)
    }

    /// A waiter's answer is there whole, now.
    pub(in crate::load) fn heard(&self, waiter: usize, heard: Heard, body_bytes: u64) {
        let now = self.now_ns();
        let before = self.last(waiter);
        self.counters.wakes.fetch_add(1, Relaxed);
        self.counters.body_bytes.fetch_add(body_bytes, Relaxed);
        if heard.last <= before {
            self.counters.others.fetch_add(1, Relaxed);
            return;
        }
        self.last[waiter].store(heard.last, Relaxed);
        let due = (heard.last - before) / self.stride;
        let missing = heard.count.map_or(0, |count| due.abs_diff(count));
        let aligned = (heard.last - before).is_multiple_of(self.stride);
        self.counters.holes.fetch_add(missing + u64::from(!aligned), Relaxed);
        for back in 0..due.min(TIMED_PER_ANSWER) {
            let number = heard.last - back * self.stride;
            let slot = self.slot(number);
            if self.clock == Clock::FirstWaiter && slot.number.load(Acquire) != number {
                self.begin(number, now);
            }
            if slot.number.load(Acquire) == number {
                let took = now.saturating_sub(slot.at_ns.load(Relaxed));
                self.latencies.record(Duration::from_nanos(took));
            }
        }
        let deliveries = self.counters.deliveries.fetch_add(due, Release) + due;
        if deliveries >= self.goal.load(Acquire) {
            self.changed.notify_one();
        }
    }

    pub(in crate::load) fn has_asked(&self) {
        self.counters.asked.fetch_add(1, Relaxed);
        self.changed.notify_one();
    }

    pub(in crate::load) fn was_idle(&self) {
        self.counters.idle.fetch_add(1, Relaxed);
    }

    pub(in crate::load) fn was_refused(&self) {
        self.counters.refused.fetch_add(1, Relaxed);
    }

    pub(in crate::load) fn has_reconnected(&self) {
        self.counters.reconnects.fetch_add(1, Relaxed);
    }

    /// A waiter gives up.
    pub(in crate::load) fn has_failed(&self, reason: String) {
        self.first_failure.lock().get_or_insert(reason);
        self.counters.failed.fetch_add(1, Release);
        self.changed.notify_one();
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// The waiters that have failed, as an error.
    pub fn failure(&self) -> Option<LoadError> {
        let first = self.first_failure.lock().clone()?;
        Some(LoadError::Clients { count: self.counters.failed.load(Acquire), first })
    }

    /// Waiters that have not heard what they should have by the time that `published` was the last number.
    pub fn lost(&self, published: u64) -> u64 {
        let is_behind = |last: &&AtomicU64| last.load(Relaxed) + self.stride <= published;
        self.last.iter().filter(is_behind).count() as u64
    }

    /// The highest number that any waiter has heard.
    pub fn newest(&self) -> u64 {
        self.last.iter().map(|last| last.load(Relaxed)).max().unwrap_or(0)
    }
}
