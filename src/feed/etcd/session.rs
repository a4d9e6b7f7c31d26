//! One connection: find out whether it is the store we know, catch up, and watch.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::Streaming;
use tracing::{info, warn};

use super::backfill::{self, Backfilling};
use super::caught_up::{CaughtUp, count_at};
use super::census::Census;
use super::client::{ANSWER, Connection, EtcdAccess};
use super::load::{Leases, load, put, revision};
use super::place::{GENERATIONS, Place, Witness};
use super::proto::{Event, EventType, RangeRequest, ResponseHeader, WatchCreateRequest, WatchResponse};
use super::{EtcdError, range_end, range_start};
use crate::feed::{Sink, Warm};
use crate::model::{Batch, FeedEvent, Grouping, SyncStatus, Update};

/// How often the store is asked how far it is.
const ASK: Duration = Duration::from_secs(1);

pub(super) struct Session<'a> {
    endpoint: &'a str,
    connection: Connection,
    prefix: &'a [u8],
    sink: Sink,
    leases: Leases,
    /// Survives the session: it goes on by itself.
    backfilling: &'a mut Option<Backfilling>,
}

/// How a watch ended.
enum Ended {
    /// The revisions that it asked for are compacted away.
    Compacted,
    /// The store's revision is below ours.
    WentBack,
}

impl<'a> Session<'a> {
    pub(super) async fn open(
        endpoint: &'a str,
        access: &EtcdAccess,
        prefix: &'a [u8],
        sink: Sink,
        backfilling: &'a mut Option<Backfilling>,
    ) -> Result<Self, EtcdError> {
        let connection = Connection::open(endpoint, access).await?;
        Ok(Self { endpoint, connection, prefix, sink, leases: Leases::default(), backfilling })
    }

    /// Follows the store until something breaks. `place` is left where the cache stands.
    pub(super) async fn run(
        mut self,
        place: &mut Option<Place>,
        warm: &mut Option<Warm>,
    ) -> Result<(), EtcdError> {
        let now = self.ask().await?;
        // Only now: a server may take a connection and refuse whoever is at its other end.
        info!(endpoint = %self.endpoint, revision = now.revision, "connected to etcd");
        self.sink.upstream().is_cousin_of(Place::cousins(now.cluster_id, self.prefix));
        if place.is_none()
            && let Some(known) = warm
        {
            *place = self.recognise(known, now).await?;
            *warm = None;
        }
        let mut at = match place.take() {
            Some(known) if self.is_known(&known, now).await? => known,
            Some(other) => {
                warn!(
                    revision = other.revision,
                    upstream = now.revision,
                    "etcd is not the store it was: recreated or restored; its revisions are another history"
                );
                let generation = if other.cluster_id == now.cluster_id { other.generation + 1 } else { 0 };
                // Should the load fail, this is still what we know.
                *place = Some(other);
                self.load(Some(generation), 0).await?
            }
            None => self.load(Some(0), 0).await?,
        };
        loop {
            *place = Some(at.clone());
            let ended = self.watch(&mut at, now.revision, place).await?;
            at = match ended {
                Ended::Compacted => {
                    info!(
                        revision = at.revision,
                        "etcd has compacted what was missed: reading everything again"
                    );
                    let generation = at.generation;
                    self.load(None, generation).await?
                }
                Ended::WentBack => {
                    warn!(
                        revision = at.revision,
                        "etcd went back: recreated or restored; its revisions are another history"
                    );
                    self.load(Some(at.generation + 1), 0).await?
                }
            };
        }
    }

    /// How far the store is: a linearizable read, so the leader and a majority were there. Whoever may read this one
    /// key need not be let to watch the others: that the store was heard is not said here.
    async fn ask(&self) -> Result<ResponseHeader, EtcdError> {
        let asked = Instant::now();
        let key = range_start(self.prefix);
        let request = RangeRequest { key, keys_only: true, limit: 1, ..RangeRequest::default() };
        let answer = tokio::time::timeout(ANSWER, self.connection.range(request)).await;
        let answer = answer.map_err(|_| EtcdError::Cancelled("no answer to a read in time".to_owned()))??;
        let header = answer.header.ok_or(EtcdError::Nonsense("a range without a header"))?;
        self.sink.upstream().is_at(revision(header.revision), asked.into_std());
        Ok(header)
    }

