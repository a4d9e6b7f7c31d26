//! The service `etcdserverpb.Auth`, and a permission (`authpb`).

use bytes::Bytes;
use prost::{Enumeration, Message};
use serde::{Deserialize, Serialize};

use super::json::{EnumName, byte_string, int, is_default, nullable};
use super::{Empty, HeaderResponse, ResponseHeader};

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) password: String,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthenticateResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    /// Goes with every further request.
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) token: String,
}

pub(crate) type AuthEnableRequest = Empty;

pub(crate) type AuthEnableResponse = HeaderResponse;

pub(crate) type AuthDisableRequest = Empty;

pub(crate) type AuthDisableResponse = HeaderResponse;

pub(crate) type AuthStatusRequest = Empty;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthStatusResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) enabled: bool,
    /// Counts the changes of users and roles.
    #[prost(uint64, tag = "3")]
    #[serde(rename = "authRevision", with = "int", skip_serializing_if = "is_default")]
    pub(crate) auth_revision: u64,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthUserAddRequest {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) password: String,
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) options: Option<UserAddOptions>,
    #[prost(string, tag = "4")]
    #[serde(rename = "hashedPassword", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) hashed_password: String,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UserAddOptions {
    #[prost(bool, tag = "1")]
    #[serde(alias = "noPassword", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) no_password: bool,
}

pub(crate) type AuthUserAddResponse = HeaderResponse;

/// A user or a role, by its name.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthName {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) name: String,
}

pub(crate) type AuthUserGetRequest = AuthName;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthUserGetResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(string, repeated, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) roles: Vec<String>,
}

pub(crate) type AuthUserListRequest = Empty;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthUserListResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(string, repeated, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) users: Vec<String>,
}

pub(crate) type AuthUserDeleteRequest = AuthName;

pub(crate) type AuthUserDeleteResponse = HeaderResponse;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthUserChangePasswordRequest {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) password: String,
    #[prost(string, tag = "3")]
    #[serde(rename = "hashedPassword", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) hashed_password: String,
}

pub(crate) type AuthUserChangePasswordResponse = HeaderResponse;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthUserGrantRoleRequest {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) user: String,
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) role: String,
}

pub(crate) type AuthUserGrantRoleResponse = HeaderResponse;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthUserRevokeRoleRequest {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) role: String,
}

pub(crate) type AuthUserRevokeRoleResponse = HeaderResponse;

pub(crate) type AuthRoleAddRequest = AuthName;

pub(crate) type AuthRoleAddResponse = HeaderResponse;

/// A role, by its name.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthRole {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) role: String,
}

pub(crate) type AuthRoleGetRequest = AuthRole;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthRoleGetResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) perm: Vec<Permission>,
}

pub(crate) type AuthRoleListRequest = Empty;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthRoleListResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(string, repeated, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) roles: Vec<String>,
}

pub(crate) type AuthRoleDeleteRequest = AuthRole;

pub(crate) type AuthRoleDeleteResponse = HeaderResponse;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthRoleGrantPermissionRequest {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) perm: Option<Permission>,
}

pub(crate) type AuthRoleGrantPermissionResponse = HeaderResponse;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Permission {
    #[prost(enumeration = "PermissionType", tag = "1")]
    #[serde(rename = "permType", with = "EnumName::<PermissionType>", skip_serializing_if = "is_default")]
    pub(crate) kind: i32,
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) key: Bytes,
    /// Empty: that key alone. A zero byte: all keys from there on.
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(alias = "rangeEnd", with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) range_end: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(i32)]
pub(crate) enum PermissionType {
    Read = 0,
    Write = 1,
    Readwrite = 2,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AuthRoleRevokePermissionRequest {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) role: String,
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(alias = "rangeEnd", with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) range_end: Bytes,
}

pub(crate) type AuthRoleRevokePermissionResponse = HeaderResponse;
