//! Writes to etcd: each is one transaction, and is answered once the feed has brought it back.
//!
//! Conditions are compared with the key as it is in etcd: the key is read, and the transaction holds only while the key
//! is as it was read. Where another writer was faster, this is done again.
//!
//! A request that may have reached etcd is never sent twice.

mod calls;
mod member;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::Code;

pub(super) use self::calls::RawCodec;
use self::member::{CallError, Member};
use self::transaction::{Applied, Transaction, has, unchanged};
use super::load::revision;
use super::read_position::{Position, ReadPosition};
use super::{EtcdAccess, EtcdError, EtcdTarget};
use crate::feed::write::barrier;
use crate::feed::{EtcdCalls, UpstreamLimit, WriteError, WriteRequest, Writer};
use crate::ingest::IngestBuffer;
use crate::model::{Committed, Condition, Cursor, Entry, EntryLimits, FeedEvent, Key, Refusal, Revision};
use crate::wire::etcd::kv::{KeyValue, RangeRequest};

/// How long a write waits until the feed has read it.
const READ_BACK: Duration = Duration::from_secs(10);

/// How long a write waits for the first time that the feed follows etcd.
const FIRST_READ: Duration = Duration::from_secs(1);

/// How often a write with a condition is tried while other writers change the key.
const TRIES: usize = 32;

/// The write side of an etcd feed.
pub(super) struct EtcdWriter {
    prefix: Vec<u8>,
    member: Member,
    limits: EntryLimits,
    position: ReadPosition,
    buffer: Arc<IngestBuffer<FeedEvent>>,
}

impl EtcdWriter {
    pub(super) fn new(
        target: EtcdTarget,
        access: EtcdAccess,
        limits: EntryLimits,
        position: ReadPosition,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> Self {
        let prefix = target.prefix.clone();
        Self { prefix, member: Member::new(target, access), limits, position, buffer }
    }
}

impl Writer for EtcdWriter {
    fn etcd(&self) -> Option<&dyn EtcdCalls> {
        Some(self)
    }

    fn write(&self, write: WriteRequest) -> BoxFuture<'_, Result<Committed, WriteError>> {
        Box::pin(async move {
            let WriteRequest { updates, grouping, conditions, seen, .. } = write;
            let transaction = Transaction::new(updates, grouping, &self.prefix, self.limits)?;
            let mut position = self.position.subscribe();
            let begun = position.wait_for(|position| position.begun > 0);
            let before = match timeout_at(Instant::now() + FIRST_READ, begun).await {
                Ok(Ok(position)) => *position,
                Ok(Err(_)) | Err(_) => {
                    let why = "this daemon has not read etcd yet".to_owned();
                    return Err(WriteError::NotDone { why });
                }
            };
            let applied = self.apply(&transaction, &conditions, seen.as_ref()).await?;
            let cursor = self.read_back(position, before, &applied).await?;
            let own = revision(applied.store);
            let Applied { changed, .. } = applied;
            Ok(Committed { cursor, revision: (changed > 0).then_some(own), changed })
        })
    }
}

impl EtcdWriter {
    async fn apply(
        &self,
        transaction: &Transaction,
        conditions: &[Condition],
        seen: Option<&Entry>,
    ) -> Result<Applied, WriteError> {
        if transaction.is_empty() {
            return Ok(Applied::default());
        }
        let too_large = |error| refused(error, transaction.len());
        let nonsense = |error: EtcdError| WriteError::Unsettled { why: error.to_string() };
        if conditions.is_empty() {
            if let Some(entry) = transaction.large_put()
                && let Some(kv) = self.read(entry.key()).await?
                && has(&kv, entry)
            {
                return Ok(Applied::nothing_at(&kv));
            }
            let request = transaction.request();
            let answer = self.member.txn(&request).await.map_err(too_large)?;
            return transaction.applied(answer).map_err(nonsense);
        }
        for _ in 0..TRIES {
            let found = self.find(conditions).await?;
            check(conditions, &found, seen)?;
            if let Some(entry) = transaction.only_put()
                && let Some(kv) = found.get(entry.key()).and_then(Option::as_ref)
                && has(kv, entry)
            {
                return Ok(Applied::nothing_at(kv));
            }
            let compares = found.iter().map(|(key, kv)| unchanged(&Key::copy_from(key), kv.as_ref()));
            let request = transaction.request_if(compares.collect());
            let answer = self.member.txn(&request).await.map_err(too_large)?;
            if answer.succeeded {
                return transaction.applied(answer).map_err(nonsense);
            }
        }
        let why = format!("other writers changed the key {TRIES} times meanwhile");
        Err(WriteError::NotDone { why })
    }

