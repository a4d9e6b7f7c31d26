//! `GET /metrics`: all metrics as OpenMetrics text.

use std::fmt::{self, Debug, Error};
use std::time::SystemTime;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Uri};
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::feed::Activity;
use crate::http::app::App;
use crate::http::auth::access::Admission;
use crate::http::collection::Collection;
use crate::http::metrics::process::Process;
use crate::http::metrics::sharded::Histogram;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply;
use crate::model::{CollectionName, SyncStatus};
use crate::view::CacheStats;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics.
pub(in crate::http) async fn metrics(
    State(app): State<App>,
    admission: Admission,
    uri: Uri,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let mut registry = Registry::default();
    // Its memory depends on every key.
    if app.may_monitor_all(&admission) {
        // It may take a while where many descriptors are open. A process that cannot be looked at has no metrics.
        let process = tokio::task::spawn_blocking(Process::look).await.unwrap_or_default();
        registry.register_collector(Box::new(process));
    }
    registry.sub_registry_with_prefix("crumbd").register_collector(Box::new(Scrape { app, admission }));
    let mut text = String::with_capacity(16 * 1024);
    // Writing into memory does not fail.
    _ = encode(&mut text, &registry);
    let mut response = reply::into_response(reply::body(text.into_bytes(), OPEN_METRICS));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A scrape of all metrics.
struct Scrape {
    app: App,
    /// It decides of which collections the client may know what reveals something of every key, such as sizes.
    admission: Admission,
}

impl Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), Error> {
        let to = &mut to;
        let all: Vec<&Collection> = self.app.collections.iter().map(|one| &**one).collect();
        let monitored: Vec<&Collection> =
            all.iter().copied().filter(|one| self.admission.may_monitor(one)).collect();
        NUMBERS.iter().try_for_each(|number| number.encode(to, &all))?;
        SIZES.iter().try_for_each(|number| number.encode(to, &monitored))?;
        self.feed(to)?;
        self.daemon(to)?;
        self.serving(to)?;
        self.streams(to)
    }
}

/// A metric of a collection.
struct Number {
    name: &'static str,
    help: &'static str,
    read: Read,
}

enum Read {
    Counter(fn(&Collection) -> u64),
    /// A counter of seconds.
    Seconds(fn(&Collection) -> f64),
    Gauge(fn(&Collection) -> f64),
    /// A gauge that not every collection has.
    Limit(fn(&Collection) -> Option<f64>),
}

impl Read {
    fn encode(&self, to: MetricEncoder<'_>, of: &Collection) -> Result<(), Error> {
        match self {
            Self::Counter(read) => ConstCounter::new(read(of)).encode(to),
            Self::Seconds(read) => ConstCounter::new(read(of)).encode(to),
            Self::Gauge(read) => ConstGauge::new(read(of)).encode(to),
            // Only collections that have it are asked.
            Self::Limit(read) => ConstGauge::new(read(of).unwrap_or(f64::INFINITY)).encode(to),
        }
    }

    fn is_there(&self, of: &Collection) -> bool {
        match self {
            Self::Limit(read) => read(of).is_some(),
            Self::Counter(_) | Self::Seconds(_) | Self::Gauge(_) => true,
        }
    }
}

const fn counted(name: &'static str, help: &'static str, read: fn(&Collection) -> u64) -> Number {
    Number { name, help, read: Read::Counter(read) }
}

const fn measured(name: &'static str, help: &'static str, read: fn(&Collection) -> f64) -> Number {
    Number { name, help, read: Read::Gauge(read) }
}

fn stats(collection: &Collection) -> &CacheStats {
    collection.view.cache().stats()
}

