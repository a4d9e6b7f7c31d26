//! The service `etcdserverpb.KV`.

use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::front::{Call, revision};
use super::grpc::{self, Unary};
use super::status;
use super::txn;
use super::write::Touched;
use crate::view::etcd::{KeyRange, RangeQuery, SortOrder, SortTarget};
use crate::wire::etcd::HeaderResponse;
use crate::wire::etcd::kv::{self, DeleteRangeRequest, PutRequest, RangeRequest, RequestOpUnion, TxnRequest};

/// A read of all keys of a range.
pub(super) fn all_of(range: KeyRange) -> RangeQuery {
    RangeQuery {
        range,
        revision: None,
        limit: 0,
        order: None,
        sorts_first_only: false,
        modified: (None, None),
        created: (None, None),
        count_only: false,
        keys_only: false,
    }
}

impl Call {
    /// `Put`.
    pub(super) async fn put(&self, message: Bytes) -> Result<Unary, Status> {
        let mut touched = Touched::default();
        let put: PutRequest = grpc::decode(message.clone())?;
        touched.put(&put)?;
        touched.require(self)?;
        if let Some(answered) = self.operate(RequestOpUnion::Put(put)).await {
            return answered;
        }
        self.write("/etcdserverpb.KV/Put", message, &touched, "a put").await
    }

    /// `DeleteRange`.
    pub(super) async fn delete_range(&self, message: Bytes) -> Result<Unary, Status> {
        let mut touched = Touched::default();
        let delete: DeleteRangeRequest = grpc::decode(message.clone())?;
        touched.delete(&delete)?;
        touched.require(self)?;
        if let Some(answered) = self.operate(RequestOpUnion::DeleteRange(delete)).await {
            return answered;
        }
        self.write("/etcdserverpb.KV/DeleteRange", message, &touched, "a deletion").await
    }

    /// `Txn`. One that only reads is answered from memory.
    pub(super) async fn txn(&self, message: Bytes) -> Result<Unary, Status> {
        let (mut touched, txn) = (Touched::default(), grpc::decode::<TxnRequest>(message.clone())?);
        txn::check_size(&txn)?;
        touched.txn(&txn)?;
        touched.require(self)?;
        if !touched.writes() {
            touched.require_followed(self)?;
            return self.read_txn(&txn).await;
        }
        if let Some(answered) = self.transact(txn).await {
            return answered.map(|(answered, room)| Unary::new(&answered).holding(room));
        }
        self.write("/etcdserverpb.KV/Txn", message, &touched, "a transaction that writes").await
    }

    /// `Compact`.
    pub(super) fn no_compaction() -> Status {
        status::not_served("a compaction", "this daemon forgets by --keep-count, --keep-bytes and --keep-age")
    }

    /// `Range`.
    pub(super) async fn range(&self, request: RangeRequest) -> Result<Unary, Status> {
        let query = query(&request)?;
        self.require_readable(&query.range)?;
        let view = self.view();
        if !request.serializable && !self.front.is_serializable() {
            view.linearize().await?;
        }
        // Before the state is read, which can then only be newer.
        let complete = view.complete_to();
        if query.revision.is_some_and(|revision| revision > complete) {
            return Err(status::future_revision());
        }
        let state = view.etcd_state(query.revision).await?;
        let newest = if query.revision.is_none() { complete.max(state.revision()) } else { complete };
        let read = view.etcd_range(&state, &query).await?;
        let mut room = self.room();
        room.take(read.encoded_len()).await.map_err(status::over_budget)?;
        let header = HeaderResponse { header: Some(self.front.header(newest)) }.encode_to_vec();
        Ok(Unary::of_pieces([header.into(), read.encode().into()]).holding(room))
    }
}

/// The read that a request asks for.
pub(super) fn query(request: &RangeRequest) -> Result<RangeQuery, Status> {
    if request.key.is_empty() {
        return Err(status::empty_key());
    }
    let order = kv::SortOrder::try_from(request.sort_order).map_err(|_| status::invalid_sort_option())?;
    let target = kv::SortTarget::try_from(request.sort_target).map_err(|_| status::invalid_sort_option())?;
    let target = match target {
        kv::SortTarget::Key => SortTarget::Key,
        kv::SortTarget::Version => SortTarget::Version,
        kv::SortTarget::Create => SortTarget::Created,
        kv::SortTarget::Mod => SortTarget::Modified,
        kv::SortTarget::Value => SortTarget::Value,
    };
    let sorts_first_only = order == kv::SortOrder::None;
    let order = match order {
        kv::SortOrder::None if target == SortTarget::Key => None,
        kv::SortOrder::None | kv::SortOrder::Ascend => Some((target, SortOrder::Ascending)),
        kv::SortOrder::Descend => Some((target, SortOrder::Descending)),
    };
    Ok(RangeQuery {
        range: KeyRange::new(request.key.clone(), request.range_end.clone()),
        revision: revision(request.revision),
        limit: usize::try_from(request.limit).unwrap_or(0),
        order,
        sorts_first_only,
        modified: (revision(request.min_mod_revision), revision(request.max_mod_revision)),
        created: (revision(request.min_create_revision), revision(request.max_create_revision)),
        count_only: request.count_only,
        keys_only: request.keys_only,
    })
}
