//! The owner of the topics, and the side that subscribes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::close::{CloseReason, PublishError, SubscribeError};
use super::event::Event;
use super::shared::Shared;
use super::snapshot::SnapFn;
use super::subscription::{SubscribeRequest, Subscription};

/// The limits of an [`EventPublisher`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamConfig {
    /// How long a snapshot is shared with newcomers once it is done. Zero shares it only while it is
    /// being made.
    pub snapshot_ttl: Duration,
    /// How far a reader may be behind before it is given a new snapshot. It must be able to read a
    /// snapshot in the time in which this much is published, or it will never be up to date.
    pub max_lag_bytes: u64,
    /// How many subscriptions there may be.
    pub max_subscriptions: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self { snapshot_ttl: Duration::from_secs(10), max_lag_bytes: 64 << 20, max_subscriptions: 100_000 }
    }
}

/// What there is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamStats {
    /// Subjects that somebody subscribes to.
    pub topics: usize,
    /// Subscriptions, closed ones that were not dropped included.
    pub subscriptions: usize,
    /// Snapshots that a newcomer could share.
    pub snapshots: usize,
    /// The newest index.
    pub published: u64,
}

/// Publishes events to those who subscribe to their subjects. The idea is Consul's
/// `EventPublisher`.
///
/// Dropping it shuts it down.
pub struct EventPublisher<E: Event> {
    subscriptions: Subscriptions<E>,
}

/// The subscribers' side of an [`EventPublisher`]. A clone is one reference count.
pub struct Subscriptions<E: Event> {
    shared: Arc<Shared<E>>,
}

impl<E: Event> EventPublisher<E> {
    /// A publisher of what happens after the state at `index`, which is 0 if there is none yet.
    pub fn new(config: StreamConfig, index: u64, snap: impl SnapFn<E>) -> Self {
        let shared = Arc::new(Shared::new(config, index, Arc::new(snap)));
        Self { subscriptions: Subscriptions { shared } }
    }

    /// Publishes what led to the state at `index`, all of it: a subscriber gets what belongs to its
    /// subject as one message. Waits for nobody, and pays for waking those who wait.
    ///
    /// # Errors
    ///
    /// [`PublishError::NotNewer`] if `index` is not above all before it, [`PublishError::ShutDown`].
    pub fn publish(&self, index: u64, events: impl IntoIterator<Item = E>) -> Result<(), PublishError> {
        // Before the lock is taken: it may take long, and may want to subscribe.
        let events: Vec<E> = events.into_iter().collect();
        self.subscriptions.shared.publish(index, events)
    }

    pub(super) fn shared(&self) -> &Arc<Shared<E>> {
        self.subscriptions.shared()
    }

    /// The side that subscribes.
    pub fn subscriptions(&self) -> Subscriptions<E> {
        self.subscriptions.clone()
    }

    /// Ends every subscription with [`CloseReason::ShuttingDown`]; there will be no more.
    pub fn shut_down(&self) {
        self.subscriptions.shared.shut_down();
    }
}

impl<E: Event> Drop for EventPublisher<E> {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl<E: Event> Subscriptions<E> {
    pub(super) fn shared(&self) -> &Arc<Shared<E>> {
        &self.shared
    }

    /// Begins to follow a subject. There are three [outcomes](super::Outcome): who has the newest state of the
    /// subject goes on, who has none gets a snapshot, and who has an old one is told that a
    /// snapshot follows and gets it. The snapshot is shared with others while it is being made, and
    /// for [`snapshot_ttl`](StreamConfig::snapshot_ttl) after it.
    ///
    /// Must be called in a tokio runtime, where the snapshot will be made.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    pub fn subscribe(
        &self,
        request: SubscribeRequest<E::Subject>,
    ) -> Result<Subscription<E>, SubscribeError> {
        self.shared.subscribe(request)
    }

    /// Closes those subscriptions, and returns how many were open.
    pub fn close_where(
        &self,
        reason: CloseReason,
        which: impl FnMut(&SubscribeRequest<E::Subject>) -> bool,
    ) -> usize {
        self.shared.close_where(reason, which)
    }

    /// What there is at the moment.
    pub fn stats(&self) -> StreamStats {
        self.shared.stats()
    }
}

impl<E: Event> Clone for Subscriptions<E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<E: Event> fmt::Debug for EventPublisher<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventPublisher").field(&self.subscriptions.stats()).finish()
    }
}

impl<E: Event> fmt::Debug for Subscriptions<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscriptions").field(&self.stats()).finish()
    }
}
