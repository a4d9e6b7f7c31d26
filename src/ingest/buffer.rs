//! What a bounded buffer can do, and how it refuses.

use std::fmt;
use std::future::Future;
use std::time::Instant;

use tokio::time::timeout_at;

/// A queue with a fixed number of slots, shared by any number of writers and readers.
///
/// The operations are those of Ensign's `Buffer`, with deadlines in the place of contexts and with
/// an end. Deadlines need a tokio runtime whose timer is enabled; without a deadline any executor
/// does.
pub trait Buffer<T: Send>: Send + Sync {
    /// Puts an item in if there is room now.
    ///
    /// # Errors
    ///
    /// [`WriteError::Full`] or [`WriteError::Closed`], with the item.
    fn try_write(&self, item: T) -> Result<(), WriteError<T>>;

    /// Puts an item in, and waits for room until the deadline, or for ever if there is none. A
    /// deadline in the past tries once.
    ///
    /// Cancel-safe: if the future is dropped, the item is in, or it is dropped and nobody saw it.
    ///
    /// # Errors
    ///
    /// [`WriteError::Timeout`] or [`WriteError::Closed`], with the item.
    fn write(
        &self,
        item: T,
        deadline: Option<Instant>,
    ) -> impl Future<Output = Result<(), WriteError<T>>> + Send;

    /// Takes the oldest item out if there is one now.
    ///
    /// # Errors
    ///
    /// [`ReadError::Empty`], or [`ReadError::Closed`] if nothing will come any more.
    fn try_read(&self) -> Result<T, ReadError>;

    /// Takes the oldest item out, and waits for one until the deadline, or for ever if there is
    /// none. A deadline in the past tries once.
    ///
    /// Cancel-safe: if the future is dropped, no item is lost.
    ///
    /// # Errors
    ///
    /// [`ReadError::Timeout`], or [`ReadError::Closed`] once everything is read.
    fn read(&self, deadline: Option<Instant>) -> impl Future<Output = Result<T, ReadError>> + Send;

    /// Ends the buffer: writers are refused from now on, those that wait get their item back, and
    /// readers get what is left and then [`ReadError::Closed`]. Closing twice is closing once.
    fn close(&self);

    /// The number of items in the buffer at some moment during the call.
    fn len(&self) -> usize;

    /// The number of items that fit in.
    fn capacity(&self) -> usize;

    /// Whether there was no item in the buffer at some moment during the call.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why an item was not put in. It carries the item: see [`into_inner`](Self::into_inner).
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError<T> {
    /// There was no room, and the caller did not want to wait.
    #[error("the ingest buffer is full; try again later or write with a deadline")]
    Full(T),
    /// There was no room until the deadline.
    #[error("the ingest buffer stayed full until the deadline; the cache takes updates too slowly")]
    Timeout(T),
    /// The buffer was closed, before or while the caller waited.
    #[error("the ingest buffer is closed and takes no more updates")]
    Closed(T),
}

impl<T> WriteError<T> {
    /// The item that was refused.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Timeout(item) | Self::Closed(item) => item,
        }
    }
}

/// Names the reason and leaves the item out, which need not be `Debug`, and may be large or secret.
impl<T> fmt::Debug for WriteError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Timeout(_) => "Timeout(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

/// Why no item was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There was no item, and the caller did not want to wait.
    #[error("the ingest buffer is empty")]
    Empty,
    /// There was no item until the deadline.
    #[error("the ingest buffer stayed empty until the deadline")]
    Timeout,
    /// The buffer was closed, and everything in it has been read.
    #[error("the ingest buffer is closed and everything in it has been read")]
    Closed,
}

/// Why a buffer of that capacity cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// Nothing could ever be written.
    #[error("an ingest buffer needs room for at least one item, but its capacity was given as 0")]
    Zero,
    /// More than can be counted, or than there is memory for.
    #[error("an ingest buffer for {capacity} items is too large")]
    TooLarge {
        /// The capacity that was asked for, in items.
        capacity: usize,
    },
}

/// Runs a future until the deadline; `None` if that came first. The future is polled at least once.
pub(super) async fn until<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        None => Some(future.await),
        Some(deadline) => timeout_at(deadline.into(), future).await.ok(),
    }
}
