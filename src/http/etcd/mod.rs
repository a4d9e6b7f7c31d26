//! The front that speaks etcd's API v3: gRPC over HTTP/2, and etcd's JSON over HTTP.
//!
//! Clients of etcd use it as they use etcd. What they may ask, and how the answers differ from etcd's, is in
//! [`docs::etcd`](crate::docs::etcd).
//!
//! Each file is one of etcd's services. They parse a request, ask the view (`view/etcd/`) or the feed's write side, and
//! answer. A unary answer is one message (`grpc.rs`); a stream of watches is a body that makes its messages when the client
//! has room for them (`watch.rs`), so a slow client keeps none in memory.

mod auth;
mod cluster;
mod connection;
mod front;
mod gateway;
mod grpc;
mod kv;
mod lease;
mod maintenance;
mod service;
mod status;
mod store;
mod txn;
mod watch;
mod write;

pub(super) use connection::serve;
pub use front::{EtcdConfig, EtcdFront};
pub(super) use gateway::router;
