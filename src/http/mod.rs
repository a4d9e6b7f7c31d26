//! The HTTP interface: a waiting client is a parked future and a cursor.
//!
//! A handler parses the request, asks the [view](crate::view), and answers. This room holds no client state between
//! requests. It ignores nothing that a client sends: what it does not understand is refused with a `problem+json` that
//! says what is allowed.
//!
//! Start at `router.rs`, which has one line per endpoint. `serve/listener.rs` accepts a connection; `serve/connection.rs`
//! passes it to `lean/` for long polls and streams, and to hyper and axum for everything else. A connection of HTTP/2 is
//! served in `http2/`.

mod access_log;
mod api;
mod app;
pub mod auth;
mod budget;
mod client;
mod client_table;
mod collection;
#[cfg(feature = "etcd")]
pub mod etcd;
mod http2;
mod lean;
mod metrics;
mod page;
mod rate;
mod refusals;
mod rep;
mod router;
mod serve;
pub mod tls;

#[cfg(feature = "cli")]
pub(crate) use access_log::TARGET as ACCESS_LOG;
pub use access_log::{AccessLog, RequestSpan, RequestSpans, TraceParent};
pub use api::kv::keys_after::KeysAfter;
pub use app::{App, AppConfig};
pub use budget::Limits;
pub use collection::Collection;
pub(crate) use collection::Stored;
pub use metrics::LogLines;
pub use rate::{Rate, RateError};
pub use serve::drain::Shutdown;
#[cfg(feature = "cli")]
pub(crate) use serve::listen::check as check_address;
pub use serve::listen::{ListenAddress, ListenAddressError, PassedSocketError, ServeError, SocketPathError};
pub(crate) use serve::listener::{DEFAULT_PORT, default_address};
pub use serve::listener::{Server, ServerConfig};
pub use serve::proxy_protocol::{Proxies, ProxiesError};
#[cfg(feature = "cli")]
pub(crate) use serve::reload::read_regular;
pub(crate) use serve::reload::{Reload, Reloadable};
