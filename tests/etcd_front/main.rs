//! The front for etcd's clients: the same requests to a real etcd and to a daemon that follows it.

#[path = "../../src/wire/etcd/mod.rs"]
#[allow(dead_code, missing_docs, clippy::all)]
mod etcd;
#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;

mod client;
mod history;
mod ranges;
mod servers;
mod watches;
