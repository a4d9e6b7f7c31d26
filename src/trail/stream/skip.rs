//! Readers that are brought up to date in another way than by reading.
//!
//! A list tells every event. To a reader that is far behind that is the wrong thing: one answer with the
//! last value of each key is shorter, and a whole snapshot may not be needed. Whoever can make such an
//! answer from elsewhere does so in this order, which is that of the snapshot's splice:
//!
//! 1. take the [`newest`](Subscription::newest) place of the topic;
//! 2. look at the state, which is then at least as new as everything before that place;
//! 3. [`skip_to`](Subscription::skip_to) that place with the index of the state.
//!
//! What was published between 1 and 2 is in the state and comes after the place; it is passed over by
//! its index. So nothing is missed and nothing comes twice, and where step 2 fails nothing has been
//! given up.

use std::{fmt, mem};

use super::close::{StreamError, SubscribeError};
use super::event::Event;
use super::publisher::{EventPublisher, Subscriptions};
use super::subscription::{SubscribeRequest, Subscription};
use super::topic::Place;

/// The newest place of a topic at some moment. To keep it keeps what is published after it.
pub struct Newest<E: Event>(Place<E>);

impl<E: Event> Subscriptions<E> {
    /// Begins to follow a subject with what is published from now on, whatever the reader has: the
    /// caller brings it up to date. No snapshot is made.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    pub fn join(&self, request: SubscribeRequest<E::Subject>) -> Result<Subscription<E>, SubscribeError> {
        self.shared().join(request)
    }
}

impl<E: Event> EventPublisher<E> {
    /// Newcomers get new snapshots from now on: those that there are lead to a state that must not
    /// be gone on from. Those who read them are not disturbed.
    pub fn expire_snapshots(&self) {
        self.shared().expire_snapshots();
    }
}

impl<E: Event> Subscription<E> {
    /// How many messages can be read without waiting, counted up to `most`. `None` if the reader was
    /// left behind, or closed: then its next message comes from elsewhere.
    pub fn unread(&self, most: usize) -> Option<usize> {
        let mut item = self.item()?;
        let mut unread = 0;
        while unread < most
            && let Ok(Some(next)) = item.next_no_block()
        {
            unread += usize::from(next.value().is_some_and(|part| self.wants(part)));
            item = next;
        }
        Some(unread)
    }

    /// The newest place there is. `None` once the topic has ended.
    pub fn newest(&self) -> Option<Newest<E>> {
        self.shared().newest_of(&self.request().subject).map(Newest)
    }

    /// Goes on from there: the reader has got the state at `index` in another way. What it has not
    /// read is given up, also a snapshot. Does nothing if the subscription is closed.
    pub fn skip_to(&mut self, newest: Newest<E>, index: u64) {
        if let Some(given_up) = self.move_to(newest.0) {
            self.knows(index);
            drop(given_up);
        }
    }

    /// Begins anew: what the reader has is of no use. It is told so, and a snapshot follows.
    ///
    /// # Errors
    ///
    /// [`StreamError::Closed`].
    pub fn start_over(&mut self) -> Result<(), StreamError> {
        let given_up = self.move_to(Place::LeftBehind);
        mem::drop(given_up);
        self.begin_anew()
    }
}

impl<E: Event> fmt::Debug for Newest<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newest").finish_non_exhaustive()
    }
}
