//! The service `etcdserverpb.Maintenance`.

use bytes::Bytes;
use prost::{Enumeration, Message};
use serde::{Deserialize, Serialize};

use super::json::{EnumName, byte_string, int, is_default, nullable};
use super::{Empty, HeaderResponse, ResponseHeader};

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AlarmRequest {
    #[prost(enumeration = "AlarmAction", tag = "1")]
    #[serde(with = "EnumName::<AlarmAction>", skip_serializing_if = "is_default")]
    pub(crate) action: i32,
    /// 0: all members.
    #[prost(uint64, tag = "2")]
    #[serde(rename = "memberID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) member_id: u64,
    #[prost(enumeration = "AlarmType", tag = "3")]
    #[serde(with = "EnumName::<AlarmType>", skip_serializing_if = "is_default")]
    pub(crate) alarm: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(i32)]
pub(crate) enum AlarmAction {
    Get = 0,
    Activate = 1,
    Deactivate = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(i32)]
pub(crate) enum AlarmType {
    None = 0,
    Nospace = 1,
    Corrupt = 2,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AlarmResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) alarms: Vec<AlarmMember>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AlarmMember {
    #[prost(uint64, tag = "1")]
    #[serde(rename = "memberID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) member_id: u64,
    #[prost(enumeration = "AlarmType", tag = "2")]
    #[serde(with = "EnumName::<AlarmType>", skip_serializing_if = "is_default")]
    pub(crate) alarm: i32,
}

pub(crate) type StatusRequest = Empty;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) version: String,
    /// In bytes, free space included.
    #[prost(int64, tag = "3")]
    #[serde(rename = "dbSize", with = "int", skip_serializing_if = "is_default")]
    pub(crate) db_size: i64,
    /// 0: no leader.
    #[prost(uint64, tag = "4")]
    #[serde(with = "int", skip_serializing_if = "is_default")]
    pub(crate) leader: u64,
    #[prost(uint64, tag = "5")]
    #[serde(rename = "raftIndex", with = "int", skip_serializing_if = "is_default")]
    pub(crate) raft_index: u64,
    #[prost(uint64, tag = "6")]
    #[serde(rename = "raftTerm", with = "int", skip_serializing_if = "is_default")]
    pub(crate) raft_term: u64,
    #[prost(uint64, tag = "7")]
    #[serde(rename = "raftAppliedIndex", with = "int", skip_serializing_if = "is_default")]
    pub(crate) raft_applied_index: u64,
    #[prost(string, repeated, tag = "8")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) errors: Vec<String>,
    /// In bytes.
    #[prost(int64, tag = "9")]
    #[serde(rename = "dbSizeInUse", with = "int", skip_serializing_if = "is_default")]
    pub(crate) db_size_in_use: i64,
    #[prost(bool, tag = "10")]
    #[serde(rename = "isLearner", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) is_learner: bool,
    #[prost(string, tag = "11")]
    #[serde(rename = "storageVersion", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) storage_version: String,
    /// In bytes.
    #[prost(int64, tag = "12")]
    #[serde(rename = "dbSizeQuota", with = "int", skip_serializing_if = "is_default")]
    pub(crate) db_size_quota: i64,
    #[prost(message, optional, tag = "13")]
    #[serde(rename = "downgradeInfo", skip_serializing_if = "is_default")]
    pub(crate) downgrade_info: Option<DowngradeInfo>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DowngradeInfo {
    #[prost(bool, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) enabled: bool,
    #[prost(string, tag = "2")]
    #[serde(rename = "targetVersion", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) target_version: String,
}

pub(crate) type DefragmentRequest = Empty;

pub(crate) type DefragmentResponse = HeaderResponse;

pub(crate) type HashRequest = Empty;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HashResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(uint32, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) hash: u32,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HashKvRequest {
    /// 0: the newest.
    #[prost(int64, tag = "1")]
    #[serde(with = "int", skip_serializing_if = "is_default")]
    pub(crate) revision: i64,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HashKvResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(uint32, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) hash: u32,
    #[prost(int64, tag = "3")]
    #[serde(alias = "compactRevision", with = "int", skip_serializing_if = "is_default")]
    pub(crate) compact_revision: i64,
    #[prost(int64, tag = "4")]
    #[serde(alias = "hashRevision", with = "int", skip_serializing_if = "is_default")]
    pub(crate) hash_revision: i64,
}

pub(crate) type SnapshotRequest = Empty;

/// A piece of the database file.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SnapshotResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    /// That follow this piece.
    #[prost(uint64, tag = "2")]
    #[serde(alias = "remainingBytes", with = "int", skip_serializing_if = "is_default")]
    pub(crate) remaining_bytes: u64,
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) blob: Bytes,
    #[prost(string, tag = "4")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) version: String,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MoveLeaderRequest {
    /// The member that shall lead.
    #[prost(uint64, tag = "1")]
    #[serde(rename = "targetID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) target_id: u64,
}

pub(crate) type MoveLeaderResponse = HeaderResponse;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DowngradeRequest {
    #[prost(enumeration = "DowngradeAction", tag = "1")]
    #[serde(with = "EnumName::<DowngradeAction>", skip_serializing_if = "is_default")]
    pub(crate) action: i32,
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(i32)]
pub(crate) enum DowngradeAction {
    Validate = 0,
    Enable = 1,
    Cancel = 2,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DowngradeResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) version: String,
}
