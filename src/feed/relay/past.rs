//! The breadcrumbs before a restored state, which the upstream may still keep.
//!
//! A relay that was started again has the window that it had stored, which may be short. Its clients may have older cursors,
//! from the upstream or from before. So it asks for what led to its oldest state, without keeping the values. A relay that
//! has read a state asks for the steps that led to it.
//!
//! The changes that come meanwhile are not applied. So the status is no longer in-sync where this takes long.

use std::collections::HashMap;
use std::mem::take;
use std::time::Duration;

use tracing::info;

use super::RelayError;
use super::follower::{Follower, read, unexpected};
use crate::client::{ClientError, Next, Records, RelayClient};
use crate::model::{Cursor, Digest, FeedEvent, Key, KeyStep, Past, PastStep, PastValue, Revision};
use crate::wire::{PutKind, Record};

/// How often the upstream is asked for steps that it is still reading back itself, about once a second.
const PAST_ASKED: u32 = 60;

/// A request that fails counts as so many of those: after a few, the upstream is only followed.
const PAST_FAILED: u32 = 20;

/// The answer to the question which steps lead to a state.
enum StepsAnswer {
    Steps(Vec<KeyStep>),
    /// The upstream cannot say it, at least now.
    NotYet,
    /// The upstream does not know them.
    Unknown,
}

/// What led from one state to another.
struct Steps {
    /// The revision and the digest of the first state.
    base: Revision,
    digest: Digest,
    steps: Vec<PastStep>,
    /// The values that keys had last.
    values: HashMap<Key, PastValue>,
}

impl Follower {
    /// Reads what led to the state at revision `end`, and gives it to the cache, or says that it is not to be had.
    pub(super) async fn read_past(&mut self, client: &RelayClient, end: Revision) -> Result<(), RelayError> {
        let past = match self.is_narrowed() {
            // Without digests nothing proves it.
            true => None,
            false => self.past(client, end).await?,
        };
        let past = past.map(|past| {
            info!(
                from = past.base.0,
                through = end.0,
                "history read: clients with cursors from after the revision `from` need not read everything again"
            );
            Past { base: past.base, through: end, leads_to_the_end: true, steps: past.steps }
        });
        Ok(self.sink.send(FeedEvent::Past { end, past }).await?)
    }

    /// Reads the steps that lead to the state at which the cache begins, and gives them to the cache. An upstream that still
    /// reads them back is asked again.
    pub(super) async fn read_steps_to(
        &mut self,
        client: &RelayClient,
        begin: Cursor,
    ) -> Result<(), RelayError> {
        let end = begin.revision;
        let answer = self.steps_to(client, begin).await;
        self.past_asked += if answer.is_ok() { 1 } else { PAST_FAILED };
        let event = match &answer {
            Err(RelayError::Feed(_)) => return answer.map(drop),
            Ok(StepsAnswer::NotYet) | Err(_) if self.past_asked < PAST_ASKED => return answer.map(drop),
            Ok(StepsAnswer::Steps(steps)) => {
                let steps = steps.clone();
                info!(
                    steps = steps.len(),
                    through = end.0,
                    "history read: clients with the cursors of these steps need not read everything again"
                );
                FeedEvent::RelayedPast { end, steps }
            }
            Ok(StepsAnswer::Unknown | StepsAnswer::NotYet) | Err(_) => FeedEvent::Past { end, past: None },
        };
        self.begins_at = None;
        self.sink.send(event).await?;
        answer.map(drop)
    }

    async fn steps_to(&mut self, client: &RelayClient, begin: Cursor) -> Result<StepsAnswer, RelayError> {
        let answer = self.timely(client.past(begin)).await??;
        let (_, answer) = self.known_origin(answer).await?;
        let mut records = match answer.past().await {
            Ok(Some(records)) => records,
            Err(error) if error.gap().is_some() => return Ok(StepsAnswer::Unknown),
            Ok(None) | Err(ClientError::Refused { .. }) => return Ok(StepsAnswer::NotYet),
            Err(error) => return Err(error.into()),
        };
        match self.timely(records.next()).await?? {
            Some(Record::Breadcrumb(_)) => {
                Ok(StepsAnswer::Steps(self.timely(steps_of(&mut records)).await??))
            }
            // An older upstream knows no steps.
            _ => Ok(StepsAnswer::Unknown),
        }
    }

