//! TLS between the daemon and its clients: whom it lets in, whom they trust, and that all else is as without.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod client_certificates;
mod commands;
mod handshake_timeout;
mod reload;
mod serving;
mod startup;
