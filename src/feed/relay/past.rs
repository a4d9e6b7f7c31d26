//! The breadcrumbs before a restored state, which the upstream may still keep.
//!
//! A relay that was started again has the window that it had stored, which may be short. Its clients may have older cursors,
//! from the upstream or from before. So it asks for what led to its oldest state, without keeping the values.

use std::collections::HashMap;
use std::mem::take;
use std::time::Duration;

use tracing::info;

use super::RelayError;
use super::follower::Follower;
use crate::client::{Next, RelayClient};
use crate::model::{Digest, FeedEvent, Key, Past, PastStep, PastValue, Revision};
use crate::wire::{PutKind, Record};

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
            info!(from = past.base.0, through = end.0, "history read: older cursors can be continued");
            Past { base: past.base, through: end, leads_to_the_end: true, steps: past.steps }
        });
        Ok(self.sink.send(FeedEvent::Past { end, past }).await?)
    }

    async fn past(&mut self, client: &RelayClient, end: Revision) -> Result<Option<Steps>, RelayError> {
        let (origin, answer) = self.known_origin(client.origin().await?).await?;
        answer.accepted().await?;
        let ours = self.position.as_ref().map(|position| position.cursor.history);
        let Some(mut cursor) = origin.begin.filter(|begin| Some(begin.history) == ours) else {
            return Ok(None);
        };
        let mut past: Option<Steps> = None;
        loop {
            let (_, answer) = self.known_origin(client.next(cursor, None, Duration::ZERO).await?).await?;
            let mut records = match answer.next().await {
                Ok(Next::Updates(records)) => records,
                Ok(Next::Nothing { .. }) => return Ok(None),
                // It has left the window meanwhile.
                Err(error) if error.gap().is_some() => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let (mut revision, mut changes) = (Revision::ZERO, Vec::new());
            while let Some(record) = records.next().await? {
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
                        cursor = to;
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
            self.steps.push(PastStep { revision: revision.unwrap_or_default(), key, before, after });
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
