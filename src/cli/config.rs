//! Settings of `crumbd serve`: flags over `CRUMBD_…` variables over the configuration file over defaults.
//!
//! One structure is the command line, the variables and the file at once, so that they cannot differ.

mod tls;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::log::LogFormat;
use super::units::{Bytes, Span};
use super::{DEFAULT_LISTEN, Failure, open_files};
use crate::cache::CacheConfig;
use crate::feed::{EtcdAccess, FeedSpec, Password};
use crate::http::auth::{Tokens, TokensError};
use crate::http::{AppConfig, Limits, ServerConfig};
use crate::ingest::{CapacityError, IngestBuffer};
use crate::model::FeedEvent;
use crate::trail;
use crate::view::ViewConfig;

/// Which bounded buffer stands between feed and cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BufferKind {
    /// A channel.
    Channel,
    /// A ring behind a lock.
    Ring,
}

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnOff {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Every setting; what is left out has its default.
#[derive(Args, Deserialize, Default, Debug)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Settings {
    /// Where updates come from. `push:` (the default) is this daemon's own HTTP interface: no
    /// datastore is needed. `file:PATH` reads NDJSON records from a file; `file:PATH?follow=true`
    /// goes on with what is appended and notices when the file is replaced. `stdin:` reads
    /// standard input. `etcd://HOST:PORT[,HOST:PORT…]/PREFIX` follows the keys of an etcd cluster that
    /// begin with PREFIX (all that stands after the first slash); `etcds://` does so over TLS.
    #[arg(long, env = "CRUMBD_FEED", value_name = "FEED")]
    feed: Option<String>,

    /// Address and port to serve on; port 0 takes a free one and logs it [default: 127.0.0.1:7811]
    #[arg(long, env = "CRUMBD_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// End with an error at the first record of the feed that cannot be read, and at the first value over
    /// --max-value-bytes, instead of logging it and going on without its key: for feeds where a missing key is worse
    /// than no service.
    #[arg(long, env = "CRUMBD_STRICT", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    strict: Option<bool>,

    /// Directory that keeps the last state for the next start: it is then served at once, marked as not
    /// in-sync, and cursors from before go on. For a push: feed it is the datastore itself: every write
    /// is in its log before it is answered. Not for stdin: feeds.
    #[arg(long, env = "CRUMBD_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// Least time between two saves of the state [default: 10s]
    #[arg(long, env = "CRUMBD_STATE_INTERVAL", value_name = "DURATION")]
    state_interval: Option<Span>,

    /// Certificate authority (PEM) of the etcd servers; the system's authorities when left out.
    #[arg(long, env = "CRUMBD_ETCD_CA", value_name = "FILE", help_heading = "etcd")]
    etcd_ca: Option<PathBuf>,

    /// Client certificate (PEM) to show to etcd; needs --etcd-key.
    #[arg(long, env = "CRUMBD_ETCD_CERT", value_name = "FILE", help_heading = "etcd")]
    etcd_cert: Option<PathBuf>,

    /// Private key (PEM) of the client certificate.
    #[arg(long, env = "CRUMBD_ETCD_KEY", value_name = "FILE", help_heading = "etcd")]
    etcd_key: Option<PathBuf>,

    /// User to log in to etcd with; its password comes from --etcd-password-file or the variable
    /// CRUMBD_ETCD_PASSWORD, never from the command line, which every process on the machine can read.
    #[arg(long, env = "CRUMBD_ETCD_USER", value_name = "NAME", help_heading = "etcd")]
    etcd_user: Option<String>,

    /// File with the password; a line break at its end does not count. It is read again at each login, so
    /// that a password can be changed without a restart.
    #[arg(long, env = "CRUMBD_ETCD_PASSWORD_FILE", value_name = "FILE", help_heading = "etcd")]
    etcd_password_file: Option<PathBuf>,

    /// How long waiting clients may take to be answered and connections to end after SIGTERM.
    /// Keep it below what your orchestrator grants before it kills [default: 5s]
    #[arg(long, env = "CRUMBD_DRAIN", value_name = "DURATION", help_heading = "Serving")]
    drain: Option<Span>,

    /// How long a client may take to send the head of a request, so that half-open connections do
    /// not pile up [default: 10s]
    #[arg(long, env = "CRUMBD_HEADER_TIMEOUT", value_name = "DURATION", help_heading = "Serving")]
    header_timeout: Option<Span>,

    /// How long a connection may rest between two requests before it is closed. Keep it above the idle
    /// timeout of a proxy in front, so that it is never the proxy that finds a closed connection [default: 75s]
    #[arg(long, env = "CRUMBD_IDLE_TIMEOUT", value_name = "DURATION", help_heading = "Serving")]
    idle_timeout: Option<Span>,

    /// How long a client may take nothing of an answer before it is cut off. A slow client is not, as long as
    /// its system takes a segment (1.5 KB, over loopback 64 KB) within that time [default: 30s]
    #[arg(long, env = "CRUMBD_STALL_TIMEOUT", value_name = "DURATION", help_heading = "Serving")]
    stall_timeout: Option<Span>,

    /// How long a connection may live, about (up to a fifth is taken off at random): the first answer after
    /// that closes it, and a stream ends between two bodies, so that clients spread over replicas that came later;
    /// off when left out
    #[arg(long, env = "CRUMBD_MAX_CONNECTION_AGE", value_name = "DURATION", help_heading = "Serving")]
    max_connection_age: Option<Span>,

    /// How often a stream says something when there is nothing to say, so that its client, and every
    /// proxy between, knows that it is alive [default: 15s]
    #[arg(long, env = "CRUMBD_HEARTBEAT", value_name = "DURATION", help_heading = "Serving")]
    heartbeat: Option<Span>,

    /// Most connections at a time; one more is answered 503. What the system allows (ulimit -n) may
    /// be less [default: 100000]
    #[arg(long, env = "CRUMBD_MAX_CONNECTIONS", value_name = "N", help_heading = "Serving")]
    max_connections: Option<usize>,

    /// Most requests that wait for a breadcrumb at a time; one more is answered 503
    /// [default: 100000]
    #[arg(long, env = "CRUMBD_MAX_WAITERS", value_name = "N", help_heading = "Serving")]
    max_waiters: Option<usize>,

    /// How many bytes of snapshots may be on their way to clients at a time; who comes then waits up
    /// to 5s for others to have theirs, and is answered 503 after that [default: 1GiB]
    #[arg(long, env = "CRUMBD_MAX_SNAPSHOT_BYTES", value_name = "SIZE", help_heading = "Serving")]
    max_snapshot_bytes: Option<Bytes>,

    /// Wake at most about so many waiters per second, so that a change which concerns tens of
    /// thousands does not come back as one burst of requests; off when left out
    #[arg(long, env = "CRUMBD_WAKE_RATE", value_name = "N", help_heading = "Serving")]
    wake_rate: Option<u32>,

    /// Let long polls wait outside of the HTTP framework: the same answers for a fraction of the
    /// memory. `off` is for comparing [default: on]
    #[arg(long, env = "CRUMBD_LEAN_FRONT", value_name = "ON|OFF", help_heading = "Serving")]
    lean_front: Option<OnOff>,

    /// Largest request body; a larger one is answered 413 [default: 64MiB]
    #[arg(long, env = "CRUMBD_MAX_BODY_BYTES", value_name = "SIZE", help_heading = "Serving")]
    max_body_bytes: Option<Bytes>,

    /// Memory for encoded bodies that the next client may ask for too [default: 128MiB]
    #[arg(long, env = "CRUMBD_BODY_CACHE_BYTES", value_name = "SIZE", help_heading = "Serving")]
    body_cache_bytes: Option<Bytes>,

    /// File of tokens: from then on every request but /livez and /readyz needs one, as `Authorization:
    /// Bearer TOKEN`, and sees and writes what its line allows. `crumbd token` makes a token and its line.
    /// Changes of the file apply within about a second, or at SIGHUP [default: everything is open]
    #[arg(long, env = "CRUMBD_TOKENS", value_name = "FILE", help_heading = "Serving")]
    tokens: Option<PathBuf>,

    /// Certificate (PEM) to serve TLS with, followed by those that lead to its authority; needs --tls-key. Then nothing
    /// but TLS is spoken on the port. Changes of this and the other TLS files apply within about a second, or at
    /// SIGHUP, to new connections [default: plain HTTP]
    #[arg(long, env = "CRUMBD_TLS_CERT", value_name = "FILE", help_heading = "TLS")]
    tls_cert: Option<PathBuf>,

    /// Private key (PEM) of the certificate.
    #[arg(long, env = "CRUMBD_TLS_KEY", value_name = "FILE", help_heading = "TLS")]
    tls_key: Option<PathBuf>,

    /// Certificate authorities (PEM) of clients: from then on a client needs a certificate that one of them
    /// signed [default: clients need no certificate]
    #[arg(long, env = "CRUMBD_TLS_CLIENT_CA", value_name = "FILE", help_heading = "TLS")]
    tls_client_ca: Option<PathBuf>,

    /// Let in only clients whose certificate has this common name; needs --tls-client-ca. With --tls-client-uri too,
    /// one of both is enough.
    #[arg(long, env = "CRUMBD_TLS_CLIENT_CN", value_name = "NAME", help_heading = "TLS")]
    tls_client_cn: Option<String>,

    /// Let in only clients whose certificate has this URI among its alternative names, such as
    /// spiffe://example.org/edge; needs --tls-client-ca.
    #[arg(long, env = "CRUMBD_TLS_CLIENT_URI", value_name = "URI", help_heading = "TLS")]
    tls_client_uri: Option<String>,

    /// How many breadcrumbs stay readable: a client that is further behind has to fetch the whole
    /// state again [default: 16384]
    #[arg(long, env = "CRUMBD_KEEP_COUNT", value_name = "N", help_heading = "Keeping")]
    keep_count: Option<usize>,

    /// How much memory kept breadcrumbs may hold beyond the current state (an estimate)
    /// [default: 64MiB]
    #[arg(long, env = "CRUMBD_KEEP_BYTES", value_name = "SIZE", help_heading = "Keeping")]
    keep_bytes: Option<Bytes>,

    /// How long a breadcrumb stays readable after the next one [default: 15m]
    #[arg(long, env = "CRUMBD_KEEP_AGE", value_name = "DURATION", help_heading = "Keeping")]
    keep_age: Option<Span>,

    /// Most updates in one breadcrumb under load; an idle daemon drops one per update
    /// [default: 1000]
    #[arg(long, env = "CRUMBD_MAX_BATCH", value_name = "N", help_heading = "Ingest")]
    max_batch: Option<usize>,

    /// Least time between two breadcrumbs. After a pause the next one still comes at once; what comes
    /// within the interval is gathered into one [default: 0s]
    #[arg(long, env = "CRUMBD_MIN_INTERVAL", value_name = "DURATION", help_heading = "Ingest")]
    min_interval: Option<Span>,

    /// Longest value. A write with a longer one is refused (413). Where a feed has a longer one, its key is absent, and
    /// /v1/status names it; replicas that are to agree have the same limit [default: 8MiB]
    #[arg(long, env = "CRUMBD_MAX_VALUE_BYTES", value_name = "SIZE", help_heading = "Ingest")]
    max_value_bytes: Option<Bytes>,

    /// The buffer between feed and cache [default: channel]
    #[arg(long, env = "CRUMBD_INGEST_BUFFER", value_name = "KIND", help_heading = "Ingest")]
    ingest_buffer: Option<BufferKind>,

    /// How many events (writes, or batches of a feed) may wait in it; when it is full, writers get
    /// 429 and other feeds wait [default: 1024]
    #[arg(long, env = "CRUMBD_INGEST_CAPACITY", value_name = "N", help_heading = "Ingest")]
    ingest_capacity: Option<usize>,

    /// How log lines look: text for people, json for machines [default: text]
    #[arg(long, env = "CRUMBD_LOG_FORMAT", value_name = "FORMAT", help_heading = "Logging")]
    log_format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, trace, or a filter such as info,crumbd::feed=debug
    /// [default: info]
    #[arg(long, env = "CRUMBD_LOG_LEVEL", value_name = "FILTER", help_heading = "Logging")]
    log_level: Option<String>,
}

