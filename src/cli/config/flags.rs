//! All flags of `crumbd serve`, with their help.
//!
//! Flags are parsed as text here and read in [`super::settings`]. So flags, variables and keys of the file are read by
//! the same code, and one run finds all errors.

use std::ffi::OsString;

use clap::{ArgAction, Args};

/// All settings. A field's name is the flag (`--state-dir`), the variable (`CRUMBD_STATE_DIR`) and the key of the file
/// (`state-dir`).
#[derive(Args)]
#[allow(dead_code)] // `RawSettings` reads the parsed flags by name
pub(super) struct Flags {
    /// The source of updates [default: push:]. `push:` is this daemon's own HTTP interface: no datastore is
    /// needed. `file:PATH` reads NDJSON records from a file. `file:PATH?follow=true` also reads what is appended,
    /// and notices when the file is replaced. `stdin:` reads NDJSON records from standard input.
    /// `etcd://HOST:PORT[,HOST:PORT…]/PREFIX` follows the keys of an etcd cluster that begin with PREFIX
    /// (everything after the first slash); `etcds://` does so over TLS. `kubernetes:?resource=v1/pods` follows the
    /// objects of a type of a Kubernetes cluster. `crumbd feeds` lists all feeds and their options.
    ///
    /// Given several times, each feed is a collection with a name, served under /v1/c/NAME/: `--feed agents=push:
    /// --feed 'routes=etcd://127.0.0.1:2379/routes/'`. One feed may be without a name; it is served under /v1/. In the
    /// variable each line is a feed; in the file several are a list: `feed = ["…", "…"]`. What is kept and cached
    /// (--keep-…, --body-cache-bytes, --snapshot-cache-bytes, --ingest-capacity) is so for each collection; budgets of
    /// clients (--max-…) are shared.
    #[arg(long, env = "CRUMBD_FEED", value_name = "[NAME=]FEED", action = ArgAction::Append)]
    feed: Vec<OsString>,

    /// Address and port to serve on. Port 0 takes a free port and logs it. `[::]` takes connections of IPv4, too.
    /// `unix:/PATH` is a unix socket, which speaks plain HTTP; `unix:/PATH?mode=0600` sets its permissions, otherwise 0660.
    /// `systemd:` stands for all sockets that systemd passes, `systemd:NAME` for those with this FileDescriptorName.
    ///
    /// It may be given several times: all addresses serve the same. In the variable each line is an address; in the file
    /// several are a list [default: 127.0.0.1:7811]
    #[arg(long, env = "CRUMBD_LISTEN", value_name = "ADDRESS", action = ArgAction::Append)]
    listen: Vec<OsString>,

    /// End with an error at the first record of the feed that cannot be read, and at the first value over
    /// --max-value-bytes. Without this the daemon logs the record and goes on without its key. Use it where a
    /// missing key is worse than no service [default: false]
    #[arg(long, env = "CRUMBD_STRICT", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    strict: Option<OsString>,

    /// Directory that keeps the last state. The next start serves it at once, marked as not in-sync, and earlier
    /// cursors stay valid. Named collections are in DIR/collections/NAME. For a push: feed the directory is the datastore itself: every write is on the disk before it
    /// is answered. Not for stdin: feeds.
    #[arg(long, env = "CRUMBD_STATE_DIR", value_name = "DIR")]
    state_dir: Option<OsString>,

    /// Least time between two saves of the state [default: 10s]
    #[arg(long, env = "CRUMBD_STATE_INTERVAL", value_name = "DURATION", allow_hyphen_values = true)]
    state_interval: Option<OsString>,

    /// Certificate authority (PEM) of the etcd servers [default: the system's authorities]
    #[arg(long, env = "CRUMBD_ETCD_CA", value_name = "FILE", help_heading = "etcd")]
    etcd_ca: Option<OsString>,

    /// Client certificate (PEM) for etcd; needs --etcd-key.
    #[arg(long, env = "CRUMBD_ETCD_CERT", value_name = "FILE", help_heading = "etcd")]
    etcd_cert: Option<OsString>,

    /// Private key (PEM) of the client certificate.
    #[arg(long, env = "CRUMBD_ETCD_KEY", value_name = "FILE", help_heading = "etcd")]
    etcd_key: Option<OsString>,

