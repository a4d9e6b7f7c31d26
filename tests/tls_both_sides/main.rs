//! TLS between the daemon and its clients: whom it lets in, whom they trust, and that all else is as without.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod half_open;
mod let_in;
mod reload;
mod served;
mod started;
