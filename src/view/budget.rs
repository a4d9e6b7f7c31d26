//! Budgets of bytes, and their refusals.
//!
//! A budget counts bytes that requests under way hold. Requests for more wait in line, so a large one is not overtaken
//! for ever. A body that is larger than its budget is admitted alone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long a request waits for bytes before it is refused.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time over which refusals count as recent.
const RECENT: Duration = Duration::from_secs(10);

/// About how many refused clients come back in a second.
const RETRIES_PER_SECOND: f64 = 50.0;

/// The range of the longest `Retry-After`, in seconds.
const MIN_RETRY_S: f64 = 3.0;
const MAX_RETRY_S: f64 = 60.0;

/// The time until which a request that begins now waits for bytes.
pub(crate) fn queue_deadline() -> Instant {
    Instant::now() + QUEUE_TIMEOUT
}

/// The refusals of a limit.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    total: AtomicU64,
    recent: Mutex<Recent>,
}

/// A number of refusals that decays with time.
#[derive(Debug, Default)]
struct Recent {
    count: f64,
    /// The time of the last refusal.
    at: Option<Instant>,
}

impl Refusals {
    /// Counts a refusal. Returns after how many seconds the client may come back: the more clients were refused lately,
    /// the later. It is random, so that they do not all come back at the same moment.
    pub(crate) fn count(&self) -> u64 {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut recent = self.recent.lock();
        let now = Instant::now();
        let age = recent.at.replace(now).map_or(Duration::ZERO, |at| now - at);
        recent.count = recent.count * (-age.as_secs_f64() / RECENT.as_secs_f64()).exp() + 1.0;
        let longest = (MIN_RETRY_S + recent.count / RETRIES_PER_SECOND).min(MAX_RETRY_S);
        fastrand::u64(1..=longest as u64)
    }

    /// Whether there was a refusal within this time.
    pub(crate) fn happened_within(&self, time: Duration) -> bool {
        self.recent.lock().at.is_some_and(|at| at.elapsed() < time)
    }

    /// Counts a refusal that says itself when the client may come back.
    pub(crate) fn note(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.recent.lock().at = Some(Instant::now());
    }

    /// All refusals since the start.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// A budget stayed full.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{max} bytes of {what}")]
pub struct OverBudget {
    max: u64,
    what: &'static str,
    /// After how many seconds the client may come back.
    pub retry_after_s: u64,
}

/// A budget of bytes. Clones share it.
#[derive(Clone)]
pub(crate) struct ByteBudget(Arc<State>);

struct State {
    max: u64,
    /// The use of the bytes and the flag that sets the limit, for the refusal.
    what: &'static str,
    refusals: Arc<Refusals>,
    held: Mutex<u64>,
    /// Notified when bytes are returned.
    returned: Notify,
    /// Locked by the request that is first in line.
    line: tokio::sync::Mutex<()>,
}

impl ByteBudget {
    /// A budget of at most `max` bytes. `what` is the use of the bytes and the flag that sets the limit.
    pub(crate) fn new(max: u64, what: &'static str, refusals: Arc<Refusals>) -> Self {
        let (held, returned, line) = (Mutex::new(0), Notify::new(), tokio::sync::Mutex::new(()));
        Self(Arc::new(State { max, what, refusals, held, returned, line }))
    }

    /// The bytes that are held.
    pub(crate) fn held(&self) -> u64 {
        *self.0.held.lock()
    }

    /// The bytes, if there is room for them and no other request waits.
    pub(super) fn try_reserve(&self, bytes: u64) -> Option<Reserved> {
        let _first = self.0.line.try_lock().ok()?;
        let mut reserved = self.nothing();
        reserved.try_grow(bytes).then_some(reserved)
    }

    /// Reserves bytes; waits for others to be returned.
    ///
    /// # Errors
    /// [`OverBudget`] at the deadline.
    pub(crate) async fn reserve(&self, bytes: u64, deadline: Instant) -> Result<Reserved, OverBudget> {
        let mut reserved = self.nothing();
        reserved.grow(bytes, deadline).await.map(|()| reserved)
    }

    /// The refusal of a request, which is counted.
    pub(super) fn refusal(&self) -> OverBudget {
        OverBudget { max: self.0.max, what: self.0.what, retry_after_s: self.0.refusals.count() }
    }

    /// A reservation of no bytes.
    pub(crate) fn nothing(&self) -> Reserved {
        Reserved { budget: self.clone(), bytes: 0 }
    }

