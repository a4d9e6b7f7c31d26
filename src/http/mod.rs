//! HTTP: a waiting client is a parked future and a cursor.
//!
//! Handlers are thin: parse, ask the [`crate::view`], answer. This room holds no client state
//! between requests; what a breadcrumb *is* never depends on it. Everything that a client sends is
//! either understood or refused with a `problem+json` that says what would be right: nothing is
//! ignored.
//!
//! Start reading at [`router`]: one line an endpoint. A connection is accepted in `serve/listener.rs`;
//! `serve/connection.rs` gives it to `lean/` for long polls and streams, or to hyper and axum for the rest.

mod api;
mod app;
pub mod auth;
mod budget;
mod collection;
mod lean;
mod metrics;
mod page;
mod rep;
mod router;
mod serve;
pub mod tls;

pub use api::kv::keys_after::{BreadcrumbRange, KeysAfter};
pub use app::{App, AppConfig};
pub use budget::Limits;
pub use collection::Collection;
pub use router::router;
pub use serve::drain::Shutdown;
pub use serve::listener::{ServeError, Server, ServerConfig};
pub use serve::reload::{Reload, Reread};
