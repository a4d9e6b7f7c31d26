//! Values that change, and those who want to know the newest one.
//!
//! # What it is for
//!
//! A status, a set of certificates, the health of a part: there is one current value, and a
//! consumer wants that one, then the next, and does not care for those in between. The ideas are
//! those of Metropolis' package `event`.
//!
//! Why not a channel: a channel keeps everything in its order, so a slow consumer works through the
//! past, and somebody must decide how much past there may be. Here a consumer that was away finds
//! the newest value and nothing else, and nothing is kept for it.
//!
//! # Where to start
//!
//! * [`Value`] is set by producers; [`Value::watch`] gives each consumer a watcher of its own.
//! * [`Watcher`] is what every watcher can do: [`get`](Watcher::get) waits for the next value,
//!   [`filter`](Watcher::filter) and [`filter_map`](Watcher::filter_map) let values pass by, and
//!   [`backlog_only`](Watcher::backlog_only) tells what was there from what comes.
//! * [`RangedWatcher`] watches many keys at once: each value is a [`KeyChange`], and what happened
//!   to one key since it was last looked at is one change. It is fed by a [`RangeSource`]; a
//!   [`RangedValue`] is one in memory.
//! * [`pipe()`] moves what a watcher yields into a channel.
//! * [`Health`] is a value for each part of something: when it last said that it is well.
//!
//! # What it promises
//!
//! * The first `get` returns what was current at `watch`, or something newer. Each later one
//!   returns something that was set after the one before, be it equal.
//! * A `get` may be dropped at any time; what it would have returned, the next one returns.
//! * Whoever waits for a value that cannot come any more is told that it is [closed](GetError).
//! * An empty value is a value; what is absent is told as deleted, and only to who knew it.
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
pub use self::watcher::{GetError, ValueWatch, Watcher};
