//! The service `etcdserverpb.KV`, and a key and its event (`mvccpb`).

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};
use serde::{Deserialize, Serialize};

use super::json::{EnumName, byte_string, int, is_default, nullable, oneof};
use super::{HeaderResponse, ResponseHeader};

/// A key, its value, and where in the history of the store it is.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) key: Bytes,
    #[prost(int64, tag = "2")]
    #[serde(alias = "createRevision", with = "int", skip_serializing_if = "is_default")]
    pub(crate) create_revision: i64,
    #[prost(int64, tag = "3")]
    #[serde(alias = "modRevision", with = "int", skip_serializing_if = "is_default")]
    pub(crate) mod_revision: i64,
    /// Counts the changes since the key was created, from 1; 0 of a deleted key.
    #[prost(int64, tag = "4")]
    #[serde(with = "int", skip_serializing_if = "is_default")]
    pub(crate) version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    #[serde(with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) value: Bytes,
    /// 0: none.
    #[prost(int64, tag = "6")]
    #[serde(with = "int", skip_serializing_if = "is_default")]
    pub(crate) lease: i64,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    #[prost(enumeration = "EventType", tag = "1")]
    #[serde(rename = "type", with = "EnumName::<EventType>", skip_serializing_if = "is_default")]
    pub(crate) kind: i32,
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) kv: Option<KeyValue>,
    /// The key before, where it was asked for and is not compacted away.
    #[prost(message, optional, tag = "3")]
    #[serde(alias = "prevKv", skip_serializing_if = "is_default")]
    pub(crate) prev_kv: Option<KeyValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(i32)]
pub(crate) enum EventType {
    Put = 0,
    Delete = 1,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) key: Bytes,
    /// Empty: that key alone. A zero byte: all keys from there on.
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(alias = "rangeEnd", with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) range_end: Bytes,
    /// 0: no limit.
    #[prost(int64, tag = "3")]
    #[serde(with = "int", skip_serializing_if = "is_default")]
    pub(crate) limit: i64,
    /// 0: the newest.
    #[prost(int64, tag = "4")]
    #[serde(with = "int", skip_serializing_if = "is_default")]
    pub(crate) revision: i64,
    #[prost(enumeration = "SortOrder", tag = "5")]
    #[serde(alias = "sortOrder", with = "EnumName::<SortOrder>", skip_serializing_if = "is_default")]
    pub(crate) sort_order: i32,
    #[prost(enumeration = "SortTarget", tag = "6")]
    #[serde(alias = "sortTarget", with = "EnumName::<SortTarget>", skip_serializing_if = "is_default")]
    pub(crate) sort_target: i32,
    /// Whether the member may answer from what it has, without asking the others.
    #[prost(bool, tag = "7")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) serializable: bool,
    #[prost(bool, tag = "8")]
    #[serde(alias = "keysOnly", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) keys_only: bool,
    #[prost(bool, tag = "9")]
    #[serde(alias = "countOnly", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) count_only: bool,
    #[prost(int64, tag = "10")]
    #[serde(alias = "minModRevision", with = "int", skip_serializing_if = "is_default")]
    pub(crate) min_mod_revision: i64,
    #[prost(int64, tag = "11")]
    #[serde(alias = "maxModRevision", with = "int", skip_serializing_if = "is_default")]
    pub(crate) max_mod_revision: i64,
    #[prost(int64, tag = "12")]
    #[serde(alias = "minCreateRevision", with = "int", skip_serializing_if = "is_default")]
    pub(crate) min_create_revision: i64,
    #[prost(int64, tag = "13")]
    #[serde(alias = "maxCreateRevision", with = "int", skip_serializing_if = "is_default")]
    pub(crate) max_create_revision: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(i32)]
pub(crate) enum SortOrder {
    None = 0,
    Ascend = 1,
    Descend = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(i32)]
pub(crate) enum SortTarget {
    Key = 0,
    Version = 1,
    Create = 2,
    Mod = 3,
    Value = 4,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) more: bool,
    /// Keys in the range, whatever the limit and the filters.
    #[prost(int64, tag = "4")]
    #[serde(with = "int", skip_serializing_if = "is_default")]
    pub(crate) count: i64,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) value: Bytes,
    /// 0: none.
    #[prost(int64, tag = "3")]
    #[serde(with = "int", skip_serializing_if = "is_default")]
    pub(crate) lease: i64,
    #[prost(bool, tag = "4")]
    #[serde(alias = "prevKv", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) prev_kv: bool,
    /// Whether the key keeps the value that it has.
    #[prost(bool, tag = "5")]
    #[serde(alias = "ignoreValue", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) ignore_value: bool,
    /// Whether the key keeps the lease that it has.
    #[prost(bool, tag = "6")]
    #[serde(alias = "ignoreLease", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) ignore_lease: bool,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PutResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(message, optional, tag = "2")]
    #[serde(alias = "prevKv", skip_serializing_if = "is_default")]
    pub(crate) prev_kv: Option<KeyValue>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DeleteRangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) key: Bytes,
    /// Empty: that key alone.
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(alias = "rangeEnd", with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) range_end: Bytes,
    #[prost(bool, tag = "3")]
    #[serde(alias = "prevKv", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) prev_kv: bool,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DeleteRangeResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(int64, tag = "2")]
    #[serde(with = "int", skip_serializing_if = "is_default")]
    pub(crate) deleted: i64,
    #[prost(message, repeated, tag = "3")]
    #[serde(alias = "prevKvs", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) prev_kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) compare: Vec<Compare>,
    /// Done if all comparisons hold.
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) success: Vec<RequestOp>,
    /// Done otherwise.
    #[prost(message, repeated, tag = "3")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) succeeded: bool,
    /// One for each operation that was done.
    #[prost(message, repeated, tag = "3")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) responses: Vec<ResponseOp>,
}

