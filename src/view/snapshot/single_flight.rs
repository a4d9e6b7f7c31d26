//! One body for all who ask for the same at the same time.
//!
//! Who asks takes the flight of what is asked for. Who holds the flight and finds no body in it that is
//! new enough prepares one of the newest state; the others wait. A body that was begun before a
//! request came may lack what the client has written since, so it is not for that request: it
//! waits for the next one, and shares it with all who have come until then. However many ask and
//! however fast the state changes, there is one preparation at a time in a flight, and each costs only
//! what has changed since the one before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::OwnedMutexGuard;

use crate::model::{Cursor, Sequence};
use crate::view::{Answer, Format, KeySelector};

/// SingleFlight at a time; beyond, those that were used least make room.
const MAX_FLIGHTS: usize = 1024;

/// A flight that nobody has used for so long is forgotten, its body with it.
const FLIGHT_IDLE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Wanted {
    /// A kept breadcrumb, and the cursor by which it was asked for; none for the newest state.
    pub(super) kept: Option<(Sequence, Cursor)>,
    pub(super) keys: KeySelector,
    pub(super) format: Format,
}

pub(super) struct SingleFlight {
    flights: Cache<Wanted, Arc<Flight>>,
    /// Bytes that only bodies in flights hold, and how many there may be.
    own_bytes: Arc<AtomicU64>,
    max_own_bytes: u64,
}

struct Flight {
    made: Arc<tokio::sync::Mutex<Made>>,
    used: Mutex<Instant>,
}

/// The last body of a flight.
#[derive(Default)]
pub(super) struct Made(Option<(Answer, Charge)>);

/// Bytes of the bound that are taken.
struct Charge {
    bytes: u64,
    all: Arc<AtomicU64>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl SingleFlight {
    /// SingleFlight whose bodies hold at most so many bytes that nobody shares.
    pub(super) fn new(max_own_bytes: u64) -> Self {
        Self { flights: Cache::new(MAX_FLIGHTS), own_bytes: Arc::default(), max_own_bytes }
    }

    /// Waits for the flight. Whoever prepares takes it along to where the work is done, so that a
    /// request that goes away does not make the next one do the same work beside it.
    pub(super) async fn enter(&self, wanted: &Wanted) -> OwnedMutexGuard<Made> {
        let new = || -> Result<_, std::convert::Infallible> {
            Ok(Arc::new(Flight { made: Arc::default(), used: Mutex::new(Instant::now()) }))
        };
        let flight = match self.flights.get_or_insert_with(wanted, new) {
            Ok(flight) => flight,
            Err(never) => match never {},
        };
        *flight.used.lock() = Instant::now();
        Arc::clone(&flight.made).lock_owned().await
    }

    /// Leaves a body for those who follow, unless bodies hold too much already.
    pub(super) fn leave(&self, made: &mut Made, answer: &Answer, own_bytes: u64) {
        made.0 = None;
        let all = Arc::clone(&self.own_bytes);
        all.fetch_add(own_bytes, Ordering::Relaxed);
        let charge = Charge { bytes: own_bytes, all };
        if self.own_bytes.load(Ordering::Relaxed) <= self.max_own_bytes {
            made.0 = Some((answer.clone(), charge));
        }
    }

    /// Lets go of bodies of states that are not the newest any more, and of flights that are not used.
    pub(super) fn evict_stale(&self, newest: Sequence) {
        self.flights.retain(|wanted, flight| {
            let Ok(mut made) = flight.made.try_lock() else { return true };
            if wanted.kept.is_none() && made.since(newest).is_none() {
                made.0 = None;
            }
            flight.used.lock().elapsed() < FLIGHT_IDLE
        });
    }

    /// How many bodies are kept for those who follow.
    pub(super) fn kept(&self) -> usize {
        let is_there = |flight: &Flight| flight.made.try_lock().is_ok_and(|made| made.0.is_some());
        self.flights.iter().filter(|(_, flight)| is_there(flight)).count()
    }

    pub(super) fn clear(&self) {
        self.flights.clear();
    }
}

impl Made {
    /// The body, if it is as new as this breadcrumb.
    pub(super) fn since(&self, oldest: Sequence) -> Option<&Answer> {
        self.0.as_ref().map(|(answer, _)| answer).filter(|answer| answer.sequence >= oldest)
    }
}
