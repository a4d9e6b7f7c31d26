//! The front for etcd's clients: the same requests to a real etcd and to a daemon that follows it.

#![allow(clippy::unwrap_used, clippy::type_complexity)] // a test may unwrap

#[path = "../../src/wire/etcd/mod.rs"]
#[allow(dead_code, missing_docs, clippy::all)]
mod etcd;
#[path = "../support/mod.rs"]
mod support;

mod client;
mod faults;
mod gateway;
mod history;
mod limits;
mod live;
mod ranges;
mod relays;
mod restarts;
mod rights;
mod servers;
mod services;
mod streams;
mod watches;
mod writes;