/// A comparison of every key in a range.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Compare {
    #[prost(enumeration = "CompareResult", tag = "1")]
    #[serde(with = "EnumName::<CompareResult>", skip_serializing_if = "is_default")]
    pub(crate) result: i32,
    #[prost(enumeration = "CompareTarget", tag = "2")]
    #[serde(with = "EnumName::<CompareTarget>", skip_serializing_if = "is_default")]
    pub(crate) target: i32,
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) key: Bytes,
    #[prost(oneof = "CompareWith", tags = "4, 5, 6, 7, 8")]
    #[serde(flatten, with = "oneof")]
    pub(crate) with: Option<CompareWith>,
    /// Empty: that key alone.
    #[prost(bytes = "bytes", tag = "64")]
    #[serde(alias = "rangeEnd", with = "byte_string", skip_serializing_if = "is_default")]
    pub(crate) range_end: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(i32)]
pub(crate) enum CompareResult {
    Equal = 0,
    Greater = 1,
    Less = 2,
    NotEqual = 3,
}

/// What is compared. All of these but the value are 0 of an absent key; its value is unlike any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(i32)]
pub(crate) enum CompareTarget {
    Version = 0,
    Create = 1,
    Mod = 2,
    Value = 3,
    Lease = 4,
}

/// What the target is compared with.
#[derive(Clone, PartialEq, Oneof, Serialize, Deserialize)]
pub(crate) enum CompareWith {
    #[prost(int64, tag = "4")]
    #[serde(rename = "version", with = "int")]
    Version(i64),
    #[prost(int64, tag = "5")]
    #[serde(rename = "create_revision", alias = "createRevision", with = "int")]
    CreateRevision(i64),
    #[prost(int64, tag = "6")]
    #[serde(rename = "mod_revision", alias = "modRevision", with = "int")]
    ModRevision(i64),
    #[prost(bytes = "bytes", tag = "7")]
    #[serde(rename = "value", with = "byte_string")]
    Value(Bytes),
    #[prost(int64, tag = "8")]
    #[serde(rename = "lease", with = "int")]
    Lease(i64),
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RequestOp {
    #[prost(oneof = "RequestOpUnion", tags = "1, 2, 3, 4")]
    #[serde(flatten, with = "oneof")]
    pub(crate) request: Option<RequestOpUnion>,
}

#[derive(Clone, PartialEq, Oneof, Serialize, Deserialize)]
pub(crate) enum RequestOpUnion {
    #[prost(message, tag = "1")]
    #[serde(rename = "request_range", alias = "requestRange")]
    Range(RangeRequest),
    #[prost(message, tag = "2")]
    #[serde(rename = "request_put", alias = "requestPut")]
    Put(PutRequest),
    #[prost(message, tag = "3")]
    #[serde(rename = "request_delete_range", alias = "requestDeleteRange")]
    DeleteRange(DeleteRangeRequest),
    #[prost(message, tag = "4")]
    #[serde(rename = "request_txn", alias = "requestTxn")]
    Txn(TxnRequest),
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ResponseOp {
    #[prost(oneof = "ResponseOpUnion", tags = "1, 2, 3, 4")]
    #[serde(flatten, with = "oneof")]
    pub(crate) response: Option<ResponseOpUnion>,
}

#[derive(Clone, PartialEq, Oneof, Serialize, Deserialize)]
pub(crate) enum ResponseOpUnion {
    #[prost(message, tag = "1")]
    #[serde(rename = "response_range", alias = "responseRange")]
    Range(RangeResponse),
    #[prost(message, tag = "2")]
    #[serde(rename = "response_put", alias = "responsePut")]
    Put(PutResponse),
    #[prost(message, tag = "3")]
    #[serde(rename = "response_delete_range", alias = "responseDeleteRange")]
    DeleteRange(DeleteRangeResponse),
    #[prost(message, tag = "4")]
    #[serde(rename = "response_txn", alias = "responseTxn")]
    Txn(TxnResponse),
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CompactionRequest {
    #[prost(int64, tag = "1")]
    #[serde(with = "int", skip_serializing_if = "is_default")]
    pub(crate) revision: i64,
    /// Whether the answer waits until the space is freed.
    #[prost(bool, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) physical: bool,
}

pub(crate) type CompactionResponse = HeaderResponse;
