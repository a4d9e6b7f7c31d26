//! The service `etcdserverpb.Lease`. Leases are the upstream etcd's.

use bytes::Bytes;
use tonic::Status;

use super::front::Call;
use super::grpc::{self, Unary};
use super::status;
use crate::wire::etcd::lease::LeaseTimeToLiveResponse;

/// The most bytes of an answer: a list of leases, or of the keys of one.
const MAX_ANSWER: usize = 16 << 20;

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
        let answer = upstream.call(path, message, MAX_ANSWER).await?;
        if revokes {
            self.wait_for(&answer).await?;
        }
        // As newer versions of etcd do: who lists the keys of a lease must be able to read them all.
        if path.ends_with("TimeToLive") {
            let readable = self.readable()?;
            let keys = grpc::decode::<LeaseTimeToLiveResponse>(answer.clone())?.keys;
            if !keys.iter().all(|key| readable.matches(key)) {
                return Err(status::permission_denied());
            }
        }
        Ok(Unary::of_pieces([answer]))
    }

    /// One request of `LeaseKeepAlive`.
    pub(super) async fn keep_alive(&self, message: Bytes) -> Result<Bytes, Status> {
        if self.access.writable().is_empty() {
            return Err(status::permission_denied());
        }
        let Some(upstream) = self.front.upstream() else { return Err(self.takes_no_writes("a lease")) };
        upstream.call_stream("/etcdserverpb.Lease/LeaseKeepAlive", message).await
    }
}
