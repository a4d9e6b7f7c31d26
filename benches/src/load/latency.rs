//! Latencies of millions of events in 30 KB, recorded by any number of threads.
//!
//! A histogram whose buckets grow with the value: 64 for every doubling, so that a percentile is at most
//! 1.6 % too high, from nanoseconds to centuries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Buckets for every doubling, as a power of two.
const BITS: u32 = 6;
const BUCKETS: usize = ((64 - BITS as usize) + 1) << BITS;

/// Recorded durations.
#[derive(Debug)]
pub struct Latencies {
    buckets: Box<[AtomicU64]>,
    max: AtomicU64,
}

/// What is read from them, in milliseconds. All zero when nothing was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Recorded events.
    pub count: u64,
    /// Half of them took at most this long.
    pub p50_ms: f64,
    /// Nine of ten.
    pub p90_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        let buckets = std::iter::repeat_with(AtomicU64::default).take(BUCKETS).collect();
        Self { buckets, max: AtomicU64::new(0) }
    }
}

impl Latencies {
    /// Records one.
    pub fn record(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        self.max.fetch_max(ns, Ordering::Relaxed);
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
        self.max.store(0, Ordering::Relaxed);
    }

    /// What was recorded so far.
    pub fn percentiles(&self) -> Percentiles {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max = self.max.load(Ordering::Relaxed);
        let at = |per_cent: u64| {
            let rank = (count * per_cent).div_ceil(100).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|n| {
                seen += n;
                seen >= rank
            });
            millis(found.map_or(0, |found| upper_bound(found).min(max)))
        };
        Percentiles { count, p50_ms: at(50), p90_ms: at(90), p99_ms: at(99), max_ms: millis(max) }
    }
}

/// Values below 64 have a bucket each; above, the six bits after the highest one choose.
fn bucket(ns: u64) -> usize {
    let exponent = (63 - (ns | 1).leading_zeros()).max(BITS) - BITS;
    let within = ns >> exponent;
    if ns < 1 << BITS { ns as usize } else { (exponent as usize + 1) << BITS | (within as usize & 63) }
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (group, within) = (bucket >> BITS, (bucket & 63) as u64);
    match group {
        0 => within,
        _ => ((64 + within) << (group - 1)).saturating_add((1 << (group - 1)) - 1),
    }
}

fn millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_near() {
        for ns in (0..100_000).chain([u64::MAX, u64::MAX / 3, 1 << 40]) {
            let top = upper_bound(bucket(ns));
            assert!(top >= ns && top - ns <= ns / 64, "{ns} is in the bucket up to {top}");
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), Percentiles::default());
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let found = latencies.percentiles();
        assert_eq!((found.count, found.max_ms), (1000, 1000.0));
        for (value, expected) in [(found.p50_ms, 500.0), (found.p90_ms, 900.0), (found.p99_ms, 990.0)] {
            assert!((value / expected - 1.0).abs() < 0.017, "{value} is not about {expected}");
        }
        latencies.clear();
        assert_eq!(latencies.percentiles(), Percentiles::default());
    }
}
