//! `etcd://HOST:PORT[,…]/PREFIX`: a range at one revision, then a watch from the next.
//!
//! What the feed promises:
//!
//! - a transaction is one revision and is never split;
//! - replicas agree on the history: it is derived from the cluster's id and the prefix. That id comes
//!   from the cluster's configuration, so a store that was recreated, or restored from a backup, can
//!   carry the same one. Whenever it may have been replaced, the whole state at our revision is proved
//!   to be the same (`proof`); else the feed counts a generation up, and that is another history;
//! - whatever happens to the connection or to the history in etcd (compaction), the daemon goes on
//!   serving, and what it missed appears as one ordinary breadcrumb. So does a deletion of which etcd itself
//!   no longer knows that it never sent it (`census`), and what a watch that has died in silence did not
//!   tell (`progress`).
//!
//! Progress notifications are not used: before 3.4.25 and 3.5.8 etcd may send them ahead of events
//! (etcd issue 15220). That the connection lives, and how far the store is, is asked once a second with a
//! linearizable read of one key, which also fails when the leader is lost. Only beside a watch that etcd has taken
//! does the answer count: whoever may read that key need not be let to watch the others.

mod backfill;
mod caught_up;
mod census;
mod client;
mod error;
mod leases;
mod load;
mod pages;
mod password;
mod place;
mod progress;
mod proof;
mod proto;
mod session;
mod watch;

pub use client::EtcdAccess;
pub use password::Password;

use std::time::Duration;

use tracing::warn;

use super::{FeedError, Sink, Syncer, Warm};
use crate::model::{FeedEvent, History, SyncStatus};
use backfill::Backfilling;
use error::EtcdError;
use place::Place;
use session::{Session, Trouble, in_doubt};

/// The first pause after a failure and the longest; half of it is random.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Which part of which store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdTarget {
    /// `host:port` of the members, in any order.
    pub endpoints: Vec<String>,
    /// Keys keep their full name; only those that begin so are followed. Empty: all.
    pub prefix: Vec<u8>,
}

/// An etcd prefix as a feed.
pub struct EtcdFeed {
    target: EtcdTarget,
    access: EtcdAccess,
    /// Which endpoint is tried next.
    next: usize,
    backfilling: Option<Backfilling>,
    trouble: Trouble,
    /// Until the cluster has told whether it is the one.
    warm: Option<Warm>,
}

impl EtcdFeed {
    /// Follows this target; connecting is left to [`Syncer::run`], which never gives up.
    pub fn new(target: EtcdTarget, access: EtcdAccess) -> Self {
        let next = fastrand::usize(..target.endpoints.len().max(1));
        Self { target, access, next, backfilling: None, trouble: Trouble::default(), warm: None }
    }

    async fn session(&mut self, sink: &Sink, place: &mut Option<Place>) -> Result<(), EtcdError> {
        let endpoints = &self.target.endpoints;
        let endpoint = endpoints.get(self.next % endpoints.len().max(1)).cloned().unwrap_or_default();
        // The next try, whenever it comes, is another member's.
        self.next += 1;
        let Self { target, access, backfilling, trouble, warm, .. } = self;
        let opening = Session::open(&endpoint, access, &target.prefix, sink.clone(), trouble, backfilling);
        // Before anything is served there is nothing to doubt.
        let session = if place.is_some() { in_doubt(sink, opening).await? } else { opening.await? };
        session.run(place, warm).await
    }
}

impl Syncer for EtcdFeed {
    /// Known only once the cluster has told its id.
    fn history(&self) -> Option<History> {
        None
    }

    async fn run(mut self, sink: Sink, warm: Option<Warm>) -> Result<(), FeedError> {
        self.warm = warm;
        let mut place = None;
        let mut failures: u32 = 0;
        loop {
            let before = sink.upstream().heard_count();
            let error = match self.session(&sink, &mut place).await {
                Err(EtcdError::Feed(error)) => return Err(error),
                Err(error) => error,
                Ok(()) => EtcdError::Cancelled("the stream has ended".to_owned()),
            };
            sink.upstream().reconnects.add(1);
            let answered = sink.upstream().heard_count() > before;
            failures = if answered { 1 } else { failures + 1 };
            // One broken connection is mended at once by another member; what lasts longer is told.
            if failures > 1 && place.is_some() {
                sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
            }
            let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10));
            let pause = doubled.min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0);
            // Once etcd has answered, ever, the settings are right.
            let never_answered = sink.upstream().heard_count() == 0;
            let advice =
                error.advice(&self.access).filter(|_| never_answered).map(|advice| format!(" ({advice})"));
            let advice = advice.unwrap_or_default();
            warn!(failures, "etcd: {error}{advice}; trying again in {} ms", pause.as_millis());
            tokio::time::sleep(pause).await;
        }
    }
}

/// The end of the range of keys with this prefix, as etcd wants it: the first key after them.
fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Every key from the start on.
    vec![0]
}

/// The start of that range: etcd has no empty key.
fn range_start(prefix: &[u8]) -> Vec<u8> {
    if prefix.is_empty() { vec![0] } else { prefix.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range() {
        assert_eq!((range_start(b"a/"), range_end(b"a/")), (b"a/".to_vec(), b"a0".to_vec()));
        assert_eq!((range_start(b""), range_end(b"")), (vec![0], vec![0]));
        assert_eq!(range_end(b"a\xff\xff"), b"b".to_vec());
        assert_eq!(range_end(b"\xff"), vec![0]);
    }
}
