//! Transactions that only read: comparisons and ranges, all of one state.

use tonic::Status;

use super::front::Call;
use super::grpc::{self, Unary};
use super::kv;
use super::status;
use crate::model::{Entry, Revision};
use crate::view::etcd::{KeyRange, ReadState, Room};
use crate::wire::etcd::ResponseHeader;
use crate::wire::etcd::kv::{
    Compare, CompareResult, CompareTarget, CompareWith, RangeResponse, RequestOp, RequestOpUnion, ResponseOp,
    ResponseOpUnion, TxnRequest, TxnResponse,
};

/// The most operations of a transaction: the longest of its three lists, and that of each transaction inside of the other. It
/// is etcd's own limit.
const MAX_OPERATIONS: usize = 128;

/// The most comparisons and operations of a transaction and all that lie in it. etcd has no such limit.
const MAX_ALL: usize = 1024;

impl Call {
    /// A transaction without writes, in the newest state.
    pub(super) async fn read_txn(&self, txn: &TxnRequest) -> Result<Unary, Status> {
        let view = self.view();
        if !self.front.is_serializable() {
            view.linearize().await?;
        }
        let complete = view.complete_to();
        let state = view.etcd_state(None).await?;
        let revision = complete.max(state.revision());
        let header = self.front.header(revision);
        let mut room = self.room();
        let answer = self.read_txn_in(txn, &state, revision, header, &mut room).await?;
        Ok(Unary::new(&answer).holding(room))
    }

    async fn read_txn_in(
        &self,
        txn: &TxnRequest,
        state: &ReadState,
        revision: Revision,
        header: ResponseHeader,
        room: &mut Room,
    ) -> Result<TxnResponse, Status> {
        let mut succeeded = true;
        for compare in &txn.compare {
            succeeded &= self.holds(compare, state).await?;
        }
        let mut responses = Vec::new();
        for operation in if succeeded { &txn.success } else { &txn.failure } {
            let response = self.operation(operation, state, revision, header, room).await?;
            responses.push(ResponseOp { response: Some(response) });
        }
        Ok(TxnResponse { header: Some(header), succeeded, responses })
    }

    async fn operation(
        &self,
        operation: &RequestOp,
        state: &ReadState,
        revision: Revision,
        header: ResponseHeader,
        room: &mut Room,
    ) -> Result<ResponseOpUnion, Status> {
        match &operation.request {
            Some(RequestOpUnion::Range(request)) => {
                let query = kv::query(request)?;
                let older = match query.revision {
                    Some(asked) if asked > revision => return Err(status::future_revision()),
                    Some(asked) => Some(self.view().etcd_state(Some(asked)).await?),
                    None => None,
                };
                let read = self.view().etcd_range(older.as_ref().unwrap_or(state), &query).await?;
                // Once here, and once in the message.
                room.take(2 * read.encoded_len()).await.map_err(status::over_budget)?;
                let mut response: RangeResponse = grpc::decode(read.encode().into())?;
                // Only the transaction's own header has its members.
                response.header =
                    Some(ResponseHeader { revision: header.revision, ..ResponseHeader::default() });
                Ok(ResponseOpUnion::Range(response))
            }
            Some(RequestOpUnion::Txn(txn)) => {
                let nested = Box::pin(self.read_txn_in(txn, state, revision, header, room)).await?;
                // Only the outer one says its revision.
                let header = Some(ResponseHeader::default());
                Ok(ResponseOpUnion::Txn(TxnResponse { header, ..nested }))
            }
            Some(RequestOpUnion::Put(_) | RequestOpUnion::DeleteRange(_)) => {
                Err(self.takes_no_writes("a transaction that writes"))
            }
            None => Err(Status::invalid_argument("etcdserver: key not found")),
        }
    }

    /// Whether every key of the range compares so. A range without keys does for everything but its value.
    async fn holds(&self, compare: &Compare, state: &ReadState) -> Result<bool, Status> {
        if compare.range_end.is_empty() {
            return Ok(is_met(compare, state.get(&compare.key).as_ref()));
        }
        let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
        let read = self.view().etcd_range(state, &kv::all_of(range)).await?;
        if read.entries.is_empty() {
            return Ok(is_met(compare, None));
        }
        Ok(read.entries.iter().all(|entry| is_met(compare, Some(entry))))
    }
}

/// Refuses a transaction with too many operations.
pub(super) fn check_size(txn: &TxnRequest) -> Result<(), Status> {
    let mut all = MAX_ALL;
    if is_small(txn, MAX_OPERATIONS, &mut all) {
        Ok(())
    } else {
        Err(Status::invalid_argument("etcdserver: too many operations in txn request"))
    }
}

/// Whether its lists have at most `most` operations, with those that lie in it, and all of them at most `all`.
fn is_small(txn: &TxnRequest, most: usize, all: &mut usize) -> bool {
    let operations = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let here = txn.compare.len() + txn.success.len() + txn.failure.len();
    let (Some(rest), Some(rest_of_all)) = (most.checked_sub(operations), all.checked_sub(here)) else {
        return false;
    };
    *all = rest_of_all;
    txn.success.iter().chain(&txn.failure).all(|operation| match &operation.request {
        Some(RequestOpUnion::Txn(nested)) => is_small(nested, rest, all),
        _ => true,
    })
}

/// Whether a key compares so; `None` for an absent one.
pub(super) fn is_met(compare: &Compare, entry: Option<&Entry>) -> bool {
    let target = CompareTarget::try_from(compare.target).unwrap_or(CompareTarget::Version);
    let order = match target {
        CompareTarget::Value => {
            // An absent key has no value that anything could be compared with.
            let Some(entry) = entry else { return false };
            let with: &[u8] = match &compare.with {
                Some(CompareWith::Value(value)) => value,
                _ => b"",
            };
            entry.value().cmp(with)
        }
        _ => {
            let info = entry.map(Entry::write_info_or_default);
            let modified = entry.and_then(Entry::revision).unwrap_or_default();
            let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let (number, with) = match (target, &compare.with) {
                (CompareTarget::Version, with) => (
                    info.map_or(0, |info| signed(info.version)),
                    if let Some(CompareWith::Version(with)) = with { *with } else { 0 },
                ),
                (CompareTarget::Create, with) => (
                    info.map_or(0, |info| signed(info.created.0)),
                    if let Some(CompareWith::CreateRevision(with)) = with { *with } else { 0 },
                ),
                (CompareTarget::Mod, with) => (
                    signed(modified.0),
                    if let Some(CompareWith::ModRevision(with)) = with { *with } else { 0 },
                ),
                (_, with) => (
                    info.map_or(0, |info| info.lease),
                    if let Some(CompareWith::Lease(with)) = with { *with } else { 0 },
                ),
            };
            number.cmp(&with)
        }
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}
