//! `GET /metrics`: all numbers, as OpenMetrics text.

use std::fmt::{self, Debug, Error};

use axum::Extension;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Uri};
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::http::auth::access::Access;
use crate::http::metrics::sharded::Histogram;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply;
use crate::http::router::App;
use crate::model::SyncStatus;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted.
pub(in crate::http) async fn metrics(
    State(app): State<App>,
    Extension(access): Extension<Access>,
    uri: Uri,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let mut registry = Registry::with_prefix("crumbd");
    registry.register_collector(Box::new(Scrape { app, whole: access.may_read_everything() }));
    let mut text = String::with_capacity(16 * 1024);
    // Writing into memory does not fail.
    _ = encode(&mut text, &registry);
    let mut response = reply::framed(reply::body(text.into_bytes(), OPEN_METRICS));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// One look at all numbers.
struct Scrape {
    app: App,
    /// Whether whoever asks may know how large the state is.
    whole: bool,
}

impl Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), Error> {
        let to = &mut to;
        self.ingest(to)?;
        self.state(to)?;
        self.feed(to)?;
        self.serving(to)?;
        self.streams(to)
    }
}

impl Scrape {
    fn ingest(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let (cache, stats) = (self.app.view.cache(), self.app.view.cache().stats());
        let (backlog, capacity) = cache.backlog();
        counter(to, "updates", "Updates taken from the feed", stats.updates.get())?;
        let help = "Updates that changed nothing and were left out";
        counter(to, "updates_suppressed", help, stats.suppressed.get())?;
        let help = "Updates that were refused: a key or value over its limit, or a record that names a key and cannot be read";
        counter(to, "updates_refused", help, stats.refused.get())?;
        let help = "Keys that are absent now because what the upstream has for them was refused";
        gauge(to, "refused_keys", help, cache.refused_keys().len() as f64)?;
        let help = "Records of the feed that were not understood, and so refused";
        counter(to, "records_malformed", help, self.app.upstream.malformed.get())?;
        counter(to, "breadcrumbs", "Breadcrumbs dropped", stats.breadcrumbs.get())?;
        counter(to, "resyncs", "Times that the whole state was read again", stats.resyncs.get())?;
        counter(
            to,
            "swept_keys",
            "Keys deleted because a resync did not bring them again",
            stats.swept.get(),
        )?;
        gauge(to, "ingest_backlog_events", "Events that wait in the ingest buffer", backlog as f64)?;
        gauge(to, "ingest_capacity_events", "Events that fit into the ingest buffer", capacity as f64)
    }

    fn state(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let cache = self.app.view.cache();
        let newest = cache.current_breadcrumb();
        let (kept, kept_bytes) = cache.kept();
        gauge(to, "sequence", "Number of the newest breadcrumb", newest.sequence().0 as f64)?;
        gauge(to, "revision", "Revision of the newest breadcrumb", newest.revision().0 as f64)?;
        if self.whole {
            gauge(to, "keys", "Keys in the state", newest.kvs().len() as f64)?;
            let help = "Bytes of the keys and values of the state";
            gauge(to, "payload_bytes", help, newest.kvs().payload_bytes() as f64)?;
        }
        gauge(to, "kept_breadcrumbs", "Breadcrumbs that can still be read", kept as f64)?;
        let help = "About how many bytes are held by kept breadcrumbs alone";
        gauge(to, "kept_bytes", help, kept_bytes as f64)
    }

