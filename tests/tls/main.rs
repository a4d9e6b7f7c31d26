//! TLS between the daemon and its clients: certificates of both sides, and the same service as without TLS.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod client_certificates;
mod commands;
mod handshake_timeout;
mod reload;
mod serving;
mod startup;
