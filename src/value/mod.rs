//! Values that change, and watchers that always get the newest one.
//!
//! # What it is for
//!
//! A status, a set of certificates, the health of a part: each has one current value. A
//! consumer wants that value, then the next, and may skip those in between. The ideas are
//! those of Metropolis' package `event`.
//!
//! Why not a channel: a channel queues every value, so a slow consumer works through old ones, and the queue needs a
//! limit. Here a slow consumer gets only the newest value, and nothing is queued for it.
//!
//! # Where to start
//!
//! * [`Value`] is set by producers; [`Value::watch`] gives each consumer its own watcher.
//! * [`Watcher`] is the trait of every watcher: [`get`](Watcher::get) waits for the next value,
//!   [`filter`](Watcher::filter) and [`filter_map`](Watcher::filter_map) skip values, and
//!   [`backlog_only`](Watcher::backlog_only) stops after the initial values.
//! * [`RangedWatcher`] watches many keys at once: each item is a [`KeyChange`], and several unread changes of one key
//!   become one. It reads from a [`RangeSource`]; a [`RangedValue`] is one in memory.
//! * [`pipe()`] moves a watcher's values into a channel.
//! * [`Health`] holds the last health report of each part.
//! * [`Recurring`] says when a warning that recurs is logged.
//!
//! # What it promises
//!
//! * The first `get` returns the value that was current at `watch`, or a newer one. Each later `get`
//!   returns a value that was set after the one before, even if it is equal.
//! * A `get` may be dropped at any time; the next one returns its value.
//! * A `get` for a value that cannot come any more returns [`GetError::Closed`].
//! * An empty value is a value. An absent key is reported as deleted, and only to watchers that knew it.
//!
//! # What it must never do
//!
//! Keep a history; make a producer wait for a consumer; know HTTP, breadcrumbs or feeds.

mod backlog;
mod cell;
mod filter;
mod health;
mod pipe;
mod ranged;
mod ranged_value;
mod recurring;
mod watcher;

#[cfg(test)]
mod tests;

pub use self::backlog::BacklogOnly;
pub use self::cell::{Value, ValueWatcher};
pub use self::filter::Filter;
pub use self::health::{Health, Reporter, Unwell};
pub use self::pipe::pipe;
pub use self::ranged::{EntriesOf, EventOf, KeyChange, RangeSource, RangedWatcher, SourceEvent};
pub use self::ranged_value::{RangedValue, RangedValueSource};
pub use self::recurring::{FailureEnd, Recurring};
pub use self::watcher::{GetError, ValueWatch, Watcher};
