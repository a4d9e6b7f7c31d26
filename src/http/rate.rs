//! The rate of a client's requests: a token bucket for each client.
//!
//! A bucket is one number, the time at which it is full again. A request moves it by the time that a request takes at the
//! allowed rate. It is refused when the bucket would then take longer to fill than an empty one. So a request costs one
//! atomic operation, no lock and no timer, and a bucket that is full is as good as a new one.
//!
//! Each refused request is told a time of its own, in the order in which the bucket has room for them. So clients behind
//! one address do not all come back for the same place.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The time whose requests a full bucket holds.
const BURST: Duration = Duration::from_secs(5);

/// The least requests that a full bucket holds: a client may begin with several.
const MIN_BURST: u64 = 10;

/// The most requests within the time of a rate.
const MAX_REQUESTS: u32 = 1_000_000;

/// The longest time after which a refused client is told to come back.
const MAX_RETRY: Duration = Duration::from_secs(60);

/// A rate of requests, such as `10/s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    requests: u32,
    per: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Second,
    Minute,
    Hour,
}

/// A text that is not a rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no rate: write it as 10/s, 30/m or 600/h, with 1 to {MAX_REQUESTS} requests")]
pub struct RateError;

impl Unit {
    fn time(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 60 * 60,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (requests, unit) = text.split_once('/').ok_or(RateError)?;
        let units = [Unit::Second, Unit::Minute, Unit::Hour];
        let per = units.into_iter().find(|per| per.as_str() == unit.trim()).ok_or(RateError)?;
        let requests: u32 = requests.trim().parse().map_err(|_| RateError)?;
        (1..=MAX_REQUESTS).contains(&requests).then_some(Self { requests, per }).ok_or(RateError)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.requests, self.per.as_str())
    }
}

impl Rate {
    /// The requests in its time.
    pub(super) fn requests(self) -> u32 {
        self.requests
    }

    /// The requests of a second.
    pub(super) fn per_second(self) -> f64 {
        f64::from(self.requests) / self.per.time().as_secs_f64()
    }
}

/// The size of buckets, in nanoseconds.
#[derive(Debug)]
pub(super) struct BucketSize {
    /// All times count from here.
    start: Instant,
    /// The time in which room for one request comes back.
    request: u64,
    /// The time in which an empty bucket is full again.
    whole: u64,
}

impl BucketSize {
    pub(super) fn new(rate: Rate) -> Self {
        let request = nanos(rate.per.time()) / u64::from(rate.requests);
        let whole = nanos(BURST).max(request * MIN_BURST);
        Self { start: Instant::now(), request, whole }
    }
}

/// A client's bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// When it is full.
    full_at: AtomicU64,
    /// The time that was told to the last refused request.
    told: AtomicU64,
}

impl Bucket {
    /// Takes room for a request out of the bucket.
    ///
    /// # Errors
    /// The time after which there is room for it.
    pub(super) fn take(&self, size: &BucketSize, now: Instant) -> Result<(), Duration> {
        let now = since(size, now);
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = full_at.max(now) + size.request;
            (full_at <= now + size.whole).then_some(full_at)
        });
        let Err(full_at) = taken else { return Ok(()) };
        let room_at = full_at + size.request - size.whole;
        let most = now + nanos(MAX_RETRY).max(size.request);
        let next = |told: u64| (told + size.request).max(room_at).min(most);
        let told = self.told.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |told| Some(next(told)));
        Err(Duration::from_nanos(next(told.unwrap_or_default()) - now))
    }

    /// Whether it is as good as a new one.
    pub(super) fn is_full(&self, size: &BucketSize, now: Instant) -> bool {
        self.full_at.load(Ordering::Relaxed) <= since(size, now)
    }
}

fn since(size: &BucketSize, now: Instant) -> u64 {
    nanos(now.saturating_duration_since(size.start))
}

/// A process does not run for the 500 years after which it would overflow.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    fn size(rate: &str) -> BucketSize {
        BucketSize::new(rate.parse().unwrap())
    }

    #[test]
    fn a_rate_is_a_number_and_a_unit() {
        for (text, per_second) in [("10/s", 10.0), ("30/m", 0.5), (" 7200 / h", 2.0)] {
            assert_eq!(text.parse::<Rate>().unwrap().per_second(), per_second, "{text}");
        }
        assert_eq!("30/m".parse::<Rate>().unwrap().to_string(), "30/m");
        for text in ["", "10", "/s", "10/", "0/s", "-1/s", "1.5/s", "10/d", "1000001/s", "10/s/s"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError), "{text}");
        }
    }

    #[test]
    fn a_client_has_its_burst_and_then_its_rate_and_may_come_when_it_was_told() {
        let size = size("20/s");
        let bucket = Bucket::default();
        let mut now = Instant::now();
        for n in 0..100 {
            assert!(bucket.take(&size, now).is_ok(), "{n} of the burst");
        }
        // A request a time that it was told to wait.
        for n in 0..50 {
            let wait = bucket.take(&size, now).unwrap_err();
            assert!(wait <= Duration::from_millis(50), "{n}: {wait:?}");
            now += wait;
            assert!(bucket.take(&size, now).is_ok(), "{n}");
        }
        assert!(!bucket.is_full(&size, now));
        now += BURST;
        assert!(bucket.is_full(&size, now));
    }

    #[test]
    fn each_refused_request_is_told_a_time_of_its_own() {
        let (size, bucket, now) = (size("10/s"), Bucket::default(), Instant::now());
        while bucket.take(&size, now).is_ok() {}
        // The one that ended the loop was told the first time.
        let waits: Vec<Duration> = (0..20).map(|_| bucket.take(&size, now).unwrap_err()).collect();
        for (n, wait) in waits.iter().enumerate() {
            assert_eq!(wait.as_millis(), 100 * (n as u128 + 2));
        }
        for wait in waits {
            assert!(bucket.take(&size, now + wait).is_ok(), "{wait:?}");
        }
        for _ in 0..10_000 {
            _ = bucket.take(&size, now + Duration::from_secs(2));
        }
        assert!(bucket.take(&size, now + Duration::from_secs(2)).unwrap_err() <= MAX_RETRY);
    }

    #[test]
    fn a_slow_rate_has_a_few_requests_at_once() {
        let (size, bucket, now) = (size("6/m"), Bucket::default(), Instant::now());
        let taken = (0..20).filter(|_| bucket.take(&size, now).is_ok()).count();
        assert_eq!(taken as u64, MIN_BURST);
        assert!(bucket.take(&size, now + Duration::from_secs(10)).is_ok());
    }
}