    /// User name for etcd. The password comes from --etcd-password-file or the variable CRUMBD_ETCD_PASSWORD. There
    /// is no flag for it: other processes can read command lines.
    #[arg(long, env = "CRUMBD_ETCD_USER", value_name = "NAME", help_heading = "etcd")]
    etcd_user: Option<OsString>,

    /// File with the password; a line break at its end is ignored. The file is read again at each login, so the
    /// password can be changed without a restart.
    #[arg(long, env = "CRUMBD_ETCD_PASSWORD_FILE", value_name = "FILE", help_heading = "etcd")]
    etcd_password_file: Option<OsString>,

    /// Address and port on which etcd's clients are served, such as 127.0.0.1:12379: `etcdctl`, `clientv3` and everything
    /// else that speaks etcd's API v3. With named feeds, NAME=ADDRESS:PORT says whose keys they see. The daemon then keeps
    /// every single write within --keep-bytes, --keep-count and --keep-age, and what etcd sets again to the same value is an
    /// update for all clients.
    #[arg(
        long,
        env = "CRUMBD_ETCD_LISTEN",
        value_name = "[NAME=]ADDRESS:PORT",
        action = ArgAction::Append,
        help_heading = "etcd"
    )]
    etcd_listen: Vec<OsString>,

    /// Answer all reads of etcd's clients from memory, as if they were serializable. Without this, reads that are
    /// linearizable (etcd's default) wait until the daemon has everything that its datastore has, and are refused while the
    /// datastore cannot be asked [default: false]
    #[arg(
        long,
        env = "CRUMBD_ETCD_SERIALIZABLE",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL",
        help_heading = "etcd"
    )]
    etcd_serializable: Option<OsString>,

    /// After SIGTERM, the time in which waiting clients are answered and connections end. Keep it below the
    /// time after which your orchestrator kills the process [default: 5s]
    #[arg(
        long,
        env = "CRUMBD_DRAIN",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    drain: Option<OsString>,

    /// Time for a client to send the head of a request. It keeps half-open connections from piling
    /// up [default: 10s]
    #[arg(
        long,
        env = "CRUMBD_HEADER_TIMEOUT",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    header_timeout: Option<OsString>,

    /// Idle time between two requests after which a connection is closed. Keep it above the idle timeout of a proxy
    /// in front, so that the proxy never uses a closed connection [default: 75s]
    #[arg(
        long,
        env = "CRUMBD_IDLE_TIMEOUT",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    idle_timeout: Option<OsString>,

    /// Clients that read nothing for this time are disconnected; slow clients are not. A slow client's system must
    /// accept a segment (1.5 KB, over loopback 64 KB) within this time [default: 30s]
    #[arg(
        long,
        env = "CRUMBD_STALL_TIMEOUT",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    stall_timeout: Option<OsString>,

    /// Age at which a connection ends: at its next answer or, for a stream, between two bodies. Clients then spread
    /// over new replicas. Up to a fifth is taken off at random [default: no limit]
    #[arg(
        long,
        env = "CRUMBD_MAX_CONNECTION_AGE",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_connection_age: Option<OsString>,

    /// Time between two heartbeats of a quiet stream. Clients and proxies then know that it is
    /// alive [default: 15s]
    #[arg(
        long,
        env = "CRUMBD_HEARTBEAT",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    heartbeat: Option<OsString>,

    /// Most connections at a time; one more is answered 503. The system may allow fewer
    /// (ulimit -n) [default: 100000]
    #[arg(
        long,
        env = "CRUMBD_MAX_CONNECTIONS",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_connections: Option<OsString>,

    /// Most of those connections for one address: a connection has no token. An IPv6 address counts as its network of 64
    /// bits (/64). One more is answered 503, or closed where many are. Where a proxy in front has nearly all connections, set
    /// it to the whole limit [default: nine tenths of --max-connections]
    #[arg(
        long,
        env = "CRUMBD_MAX_CLIENT_CONNECTIONS",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_client_connections: Option<OsString>,

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

    /// Most of those requests for one client: a token, or an address where there are no tokens
    /// [default: nine tenths of --max-waiters]
    #[arg(
        long,
        env = "CRUMBD_MAX_CLIENT_WAITERS",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_client_waiters: Option<OsString>,

    /// Most streams and waits for one key (`/v1/stream`, `/v1/kv/KEY?after=`) of one client, among its waiters. A stream of
    /// watches of an etcd client is one [default: --max-client-waiters]
    #[arg(
        long,
        env = "CRUMBD_MAX_CLIENT_STREAMS",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_client_streams: Option<OsString>,

    /// Most requests of one client in a time, such as 10/s, 30/m or 600/h: of a token, or of an address where there are no
    /// tokens. A client may send those of 5 s at once, and at least 10. One more is answered 429, with the time after
    /// which there is room for it. A long poll counts once, when it begins. /livez and /readyz do not count [default: no
    /// limit]
    #[arg(
        long,
        env = "CRUMBD_MAX_CLIENT_RATE",
        value_name = "N/s",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_client_rate: Option<OsString>,

    /// Most bytes of snapshots, pages and large updates that are being sent at a time. What several of them share
    /// counts once. Over it, a request waits up to 5s for others to be sent, and is then answered 503
    /// [default: 1GiB]
    #[arg(
        long,
        env = "CRUMBD_MAX_SNAPSHOT_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_snapshot_bytes: Option<OsString>,

    /// Most of those bytes for one client: a token, or an address where there are no tokens
    /// [default: half of --max-snapshot-bytes]
    #[arg(
        long,
        env = "CRUMBD_MAX_CLIENT_SNAPSHOT_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_client_snapshot_bytes: Option<OsString>,

    /// Most waiters to wake per second, about. It spreads out the requests that follow a change which concerns
    /// tens of thousands of clients [default: no limit]
    #[arg(
        long,
        env = "CRUMBD_WAKE_RATE",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    wake_rate: Option<OsString>,

    /// Keep waiting long polls outside of the HTTP framework: the answers are the same, and they take a fraction of
    /// the memory. `off` is for comparison [default: on]
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

    /// Most bytes of request bodies that are being received or applied at a time. Over it, a request waits up to 5s
    /// for others, and is then answered 503 [default: 256MiB]
    #[arg(
        long,
        env = "CRUMBD_MAX_UPLOAD_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_upload_bytes: Option<OsString>,

    /// Most of those bytes for one client: a token, or an address where there are no tokens
    /// [default: nine tenths of --max-upload-bytes]
    #[arg(
        long,
        env = "CRUMBD_MAX_CLIENT_UPLOAD_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    max_client_upload_bytes: Option<OsString>,

    /// Memory for encoded updates and pages that several clients share [default: 128MiB]
    #[arg(
        long,
        env = "CRUMBD_BODY_CACHE_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    body_cache_bytes: Option<OsString>,

    /// Memory for encoded snapshots, beside those that are being sent (--max-snapshot-bytes). A snapshot that is kept
    /// costs the next client of its format only what has changed. Where the formats in use take more, the largest is
    /// encoded anew for the next client. Formats that nobody asks for are dropped after two minutes [default: 512MiB]
    #[arg(
        long,
        env = "CRUMBD_SNAPSHOT_CACHE_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    snapshot_cache_bytes: Option<OsString>,

    /// File of tokens. With it every request needs a token (`Authorization: Bearer TOKEN`), except /livez and /readyz.
    /// The token's line in the file says which keys it may read and write. `crumbd token` makes a token and its line.
    /// Changes of the file apply within about a second, or at SIGHUP [default: everything is open]
    #[arg(long, env = "CRUMBD_TOKENS", value_name = "FILE", help_heading = "Serving")]
    tokens: Option<OsString>,

    /// File with the secret of the cursors: 64 hex digits, such as `openssl rand -hex 32` prints. Without the secret
    /// nobody can tell from a cursor what the state is. All replicas need the same file. More lines may follow, with
    /// secrets whose cursors are still accepted [default with --tokens: a secret made of the tokens file; without
    /// --tokens: none]
    #[arg(long, env = "CRUMBD_CURSOR_KEY", value_name = "FILE", help_heading = "Serving")]
    cursor_key: Option<OsString>,

    /// Names under which the daemon answers, beside localhost, IP addresses and names without a dot; * is any name. Other
    /// requests are 421. It keeps a web page from reading through a name of its own that leads to this machine [default:
    /// none on a loopback address without --tokens and TLS, otherwise any]
    #[arg(long, env = "CRUMBD_ALLOW_HOST", value_name = "NAME,…", help_heading = "Serving")]
    allow_host: Option<OsString>,

    /// Origins whose web pages may read from this daemon (CORS), such as `https://app.example`; * is every origin. They
    /// may not write [default: none]
    #[arg(long, env = "CRUMBD_ALLOW_ORIGIN", value_name = "ORIGIN,…", help_heading = "Serving")]
    allow_origin: Option<OsString>,

    /// Path under which a proxy serves the daemon, such as /crumbd, for the links in answers. The proxy takes it off the
    /// requests [default: none]
    #[arg(long, env = "CRUMBD_BASE_PATH", value_name = "PATH", help_heading = "Serving")]
    base_path: Option<OsString>,

    /// Keep a table of the N clients that were heard last, for GET /v1/clients: the name that a client gives itself
    /// (header Crumbd-Client), its address, its cursor and how far it is behind. A row takes about half a kilobyte
    /// [default: no table]
    #[arg(
        long,
        env = "CRUMBD_CLIENT_TABLE",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Serving"
    )]
    client_table: Option<OsString>,

    /// Address for operators, as for --listen. /metrics, /v1/status, /v1/collections, /v1/clients, the page and
    /// /openapi.json are then served there only, and the addresses of --listen serve the data, /livez and /readyz. It serves
    /// everything else, too, with the same tokens and over TLS as --listen. 32 of its connections have a place beside
    /// --max-connections. It may be given several times [default: --listen serves everything]
    #[arg(
        long,
        env = "CRUMBD_ADMIN_LISTEN",
        value_name = "ADDRESS",
        action = ArgAction::Append,
        help_heading = "Serving"
    )]
    admin_listen: Vec<OsString>,

    /// Networks of proxies, such as 10.0.0.0/8,192.168.1.7, that begin each connection with a header of the PROXY protocol,
    /// version 2 (of haproxy: `send-proxy-v2`). The client's address is then the one in the header: for its share of the
    /// budgets, the table of clients, and the log. Other clients connect without it. For every TCP address, those of
    /// --etcd-listen and --admin-listen too [default: none]
    #[arg(long, env = "CRUMBD_PROXY_PROTOCOL_FROM", value_name = "CIDR,…", help_heading = "Serving")]
    proxy_protocol_from: Option<OsString>,

    /// Certificate (PEM) for TLS, followed by its intermediate certificates; needs --tls-key. The port then serves TLS
    /// only. Changes of the TLS files apply to new connections, within about a second or at SIGHUP
    /// [default: plain HTTP]
    #[arg(long, env = "CRUMBD_TLS_CERT", value_name = "FILE", help_heading = "TLS")]
    tls_cert: Option<OsString>,

    /// Private key (PEM) of the certificate.
    #[arg(long, env = "CRUMBD_TLS_KEY", value_name = "FILE", help_heading = "TLS")]
    tls_key: Option<OsString>,

    /// Certificate authorities (PEM) of clients. With it a client needs a certificate that one of them
    /// signed [default: clients need no certificate]
    #[arg(long, env = "CRUMBD_TLS_CLIENT_CA", value_name = "FILE", help_heading = "TLS")]
    tls_client_ca: Option<OsString>,

    /// Accept only clients whose certificate has this common name; needs --tls-client-ca. With --tls-client-uri too,
    /// one of the two is enough.
    #[arg(long, env = "CRUMBD_TLS_CLIENT_CN", value_name = "NAME", help_heading = "TLS")]
    tls_client_cn: Option<OsString>,

    /// Accept only clients whose certificate has this URI among its alternative names, such as
    /// spiffe://example.org/edge; needs --tls-client-ca.
    #[arg(long, env = "CRUMBD_TLS_CLIENT_URI", value_name = "URI", help_heading = "TLS")]
    tls_client_uri: Option<OsString>,

    /// Most breadcrumbs that stay readable. A client that is further behind has to fetch the whole state
    /// again [default: 16384]
    #[arg(
        long,
        env = "CRUMBD_KEEP_COUNT",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Keeping"
    )]
    keep_count: Option<OsString>,

    /// Most memory of kept breadcrumbs beyond the current state (an estimate) [default: 64MiB]
    #[arg(
        long,
        env = "CRUMBD_KEEP_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Keeping"
    )]
    keep_bytes: Option<OsString>,

    /// Time that a breadcrumb stays readable after the next one is published [default: 15m]
    #[arg(
        long,
        env = "CRUMBD_KEEP_AGE",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Keeping"
    )]
    keep_age: Option<OsString>,

    /// Most updates in one breadcrumb under load. An idle daemon makes one breadcrumb per update
    /// [default: 1000]
    #[arg(
        long,
        env = "CRUMBD_MAX_BATCH",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Ingest"
    )]
    max_batch: Option<OsString>,

    /// Least time between two breadcrumbs. The updates within the interval become one breadcrumb. After a pause the
    /// first update is published at once [default: 0s]
    #[arg(
        long,
        env = "CRUMBD_MIN_INTERVAL",
        value_name = "DURATION",
        allow_hyphen_values = true,
        help_heading = "Ingest"
    )]
    min_interval: Option<OsString>,

    /// Longest value. A write with a longer one is refused (413). If a feed has a longer one, its key is absent, and
    /// /v1/status names it. Replicas need the same limit to agree [default: 8MiB]
    #[arg(
        long,
        env = "CRUMBD_MAX_VALUE_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Ingest"
    )]
    max_value_bytes: Option<OsString>,

    /// Most keys of a collection. A write that would add one more is refused (507). What a feed has beyond is absent, and
    /// /v1/status says so (`over_limit`, `refused`); it comes back when there is room [default: no limit]
    #[arg(
        long,
        env = "CRUMBD_MAX_KEYS",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Ingest"
    )]
    max_keys: Option<OsString>,

    /// The same for the bytes of all keys and values of a collection [default: no limit]
    #[arg(
        long,
        env = "CRUMBD_MAX_BYTES",
        value_name = "SIZE",
        allow_hyphen_values = true,
        help_heading = "Ingest"
    )]
    max_bytes: Option<OsString>,

    /// The buffer between feed and cache: a channel, or a ring behind a lock (for comparison) [default: channel]
    #[arg(long, env = "CRUMBD_INGEST_BUFFER", value_name = "channel|ring", help_heading = "Ingest")]
    ingest_buffer: Option<OsString>,

    /// Most events in that buffer (writes, or batches of a feed). When it is full, writers get 429 and other
    /// feeds wait [default: 1024]
    #[arg(
        long,
        env = "CRUMBD_INGEST_CAPACITY",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Ingest"
    )]
    ingest_capacity: Option<OsString>,

    /// Which requests have a line in the log: off, errors (refused, failed, or left by the client) or all. A line has the
    /// request id and trace that the client sent, who it is, how far behind it was, and how long it waited. It has no values
    /// and no tokens [default: off]
    #[arg(long, env = "CRUMBD_ACCESS_LOG", value_name = "WHICH", help_heading = "Logging")]
    access_log: Option<OsString>,

    /// URL of an OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318, to which the spans of requests are
    /// sent: of those that come with a `traceparent` whose trace is sampled [default: none]
    #[cfg(feature = "otlp")]
    #[arg(long, env = "CRUMBD_OTLP_ENDPOINT", value_name = "URL", help_heading = "Logging")]
    otlp_endpoint: Option<OsString>,

    /// Format of log lines: text, or json for machines [default: text]
    #[arg(long, env = "CRUMBD_LOG_FORMAT", value_name = "text|json", help_heading = "Logging")]
    log_format: Option<OsString>,

    /// What to log: error, warn, info, debug, trace, or a filter such as info,crumbd::feed=debug
    /// [default: info]
    #[arg(long, env = "CRUMBD_LOG_LEVEL", value_name = "FILTER", help_heading = "Logging")]
    log_level: Option<OsString>,
}
