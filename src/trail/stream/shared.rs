//! What the publisher, its subscriptions and the snapshots' tasks have in common.
//!
//! One lock guards the table of topics. It is held for looking into hash maps and linking list
//! items, never while a snapshot is made, a reader is woken or a list is dropped, so neither a
//! slow [`SnapFn`] nor fifty thousand readers make the next publish wait.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::close::{CloseReason, PublishError, SubscribeError};
use super::event::Event;
use super::publisher::{StreamConfig, StreamStats};
use super::snapshot::{EventSnapshot, SnapFn};
use super::subscription::{Outcome, SubscribeRequest, Subscription};
use super::topic::{Afterwards, Cached, Place, Seat, Topic};

pub(super) struct Shared<E: Event> {
    config: StreamConfig,
    snap: Arc<dyn SnapFn<E>>,
    state: Mutex<State<E>>,
}

struct State<E: Event> {
    /// A topic is here exactly as long as it has a seat.
    topics: HashMap<E::Subject, Topic<E>>,
    subscriptions: usize,
    published: u64,
    next_id: u64,
    shut_down: bool,
}

// In each of these `later` is made before the lock is taken, and so dropped after it is released.
impl<E: Event> Shared<E> {
    pub(super) fn new(config: StreamConfig, index: u64, snap: Arc<dyn SnapFn<E>>) -> Self {
        let topics = HashMap::new();
        let state = State { topics, subscriptions: 0, published: index, next_id: 0, shut_down: false };
        Self { config, snap, state: Mutex::new(state) }
    }

    pub(super) fn publish(&self, index: u64, events: Vec<E>) -> Result<(), PublishError> {
        let mut later = Afterwards::new();
        let mut state = self.state.lock();
        if state.shut_down {
            return Err(PublishError::ShutDown);
        }
        if index <= state.published {
            return Err(PublishError::NotNewer { index, published: state.published });
        }
        state.published = index;
        if state.topics.is_empty() {
            return Ok(());
        }
        let mut concerned = Vec::new();
        for event in events {
            for subject in event.subjects() {
                if let Some(topic) = state.topics.get_mut(&subject)
                    && topic.push(event.clone())
                {
                    concerned.push(subject);
                }
            }
        }
        for subject in concerned {
            if let Some(topic) = state.topics.get_mut(&subject) {
                topic.flush(index, self.config.max_lag_bytes, &mut later);
            }
        }
        Ok(())
    }

    pub(super) fn subscribe(
        self: &Arc<Self>,
        request: SubscribeRequest<E::Subject>,
    ) -> Result<Subscription<E>, SubscribeError> {
        self.seat(request, false)
    }

    /// For who will be brought up to date by the caller.
    pub(super) fn join(
        self: &Arc<Self>,
        request: SubscribeRequest<E::Subject>,
    ) -> Result<Subscription<E>, SubscribeError> {
        self.seat(request, true)
    }

    fn seat(
        self: &Arc<Self>,
        request: SubscribeRequest<E::Subject>,
        joins: bool,
    ) -> Result<Subscription<E>, SubscribeError> {
        let mut later = Afterwards::new();
        let mut state = self.state.lock();
        if state.shut_down {
            return Err(SubscribeError::ShuttingDown);
        }
        let limit = self.config.max_subscriptions;
        if state.subscriptions >= limit {
            return Err(SubscribeError::TooMany { limit });
        }
        let (id, published) = (state.next_id, state.published);
        state.next_id += 1;
        state.subscriptions += 1;
        let topic = state.topics.entry(request.subject.clone()).or_insert_with(|| Topic::new(published));
        let (outcome, place) = if joins || topic.can_resume(request.index) {
            (Outcome::Resumed, topic.newest_place())
        } else {
            let place = self.snapshot_of(topic, &request.subject, &mut later);
            (if request.index == 0 { Outcome::Snapshot } else { Outcome::NewSnapshot }, place)
        };
        let seat = Seat { request, place: Mutex::new(place), closed: watch::Sender::new(None) };
        let seat = Arc::new(seat);
        topic.seats.insert(id, Arc::clone(&seat));
        drop(state);
        Ok(Subscription::new(Arc::clone(self), id, seat, outcome))
    }

    /// A place at the start of a snapshot for a subscriber that was left behind. `None` if its topic
    /// is gone, which is after its subscription was closed.
    pub(super) fn start_over(self: &Arc<Self>, subject: &E::Subject) -> Option<Place<E>> {
        let mut later = Afterwards::new();
        let mut state = self.state.lock();
        let topic = state.topics.get_mut(subject)?;
        Some(self.snapshot_of(topic, subject, &mut later))
    }

