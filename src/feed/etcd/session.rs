//! One connection: find out whether it is the store we know, and follow it.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Streaming;
use tracing::{info, warn};

use super::backfill::{self, Backfilling};
use super::census::Census;
use super::client::{ANSWER, Connection, EtcdAccess};
use super::leases::Leases;
use super::load::{Loaded, Reading, revision};
use super::place::{GENERATIONS, Newest, Place};
use super::proof::Proof;
use super::proto::{KeyValue, RangeRequest, ResponseHeader, WatchResponse};
use super::watch::{Ended, Watch};
use super::{EtcdError, range_start};
use crate::feed::{Sink, Warm};
use crate::model::{FeedEvent, History, Likeness, SyncStatus};

/// How long a doubt about the store may last before clients are told that they may not be in sync. A broken
/// connection that is mended at once is not worth a word to thousands of them.
const GRACE: Duration = Duration::from_secs(1);

/// After watches that told nothing, the store is looked at without one: for so long at first, and at the most.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// After so many of them another member is tried.
const WATCHES: u32 = 3;

pub(super) struct Session<'a> {
    pub(super) endpoint: &'a str,
    pub(super) connection: Connection,
    pub(super) prefix: &'a [u8],
    pub(super) sink: Sink,
    pub(super) leases: Leases,
    pub(super) trouble: &'a mut Trouble,
    /// Survives the session: it goes on by itself.
    backfilling: &'a mut Option<Backfilling>,
}

/// What is remembered from one session to the next, apart from the place.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Watches in a row that ended before it was clear that they tell what happens.
    pub(super) fruitless: u32,
    /// Whether everything was just read again because a watch had lost something.
    reread: bool,
    /// Whether it was said that the prefix is empty, and what it may have been meant to be.
    pub(super) hinted: bool,
}

impl Trouble {
    /// When a watch is tried again, after several in a row have told nothing.
    fn watch_again(&self) -> Instant {
        let pause = FIRST_REST.saturating_mul(1 << self.fruitless.saturating_sub(1).min(10));
        Instant::now() + pause.min(LONGEST_REST)
    }

    /// The watch tells what happens.
    pub(super) fn is_over(&mut self) {
        (self.fruitless, self.reread) = (0, false);
    }
}

impl<'a> Session<'a> {
    pub(super) async fn open(
        endpoint: &'a str,
        access: &EtcdAccess,
        prefix: &'a [u8],
        sink: Sink,
        trouble: &'a mut Trouble,
        backfilling: &'a mut Option<Backfilling>,
    ) -> Result<Self, EtcdError> {
        let connection = Connection::open(endpoint, access).await?;
        let leases = Leases::default();
        Ok(Self { endpoint, connection, prefix, sink, leases, trouble, backfilling })
    }

    /// Follows the store until something breaks, and says what. `place` is left where the cache stands.
    pub(super) async fn run(
        mut self,
        place: &mut Option<Place>,
        warm: &mut Option<Warm>,
    ) -> Result<(), EtcdError> {
        // What the session before had begun to read is not to be mixed with what comes.
        self.sink.send(FeedEvent::ResyncGivenUp).await?;
        let (now, _) = self.ask(None).await?;
        // Only now: a server may take a connection and refuse whoever is at its other end.
        info!(endpoint = %self.endpoint, revision = now.revision, "connected to etcd");
        self.sink.upstream().is_cousin_of(Place::cousins(now.cluster_id, self.prefix));
        if let Some(warm) = warm.take().filter(|_| place.is_none()) {
            *place = self.recognise(&warm, now);
        }
        let mut at = match place.clone() {
            None => self.load(0).await?,
            Some(known) if self.trouble.fruitless > 0 && known.cluster_id == now.cluster_id => {
                self.reread(&known).await?
            }
            Some(known) => self.resume(known, now).await?,
        };
        let mut watch_again = (self.trouble.fruitless > 1).then(|| self.trouble.watch_again());
        loop {
            self.tell_past(&mut at);
            *place = Some(at.clone());
            at = match Watch::follow(&mut self, &mut at, place, watch_again).await? {
                Ended::Rested => {
                    watch_again = None;
                    at
                }
                Ended::Lost => {
                    info!(
                        revision = at.revision,
                        "what was missed is not in etcd's history any more: reading everything again"
                    );
                    if watch_again.is_none() && std::mem::replace(&mut self.trouble.reread, true) {
                        self.trouble.fruitless += 1;
                        if self.trouble.fruitless.is_multiple_of(WATCHES) {
                            return Err(EtcdError::Fruitless);
                        }
                        watch_again = Some(self.trouble.watch_again());
                    }
                    self.reread(&at).await?
                }
                Ended::WentBack => self.begin_another(&at).await?,
                Ended::Doubtful => {
                    let (now, _) = self.ask(None).await?;
                    self.resume(at, now).await?
                }
            };
        }
    }

    /// How far the store is, and the key that was set last there: a linearizable read, so the leader and a majority were
    /// there. Whoever may read this one key need not be let to watch the others: that the store was heard is not
    /// said here.
    pub(super) async fn ask(
        &self,
        newest: Option<&Newest>,
    ) -> Result<(ResponseHeader, Option<KeyValue>), EtcdError> {
        let asked = Instant::now();
        let key = newest.map_or_else(|| range_start(self.prefix), |newest| newest.key.clone());
        let request = RangeRequest { key, keys_only: true, limit: 1, ..RangeRequest::default() };
        let answer = tokio::time::timeout(ANSWER, self.connection.range(request)).await;
        let answer = answer.map_err(|_| EtcdError::Cancelled("no answer to a read in time".to_owned()))??;
        let header = answer.header.ok_or(EtcdError::Nonsense("a range without a header"))?;
        self.sink.upstream().is_at(revision(header.revision), asked.into_std());
        Ok((header, answer.kvs.into_iter().next()))
    }

