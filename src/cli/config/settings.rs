//! All settings with their types and defaults.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::base_path::BasePath;
use super::collections::{self, CollectionFeed};
use super::error::SettingError;
use super::etcd_listen::{self, EtcdListen};
use super::raw::RawSettings;
use super::reader::Reader;
use super::{limits, tls};
use crate::cache::{CacheConfig, WindowLimits};
use crate::cli::log::{Filter, LogFormat};
use crate::cli::open_files;
use crate::cli::units::{Bounds, Span};
use crate::daemon::DaemonConfig;
#[cfg(feature = "etcd")]
use crate::daemon::EtcdListener;
use crate::feed::{EtcdFlags, FeedSettings};
use crate::http::auth::{Hosts, Origins, Tokens, TokensError};
use crate::http::tls::{Tls, TlsError, TlsFiles};
use crate::http::{
    AccessLog, AppConfig, Limits, ListenAddress, Proxies, Rate, ServerConfig, default_address,
};
use crate::ingest::{CapacityError, IngestBuffer};
use crate::model::{CollectionName, FeedEvent};
use crate::view::ViewConfig;

/// The kind of buffer between feed and cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BufferKind {
    Channel,
    Ring,
}

const YES_OR_NO: [(&str, bool); 2] = [("true", true), ("false", false)];
const ON_OR_OFF: [(&str, bool); 2] = [("on", true), ("off", false)];
const BUFFERS: [(&str, BufferKind); 2] = [("channel", BufferKind::Channel), ("ring", BufferKind::Ring)];
const ACCESS_LOGS: [(&str, AccessLog); 3] =
    [("off", AccessLog::Off), ("errors", AccessLog::Errors), ("all", AccessLog::All)];
const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// All settings.
pub(in crate::cli) struct Settings {
    /// Without those whose text is invalid.
    pub(super) collections: Vec<CollectionFeed>,
    feed_settings: FeedSettings,
    pub(super) etcd_listen: Vec<EtcdListen>,
    #[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "the setting is read, and has no effect"))]
    etcd_serializable: bool,
    pub(super) state_dir: Option<PathBuf>,
    state_interval: Duration,
    drain: Duration,
    listen: Vec<ListenAddress>,
    admin_listen: Vec<ListenAddress>,
    server: ServerConfig,
    limits: Limits,
    /// Its default depends on how many connections the system allows.
    client_connections: Option<usize>,
    heartbeat: Duration,
    access_log: AccessLog,
    #[cfg(feature = "otlp")]
    otlp_endpoint: Option<String>,
    pub(super) max_body_bytes: usize,
    view: ViewConfig,
    tokens: Option<PathBuf>,
    cursor_key: Option<PathBuf>,
    allow_host: Option<Vec<String>>,
    allow_origin: Option<Origins>,
    base_path: Option<BasePath>,
    client_table: Option<usize>,
    tls: Option<TlsFiles>,
    pub(super) cache: CacheConfig,
    buffer: (BufferKind, usize),
    log: (LogFormat, Option<Filter>),
}

impl Settings {
    /// Reads all settings. Returns the errors too.
    pub(super) fn read(given: &RawSettings) -> (Self, Vec<SettingError>) {
        let mut reader = Reader::new(given);
        let settings = Self::from(&mut reader);
        (settings, reader.errors)
    }

    fn from(reader: &mut Reader<'_>) -> Self {
        let collections = collections::read(reader);
        let app = AppConfig::default();
        Self {
            etcd_listen: etcd_listen::read(reader, &collections),
            etcd_serializable: reader.choice("etcd-serializable", &YES_OR_NO).unwrap_or(false),
            collections,
            feed_settings: FeedSettings {
                strict: reader.choice("strict", &YES_OR_NO).unwrap_or(false),
                etcd: etcd(reader),
            },
            state_dir: reader.path("state-dir"),
            state_interval: span(reader, "state-interval", limits::STATE_INTERVAL, Duration::from_secs(10)),
            drain: span(reader, "drain", limits::DRAIN, Duration::from_secs(5)),
            listen: reader.addresses("listen"),
            admin_listen: reader.addresses("admin-listen"),
            server: server(reader),
            limits: budgets(reader),
            client_connections: reader.count("max-client-connections", limits::COUNT),
            heartbeat: span(reader, "heartbeat", limits::HEARTBEAT, app.heartbeat),
            #[cfg(feature = "otlp")]
            otlp_endpoint: reader.text("otlp-endpoint"),
            access_log: reader.choice("access-log", &ACCESS_LOGS).unwrap_or_default(),
            max_body_bytes: reader.bytes("max-body-bytes", limits::BODY).unwrap_or(app.max_body_bytes),
            view: view(reader),
            tokens: reader.path("tokens"),
            cursor_key: reader.path("cursor-key"),
            allow_host: reader.parsed("allow-host", |names| {
                Ok(names.split(',').map(|name| name.trim().to_owned()).collect())
            }),
            allow_origin: reader.parsed("allow-origin", |origins| Ok(origins.parse::<Origins>()?)),
            client_table: reader.count("client-table", limits::CLIENT_TABLE),
            base_path: reader.parsed("base-path", |path| Ok(path.parse::<BasePath>()?)),
            tls: tls::files(reader),
            cache: cache(reader),
            buffer: (
                reader.choice("ingest-buffer", &BUFFERS).unwrap_or(BufferKind::Channel),
                reader.count("ingest-capacity", limits::INGEST_CAPACITY).unwrap_or(1024),
            ),
            log: (reader.choice("log-format", &FORMATS).unwrap_or_default(), log_filter(reader)),
        }
    }

