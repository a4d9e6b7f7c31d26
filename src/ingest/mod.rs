//! Ingest: the bounded buffers between the feeds and the cache.
//!
//! # What it is for
//!
//! A feed writes updates at one end, the cache reads them at the other. The buffer between them
//! has a fixed number of slots, and that is the back-pressure: a full buffer makes a writer wait,
//! or tells it so at once, and it grows for nobody. The idea is that of Ensign's `Buffer` with its
//! `Channel` and `LockingRing`.
//!
//! # Where to start
//!
//! * [`Buffer`] is what every buffer can do, and where its rules are written down.
//! * [`Channel`] is made of tokio's channel: writers and readers are served in the order in which
//!   they came.
//! * [`LockingRing`] is a mutex around an array: all its memory is there from the start, and a
//!   writer or reader that does not wait may overtake one that was just woken.
//! * [`IngestBuffer`] is either of them, chosen by configuration.
//!
//! # What it promises
//!
//! * First in, first out. Nothing is lost, nothing is read twice, a refused item is handed back.
//! * Exactly `capacity` items fit in.
//! * A future of `write` or `read` may be dropped at any time: the item is in or it is not, no item
//!   vanishes with a reader, and the wake-up that the dropped one had got goes to the next.
//! * After `close` nothing comes in, and what is in can still be read.
//!
//! # What it must never do
//!
//! Know what an item is; merge, reorder or throw away items; block a thread while it waits.

mod any;
mod buffer;
mod channel;
mod ring;

#[cfg(test)]
mod tests;

pub use self::any::IngestBuffer;
pub use self::buffer::{Buffer, CapacityError, ReadError, WriteError};
pub use self::channel::Channel;
pub use self::ring::LockingRing;

use tokio::sync::oneshot;

/// A way back for one answer to something that goes through a buffer: what tells it, and where it arrives. Where
/// it is dropped untold, the receiver learns that.
pub fn answer<T: Send + 'static>() -> (impl FnOnce(T) + Send + 'static, oneshot::Receiver<T>) {
    let (send, receive) = oneshot::channel();
    // Whoever asked and went away does not mind missing the answer.
    (move |answer| drop(send.send(answer)), receive)
}
