//! The service `etcdserverpb.Auth`, and a permission (`authpb`).

use bytes::Bytes;
use prost::{Enumeration, Message};

use super::{Empty, HeaderResponse, ResponseHeader};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) password: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthenticateResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    /// Goes with every further request.
    #[prost(string, tag = "2")]
    pub(crate) token: String,
}

pub(crate) type AuthEnableRequest = Empty;

pub(crate) type AuthEnableResponse = HeaderResponse;

pub(crate) type AuthDisableRequest = Empty;

pub(crate) type AuthDisableResponse = HeaderResponse;

pub(crate) type AuthStatusRequest = Empty;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthStatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub(crate) enabled: bool,
    /// Counts the changes of users and roles.
    #[prost(uint64, tag = "3")]
    pub(crate) auth_revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthUserAddRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) password: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) options: Option<UserAddOptions>,
    #[prost(string, tag = "4")]
    pub(crate) hashed_password: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserAddOptions {
    #[prost(bool, tag = "1")]
    pub(crate) no_password: bool,
}

pub(crate) type AuthUserAddResponse = HeaderResponse;

/// A user or a role, by its name.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthName {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

pub(crate) type AuthUserGetRequest = AuthName;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthUserGetResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) roles: Vec<String>,
}

pub(crate) type AuthUserListRequest = Empty;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthUserListResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) users: Vec<String>,
}

pub(crate) type AuthUserDeleteRequest = AuthName;

pub(crate) type AuthUserDeleteResponse = HeaderResponse;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthUserChangePasswordRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) password: String,
    #[prost(string, tag = "3")]
    pub(crate) hashed_password: String,
}

pub(crate) type AuthUserChangePasswordResponse = HeaderResponse;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthUserGrantRoleRequest {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    #[prost(string, tag = "2")]
    pub(crate) role: String,
}

pub(crate) type AuthUserGrantRoleResponse = HeaderResponse;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthUserRevokeRoleRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) role: String,
}

pub(crate) type AuthUserRevokeRoleResponse = HeaderResponse;

pub(crate) type AuthRoleAddRequest = AuthName;

pub(crate) type AuthRoleAddResponse = HeaderResponse;

/// A role, by its name.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthRole {
    #[prost(string, tag = "1")]
    pub(crate) role: String,
}

pub(crate) type AuthRoleGetRequest = AuthRole;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthRoleGetResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) perm: Vec<Permission>,
}

pub(crate) type AuthRoleListRequest = Empty;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthRoleListResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) roles: Vec<String>,
}

pub(crate) type AuthRoleDeleteRequest = AuthRole;

pub(crate) type AuthRoleDeleteResponse = HeaderResponse;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthRoleGrantPermissionRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) perm: Option<Permission>,
}

pub(crate) type AuthRoleGrantPermissionResponse = HeaderResponse;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Permission {
    #[prost(enumeration = "PermissionType", tag = "1")]
    pub(crate) kind: i32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) key: Bytes,
    /// Empty: that key alone. A zero byte: all keys from there on.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) range_end: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum PermissionType {
    Read = 0,
    Write = 1,
    Readwrite = 2,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthRoleRevokePermissionRequest {
    #[prost(string, tag = "1")]
    pub(crate) role: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) range_end: Bytes,
}

pub(crate) type AuthRoleRevokePermissionResponse = HeaderResponse;
