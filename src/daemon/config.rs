//! What a daemon is started with, beside its collections.

use std::fmt;
use std::sync::Arc;

use axum::Router;

use crate::http::auth::{Hosts, Origins, Tokens};
use crate::http::tls::Tls;
use crate::http::{AppConfig, ListenAddress, LogLines, RequestSpans, ServerConfig};

/// What a daemon is started with, beside its collections. The default has the limits of `crumbd serve` without flags:
/// everybody may read everything, over plain HTTP, on port 7811 of the loopback address.
#[derive(Clone, Default)]
pub struct DaemonConfig {
    /// The addresses to listen on; none is port 7811 of the loopback address.
    pub listen: Vec<ListenAddress>,
    /// The addresses for operators. Where there are any, the others serve only what clients need.
    pub admin_listen: Vec<ListenAddress>,
    /// The limits of connections.
    pub server: ServerConfig,
    /// The limits of the handlers.
    pub app: AppConfig,
    /// The rights of tokens, if access is limited.
    pub tokens: Option<Arc<Tokens>>,
    /// The certificates, if TLS is spoken.
    pub tls: Option<Arc<Tls>>,
    /// The names under which the daemon answers.
    pub hosts: Hosts,
    /// The origins whose pages may read.
    pub origins: Origins,
    /// The path under which a proxy serves the daemon; empty for none.
    pub base_path: String,
    /// The size of the table of clients, if there is one.
    pub client_table: Option<usize>,
    /// Routes of the program's own, see [`App::with_routes`](crate::http::App::with_routes).
    pub routes: Option<Router>,
    /// Who takes the spans of requests in sampled traces.
    pub request_spans: Option<Arc<dyn RequestSpans>>,
    /// The counters of log lines, if the program counts them.
    pub log_lines: Option<LogLines>,
    /// The addresses for etcd's clients.
    #[cfg(feature = "etcd")]
    pub etcd: Vec<EtcdListener>,
}

/// An address on which a collection is served to etcd's clients. The collection's cache has to keep every write.
#[cfg(feature = "etcd")]
#[derive(Clone, Debug)]
pub struct EtcdListener {
    /// The name of the collection; `None` for the default one.
    pub collection: Option<String>,
    /// The address; port 0 takes a free port.
    pub address: std::net::SocketAddr,
    /// Whether every read is answered from memory, as if it were serializable.
    pub serializable: bool,
    /// The names under which the port answers requests that are no gRPC.
    pub hosts: Hosts,
}

impl fmt::Debug for DaemonConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DaemonConfig").field("server", &self.server).finish_non_exhaustive()
    }
}
