//! Counting without waiting.
//!
//! Thousands of answers per second are counted on all cores. One counter would be one cache line that
//! wanders between them, and a lock would be worse; so each thread counts in a shard of its own, and
//! whoever asks for the sum, once per scrape, adds them up.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// More threads than this share shards.
const MAX_SHARDS: usize = 32;

/// Counters of a shard are allocated in whole lines, so that two shards do not share one.
const LINE: usize = 16;

thread_local! {
    /// The number of this thread, once it has counted something.
    static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}

fn thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    THREAD.get().unwrap_or_else(|| {
        let number = THREADS.fetch_add(1, Ordering::Relaxed);
        THREAD.set(Some(number));
        number
    })
}

/// A fixed number of counters.
pub(super) struct Sharded {
    shards: Box<[Box<[AtomicU64]>]>,
}

impl Sharded {
    pub(super) fn new(counters: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shard = |_| (0..counters.next_multiple_of(LINE)).map(|_| AtomicU64::new(0)).collect();
        Self { shards: (0..cores.min(MAX_SHARDS)).map(shard).collect() }
    }

    pub(super) fn add(&self, counter: usize, n: u64) {
        self.shards[thread() % self.shards.len()][counter].fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn sum(&self, counter: usize) -> u64 {
        self.shards.iter().map(|shard| shard[counter].load(Ordering::Relaxed)).sum()
    }
}

/// How often a value was within which bound.
pub(super) struct Histogram {
    /// Upper bounds, in order.
    bounds: &'static [u64],
    /// One for each bound, one for what is above all, and the sum of the values.
    counts: Sharded,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: Sharded::new(bounds.len() + 2) }
    }

    pub(super) fn observe(&self, value: u64) {
        self.counts.add(self.bounds.partition_point(|bound| *bound < value), 1);
        self.counts.add(self.bounds.len() + 1, value);
    }

    /// The sum of the values, how many there were, and how many within each bound but not within the one before.
    /// One unit of a value counts as `unit`.
    pub(super) fn read(&self, unit: f64) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 * unit).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip((0..).map(|place| self.counts.sum(place))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (self.counts.sum(self.bounds.len() + 1) as f64 * unit, count, buckets)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nothing_that_many_threads_count_is_lost() {
        let histogram = Arc::new(Histogram::new(&[0, 10, 100]));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let histogram = Arc::clone(&histogram);
                std::thread::spawn(move || (0..=200).for_each(|value| histogram.observe(value)))
            })
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
        let (sum, count, buckets) = histogram.read(0.5);
        assert_eq!((sum, count), (8.0 * 100.0 * 201.0 * 0.5, 8 * 201));
        assert_eq!(buckets, [(0.0, 8), (5.0, 80), (50.0, 720), (f64::INFINITY, 800)]);
    }
}