    /// The keys of the conditions, as they are in etcd.
    async fn find(
        &self,
        conditions: &[Condition],
    ) -> Result<BTreeMap<Vec<u8>, Option<KeyValue>>, WriteError> {
        let mut found = BTreeMap::new();
        for condition in conditions {
            let key = key_of(condition).as_bytes().to_vec();
            if found.contains_key(&key) {
                continue;
            }
            let kv = self.read(&key).await?;
            found.insert(key, kv);
        }
        Ok(found)
    }

    /// A key, as it is in etcd.
    async fn read(&self, key: &[u8]) -> Result<Option<KeyValue>, WriteError> {
        let request = RangeRequest { key: Bytes::copy_from_slice(key), ..RangeRequest::default() };
        let answer = self.member.range(&request).await.map_err(|error| {
            let (CallError::NotSent(error) | CallError::Answered(error)) = error;
            forbidden(&error).unwrap_or_else(|| WriteError::NotDone { why: error.to_string() })
        })?;
        Ok(answer.kvs.into_iter().next())
    }

    /// Waits until the cache has what was written. Returns the cursor of a breadcrumb that has it.
    async fn read_back(
        &self,
        mut position: watch::Receiver<Position>,
        before: Position,
        applied: &Applied,
    ) -> Result<Cursor, WriteError> {
        let deadline = Instant::now() + READ_BACK;
        let late = || WriteError::NotYetRead { revision: revision(applied.store) };
        let mut absent = applied.absent.clone();
        loop {
            let reached = position.wait_for(|at| is_visible(*at, before, applied));
            let at = match timeout_at(deadline, reached).await {
                Ok(Ok(at)) => *at,
                Ok(Err(_)) | Err(_) => return Err(late()),
            };
            if !at.is_same_store(&before) {
                let why = "etcd was recreated or restored meanwhile".to_owned();
                return Err(WriteError::Unsettled { why });
            }
            match timeout_at(
                deadline,
                barrier(&self.buffer, absent.iter().cloned().map(Condition::Absent).collect()),
            )
            .await
            {
                // A barrier within a resync says nothing.
                Ok(Some(Ok(committed))) if position.borrow().begun == at.begun => return Ok(committed.cursor),
                Ok(Some(Ok(_))) => {}
                // It was set again after the write.
                Ok(Some(Err(Refusal::ConditionFailed { key, found })))
                    if found > Some(revision(applied.store)) =>
                {
                    absent.retain(|one| *one != key);
                }
                // The cache has not heard yet of an earlier deletion.
                Ok(Some(Err(Refusal::ConditionFailed { .. }))) => {
                    if !matches!(timeout_at(deadline, position.changed()).await, Ok(Ok(()))) {
                        return Err(late());
                    }
                }
                Ok(Some(Err(_)) | None) | Err(_) => return Err(late()),
            }
        }
    }
}

/// Whether a feed at this position has read what was written.
fn is_visible(at: Position, before: Position, applied: &Applied) -> bool {
    let is_same_store = at.is_same_store(&before);
    // A store that goes back is not the store that the feed knows. The feed will notice.
    let went_back = applied.is_revision && applied.store <= before.revision && is_same_store;
    let is_cluster = applied.cluster_id.is_none_or(|id| id == at.cluster_id);
    at.follows && is_cluster && !went_back && (!is_same_store || at.revision >= applied.visible_from)
}

fn key_of(condition: &Condition) -> &Key {
    match condition {
        Condition::AtOneOf(key, _)
        | Condition::Exists(key)
        | Condition::Absent(key)
        | Condition::AtNoneOf(key, _) => key,
    }
}

fn check(
    conditions: &[Condition],
    found: &BTreeMap<Vec<u8>, Option<KeyValue>>,
    seen: Option<&Entry>,
) -> Result<(), WriteError> {
    for condition in conditions {
        let key = key_of(condition);
        let found = found.get(key.as_bytes()).and_then(Option::as_ref);
        let is_at = |revisions: &[Revision]| {
            found.is_some_and(|kv| revisions.iter().any(|at| is_revision_of(*at, kv, seen)))
        };
        let holds = match condition {
            Condition::Exists(_) => found.is_some(),
            Condition::Absent(_) => found.is_none(),
            Condition::AtOneOf(_, revisions) => is_at(revisions),
            Condition::AtNoneOf(_, revisions) => !is_at(revisions),
        };
        if !holds {
            let found = found.map(|kv| revision(kv.mod_revision));
            return Err(Refusal::ConditionFailed { key: key.clone(), found }.into());
        }
    }
    Ok(())
}