    async fn past(&mut self, client: &RelayClient, end: Revision) -> Result<Option<Steps>, RelayError> {
        let answer = self.timely(client.origin()).await??;
        let (origin, answer) = self.known_origin(answer).await?;
        answer.accepted().await?;
        let ours = self.position.as_ref().map(|position| position.cursor.history);
        let Some(mut cursor) = origin.begin.filter(|begin| Some(begin.history) == ours) else {
            return Ok(None);
        };
        let mut past: Option<Steps> = None;
        loop {
            let answer = self.timely(client.next(cursor, None, Duration::ZERO)).await??;
            let (_, answer) = self.known_origin(answer).await?;
            let mut records = match answer.next().await {
                Ok(Next::Updates(records)) => records,
                Ok(Next::Nothing { .. }) => return Ok(None),
                // It has left the window meanwhile.
                Err(error) if error.gap().is_some() => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let (mut revision, mut changes) = (Revision::ZERO, Vec::new());
            while let Some(record) = self.timely(records.next()).await?? {
                match record {
                    Record::Breadcrumb(header) => revision = header.revision.unwrap_or_default(),
                    Record::Put { kind, entry } => {
                        let after = PastValue::of(entry.key(), entry.value());
                        changes.push((entry.revision(), entry.to_key(), kind == PutKind::New, after));
                    }
                    Record::Deleted { key, revision } => {
                        changes.push((revision, key, false, PastValue::Absent));
                    }
                    Record::End(found) => {
                        let (Some(to), Some(digest)) = (found.cursor, found.digest) else { return Ok(None) };
                        if revision > end {
                            return Ok(None);
                        }
                        cursor = read(to)?;
                        match &mut past {
                            None => {
                                let (steps, values) = Default::default();
                                past = Some(Steps { base: revision, digest, steps, values });
                                changes.clear();
                            }
                            Some(past) => past.add(take(&mut changes), digest),
                        }
                        if revision == end {
                            return Ok(past);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

async fn steps_of(records: &mut Records) -> Result<Vec<KeyStep>, RelayError> {
    let mut steps = Vec::new();
    while let Some(record) = records.next().await? {
        match record {
            Record::Step(step) => steps.push(step),
            Record::End(_) => return Ok(steps),
            _ => return Err(unexpected("a record is no step")),
        }
    }
    Err(RelayError::CutOff)
}

impl Steps {
    /// Adds the changes of one breadcrumb, which leads to a state with this digest.
    fn add(&mut self, mut changes: Vec<(Option<Revision>, Key, bool, PastValue)>, digest: Digest) {
        changes.sort_by_key(|(revision, ..)| *revision);
        let first = self.steps.len();
        // What the values before have in the digest that are not known one by one.
        let mut unknown = self.digest;
        for (revision, key, is_new, after) in changes {
            let before = match self.values.insert(key.clone(), after) {
                Some(before) => before,
                None if is_new => PastValue::Absent,
                None => PastValue::Unknown,
            };
            unknown = unknown.plus(share(after)).minus(share(before));
            self.steps.push(PastStep {
                revision: revision.unwrap_or_default(),
                key,
                before,
                after,
                entry: None,
            });
        }
        unknown = unknown.minus(digest);
        let steps = self.steps.iter_mut().skip(first);
        for step in steps.filter(|step| step.before == PastValue::Unknown) {
            // The first one gets it all. So the digest is right at the ends of breadcrumbs, where cursors are.
            step.before = PastValue::Known { bytes: 0, digest: take(&mut unknown) };
        }
        self.digest = digest;
    }
}

fn share(value: PastValue) -> Digest {
    match value {
        PastValue::Known { digest, .. } => digest,
        PastValue::Absent | PastValue::Unknown => Digest::default(),
    }
}
