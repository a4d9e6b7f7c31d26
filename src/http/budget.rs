//! What may be under way at once: connections, waiters, bytes of snapshots. What is over a budget is
//! refused with a 503 and a time to come back, different for each, so that the others are served well.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::rep::problem::Problem;
use crate::http::rep::reply::{Reply, framed};
use crate::view::{Breadcrumb, KeySelector};

/// How long one may wait for others to be done before it is refused.
const WAIT: Duration = Duration::from_secs(5);

/// Bytes are counted in units of this.
const UNIT: u64 = 1024;

/// About how many bytes a record takes beside key and value.
const RECORD_BYTES: u64 = 64;

/// How much may be under way at once.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections.
    pub max_connections: usize,
    /// Requests that wait for a breadcrumb.
    pub max_waiters: usize,
    /// Bytes of snapshots that are being written. One that is larger is served alone.
    pub max_snapshot_bytes: u64,
    /// Bytes of request bodies that are being received or applied. One that is larger is taken alone.
    pub max_upload_bytes: u64,
}

/// The budgets and what is left of them. Clones share them.
#[derive(Clone)]
pub(super) struct Budgets {
    limits: Arc<Limits>,
    waiters: Arc<AtomicUsize>,
    connections: Arc<Semaphore>,
    snapshots: ByteBudget,
    uploads: ByteBudget,
    large_writes: Arc<Semaphore>,
}

impl Budgets {
    pub(super) fn new(limits: Limits) -> Self {
        let permits = |number: usize| Arc::new(Semaphore::new(number.min(Semaphore::MAX_PERMITS)));
        Self {
            waiters: Arc::default(),
            connections: permits(limits.max_connections),
            snapshots: ByteBudget::new(
                limits.max_snapshot_bytes,
                "snapshots are being written already (--max-snapshot-bytes)",
            ),
            large_writes: permits(1),
            uploads: ByteBudget::new(
                limits.max_upload_bytes,
                "request bodies are on their way already (--max-upload-bytes)",
            ),
            limits: Arc::new(limits),
        }
    }

    /// Counts the caller as a waiter until the guard is dropped.
    pub(super) fn waiter(&self) -> Result<Waiter<&AtomicUsize>, Problem> {
        self.count(&self.waiters)
    }

    /// The same for a waiter that goes on after its handler is done.
    pub(super) fn stream(&self) -> Result<Waiter<Arc<AtomicUsize>>, Problem> {
        self.count(Arc::clone(&self.waiters))
    }

    fn count<C: Deref<Target = AtomicUsize>>(&self, waiters: C) -> Result<Waiter<C>, Problem> {
        let before = waiters.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter(waiters);
        if before < self.limits.max_waiters {
            return Ok(waiter);
        }
        let max = self.limits.max_waiters;
        Err(over_budget(format!("{max} requests wait for a breadcrumb already (--max-waiters)")))
    }

    /// How many requests are waiting for a breadcrumb.
    pub(super) fn waiters(&self) -> usize {
        self.waiters.load(Ordering::Relaxed)
    }

    /// Room for one more connection, if there is any.
    pub(super) fn connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    /// How many connections are open.
    pub(super) fn connections(&self) -> usize {
        self.limits.max_connections.saturating_sub(self.connections.available_permits())
    }

    /// The refusal of a connection that there is no room for.
    pub(super) fn no_connection(&self) -> Problem {
        let max = self.limits.max_connections;
        over_budget(format!("{max} connections are open already (--max-connections)"))
    }

    /// Room for a body of about so many bytes; waits a little for others to be written.
    pub(super) async fn snapshot(&self, bytes: u64) -> Result<Room, Problem> {
        self.snapshots.take(bytes).await
    }

    /// The same for the size that the body turned out to have.
    pub(super) async fn fit(&self, mut held: Room, bytes: u64) -> Result<Room, Problem> {
        let (has, wanted) = (held.0.num_permits(), self.snapshots.wanted(bytes) as usize);
        if wanted < has {
            drop(held.0.split(has - wanted));
        }
        self.snapshots.grow(held, bytes).await
    }

