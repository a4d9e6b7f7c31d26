//! Budgets of connections, waiters and bytes in flight. A request over a budget gets a 503 with a random `Retry-After`.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::rep::problem::Problem;
use crate::http::rep::reply::{Reply, into_response};
use crate::view::{Breadcrumb, KeySelector};

/// How long a body waits for bytes before it is refused.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes are counted in units of this size.
const UNIT_BYTES: u64 = 1024;

/// About how many bytes a record takes beside key and value.
const RECORD_BYTES: u64 = 64;

/// The sizes of the budgets.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections.
    pub max_connections: usize,
    /// Requests that wait for a breadcrumb.
    pub max_waiters: usize,
    /// Bytes of snapshots that are being sent. A larger snapshot is sent alone.
    pub max_snapshot_bytes: u64,
    /// Bytes of request bodies that are being received or applied. A larger body is received alone.
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
                "snapshots are being sent (--max-snapshot-bytes)",
            ),
            large_writes: permits(1),
            uploads: ByteBudget::new(
                limits.max_upload_bytes,
                "request bodies are being received (--max-upload-bytes)",
            ),
            limits: Arc::new(limits),
        }
    }

    /// Counts the caller as a waiter until the guard is dropped.
    pub(super) fn waiter(&self) -> Result<WaiterGuard<&AtomicUsize>, Problem> {
        self.count(&self.waiters)
    }

    /// Counts a stream as a waiter. Its guard may outlive the handler.
    pub(super) fn stream(&self) -> Result<WaiterGuard<Arc<AtomicUsize>>, Problem> {
        self.count(Arc::clone(&self.waiters))
    }

    fn count<C: Deref<Target = AtomicUsize>>(&self, waiters: C) -> Result<WaiterGuard<C>, Problem> {
        let before = waiters.fetch_add(1, Ordering::Relaxed);
        let waiter = WaiterGuard(waiters);
        if before < self.limits.max_waiters {
            return Ok(waiter);
        }
        let max = self.limits.max_waiters;
        Err(over_budget(format!("{max} requests are waiting for a breadcrumb (--max-waiters)")))
    }

    /// How many requests are waiting for a breadcrumb.
    pub(super) fn waiters(&self) -> usize {
        self.waiters.load(Ordering::Relaxed)
    }

    /// A permit for one more connection, if there is one.
    pub(super) fn connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    /// How many connections are open.
    pub(super) fn connections(&self) -> usize {
        self.limits.max_connections.saturating_sub(self.connections.available_permits())
    }

    /// The refusal of a connection over the budget.
    pub(super) fn too_many_connections(&self) -> Problem {
        let max = self.limits.max_connections;
        over_budget(format!("{max} connections are open (--max-connections)"))
    }

    /// Reserves about this many bytes for a snapshot; waits for other snapshots to be sent.
    pub(super) async fn snapshot(&self, bytes: u64) -> Result<ReservedBytes, Problem> {
        self.snapshots.reserve(bytes).await
    }

    /// Changes the reservation to the body's actual size.
    pub(super) async fn resize_snapshot(
        &self,
        mut reserved: ReservedBytes,
        bytes: u64,
    ) -> Result<ReservedBytes, Problem> {
        let (has, needs) = (reserved.0.num_permits(), self.snapshots.units_of(bytes) as usize);
        if needs < has {
            drop(reserved.0.split(has - needs));
        }
        self.snapshots.grow(reserved, bytes).await
    }

    /// Reserves bytes for a request body of at least this length.
    pub(super) async fn upload(&self, bytes: u64) -> Result<ReservedBytes, Problem> {
        self.uploads.reserve(bytes).await
    }

    /// Grows the reservation of a request body to this length.
    pub(super) async fn grow_upload(
        &self,
        reserved: ReservedBytes,
        bytes: u64,
    ) -> Result<ReservedBytes, Problem> {
        self.uploads.grow(reserved, bytes).await
    }

    /// Permits one large write at a time. Parsed records may take several times the size of the body, and all writes are
    /// applied one after the other anyway.
    pub(super) async fn large_write(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.large_writes).acquire_owned().await.ok()
    }

    /// The bytes of snapshots that are being sent.
    pub(super) fn snapshot_bytes(&self) -> u64 {
        let left = self.snapshots.left.available_permits() as u64 * UNIT_BYTES;
        self.limits.max_snapshot_bytes.saturating_sub(left)
    }
}

/// A budget of bytes.
#[derive(Clone)]
struct ByteBudget {
    left: Arc<Semaphore>,
    max: u64,
    /// The end of the refusal: what the bytes are used for, and the flag that sets the limit.
    full: &'static str,
}

impl ByteBudget {
    fn new(max: u64, full: &'static str) -> Self {
        let permits = (units(max) as usize).min(Semaphore::MAX_PERMITS);
        Self { left: Arc::new(Semaphore::new(permits)), max, full }
    }

    async fn reserve(&self, bytes: u64) -> Result<ReservedBytes, Problem> {
        self.acquire(self.units_of(bytes)).await.map(ReservedBytes)
    }

    /// Grows a reservation that is smaller than this many bytes.
    async fn grow(&self, mut reserved: ReservedBytes, bytes: u64) -> Result<ReservedBytes, Problem> {
        let has = u32::try_from(reserved.0.num_permits()).unwrap_or(u32::MAX);
        let more = self.units_of(bytes).saturating_sub(has);
        if more > 0 {
            reserved.0.merge(self.acquire(more).await?);
        }
        Ok(reserved)
    }

    /// The units of a body. One that is larger than the budget takes all of it.
    fn units_of(&self, bytes: u64) -> u32 {
        units(bytes).min(units(self.max))
    }

    async fn acquire(&self, units: u32) -> Result<OwnedSemaphorePermit, Problem> {
        match tokio::time::timeout(QUEUE_TIMEOUT, Arc::clone(&self.left).acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(over_budget(format!("{} bytes of {}", self.max, self.full))),
        }
    }
}

/// The units of this many bytes, at least one: also an empty body waits in the queue.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).max(1)
}

fn over_budget(detail: String) -> Problem {
    Problem::unavailable("over-budget", format!("{detail}; retry later or use another replica"))
}

/// The estimated size of a snapshot. That of some keys is usually small; it is counted once its size is known.
pub(super) fn estimate_snapshot(newest: &Breadcrumb, keys: &KeySelector) -> u64 {
    let state = newest.kvs();
    if !keys.is_all() { 0 } else { state.payload_bytes() + RECORD_BYTES * state.len() as u64 }
}

/// The estimated size of a page with entries of average size.
pub(super) fn estimate_page(newest: &Breadcrumb, limit: usize) -> u64 {
    let keys = newest.kvs().len().max(1) as u64;
    let entry = newest.kvs().payload_bytes() / keys + RECORD_BYTES;
    entry * keys.min(limit as u64)
}

/// A counted waiter; see [`Budgets::waiter`].
pub(super) struct WaiterGuard<C: Deref<Target = AtomicUsize>>(C);

impl<C: Deref<Target = AtomicUsize>> Drop for WaiterGuard<C> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes of a budget, returned to it on drop.
#[derive(Debug)]
pub(super) struct ReservedBytes(OwnedSemaphorePermit);

/// A response that holds its reservation until it is sent.
pub(super) fn with_reservation(reply: Reply, reserved: ReservedBytes) -> Response {
    let mut response = into_response(reply);
    response.extensions_mut().insert(Arc::new(reserved));
    response
}