    /// The collections to serve, at least one if all settings are valid.
    pub(in crate::cli) fn collections(&self) -> &[CollectionFeed] {
        &self.collections
    }

    /// What the feeds use beside their URL.
    pub(in crate::cli) fn feeds(&self) -> &FeedSettings {
        &self.feed_settings
    }

    /// The state directory of the daemon, and the least time between two saves.
    pub(in crate::cli) fn state(&self) -> Option<(PathBuf, Duration)> {
        self.state_dir.clone().map(|dir| (dir, self.state_interval))
    }

    /// The state directory of one collection: that of the daemon for the default one, and one below it for a named one.
    pub(in crate::cli) fn state_of(
        &self,
        collection: Option<&CollectionName>,
    ) -> Option<(PathBuf, Duration)> {
        let (dir, interval) = self.state()?;
        Some((
            collection.map_or_else(|| dir.clone(), |name| dir.join("collections").join(name.as_str())),
            interval,
        ))
    }

    pub(in crate::cli) fn drain(&self) -> Duration {
        self.drain
    }

    /// Where the spans of requests go.
    #[cfg(feature = "otlp")]
    pub(in crate::cli) fn otlp_endpoint(&self) -> Option<&str> {
        self.otlp_endpoint.as_deref()
    }

    /// The format and the filter of the log.
    pub(in crate::cli) fn log(&mut self) -> (LogFormat, Filter) {
        let filter = self.log.1.take().unwrap_or_default();
        (self.log.0, if self.access_log == AccessLog::Off { filter } else { filter.with_access_log() })
    }

    pub(in crate::cli) fn buffer(&self) -> Result<IngestBuffer<FeedEvent>, CapacityError> {
        match self.buffer {
            (BufferKind::Channel, capacity) => IngestBuffer::channel(capacity),
            (BufferKind::Ring, capacity) => IngestBuffer::ring(capacity),
        }
    }

    /// The limits of a collection's cache.
    pub(in crate::cli) fn cache(&self, collection: Option<&CollectionName>) -> CacheConfig {
        let keep_every_write = self.serves_etcd(collection);
        CacheConfig { keep_every_write, ..self.cache.clone() }
    }

    /// The limits of a collection's view.
    pub(in crate::cli) fn view(&self, collection: Option<&CollectionName>) -> ViewConfig {
        ViewConfig { serves_etcd: self.serves_etcd(collection), ..self.view.clone() }
    }

