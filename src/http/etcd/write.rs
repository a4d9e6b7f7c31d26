//! Writes. They are passed on to the upstream etcd as they are, and answered once this daemon has read them.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::front::{Call, revision};
use super::grpc::{self, Unary};
use super::kv;
use super::status;
use crate::model::{KeySelector, Revision};
use crate::view::etcd::{KeyRange, RangeQuery, Room};
use crate::wire::etcd::kv::{
    CompareResult, CompareTarget, DeleteRangeRequest, PutRequest, RequestOp, RequestOpUnion, TxnRequest,
};
use crate::wire::etcd::{HeaderResponse, ResponseHeader};

/// The most bytes of etcd's answer beyond the keys and values in it.
const ANSWER: usize = 4 << 20;

/// The keys that a call reads and writes.
#[derive(Default)]
pub(super) struct Touched {
    read: Vec<KeyRange>,
    written: Vec<KeyRange>,
    /// The reads whose keys and values are in the answer.
    answered: Vec<RangeQuery>,
    /// The leases to which keys are attached.
    leases: BTreeSet<i64>,
}

impl Touched {
    pub(super) fn put(&mut self, put: &PutRequest) -> Result<(), Status> {
        let range = range(&put.key, &Bytes::new())?;
        // What is kept of the key decides what is written, so it is read too.
        if put.prev_kv || put.ignore_value || put.ignore_lease {
            self.read.push(range.clone());
        }
        if put.prev_kv {
            self.answered.push(kv::all_of(range.clone()));
        }
        self.written.push(range);
        if put.lease != 0 {
            self.leases.insert(put.lease);
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, delete: &DeleteRangeRequest) -> Result<(), Status> {
        let range = range(&delete.key, &delete.range_end)?;
        if delete.prev_kv {
            self.read.push(range.clone());
            self.answered.push(kv::all_of(range.clone()));
        }
        self.written.push(range);
        Ok(())
    }

    pub(super) fn txn(&mut self, txn: &TxnRequest) -> Result<(), Status> {
        for compare in &txn.compare {
            // etcd takes an unknown result for one that holds, and an unknown target for one that is equal.
            if CompareResult::try_from(compare.result).is_err()
                || CompareTarget::try_from(compare.target).is_err()
            {
                return Err(status::unknown_comparison());
            }
            self.read.push(range(&compare.key, &compare.range_end)?);
        }
        txn.success.iter().chain(&txn.failure).try_for_each(|operation| self.operation(operation))
    }

    fn operation(&mut self, operation: &RequestOp) -> Result<(), Status> {
        match &operation.request {
            Some(RequestOpUnion::Range(read)) => {
                self.read.push(range(&read.key, &read.range_end)?);
                self.answered.push(kv::query(read)?);
            }
            Some(RequestOpUnion::Put(put)) => self.put(put)?,
            Some(RequestOpUnion::DeleteRange(delete)) => self.delete(delete)?,
            Some(RequestOpUnion::Txn(txn)) => self.txn(txn)?,
            None => return Err(Status::invalid_argument("etcdserver: key not found")),
        }
        Ok(())
    }

    /// Whether something may be written.
    pub(super) fn writes(&self) -> bool {
        !self.written.is_empty()
    }

    /// Refuses keys that the client may not read or write.
    pub(super) fn require(&self, call: &Call) -> Result<(), Status> {
        let readable = if self.read.is_empty() { KeySelector::ALL } else { call.readable()? };
        let writable = call.access.writable();
        let is_allowed = self.read.iter().all(|range| range.is_within(&readable))
            && self.written.iter().all(|range| range.is_within(&writable));
        if is_allowed { Ok(()) } else { Err(status::permission_denied()) }
    }

    /// Refuses reads of keys that the feed does not follow.
    pub(super) fn require_followed(&self, call: &Call) -> Result<(), Status> {
        let is_followed = self.read.iter().all(|range| range.is_within(call.front.followed()));
        if is_followed { Ok(()) } else { Err(status::permission_denied()) }
    }

    fn require_prefix(&self, prefix: &[u8]) -> Result<(), Status> {
        let followed = KeySelector::prefix(crate::model::Key::copy_from(prefix));
        let outside = self.read.iter().chain(&self.written).find(|range| !range.is_within(&followed));
        match outside {
            Some(range) => Err(Status::permission_denied(format!(
                "crumbd: the feed has only the keys that begin with \"{}\", and not those from \"{}\" on",
                prefix.escape_ascii(),
                range.start().escape_ascii()
            ))),
            None => Ok(()),
        }
    }
}

fn range(key: &Bytes, range_end: &Bytes) -> Result<KeyRange, Status> {
    if key.is_empty() {
        return Err(status::empty_key());
    }
    Ok(KeyRange::new(key.clone(), range_end.clone()))
}

impl Call {
    /// Passes a write on to the upstream etcd.
    pub(super) async fn write(
        &self,
        path: &'static str,
        message: Bytes,
        touched: &Touched,
        what: &str,
    ) -> Result<Unary, Status> {
        let Some(upstream) = self.front.upstream() else { return Err(self.takes_no_writes(what)) };
        touched.require_prefix(upstream.prefix())?;
        self.require_leases(upstream, &touched.leases).await?;
        let (room, bytes) = self.room_for(touched).await?;
        // More than there is room for, as etcd's state may be another one by then.
        let max_answer = ANSWER.saturating_add(bytes.saturating_mul(2));
        let answer = upstream.call(path, message, max_answer).await?;
        self.wait_for(&answer).await?;
        Ok(self.passed_on(answer)?.holding(room))
    }

