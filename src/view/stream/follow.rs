//! The task that puts breadcrumbs into the lists.
//!
//! It follows the trail like any reader, so it keeps nobody waiting. It runs while somebody reads.

use std::sync::{Arc, Weak};

use super::Streams;
use super::frame::Frame;
use super::subjects::Concerned;
use crate::cache::Breadcrumb;
use crate::view::OwnedScope;
use crate::view::answer::Stand;

/// A breadcrumb with more changes is not put into lists: readers look for themselves, those at the
/// same place share what they find, and it is encoded where that keeps nobody waiting.
const MAX_DELTAS: usize = 2000;

/// The same for one whose changes concern many lengths of prefixes.
const MAX_LOOKUPS: usize = 100_000;

/// When the newest breadcrumb is so many ahead, those between are left out.
const MAX_BEHIND: u64 = 1024;

/// Breadcrumbs after which others get their turn.
const YIELD_AFTER: u64 = 64;

impl Streams {
    /// Begins with what comes after the newest breadcrumb.
    pub(super) fn start(self: &Arc<Self>) {
        let newest = self.cache.current_breadcrumb();
        self.publish(&newest, Vec::new());
        tokio::spawn(follow(Arc::downgrade(self), newest));
    }

    fn publish(&self, breadcrumb: &Breadcrumb, frames: Vec<Frame>) {
        // Refused are the end of all, and a breadcrumb that was published before the last pause.
        _ = self.publisher.publish(breadcrumb.sequence().0, frames);
        *self.published.write() = Stand::of(breadcrumb);
    }

    /// Puts the step to this breadcrumb into the lists that it concerns.
    fn step(&self, breadcrumb: &Breadcrumb) {
        let (from, now) = (breadcrumb.from(), breadcrumb.cursor());
        if from.history != now.history || breadcrumb.is_provisional() {
            // Nothing that was known before can be gone on from.
            self.publisher.expire_snapshots();
            return self.tell_to_look(breadcrumb, self.subjects.all());
        }
        if breadcrumb.deltas().len() > MAX_DELTAS {
            return self.tell_to_look(breadcrumb, self.subjects.all());
        }
        match self.subjects.concerned(breadcrumb, MAX_LOOKUPS) {
            Concerned::All(all) => self.tell_to_look(breadcrumb, all),
            Concerned::Some(some) => {
                let frame =
                    |(subject, deltas): (OwnedScope, Vec<_>)| Frame::step(breadcrumb, subject, &deltas);
                self.publish(breadcrumb, some.into_iter().map(frame).collect());
            }
        }
    }

    fn tell_to_look(&self, breadcrumb: &Breadcrumb, subjects: Vec<OwnedScope>) {
        self.publish(breadcrumb, subjects.into_iter().map(Frame::look).collect());
    }

    /// Puts what follows `at` into the lists, and says how far it has come.
    fn go_on(&self, at: &Breadcrumb, next: Breadcrumb) -> Breadcrumb {
        let newest = self.cache.current_breadcrumb();
        if newest.sequence().0.saturating_sub(next.sequence().0) <= MAX_BEHIND {
            self.step(&next);
            return next;
        }
        if at.cursor().history != newest.cursor().history {
            self.publisher.expire_snapshots();
        }
        self.tell_to_look(&newest, self.subjects.all());
        newest
    }
}

async fn follow(streams: Weak<Streams>, mut at: Breadcrumb) {
    loop {
        let next = at.next().await;
        let Some(streams) = streams.upgrade() else { return };
        let Ok(next) = next else { return streams.publisher.shut_down() };
        at = streams.go_on(&at, next);
        if !streams.subjects.goes_on() {
            return;
        }
        drop(streams);
        if at.sequence().0.is_multiple_of(YIELD_AFTER) {
            tokio::task::yield_now().await;
        }
    }
}
