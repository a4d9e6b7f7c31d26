//! The encoded bytes that are kept although no request is sending them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count of bytes. Clones share it.
#[derive(Clone, Default)]
pub(super) struct IdleBytes(Arc<AtomicU64>);

impl IdleBytes {
    /// Counts bytes that were made, or that the last request has sent.
    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Counts bytes no more: they were dropped, or a request is sending them.
    pub(super) fn remove(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::AcqRel);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
