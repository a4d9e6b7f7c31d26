//! The synchronization primitives of the list.
//!
//! `item.rs` and `buffer.rs` take everything that threads share from `super::sync`. In a normal
//! build that is this file. `loom.rs` includes the same two files next to a `sync` of its own
//! with loom's types, so that loom tests the code that ships.

pub(super) use std::sync::{Arc, OnceLock};

pub(super) use arc_swap::ArcSwap;
pub(super) use tokio::sync::Notify;

use parking_lot::{Mutex, MutexGuard};

/// The lock that is held while one chain is joined to another, so that joins in the process do not overlap.
///
/// Two writers that joined their buffers to each other at the same moment could each look before
/// the other's link is there, find no cycle, and make one. Joins are rare (one for each snapshot
/// that is streamed) and hold this for a few loads and stores.
pub(super) fn join_lock() -> MutexGuard<'static, ()> {
    static JOIN: Mutex<()> = Mutex::new(());
    JOIN.lock()
}

/// The content of `arc` if this was its last reference. Of several threads that drop the last references at the same
/// time, exactly one gets it.
pub(super) fn into_inner<T>(arc: Arc<T>) -> Option<T> {
    Arc::into_inner(arc)
}
