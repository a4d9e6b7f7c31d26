//! Streams: a snapshot first, then every change after it, by subject.
//!
//! # What it is for
//!
//! A reader that joins wants the state as it is, and then what happens to it, with nothing missing
//! and nothing twice in between. Here a snapshot is written into a list of its own and that list is
//! *spliced* onto the live one, so the reader walks one chain and never notices the seam. The ideas
//! are those of Consul's `agent/consul/stream`: `EventSnapshot`, `Subscription`, `EventPublisher`.
//!
//! ```text
//! snapshot's buffer   ·──▶ a ──▶ b ──▶ end of snapshot @7 ─┐ splice
//!                                                          ▼
//! topic's buffer      @5 ──▶ @6 ──▶ @7 ─────────────────▶ @8 ──▶ @9 ──▶ …
//!                     ▲ the head when the snapshot began
//! ```
//!
//! # Where to start
//!
//! * [`EventPublisher`] owns the topics. What is [published](EventPublisher::publish) goes to the
//!   topics of the [subjects](Event::subjects) it belongs to and wakes nobody else.
//! * [`Subscriptions`] is its other side: [`subscribe`](Subscriptions::subscribe) gives a
//!   [`Subscription`], which is read by [`next`](Subscription::next).
//! * [`Subscription::skip_to`] is for who is brought up to date in another way than by reading.
//! * [`EventSnapshot`] is one snapshot, made by a [`SnapFn`] and shared by all who want it.
//!
//! # What it promises
//!
//! * Who has the end of the snapshot at index `n` gets every event of its subject after `n`, once,
//!   in order. An event at or before `n` never comes after it.
//! * The events of one index come together.
//! * One snapshot of a subject is made at a time, and however long that takes, publishing goes on.
//! * A snapshot that failed is told to those who wait for it and to nobody after them.
//! * A topic, its buffer and its snapshot are freed with the last subscription to it.
//! * A reader that stands still pins no more than [`StreamConfig::max_lag_bytes`]: it is told that
//!   a new snapshot follows.
//!
//! # What it must never do
//!
//! Know what a subject is; wait for a reader; let a message that is meant for one reader get into a
//! snapshot that is shared; be published to with the lock of a reader held.

mod close;
mod event;
mod publisher;
mod shared;
mod skip;
mod snapshot;
mod subscription;
mod topic;

#[cfg(test)]
mod tests;

pub use self::close::{CloseReason, PublishError, StreamError, SubscribeError};
pub use self::event::{Event, Events, Message, Part};
pub use self::publisher::{EventPublisher, StreamConfig, StreamStats, Subscriptions};
pub use self::skip::Newest;
pub use self::snapshot::{EventSnapshot, SnapFn, SnapFuture, SnapshotBuffer};
pub use self::subscription::{Outcome, SubscribeRequest, Subscription};
