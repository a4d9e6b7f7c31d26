//! `deploy/replicas.sh` as it is: real etcd, two replicas, nginx and haproxy in front of them. Clients that know a load
//! balancer's address only do not notice that the replicas are restarted, by SIGTERM and by SIGKILL, one after the other.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod deployment;
mod etcd_client;
mod http_client;
mod upgrade;
