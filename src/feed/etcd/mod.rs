//! `etcd://HOST:PORT[,…]/PREFIX`: a range at one revision, then a watch from the next.
//!
//! What the feed promises:
//!
//! - A transaction is one revision and is never split.
//! - Replicas agree on the history: it is derived from the cluster's id and the prefix. That id comes from the
//!   cluster's configuration, so a store that was recreated, or restored from a backup, may have the same one.
//!   Whenever the store may have been replaced, its whole state at our revision is verified ([`verify`]). If it is
//!   another store, the feed counts up a generation, and that is another history.
//! - Whatever happens to the connection, or to the history in etcd (compaction), the daemon goes on serving, and what
//!   it missed appears as one ordinary breadcrumb. That includes deletions that etcd itself has lost
//!   ([`key_count_audit`]) and changes that a silently dead watch did not deliver ([`stall`]).
//!
//! One connection is a [`session`]; it decides by the [`watch_end`] what to do when a [`watch`] ends.
//!
//! Progress notifications are not used: before 3.4.25 and 3.5.8 etcd may send them ahead of events (etcd issue
//! 15220). Instead the feed reads one key linearizably once a second. That shows that the connection lives and how
//! far the store is, and it fails when the leader is lost. The answer counts only beside a watch that etcd has
//! confirmed: whoever may read that key may not be allowed to watch the others.

mod backfill;
mod caught_up;
mod client;
mod error;
mod key_count_audit;
mod leases;
mod load;
mod pages;
mod password;
mod proto;
mod resume_point;
mod session;
mod stall;
mod verify;
mod watch;
mod watch_end;

pub use client::EtcdAccess;
pub use password::Password;

use std::convert::Infallible;
use std::time::Duration;

use tracing::warn;

use super::{FeedError, Sink, Syncer, Warm};
use crate::model::{FeedEvent, History, SyncStatus};
use backfill::Backfill;
use error::EtcdError;
use resume_point::ResumePoint;
use session::{Memory, Session, report_if_slow};

/// The first pause after a failure and the longest; half of it is random.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The keys to follow, and where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdTarget {
    /// `host:port` of the members, in any order.
    pub endpoints: Vec<String>,
    /// Only keys that begin with this are followed; empty: all. Keys keep their full name.
    pub prefix: Vec<u8>,
}

/// An etcd prefix as a feed.
pub struct EtcdFeed {
    target: EtcdTarget,
    access: EtcdAccess,
    /// The endpoint to try next.
    next: usize,
    backfill: Option<Backfill>,
    memory: Memory,
    /// The state of the last run, until the cluster has been asked whether it is the same one.
    warm: Option<Warm>,
}

impl EtcdFeed {
    /// A feed of this target. [`Syncer::run`] connects, and never gives up.
    pub fn new(target: EtcdTarget, access: EtcdAccess) -> Self {
        let next = fastrand::usize(..target.endpoints.len().max(1));
        Self { target, access, next, backfill: None, memory: Memory::default(), warm: None }
    }

    async fn session(
        &mut self,
        sink: &Sink,
        resume: &mut Option<ResumePoint>,
    ) -> Result<Infallible, EtcdError> {
        let endpoints = &self.target.endpoints;
        let endpoint = endpoints.get(self.next % endpoints.len().max(1)).cloned().unwrap_or_default();
        // The next session is with another member.
        self.next += 1;
        let Self { target, access, backfill, memory, warm, .. } = self;
        let opening = Session::open(&endpoint, access, &target.prefix, sink.clone(), memory, backfill);
        // Before anything is served there is no status to report.
        let session = if resume.is_some() { report_if_slow(sink, opening).await? } else { opening.await? };
        session.run(resume, warm).await
    }
}

impl Syncer for EtcdFeed {
    /// Known only once the cluster has answered with its id.
    fn history(&self) -> Option<History> {
        None
    }

    async fn run(mut self, sink: Sink, warm: Option<Warm>) -> Result<(), FeedError> {
        self.warm = warm;
        let mut resume = None;
        let mut failures: u32 = 0;
        loop {
            let before = sink.upstream().heard_count();
            let error = match self.session(&sink, &mut resume).await {
                Ok(never) => match never {},
                Err(EtcdError::Feed(error)) => return Err(error),
                Err(error) => error,
            };
            sink.upstream().reconnects.inc();
            let answered = sink.upstream().heard_count() > before;
            failures = if answered { 1 } else { failures + 1 };
            // Another member replaces a broken connection at once; clients are told of what lasts longer.
            if failures > 1 && resume.is_some() {
                sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
            }
            let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10));
            let pause = doubled.min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0);
            // Once etcd has ever answered, the settings are right.
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
