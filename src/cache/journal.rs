//! Where changes go before they can be read.

use std::time::SystemTime;

use super::{Delta, Step};
use crate::model::{Cursor, Digest, Revision};

/// What a breadcrumb says, whether or not it can be read yet.
#[derive(Clone, Copy, Debug)]
pub struct BreadcrumbRecord<'a> {
    /// Where a client stands that has the state after it.
    pub cursor: Cursor,
    /// The revision of its first change; that of `cursor` where nothing changed.
    pub first_revision: Revision,
    /// When it was made.
    pub timestamp: SystemTime,
    /// Fingerprint of the state after it.
    pub digest: Digest,
    /// Keys in the state after it.
    pub count: u64,
    /// The changes, each key once.
    pub deltas: &'a [Delta],
    /// The changes one revision at a time, where the deltas span several.
    pub steps: &'a [Step],
}

/// Why a journal did not take a breadcrumb.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Nothing of it is kept.
    #[error(transparent)]
    Refused(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// It could not be kept, and what was begun could not be taken back: it may be there after a restart.
    #[error(transparent)]
    Unsettled(Box<dyn std::error::Error + Send + Sync>),
}

/// Makes changes last before anybody sees them: what was read once is never taken back by a crash.
///
/// The cache's publisher owns it, and nothing becomes readable except through the publisher: that no change
/// can be published past the journal is a matter of types. It is called once a breadcrumb, so that under
/// load many writes share one call: that is the group commit.
pub trait Journal: Send + 'static {
    /// Returns once the breadcrumb would survive the end of the process and of the machine. It blocks: the
    /// ingest task then has a thread of its own.
    ///
    /// # Errors
    /// Then its writes are refused, and nothing of it may survive; where that cannot be promised, the error says so.
    fn append(&mut self, record: &BreadcrumbRecord<'_>) -> Result<(), JournalError>;

    /// Does a little of what can wait (milliseconds), when nothing else is to be done. Says whether there is more.
    fn idle(&mut self) -> bool {
        false
    }
}
