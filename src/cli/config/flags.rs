//! Every flag of `crumbd serve`, for the command line's parser and its help.
//!
//! Each is taken as text here, and read in [`super::settings`]: so a flag, a variable and a key of the file go the
//! same way, and all that is wrong is found in one run.

use std::ffi::OsString;

use clap::Args;

/// Every setting: the name of the field is the flag (`--state-dir`), the variable (`CRUMBD_STATE_DIR`) and the key of
/// the file (`state-dir`).
#[derive(Args)]
#[allow(dead_code)] // the parser's answer is asked by the flags' names: see `Given`
pub(super) struct Flags {
    /// Where updates come from. `push:` (the default) is this daemon's own HTTP interface: no
    /// datastore is needed. `file:PATH` reads NDJSON records from a file; `file:PATH?follow=true`
    /// goes on with what is appended and notices when the file is replaced. `stdin:` reads
    /// standard input. `etcd://HOST:PORT[,HOST:PORT…]/PREFIX` follows the keys of an etcd cluster that
    /// begin with PREFIX (all that stands after the first slash); `etcds://` does so over TLS.
    #[arg(long, env = "CRUMBD_FEED", value_name = "FEED")]
    feed: Option<OsString>,

    /// Address and port to serve on; port 0 takes a free one and logs it [default: 127.0.0.1:7811]
    #[arg(long, env = "CRUMBD_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<OsString>,

    /// End with an error at the first record of the feed that cannot be read, and at the first value over
    /// --max-value-bytes, instead of logging it and going on without its key: for feeds where a missing key is worse
    /// than no service.
    #[arg(long, env = "CRUMBD_STRICT", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    strict: Option<OsString>,

    /// Directory that keeps the last state for the next start: it is then served at once, marked as not
    /// in-sync, and cursors from before go on. For a push: feed it is the datastore itself: every write
    /// is on the disk before it is answered. Not for stdin: feeds.
    #[arg(long, env = "CRUMBD_STATE_DIR", value_name = "DIR")]
    state_dir: Option<OsString>,

    /// Least time between two saves of the state [default: 10s]
    #[arg(long, env = "CRUMBD_STATE_INTERVAL", value_name = "DURATION", allow_hyphen_values = true)]
    state_interval: Option<OsString>,

    /// Certificate authority (PEM) of the etcd servers; the system's authorities when left out.
    #[arg(long, env = "CRUMBD_ETCD_CA", value_name = "FILE", help_heading = "etcd")]
    etcd_ca: Option<OsString>,

    /// Client certificate (PEM) to show to etcd; needs --etcd-key.
    #[arg(long, env = "CRUMBD_ETCD_CERT", value_name = "FILE", help_heading = "etcd")]
    etcd_cert: Option<OsString>,

    /// Private key (PEM) of the client certificate.
    #[arg(long, env = "CRUMBD_ETCD_KEY", value_name = "FILE", help_heading = "etcd")]
    etcd_key: Option<OsString>,

    /// User to log in to etcd with; its password comes from --etcd-password-file or the variable
    /// CRUMBD_ETCD_PASSWORD, never from the command line, which every process on the machine can read.
    #[arg(long, env = "CRUMBD_ETCD_USER", value_name = "NAME", help_heading = "etcd")]
    etcd_user: Option<OsString>,

    /// File with the password; a line break at its end does not count. It is read again at each login, so
    /// that a password can be changed without a restart.
    #[arg(long, env = "CRUMBD_ETCD_PASSWORD_FILE", value_name = "FILE", help_heading = "etcd")]
    etcd_password_file: Option<OsString>,

    /// How long waiting clients may take to be answered and connections to end after SIGTERM.
    /// Keep it below what your orchestrator grants before it kills [default: 5s]
    #[arg(
        long,
        env = "CRUMBD_DRAIN",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    drain: Option<OsString>,

    /// How long a client may take to send the head of a request, so that half-open connections do
    /// not pile up [default: 10s]
    #[arg(
        long,
        env = "CRUMBD_HEADER_TIMEOUT",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    header_timeout: Option<OsString>,

