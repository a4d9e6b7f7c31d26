//! Faults of etcd, as a client of the daemon sees them: as little as possible, and never a wrong state.
//!
//! Every etcd is a real process (Debian's `etcd-server`), killed with SIGKILL; the network between is a proxy that the
//! test cuts.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod compaction;
mod contents;
mod network;
mod recreated_store;
mod restarts;
mod tls;
