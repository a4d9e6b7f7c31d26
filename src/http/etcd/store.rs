//! Writes to this daemon's own store (`push:`), by etcd's rules.
//!
//! A transaction is decided by the task that writes the state ([`Transaction`](crate::model::Transaction)): it sees its own
//! earlier operations, and nobody else's in between. All of its writes are one revision. A transaction with ranges of keys goes
//! through all keys, once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tonic::Status;

use super::front::{Call, number};
use super::grpc::{self, Unary};
use super::kv;
use super::status;
use super::txn::is_met;
use crate::feed::WriteError;
use crate::model::{Change, Entry, Key, ReadEntries, Refusal, Revision, Update, WriteInfo};
use crate::view::etcd::{KeyRange, Room, encoded_len};
use crate::wire::etcd::ResponseHeader;
use crate::wire::etcd::kv::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, KeyValue, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, RequestOpUnion, ResponseOp, ResponseOpUnion, TxnRequest, TxnResponse,
};

/// What a transaction answers.
type Answered = Result<TxnResponse, Status>;

/// The same, with its room in the client's account.
type AnsweredInRoom = Result<(TxnResponse, Room), Status>;

impl Call {
    /// Does a transaction in this daemon's own store; `None` if the store is elsewhere.
    pub(super) async fn transact(&self, txn: TxnRequest) -> Option<AnsweredInRoom> {
        if !self.front.has_own_store() {
            return None;
        }
        // Not by the task that writes, as it asks nothing of the state.
        if let Err(refused) = check(&txn) {
            return Some(Err(refused));
        }
        let answered: Arc<Mutex<Option<AnsweredInRoom>>> = Arc::default();
        let answer = Arc::clone(&answered);
        let mut room = self.room();
        let decide = Box::new(move |state: &dyn ReadEntries| {
            let mut evaluation = Evaluation::new(state, &txn, &mut room);
            let decided = evaluation.branch(&txn).and_then(|taken| evaluation.txn(taken));
            let updates = if decided.is_ok() { evaluation.updates() } else { Vec::new() };
            *answer.lock() = Some(decided.map(|answered| (answered, room)));
            updates
        });
        let committed = self.front.writer()?.transact(decide)?.await;
        let answered = answered.lock().take();
        Some(match committed {
            Ok(_) => self.with_header(answered),
            Err(error) => Err(refused(&error)),
        })
    }

    fn with_header(&self, answered: Option<AnsweredInRoom>) -> AnsweredInRoom {
        let (mut answered, room) =
            answered.ok_or_else(|| Status::internal("crumbd: the write was not decided"))??;
        let revision = answered.header.map_or(0, |header| header.revision);
        answered.header = Some(ResponseHeader { revision, ..self.front.header(Revision::ZERO) });
        Ok((answered, room))
    }

    /// One operation in this daemon's own store.
    pub(super) async fn operate(&self, operation: RequestOpUnion) -> Option<Result<Unary, Status>> {
        let success = vec![RequestOp { request: Some(operation) }];
        let answered = self.transact(TxnRequest { success, ..TxnRequest::default() }).await?;
        Some(answered.and_then(|(mut answered, room)| {
            let header = answered.header;
            let answer = match answered.responses.pop().and_then(|response| response.response) {
                Some(ResponseOpUnion::Put(put)) => Unary::new(&PutResponse { header, ..put }),
                Some(ResponseOpUnion::DeleteRange(delete)) => {
                    Unary::new(&DeleteRangeResponse { header, ..delete })
                }
                _ => return Err(Status::internal("crumbd: the write has another answer")),
            };
            Ok(answer.holding(room))
        }))
    }
}

fn refused(error: &WriteError) -> Status {
    match error {
        WriteError::Full { .. } => Status::resource_exhausted("etcdserver: too many requests"),
        WriteError::Stopped => status::unavailable(error),
        WriteError::Refused(Refusal::NoRoom { .. }) => {
            // As etcd says it, and then why.
            Status::resource_exhausted(format!("etcdserver: mvcc: database space exceeded; {error}"))
        }
        WriteError::Refused(_) | WriteError::TooLarge(_) => {
            Status::invalid_argument(format!("crumbd: {error}"))
        }
        WriteError::Unsettled { .. } | WriteError::NotYetRead { .. } => {
            Status::unknown(format!("crumbd: {error}"))
        }
        _ => status::unavailable(error),
    }
}

