//! The service `etcdserverpb.Lease`. A time to live is in seconds.

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::json::{byte_strings, int, is_default, nullable};
use super::{Empty, HeaderResponse, ResponseHeader};

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    #[serde(rename = "TTL", with = "int", skip_serializing_if = "is_default")]
    pub(crate) ttl: i64,
    /// 0: the server chooses.
    #[prost(int64, tag = "2")]
    #[serde(rename = "ID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) id: i64,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseGrantResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    #[serde(rename = "ID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) id: i64,
    #[prost(int64, tag = "3")]
    #[serde(rename = "TTL", with = "int", skip_serializing_if = "is_default")]
    pub(crate) ttl: i64,
    #[prost(string, tag = "4")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) error: String,
}

/// A lease by its number.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseId {
    #[prost(int64, tag = "1")]
    #[serde(rename = "ID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) id: i64,
}

pub(crate) type LeaseRevokeRequest = LeaseId;

pub(crate) type LeaseRevokeResponse = HeaderResponse;

pub(crate) type LeaseKeepAliveRequest = LeaseId;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseKeepAliveResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    #[serde(rename = "ID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) id: i64,
    /// 0: the lease has expired, or there was none.
    #[prost(int64, tag = "3")]
    #[serde(rename = "TTL", with = "int", skip_serializing_if = "is_default")]
    pub(crate) ttl: i64,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseTimeToLiveRequest {
    #[prost(int64, tag = "1")]
    #[serde(rename = "ID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) id: i64,
    /// Whether to list the keys of the lease.
    #[prost(bool, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) keys: bool,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseTimeToLiveResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    #[serde(rename = "ID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) id: i64,
    /// That remains; -1 when the lease has expired, or there was none.
    #[prost(int64, tag = "3")]
    #[serde(rename = "TTL", with = "int", skip_serializing_if = "is_default")]
    pub(crate) ttl: i64,
    /// For which the lease was granted; 0 when it has expired.
    #[prost(int64, tag = "4")]
    #[serde(rename = "grantedTTL", with = "int", skip_serializing_if = "is_default")]
    pub(crate) granted_ttl: i64,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    #[serde(with = "byte_strings", skip_serializing_if = "is_default")]
    pub(crate) keys: Vec<Bytes>,
}

pub(crate) type LeaseLeasesRequest = Empty;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseLeasesResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) leases: Vec<LeaseId>,
}
