//! The trail: a linked list that one writer appends to and any number of readers follow, and the
//! window of its newest items that stays in memory.
//!
//! # What it is for
//!
//! The cache appends its breadcrumbs to the trail. A reader holds one item and asks for the next; if there is none yet,
//! it waits. The idea is that of Consul's `EventBuffer` and `BufferItem` (`agent/consul/stream`).
//!
//! Why a list and not a channel for each client: an append costs the writer one allocation and one
//! store, however many readers there are. A slow reader has no queue that could fill up. An
//! item that no reader and no window holds is freed by its reference count alone, without
//! tracking which reader has read which item.
//!
//! # Where to start
//!
//! * [`EventBuffer`] is the writer's end, [`Head`] its cloneable view for everyone else.
//! * [`BufferItem`] is a place in the list: [`BufferItem::next`] waits for what follows it.
//! * `Window` keeps the newest items by count, bytes and age ([`WindowLimits`]), and looks up an index among them.
//! * [`EventSnapshot`] splices a snapshot onto the live list.
//!
//! # What it promises
//!
//! * Every reader sees every item after its own exactly once, in the order of the appends.
//! * No wake-up is lost, and no reader waits for ever: an error, and also the drop of the writer,
//!   ends every reader.
//! * A waiting reader holds one item and everything after it, never anything before it.
//! * Dropping a chain takes constant stack, however long the chain is.
//! * The list never becomes a cycle and never has two writers.
//!
//! # What it must never do
//!
//! Know keys, values, clients or HTTP; block a thread; make the writer wait for a reader; decide
//! how a client older than the window continues.

mod buffer;
mod error;
mod event_snapshot;
mod item;
mod sync;
mod window;

// Its copy of the trail is compiled for the tests alone.
#[cfg(test)]
#[allow(unreachable_pub)]
mod loom;
#[cfg(test)]
mod tests;

pub use self::buffer::{EventBuffer, Head};
pub use self::error::{AppendError, Closed, SharedError, TerminalError};
pub use self::event_snapshot::{EventSnapshot, SnapshotBuffer, SnapshotItem};
pub use self::item::BufferItem;
pub use self::window::WindowLimits;
pub(crate) use self::window::{Lookup, Window, WindowEntry};
