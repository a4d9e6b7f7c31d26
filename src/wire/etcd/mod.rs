//! The messages of etcd's API v3, of etcd 3.4 to 3.6: one file a service.
//!
//! Written down by hand from etcd's `rpc.proto`, `kv.proto` and `auth.proto`, so that building needs no `protoc`. Names are
//! etcd's but for a nested type, which has one name. Messages that have the same fields are one type, and etcd's names for
//! it are aliases.

// All of the API is here, whichever part of it is in use.
#![allow(dead_code)]

pub(crate) mod auth;
pub(crate) mod cluster;
pub(crate) mod json;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod maintenance;
pub(crate) mod watch;

use prost::Message;
use serde::{Deserialize, Serialize};

use json::{int, is_default};

/// Stands in every response.
#[derive(Clone, Copy, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    #[serde(alias = "clusterId", with = "int", skip_serializing_if = "is_default")]
    pub(crate) cluster_id: u64,
    #[prost(uint64, tag = "2")]
    #[serde(alias = "memberId", with = "int", skip_serializing_if = "is_default")]
    pub(crate) member_id: u64,
    /// Of the whole store, not of a range.
    #[prost(int64, tag = "3")]
    #[serde(with = "int", skip_serializing_if = "is_default")]
    pub(crate) revision: i64,
    /// Counts the elections of the cluster. A linearizable read is answered in the leader's term or a later one.
    #[prost(uint64, tag = "4")]
    #[serde(alias = "raftTerm", with = "int", skip_serializing_if = "is_default")]
    pub(crate) raft_term: u64,
}

/// A response that says no more than that it was done.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HeaderResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
}

/// A request without arguments.
#[derive(Clone, Copy, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Empty {}