/// Takes each setting from the first that has it.
macro_rules! or_else {
    ($first:ident, $second:ident, $($field:ident),* $(,)?) => {
        Settings { $($field: $first.$field.or($second.$field)),* }
    };
}

impl Settings {
    /// These settings, and what they leave out from the file.
    pub(super) fn over_file(self, path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(self) };
        let file = Self::read(path)?;
        Ok(or_else!(
            self,
            file,
            feed,
            listen,
            strict,
            state_dir,
            state_interval,
            etcd_ca,
            etcd_cert,
            etcd_key,
            etcd_user,
            etcd_password_file,
            drain,
            header_timeout,
            idle_timeout,
            stall_timeout,
            max_connection_age,
            heartbeat,
            max_connections,
            max_waiters,
            max_snapshot_bytes,
            wake_rate,
            lean_front,
            max_body_bytes,
            body_cache_bytes,
            tokens,
            tls_cert,
            tls_key,
            tls_client_ca,
            tls_client_cn,
            tls_client_uri,
            keep_count,
            keep_bytes,
            keep_age,
            max_batch,
            min_interval,
            max_value_bytes,
            ingest_buffer,
            ingest_capacity,
            log_format,
            log_level,
        ))
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("config file {shown}: {error}"))?;
        Ok(toml::from_str(&text).map_err(|error| format!("config file {shown}: {error}"))?)
    }

    pub(super) fn feed(&self) -> Result<FeedSpec, Failure> {
        Ok(self.feed.as_deref().unwrap_or("push:").parse()?)
    }

    pub(super) fn strict(&self) -> bool {
        self.strict.unwrap_or(false)
    }

    /// Where the last state is kept, and how often at the most.
    pub(super) fn state(&self) -> Option<(PathBuf, Duration)> {
        let interval = self.state_interval.map_or(Duration::from_secs(10), |span| span.0);
        self.state_dir.clone().map(|dir| (dir, interval))
    }

    /// How to be let in to etcd; `tls` is the feed's to say.
    pub(super) fn etcd_access(&self) -> Result<EtcdAccess, Failure> {
        let identity = match (self.etcd_cert.clone(), self.etcd_key.clone()) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("etcd-cert and etcd-key belong together: one of them is missing".into()),
        };
        let user = match self.etcd_user.clone() {
            Some(user) => Some((user, self.etcd_password()?)),
            None => None,
        };
        Ok(EtcdAccess { tls: false, ca: self.etcd_ca.clone(), identity, user })
    }

    fn etcd_password(&self) -> Result<Password, Failure> {
        if let Some(path) = &self.etcd_password_file {
            let read = Password::in_file(path.clone());
            return Ok(read.map_err(|error| format!("etcd password file {}: {error}", path.display()))?);
        }
        std::env::var("CRUMBD_ETCD_PASSWORD")
            .map(Password::of)
            .map_err(|_| "etcd-user needs a password: etcd-password-file or CRUMBD_ETCD_PASSWORD".into())
    }

    pub(super) fn drain(&self) -> Duration {
        self.drain.map_or(Duration::from_secs(5), |span| span.0)
    }

    pub(super) fn log(&self) -> (LogFormat, &str) {
        (self.log_format.unwrap_or_default(), self.log_level.as_deref().unwrap_or("info"))
    }

    pub(super) fn buffer(&self) -> Result<IngestBuffer<FeedEvent>, CapacityError> {
        let capacity = self.ingest_capacity.unwrap_or(1024);
        match self.ingest_buffer.unwrap_or(BufferKind::Channel) {
            BufferKind::Channel => IngestBuffer::channel(capacity),
            BufferKind::Ring => IngestBuffer::ring(capacity),
        }
    }

    pub(super) fn cache(&self) -> Result<CacheConfig, Failure> {
        let default = CacheConfig::default();
        Ok(CacheConfig {
            max_batch: positive("max-batch", self.max_batch)?.unwrap_or(default.max_batch),
            min_interval: self.min_interval.map_or(default.min_interval, |span| span.0),
            max_value_bytes: self.max_value_bytes.map_or(default.max_value_bytes, |bytes| bytes.0),
            window: trail::Limits {
                max_count: positive("keep-count", self.keep_count)?.unwrap_or(default.window.max_count),
                max_bytes: self.keep_bytes.map_or(default.window.max_bytes, |bytes| bytes.0),
                max_age: self.keep_age.map_or(default.window.max_age, |span| span.0),
            },
            ..default
        })
    }

    pub(super) fn view(&self) -> ViewConfig {
        let default = ViewConfig::default();
        let bytes = self.body_cache_bytes.map(|bytes| bytes.0 as u64);
        let body_cache_bytes = bytes.unwrap_or(default.body_cache_bytes);
        ViewConfig { body_cache_bytes, wake_rate: self.wake_rate.and_then(NonZeroU32::new) }
    }

    /// Who may see what, where that is limited.
    pub(super) fn tokens(&self) -> Result<Option<Arc<Tokens>>, TokensError> {
        self.tokens.clone().map(Tokens::open).transpose()
    }

    pub(super) fn app(&self, feed: &FeedSpec, feed_silence: Option<Duration>) -> Result<AppConfig, Failure> {
        let max_body_bytes = self.max_body_bytes.map_or(64 << 20, |bytes| bytes.0);
        let max_connections = positive("max-connections", self.max_connections)?.unwrap_or(100_000);
        let limits = Limits {
            max_connections: open_files::connections(max_connections),
            max_waiters: positive("max-waiters", self.max_waiters)?.unwrap_or(100_000),
            max_snapshot_bytes: self.max_snapshot_bytes.map_or(1 << 30, |bytes| bytes.0 as u64),
        };
        let heartbeat = self.heartbeat.map_or(Duration::from_secs(15), |span| span.0);
        if heartbeat.is_zero() {
            return Err("heartbeat is 0: it is at least 1ms".into());
        }
        Ok(AppConfig { feed: feed.to_string(), max_body_bytes, limits, feed_silence, heartbeat })
    }

    pub(super) fn server(&self) -> Result<ServerConfig, Failure> {
        let listen = match self.listen {
            Some(listen) => listen,
            None => DEFAULT_LISTEN.parse()?,
        };
        let header_timeout = self.header_timeout.map_or(Duration::from_secs(10), |span| span.0);
        let idle_timeout = self.idle_timeout.map_or(Duration::from_secs(75), |span| span.0);
        let stall_timeout = self.stall_timeout.map_or(Duration::from_secs(30), |span| span.0);
        let lean_front = self.lean_front != Some(OnOff::Off);
        let max_connection_age = self.max_connection_age.map(|span| span.0);
        Ok(ServerConfig {
            listen,
            header_timeout,
            idle_timeout,
            stall_timeout,
            max_connection_age,
            lean_front,
        })
    }
}

fn positive(name: &str, value: Option<usize>) -> Result<Option<usize>, Failure> {
    match value {
        Some(0) => Err(format!("{name} is 0: it is at least 1").into()),
        value => Ok(value),
    }
}

/// Where the file is.
#[derive(Args, Debug)]
pub(super) struct ConfigFile {
    /// A TOML file with these settings under the same names, such as `listen = "0.0.0.0:7811"`.
    /// Flags and variables win over it.
    #[arg(long, env = "CRUMBD_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}
