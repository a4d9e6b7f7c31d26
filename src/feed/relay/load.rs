//! Reading the whole state of an upstream.

use std::mem::take;

use tracing::info;

use super::RelayError;
use super::follower::{Follower, Position, read, unexpected};
use crate::client::{Records, RelayClient};
use crate::feed::Activity;
use crate::model::{Batch, Change, FeedEvent, Grouping, ResyncClaim, Revision, SyncStatus, Update};
use crate::wire::{End, Record};

/// Updates in one event to the cache. Few, because the buffer to the cache is bounded by the number of events.
const BATCH: usize = 16;

impl Follower {
    /// Reads a whole state of the upstream as a resync: an old one where that is possible, so that the breadcrumbs after it
    /// follow, and cursors from before are kept.
    pub(super) async fn load(&mut self, client: &RelayClient) -> Result<(), RelayError> {
        if self.applied.is_some() {
            self.report_status(SyncStatus::ResyncInProgress).await?;
        }
        self.sink.upstream().does(Activity::Listing { page: 1 });
        let (origin, answer) = self.known_origin(client.origin().await?).await?;
        answer.accepted().await?;
        if origin.newest.is_none() {
            return Err(RelayError::Starting);
        }
        // Time does not go back: an older state than ours is of no use.
        let is_ahead = |revision: Revision| self.applied.is_none_or(|(_, applied)| revision > applied);
        let is_of_another = |history| self.applied.is_none_or(|(applied, _)| applied != history);
        let begin = origin.begin.filter(|begin| match self.is_narrowed() {
            true => self.applied.is_none(),
            false => is_ahead(begin.revision) || is_of_another(begin.history),
        });
        let (_, answer) = self.known_origin(client.state(begin).await?).await?;
        let records = match answer.records().await {
            // It has just left the window.
            Err(error) if error.gap().is_some() && begin.is_some() => {
                let (_, answer) = self.known_origin(client.state(None).await?).await?;
                answer.records().await?
            }
            records => records?,
        };
        self.read(records).await
    }

    async fn read(&mut self, mut records: Records) -> Result<(), RelayError> {
        let rights = records.rights().map(str::to_owned);
        let Some(Record::Snapshot(header)) = records.next().await? else {
            return Err(unexpected("a state was asked for, and something else came"));
        };
        let (Some(cursor), Some(revision)) = (header.cursor.map(read).transpose()?, header.revision) else {
            return Err(unexpected("a state has no cursor or revision"));
        };
        info!(keys = header.count, revision = revision.0, "reading the state of another crumbd");
        let history = self.history_of(cursor.history, rights.as_deref());
        if history == cursor.history && header.digest.is_none() {
            return Err(unexpected("a whole state has no digest"));
        }
        let goes_on = self.applied.is_some_and(|(applied, at)| applied == history && revision > at);
        let history_begins = (!goes_on).then_some(history);
        // Under a prefix or narrow rights the upstream does not know what led to the state.
        let asks_for_past = !goes_on && history == cursor.history;
        let begin = FeedEvent::ResyncBegin {
            history: history_begins,
            whole_at: Some(revision),
            lossy: asks_for_past,
        };
        self.sink.send(begin).await?;
        let end = self.read_entries(&mut records).await?;
        let claim = ResyncClaim::default();
        self.sink.send(FeedEvent::ResyncEnd { revision: Some(revision), claim, complete: true }).await?;
        self.applied = Some((history, revision));
        self.position = Some(Position { cursor, rights });
        (self.begins_at, self.past_asked) = (asks_for_past.then_some(cursor), 0);
        let claim = ResyncClaim { count: end.count, digest: end.digest };
        self.verified(Default::default(), revision, None, claim).await?;
        self.publish_position();
        Ok(())
    }

    async fn read_entries(&mut self, records: &mut Records) -> Result<End, RelayError> {
        let mut some = Vec::with_capacity(BATCH);
        loop {
            match records.next().await? {
                Some(Record::Put { entry, .. }) => {
                    let revision = entry.revision();
                    some.push(Update { change: Change::Put(entry), revision });
                }
                Some(Record::End(end)) => {
                    self.send(take(&mut some)).await?;
                    return Ok(end);
                }
                Some(_) => return Err(unexpected("a state has a record that is no key")),
                None => return Err(RelayError::CutOff),
            }
            if some.len() == BATCH {
                self.send(take(&mut some)).await?;
            }
        }
    }

    async fn send(&self, updates: Vec<Update>) -> Result<(), RelayError> {
        Ok(self.sink.send(FeedEvent::Updates(Batch::new(updates, Grouping::Whole))).await?)
    }
}
