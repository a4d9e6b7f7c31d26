//! The write-ahead journal.

use std::time::SystemTime;

use super::{Delta, Step};
use crate::model::{Cursor, Digest, Revision};

/// A breadcrumb as a journal stores it.
#[derive(Clone, Copy, Debug)]
pub struct BreadcrumbRecord<'a> {
    /// The cursor of the state after it.
    pub cursor: Cursor,
    /// The revision of its first change, or of `cursor` when nothing changed.
    pub first_revision: Revision,
    /// The time at which it was made.
    pub timestamp: SystemTime,
    /// The digest of the state after it.
    pub digest: Digest,
    /// The number of keys in the state after it.
    pub count: u64,
    /// The changes, each key once.
    pub deltas: &'a [Delta],
    /// The changes one revision at a time, when the deltas span several revisions.
    pub steps: &'a [Step],
}

/// The reason why a journal did not persist a breadcrumb.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Nothing of the breadcrumb was persisted.
    #[error(transparent)]
    Refused(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// The write failed and could not be undone: the breadcrumb may or may not be there after a restart.
    #[error(transparent)]
    Unsettled(Box<dyn std::error::Error + Send + Sync>),
}

/// A write-ahead journal: it persists a breadcrumb before anyone can read it, so a crash never undoes a change that was
/// read.
///
/// The cache's publisher owns the journal, and only the publisher makes changes readable. So the types rule out a change
/// that bypasses the journal. There is one call per breadcrumb, so that under load many writes share it: that is group
/// commit.
pub trait Journal: Send + 'static {
    /// Persists a breadcrumb. Returns once it would survive a crash of the machine. It may block: the ingest task runs
    /// on a thread of its own then.
    ///
    /// # Errors
    /// [`JournalError::Refused`] if nothing was persisted, [`JournalError::Unsettled`] if that is not certain. The
    /// breadcrumb's writes are refused.
    fn append(&mut self, record: &BreadcrumbRecord<'_>) -> Result<(), JournalError>;

    /// Why breadcrumbs are refused, as far as is known before the first one.
    fn refuses(&self) -> Option<String> {
        None
    }

    /// Does a few milliseconds of deferred work while the ingest task is idle. Returns whether more is left.
    fn idle(&mut self) -> bool {
        false
    }
}