/// Whether a client that saw the key at this revision has seen the value that it has now. etcd counts a revision for
/// the same value too, and the cache does not.
fn is_revision_of(at: Revision, kv: &KeyValue, seen: Option<&Entry>) -> bool {
    let is_same = |seen: &Entry| seen.key() == kv.key && seen.value() == kv.value;
    revision(kv.mod_revision) == at || seen.is_some_and(|seen| seen.revision() == Some(at) && is_same(seen))
}

/// The error of a transaction with so many operations.
fn refused(error: CallError, operations: usize) -> WriteError {
    let error = match error {
        CallError::NotSent(error) => {
            return forbidden(&error).unwrap_or_else(|| WriteError::NotDone { why: error.to_string() });
        }
        CallError::Answered(error) => error,
    };
    let why = error.to_string();
    let unsettled = |why| WriteError::Unsettled { why };
    let EtcdError::Refused(status) = &error else { return unsettled(why) };
    if error.is_broken_connection() {
        return unsettled(why);
    }
    // A proxy passes on etcd's message, and not its code.
    let says = |text: &str| status.message().contains(text);
    if says("too many operations") {
        return WriteError::TooLarge(UpstreamLimit::EtcdOperations { needed: operations });
    }
    if says("request is too large") || says("received message larger than max") {
        return WriteError::TooLarge(UpstreamLimit::EtcdBytes);
    }
    if let Some(error) = forbidden(&error) {
        return error;
    }
    match status.code() {
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::Unauthenticated
        | Code::Unimplemented => WriteError::NotDone { why },
        _ => unsettled(why),
    }
}

/// The error where etcd forbids it.
fn forbidden(error: &EtcdError) -> Option<WriteError> {
    let EtcdError::Refused(status) = error else { return None };
    let is_denied = status.code() == Code::PermissionDenied || status.message().contains("permission denied");
    is_denied.then(|| WriteError::Forbidden {
        why: "etcd does not permit it: the user of this feed needs the right to read and write the key"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Position = Position { cluster_id: 1, generation: 0, revision: 5, begun: 1, follows: true };

    fn write_at(store: i64) -> Applied {
        Applied {
            cluster_id: Some(1),
            store,
            is_revision: true,
            visible_from: store,
            changed: 1,
            ..Applied::default()
        }
    }

    #[test]
    fn a_write_is_visible_once_the_feed_has_read_its_revision() {
        let at = |revision| Position { revision, ..BEFORE };
        assert_eq!(
            [7, 8, 9].map(|revision| is_visible(at(revision), BEFORE, &write_at(8))),
            [false, true, true]
        );
        let lost = Position { follows: false, ..at(9) };
        assert!(!is_visible(lost, BEFORE, &write_at(8)), "it may be reading everything");
        assert!(is_visible(BEFORE, BEFORE, &Applied::default()), "nothing was written");
    }

    #[test]
    fn a_store_that_went_back_is_not_the_one_that_was_read() {
        assert!(!is_visible(BEFORE, BEFORE, &write_at(3)), "the feed has not noticed yet");
        let next = Position { generation: 1, revision: 3, begun: 2, ..BEFORE };
        assert!(is_visible(next, BEFORE, &write_at(3)) && !next.is_same_store(&BEFORE));
        let other = Applied { cluster_id: Some(2), ..write_at(8) };
        assert!(!is_visible(Position { revision: 8, ..BEFORE }, BEFORE, &other));
    }

    #[test]
    fn a_newer_revision_of_the_same_value_is_the_one_that_the_client_saw() {
        let kv = |value: &'static [u8]| KeyValue {
            key: "k".into(),
            value: value.into(),
            mod_revision: 9,
            ..KeyValue::default()
        };
        let seen = Entry::new(b"k", b"1", None).at(Revision(4));
        let holds = |kv: KeyValue, at| is_revision_of(Revision(at), &kv, Some(&seen));
        assert!(holds(kv(b"1"), 4) && holds(kv(b"1"), 9) && holds(kv(b"2"), 9));
        assert!(!holds(kv(b"2"), 4) && !holds(kv(b"1"), 5));
    }
}