    /// What the daemon is started with, beside its collections.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(in crate::cli) fn daemon(&self, tokens: Option<Arc<Tokens>>) -> Result<DaemonConfig, TlsError> {
        Ok(DaemonConfig {
            listen: self.listen(),
            admin_listen: self.admin_listen.clone(),
            server: self.server.clone(),
            app: self.app(),
            tokens,
            tls: self.tls().map(Tls::open).transpose()?,
            // Known once it listens.
            hosts: Hosts::default(),
            origins: self.origins(),
            base_path: self.base_path().to_owned(),
            client_table: self.client_table(),
            routes: None,
            request_spans: None,
            log_lines: None,
            #[cfg(feature = "etcd")]
            etcd: self.etcd_listeners(),
        })
    }

    #[cfg(feature = "etcd")]
    fn etcd_listeners(&self) -> Vec<EtcdListener> {
        let listener = |listen: &EtcdListen| EtcdListener {
            collection: listen.collection.as_ref().map(ToString::to_string),
            address: listen.address,
            serializable: self.etcd_serializable,
            hosts: self.hosts(listen.address.ip().is_loopback()),
        };
        self.etcd_listen.iter().map(listener).collect()
    }

    fn serves_etcd(&self, collection: Option<&CollectionName>) -> bool {
        self.etcd_listen.iter().any(|listen| listen.collection.as_ref() == collection)
    }

    /// The tokens, if access is limited.
    pub(in crate::cli) fn tokens(&self) -> Result<Option<Arc<Tokens>>, TokensError> {
        self.tokens.clone().map(Tokens::open).transpose()
    }

    /// The warning about collections that tokens name and no feed has.
    pub(in crate::cli) fn tokens_without_feed(&self, tokens: &Tokens) -> Option<String> {
        let path = self.tokens.as_ref()?.display();
        let is_served =
            |name: &CollectionName| self.collections().iter().any(|one| one.name.as_ref() == Some(name));
        let unknown: Vec<String> = tokens
            .named_collections()
            .iter()
            .filter(|name| !is_served(name))
            .map(|name| format!("\"{name}\""))
            .collect();
        let names = unknown.join(", ");
        (!unknown.is_empty()).then(|| {
            format!("tokens file {path}: no feed has the collection {names}; a feed gets a name by --feed NAME=URL")
        })
    }

    /// The file of the cursor key.
    pub(in crate::cli) fn cursor_key(&self) -> Option<&Path> {
        self.cursor_key.as_deref()
    }

    /// The names under which the daemon answers at addresses that only this machine reaches, or at others. One without
    /// tokens and TLS that only its machine reaches answers to no public name unless that is allowed.
    pub(in crate::cli) fn hosts(&self, is_local: bool) -> Hosts {
        let is_local = is_local && self.tokens.is_none() && self.tls.is_none();
        match &self.allow_host {
            None if !is_local => Hosts::default(),
            names => Hosts::local_and(names.clone().unwrap_or_default()),
        }
    }

    /// The origins whose pages may read.
    pub(in crate::cli) fn origins(&self) -> Origins {
        self.allow_origin.clone().unwrap_or_default()
    }

    /// The size of the table of clients, if there is one.
    pub(in crate::cli) fn client_table(&self) -> Option<usize> {
        self.client_table
    }

    /// The path under which a proxy serves the daemon.
    pub(in crate::cli) fn base_path(&self) -> &str {
        self.base_path.as_ref().map_or("", |path| &path.0)
    }

    /// The files of the certificates, if the daemon serves TLS.
    pub(in crate::cli) fn tls(&self) -> Option<TlsFiles> {
        self.tls.clone()
    }

    pub(in crate::cli) fn app(&self) -> AppConfig {
        let max_connections = open_files::connections(self.limits.max_connections);
        AppConfig {
            max_body_bytes: self.max_body_bytes,
            stall_timeout: self.server.stall_timeout,
            limits: Limits {
                max_connections,
                max_client_connections: self.client_connections.unwrap_or(share(max_connections)),
                ..self.limits.clone()
            },
            heartbeat: self.heartbeat,
            access_log: self.access_log,
        }
    }

    /// The addresses to listen on.
    pub(in crate::cli) fn listen(&self) -> Vec<ListenAddress> {
        if self.listen.is_empty() { vec![default_address()] } else { self.listen.clone() }
    }

    /// All addresses, each with the name of the setting that it comes from.
    pub(in crate::cli) fn addresses(&self) -> impl Iterator<Item = (&'static str, ListenAddress)> {
        let main = self.listen().into_iter().map(|address| ("listen", address));
        let etcd = self.etcd_listen.iter().map(|listen| ("etcd-listen", listen.address.into()));
        main.chain(etcd).chain(self.admin_listen.iter().map(|address| ("admin-listen", address.clone())))
    }
}

fn log_filter(reader: &mut Reader<'_>) -> Option<Filter> {
    reader.parsed_or("log-level", str::parse, |origin, why| SettingError::Log { origin, why })
}

fn span(reader: &mut Reader<'_>, name: &'static str, bounds: Bounds<Span>, default: Duration) -> Duration {
    reader.span(name, bounds).unwrap_or(default)
}

fn etcd(reader: &mut Reader<'_>) -> EtcdFlags {
    EtcdFlags {
        ca: reader.path("etcd-ca"),
        cert: reader.path("etcd-cert"),
        key: reader.path("etcd-key"),
        user: reader.text("etcd-user"),
        password_file: reader.path("etcd-password-file"),
    }
}

