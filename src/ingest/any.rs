//! The buffer that the configuration chooses.

use std::time::Instant;

use super::buffer::{Buffer, BufferReadError, BufferWriteError, CapacityError};
use super::channel::Channel;
use super::ring::LockingRing;

/// A [`Channel`] or a [`LockingRing`]. Why not a `Box<dyn Buffer>`: each of the trait's futures would
/// be boxed, which costs one allocation per update.
#[derive(Debug)]
pub enum IngestBuffer<T> {
    /// The buffer over tokio's channel.
    Channel(Channel<T>),
    /// The ring of slots behind a mutex.
    Ring(LockingRing<T>),
}

impl<T> IngestBuffer<T> {
    /// A [`Channel`] for `capacity` items.
    ///
    /// # Errors
    ///
    /// As for [`Channel::new`].
    pub fn channel(capacity: usize) -> Result<Self, CapacityError> {
        Channel::new(capacity).map(Self::Channel)
    }

    /// A [`LockingRing`] of `capacity` slots.
    ///
    /// # Errors
    ///
    /// As for [`LockingRing::new`].
    pub fn ring(capacity: usize) -> Result<Self, CapacityError> {
        LockingRing::new(capacity).map(Self::Ring)
    }
}

impl<T: Send> Buffer<T> for IngestBuffer<T> {
    fn try_write(&self, item: T) -> Result<(), BufferWriteError<T>> {
        match self {
            Self::Channel(buffer) => buffer.try_write(item),
            Self::Ring(buffer) => buffer.try_write(item),
        }
    }

    async fn write(&self, item: T, deadline: Option<Instant>) -> Result<(), BufferWriteError<T>> {
        match self {
            Self::Channel(buffer) => buffer.write(item, deadline).await,
            Self::Ring(buffer) => buffer.write(item, deadline).await,
        }
    }

    fn try_read(&self) -> Result<T, BufferReadError> {
        match self {
            Self::Channel(buffer) => buffer.try_read(),
            Self::Ring(buffer) => buffer.try_read(),
        }
    }

    async fn read(&self, deadline: Option<Instant>) -> Result<T, BufferReadError> {
        match self {
            Self::Channel(buffer) => buffer.read(deadline).await,
            Self::Ring(buffer) => buffer.read(deadline).await,
        }
    }

    fn close(&self) {
        match self {
            Self::Channel(buffer) => buffer.close(),
            Self::Ring(buffer) => buffer.close(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Channel(buffer) => buffer.len(),
            Self::Ring(buffer) => buffer.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Channel(buffer) => buffer.capacity(),
            Self::Ring(buffer) => buffer.capacity(),
        }
    }
}
