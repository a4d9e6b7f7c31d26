//! A buffer over tokio's channel.
//!
//! Tokio's bounded channel has many senders but one receiver, which cannot be shared while it
//! waits. So waiting is taken away from it: `ready` is a semaphore with one permit for each item
//! that is in the channel and promised to nobody. A reader waits for a permit, which costs no lock,
//! and with it takes an item, which costs no waiting. The obvious other way, a lock around the
//! receiver that is held while it waits, lets a reader that is not polled keep all others out.
//!
//! Both semaphores, that of the channel's room and `ready`, are fair and pass a permit on when the
//! one who got it is dropped: hence the order among those who wait, and cancel-safety.
//!
//! Closing must not cut off a writer that has got its slot but has not filled it yet. Slots are
//! filled under a shared lock on `open`, and `close` takes that lock alone: who fills a slot does
//! so before the close, or finds the channel closed and keeps the item. Only after that does `close`
//! close `ready`, and only then do readers believe that an empty channel stays empty.

use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, TryAcquireError, mpsc};

use super::buffer::{Buffer, CapacityError, ReadError, WriteError, until};

/// A [`Buffer`] that serves writers and readers in the order in which they came. The idea is
/// Ensign's `Channel`, which had no deadline.
#[derive(Debug)]
pub struct Channel<T> {
    sender: mpsc::Sender<T>,
    /// Locked to take an item, never to wait for one.
    receiver: Mutex<mpsc::Receiver<T>>,
    /// A permit for each item that a reader may take.
    ready: Semaphore,
    /// Whether slots may be filled. Held, shared, while one is; never while anyone waits.
    open: RwLock<bool>,
    capacity: usize,
}

impl<T> Channel<T> {
    /// A channel for `capacity` items. Memory is taken as items come, in blocks.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] if the capacity is 0 or more than tokio's semaphores count.
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

    /// Fills a slot that was got from the channel, unless it was closed meanwhile.
    fn fill(&self, slot: mpsc::Permit<'_, T>, item: T) -> Result<(), WriteError<T>> {
        let open = self.open.read();
        if !*open {
            return Err(WriteError::Closed(item));
        }
        slot.send(item);
        drop(open);
        self.ready.add_permits(1);
        Ok(())
    }

    /// Takes an item, by a permit or because no more will come. There is none only in the second
    /// case: a permit is added after its item.
    fn take(&self) -> Result<T, ReadError> {
        self.receiver.lock().try_recv().map_err(|_| ReadError::Closed)
    }
}

impl<T: Send> Buffer<T> for Channel<T> {
    fn try_write(&self, item: T) -> Result<(), WriteError<T>> {
        match self.sender.try_reserve() {
            Ok(slot) => self.fill(slot, item),
            Err(mpsc::error::TrySendError::Full(())) => Err(WriteError::Full(item)),
            Err(mpsc::error::TrySendError::Closed(())) => Err(WriteError::Closed(item)),
        }
    }

    async fn write(&self, item: T, deadline: Option<Instant>) -> Result<(), WriteError<T>> {
        let item = match self.try_write(item) {
            Err(WriteError::Full(item)) => item,
            done => return done,
        };
        match until(deadline, self.sender.reserve()).await {
            Some(Ok(slot)) => self.fill(slot, item),
            Some(Err(_)) => Err(WriteError::Closed(item)),
            None => Err(WriteError::Timeout(item)),
        }
    }

    fn try_read(&self) -> Result<T, ReadError> {
        match self.ready.try_acquire() {
            Ok(permit) => {
                permit.forget();
                self.take()
            }
            Err(TryAcquireError::Closed) => self.take(),
            Err(TryAcquireError::NoPermits) => Err(ReadError::Empty),
        }
    }

    async fn read(&self, deadline: Option<Instant>) -> Result<T, ReadError> {
        match self.try_read() {
            Err(ReadError::Empty) => {}
            done => return done,
        }
        match until(deadline, self.ready.acquire()).await {
            Some(Ok(permit)) => {
                permit.forget();
                self.take()
            }
            Some(Err(_)) => self.take(),
            None => Err(ReadError::Timeout),
        }
    }

    fn close(&self) {
        *self.open.write() = false;
        // Wakes the writers that wait for a slot, then the readers that wait for an item.
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
    fn a_slot_that_is_filled_after_the_close_is_refused_so_that_closed_stays_closed() {
        let channel = Channel::new(1).expect("a good capacity");
        let slot = channel.sender.try_reserve().expect("room");
        channel.close();
        assert_eq!(channel.try_read(), Err(ReadError::Closed));
        assert_eq!(channel.fill(slot, 1), Err(WriteError::Closed(1)));
        assert_eq!(channel.try_read(), Err(ReadError::Closed));
    }
}