    /// Returns bytes.
    pub(super) fn give_back(&self, bytes: u64) {
        *self.0.held.lock() -= bytes;
        // Only the request that is first in line waits for it.
        self.0.returned.notify_waiters();
    }
}

/// Bytes of a budget, returned on drop.
pub(crate) struct Reserved {
    budget: ByteBudget,
    bytes: u64,
}

impl Reserved {
    /// Grows to this many bytes; waits for others to be returned.
    ///
    /// # Errors
    /// [`OverBudget`] at the deadline.
    pub(crate) async fn grow(&mut self, bytes: u64, deadline: Instant) -> Result<(), OverBudget> {
        // What is reserved already does not wait in line.
        if bytes <= self.bytes {
            return Ok(());
        }
        let state = Arc::clone(&self.budget.0);
        let admitted = async {
            let _first = state.line.lock().await;
            loop {
                let mut returned = std::pin::pin!(state.returned.notified());
                // Registered before the check, so that nothing is missed between the two.
                returned.as_mut().enable();
                if self.try_grow(bytes) {
                    return;
                }
                returned.await;
            }
        };
        timeout_at(deadline, admitted).await.map_err(|_| self.budget.refusal())
    }

    fn try_grow(&mut self, bytes: u64) -> bool {
        let mut held = self.budget.0.held.lock();
        let others = *held - self.bytes;
        let has_room = others == 0 || others + bytes <= self.budget.0.max;
        if has_room {
            *held = others + bytes;
            self.bytes = bytes;
        }
        has_room
    }

    /// Changes it to the actual size, without waiting: the bytes exist already.
    pub(super) fn settle(&mut self, bytes: u64) {
        *self.budget.0.held.lock() += bytes;
        self.budget.give_back(std::mem::replace(&mut self.bytes, bytes));
    }

    /// Moves this many bytes to another reservation; what this one lacks is counted too.
    pub(super) fn split(&mut self, bytes: u64) -> Self {
        let lacking = bytes.saturating_sub(self.bytes);
        *self.budget.0.held.lock() += lacking;
        self.bytes = (self.bytes + lacking) - bytes;
        Self { budget: self.budget.clone(), bytes }
    }

    /// Leaves this many bytes in the budget, which somebody else returns.
    pub(super) fn leave(mut self, bytes: u64) -> ByteBudget {
        self.settle(bytes);
        self.bytes = 0;
        self.budget.clone()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    fn budget(max: u64) -> ByteBudget {
        ByteBudget::new(max, "bytes are held", Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_bytes_in_line_and_is_refused_at_its_deadline() {
        let budget = budget(100);
        let held = budget.reserve(80, queue_deadline()).await.unwrap();
        let large = tokio::spawn({
            let budget = budget.clone();
            async move { budget.reserve(90, queue_deadline()).await }
        });
        tokio::task::yield_now().await;
        assert!(budget.try_reserve(1).is_none(), "nobody overtakes");
        drop(held);
        let large = large.await.unwrap().unwrap();
        assert_eq!(budget.held(), 90);
        assert!(budget.reserve(11, queue_deadline()).await.is_err());
        assert_eq!(budget.0.refusals.total(), 1);
        assert!(budget.try_reserve(10).is_some());
        drop(large);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_request_keeps_nobody_waiting() {
        let budget = budget(100);
        let _held = budget.reserve(50, queue_deadline()).await.unwrap();
        let large = tokio::spawn({
            let budget = budget.clone();
            async move { budget.reserve(90, queue_deadline()).await }
        });
        tokio::task::yield_now().await;
        large.abort();
        assert!(large.await.is_err());
        assert!(budget.try_reserve(50).is_some());
    }

    #[tokio::test]
    async fn a_body_larger_than_the_budget_is_admitted_alone() {
        let budget = budget(100);
        let mut large = budget.try_reserve(1000).unwrap();
        assert!(budget.try_reserve(1).is_none());
        large.settle(60);
        assert!(budget.try_reserve(40).is_some() && budget.try_reserve(41).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_more_are_refused_the_later_they_come_back_until_it_is_over() {
        let refusals = Refusals::default();
        let longest = |number: u32| (0..number).map(|_| refusals.count()).max().unwrap();
        assert!(longest(40) <= 3);
        assert!((20..=60).contains(&longest(3000)));
        assert_eq!(longest(5000), 60);
        tokio::time::advance(Duration::from_secs(120)).await;
        assert!(longest(40) <= 3);
        assert_eq!(refusals.total(), 8080);
    }
}
