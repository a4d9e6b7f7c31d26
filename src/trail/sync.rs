//! The primitives under the list, by one set of names.
//!
//! `item.rs` and `buffer.rs` take everything that threads share from `super::sync`. In the real
//! build that is this file. `loom.rs` includes the very same two files below a `sync` of its own,
//! made of loom's types, so that what loom explores is the code that ships.

pub(super) use std::sync::{Arc, OnceLock};

pub(super) use arc_swap::ArcSwap;
pub(super) use tokio::sync::Notify;

use parking_lot::{Mutex, MutexGuard};

/// Held while one chain is joined to another: at most one such join is under way in the process.
///
/// Two writers that joined their buffers to each other at the same moment could each look before
/// the other's link is there, find no cycle, and make one. Joins are rare (one for each snapshot
/// that is streamed) and hold this for a few loads and stores.
pub(super) fn join_lock() -> MutexGuard<'static, ()> {
    static JOIN: Mutex<()> = Mutex::new(());
    JOIN.lock()
}

/// The content of `arc` if this was its last reference. Of several threads that let go of the
/// same thing at the same time, exactly one gets it.
pub(super) fn into_inner<T>(arc: Arc<T>) -> Option<T> {
    Arc::into_inner(arc)
}