/// The metrics of a collection for every client.
const NUMBERS: [Number; 28] = [
    counted("breadcrumbs", "Breadcrumbs published", |c| stats(c).breadcrumbs.get()),
    counted("resyncs", "Times that the whole state was read again", |c| stats(c).resyncs.get()),
    measured("ingest_backlog_events", "Events waiting in the ingest buffer", |c| {
        c.view.cache().backlog().0 as f64
    }),
    measured("ingest_capacity_events", "Events that fit into the ingest buffer", |c| {
        c.view.cache().backlog().1 as f64
    }),
    measured("sequence", "Number of the newest breadcrumb", |c| c.view.cache().newest_sequence().0 as f64),
    measured("revision", "Revision of the newest breadcrumb", |c| {
        c.view.cache().current_breadcrumb().revision().0 as f64
    }),
    measured("kept_breadcrumbs", "Breadcrumbs in the kept window", |c| {
        c.view.cache().window_usage().breadcrumbs as f64
    }),
    measured("kept_age_seconds", "Seconds since the oldest kept breadcrumb was made", |c| {
        let oldest = c.view.cache().oldest_breadcrumb().timestamp();
        oldest.elapsed().unwrap_or_default().as_secs_f64()
    }),
    measured("kept_breadcrumbs_limit", "The limit of kept breadcrumbs", |c| {
        c.view.cache().window_limits().max_count as f64
    }),
    measured("kept_bytes_limit", "The limit of the bytes that only kept breadcrumbs hold", |c| {
        c.view.cache().window_limits().max_bytes as f64
    }),
    measured(
        "kept_age_limit_seconds",
        "Seconds for which a breadcrumb is kept after the next one, at most",
        |c| c.view.cache().window_limits().max_age.as_secs_f64(),
    ),
    measured("snapshot_cache_bytes_limit", "The limit of the bytes of encoded snapshots", |c| {
        c.view.snapshot_cache_limit() as f64
    }),
    measured("feed_age_seconds", "Seconds since the upstream was last heard", |c| {
        c.upstream.age().as_secs_f64()
    }),
    Number {
        name: "keys_limit",
        help: "The limit of keys; only where there is one",
        read: Read::Limit(|c| c.view.cache().state_limits().0.map(|keys| keys as f64)),
    },
    Number {
        name: "payload_bytes_limit",
        help: "The limit of the bytes of keys and values; only where there is one",
        read: Read::Limit(|c| c.view.cache().state_limits().1.map(|bytes| bytes as f64)),
    },
    Number {
        name: "feed_silence_limit_seconds",
        help: "The longest silence of a healthy upstream; only of feeds that may not be silent",
        read: Read::Limit(|c| c.liveness.feed_silence.map(|limit| limit.as_secs_f64())),
    },
    counted(
        "feed_reconnects",
        "Times that the feed had to connect, open or read from the start again",
        |c| c.upstream.reconnects.get(),
    ),
    counted(
        "feed_failures",
        "Errors that kept the feed from its upstream, such as failed connections",
        |c| c.upstream.failures(),
    ),
    counted(
        "feed_connect_failures",
        "Times that the upstream was not reached, or did not answer, since it was last heard",
        |c| c.upstream.connect_failures.get(),
    ),
    counted("feed_waits", "Times that the feed found the ingest buffer full and waited", |c| {
        c.upstream.waits.get()
    }),
    Number {
        name: "feed_wait_seconds",
        help: "Seconds that the feed has waited for space in the ingest buffer",
        read: Read::Seconds(|c| c.upstream.waited_us.get() as f64 / 1e6),
    },
    counted(
        "feed_waits_overdue",
        "Times that such a wait passed its deadline; it is logged, and the feed keeps waiting",
        |c| c.upstream.overdue.get(),
    ),
    measured("stream_scopes", "Different sets of keys that streams follow", |c| {
        c.view.stream_counts().selectors as f64
    }),
    counted("stream_snapshots_made", "Snapshots encoded for streams, each for any number of readers", |c| {
        c.view.stream_counts().snapshots_made
    }),
    counted("bodies_encoded", "Update bodies encoded, each for any number of readers", |c| {
        c.view.bodies_encoded()
    }),
    measured("collection_ready", "1 once the collection has been in sync", |c| {
        f64::from(u8::from(c.view.cache().was_in_sync()))
    }),
    measured("collection_in_sync", "1 while the collection is in sync", |c| {
        f64::from(u8::from(c.view.cache().current_breadcrumb().sync_status() == SyncStatus::InSync))
    }),
    measured(
        "collection_healthy",
        "1 while every part of the collection makes progress, as /livez checks",
        |c| f64::from(u8::from(c.liveness.health.unwell().is_none())),
    ),
];