    /// How long a connection may rest between two requests before it is closed. Keep it above the idle
    /// timeout of a proxy in front, so that it is never the proxy that finds a closed connection [default: 75s]
    #[arg(
        long,
        env = "CRUMBD_IDLE_TIMEOUT",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    idle_timeout: Option<OsString>,

    /// How long a client may take nothing of an answer before it is cut off. A slow client is not, as long as
    /// its system takes a segment (1.5 KB, over loopback 64 KB) within that time [default: 30s]
    #[arg(
        long,
        env = "CRUMBD_STALL_TIMEOUT",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    stall_timeout: Option<OsString>,

    /// How long a connection may live, about (up to a fifth is taken off at random): the first answer after
    /// that closes it, and a stream ends between two bodies, so that clients spread over replicas that came later;
    /// off when left out
    #[arg(
        long,
        env = "CRUMBD_MAX_CONNECTION_AGE",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_connection_age: Option<OsString>,

    /// How often a stream says something when there is nothing to say, so that its client, and every
    /// proxy between, knows that it is alive [default: 15s]
    #[arg(
        long,
        env = "CRUMBD_HEARTBEAT",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    heartbeat: Option<OsString>,

    /// Most connections at a time; one more is answered 503. What the system allows (ulimit -n) may
    /// be less [default: 100000]
    #[arg(
        long,
        env = "CRUMBD_MAX_CONNECTIONS",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_connections: Option<OsString>,

    /// Most requests that wait for a breadcrumb at a time; one more is answered 503
    /// [default: 100000]
    #[arg(
        long,
        env = "CRUMBD_MAX_WAITERS",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_waiters: Option<OsString>,

    /// How many bytes of snapshots may be on their way to clients at a time; who comes then waits up
    /// to 5s for others to have theirs, and is answered 503 after that [default: 1GiB]
    #[arg(
        long,
        env = "CRUMBD_MAX_SNAPSHOT_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_snapshot_bytes: Option<OsString>,

    /// Wake at most about so many waiters per second, so that a change which concerns tens of
    /// thousands does not come back as one burst of requests; off when left out
    #[arg(
        long,
        env = "CRUMBD_WAKE_RATE",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    wake_rate: Option<OsString>,

    /// Let long polls wait outside of the HTTP framework: the same answers for a fraction of the
    /// memory. `off` is for comparing [default: on]
    #[arg(long, env = "CRUMBD_LEAN_FRONT", value_name = "on|off", help_heading = "Serving")]
    lean_front: Option<OsString>,

    /// Largest request body; a larger one is answered 413 [default: 64MiB]
    #[arg(
        long,
        env = "CRUMBD_MAX_BODY_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_body_bytes: Option<OsString>,

    /// Bytes of request bodies that are being received or applied, all together; a request waits up to
    /// 5s for others to be done, and is answered 503 after that [default: 256MiB]
    #[arg(
        long,
        env = "CRUMBD_MAX_UPLOAD_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_upload_bytes: Option<OsString>,

    /// Memory for encoded bodies that the next client may ask for too [default: 128MiB]
    #[arg(
        long,
        env = "CRUMBD_BODY_CACHE_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    body_cache_bytes: Option<OsString>,

    /// File of tokens: from then on every request but /livez and /readyz needs one, as `Authorization:
    /// Bearer TOKEN`, and sees and writes what its line allows. `crumbd token` makes a token and its line.
    /// Changes of the file apply within about a second, or at SIGHUP [default: everything is open]
    #[arg(long, env = "CRUMBD_TOKENS", value_name = "FILE", help_heading = "Serving")]
    tokens: Option<OsString>,

    /// Certificate (PEM) to serve TLS with, followed by those that lead to its authority; needs --tls-key. Then nothing
    /// but TLS is spoken on the port. Changes of this and the other TLS files apply within about a second, or at
    /// SIGHUP, to new connections [default: plain HTTP]
    #[arg(long, env = "CRUMBD_TLS_CERT", value_name = "FILE", help_heading = "TLS")]
    tls_cert: Option<OsString>,