    fn feed(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let (upstream, cache) = (&self.app.upstream, self.app.view.cache());
        let status = cache.current_breadcrumb().sync_status();
        let help = "Whether the state was complete once, and the daemon is not going down";
        let ready = cache.was_in_sync() && !self.app.shutdown.has_begun();
        gauge(to, "ready", help, f64::from(u8::from(ready)))?;
        let mut family =
            to.encode_descriptor("feed_status", "1 for the feed's sync status", None, MetricType::Gauge)?;
        for known in SyncStatus::ALL {
            let now = ConstGauge::new(u64::from(known == status));
            now.encode(family.encode_family(&[("status", known.as_str())])?)?;
        }
        let help = "Seconds since the upstream was last heard";
        gauge(to, "feed_age_seconds", help, upstream.age().as_secs_f64())?;
        let help = "Times that the feed had to connect, open or read from the start again";
        counter(to, "feed_reconnects", help, upstream.reconnects.get())?;
        let help = "Times that the feed found the ingest buffer full and waited";
        counter(to, "feed_waits", help, upstream.waits.get())?;
        let help = "Seconds that the feed has waited for room in the ingest buffer";
        let seconds = ConstCounter::new(upstream.waited_us.get() as f64 / 1e6);
        seconds.encode(to.encode_descriptor("feed_wait_seconds", help, None, MetricType::Counter)?)?;
        let help = "Times that such a wait passed its deadline; it is logged, and the feed waits on";
        counter(to, "feed_waits_overdue", help, upstream.overdue.get())
    }

    fn serving(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let (metrics, budgets) = (&self.app.metrics, &self.app.budgets);
        gauge(to, "waiters", "Requests that wait for a breadcrumb", budgets.waiters() as f64)?;
        gauge(to, "connections", "Open connections", budgets.connections() as f64)?;
        counter(to, "connections_accepted", "Connections accepted", metrics.accepted.get())?;
        let help = "Connections that there was no room for";
        counter(to, "connections_refused", help, metrics.refused.get())?;
        let help =
            "Connections whose client was not let in: no TLS, none in time, or no certificate that is good";
        counter(to, "tls_handshakes_failed", help, metrics.handshakes_failed.get())?;
        let help = "Bytes of snapshots on their way to clients, as they are budgeted";
        gauge(to, "snapshot_bytes_in_flight", help, budgets.snapshot_bytes() as f64)?;
        let help = "Answers, by status, Crumbd-Mode and Crumbd-Reason";
        let mut family = to.encode_descriptor("answers", help, None, MetricType::Counter)?;
        for (status, mode, reason, count) in metrics.answers() {
            let status = status.to_string();
            let labels = [("status", status.as_str()), ("mode", mode), ("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Seconds from a breadcrumb until its answer is about to be written to who waited for it";
        histogram(to, "delivery_latency_seconds", help, &metrics.latency_us, 1e-6)?;
        let help = "Revisions by which a client is behind when it asks for what comes next";
        histogram(to, "behind_revisions", help, &metrics.behind, 1.0)?;
        gauge(to, "uptime_seconds", "Seconds since the start", self.app.started.elapsed().as_secs_f64())
    }
}

impl Scrape {
    fn streams(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let (streams, counts) = (&self.app.metrics.streams, self.app.view.stream_counts());
        let mut family =
            to.encode_descriptor("streams", "Streams that run, by media type", None, MetricType::Gauge)?;
        for (format, running, _) in streams.running() {
            ConstGauge::new(running).encode(family.encode_family(&[("format", format)])?)?;
        }
        let help = "Streams that have begun, by media type";
        let mut family = to.encode_descriptor("streams_begun", help, None, MetricType::Counter)?;
        for (format, _, begun) in streams.running() {
            ConstCounter::new(begun).encode(family.encode_family(&[("format", format)])?)?;
        }
        let help = "Different sets of keys that streams tell of";
        gauge(to, "stream_scopes", help, counts.selectors as f64)?;
        let help = "Bodies that streams have told, by mode";
        let mut family = to.encode_descriptor("stream_bodies", help, None, MetricType::Counter)?;
        for (mode, bodies) in streams.bodies() {
            ConstCounter::new(bodies).encode(family.encode_family(&[("mode", mode)])?)?;
        }
        let help = "Times that a stream told its reader to forget what it has";
        counter(to, "stream_resets", help, streams.resets())?;
        let help = "Snapshots that were made for streams, each for any number of readers";
        counter(to, "stream_snapshots_made", help, counts.snapshots_made)
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
    unit: f64,
) -> Result<(), Error> {
    let (sum, count, buckets) = histogram.read(unit);
    let mut encoder = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    encoder.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
}