/// The metrics of a collection for clients that may read every key: they say something of every key.
const SIZES: [Number; 13] = [
    measured(
        "over_limit",
        "1 while keys are refused because --max-keys or --max-bytes leaves no room",
        |c| f64::from(u8::from(c.view.cache().refused_keys().lacking_room().next().is_some())),
    ),
    counted("updates", "Updates taken from the feed", |c| stats(c).updates.get()),
    counted("updates_suppressed", "Updates that changed nothing and were skipped", |c| {
        stats(c).suppressed.get()
    }),
    counted(
        "updates_refused",
        "Updates refused: a key or value over its limit or without room, or an unreadable record that names a key",
        |c| stats(c).refused.get(),
    ),
    measured("refused_keys", "Keys that are absent because the upstream's value for them was refused", |c| {
        c.view.cache().refused_keys().len() as f64
    }),
    counted("records_malformed", "Records of the feed that could not be read", |c| {
        c.upstream.malformed.get()
    }),
    counted("swept_keys", "Keys deleted because a resync did not contain them", |c| stats(c).swept.get()),
    measured("kept_bytes", "Estimated bytes that only kept breadcrumbs hold", |c| {
        c.view.cache().window_usage().bytes as f64
    }),
    measured("snapshot_cache_bytes", "Bytes of encoded snapshots beside those that are being sent", |c| {
        c.view.snapshot_cache_bytes() as f64
    }),
    measured("keys", "Keys in the state", |c| c.view.cache().current_breadcrumb().kvs().len() as f64),
    measured("payload_bytes", "Bytes of the keys and values of the state", |c| {
        c.view.cache().current_breadcrumb().kvs().payload_bytes() as f64
    }),
    counted("state_failures", "Times that the state could not be written to the state directory", |c| {
        stats(c).persist_failures()
    }),
    measured("state_failing", "1 while the last write to the state directory has failed", |c| {
        f64::from(u8::from(stats(c).persist_failing()))
    }),
];

impl Number {
    /// The metric of these collections: the default one, which is the first, without a label, the others with their name.
    fn encode(&self, to: &mut DescriptorEncoder<'_>, collections: &[&Collection]) -> Result<(), Error> {
        let collections: Vec<&Collection> =
            collections.iter().copied().filter(|one| self.read.is_there(one)).collect();
        if collections.is_empty() {
            return Ok(());
        }
        let kind = match self.read {
            Read::Counter(_) | Read::Seconds(_) => MetricType::Counter,
            Read::Gauge(_) | Read::Limit(_) => MetricType::Gauge,
        };
        let mut family = to.encode_descriptor(self.name, self.help, None, kind)?;
        for collection in &collections {
            if let Some(name) = collection.name() {
                self.read.encode(family.encode_family(&[("collection", name.as_str())])?, collection)?;
            }
        }
        match collections.first() {
            Some(default) if default.name().is_none() => self.read.encode(family, default),
            _ => Ok(()),
        }
    }
}

impl Scrape {
    fn feed(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "1 once every collection has been in sync, until the daemon shuts down";
        let complete = self.app.collections.iter().all(|collection| collection.view.cache().was_in_sync());
        let ready = complete && !self.app.shutdown.has_begun();
        gauge(to, "ready", help, f64::from(u8::from(ready)))?;
        let mut family =
            to.encode_descriptor("feed_status", "1 for the feed's sync status", None, MetricType::Gauge)?;
        for collection in self.app.collections.iter() {
            let status = collection.view.cache().current_breadcrumb().sync_status();
            for known in SyncStatus::ALL {
                let now = ConstGauge::new(u64::from(known == status));
                let labels = [
                    ("status", Some(known.as_str())),
                    ("collection", collection.name().map(CollectionName::as_str)),
                ];
                let given = labels.into_iter().filter_map(|(label, value)| Some((label, value?)));
                now.encode(family.encode_family(&given.collect::<Vec<_>>())?)?;
            }
        }
        let help = "1 for what the feed is doing";
        let mut family = to.encode_descriptor("feed_activity", help, None, MetricType::Gauge)?;
        for collection in self.app.collections.iter() {
            let activity = collection.upstream.activity().activity.as_str();
            for known in Activity::WORDS {
                let now = ConstGauge::new(u64::from(known == activity));
                let labels = [
                    ("activity", Some(known)),
                    ("collection", collection.name().map(CollectionName::as_str)),
                ];
                let given = labels.into_iter().filter_map(|(label, value)| Some((label, value?)));
                now.encode(family.encode_family(&given.collect::<Vec<_>>())?)?;
            }
        }
        Ok(())
    }