    pub(super) fn reading(&self) -> Reading<'_> {
        Reading { connection: &self.connection, prefix: self.prefix, sink: &self.sink }
    }

    /// Where the last run stood, if it was in a store with this id. Whether it is the same one is still to be proved.
    fn recognise(&self, warm: &Warm, now: ResponseHeader) -> Option<Place> {
        let of = |generation| Place::history(now.cluster_id, generation, self.prefix);
        let generation = (0..GENERATIONS).find(|generation| of(*generation) == warm.history)?;
        Some(Place {
            cluster_id: now.cluster_id,
            generation,
            revision: i64::try_from(warm.revision.0).unwrap_or(i64::MAX),
            term: None,
            census: None,
            newest: None,
            past_unknown: Some(i64::try_from(warm.oldest.0).unwrap_or(i64::MAX)),
        })
    }

    /// Goes on at a place once it is proved to be one of this store; else reads everything.
    async fn resume(&mut self, known: Place, now: ResponseHeader) -> Result<Place, EtcdError> {
        match in_doubt(&self.sink, self.prove(&known, now)).await? {
            Proof::Same(place) => Ok(place),
            Proof::Other => self.begin_another(&known).await,
            Proof::Compacted => {
                info!(revision = known.revision, "etcd has compacted what we know: reading everything again");
                self.reread(&known).await
            }
        }
    }

    async fn begin_another(&mut self, known: &Place) -> Result<Place, EtcdError> {
        let (now, _) = self.ask(None).await?;
        warn!(
            revision = known.revision,
            upstream = now.revision,
            "etcd is not the store it was: recreated or restored; its revisions are another history"
        );
        self.load(known.next_generation(now.cluster_id)).await
    }

    /// Reads everything, and begins another history with it.
    async fn load(&mut self, generation: u64) -> Result<Place, EtcdError> {
        let prefix = self.prefix;
        let history_of = |header: ResponseHeader| Some(Place::history(header.cluster_id, generation, prefix));
        let loaded = self.read(history_of).await?;
        self.end(&loaded, generation).await
    }

    /// Reads everything, and stays in the history unless what is read contradicts it.
    async fn reread(&mut self, known: &Place) -> Result<Place, EtcdError> {
        let loaded = self.read(|_| None).await?;
        let other = loaded.revision < known.revision || loaded.header.cluster_id != known.cluster_id;
        if other || self.reading().likeness().await? == Likeness::Other {
            self.reading().give_up().await?;
            return self.begin_another(known).await;
        }
        self.end(&loaded, known.generation).await
    }

    async fn read(
        &mut self,
        history_of: impl Fn(ResponseHeader) -> Option<History>,
    ) -> Result<Loaded, EtcdError> {
        self.sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
        let Self { connection, prefix, sink, leases, .. } = self;
        let reading = Reading { connection, prefix, sink };
        loop {
            match reading.newest(&history_of, leases).await {
                // It took longer than the store keeps a revision: begin anew.
                Err(EtcdError::Compacted) => {
                    warn!("etcd compacted the revision that was being read: beginning anew")
                }
                read => return read,
            }
        }
    }

    /// What was read is the state, and with it we are in sync; after a watch that told nothing only the next one says so.
    async fn end(&mut self, loaded: &Loaded, generation: u64) -> Result<Place, EtcdError> {
        self.reading().end(loaded).await?;
        if self.trouble.fruitless == 0 {
            self.sink.send(FeedEvent::Status(SyncStatus::InSync)).await?;
        }
        if loaded.keys == 0 {
            self.hint().await;
        }
        Ok(Place {
            cluster_id: loaded.header.cluster_id,
            generation,
            revision: loaded.revision,
            term: Some(loaded.header.raft_term),
            census: Some(Census::of(loaded.keys, loaded.revision)),
            newest: loaded.newest.clone(),
            past_unknown: Some(loaded.revision),
        })
    }

    /// Has the cache told what happened before, where it does not know.
    fn tell_past(&mut self, at: &mut Place) {
        if let Some(end) = at.past_unknown.take() {
            let (connection, prefix) = (self.connection.clone(), self.prefix.to_vec());
            *self.backfilling = Some(backfill::start(connection, prefix, end, self.sink.clone()));
        }
    }

    /// A prefix without keys may be one that was meant with, or without, a slash before it.
    async fn hint(&mut self) {
        if self.prefix.is_empty() || std::mem::replace(&mut self.trouble.hinted, true) {
            return;
        }
        let meant = match self.prefix.strip_prefix(b"/") {
            Some(without) => without.to_vec(),
            None => [b"/", self.prefix].concat(),
        };
        let range = RangeRequest {
            key: range_start(&meant),
            range_end: super::range_end(&meant),
            count_only: true,
            ..RangeRequest::default()
        };
        // Whoever may not read those has not meant them.
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

/// Awaits what decides whether we are in sync. Where that takes long, clients are told that they may not be.
pub(super) async fn in_doubt<T>(
    sink: &Sink,
    deciding: impl Future<Output = Result<T, EtcdError>>,
) -> Result<T, EtcdError> {
    let mut deciding = std::pin::pin!(deciding);
    match tokio::time::timeout(GRACE, &mut deciding).await {
        Ok(decided) => decided,
        Err(_) => {
            sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
            deciding.await
        }
    }
}

pub(super) async fn next(responses: &mut Streaming<WatchResponse>) -> Result<WatchResponse, EtcdError> {
    let next = responses.message().await?;
    next.ok_or_else(|| EtcdError::Cancelled("the server ended the watch".to_owned()))
}
