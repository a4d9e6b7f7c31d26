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
//! Writes go over another connection, and are answered once the feed has brought them back ([`writer`]).
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
mod config;
mod error;
mod key_count_audit;
mod leases;
mod load;
mod pages;
mod password;
mod read_position;
mod resume_point;
mod session;
mod stall;
mod verify;
mod watch;
mod watch_end;
mod writer;

pub use client::EtcdAccess;
pub(super) use config::KIND;
pub use password::Password;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::backoff::Backoff;
use super::{Activity, Feed, FeedError, Sink, Upstream, Warm, Writer};
use crate::ingest::IngestBuffer;
use crate::model::{EntryLimits, FeedEvent, History, SyncStatus};
use backfill::Backfill;
use error::EtcdError;
use resume_point::ResumePoint;
use session::{Memory, Session};
use writer::EtcdWriter;

/// The longest time without a sign of life: the feed asks its upstream every few seconds, and tries again when it gets no
/// answer.
const MAX_SILENCE: Duration = Duration::from_secs(120);

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
    takes_writes: bool,
    /// The endpoint to try next.
    next: usize,
    backfill: Option<Backfill>,
    memory: Memory,
    /// The state of the last run, until the cluster has been asked whether it is the same one.
    warm: Option<Warm>,
}

impl EtcdFeed {
    /// A feed of this target. [`Feed::run`] connects, and never gives up.
    pub fn new(target: EtcdTarget, access: EtcdAccess) -> Self {
        let next = fastrand::usize(..target.endpoints.len().max(1));
        let memory = Memory::default();
        Self { target, access, takes_writes: false, next, backfill: None, memory, warm: None }
    }

    /// The same feed with a write side, or without one.
    #[must_use]
    pub fn with_writes(self, takes_writes: bool) -> Self {
        Self { takes_writes, ..self }
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
        let session = if resume.is_some() { sink.report_if_slow(opening).await? } else { opening.await? };
        session.run(resume, warm).await
    }
}

impl Feed for EtcdFeed {
    fn upstream(&self) -> Upstream {
        Upstream::remote().of_prefix(&self.target.prefix)
    }

    /// Known only once the cluster has answered with its id.
    fn history(&self) -> Option<History> {
        None
    }

    fn max_silence(&self) -> Option<Duration> {
        Some(MAX_SILENCE)
    }

    fn can_read_history(&self) -> bool {
        true
    }

    fn counts_writes(&self) -> bool {
        true
    }

    fn writer(&self, buffer: &Arc<IngestBuffer<FeedEvent>>, limits: EntryLimits) -> Option<Arc<dyn Writer>> {
        if !self.takes_writes {
            return None;
        }
        let (target, access, buffer) = (self.target.clone(), self.access.clone(), Arc::clone(buffer));
        let position = self.memory.position.clone();
        Some(Arc::new(EtcdWriter::new(target, access, limits, position, buffer)))
    }

    fn run(self: Box<Self>, sink: Sink, warm: Option<Warm>) -> BoxFuture<'static, Result<(), FeedError>> {
        Box::pin(self.follow(sink, warm))
    }
}

impl EtcdFeed {
    /// One session after the other.
    async fn follow(mut self, sink: Sink, warm: Option<Warm>) -> Result<(), FeedError> {
        self.warm = warm;
        sink.upstream().answers_when_asked();
        let mut resume = None;
        let mut backoff = Backoff::default();
        loop {
            sink.upstream().does(Activity::Connecting);
            let error = match self.session(&sink, &mut resume).await {
                Ok(never) => match never {},
                Err(EtcdError::Feed(error)) => return Err(error),
                Err(error) => error,
            };
            self.memory.position.is_lost();
            // Another member replaces a broken connection at once; clients are told of what lasts longer.
            if backoff.failed(sink.upstream()) > 1 && resume.is_some() {
                sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
            }
            // Once etcd has ever answered, the settings are right.
            let never_answered = sink.upstream().heard_count() == 0;
            let advice = error.advice(&self.access).filter(|_| never_answered);
            let advice = advice.map(|advice| format!(" ({advice})")).unwrap_or_default();
            backoff.pause(sink.upstream(), "etcd", &format!("{error}{advice}"), None).await;
        }
    }
}

/// The end of the range of keys with this prefix, as etcd wants it: the first key after them.
fn range_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    // Every key from the start on.
    Bytes::from_static(&[0])
}

/// The start of that range: etcd has no empty key.
fn range_start(prefix: &[u8]) -> Bytes {
    if prefix.is_empty() { Bytes::from_static(&[0]) } else { Bytes::copy_from_slice(prefix) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range() {
        assert_eq!((range_start(b"a/"), range_end(b"a/")), ("a/".into(), "a0".into()));
        assert_eq!((range_start(b""), range_end(b"")), ("\0".into(), "\0".into()));
        assert_eq!(range_end(b"a\xff\xff"), "b");
        assert_eq!(range_end(b"\xff"), "\0");
    }
}
