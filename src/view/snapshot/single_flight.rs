//! Single flight: concurrent requests for the same snapshot share one body.
//!
//! A request locks the flight of its key. If the flight has no body that is new enough, the holder of the lock encodes
//! one from the newest state; the others wait. A body that was begun before a request may lack the client's own writes,
//! so that request waits for the next body, which it shares with all requests until then. However many requests there
//! are and however fast the state changes, a flight encodes one body at a time, and each costs only the changes since
//! the previous one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::OwnedMutexGuard;

use crate::model::{Cursor, Sequence};
use crate::view::{Answer, Format, KeySelector};

/// The largest number of flights; the least used ones make room.
const MAX_FLIGHTS: usize = 1024;

/// A flight that was not used for this long is dropped with its body.
const FLIGHT_IDLE: Duration = Duration::from_secs(10);

/// A snapshot's identity.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct SnapshotKey {
    /// A kept breadcrumb and the requested cursor; `None` for the newest state.
    pub(super) kept: Option<(Sequence, Cursor)>,
    pub(super) keys: KeySelector,
    pub(super) format: Format,
}

pub(super) struct SingleFlight {
    flights: Cache<SnapshotKey, Arc<Shared>>,
    /// The bytes that only cached bodies hold.
    unshared_bytes: Arc<AtomicU64>,
}

struct Shared {
    flight: Arc<tokio::sync::Mutex<Flight>>,
    used: Mutex<Instant>,
}

/// The last body of a flight.
#[derive(Default)]
pub(super) struct Flight(Option<(Answer, Charge)>);

/// The bytes of one body, counted against the limit.
struct Charge {
    bytes: u64,
    total: Arc<AtomicU64>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl SingleFlight {
    pub(super) fn new() -> Self {
        Self { flights: Cache::new(MAX_FLIGHTS), unshared_bytes: Arc::default() }
    }

    /// Locks the flight of this key. The guard moves to the thread that encodes the body, so that a cancelled request
    /// does not start the same work a second time.
    pub(super) async fn lock(&self, key: &SnapshotKey) -> OwnedMutexGuard<Flight> {
        let new = || -> Result<_, std::convert::Infallible> {
            Ok(Arc::new(Shared { flight: Arc::default(), used: Mutex::new(Instant::now()) }))
        };
        let shared = match self.flights.get_or_insert_with(key, new) {
            Ok(shared) => shared,
            Err(never) => match never {},
        };
        *shared.used.lock() = Instant::now();
        Arc::clone(&shared.flight).lock_owned().await
    }

    /// The bytes that only cached bodies hold, and no page.
    pub(super) fn unshared_bytes(&self) -> u64 {
        self.unshared_bytes.load(Ordering::Relaxed)
    }

    /// Caches a body for later requests, unless these bytes of cached bodies would be more than the limit.
    pub(super) fn store(&self, flight: &mut Flight, answer: Answer, unshared_bytes: u64, max: u64) {
        flight.0 = None;
        let total = Arc::clone(&self.unshared_bytes);
        total.fetch_add(unshared_bytes, Ordering::Relaxed);
        let charge = Charge { bytes: unshared_bytes, total };
        if self.unshared_bytes() <= max {
            flight.0 = Some((answer, charge));
        }
    }

    /// Drops bodies of states that are no longer the newest, and unused flights.
    pub(super) fn evict_stale(&self, newest: Sequence) {
        self.flights.retain(|key, shared| {
            let Ok(mut flight) = shared.flight.try_lock() else { return true };
            if key.kept.is_none() && flight.body_since(newest).is_none() {
                flight.0 = None;
            }
            shared.used.lock().elapsed() < FLIGHT_IDLE
        });
    }

    /// Drops the bodies of this format.
    pub(super) fn evict_format(&self, format: Format) {
        for (_, shared) in self.flights.iter().filter(|(key, _)| key.format == format) {
            if let Ok(mut flight) = shared.flight.try_lock() {
                flight.0 = None;
            }
        }
    }

    /// How many bodies are cached.
    pub(super) fn cached_bodies(&self) -> usize {
        let has_body = |shared: &Shared| shared.flight.try_lock().is_ok_and(|flight| flight.0.is_some());
        self.flights.iter().filter(|(_, shared)| has_body(shared)).count()
    }

    pub(super) fn clear(&self) {
        self.flights.clear();
    }
}

impl Flight {
    /// The body, if it is at this breadcrumb or a newer one.
    pub(super) fn body_since(&self, oldest: Sequence) -> Option<&Answer> {
        self.0.as_ref().map(|(answer, _)| answer).filter(|answer| answer.sequence >= oldest)
    }
}
