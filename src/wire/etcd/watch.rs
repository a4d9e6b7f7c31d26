//! The service `etcdserverpb.Watch`: one stream of requests and one of responses, for many watches.

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};
use serde::{Deserialize, Serialize};

use super::json::{EnumNames, byte_string, int, is_default, nullable, oneof};
use super::kv::Event;
use super::{Empty, ResponseHeader};

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WatchRequest {
    #[prost(oneof = "WatchRequestUnion", tags = "1, 2, 3")]
    #[serde(flatten, with = "oneof")]
    pub(crate) request: Option<WatchRequestUnion>,
}

#[derive(Clone, PartialEq, Oneof, Serialize, Deserialize)]
pub(crate) enum WatchRequestUnion {
    #[prost(message, tag = "1")]
    #[serde(rename = "create_request", alias = "createRequest")]
    Create(WatchCreateRequest),
    #[prost(message, tag = "2")]
    #[serde(rename = "cancel_request", alias = "cancelRequest")]
    Cancel(WatchCancelRequest),
    #[prost(message, tag = "3")]
    #[serde(rename = "progress_request", alias = "progressRequest")]
    Progress(WatchProgressRequest),
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WatchCreateRequest {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) key: Bytes,
    /// Empty: that key alone.
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(alias = "rangeEnd", with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) range_end: Bytes,
    /// 0: from now on.
    #[prost(int64, tag = "3")]
    #[serde(alias = "startRevision", with = "int", skip_serializing_if = "is_default")]
    pub(crate) start_revision: i64,
    #[prost(bool, tag = "4")]
    #[serde(alias = "progressNotify", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) progress_notify: bool,
    #[prost(enumeration = "FilterType", repeated, tag = "5")]
    #[serde(with = "EnumNames::<FilterType>", skip_serializing_if = "is_default")]
    pub(crate) filters: Vec<i32>,
    #[prost(bool, tag = "6")]
    #[serde(alias = "prevKv", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) prev_kv: bool,
    /// 0: the server chooses.
    #[prost(int64, tag = "7")]
    #[serde(alias = "watchId", with = "int", skip_serializing_if = "is_default")]
    pub(crate) watch_id: i64,
    /// Large responses come in parts; a revision is whole with the last part.
    #[prost(bool, tag = "8")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) fragment: bool,
}

/// Events that are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(i32)]
pub(crate) enum FilterType {
    Noput = 0,
    Nodelete = 1,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WatchCancelRequest {
    #[prost(int64, tag = "1")]
    #[serde(alias = "watchId", with = "int", skip_serializing_if = "is_default")]
    pub(crate) watch_id: i64,
}

/// Asks for a response without events, whose revision is how far the watches are.
pub(crate) type WatchProgressRequest = Empty;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WatchResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    #[serde(alias = "watchId", with = "int", skip_serializing_if = "is_default")]
    pub(crate) watch_id: i64,
    #[prost(bool, tag = "3")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) created: bool,
    #[prost(bool, tag = "4")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) canceled: bool,
    /// Above 0: the watch asked for revisions that are compacted away up to this one.
    #[prost(int64, tag = "5")]
    #[serde(alias = "compactRevision", with = "int", skip_serializing_if = "is_default")]
    pub(crate) compact_revision: i64,
    #[prost(string, tag = "6")]
    #[serde(alias = "cancelReason", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) cancel_reason: String,
    /// Whether another part follows.
    #[prost(bool, tag = "7")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) fragment: bool,
    #[prost(message, repeated, tag = "11")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) events: Vec<Event>,
}
