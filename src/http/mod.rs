//! HTTP: a waiting client is a parked future and a cursor.
//!
//! Handlers are thin: parse, ask the [`crate::view`], answer. This room holds no client state
//! between requests; what a breadcrumb *is* never depends on it. Everything that a client sends is
//! either understood or refused with a `problem+json` that says what would be right: nothing is
//! ignored.
//!
//! Start reading at [`router`]: one line an endpoint. A connection's way is `server.rs` (accept),
//! `connection.rs` (who serves it now), then `lean/` for long polls or hyper and axum for the rest.

mod age;
pub mod auth;
mod breadcrumbs;
mod budget;
mod connection;
mod health;
mod kv;
mod lean;
mod metrics;
mod negotiate;
mod openapi;
mod origin;
mod page;
mod problem;
mod query;
mod ranged;
mod reload;
mod reply;
mod request_body;
mod resting;
mod routes;
mod server;
mod shutdown;
mod stream;
pub mod tls;
mod transport;
mod vitals;
mod write;

pub use budget::Limits;
pub use ranged::{BreadcrumbRange, KeysAfter};
pub use reload::{Reload, Reread};
pub use routes::{App, AppConfig, router};
pub use server::{ServeError, Server, ServerConfig};
pub use shutdown::Shutdown;
