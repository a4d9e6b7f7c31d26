//! The application: the served collections, and everything that they share.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::time::Instant;

use crate::http::access_log::{AccessLog, RequestSpans};
use crate::http::auth::{Authorizer, Grant, Hosts, Origins};
use crate::http::budget::{Budgets, Limits};
use crate::http::client::{Client, Peer};
use crate::http::client_table::{ClientId, ClientName, ClientRow, ClientTable, client_name};
use crate::http::collection::{Collection, Collections};
use crate::http::metrics::{LogLines, Metrics};
use crate::http::rep::problem::Problem;
use crate::http::serve::drain::Shutdown;
use crate::http::serve::reload::Reloadable;
use crate::value::Unwell;
use crate::view::Reason;

/// Limits of the handlers.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// The longest pause within a request body.
    pub stall_timeout: Duration,
    /// The budgets.
    pub limits: Limits,
    /// The interval of a stream's heartbeats.
    pub heartbeat: Duration,
    /// Which requests are logged.
    pub access_log: AccessLog,
}

impl Default for AppConfig {
    /// The limits of `crumbd serve` without flags.
    fn default() -> Self {
        Self {
            max_body_bytes: 64 << 20,
            stall_timeout: Duration::from_secs(30),
            limits: Limits::default(),
            heartbeat: Duration::from_secs(15),
            access_log: AccessLog::Off,
        }
    }
}

#[cfg(test)]
impl AppConfig {
    /// The smallest limits, and no heartbeats.
    pub(in crate::http) fn smallest() -> Self {
        let limits = Limits {
            max_connections: 1,
            max_client_connections: 1,
            max_waiters: 1,
            max_client_waiters: 1,
            max_client_streams: 1,
            max_client_rate: None,
            max_snapshot_bytes: 1,
            max_client_snapshot_bytes: 1,
            max_client_upload_bytes: 1,
            max_upload_bytes: 1,
        };
        let (stall_timeout, heartbeat) = (Duration::from_secs(1), Duration::MAX);
        Self { max_body_bytes: 1, stall_timeout, limits, heartbeat, access_log: AccessLog::Off }
    }
}

/// The collections, and what they share: budgets, tokens, metrics and shutdown. Clones share it.
#[derive(Clone)]
pub struct App(Arc<Shared>);

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What the clones of an [`App`] share. One pointer is all that a parked connection holds of it.
#[derive(Clone)]
#[allow(unnameable_types, reason = "reached through its clones only")]
pub struct Shared {
    pub(in crate::http) collections: Collections,
    pub(in crate::http) shutdown: Shutdown,
    pub(in crate::http) budgets: Budgets,
    pub(in crate::http) config: Arc<AppConfig>,
    pub(in crate::http) started: Instant,
    /// The rights of tokens. Without it every client may do everything.
    pub(in crate::http) authorizer: Option<Arc<dyn Authorizer>>,
    /// The path under which a proxy serves the daemon.
    pub(in crate::http) base_path: Arc<str>,
    /// The names under which the daemon answers.
    pub(in crate::http) hosts: Hosts,
    /// The origins whose pages may read.
    pub(in crate::http) origins: Origins,
    /// Routes of the program that this daemon is a part of.
    pub(in crate::http) routes: Option<axum::Router>,
    /// The table of the newest clients, if there is one.
    pub(in crate::http) clients: Option<Arc<ClientTable>>,
    pub(in crate::http) metrics: Arc<Metrics>,
    /// Settings from files, whose state is a metric.
    pub(in crate::http) files: Vec<Arc<dyn Reloadable>>,
    /// Who takes the spans of requests in sampled traces.
    pub(in crate::http) request_spans: Option<Arc<dyn RequestSpans>>,
    /// The counters of log lines, if the program counts them.
    pub(in crate::http) log_lines: Option<LogLines>,
    /// The number of this app within the process.
    pub(in crate::http) id: u64,
}

static APPS: AtomicU64 = AtomicU64::new(0);

impl App {
    /// An app that serves these collections to every client.
    pub fn new(
        collections: impl IntoIterator<Item = Collection>,
        shutdown: Shutdown,
        config: AppConfig,
    ) -> Self {
        let budgets = Budgets::new(config.limits.clone());
        let (config, started) = (Arc::new(config), Instant::now());
        Self(Arc::new(Shared {
            collections: Collections::new(collections),
            shutdown,
            budgets,
            config,
            started,
            authorizer: None,
            clients: None,
            routes: None,
            base_path: Arc::from(""),
            hosts: Hosts::default(),
            origins: Origins::default(),
            metrics: Arc::default(),
            files: Vec::new(),
            request_spans: None,
            log_lines: None,
            id: APPS.fetch_add(1, Ordering::Relaxed),
        }))
    }

    /// The same app for clients with a token that the authorizer knows.
    #[must_use]
    pub fn with_authorizer(self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.changed(|shared| shared.authorizer = Some(authorizer))
    }

    /// The same app for requests to these names only, whose answers pages of these origins may read.
    #[must_use]
    pub fn with_hosts(self, hosts: Hosts, origins: Origins) -> Self {
        self.changed(|shared| (shared.hosts, shared.origins) = (hosts, origins))
    }

