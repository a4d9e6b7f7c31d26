//! The reader's end of a topic.

use std::fmt;
use std::mem;
use std::sync::Arc;

use tokio::sync::watch;

use super::close::{CloseReason, StreamError};
use super::event::{Event, Message, Part};
use super::shared::Shared;
use super::topic::{Place, Seat};
use crate::trail::BufferItem;

/// What somebody wants to read, and from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeRequest<S> {
    /// The subject.
    pub subject: S,
    /// The index of the state that the reader has, or 0 if it has none. It must be an index of this
    /// publisher's history; to refuse those of another one is the caller's part.
    pub index: u64,
    /// Who asks, for [`close_where`](super::Subscriptions::close_where). May be empty.
    pub holder: Arc<str>,
}

impl<S> SubscribeRequest<S> {
    /// For a reader that has nothing yet.
    pub fn from_the_beginning(subject: S) -> Self {
        Self::after(subject, 0)
    }

    /// For a reader that has the state at `index`.
    pub fn after(subject: S, index: u64) -> Self {
        Self { subject, index, holder: Arc::from("") }
    }

    /// The same, asked by `holder`.
    #[must_use]
    pub fn held_by(self, holder: impl Into<Arc<str>>) -> Self {
        Self { holder: holder.into(), ..self }
    }
}

/// How a subscription began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nothing was missed: live events follow.
    Resumed,
    /// The reader had nothing: a snapshot follows.
    Snapshot,
    /// The reader's state is too old: it is told so, and a snapshot follows.
    NewSnapshot,
}

/// Follows one subject. The idea is Consul's `Subscription`.
///
/// Dropping it unsubscribes. Whoever does not call [`next`](Self::next) for long is not waited
/// for, and is told that a new snapshot follows when too much has piled up.
pub struct Subscription<E: Event> {
    shared: Arc<Shared<E>>,
    id: u64,
    seat: Arc<Seat<E>>,
    closed: watch::Receiver<Option<CloseReason>>,
    outcome: Outcome,
    /// Whether "new snapshot follows" is still to be said.
    announce: bool,
    /// Events up to this index are known to the reader: 0 while it reads a snapshot.
    after: u64,
}

impl<E: Event> Subscription<E> {
    pub(super) fn new(shared: Arc<Shared<E>>, id: u64, seat: Arc<Seat<E>>, outcome: Outcome) -> Self {
        let closed = seat.closed.subscribe();
        let after = if outcome == Outcome::Resumed { seat.request.index } else { 0 };
        Self { shared, id, seat, closed, outcome, announce: outcome == Outcome::NewSnapshot, after }
    }

    /// What was asked for.
    pub fn request(&self) -> &SubscribeRequest<E::Subject> {
        &self.seat.request
    }

    /// How it began.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Waits for the next message.
    ///
    /// Cancel-safe: a message is consumed only when it is returned. What is there already is
    /// returned without giving way to other tasks.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`] as soon as the subscription is closed, whatever is still unread, and
    /// [`StreamError::Failed`] if its snapshot could not be made. It is the same for good then.
    pub async fn next(&mut self) -> Result<Message<E>, StreamError> {
        loop {
            self.check_open()?;
            if mem::take(&mut self.announce) {
                return Ok(Message::NewSnapshotToFollow);
            }
            let Some(item) = self.item() else {
                self.begin_anew()?;
                continue;
            };
            let next = tokio::select! {
                biased;
                _ = self.closed.wait_for(Option::is_some) => continue,
                next = item.next() => next,
            };
            // Closed while it was being awaited: that is told, and neither the event nor the end of
            // the list, which may be a consequence.
            self.check_open()?;
            let next = next.map_err(StreamError::Failed)?;
            let Some(part) = next.value() else { continue };
            if !self.advance(&next, part) {
                continue;
            }
            if part.is_end_of_snapshot() {
                self.after = part.index();
                return Ok(part.message());
            }
            if self.wants(part) {
                return Ok(part.message());
            }
        }
    }

    /// Closes the subscription; `next` says so from now on. Its topic is freed if it was the last.
    pub fn unsubscribe(&self) {
        self.shared.leave(self.id, &self.seat);
    }

    /// Whether the reader does not know this yet.
    pub(super) fn wants(&self, part: &Part<E>) -> bool {
        part.is_end_of_snapshot() || part.index() > self.after
    }

    /// The reader has the state at this index, and nothing is to be announced.
    pub(super) fn knows(&mut self, index: u64) {
        self.after = index;
        self.announce = false;
    }

    pub(super) fn shared(&self) -> &Arc<Shared<E>> {
        &self.shared
    }

    /// Where the reader stands, unless that was taken from it.
    pub(super) fn item(&self) -> Option<BufferItem<Part<E>>> {
        match &*self.seat.place.lock() {
            Place::At { item, .. } => Some(item.clone()),
            Place::LeftBehind | Place::Nowhere => None,
        }
    }

    /// Moves to another place and gives the old one back, to be let go; `None` once it is closed.
    pub(super) fn move_to(&self, place: Place<E>) -> Option<Place<E>> {
        let mut old = self.seat.place.lock();
        if matches!(*old, Place::Nowhere) {
            return None;
        }
        Some(mem::replace(&mut old, place))
    }

    /// Moves to `next`, unless the place was taken meanwhile.
    fn advance(&self, next: &BufferItem<Part<E>>, part: &Part<E>) -> bool {
        let mut place = self.seat.place.lock();
        let Place::At { item, mark, snapshot } = &mut *place else { return false };
        let old = mem::replace(item, next.clone());
        *mark = part.mark();
        let done_with = if part.is_end_of_snapshot() { snapshot.take() } else { None };
        drop(place);
        drop((old, done_with));
        true
    }

    /// The place was taken: begins anew with a snapshot.
    pub(super) fn begin_anew(&mut self) -> Result<(), StreamError> {
        let snapshot = self.shared.start_over(&self.seat.request.subject);
        let mut place = self.seat.place.lock();
        // Closed in the meantime: the loop will find out why.
        if let (Place::LeftBehind, Some(new)) = (&*place, snapshot) {
            *place = new;
            self.after = 0;
            self.announce = true;
        }
        drop(place);
        self.check_open()
    }

    fn check_open(&self) -> Result<(), StreamError> {
        let reason = *self.closed.borrow();
        reason.map_or(Ok(()), |reason| Err(StreamError::Closed(reason)))
    }
}

impl<E: Event> Drop for Subscription<E> {
    fn drop(&mut self) {
        self.unsubscribe();
    }
}

impl<E: Event> fmt::Debug for Subscription<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("request", &self.seat.request)
            .field("outcome", &self.outcome)
            .field("closed", &*self.closed.borrow())
            .finish_non_exhaustive()
    }
}