/// Refuses what etcd refuses before it does anything, in both branches: a key that is written twice, and a put of a value or a
/// lease where that of before is to be kept.
fn check(txn: &TxnRequest) -> Result<(), Status> {
    for branch in [&txn.success, &txn.failure] {
        Written::by(branch)?;
        for operation in branch {
            match &operation.request {
                Some(RequestOpUnion::Put(put)) => check_put(put)?,
                Some(RequestOpUnion::Txn(nested)) => check(nested)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn check_put(put: &PutRequest) -> Result<(), Status> {
    if put.key.is_empty() {
        return Err(status::empty_key());
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(Status::invalid_argument("etcdserver: value is provided"));
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Status::invalid_argument("etcdserver: lease is provided"));
    }
    Ok(())
}

/// The keys that a branch writes.
#[derive(Default)]
struct Written {
    puts: HashSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Written {
    /// The keys that a branch writes. Deletions come first, then nested transactions, then puts: so does etcd, which decides
    /// what is found to overlap.
    fn by(branch: &[RequestOp]) -> Result<Self, Status> {
        let mut written = Self::default();
        let requests = || branch.iter().filter_map(|operation| operation.request.as_ref());
        for request in requests() {
            if let RequestOpUnion::DeleteRange(delete) = request {
                written.deletes.push(KeyRange::new(delete.key.clone(), delete.range_end.clone()));
            }
        }
        for request in requests() {
            if let RequestOpUnion::Txn(nested) = request {
                let (success, failure) = (Self::by(&nested.success)?, Self::by(&nested.failure)?);
                for key in &success.puts {
                    written.put(key, |_| false)?;
                }
                // Only one of the two branches is done.
                for key in &failure.puts {
                    written.put(key, |key| success.puts.contains(key))?;
                }
                written.deletes.extend(success.deletes);
                written.deletes.extend(failure.deletes);
            }
        }
        for request in requests() {
            if let RequestOpUnion::Put(put) = request {
                written.put(&put.key, |_| false)?;
            }
        }
        Ok(written)
    }

    fn put(&mut self, key: &Bytes, may_repeat: impl Fn(&Bytes) -> bool) -> Result<(), Status> {
        let is_new = self.puts.insert(key.clone());
        let is_deleted = self.deletes.iter().any(|range| range.contains(key));
        match (is_new || may_repeat(key)) && !is_deleted {
            true => Ok(()),
            false => Err(Status::invalid_argument("etcdserver: duplicate key given in txn request")),
        }
    }
}

/// A branch of a transaction that is taken, and those of the transactions in it, in order.
struct Branch<'t> {
    succeeded: bool,
    operations: &'t [RequestOp],
    nested: std::vec::IntoIter<Branch<'t>>,
}

/// The most keys that the comparisons and ranges of a transaction go through, beside those of all its ranges twice. Nothing else is
/// written meanwhile.
const MAX_VISITS: usize = 1_000_000;

/// A transaction under way: the state, and what was changed of it.
struct Evaluation<'a> {
    state: &'a dyn ReadEntries,
    /// The entries of every range of keys in the transaction, in key order.
    ranges: Vec<Entry>,
    room: &'a mut Room,
    /// In order of the first change of each key; the map has its place.
    changes: Vec<(Key, Option<Entry>)>,
    places: BTreeMap<Vec<u8>, usize>,
    /// The revision of its writes.
    next: Revision,
    /// How many keys it may still go through.
    visits: usize,
}

impl<'a> Evaluation<'a> {
    fn new(state: &'a dyn ReadEntries, txn: &TxnRequest, room: &'a mut Room) -> Self {
        let next = state.revision().next();
        let mut ranges = Vec::new();
        add_ranges(txn, &mut ranges);
        let ranges = KeyRange::union(ranges);
        let ranges = match ranges.is_empty() {
            true => Vec::new(),
            false => state.select(&|key| KeyRange::any_contains(&ranges, key)),
        };
        let visits = MAX_VISITS.saturating_add(2 * ranges.len());
        Self { state, ranges, room, changes: Vec::new(), places: BTreeMap::new(), next, visits }
    }

    /// The revision so far.
    fn revision(&self) -> Revision {
        if self.changes.is_empty() { self.state.revision() } else { self.next }
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: number(self.revision()), ..ResponseHeader::default() })
    }

    fn updates(self) -> Vec<Update> {
        let update = |(key, entry): (Key, Option<Entry>)| match entry {
            Some(entry) => Update::from(entry),
            None => Update { change: Change::Delete(key), revision: None },
        };
        self.changes.into_iter().map(update).collect()
    }

    fn entry(&self, key: &[u8]) -> Option<Entry> {
        match self.places.get(key).and_then(|place| self.changes.get(*place)) {
            Some((_, changed)) => changed.clone(),
            None => self.state.entry(key),
        }
    }

    fn entries(&mut self, range: &KeyRange) -> Result<Vec<Entry>, Status> {
        if let Some(key) = range.single() {
            return Ok(self.entry(key).into_iter().collect());
        }
        let first = self.ranges.partition_point(|entry| entry.key() < range.start());
        let inside = self.ranges[first..].partition_point(|entry| range.contains(entry.key()));
        let visits = inside + self.changes.len();
        self.visits = self.visits.checked_sub(visits).ok_or_else(|| {
            Status::resource_exhausted(format!(
                "crumbd: the comparisons and ranges of the transaction go through more than {MAX_VISITS} keys"
            ))
        })?;
        let inside = self.ranges[first..first + inside].iter();
        let mut entries: Vec<Entry> =
            inside.filter(|entry| !self.places.contains_key(entry.key())).cloned().collect();
        let changed = self.changes.iter().filter(|(key, _)| range.contains(key.as_bytes()));
        entries.extend(changed.filter_map(|(_, entry)| entry.clone()));
        entries.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        Ok(entries)
    }

    fn change(&mut self, key: &[u8], entry: Option<Entry>) {
        match self.places.get(key) {
            Some(place) => self.changes[*place].1 = entry,
            None => {
                self.places.insert(key.to_vec(), self.changes.len());
                self.changes.push((Key::copy_from(key), entry));
            }
        }
    }

    /// The branch of a transaction that is taken. etcd compares everything, also in the transactions inside, before it writes.
    fn branch<'t>(&mut self, txn: &'t TxnRequest) -> Result<Branch<'t>, Status> {
        let mut succeeded = true;
        for compare in &txn.compare {
            succeeded = succeeded && self.holds(compare)?;
        }
        let operations = if succeeded { &txn.success } else { &txn.failure };
        let mut nested = Vec::new();
        for operation in operations {
            if let Some(RequestOpUnion::Txn(txn)) = &operation.request {
                nested.push(self.branch(txn)?);
            }
        }
        Ok(Branch { succeeded, operations, nested: nested.into_iter() })
    }

    fn txn(&mut self, branch: Branch<'_>) -> Answered {
        let Branch { succeeded, operations, mut nested } = branch;
        let mut responses = Vec::new();
        for operation in operations {
            let response = match &operation.request {
                Some(RequestOpUnion::Range(range)) => ResponseOpUnion::Range(self.range(range)?),
                Some(RequestOpUnion::Put(put)) => ResponseOpUnion::Put(self.put(put)?),
                Some(RequestOpUnion::DeleteRange(delete)) => {
                    ResponseOpUnion::DeleteRange(self.delete_range(delete)?)
                }
                Some(RequestOpUnion::Txn(_)) => {
                    let Some(inside) = nested.next() else {
                        return Err(Status::internal("crumbd: a transaction inside has no branch"));
                    };
                    // Only the outer one says its revision.
                    let header = Some(ResponseHeader::default());
                    ResponseOpUnion::Txn(TxnResponse { header, ..self.txn(inside)? })
                }
                None => return Err(Status::invalid_argument("etcdserver: key not found")),
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        Ok(TxnResponse { header: self.header(), succeeded, responses })
    }

    fn holds(&mut self, compare: &Compare) -> Result<bool, Status> {
        let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
        let entries = self.entries(&range)?;
        Ok(match &entries[..] {
            [] => is_met(compare, None),
            entries => entries.iter().all(|entry| is_met(compare, Some(entry))),
        })
    }

    /// Takes room for entries in the answer: once here, and once in the message.
    fn take_room<'e>(&mut self, entries: impl IntoIterator<Item = &'e Entry>) -> Result<(), Status> {
        let bytes: u64 = entries.into_iter().map(encoded_len).sum();
        self.room.take_now(2 * bytes).map_err(status::over_budget)
    }

    fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        let query = kv::query(request)?;
        match query.revision {
            Some(asked) if asked > self.revision() => return Err(status::future_revision()),
            Some(asked) if asked < self.revision() => {
                return Err(status::not_served(
                    "an older revision in a transaction that writes",
                    "a range outside of it reads any kept revision",
                ));
            }
            _ => {}
        }
        let read = query.of_entries(self.entries(&query.range)?);
        self.room.take_now(2 * read.encoded_len()).map_err(status::over_budget)?;
        let mut response: RangeResponse = grpc::decode(read.encode().into())?;
        response.header = self.header();
        Ok(response)
    }

    fn put(&mut self, put: &PutRequest) -> Result<PutResponse, Status> {
        if put.lease != 0 {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        let before = self.entry(&put.key);
        if (put.ignore_value || put.ignore_lease) && before.is_none() {
            return Err(Status::invalid_argument("etcdserver: key not found"));
        }
        let info = before.as_ref().map(Entry::write_info_or_default);
        let info = WriteInfo {
            created: info.map_or(self.next, |info| info.created),
            version: info.map_or(1, |info| info.version.saturating_add(1)),
            lease: 0,
        };
        let value = match &before {
            Some(before) if put.ignore_value => before.value(),
            _ => &put.value,
        };
        let entry = Entry::of_write(&put.key, value, None, info).at(self.next);
        self.change(&put.key, Some(entry));
        let before = before.filter(|_| put.prev_kv);
        self.take_room(&before)?;
        let prev_kv = before.as_ref().map(shown);
        Ok(PutResponse { header: self.header(), prev_kv })
    }

    fn delete_range(&mut self, delete: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Status> {
        let entries = self.entries(&KeyRange::new(delete.key.clone(), delete.range_end.clone()))?;
        entries.iter().for_each(|entry| self.change(entry.key(), None));
        let mut prev_kvs = Vec::new();
        if delete.prev_kv {
            self.take_room(&entries)?;
            prev_kvs.extend(entries.iter().map(shown));
        }
        let deleted = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        Ok(DeleteRangeResponse { header: self.header(), deleted, prev_kvs })
    }
}

/// Adds the ranges of more than one key that a transaction, and those in it, reads or deletes.
fn add_ranges(txn: &TxnRequest, ranges: &mut Vec<KeyRange>) {
    let mut add = |key: &Bytes, end: &Bytes| {
        if !end.is_empty() {
            ranges.push(KeyRange::new(key.clone(), end.clone()));
        }
    };
    txn.compare.iter().for_each(|compare| add(&compare.key, &compare.range_end));
    let operations =
        || txn.success.iter().chain(&txn.failure).filter_map(|operation| operation.request.as_ref());
    for operation in operations() {
        match operation {
            RequestOpUnion::Range(range) => add(&range.key, &range.range_end),
            RequestOpUnion::DeleteRange(delete) => add(&delete.key, &delete.range_end),
            RequestOpUnion::Put(_) | RequestOpUnion::Txn(_) => {}
        }
    }
    for operation in operations() {
        if let RequestOpUnion::Txn(nested) = operation {
            add_ranges(nested, ranges);
        }
    }
}

/// An entry as etcd shows it.
fn shown(entry: &Entry) -> KeyValue {
    let info = entry.write_info_or_default();
    KeyValue {
        key: Bytes::copy_from_slice(entry.key()),
        value: Bytes::copy_from_slice(entry.value()),
        create_revision: number(info.created),
        mod_revision: number(entry.revision().unwrap_or_default()),
        version: i64::try_from(info.version).unwrap_or(i64::MAX),
        lease: info.lease,
    }
}
