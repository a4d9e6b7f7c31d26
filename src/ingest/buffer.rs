//! The trait of the bounded buffers, and its errors.

use std::fmt;
use std::future::Future;
use std::time::Instant;

use tokio::time::timeout_at;

/// A queue with a fixed number of slots, shared by any number of writers and readers.
///
/// The operations are those of Ensign's `Buffer`, with deadlines in place of contexts, and `close`. Deadlines need a
/// tokio runtime whose timer is enabled; without a deadline any executor works.
pub trait Buffer<T: Send>: Send + Sync {
    /// Writes an item if there is room now.
    ///
    /// # Errors
    ///
    /// [`BufferWriteError::Full`] or [`BufferWriteError::Closed`], with the item.
    fn try_write(&self, item: T) -> Result<(), BufferWriteError<T>>;

    /// Writes an item; waits for room until the deadline, or for ever without one. With a deadline
    /// in the past it tries once.
    ///
    /// Cancel-safe: if the future is dropped, the item was written, or it is dropped unread.
    ///
    /// # Errors
    ///
    /// [`BufferWriteError::Timeout`] or [`BufferWriteError::Closed`], with the item.
    fn write(
        &self,
        item: T,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<(), BufferWriteError<T>>> + Send;

    /// Reads the oldest item if there is one now.
    ///
    /// # Errors
    ///
    /// [`BufferReadError::Empty`], or [`BufferReadError::Closed`] if no item can come any more.
    fn try_read(&self) -> Result<T, BufferReadError>;

    /// Reads the oldest item; waits for one until the deadline, or for ever without one. With a
    /// deadline in the past it tries once.
    ///
    /// Cancel-safe: if the future is dropped, no item is lost.
    ///
    /// # Errors
    ///
    /// [`BufferReadError::Timeout`], or [`BufferReadError::Closed`] once everything is read.
    fn read(&self, deadline: Option<Instant>) -> impl Future<Output = Result<T, BufferReadError>> + Send;

    /// Closes the buffer: further writes are refused, waiting writers get their item back, and
    /// readers get the remaining items and then [`BufferReadError::Closed`]. Idempotent.
    fn close(&self);

    /// The number of items in the buffer at some moment during the call.
    fn len(&self) -> usize;

    /// The number of items that fit.
    fn capacity(&self) -> usize;

    /// Whether there was no item in the buffer at some moment during the call.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The reason why an item was not written, with the item.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BufferWriteError<T> {
    /// There was no room now.
    #[error("the ingest buffer is full; try again later or write with a deadline")]
    Full(T),
    /// There was no room until the deadline.
    #[error("the ingest buffer stayed full until the deadline; the cache applies updates too slowly")]
    Timeout(T),
    /// The buffer was closed, before or while the caller waited.
    #[error("the ingest buffer is closed and takes no more updates")]
    Closed(T),
}

/// The reason without the item, which need not be `Debug`, and may be large or secret.
impl<T> fmt::Debug for BufferWriteError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Timeout(_) => "Timeout(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

/// The reason why no item was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BufferReadError {
    /// There was no item now.
    #[error("the ingest buffer is empty")]
    Empty,
    /// There was no item until the deadline.
    #[error("the ingest buffer stayed empty until the deadline")]
    Timeout,
    /// The buffer was closed, and all its items have been read.
    #[error("the ingest buffer is closed and empty")]
    Closed,
}

/// The reason why a buffer of some capacity cannot be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// The capacity is 0.
    #[error("the ingest buffer needs a capacity of at least 1 item, but it was given as 0")]
    Zero,
    /// The capacity is more than can be counted or allocated.
    #[error("an ingest buffer for {capacity} items is too large; give a smaller capacity")]
    TooLarge {
        /// The given capacity, in items.
        capacity: usize,
    },
}

/// The output of a future, or `None` if the deadline comes first. The future is polled at least once.
pub(super) async fn until_deadline<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        None => Some(future.await),
        Some(deadline) => timeout_at(deadline.into(), future).await.ok(),
    }
}