    /// An answer of etcd's, with this daemon's own header.
    pub(super) fn passed_on(&self, answer: Bytes) -> Result<Unary, Status> {
        let header = self.own_header(&answer)?;
        Ok(Unary::of_pieces([answer].into_iter().chain(header)))
    }

    /// What follows an answer of etcd's, so that its header says who has answered here: parsers join a message that comes
    /// twice, and what comes later counts. The revision stays etcd's.
    pub(super) fn own_header(&self, answer: &Bytes) -> Result<Option<Bytes>, Status> {
        let Some(theirs) = grpc::decode::<HeaderResponse>(answer.clone())?.header else { return Ok(None) };
        let ours = ResponseHeader { revision: theirs.revision, ..self.front.header(Revision::ZERO) };
        Ok(Some(HeaderResponse { header: Some(ours) }.encode_to_vec().into()))
    }

    /// Room for what etcd will answer, as far as this daemon knows the keys, and how many bytes that are.
    async fn room_for(&self, touched: &Touched) -> Result<(Room, usize), Status> {
        let (mut room, mut bytes) = (self.room(), 0);
        if touched.answered.is_empty() {
            return Ok((room, bytes));
        }
        let state = self.view().etcd_state(None).await?;
        for query in &touched.answered {
            let answered = self.view().etcd_range(&state, query).await?.encoded_len();
            room.take(answered).await.map_err(status::over_budget)?;
            bytes = bytes.saturating_add(usize::try_from(answered).unwrap_or(usize::MAX));
        }
        Ok((room, bytes))
    }

    /// Waits until this daemon has everything up to the revision of etcd's answer.
    pub(super) async fn wait_for(&self, answer: &Bytes) -> Result<(), Status> {
        let header = grpc::decode::<HeaderResponse>(answer.clone())?.header;
        let Some(written) = header.and_then(|header| revision(header.revision)) else { return Ok(()) };
        if self.view().complete_to() >= written {
            return Ok(());
        }
        // Revisions of other keys are asked for.
        self.view().ask_upstream();
        self.view().wait_complete_to(written).await.map_err(|_| {
            Status::deadline_exceeded(format!(
                "crumbd: it was done, at revision {written} of etcd, but this daemon has not read that revision yet"
            ))
        })
    }
}
