//! The service `etcdserverpb.Cluster`: the cluster is this daemon.

use tonic::Status;

use super::front::Call;
use super::grpc::Unary;
use super::status;
use crate::wire::etcd::cluster::{Member, MemberListResponse};

impl Call {
    /// `MemberList`.
    pub(super) fn members(&self) -> Unary {
        let header = self.front.newest_header();
        let member = Member {
            id: header.member_id,
            name: "crumbd".to_owned(),
            client_urls: self.front.client_urls().to_vec(),
            ..Member::default()
        };
        Unary::new(&MemberListResponse { header: Some(header), members: vec![member] })
    }

    /// Everything else.
    pub(super) fn no_membership() -> Status {
        status::not_served("a change of the members", "replicas of this daemon know nothing of each other")
    }
}
