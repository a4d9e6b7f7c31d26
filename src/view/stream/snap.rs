//! Makes the snapshots that streams begin with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::FORMAT;
use super::frame::{Frame, Telling};
use crate::trail::SharedError;
use crate::trail::stream::{SnapFn, SnapFuture, SnapshotBuffer};
use crate::view::OwnedScope;
use crate::view::pages::Keeper;

/// One event: the body of a snapshot is made of pages that are shared with every other body, so to
/// cut it into events would make it no smaller.
pub(super) struct Snap {
    pub(super) pages: Arc<Keeper>,
    /// How many were made.
    pub(super) made: Arc<AtomicU64>,
}

impl SnapFn<Frame> for Snap {
    fn snap<'a>(&'a self, subject: &'a OwnedScope, into: &'a mut SnapshotBuffer<Frame>) -> SnapFuture<'a> {
        Box::pin(async move {
            let answer =
                self.pages.current(subject.into(), FORMAT).await.map_err(|e| Arc::new(e) as SharedError)?;
            self.made.fetch_add(1, Ordering::Relaxed);
            let index = answer.sequence.0;
            into.append(index, [Frame { subject: subject.clone(), told: Telling::Body(answer) }]);
            Ok(index)
        })
    }
}
