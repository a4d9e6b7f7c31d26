//! The service `etcdserverpb.Maintenance`.

use bytes::Bytes;
use tonic::Status;

use super::front::{Call, number, revision};
use super::grpc::{self, Unary};
use super::status;
use crate::wire::etcd::maintenance::{
    AlarmAction, AlarmRequest, AlarmResponse, HashKvRequest, HashKvResponse, HashResponse, StatusResponse,
};

/// The version of etcd's API that this front has. Clients parse it.
pub(super) const API_VERSION: &str = "3.5.0";

impl Call {
    /// `Status`.
    pub(super) fn status(&self) -> Unary {
        let header = self.front.newest_header();
        // It follows every key, like the payload_bytes of the HTTP interface.
        let bytes = match self.access.may_monitor() {
            true => self.view().cache().current_breadcrumb().kvs().payload_bytes(),
            false => 0,
        };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let index = u64::try_from(header.revision).unwrap_or(0);
        Unary::new(&StatusResponse {
            header: Some(header),
            version: API_VERSION.to_owned(),
            db_size: bytes,
            db_size_in_use: bytes,
            leader: header.member_id,
            raft_index: index,
            raft_applied_index: index,
            raft_term: header.raft_term,
            ..StatusResponse::default()
        })
    }

    /// `Alarm`: there is none to list.
    pub(super) fn alarms(&self, request: &AlarmRequest) -> Result<Unary, Status> {
        if request.action != AlarmAction::Get as i32 {
            return Err(status::not_served("an alarm", "this daemon has none"));
        }
        Ok(Unary::new(&AlarmResponse { header: Some(self.front.newest_header()), alarms: Vec::new() }))
    }

    /// `Hash`: of keys and values, equal on replicas.
    pub(super) fn hash(&self) -> Result<Unary, Status> {
        let hash = self.state_hash()?;
        Ok(Unary::new(&HashResponse { header: Some(self.front.newest_header()), hash }))
    }

    /// `HashKV`, of the newest state only.
    pub(super) fn hash_kv(&self, message: Bytes) -> Result<Unary, Status> {
        let request: HashKvRequest = grpc::decode(message)?;
        let complete = self.view().complete_to();
        let newest = self.view().cache().current_breadcrumb().revision();
        match revision(request.revision) {
            Some(asked) if asked > complete.max(newest) => return Err(status::future_revision()),
            Some(asked) if asked < newest => {
                return Err(status::not_served(
                    "the hash of an older revision",
                    "this daemon has that of its newest state, which is asked for without a revision",
                ));
            }
            _ => {}
        }
        let hash = self.state_hash()?;
        let header = Some(self.front.newest_header());
        let hash_revision = number(newest);
        Ok(Unary::new(&HashKvResponse { header, hash, hash_revision, ..HashKvResponse::default() }))
    }

    /// The low bits of the digest. It depends on every key.
    fn state_hash(&self) -> Result<u32, Status> {
        if !self.access.may_monitor() {
            return Err(status::permission_denied());
        }
        let digest = self.view().cache().current_breadcrumb().kvs().digest().bits();
        Ok((digest & u128::from(u32::MAX)) as u32)
    }

    /// Everything else.
    pub(super) fn no_maintenance(what: &str) -> Status {
        let instead = match what {
            "Snapshot" => "`crumbd dump` writes the state to a file",
            _ => "it is the datastore's own matter",
        };
        status::not_served(what, instead)
    }
}
