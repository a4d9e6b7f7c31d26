//! A ring of slots behind a mutex.
//!
//! # The algorithm
//!
//! `capacity` slots lie in an array. `first` is the slot of the oldest item and `len` the number of
//! items, so the items are in the slots `first`, `first + 1`, …, `first + len - 1`, each modulo the
//! capacity. A write fills the slot after the last item and a read empties the slot `first`; both
//! hold the mutex for these few instructions and never while they wait. Counting the items, rather
//! than comparing two positions, lets every slot be used and makes full and empty different states.
//!
//! Waiting is separate. Writers that found no room wait on `room`, and readers that found no item wait
//! on `items`. A read wakes one writer, and a write wakes one reader, after the mutex is released. A
//! waiter proceeds in this order: **enable the notification, try, and only then sleep.** The try sees a change
//! that came before it, and a change that comes after it wakes the enabled waiter.
//!
//! One wake-up per item is enough because none is lost: without a waiter the notifier stores one for
//! the next, and a waiter that is dropped after its wake-up passes it on. A woken waiter tries
//! again like any other caller. If another caller was faster, it sleeps again: its item or slot
//! is taken, so nothing is missed. Hence the order holds among items, not among waiters.
//!
//! Closing sets a flag under the mutex and wakes all waiters.

use std::pin::pin;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::buffer::{Buffer, BufferReadError, BufferWriteError, CapacityError, until_deadline};

/// A [`Buffer`] in one fixed array, allocated at creation. The idea is Ensign's
/// `LockingRing`.
#[derive(Debug)]
pub struct LockingRing<T> {
    slots: Mutex<Slots<T>>,
    /// Wakes a writer after a read.
    room: Notify,
    /// Wakes a reader after a write.
    items: Notify,
    capacity: usize,
}

#[derive(Debug)]
struct Slots<T> {
    /// `len` filled slots from `first` on, modulo the capacity.
    array: Box<[Option<T>]>,
    first: usize,
    len: usize,
    closed: bool,
}

impl<T> LockingRing<T> {
    /// A ring of `capacity` slots.
    ///
    /// # Errors
    ///
    /// [`CapacityError`] if the capacity is 0 or there is no memory for that many slots.
    pub fn new(capacity: usize) -> Result<Self, CapacityError> {
        if capacity == 0 {
            return Err(CapacityError::Zero);
        }
        let mut array = Vec::new();
        array.try_reserve_exact(capacity).map_err(|_| CapacityError::TooLarge { capacity })?;
        array.resize_with(capacity, || None);
        Ok(Self {
            slots: Mutex::new(Slots { array: array.into_boxed_slice(), first: 0, len: 0, closed: false }),
            room: Notify::new(),
            items: Notify::new(),
            capacity,
        })
    }
}

impl<T: Send> Buffer<T> for LockingRing<T> {
    fn try_write(&self, item: T) -> Result<(), BufferWriteError<T>> {
        self.slots.lock().put(item)?;
        self.items.notify_one();
        Ok(())
    }

    async fn write(&self, item: T, deadline: Option<Instant>) -> Result<(), BufferWriteError<T>> {
        let mut item = match self.try_write(item) {
            Err(BufferWriteError::Full(item)) => item,
            done => return done,
        };
        loop {
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            item = match self.try_write(item) {
                Err(BufferWriteError::Full(item)) => item,
                done => return done,
            };
            if until_deadline(deadline, room).await.is_none() {
                return Err(BufferWriteError::Timeout(item));
            }
        }
    }

    fn try_read(&self) -> Result<T, BufferReadError> {
        let item = self.slots.lock().take()?;
        self.room.notify_one();
        Ok(item)
    }

    async fn read(&self, deadline: Option<Instant>) -> Result<T, BufferReadError> {
        match self.try_read() {
            Err(BufferReadError::Empty) => {}
            done => return done,
        }
        loop {
            let mut items = pin!(self.items.notified());
            items.as_mut().enable();
            match self.try_read() {
                Err(BufferReadError::Empty) => {}
                done => return done,
            }
            if until_deadline(deadline, items).await.is_none() {
                return Err(BufferReadError::Timeout);
            }
        }
    }

    fn close(&self) {
        self.slots.lock().closed = true;
        self.room.notify_waiters();
        self.items.notify_waiters();
    }

    fn len(&self) -> usize {
        self.slots.lock().len
    }

    fn capacity(&self) -> usize {
        self.capacity
    }
}

impl<T> Slots<T> {
    fn put(&mut self, item: T) -> Result<(), BufferWriteError<T>> {
        if self.closed {
            return Err(BufferWriteError::Closed(item));
        }
        if self.len == self.array.len() {
            return Err(BufferWriteError::Full(item));
        }
        let slot = self.slot(self.len);
        debug_assert!(self.array[slot].is_none(), "a slot without an item is empty");
        self.array[slot] = Some(item);
        self.len += 1;
        Ok(())
    }

    fn take(&mut self) -> Result<T, BufferReadError> {
        match self.array[self.first].take() {
            Some(item) => {
                self.first = self.slot(1);
                self.len -= 1;
                Ok(item)
            }
            None if self.closed => Err(BufferReadError::Closed),
            None => Err(BufferReadError::Empty),
        }
    }

    /// The slot `offset` places after the first, where `offset` is at most the capacity.
    fn slot(&self, offset: usize) -> usize {
        let to_the_end = self.array.len() - self.first;
        if offset < to_the_end { self.first + offset } else { offset - to_the_end }
    }
}