    /// Room for a request body of so many bytes, or of more that it has not said yet.
    pub(super) async fn upload(&self, bytes: u64) -> Result<Room, Problem> {
        self.uploads.take(bytes).await
    }

    /// The same for one that has grown to so many bytes.
    pub(super) async fn more_upload(&self, held: Room, bytes: u64) -> Result<Room, Problem> {
        self.uploads.grow(held, bytes).await
    }

    /// The turn of a large write: what it is parsed into may be several times as large as its body, and all writes are
    /// applied one after the other anyway.
    pub(super) async fn large_write(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.large_writes).acquire_owned().await.ok()
    }

    /// Bytes of snapshots that are being written.
    pub(super) fn snapshot_bytes(&self) -> u64 {
        let left = self.snapshots.left.available_permits() as u64 * UNIT;
        self.limits.max_snapshot_bytes.saturating_sub(left)
    }
}

/// Bytes of bodies that may be held at a time.
#[derive(Clone)]
struct ByteBudget {
    left: Arc<Semaphore>,
    max: u64,
    /// What there is so much of when it is full, and the flag.
    full: &'static str,
}

impl ByteBudget {
    fn new(max: u64, full: &'static str) -> Self {
        let permits = (units(max) as usize).min(Semaphore::MAX_PERMITS);
        Self { left: Arc::new(Semaphore::new(permits)), max, full }
    }

    async fn take(&self, bytes: u64) -> Result<Room, Problem> {
        self.permits(self.wanted(bytes)).await.map(Room)
    }

    /// More room where it is not enough for so many bytes.
    async fn grow(&self, mut held: Room, bytes: u64) -> Result<Room, Problem> {
        let has = u32::try_from(held.0.num_permits()).unwrap_or(u32::MAX);
        let more = self.wanted(bytes).saturating_sub(has);
        if more > 0 {
            held.0.merge(self.permits(more).await?);
        }
        Ok(held)
    }

    /// One that is larger than the whole budget has it for itself.
    fn wanted(&self, bytes: u64) -> u32 {
        units(bytes).min(units(self.max))
    }

    async fn permits(&self, wanted: u32) -> Result<OwnedSemaphorePermit, Problem> {
        match tokio::time::timeout(WAIT, Arc::clone(&self.left).acquire_many_owned(wanted)).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed; both are "no room".
            Ok(Err(_)) | Err(_) => Err(over_budget(format!("{} bytes of {}", self.max, self.full))),
        }
    }
}

/// At least one: also the smallest body has its place in the queue.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1)
}

fn over_budget(detail: String) -> Problem {
    Problem::unavailable("over-budget", format!("{detail}; come back later or ask another replica"))
}

/// About how large the body of this state will be. One of a part of the keys is mostly small, and is
/// counted once its size is known.
pub(super) fn expected(newest: &Breadcrumb, keys: &KeySelector) -> u64 {
    let state = newest.kvs();
    if !keys.is_all() { 0 } else { state.payload_bytes() + RECORD_BYTES * state.len() as u64 }
}

/// About how large a page of so many entries of this state will be, where they are like the others.
pub(super) fn expected_page(newest: &Breadcrumb, limit: usize) -> u64 {
    let keys = newest.kvs().len().max(1) as u64;
    let entry = newest.kvs().payload_bytes() / keys + RECORD_BYTES;
    entry * keys.min(limit as u64)
}

/// See [`Budgets::waiter`].
pub(super) struct Waiter<C: Deref<Target = AtomicUsize>>(C);

impl<C: Deref<Target = AtomicUsize>> Drop for Waiter<C> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Room for a body, for as long as it is held.
#[derive(Debug)]
pub(super) struct Room(OwnedSemaphorePermit);

/// A response that takes its room along: whoever writes it gives it back when it is written.
pub(super) fn held(reply: Reply, permit: Room) -> Response {
    let mut response = framed(reply);
    response.extensions_mut().insert(Arc::new(permit));
    response
}
