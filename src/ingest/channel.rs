//! A buffer over tokio's channel.
//!
//! Tokio's bounded channel has many senders but one receiver, which cannot be shared while it
//! waits. So readers do not wait on it: `ready` is a semaphore with one permit for each item
//! in the channel that no reader has claimed. A reader waits for a permit without a lock,
//! and then takes an item without waiting. The obvious alternative, a lock around the
//! receiver that is held while it waits, lets a reader that is not polled block all others.
//!
//! Both semaphores, the channel's own and `ready`, are fair, and pass a permit on when its
//! waiter is dropped. Hence the order among waiters, and cancel-safety.
//!
//! Closing must not lose the item of a writer that has reserved its slot but has not filled it yet. Slots are
//! filled under a shared lock on `open`, and `close` takes that lock exclusively: a writer fills its slot
//! before the close, or finds the channel closed and keeps the item. Only then does `close`
//! close `ready`, so that readers take an empty channel for a closed one.

use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, TryAcquireError, mpsc};

use super::buffer::{Buffer, BufferReadError, BufferWriteError, CapacityError, until_deadline};

/// A [`Buffer`] that serves writers and readers in the order of their calls. The idea is
/// Ensign's `Channel`, which had no deadline.
#[derive(Debug)]
pub struct Channel<T> {
    sender: mpsc::Sender<T>,
    /// Locked to take an item, never while waiting for one.
    receiver: Mutex<mpsc::Receiver<T>>,
    /// A permit for each item that a reader may take.
    ready: Semaphore,
    /// Whether slots may be filled. The shared lock is held while filling one, never while waiting.
    open: RwLock<bool>,
    capacity: usize,
}

impl<T> Channel<T> {
    /// A channel for `capacity` items. Memory is allocated in blocks as items come.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] if the capacity is 0 or more than tokio's semaphores can count.
    pub fn new(capacity: usize) -> Result<Self, CapacityError> {
        if capacity == 0 {
            return Err(CapacityError::Zero);
        }
        if capacity > Semaphore::MAX_PERMITS {
            return Err(CapacityError::TooLarge { capacity });
        }
        let (sender, receiver) = mpsc::channel(capacity);
        Ok(Self {
            sender,
            receiver: Mutex::new(receiver),
            ready: Semaphore::new(0),
            open: RwLock::new(true),
            capacity,
        })
    }

    /// Fills a reserved slot, unless the channel was closed meanwhile.
    fn fill(&self, slot: mpsc::Permit<'_, T>, item: T) -> Result<(), BufferWriteError<T>> {
        let open = self.open.read();
        if !*open {
            return Err(BufferWriteError::Closed(item));
        }
        slot.send(item);
        drop(open);
        self.ready.add_permits(1);
        Ok(())
    }

    /// Takes an item. The caller has a permit, which is only added after its item, or the channel is closed.
    fn take(&self) -> Result<T, BufferReadError> {
        self.receiver.lock().try_recv().map_err(|_| BufferReadError::Closed)
    }
}

impl<T: Send> Buffer<T> for Channel<T> {
    fn try_write(&self, item: T) -> Result<(), BufferWriteError<T>> {
        match self.sender.try_reserve() {
            Ok(slot) => self.fill(slot, item),
            Err(mpsc::error::TrySendError::Full(())) => Err(BufferWriteError::Full(item)),
            Err(mpsc::error::TrySendError::Closed(())) => Err(BufferWriteError::Closed(item)),
        }
    }

    async fn write(&self, item: T, deadline: Option<Instant>) -> Result<(), BufferWriteError<T>> {
        let item = match self.try_write(item) {
            Err(BufferWriteError::Full(item)) => item,
            done => return done,
        };
        match until_deadline(deadline, self.sender.reserve()).await {
            Some(Ok(slot)) => self.fill(slot, item),
            Some(Err(_)) => Err(BufferWriteError::Closed(item)),
            None => Err(BufferWriteError::Timeout(item)),
        }
    }

    fn try_read(&self) -> Result<T, BufferReadError> {
        match self.ready.try_acquire() {
            Ok(permit) => {
                permit.forget();
                self.take()
            }
            Err(TryAcquireError::Closed) => self.take(),
            Err(TryAcquireError::NoPermits) => Err(BufferReadError::Empty),
        }
    }

    async fn read(&self, deadline: Option<Instant>) -> Result<T, BufferReadError> {
        match self.try_read() {
            Err(BufferReadError::Empty) => {}
            done => return done,
        }
        match until_deadline(deadline, self.ready.acquire()).await {
            Some(Ok(permit)) => {
                permit.forget();
                self.take()
            }
            Some(Err(_)) => self.take(),
            None => Err(BufferReadError::Timeout),
        }
    }

    fn close(&self) {
        *self.open.write() = false;
        // Wakes the waiting writers, then the waiting readers.
        self.receiver.lock().close();
        self.ready.close();
    }

    fn len(&self) -> usize {
        self.receiver.lock().len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_cannot_be_filled_after_the_close() {
        let channel = Channel::new(1).expect("a good capacity");
        let slot = channel.sender.try_reserve().expect("room");
        channel.close();
        assert_eq!(channel.try_read(), Err(BufferReadError::Closed));
        assert_eq!(channel.fill(slot, 1), Err(BufferWriteError::Closed(1)));
        assert_eq!(channel.try_read(), Err(BufferReadError::Closed));
    }
}
