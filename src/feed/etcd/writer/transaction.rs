//! A write as one etcd transaction.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::feed::WriteError;
use crate::feed::etcd::EtcdError;
use crate::feed::etcd::{range_end, range_start};
use crate::model::{Change, Entry, EntryLimits, Grouping, Key, Update};
use crate::wire::etcd::kv::{
    Compare, CompareResult, CompareTarget, CompareWith, DeleteRangeRequest, KeyValue, PutRequest,
    RangeRequest, RequestOp, RequestOpUnion, ResponseOpUnion, TxnRequest, TxnResponse,
};

/// The longest value that is compared with the one that is there, in bytes.
const MAX_COMPARED_VALUE: usize = 256 << 10;

/// The operations of a write. No key is in two of them, because etcd refuses that.
#[derive(Debug)]
pub(super) struct Transaction(Vec<Operation>);

#[derive(Debug)]
enum Operation {
    Put(Entry),
    Delete(Key),
    /// Deletes the keys from the first to before the second.
    DeleteRange(Bytes, Bytes),
}

/// What a transaction did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    /// The cluster; `None` if it was not asked.
    pub(super) cluster_id: Option<u64>,
    /// The revision of the store after the transaction.
    pub(super) store: i64,
    /// Whether the store has a new revision.
    pub(super) is_revision: bool,
    /// Whoever has read the store up to this revision has read what was written.
    pub(super) visible_from: i64,
    /// The keys that were to be deleted and were absent already. When they were deleted is not known.
    pub(super) absent: Vec<Key>,
    /// The number of keys that it changed.
    pub(super) changed: usize,
}

impl Applied {
    /// Nothing was done, because the key has the value already.
    pub(super) fn nothing_at(kv: &KeyValue) -> Self {
        Self { store: kv.mod_revision, visible_from: kv.mod_revision, ..Self::default() }
    }
}

impl Transaction {
    /// The transaction for these updates of keys with the prefix. The last update of a key wins.
    pub(super) fn new(
        updates: Vec<Update>,
        grouping: Grouping,
        prefix: &[u8],
        limits: EntryLimits,
    ) -> Result<Self, WriteError> {
        let mut last = BTreeMap::new();
        for mut update in updates {
            // A revision in a record is that of another store.
            update.revision = None;
            check(&update, prefix, limits)?;
            last.insert(Bytes::copy_from_slice(update.change.key()), update.change);
        }
        let mut operations = Vec::with_capacity(last.len());
        if grouping == Grouping::Replace {
            let puts = last.iter().filter(|(_, change)| matches!(change, Change::Put(_)));
            operations.extend(gaps(puts.map(|(key, _)| key), prefix));
            last.retain(|_, change| matches!(change, Change::Put(_)));
        }
        operations.extend(last.into_values().filter_map(|change| match change {
            Change::Put(entry) => Some(Operation::Put(entry)),
            Change::Delete(key) => Some(Operation::Delete(key)),
            // The limits have refused it.
            Change::Unreadable(..) => None,
        }));
        Ok(Self(operations))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of operations.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The only operation, if it sets a key.
    pub(super) fn only_put(&self) -> Option<&Entry> {
        match &self.0[..] {
            [Operation::Put(entry)] => Some(entry),
            _ => None,
        }
    }

    /// The only operation, if it sets a key to a value that is too long to be sent twice, for a comparison too: etcd
    /// limits the bytes of a request.
    pub(super) fn large_put(&self) -> Option<&Entry> {
        self.only_put().filter(|entry| entry.value().len() > MAX_COMPARED_VALUE)
    }

    /// The request that is done if all of this holds.
    pub(super) fn request_if(&self, compare: Vec<Compare>) -> TxnRequest {
        TxnRequest { compare, success: self.requests(), failure: Vec::new() }
    }

    /// The request without conditions. A single put of the value that is there does nothing, because etcd would count a
    /// revision; whether a [`large_put`](Self::large_put) is one has to be read before.
    pub(super) fn request(&self) -> TxnRequest {
        let Some(entry) = self.only_put().filter(|_| self.large_put().is_none()) else {
            return self.request_if(Vec::new());
        };
        let of_key = |target: CompareTarget, with| Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: Bytes::copy_from_slice(entry.key()),
            with: Some(with),
            range_end: Bytes::new(),
        };
        let same_value = of_key(CompareTarget::Value, CompareWith::Value(entry.value_bytes()));
        let no_lease = of_key(CompareTarget::Lease, CompareWith::Lease(0));
        let look = RangeRequest {
            key: Bytes::copy_from_slice(entry.key()),
            keys_only: true,
            ..RangeRequest::default()
        };
        let look = RequestOp { request: Some(RequestOpUnion::Range(look)) };
        TxnRequest { compare: vec![same_value, no_lease], success: vec![look], failure: self.requests() }
    }