    /// The same app behind a proxy that serves it under this path. Links begin with it; the proxy has to take it off.
    #[must_use]
    pub fn with_base_path(self, base_path: &str) -> Self {
        self.changed(|shared| shared.base_path = base_path.into())
    }

    /// The same app with a table of this many clients, which `GET /v1/clients` shows.
    #[must_use]
    pub fn with_client_table(self, capacity: usize) -> Self {
        self.changed(|shared| shared.clients = Some(Arc::new(ClientTable::new(capacity))))
    }

    /// The same app with routes of the program that this daemon is a part of. They come before the daemon's, and are
    /// answered without its checks: of names, tokens and origins. The hot requests, long polls and streams, never come
    /// here, so the routes cost them nothing.
    #[must_use]
    pub fn with_routes(self, routes: axum::Router) -> Self {
        self.changed(|shared| shared.routes = Some(routes))
    }

    /// The same app, whose metrics say whether these files are valid and when what they hold expires.
    #[must_use]
    pub(crate) fn with_files(self, files: Vec<Arc<dyn Reloadable>>) -> Self {
        self.changed(|shared| shared.files = files)
    }

    /// The same app, whose metrics have these counters of log lines.
    #[must_use]
    pub fn with_log_lines(self, log_lines: LogLines) -> Self {
        self.changed(|shared| shared.log_lines = Some(log_lines))
    }

    /// The same app, whose requests in sampled traces have their spans taken here.
    #[must_use]
    pub fn with_request_spans(self, spans: Arc<dyn RequestSpans>) -> Self {
        self.changed(|shared| shared.request_spans = Some(spans))
    }

    /// Whether requests may be logged, or have spans.
    pub(in crate::http) fn records_requests(&self) -> bool {
        self.config.access_log.is_on() || self.request_spans.is_some()
    }

    /// A changed app has a number of its own, because the lean front caches requests by it.
    fn changed(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = Shared { id: APPS.fetch_add(1, Ordering::Relaxed), ..(*self.0).clone() };
        change(&mut shared);
        Self(Arc::new(shared))
    }

    /// The row of a client in the table, if there is a table.
    pub(in crate::http) fn client_row(
        &self,
        name: Option<&ClientName>,
        peer: &Peer,
        collection: &Collection,
    ) -> Option<ClientRow> {
        let table = Arc::clone(self.clients.as_ref()?);
        let address = peer.address().map(|address| address.ip());
        let (name, collection) = (name.cloned(), collection.name().cloned());
        Some(ClientRow { table, client: Arc::new(ClientId { name, address, collection }) })
    }

    /// The name that a client gives itself, if there is a table of clients.
    pub(in crate::http) fn client_name(&self, headers: &HeaderMap) -> Result<Option<ClientName>, Problem> {
        if self.clients.is_some() { client_name(headers) } else { Ok(None) }
    }

    /// How many requests are waiting for a breadcrumb.
    pub fn waiters(&self) -> usize {
        self.budgets.waiters()
    }

    /// The first part that makes no progress, and why, as a sentence; `None` while all parts are healthy.
    pub(crate) fn unwell(&self) -> Option<String> {
        self.collections.iter().find_map(|collection| {
            let Unwell { part, why } = collection.liveness.health.unwell()?;
            let of = collection.name().map(|name| format!("collection \"{name}\", ")).unwrap_or_default();
            Some(format!("{of}{part}: {why}"))
        })
    }

    /// What is served, in one line, such as `in-sync, 1234 keys; 20 waiting`.
    #[cfg(feature = "cli")]
    pub(crate) fn summary(&self) -> String {
        let of = |collection: &Arc<Collection>| {
            let breadcrumb = collection.view.cache().current_breadcrumb();
            let name = collection.name().map(|name| format!("{name}: ")).unwrap_or_default();
            let keys = breadcrumb.kvs().len();
            let noun = if keys == 1 { "key" } else { "keys" };
            format!("{name}{}, {keys} {noun}", breadcrumb.sync_status())
        };
        let all: Vec<String> = self.collections.iter().map(of).collect();
        format!("{}; {} waiting", all.join("; "), self.waiters())
    }

    /// The client of a request: its token, or else its address.
    pub(in crate::http) fn client<'a>(&self, grant: Option<&'a Grant>, peer: &'a Peer) -> &'a Arc<Client> {
        grant.map_or_else(|| peer.client(), |grant| grant.client(&self.budgets))
    }

    /// Resolves when a waiter has to be answered because the daemon is shutting down: at a random time within the drain
    /// window.
    pub(in crate::http) async fn drain_delay(&self) {
        let window = self.shutdown.begun().await;
        tokio::time::sleep(Shutdown::answer_delay(window, self.waiters())).await;
    }

    /// Resolves when a waiter has to be answered, with the reason: its deadline or the shutdown.
    pub(in crate::http) async fn wait_ends(&self, deadline: Instant) -> Reason {
        tokio::select! {
            biased;
            () = self.drain_delay() => Reason::ShuttingDown,
            () = tokio::time::sleep_until(deadline) => Reason::Timeout,
        }
    }
}
