//! A session: one connection to one member. Finds out whether its store is the one we know, and follows it.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{info, warn};

use super::backfill::{self, Backfill};
use super::client::{ANSWER, Connection, EtcdAccess};
use super::key_count_audit::KeyCountAudit;
use super::leases::Leases;
use super::load::{Loaded, RangeReader, revision};
use super::read_position::ReadPosition;
use super::resume_point::{Fingerprint, GENERATIONS, ResumePoint};
use super::verify::Verified;
use super::watch::Watch;
use super::watch_end::WatchEnd;
use super::{EtcdError, range_end, range_start};
use crate::feed::{Sink, Warm};
use crate::model::{Comparison, FeedEvent, History, SyncStatus};
use crate::value::Recurring;
use crate::wire::etcd::ResponseHeader;
use crate::wire::etcd::kv::{KeyValue, RangeRequest};

/// After watches that delivered nothing, the store is checked without one: for this long at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// After this many of them, another member is tried.
const WATCHES_PER_MEMBER: u32 = 3;

pub(super) struct Session<'a> {
    pub(super) endpoint: &'a str,
    pub(super) connection: Connection,
    pub(super) prefix: &'a [u8],
    pub(super) sink: Sink,
    pub(super) leases: Leases,
    pub(super) memory: &'a mut Memory,
    /// Goes on when the session ends.
    backfill: &'a mut Option<Backfill>,
}

/// What is remembered from one session to the next, beside the resume point.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Watches in a row that ended before it was clear that they deliver events.
    pub(super) failed_watches: u32,
    /// Whether everything has just been read again because a watch had missed something.
    resynced: bool,
    /// Whether the user was warned that no key has the prefix.
    warned_of_empty_prefix: bool,
    /// How far the cache has been given the store.
    pub(super) position: ReadPosition,
}

impl Memory {
    /// When to try a watch again, after several in a row have failed.
    fn retry_at(&self) -> Instant {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failed_watches.saturating_sub(1).min(10));
        Instant::now() + pause.min(LONGEST_PAUSE)
    }

    /// The watch delivers events.
    pub(super) fn watch_works(&mut self) {
        (self.failed_watches, self.resynced) = (0, false);
    }
}

impl<'a> Session<'a> {
    pub(super) async fn open(
        endpoint: &'a str,
        access: &EtcdAccess,
        prefix: &'a [u8],
        sink: Sink,
        memory: &'a mut Memory,
        backfill: &'a mut Option<Backfill>,
    ) -> Result<Self, EtcdError> {
        let connection = Connection::open(endpoint, access).await?;
        let leases = Leases::default();
        Ok(Self { endpoint, connection, prefix, sink, leases, memory, backfill })
    }

