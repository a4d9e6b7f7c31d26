//! Clients of etcd that others wrote, unchanged, with crumbd in the place of etcd.
//!
//! `.ci/setup` installs them. What they do is in `go/`, `node/`, `python/` and `rust/`, one client a file.

#![allow(clippy::unwrap_used)] // a test may unwrap

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod etcdctl;
mod history;
mod moves;
mod programs;
mod replicas;
