//! The service `etcdserverpb.Lease`. Leases are the upstream etcd's.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};

use super::front::Call;
use super::grpc::{self, Unary};
use super::status;
use crate::feed::EtcdCalls;
use crate::wire::etcd::lease::{LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};

/// The most bytes of an answer: a list of leases, or of the keys of one.
const MAX_ANSWER: usize = 16 << 20;

const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";

impl Call {
    /// Any call of the service but the stream.
    pub(super) async fn lease(&self, path: &'static str, message: Bytes) -> Result<Unary, Status> {
        // A lease has the keys of whoever attached some.
        let revokes = path.ends_with("Revoke");
        let writable = self.access.writable();
        if writable.is_empty() || revokes && !writable.is_all() {
            return Err(status::permission_denied());
        }
        let Some(upstream) = self.front.upstream() else { return Err(self.takes_no_writes("a lease")) };
        if revokes && !upstream.prefix().is_empty() {
            let LeaseRevokeRequest { id } = grpc::decode(message.clone())?;
            require_prefix(upstream.prefix(), &keys_of(upstream, id).await?)?;
        }
        let answer = upstream.call(path, message, MAX_ANSWER).await?;
        if revokes {
            self.wait_for(&answer).await?;
        }
        // As newer versions of etcd do: who lists the keys of a lease must be able to read them all.
        if path == TIME_TO_LIVE {
            let keys = grpc::decode::<LeaseTimeToLiveResponse>(answer.clone())?.keys;
            if !keys.iter().all(|key| self.access.may_read(key)) {
                return Err(status::permission_denied());
            }
            require_prefix(upstream.prefix(), &keys)?;
        }
        self.passed_on(answer)
    }

    /// One request of `LeaseKeepAlive`.
    pub(super) async fn keep_alive(&self, message: Bytes) -> Result<Bytes, Status> {
        if self.access.writable().is_empty() {
            return Err(status::permission_denied());
        }
        let Some(upstream) = self.front.upstream() else { return Err(self.takes_no_writes("a lease")) };
        let answer = upstream.call_stream("/etcdserverpb.Lease/LeaseKeepAlive", message).await?;
        Ok(match self.own_header(&answer)? {
            Some(header) => [answer, header].concat().into(),
            None => answer,
        })
    }

    /// Refuses to attach keys to leases with keys that the client may not write, as etcd does.
    pub(super) async fn require_leases(
        &self,
        upstream: &dyn EtcdCalls,
        leases: &BTreeSet<i64>,
    ) -> Result<(), Status> {
        let writable = self.access.writable();
        if writable.is_all() {
            return Ok(());
        }
        for lease in leases {
            let keys = keys_of(upstream, *lease).await?;
            if !keys.iter().all(|key| writable.matches(key)) {
                return Err(status::permission_denied());
            }
        }
        Ok(())
    }
}

/// The keys of a lease; none if there is no such lease.
async fn keys_of(upstream: &dyn EtcdCalls, id: i64) -> Result<Vec<Bytes>, Status> {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let answer = upstream.call(TIME_TO_LIVE, request.encode_to_vec().into(), MAX_ANSWER).await;
    let answer = answer.map_err(|error| {
        let code = if error.code() == Code::Unknown { Code::Unavailable } else { error.code() };
        let why = error.message();
        Status::new(
            code,
            format!("crumbd: nothing was done, as etcd does not list the keys of lease {id:x}: {why}"),
        )
    })?;
    Ok(grpc::decode::<LeaseTimeToLiveResponse>(answer)?.keys)
}

/// Refuses what shows or deletes keys that are not the feed's.
fn require_prefix(prefix: &[u8], keys: &[Bytes]) -> Result<(), Status> {
    if keys.iter().all(|key| key.starts_with(prefix)) {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "crumbd: the lease has other keys too, and the feed has only those that begin with \"{}\"",
        prefix.escape_ascii()
    )))
}