    /// Whether the store is the one in which we stand at `place`.
    async fn is_known(&self, place: &Place, now: ResponseHeader) -> Result<bool, EtcdError> {
        if place.cluster_id != now.cluster_id || now.revision < place.revision {
            return Ok(false);
        }
        let Some(Witness { key, set }) = &place.witness else { return Ok(true) };
        let request = RangeRequest { key: key.clone(), revision: place.revision, ..RangeRequest::default() };
        match self.connection.range(request).await {
            Ok(found) => Ok(found.kvs.first().map(|kv| (kv.mod_revision, kv.value.clone())) == *set),
            // Nobody can tell any more; the watch will find out that it is compacted too.
            Err(EtcdError::Compacted) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether this is the store of which the last run kept a state: then we stand at its revision.
    async fn recognise(&mut self, warm: &Warm, now: ResponseHeader) -> Result<Option<Place>, EtcdError> {
        let of = |generation| Place::history(now.cluster_id, generation, self.prefix);
        let Some(generation) = (0..GENERATIONS).find(|generation| of(*generation) == warm.history) else {
            return Ok(None);
        };
        let mut place = Place {
            cluster_id: now.cluster_id,
            generation,
            revision: i64::try_from(warm.revision.0).unwrap_or(i64::MAX),
            census: None,
            witness: None,
        };
        let same = now.revision >= place.revision && self.has_had(warm, place.revision).await?;
        if same {
            let end = i64::try_from(warm.oldest.0).unwrap_or(i64::MAX);
            *self.backfilling =
                Some(backfill::start(self.connection.clone(), self.prefix.to_vec(), end, self.sink.clone()));
        } else {
            // No store of this generation is there any more: the session finds that out by this.
            place.revision = i64::MAX;
        }
        Ok(Some(place))
    }

    /// Whether the store had the newest entry of the kept state at that revision. It may have been set
    /// again to the same value since, which the cache does not note.
    async fn has_had(&self, warm: &Warm, at: i64) -> Result<bool, EtcdError> {
        let Some(witness) = &warm.witness else { return Ok(true) };
        let set_at = witness.revision().unwrap_or_default();
        let request = RangeRequest { key: witness.key().to_vec(), revision: at, ..RangeRequest::default() };
        match self.connection.range(request).await {
            Ok(found) => Ok(found.kvs.first().is_some_and(|kv| {
                let since = revision(kv.create_revision) <= set_at && set_at <= revision(kv.mod_revision);
                since && kv.value == witness.value()
            })),
            Err(EtcdError::Compacted) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Reads everything. With a generation it begins another history, else it stays in `same`.
    async fn load(&mut self, other: Option<u64>, same: u64) -> Result<Place, EtcdError> {
        let prefix = self.prefix;
        let generation = other.unwrap_or(same);
        let history_of = |header: ResponseHeader| {
            other.map(|generation| Place::history(header.cluster_id, generation, prefix))
        };
        let loaded = loop {
            let loading = load(&self.connection, prefix, &self.sink, &mut self.leases, &history_of);
            match loading.await {
                // It took longer than the store keeps a revision: begin anew.
                Err(EtcdError::Compacted) => {
                    warn!("etcd compacted the revision that was being read: beginning anew")
                }
                done => break done?,
            }
        };
        self.sink.send(FeedEvent::Status(SyncStatus::InSync)).await?;
        let header = loaded.header;
        *self.backfilling = Some(backfill::start(
            self.connection.clone(),
            prefix.to_vec(),
            header.revision,
            self.sink.clone(),
        ));
        Ok(Place {
            cluster_id: header.cluster_id,
            generation,
            revision: header.revision,
            census: Some(Census::of(loaded.keys, header.revision)),
            witness: loaded.witness,
        })
    }

    /// Watches from the next revision on. `target` is where the store was when we connected: once
    /// that far, we are in sync.
    async fn watch(
        &mut self,
        at: &mut Place,
        target: i64,
        place: &mut Option<Place>,
    ) -> Result<Ended, EtcdError> {
        let create = WatchCreateRequest {
            key: range_start(self.prefix),
            range_end: range_end(self.prefix),
            start_revision: at.revision + 1,
            fragment: true,
            prev_kv: false,
        };
        let mut census = match at.census.take() {
            Some(census) => census,
            None => match count_at(&self.connection, &self.whole(), at.revision).await {
                Ok(keys) => Census::of(keys, at.revision),
                Err(EtcdError::Compacted) => return Ok(Ended::Compacted),
                Err(error) => return Err(error),
            },
        };
        if census.settled() > at.revision && census.settled() > self.ask().await?.revision {
            // It was counted further on than it is now: it went back, to somewhere that we know.
            return Ok(Ended::Compacted);
        }
        let (mut responses, _open) = self.connection.watch(create).await?;
        let mut caught_up = CaughtUp::new(at.revision, target);
        // etcd has taken the watch. It refuses one only after it was opened.
        let mut begun = false;
        let opened = Instant::now();
        let mut ticks = interval(ASK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut parts: Vec<Event> = Vec::new();
        // Up to here the watch brings what etcd reads from its history, and not what just happens.
        let mut history = target;
        loop {
            let response = tokio::select! {
                response = next(&mut responses) => response?,
                _ = ticks.tick() => {
                    let now = self.ask().await?;
                    if begun {
                        self.sink.upstream().heard();
                    } else if opened.elapsed() > ANSWER {
                        return Err(EtcdError::Cancelled("it was not begun in time".to_owned()));
                    }
                    if now.revision < at.revision {
                        return Ok(Ended::WentBack);
                    }
                    if now.cluster_id != at.cluster_id {
                        return Err(EtcdError::Cancelled("another cluster answers".to_owned()));
                    }
                    if self.is_compacted(census.settled()).await? {
                        let request = RangeRequest { count_only: true, ..self.whole() };
                        let now = self.connection.range(request).await?;
                        let header = now.header.ok_or(EtcdError::Nonsense("a range without a header"))?;
                        census.counted(header.revision, now.count);
                    } else {
                        census.settle(at.revision);
                    }
                    *place = Some(Place { census: Some(census.clone()), ..at.clone() });
                    if census.look().is_err() {
                        return Ok(Ended::Compacted);
                    }
                    if begun && !caught_up.is_reached() {
                        match caught_up.ask(&self.connection, self.prefix).await {
                            Ok(false) => {}
                            Ok(true) => self.sink.send(FeedEvent::Status(SyncStatus::InSync)).await?,
                            // Whether everything came can no longer be told.
                            Err(EtcdError::Compacted) => return Ok(Ended::Compacted),
                            Err(error) => return Err(error),
                        }
                    }
                    continue;
                }
            };
            if response.compact_revision > 0 {
                return Ok(Ended::Compacted);
            }
            if response.canceled {
                return Err(EtcdError::Cancelled(response.cancel_reason));
            }
            self.sink.upstream().heard();
            if response.created {
                begun = true;
                history = history.max(response.header.map_or(0, |header| header.revision));
                if caught_up.is_reached() {
                    self.sink.send(FeedEvent::Status(SyncStatus::InSync)).await?;
                } else {
                    ticks.reset_immediately();
                }
            }
            parts.extend(response.events);
            if response.fragment || parts.is_empty() {
                continue;
            }
            let events = std::mem::take(&mut parts);
            let oldest = events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).min();
            if oldest.is_some_and(|oldest| oldest <= history) && self.is_compacted(at.revision).await? {
                return Ok(Ended::Compacted);
            }
            let news = !caught_up.is_reached();
            if census.saw(&events).is_err() {
                return Ok(Ended::Compacted);
            }
            self.apply(&events, at).await?;
            caught_up.saw(&events);
            *place = Some(Place { census: Some(census.clone()), ..at.clone() });
            if news && caught_up.is_reached() {
                self.sink.send(FeedEvent::Status(SyncStatus::InSync)).await?;
            }
        }
    }

    /// Whether etcd has forgotten how the store was at this revision.
    ///
    /// Then a watch from the next revision on may lack deletions, although etcd accepts it where that one is just the
    /// compacted revision: it forgets the deletions of that revision too (etcd issues 18089 and 19179, mended in
    /// 3.4.36 and 3.5.18). So what a watch brings of the past is believed only if it is known, after it
    /// came, that nothing of it was compacted away. A watch that falls behind later on has the same to fear, and
    /// there it is too late to ask: see [`Census`].
    async fn is_compacted(&self, revision: i64) -> Result<bool, EtcdError> {
        // Nothing happens to an empty store, and 0 would mean the newest.
        if revision <= 1 {
            return Ok(false);
        }
        let key = range_start(self.prefix);
        let request = RangeRequest { key, revision, count_only: true, ..RangeRequest::default() };
        match self.connection.range(request).await {
            Ok(_) => Ok(false),
            Err(EtcdError::Compacted) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Everything below the prefix, without values.
    fn whole(&self) -> RangeRequest {
        RangeRequest {
            key: range_start(self.prefix),
            range_end: range_end(self.prefix),
            keys_only: true,
            ..RangeRequest::default()
        }
    }

    async fn apply(&mut self, events: &[Event], at: &mut Place) -> Result<(), EtcdError> {
        let puts = events.iter().filter(|event| event.kind() == EventType::Put);
        self.leases.learn(&self.connection, puts.filter_map(|event| event.kv.as_ref())).await?;
        let mut updates = Vec::with_capacity(events.len());
        for event in events {
            let kv = event.kv.as_ref().ok_or(EtcdError::Nonsense("an event without a key"))?;
            let set = match event.kind() {
                EventType::Put => {
                    updates.push(put(kv, &self.leases));
                    Some((kv.mod_revision, kv.value.clone()))
                }
                EventType::Delete => {
                    let delete = Update::delete(&kv.key);
                    updates.push(Update { revision: Some(revision(kv.mod_revision)), ..delete });
                    None
                }
            };
            at.revision = at.revision.max(kv.mod_revision);
            at.witness = Some(Witness { key: kv.key.to_vec(), set });
        }
        self.sink.send(FeedEvent::Updates(Batch::new(updates, Grouping::ByRevision))).await?;
        Ok(())
    }
}

pub(super) async fn next(responses: &mut Streaming<WatchResponse>) -> Result<WatchResponse, EtcdError> {
    let next = responses.message().await?;
    next.ok_or_else(|| EtcdError::Cancelled("the server ended the watch".to_owned()))
}