fn server(reader: &mut Reader<'_>) -> ServerConfig {
    let default = ServerConfig::default();
    ServerConfig {
        header_timeout: span(reader, "header-timeout", limits::HEADER_TIMEOUT, default.header_timeout),
        idle_timeout: span(reader, "idle-timeout", limits::IDLE_TIMEOUT, default.idle_timeout),
        stall_timeout: span(reader, "stall-timeout", limits::STALL_TIMEOUT, default.stall_timeout),
        proxies: reader
            .parsed("proxy-protocol-from", |text| Ok(text.parse::<Proxies>()?))
            .unwrap_or(default.proxies),
        max_connection_age: reader.span("max-connection-age", limits::CONNECTION_AGE),
        lean_front: reader.choice("lean-front", &ON_OR_OFF).unwrap_or(default.lean_front),
    }
}

fn budgets(reader: &mut Reader<'_>) -> Limits {
    let default = Limits::default();
    let bytes = |bytes: Option<usize>, default: u64| bytes.map_or(default, |bytes| bytes as u64);
    let max_waiters = reader.count("max-waiters", limits::COUNT).unwrap_or(default.max_waiters);
    let max_snapshot_bytes =
        bytes(reader.bytes("max-snapshot-bytes", limits::BUDGET), default.max_snapshot_bytes);
    let client_waiters = reader.count("max-client-waiters", limits::COUNT);
    let max_upload_bytes = bytes(reader.bytes("max-upload-bytes", limits::BUDGET), default.max_upload_bytes);
    let client_upload_bytes = reader.bytes("max-client-upload-bytes", limits::BUDGET);
    let client_snapshot_bytes = reader.bytes("max-client-snapshot-bytes", limits::BUDGET);
    let max_client_waiters = client_waiters.unwrap_or(share(max_waiters));
    let client_streams = reader.count("max-client-streams", limits::COUNT);
    Limits {
        max_connections: reader.count("max-connections", limits::COUNT).unwrap_or(default.max_connections),
        max_waiters,
        max_client_waiters,
        max_client_streams: client_streams.unwrap_or(max_client_waiters),
        max_client_rate: reader.parsed("max-client-rate", |rate| Ok(rate.parse::<Rate>()?)),
        max_snapshot_bytes,
        max_client_snapshot_bytes: bytes(client_snapshot_bytes, max_snapshot_bytes.div_ceil(2)),
        max_upload_bytes,
        max_client_upload_bytes: bytes(client_upload_bytes, upload_share(max_upload_bytes)),
        ..default
    }
}

/// A client's nine tenths, rounded up, so that a small limit is a client's too.
fn share(max: usize) -> usize {
    (max * 9).div_ceil(10)
}

/// Nine tenths, rounded up to a whole MiB, so that a small limit is a client's too.
fn upload_share(max: u64) -> u64 {
    (max / 10 * 9).next_multiple_of(1 << 20).min(max)
}

fn view(reader: &mut Reader<'_>) -> ViewConfig {
    let default = ViewConfig::default();
    let mut bytes = |name| reader.bytes(name, limits::CACHE).map(|bytes| bytes as u64);
    let (bodies, snapshots) = (bytes("body-cache-bytes"), bytes("snapshot-cache-bytes"));
    let rate = reader.count("wake-rate", limits::COUNT).and_then(|rate| u32::try_from(rate).ok());
    ViewConfig {
        body_cache_bytes: bodies.unwrap_or(default.body_cache_bytes),
        snapshot_cache_bytes: snapshots.unwrap_or(default.snapshot_cache_bytes),
        wake_rate: rate.and_then(NonZeroU32::new),
        ..default
    }
}

fn cache(reader: &mut Reader<'_>) -> CacheConfig {
    let default = CacheConfig::default();
    CacheConfig {
        max_batch: reader.count("max-batch", limits::COUNT).unwrap_or(default.max_batch),
        min_interval: span(reader, "min-interval", limits::MIN_INTERVAL, default.min_interval),
        max_value_bytes: reader.bytes("max-value-bytes", limits::VALUE).unwrap_or(default.max_value_bytes),
        max_keys: reader.count("max-keys", limits::COUNT),
        max_bytes: reader.bytes("max-bytes", limits::BUDGET).map(|bytes| bytes as u64),
        window: WindowLimits {
            max_count: reader.count("keep-count", limits::COUNT).unwrap_or(default.window.max_count),
            max_bytes: reader.bytes("keep-bytes", limits::CACHE).unwrap_or(default.window.max_bytes),
            max_age: span(reader, "keep-age", limits::KEEP_AGE, default.window.max_age),
        },
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw::names;
    use super::*;

    #[test]
    fn every_flag_is_read_once_and_nothing_else_is() {
        let given = RawSettings::default();
        let mut reader = Reader::new(&given);
        Settings::from(&mut reader);
        let (mut read, mut flags) = (reader.names, names());
        read.sort_unstable();
        flags.sort_unstable();
        assert_eq!(read, flags);
    }
}