    /// Follows the store until the connection is of no more use. `resume` is left where the cache is.
    pub(super) async fn run(
        mut self,
        resume: &mut Option<ResumePoint>,
        warm: &mut Option<Warm>,
    ) -> Result<Infallible, EtcdError> {
        // A resync that the previous session left unfinished must not be mixed with what follows.
        self.sink.send(FeedEvent::ResyncAborted).await?;
        let (now, _) = self.probe(None).await?;
        // Only now: a server may accept a connection and refuse its user.
        info!(endpoint = %self.endpoint, revision = now.revision, "connected to etcd");
        let histories = ResumePoint::candidate_histories(now.cluster_id, self.prefix);
        self.sink.upstream().set_candidate_histories(histories);
        if let Some(warm) = warm.take().filter(|_| resume.is_none()) {
            *resume = self.recognise(&warm, now);
        }
        let mut at = match resume.clone() {
            None => self.load(0).await?,
            Some(known) if self.memory.failed_watches > 0 && known.cluster_id == now.cluster_id => {
                self.resync(&known).await?
            }
            Some(known) => self.resume(known, now).await?,
        };
        let mut retry_at = (self.memory.failed_watches > 1).then(|| self.memory.retry_at());
        loop {
            self.start_backfill(&mut at);
            *resume = Some(at.clone());
            self.memory.position.begins(&at);
            let end = Watch::follow(&mut self, &mut at, resume, retry_at).await?;
            self.memory.position.is_lost();
            at = match end {
                WatchEnd::RetryDue => {
                    retry_at = None;
                    at
                }
                WatchEnd::Compacted
                | WatchEnd::DeletionLost
                | WatchEnd::ChangesMissed
                | WatchEnd::BehindKeyCount => {
                    info!(revision = at.revision, "{end}: reading everything again");
                    if retry_at.is_none() && std::mem::replace(&mut self.memory.resynced, true) {
                        self.memory.failed_watches += 1;
                        if self.memory.failed_watches.is_multiple_of(WATCHES_PER_MEMBER) {
                            return Err(EtcdError::WatchesFail);
                        }
                        retry_at = Some(self.memory.retry_at());
                    }
                    self.resync(&at).await?
                }
                WatchEnd::RoomAgain => {
                    info!(revision = at.revision, "{end}: reading everything again");
                    self.resync(&at).await?
                }
                WatchEnd::WentBack => self.start_new_history(&at).await?,
                WatchEnd::Unobserved | WatchEnd::Contradiction => {
                    let (now, _) = self.probe(None).await?;
                    self.resume(at, now).await?
                }
                WatchEnd::Stalled => {
                    self.memory.failed_watches += 1;
                    self.sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
                    return Err(end.into());
                }
                WatchEnd::AnotherCluster
                | WatchEnd::NotConfirmed
                | WatchEnd::Cancelled(_)
                | WatchEnd::Closed => return Err(end.into()),
            };
        }
    }

    /// The store's newest header, and what it has of the key that was set last: a linearizable read, so the leader
    /// and a majority have answered. It does not count as having heard the upstream: whoever may read this one key
    /// may not be allowed to watch the others.
    pub(super) async fn probe(
        &self,
        fingerprint: Option<&Fingerprint>,
    ) -> Result<(ResponseHeader, Option<KeyValue>), EtcdError> {
        let asked = Instant::now();
        let key =
            fingerprint.map_or_else(|| range_start(self.prefix), |known| Bytes::copy_from_slice(&known.key));
        let request = RangeRequest { key, keys_only: true, limit: 1, ..RangeRequest::default() };
        let answer = tokio::time::timeout(ANSWER, self.connection.range(request)).await;
        let answer = answer.map_err(|_| EtcdError::NoAnswer)??;
        let header = answer.header.ok_or(EtcdError::Nonsense("a range without a header"))?;
        self.sink.upstream().is_at(revision(header.revision), asked.into_std());
        Ok((header, answer.kvs.into_iter().next()))
    }

