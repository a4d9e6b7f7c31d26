//! `push:`, the embedded default: clients write over HTTP, and this process is the datastore.

use std::sync::Arc;

use crate::ingest::{self, Buffer, IngestBuffer, WriteError};
use crate::model::{Batch, Committed, Condition, FeedEvent, Grouping, Refusal, ReplyTo, Update};

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The ingest buffer is full.
    #[error("the ingest buffer is full ({capacity} events wait); try again soon")]
    Full {
        /// How many events it holds.
        capacity: usize,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping and takes no more writes")]
    Stopped,
    /// The cache refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The write side of a push feed. Clones write to the same cache.
#[derive(Clone)]
pub struct PushHandle {
    buffer: Arc<IngestBuffer<FeedEvent>>,
}

impl PushHandle {
    /// Writes through this buffer.
    pub fn new(buffer: Arc<IngestBuffer<FeedEvent>>) -> Self {
        Self { buffer }
    }

    /// Applies the updates as one revision if all conditions hold, and returns once they can be read.
    ///
    /// Revisions in the updates are those of another store, and are ignored.
    ///
    /// # Errors
    /// [`PushError`]; then nothing was applied. Only after [`PushError::Stopped`] the write may have been applied, if it was
    /// under way when the daemon stopped.
    pub async fn write(
        &self,
        mut updates: Vec<Update>,
        grouping: Grouping,
        conditions: Vec<Condition>,
    ) -> Result<Committed, PushError> {
        updates.iter_mut().for_each(|update| update.revision = None);
        let (ack, answer) = ingest::reply_channel();
        let batch = Batch { updates, grouping, conditions, ack: Some(ReplyTo::new(ack)) };
        match self.buffer.try_write(FeedEvent::Updates(batch)) {
            Ok(()) => {}
            Err(WriteError::Closed(_)) => return Err(PushError::Stopped),
            Err(_) => return Err(PushError::Full { capacity: self.buffer.capacity() }),
        }
        Ok(answer.await.map_err(|_| PushError::Stopped)??)
    }
}