    /// What the daemon is, what it logs, and the files of its settings.
    fn daemon(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        // Not of the type `info`, which parsers of the older text format refuse.
        let mut family =
            to.encode_descriptor("build_info", "1 for what is running", None, MetricType::Gauge)?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1u64).encode(family.encode_family(&labels)?)?;
        // Some lines are about keys.
        let log_lines = self.app.log_lines.as_ref().filter(|_| self.app.may_monitor_all(&self.admission));
        if let Some(lines) = log_lines {
            let mut family =
                to.encode_descriptor("log_lines", "Log lines, by level", None, MetricType::Counter)?;
            for (level, count) in lines.by_level() {
                ConstCounter::new(count).encode(family.encode_family(&[("level", level)])?)?;
            }
        }
        if !self.app.files.is_empty() {
            let help = "1 while these files are invalid, so that what was read before is in force";
            let mut family = to.encode_descriptor("files_invalid", help, None, MetricType::Gauge)?;
            for files in &self.app.files {
                let invalid = ConstGauge::new(u64::from(files.report().fault.is_some()));
                invalid.encode(family.encode_family(&[("files", files.name())])?)?;
            }
            let help = "Times that these files were invalid when they were read again";
            let mut family = to.encode_descriptor("reload_failures", help, None, MetricType::Counter)?;
            for files in &self.app.files {
                let failures = ConstCounter::new(files.report().failures);
                failures.encode(family.encode_family(&[("what", files.name())])?)?;
            }
        }
        let expires = self.app.files.iter().filter_map(|files| files.expires()).min();
        if let Some(Ok(expires)) = expires.map(|expires| expires.duration_since(SystemTime::UNIX_EPOCH)) {
            let help = "The time at which the certificate that clients are shown expires";
            gauge(to, "tls_certificate_expiry_timestamp_seconds", help, expires.as_secs_f64())?;
        }
        Ok(())
    }

    fn serving(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let (metrics, budgets) = (&self.app.metrics, &self.app.budgets);
        let help = "Requests waiting for a breadcrumb; one with long prefixes counts as several";
        gauge(to, "waiters", help, budgets.waiters() as f64)?;
        gauge(to, "waiters_limit", "The limit of waiters", budgets.limits().max_waiters as f64)?;
        gauge(to, "connections", "Open connections", budgets.connections() as f64)?;
        gauge(to, "connections_limit", "The limit of connections", budgets.limits().max_connections as f64)?;
        let limit = budgets.limits().max_client_connections;
        gauge(to, "client_connections_limit", "The limit of connections of one address", limit as f64)?;
        let limit = budgets.limits().max_client_waiters;
        gauge(to, "client_waiters_limit", "The limit of waiters of one client", limit as f64)?;
        let limit = budgets.limits().max_client_streams;
        gauge(
            to,
            "client_streams_limit",
            "The limit of streams and key watches of one client",
            limit as f64,
        )?;
        if let Some(rate) = budgets.limits().max_client_rate {
            let help = "The limit of requests of one client a second";
            gauge(to, "client_requests_per_second_limit", help, rate.per_second())?;
        }
        let help = "Addresses that are counted: they have connections, or have had many requests lately";
        gauge(to, "client_addresses", help, budgets.addresses() as f64)?;
        counter(to, "connections_accepted", "Connections accepted", metrics.accepted.get())?;
        let help = "Connections refused because --max-connections or --max-client-connections was reached";
        counter(to, "connections_refused", help, metrics.refused.get())?;
        let help = "Connections without a TLS handshake: no TLS, too slow, or no accepted certificate";
        counter(to, "tls_handshakes_failed", help, metrics.handshakes_failed.get())?;
        if self.app.may_monitor_all(&self.admission) {
            let help =
                "Bytes of snapshots and other large bodies that are being sent; shared ones count once";
            gauge(to, "snapshot_bytes_in_flight", help, budgets.snapshot_bytes() as f64)?;
            let help = "Bytes of request bodies that are being received or applied";
            gauge(to, "upload_bytes_in_flight", help, budgets.upload_bytes() as f64)?;
        }
        let limit = budgets.limits().max_snapshot_bytes;
        gauge(to, "snapshot_bytes_limit", "The limit of these bytes", limit as f64)?;
        let limit = budgets.limits().max_upload_bytes;
        gauge(to, "upload_bytes_limit", "The limit of the bytes of request bodies", limit as f64)?;
        let help = "Requests that found a limit reached, by the flag that sets it";
        let mut family = to.encode_descriptor("over_budget", help, None, MetricType::Counter)?;
        for (limit, count) in budgets.refused() {
            ConstCounter::new(count).encode(family.encode_family(&[("limit", limit)])?)?;
        }
        let help = "Answers, by status, Crumbd-Mode and Crumbd-Reason";
        let mut family = to.encode_descriptor("answers", help, None, MetricType::Counter)?;
        for (status, mode, reason, count) in metrics.answers() {
            let status = status.to_string();
            let labels = [("status", status.as_str()), ("mode", mode), ("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Refused requests, by status and reason";
        let mut family = to.encode_descriptor("refusals", help, None, MetricType::Counter)?;
        for (status, reason, count) in metrics.refusals.counted() {
            let labels = [("status", status.as_str()), ("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        #[cfg(feature = "etcd")]
        {
            let help = "Calls of etcd's clients, by method and gRPC code; a stream counts when it begins";
            let mut family = to.encode_descriptor("etcd_requests", help, None, MetricType::Counter)?;
            for (method, code, count) in metrics.etcd.calls() {
                let code = code.to_string();
                let labels = [("method", method), ("code", code.as_str())];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
            let streams = metrics.etcd.streams.get() as f64;
            gauge(to, "etcd_watch_streams", "Streams of watches of etcd's clients", streams)?;
            gauge(to, "etcd_watches", "Watches of etcd's clients", metrics.etcd.watches.get() as f64)?;
        }
        let help = "Seconds from a breadcrumb until its answer is written to a client that waited for it";
        histogram(to, "delivery_latency_seconds", help, &metrics.latency_us, 1e6)?;
        let help = "Revisions that a client is behind when it asks for the next breadcrumb";
        histogram(to, "behind_revisions", help, &metrics.behind, 1.0)?;
        gauge(to, "uptime_seconds", "Seconds since the start", self.app.started.elapsed().as_secs_f64())
    }
}

impl Scrape {
    fn streams(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let streams = &self.app.metrics.streams;
        let mut family =
            to.encode_descriptor("streams", "Open streams, by media type", None, MetricType::Gauge)?;
        for (format, open, _) in streams.by_framing() {
            ConstGauge::new(open).encode(family.encode_family(&[("format", format)])?)?;
        }
        let help = "Streams opened, by media type";
        let mut family = to.encode_descriptor("streams_begun", help, None, MetricType::Counter)?;
        for (format, _, begun) in streams.by_framing() {
            ConstCounter::new(begun).encode(family.encode_family(&[("format", format)])?)?;
        }
        let help = "Bodies sent on streams, by mode";
        let mut family = to.encode_descriptor("stream_bodies", help, None, MetricType::Counter)?;
        for (mode, bodies) in streams.bodies() {
            ConstCounter::new(bodies).encode(family.encode_family(&[("mode", mode)])?)?;
        }
        let help = "Resets sent on streams: the reader has to discard its state";
        counter(to, "stream_resets", help, streams.resets())
    }
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), Error> {
    ConstCounter::new(value).encode(to.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Result<(), Error> {
    ConstGauge::new(value).encode(to.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn histogram(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    histogram: &Histogram,
    divisor: f64,
) -> Result<(), Error> {
    let (sum, count, buckets) = histogram.read(divisor);
    let mut encoder = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    encoder.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
}