    /// Private key (PEM) of the certificate.
    #[arg(long, env = "CRUMBD_TLS_KEY", value_name = "FILE", help_heading = "TLS")]
    tls_key: Option<OsString>,

    /// Certificate authorities (PEM) of clients: from then on a client needs a certificate that one of them
    /// signed [default: clients need no certificate]
    #[arg(long, env = "CRUMBD_TLS_CLIENT_CA", value_name = "FILE", help_heading = "TLS")]
    tls_client_ca: Option<OsString>,

    /// Let in only clients whose certificate has this common name; needs --tls-client-ca. With --tls-client-uri too,
    /// one of both is enough.
    #[arg(long, env = "CRUMBD_TLS_CLIENT_CN", value_name = "NAME", help_heading = "TLS")]
    tls_client_cn: Option<OsString>,

    /// Let in only clients whose certificate has this URI among its alternative names, such as
    /// spiffe://example.org/edge; needs --tls-client-ca.
    #[arg(long, env = "CRUMBD_TLS_CLIENT_URI", value_name = "URI", help_heading = "TLS")]
    tls_client_uri: Option<OsString>,

    /// How many breadcrumbs stay readable: a client that is further behind has to fetch the whole
    /// state again [default: 16384]
    #[arg(
        long,
        env = "CRUMBD_KEEP_COUNT",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Keeping"
    )]
    keep_count: Option<OsString>,

    /// How much memory kept breadcrumbs may hold beyond the current state (an estimate)
    /// [default: 64MiB]
    #[arg(
        long,
        env = "CRUMBD_KEEP_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Keeping"
    )]
    keep_bytes: Option<OsString>,

    /// How long a breadcrumb stays readable after the next one [default: 15m]
    #[arg(
        long,
        env = "CRUMBD_KEEP_AGE",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Keeping"
    )]
    keep_age: Option<OsString>,

    /// Most updates in one breadcrumb under load; an idle daemon drops one per update
    /// [default: 1000]
    #[arg(
        long,
        env = "CRUMBD_MAX_BATCH",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Ingest"
    )]
    max_batch: Option<OsString>,

    /// Least time between two breadcrumbs. After a pause the next one still comes at once; what comes
    /// within the interval is gathered into one [default: 0s]
    #[arg(
        long,
        env = "CRUMBD_MIN_INTERVAL",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Ingest"
    )]
    min_interval: Option<OsString>,

    /// Longest value. A write with a longer one is refused (413). Where a feed has a longer one, its key is absent, and
    /// /v1/status names it; replicas that are to agree have the same limit [default: 8MiB]
    #[arg(
        long,
        env = "CRUMBD_MAX_VALUE_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Ingest"
    )]
    max_value_bytes: Option<OsString>,

    /// The buffer between feed and cache: a channel, or a ring behind a lock (for comparing) [default: channel]
    #[arg(long, env = "CRUMBD_INGEST_BUFFER", value_name = "channel|ring", help_heading = "Ingest")]
    ingest_buffer: Option<OsString>,

    /// How many events (writes, or batches of a feed) may wait in it; when it is full, writers get
    /// 429 and other feeds wait [default: 1024]
    #[arg(
        long,
        env = "CRUMBD_INGEST_CAPACITY",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Ingest"
    )]
    ingest_capacity: Option<OsString>,

    /// How log lines look: text for people, json for machines [default: text]
    #[arg(long, env = "CRUMBD_LOG_FORMAT", value_name = "text|json", help_heading = "Logging")]
    log_format: Option<OsString>,

    /// What is logged: error, warn, info, debug, trace, or a filter such as info,crumbd::feed=debug
    /// [default: info]
    #[arg(long, env = "CRUMBD_LOG_LEVEL", value_name = "FILTER", help_heading = "Logging")]
    log_level: Option<OsString>,
}
