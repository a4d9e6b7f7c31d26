//! The tests of the files below once more, with clients of HTTP/2: the answers are the same.
//!
//! Tests that write bytes of HTTP/1.1 to a socket do so here too.
#![allow(clippy::unwrap_used)] // a test may unwrap
#![allow(clippy::duplicate_mod)] // each of the files has what the tests share

#[path = "access_log.rs"]
mod access_log;
#[path = "budgets.rs"]
mod budgets;
#[path = "collections.rs"]
mod collections;
#[path = "http_conformance.rs"]
mod http_conformance;
#[path = "key_watch/main.rs"]
mod key_watch;
#[path = "long_poll.rs"]
mod long_poll;
#[path = "rate_limits.rs"]
mod rate_limits;
#[path = "stream/main.rs"]
mod stream;
#[path = "string_values.rs"]
mod string_values;
#[path = "tls/main.rs"]
mod tls;
#[path = "tokens.rs"]
mod tokens;