    fn requests(&self) -> Vec<RequestOp> {
        let delete = |key, range_end| {
            RequestOpUnion::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false })
        };
        let request = |operation: &Operation| match operation {
            Operation::Put(entry) => RequestOpUnion::Put(PutRequest {
                key: Bytes::copy_from_slice(entry.key()),
                value: entry.value_bytes(),
                prev_kv: true,
                ..PutRequest::default()
            }),
            Operation::Delete(key) => delete(Bytes::copy_from_slice(key.as_bytes()), Bytes::new()),
            Operation::DeleteRange(from, to) => delete(from.clone(), to.clone()),
        };
        self.0.iter().map(|operation| RequestOp { request: Some(request(operation)) }).collect()
    }

    /// What etcd did, by its answer to [`request`](Self::request), or to a [`request_if`](Self::request_if) whose
    /// conditions held.
    pub(super) fn applied(&self, answer: TxnResponse) -> Result<Applied, EtcdError> {
        let header = answer.header.ok_or(EtcdError::Nonsense("a transaction without a header"))?;
        let (cluster_id, store) = (Some(header.cluster_id), header.revision);
        let mut applied = Applied { cluster_id, store, ..Applied::default() };
        let responses = answer.responses.into_iter().map(|response| response.response);
        for (operation, response) in self.0.iter().zip(responses) {
            match (operation, response) {
                (Operation::Put(entry), Some(ResponseOpUnion::Put(put))) => {
                    applied.is_revision = true;
                    applied.changed += usize::from(!put.prev_kv.is_some_and(|kv| has(&kv, entry)));
                }
                // The key has the value already.
                (Operation::Put(_), Some(ResponseOpUnion::Range(found))) => {
                    applied.visible_from = found.kvs.first().map_or(store, |kv| kv.mod_revision);
                }
                (operation, Some(ResponseOpUnion::DeleteRange(done))) => {
                    applied.is_revision |= done.deleted > 0;
                    applied.changed += usize::try_from(done.deleted).unwrap_or_default();
                    if let (Operation::Delete(key), 0) = (operation, done.deleted) {
                        applied.absent.push(key.clone());
                    }
                }
                _ => return Err(EtcdError::Nonsense("a transaction with another answer than was asked for")),
            }
        }
        if applied.is_revision {
            applied.visible_from = store;
            applied.absent.clear();
        }
        Ok(applied)
    }
}

/// Whether the key has this value, for ever.
pub(super) fn has(kv: &KeyValue, entry: &Entry) -> bool {
    kv.value == entry.value() && kv.lease == 0
}

/// The comparison that holds while the key is as it was found.
pub(super) fn unchanged(key: &Key, found: Option<&KeyValue>) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        with: Some(CompareWith::ModRevision(found.map_or(0, |kv| kv.mod_revision))),
        range_end: Bytes::new(),
    }
}

fn check(update: &Update, prefix: &[u8], limits: EntryLimits) -> Result<(), WriteError> {
    limits.check(update)?;
    let key = update.change.key();
    let unsupported = |why: String| Err(WriteError::Unsupported { why });
    if !key.starts_with(prefix) {
        let (key, prefix) = (Key::copy_from(key), Key::copy_from(prefix));
        let why =
            format!("the key \"{key}\" does not begin with \"{prefix}\", and this feed has no other keys");
        return Err(WriteError::Forbidden { why });
    }
    if key.is_empty() {
        return unsupported("etcd has no empty key".to_owned());
    }
    match &update.change {
        Change::Put(entry) if entry.ttl().is_some() => unsupported(format!(
            "the key \"{}\" has a ttl, and a write to etcd grants no lease; leave out the ttl",
            entry.to_key()
        )),
        _ => Ok(()),
    }
}

/// Deletions of all keys with the prefix but these, which are in order.
fn gaps<'a>(kept: impl Iterator<Item = &'a Bytes>, prefix: &[u8]) -> Vec<Operation> {
    let mut from = range_start(prefix);
    let mut gaps = Vec::new();
    for key in kept {
        if from < *key {
            gaps.push(Operation::DeleteRange(from, key.clone()));
        }
        // The first key after it.
        from = [key, &b"\0"[..]].concat().into();
    }
    gaps.push(Operation::DeleteRange(from, range_end(prefix)));
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: EntryLimits = EntryLimits { max_key_bytes: 100, max_value_bytes: 100 };

    fn shown(updates: Vec<Update>, grouping: Grouping, prefix: &[u8]) -> Vec<String> {
        let transaction = Transaction::new(updates, grouping, prefix, LIMITS);
        let operations = transaction.map(|transaction| transaction.0).unwrap_or_default();
        let show = |operation| match operation {
            Operation::Put(entry) => format!("{}={}", entry.to_key(), entry.value().escape_ascii()),
            Operation::Delete(key) => format!("-{key}"),
            Operation::DeleteRange(from, to) => format!("-{}..{}", from.escape_ascii(), to.escape_ascii()),
        };
        operations.into_iter().map(show).collect()
    }

    #[test]
    fn the_last_update_of_a_key_wins() {
        let updates =
            vec![Update::put("b", "1"), Update::put("a", "1"), Update::put("b", "2"), Update::delete("a")];
        assert_eq!(shown(updates, Grouping::Whole, b""), ["-a", "b=2"]);
    }

    #[test]
    fn a_replacement_deletes_what_lies_between_its_keys() {
        let updates = vec![Update::put("p/b", "1"), Update::put("p/b\0", "2"), Update::put("p/", "0")];
        assert_eq!(
            shown(updates, Grouping::Replace, b"p/"),
            ["-p/\\x00..p/b", "-p/b\\x00\\x00..p0", "p/=0", "p/b=1", "p/b\\x00=2"]
        );
        assert_eq!(shown(Vec::new(), Grouping::Replace, b""), ["-\\x00..\\x00"], "all keys");
    }

    #[test]
    fn what_etcd_cannot_hold_is_refused() {
        let ttl = Update::from(Entry::new(b"p/a", b"", Some(crate::model::Ttl(1))));
        for (update, prefix, word) in [
            (Update::put("q", ""), &b"p/"[..], "begin with"),
            (Update::put("", ""), b"", "empty"),
            (ttl, b"p/", "ttl"),
        ] {
            let refused = Transaction::new(vec![update], Grouping::Whole, prefix, LIMITS);
            let sentence = refused.map(|_| String::new()).unwrap_or_else(|error| error.to_string());
            assert!(sentence.contains(word), "{sentence}");
        }
    }
}
