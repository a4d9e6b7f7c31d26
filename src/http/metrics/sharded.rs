//! Sharded counters.
//!
//! All cores count thousands of answers per second. They would compete for the cache line of a single counter, and more
//! so for a lock. So each thread counts in a shard of its own, and a scrape adds the shards up.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The largest number of shards; more threads share them.
const MAX_SHARDS: usize = 32;

/// A shard is a multiple of this many counters: whole cache lines, so that two shards share none.
const LINE: usize = 16;

thread_local! {
    /// The number of this thread, once it has counted.
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

/// A histogram of integers.
pub(super) struct Histogram {
    /// The upper bounds of the buckets, in order.
    bounds: &'static [u64],
    /// A counter for each bucket, one for larger values, and the sum of all values.
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

    /// The sum of all values, their number, and the number in each bucket with its bound. Values are divided by
    /// `divisor`: a tenth of a second is then 0.1, which the product of its microseconds is not.
    pub(super) fn read(&self, divisor: f64) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / divisor).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip((0..).map(|place| self.counts.sum(place))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        (self.counts.sum(self.bounds.len() + 1) as f64 / divisor, count, buckets)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn no_count_of_many_threads_is_lost() {
        let histogram = Arc::new(Histogram::new(&[0, 10, 100]));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let histogram = Arc::clone(&histogram);
                std::thread::spawn(move || (0..=200).for_each(|value| histogram.observe(value)))
            })
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
        let (sum, count, buckets) = histogram.read(2.0);
        assert_eq!((sum, count), (8.0 * 100.0 * 201.0 * 0.5, 8 * 201));
        assert_eq!(buckets, [(0.0, 8), (5.0, 80), (50.0, 720), (f64::INFINITY, 800)]);
    }
}
