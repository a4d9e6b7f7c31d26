//! Ingest: the bounded buffers between the feeds and the cache.
//!
//! # What it is for
//!
//! A feed writes updates at one end, and the cache reads them at the other. The buffer between them
//! has a fixed number of slots and never grows. That is the back-pressure: when it is full, a write waits or
//! fails at once. The idea is that of Ensign's `Buffer` with its `Channel` and `LockingRing`.
//!
//! # Where to start
//!
//! * [`Buffer`] is the trait of every buffer, and documents its rules.
//! * [`Channel`] uses tokio's channel: writers and readers are served in the order of their calls.
//! * [`LockingRing`] is a mutex around an array: all its memory is allocated at the start, and a
//!   call that does not wait may overtake one that was just woken.
//! * [`IngestBuffer`] is either of them, chosen by configuration.
//!
//! # What it promises
//!
//! * First in, first out. Nothing is lost, nothing is read twice, a refused item is handed back.
//! * Exactly `capacity` items fit.
//! * A future of `write` or `read` may be dropped at any time: the item is in or it is not, no item
//!   is lost with a reader, and a wake-up that the dropped future had received passes to the next.
//! * After `close` no item can be written, and the remaining items can still be read.
//!
//! # What it must never do
//!
//! Know what an item is; merge, reorder or discard items; block a thread while it waits.

mod any;
mod buffer;
mod channel;
mod ring;

#[cfg(test)]
mod tests;

pub use self::any::IngestBuffer;
pub use self::buffer::{Buffer, BufferReadError, BufferWriteError, CapacityError};
pub use self::channel::Channel;
pub use self::ring::LockingRing;

use tokio::sync::oneshot;

/// A channel for one reply to an item in a buffer: the function that sends it, and its receiver. The receiver gets an
/// error if the function is dropped without a call.
pub fn reply_channel<T: Send + 'static>() -> (impl FnOnce(T) + Send + 'static, oneshot::Receiver<T>) {
    let (send, receive) = oneshot::channel();
    // A receiver that is gone does not need the reply.
    (move |reply| drop(send.send(reply)), receive)
}
