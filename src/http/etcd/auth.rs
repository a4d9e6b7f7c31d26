//! The service `etcdserverpb.Auth`: a user is a token of the daemon. The password is the token itself.

use tonic::Status;

use super::front::{Call, EtcdFront};
use super::grpc::Unary;
use super::status;
use crate::wire::etcd::auth::{AuthStatusResponse, AuthenticateRequest, AuthenticateResponse};

impl EtcdFront {
    /// `Authenticate`, for a client that has no token yet.
    pub(super) fn authenticate(&self, request: AuthenticateRequest) -> Result<Unary, Status> {
        if !self.app().is_guarded() {
            return Err(Status::failed_precondition("etcdserver: authentication is not enabled"));
        }
        let token = request.password;
        if self.app().admit(Some(&token)).is_err() {
            return Err(Status::invalid_argument(
                "etcdserver: authentication failed, invalid user ID or password",
            ));
        }
        Ok(Unary::new(&AuthenticateResponse { header: Some(self.newest_header()), token }))
    }
}

impl Call {
    /// `AuthStatus`.
    pub(super) fn auth_status(&self) -> Result<Unary, Status> {
        let header = Some(self.front.newest_header());
        let enabled = self.app().is_guarded();
        Ok(Unary::new(&AuthStatusResponse { header, enabled, ..AuthStatusResponse::default() }))
    }

    /// Everything else: users and roles are the lines of the tokens file.
    pub(super) fn no_auth() -> Status {
        status::not_served("the administration of users and roles", "the tokens file (--tokens) has them")
    }
}