    pub(super) fn reader(&self) -> RangeReader<'_> {
        RangeReader { connection: &self.connection, prefix: self.prefix, sink: &self.sink }
    }

    /// The resume point of the last run, if it was in a store with this cluster id. Whether it is the same store has
    /// yet to be verified.
    fn recognise(&self, warm: &Warm, now: ResponseHeader) -> Option<ResumePoint> {
        let of = |generation| ResumePoint::history(now.cluster_id, generation, self.prefix);
        let generation = (0..GENERATIONS).find(|generation| of(*generation) == warm.history)?;
        Some(ResumePoint {
            cluster_id: now.cluster_id,
            generation,
            revision: i64::try_from(warm.revision.0).unwrap_or(i64::MAX),
            term: None,
            audit: None,
            fingerprint: None,
            needs_backfill: Some(i64::try_from(warm.oldest.0).unwrap_or(i64::MAX)),
        })
    }

    /// Resumes at a point once the store is verified to be its store; else reads everything.
    async fn resume(&mut self, known: ResumePoint, now: ResponseHeader) -> Result<ResumePoint, EtcdError> {
        match self.sink.report_if_slow(self.verify(&known, now)).await? {
            Verified::Same(at) => Ok(at),
            Verified::Another => self.start_new_history(&known).await,
            Verified::Compacted => {
                info!(
                    revision = known.revision,
                    "etcd has compacted the changes after our revision: reading everything again"
                );
                self.resync(&known).await
            }
        }
    }

    async fn start_new_history(&mut self, known: &ResumePoint) -> Result<ResumePoint, EtcdError> {
        let (now, _) = self.probe(None).await?;
        warn!(
            revision = known.revision,
            upstream = now.revision,
            "etcd is not the store it was: recreated or restored; its revisions are another history"
        );
        self.load(known.next_generation(now.cluster_id)).await
    }

    /// Reads everything, as the start of another history.
    async fn load(&mut self, generation: u64) -> Result<ResumePoint, EtcdError> {
        let prefix = self.prefix;
        let history_of =
            |header: ResponseHeader| Some(ResumePoint::history(header.cluster_id, generation, prefix));
        let loaded = self.read(history_of).await?;
        self.end_resync(&loaded, generation).await
    }

    /// Reads everything, and stays in the history unless it is contradicted.
    async fn resync(&mut self, known: &ResumePoint) -> Result<ResumePoint, EtcdError> {
        let loaded = self.read(|_| None).await?;
        let other = loaded.revision < known.revision || loaded.header.cluster_id != known.cluster_id;
        if other || self.reader().likeness().await? == Comparison::Other {
            self.reader().give_up().await?;
            return self.start_new_history(known).await;
        }
        self.end_resync(&loaded, known.generation).await
    }

    async fn read(
        &mut self,
        history_of: impl Fn(ResponseHeader) -> Option<History>,
    ) -> Result<Loaded, EtcdError> {
        self.sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
        let Self { connection, prefix, sink, leases, .. } = self;
        let reader = RangeReader { connection, prefix, sink };
        let losing = Recurring::default();
        loop {
            match reader.read_current(&history_of, leases).await {
                // Reading took longer than etcd keeps a revision.
                Err(EtcdError::Compacted) => {
                    if let Some(times) = losing.failed("") {
                        warn!(times, "etcd compacted the revision that was being read: beginning anew");
                    }
                }
                read => return read,
            }
        }
    }

    /// What was read becomes the state, which puts us in sync. After failed watches, only the next watch does.
    async fn end_resync(&mut self, loaded: &Loaded, generation: u64) -> Result<ResumePoint, EtcdError> {
        self.reader().end(loaded).await?;
        if self.memory.failed_watches == 0 {
            self.sink.send(FeedEvent::Status(SyncStatus::InSync)).await?;
        }
        if loaded.keys == 0 {
            self.warn_of_empty_prefix().await;
        }
        Ok(ResumePoint {
            cluster_id: loaded.header.cluster_id,
            generation,
            revision: loaded.revision,
            term: Some(loaded.header.raft_term),
            audit: Some(KeyCountAudit::new(loaded.keys, loaded.revision)),
            fingerprint: loaded.fingerprint.clone(),
            needs_backfill: Some(loaded.revision),
        })
    }

    /// Starts to read the history that the cache does not know, if there is any.
    fn start_backfill(&mut self, at: &mut ResumePoint) {
        if let Some(end) = at.needs_backfill.take() {
            let (connection, prefix) = (self.connection.clone(), self.prefix.to_vec());
            *self.backfill = Some(backfill::start(connection, prefix, end, self.sink.clone()));
        }
    }

    /// Warns, once, if no key has the prefix, but some would with, or without, a slash before it.
    async fn warn_of_empty_prefix(&mut self) {
        if self.prefix.is_empty() || std::mem::replace(&mut self.memory.warned_of_empty_prefix, true) {
            return;
        }
        let meant = match self.prefix.strip_prefix(b"/") {
            Some(without) => without.to_vec(),
            None => [b"/", self.prefix].concat(),
        };
        let range = RangeRequest {
            key: range_start(&meant),
            range_end: range_end(&meant),
            count_only: true,
            ..RangeRequest::default()
        };
        // A user who may not read those keys has not meant them.
        let Ok(found) = self.connection.range(range).await else { return };
        if found.count > 0 {
            let (prefix, meant) = (self.prefix.escape_ascii(), meant.escape_ascii());
            warn!(
                keys = found.count,
                "no key begins with \"{prefix}\", but {} begin with \"{meant}\": the prefix is everything after the first slash behind HOST:PORT; for those keys the feed ends in HOST:PORT/{meant}",
                found.count
            );
        }
    }
}
