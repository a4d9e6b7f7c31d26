//! The trail: a linked list that one writer extends and any number of readers follow, and the
//! window of its newest items that is kept on purpose.
//!
//! # What it is for
//!
//! The cache drops breadcrumbs; clients walk along them. The trail is the string on which the
//! breadcrumbs are threaded. A reader holds one item and asks for the next; if there is none yet,
//! it waits. The idea is that of Consul's `EventBuffer` and `BufferItem` (`agent/consul/stream`).
//!
//! Why a list and not a channel for each client: an append costs the writer one allocation and one
//! store, however many readers there are; a slow reader owns no queue that could fill up; and an
//! item that no reader and no window holds is freed by its reference count alone, with no
//! bookkeeping of who has read what.
//!
//! # Where to start
//!
//! * [`EventBuffer`] is the writer's end, [`Head`] its cloneable view for everyone else.
//! * [`BufferItem`] is a place in the list: [`BufferItem::next`] waits for what follows it.
//! * [`Window`] keeps the newest items by count, bytes and age, and finds the place in it that
//!   belongs to an index.
//! * [`EventSnapshot`] splices a snapshot onto the live list.
//!
//! # What it promises
//!
//! * Every reader sees every item after its own exactly once, in the order of the appends.
//! * No wake-up is lost, and no reader is left hanging: an error, and also the drop of the writer,
//!   ends every reader.
//! * A waiting reader holds one item and everything after it, never anything before it.
//! * Dropping a chain takes constant stack, however long the chain is.
//! * The list never becomes a cycle and never has two writers.
//!
//! # What it must never do
//!
//! Know keys, values, clients or HTTP; block a thread; make the writer wait for a reader; decide
//! by itself what a client that fell out of the window is told.

mod buffer;
mod error;
mod event_snapshot;
mod item;
mod sync;
mod window;

#[cfg(test)]
mod loom;
#[cfg(test)]
mod tests;

pub use self::buffer::{EventBuffer, Head};
pub use self::error::{AppendError, Closed, SharedError, TerminalError};
pub use self::event_snapshot::{EventSnapshot, SnapshotBuffer, SnapshotItem};
pub use self::item::BufferItem;
pub use self::window::{Entry, Found, Limits, Position, Window};