    /// The newest place of a topic, if there still is one.
    pub(super) fn newest_of(&self, subject: &E::Subject) -> Option<Place<E>> {
        self.state.lock().topics.get(subject).map(Topic::newest_place)
    }

    pub(super) fn expire_snapshots(&self) {
        let mut later = Afterwards::new();
        let mut state = self.state.lock();
        for cached in state.topics.values_mut().filter_map(|topic| topic.cached.take()) {
            later.free_snapshot(cached);
        }
    }

    /// A place at the start of the topic's snapshot: the one that there is, or a new one.
    fn snapshot_of(
        self: &Arc<Self>,
        topic: &mut Topic<E>,
        subject: &E::Subject,
        later: &mut Afterwards<E>,
    ) -> Place<E> {
        let snapshot = match topic.shareable(self.config.max_lag_bytes) {
            Some(snapshot) => Arc::clone(snapshot),
            None => {
                let snap = Arc::clone(&self.snap);
                let new = EventSnapshot::take(snap, subject.clone(), topic.head(), topic.mark());
                let new = Arc::new(new);
                let keeper = tokio::spawn(keep(Arc::downgrade(self), subject.clone(), Arc::downgrade(&new)));
                let cached = Cached { snapshot: Arc::clone(&new), keeper: keeper.abort_handle() };
                if let Some(old) = topic.cached.replace(cached) {
                    later.free_snapshot(old);
                }
                new
            }
        };
        Place::At { item: snapshot.start(), mark: snapshot.mark(), snapshot: Some(snapshot) }
    }

    /// The reader goes away.
    pub(super) fn leave(&self, id: u64, seat: &Seat<E>) {
        let mut later = Afterwards::new();
        seat.close(CloseReason::Unsubscribed, &mut later);
        let mut state = self.state.lock();
        let Some(topic) = state.topics.get_mut(&seat.request.subject) else { return };
        // Gone already when it unsubscribes and is then dropped.
        if topic.seats.remove(&id).is_none() {
            return;
        }
        let is_free = topic.seats.is_empty();
        state.subscriptions -= 1;
        if is_free && let Some(topic) = state.topics.remove(&seat.request.subject) {
            later.free_topic(topic);
        }
    }

    pub(super) fn close_where(
        &self,
        reason: CloseReason,
        mut which: impl FnMut(&SubscribeRequest<E::Subject>) -> bool,
    ) -> usize {
        // Asked without the lock: it is the caller's code.
        let seats: Vec<_> = {
            let state = self.state.lock();
            state.topics.values().flat_map(|topic| topic.seats.values().cloned()).collect()
        };
        let mut later = Afterwards::new();
        seats.iter().filter(|seat| which(&seat.request) && seat.close(reason, &mut later)).count()
    }

    pub(super) fn stats(&self) -> StreamStats {
        let state = self.state.lock();
        StreamStats {
            topics: state.topics.len(),
            subscriptions: state.subscriptions,
            snapshots: state.topics.values().filter(|topic| topic.cached.is_some()).count(),
            published: state.published,
        }
    }

    pub(super) fn shut_down(&self) {
        let mut later = Afterwards::new();
        let mut state = self.state.lock();
        state.shut_down = true;
        state.subscriptions = 0;
        // The reason must stand before the lists end, for their end is not what is to be told.
        for topic in std::mem::take(&mut state.topics).into_values() {
            for seat in topic.seats.values() {
                seat.close(CloseReason::ShuttingDown, &mut later);
            }
            later.free_topic(topic);
        }
    }
}

/// Takes a snapshot out of its topic: at once when it failed, in due time when it is good.
async fn keep<E: Event>(shared: Weak<Shared<E>>, subject: E::Subject, snapshot: Weak<EventSnapshot<E>>) {
    let Some(making) = snapshot.upgrade() else { return };
    let done = making.done();
    drop(making);
    done.await;
    let is_good = snapshot.upgrade().is_some_and(|snapshot| snapshot.err().is_none());
    let Some(ttl) = shared.upgrade().map(|shared| shared.config.snapshot_ttl) else { return };
    if is_good && !ttl.is_zero() {
        tokio::time::sleep(ttl).await;
    }
    let Some(shared) = shared.upgrade() else { return };
    let mut later = Afterwards::new();
    let mut state = shared.state.lock();
    if let Entry::Occupied(mut topic) = state.topics.entry(subject)
        && let Some(old) = topic
            .get_mut()
            .cached
            .take_if(|cached| std::ptr::eq(Arc::as_ptr(&cached.snapshot), snapshot.as_ptr()))
    {
        later.free_snapshot(old);
    }
}
