//! What crumbd is measured with: a load generator ([`load`]), for the command `crumbd-bench` and for the benchmarks in
//! `benches/`.
//!
//! It is a package of its own so that the daemon carries nothing of it. Of the daemon's crate it uses what any client
//! does ([`crumbd::client`], [`crumbd::model`], [`crumbd::wire`]) and the flags that reach a daemon
//! ([`crumbd::cli::Daemon`]), never the server's side; some benchmarks measure rooms of the daemon from inside.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod load;
