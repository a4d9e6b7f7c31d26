//! `--otlp-endpoint`: the spans of requests go to a collector, by OTLP over HTTP.
//!
//! The batches, the queue and the protocol are those of the `opentelemetry` crates. What the queue (2,048 spans) does not
//! hold is dropped: a collector that is slow or away costs no request anything.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::{Request, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::client::ClientTls;
use crate::daemon::{RequestSpan, RequestSpans};
use crate::feed::error_chain;
use crate::value::{FailureEnd, Recurring};

/// How long a collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The exporter of spans cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("--otlp-endpoint {endpoint:?}: {why}; it is the URL of a collector, such as http://127.0.0.1:4318")]
pub(super) struct OtlpError {
    endpoint: String,
    why: String,
}

/// The exporter of the spans of requests.
pub(super) struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Spans {
    /// An exporter to this collector. Must be called in a runtime, whose tasks send the requests.
    pub(super) fn to(endpoint: &str) -> Result<Self, OtlpError> {
        let error =
            |why: &dyn fmt::Display| OtlpError { endpoint: endpoint.to_owned(), why: why.to_string() };
        let url: reqwest::Url = endpoint.parse().map_err(|why| error(&why))?;
        if !["http", "https"].contains(&url.scheme()) || url.host().is_none() {
            return Err(error(&"no http:// or https:// address"));
        }
        let traces = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let tls = ClientTls::default().config(url.scheme() == "https").map_err(|why| error(&why))?;
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(TIMEOUT).build();
        let http = http.map_err(|why| error(&why))?;
        let http = Collector { http, runtime: Handle::current(), failing: Arc::default() };
        let exporter = SpanExporter::builder().with_http().with_http_client(http).with_endpoint(traces);
        let exporter = exporter.with_timeout(TIMEOUT).build().map_err(|why| error(&why))?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            // Spans of sampled traces only come here.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(Resource::builder().with_service_name("crumbd").build())
            .build();
        let tracer = provider.tracer("crumbd");
        Ok(Self { provider, tracer })
    }

    /// Exports what is left, for some seconds at most.
    pub(super) async fn end(&self) {
        let provider = self.provider.clone();
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(TIMEOUT)).await;
        if let Ok(Err(error)) = ended {
            warn!("some spans were not exported: {error}");
        }
    }
}

impl RequestSpans for Spans {
    fn take(&self, span: RequestSpan<'_>) {
        let parent = SpanContext::new(
            TraceId::from(span.parent.trace_id),
            SpanId::from(span.parent.span_id),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        let parent = Context::new().with_remote_span_context(parent);
        let route = span.path.split('?').next().unwrap_or(span.path).to_owned();
        // Names of the semantic conventions of OpenTelemetry, and of crumbd's own headers.
        let mut attributes = vec![
            KeyValue::new("http.request.method", span.method.to_owned()),
            KeyValue::new("url.path", route),
            KeyValue::new("network.protocol.version", span.protocol.trim_start_matches("HTTP/")),
            KeyValue::new("http.response.body.size", number(span.bytes)),
        ];
        let texts =
            [("crumbd.mode", span.mode), ("crumbd.cursor", span.cursor), ("crumbd.token", span.token)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some(KeyValue::new(name, text?.to_owned())));
        attributes.extend(texts);
        attributes.extend(span.address.map(|address| KeyValue::new("client.address", address.to_string())));
        attributes
            .extend(span.status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))));
        attributes.extend(span.lag_revisions.map(|lag| KeyValue::new("crumbd.lag_revisions", number(lag))));
        let wait = span.answered.unwrap_or(span.ended).duration_since(span.began).unwrap_or_default();
        attributes.push(KeyValue::new("crumbd.wait_ms", wait.as_micros() as f64 / 1000.0));
        let builder = SpanBuilder::from_name(span.method.to_owned())
            .with_kind(SpanKind::Server)
            .with_start_time(span.began)
            .with_attributes(attributes);
        let mut ended = self.tracer.build_with_context(builder, &parent);
        if span.status.is_some_and(|status| status >= 500) {
            ended.set_status(Status::error(""));
        }
        ended.end_with_timestamp(span.ended.max(SystemTime::UNIX_EPOCH));
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Sends the exporter's requests on the runtime. The exporter has a thread of its own, which is no part of it.
#[derive(Debug)]
struct Collector {
    http: reqwest::Client,
    runtime: Handle,
    failing: Arc<Recurring>,
}

impl HttpClient for Collector {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> BoxFuture<'f, Result<Response<Bytes>, HttpError>>
    where
        'a: 'f,
        Self: 'f,
    {
        let (http, failing) = (self.http.clone(), Arc::clone(&self.failing));
        let sending = self.runtime.spawn(async move {
            let sent = send(&http, request).await;
            match &sent {
                Err(error) => {
                    let why = error_chain(&**error);
                    if let Some(times) = failing.failed(&why) {
                        warn!(
                            times,
                            "spans are not taken by the collector of --otlp-endpoint, and are dropped: {why}"
                        );
                    }
                }
                Ok(_) => {
                    if let Some(FailureEnd { lasted, times }) = failing.ended() {
                        info!(times, lasted = ?lasted, "spans are taken by the collector again");
                    }
                }
            }
            sent
        });
        Box::pin(async move { sending.await? })
    }
}

/// Sends a request. A status that is no success is an error.
async fn send(http: &reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let answer = http.execute(request.try_into()?).await?.error_for_status()?;
    // What a collector says beside its status is not looked at.
    Ok(Response::builder().status(answer.status()).body(Bytes::new())?)
}
