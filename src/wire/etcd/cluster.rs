//! The service `etcdserverpb.Cluster`.

use prost::Message;
use serde::{Deserialize, Serialize};

use super::ResponseHeader;
use super::json::{int, is_default, nullable};

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Member {
    #[prost(uint64, tag = "1")]
    #[serde(rename = "ID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) id: u64,
    /// Empty until the member has started.
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "3")]
    #[serde(rename = "peerURLs", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) peer_urls: Vec<String>,
    /// Empty until the member has started.
    #[prost(string, repeated, tag = "4")]
    #[serde(rename = "clientURLs", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) client_urls: Vec<String>,
    #[prost(bool, tag = "5")]
    #[serde(rename = "isLearner", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) is_learner: bool,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MemberListRequest {
    #[prost(bool, tag = "1")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) linearizable: bool,
}

/// All members of the cluster.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MemberListResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) members: Vec<Member>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MemberAddRequest {
    #[prost(string, repeated, tag = "1")]
    #[serde(rename = "peerURLs", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) peer_urls: Vec<String>,
    #[prost(bool, tag = "2")]
    #[serde(rename = "isLearner", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) is_learner: bool,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MemberAddResponse {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) header: Option<ResponseHeader>,
    /// The new one.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) member: Option<Member>,
    #[prost(message, repeated, tag = "3")]
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) members: Vec<Member>,
}

/// A member by its number.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MemberId {
    #[prost(uint64, tag = "1")]
    #[serde(rename = "ID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) id: u64,
}

pub(crate) type MemberRemoveRequest = MemberId;

pub(crate) type MemberRemoveResponse = MemberListResponse;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MemberUpdateRequest {
    #[prost(uint64, tag = "1")]
    #[serde(rename = "ID", with = "int", skip_serializing_if = "is_default")]
    pub(crate) id: u64,
    #[prost(string, repeated, tag = "2")]
    #[serde(rename = "peerURLs", deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub(crate) peer_urls: Vec<String>,
}

pub(crate) type MemberUpdateResponse = MemberListResponse;

pub(crate) type MemberPromoteRequest = MemberId;

pub(crate) type MemberPromoteResponse = MemberListResponse;
