//! Where a daemon listens.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod addresses;
