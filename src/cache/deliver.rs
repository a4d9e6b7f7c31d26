//! Between a breadcrumb and those who wait for it.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::mpsc;

use super::Breadcrumb;
use super::breadcrumb::Crumb;
use crate::trail::{Head, Wake};

/// Wake-ups that may wait to be done.
const WAKES: usize = 64;

/// Prepares what the waiters of a breadcrumb will ask for, before they are woken.
///
/// It runs on a task of its own, not on the ingest task: that one is never kept from its work.
pub trait Deliver: Send + Sync {
    /// Every breadcrumb comes here once, in order. `newest` says that no other has followed yet.
    /// When the ingest task is far ahead, waiters may have been woken already.
    fn deliver(&self, breadcrumb: &Breadcrumb, newest: bool);

    /// No breadcrumb will come any more.
    fn end(&self);
}

/// Those who deliver; clones share them.
#[derive(Clone, Default)]
pub(super) struct Delivery {
    delivers: Arc<RwLock<Vec<Arc<dyn Deliver>>>>,
}

impl Delivery {
    pub(super) fn add(&self, deliver: Arc<dyn Deliver>) {
        self.delivers.write().push(deliver);
    }

    fn deliver(&self, breadcrumb: &Breadcrumb, newest: bool) {
        self.delivers.read().iter().for_each(|deliver| deliver.deliver(breadcrumb, newest));
    }

    /// Starts the task that prepares and wakes. Dropping the sender ends it.
    pub(super) fn start(&self, head: &Head<Arc<Crumb>>) -> mpsc::Sender<Wake<Arc<Crumb>>> {
        let (send, mut receive) = mpsc::channel(WAKES);
        let (delivery, mut last) = (self.clone(), Breadcrumb::of(head.head()).ok());
        tokio::spawn(async move {
            let mut wakes = Vec::with_capacity(WAKES);
            while receive.recv_many(&mut wakes, WAKES).await > 0 {
                last = last.map(|last| delivery.catch_up(last));
                wakes.drain(..).for_each(Wake::wake);
            }
            delivery.delivers.read().iter().for_each(|deliver| deliver.end());
        });
        send
    }

    /// Walks the trail itself: where the queue of wakes was full, breadcrumbs came without one.
    fn catch_up(&self, last: Breadcrumb) -> Breadcrumb {
        let mut reached = None;
        let mut later = last.later().peekable();
        while let Some(breadcrumb) = later.next() {
            self.deliver(&breadcrumb, later.peek().is_none());
            reached = Some(breadcrumb);
        }
        drop(later);
        reached.unwrap_or(last)
    }
}
