//! The table of endpoints, and what their handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{map_request_with_state, map_response, map_response_with_state};
use axum::routing::{get, post};

use crate::feed::PushHandle;
use crate::http::api::breadcrumbs;
use crate::http::api::health;
use crate::http::api::kv;
use crate::http::api::openapi;
use crate::http::api::stream;
use crate::http::api::write;
use crate::http::auth::{Authorizer, access};
use crate::http::budget::{Budgets, Limits};
use crate::http::metrics::{self, Metrics};
use crate::http::page;
use crate::http::rep::problem::{self, Problem};
use crate::http::serve::drain::Shutdown;
use crate::http::serve::liveness::Liveness;
use crate::model::Upstream;
use crate::view::View;

/// Limits of the handlers.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// The feed, as the user wrote it.
    pub feed: String,
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// How long a request body may stand still.
    pub stall_timeout: Duration,
    /// What may be under way at once.
    pub limits: Limits,
    /// How long the feed is silent at the most while it is well; not all feeds have such a time.
    pub feed_silence: Option<Duration>,
    /// A stream says something at least this often.
    pub heartbeat: Duration,
}

/// What every handler sees.
#[derive(Clone)]
pub struct App {
    pub(in crate::http) view: View,
    pub(in crate::http) upstream: Arc<Upstream>,
    /// Only a push feed can be written to.
    pub(in crate::http) push: Option<PushHandle>,
    pub(in crate::http) shutdown: Shutdown,
    pub(in crate::http) budgets: Budgets,
    pub(in crate::http) config: Arc<AppConfig>,
    pub(in crate::http) started: Instant,
    /// Who may see what; everybody everything when there is none.
    pub(in crate::http) guard: Option<Arc<dyn Authorizer>>,
    pub(in crate::http) metrics: Arc<Metrics>,
    /// Tells the apps of a process from each other.
    pub(in crate::http) number: u64,
    pub(in crate::http) liveness: Arc<Liveness>,
}

static APPS: AtomicU64 = AtomicU64::new(0);

impl App {
    /// Puts the parts together.
    pub fn new(
        view: View,
        upstream: Arc<Upstream>,
        push: Option<PushHandle>,
        shutdown: Shutdown,
        config: AppConfig,
    ) -> Self {
        let budgets = Budgets::new(config.limits.clone());
        let liveness = Arc::new(Liveness::new(config.feed_silence));
        let (config, started) = (Arc::new(config), Instant::now());
        Self {
            view,
            upstream,
            push,
            shutdown,
            budgets,
            config,
            started,
            guard: None,
            metrics: Arc::default(),
            number: APPS.fetch_add(1, Ordering::Relaxed),
            liveness,
        }
    }

    /// The same, for those only whom it knows, and as much as it allows.
    pub fn guarded_by(self, guard: Arc<dyn Authorizer>) -> Self {
        Self { guard: Some(guard), number: APPS.fetch_add(1, Ordering::Relaxed), ..self }
    }

    /// How many requests are waiting for a breadcrumb.
    pub fn waiters(&self) -> usize {
        self.budgets.waiters()
    }

    /// Resolves when the caller, a waiter, is to be answered because the daemon stops.
    pub(in crate::http) async fn my_turn(&self) {
        let window = self.shutdown.begun().await;
        tokio::time::sleep(Shutdown::turn(window, self.waiters())).await;
    }
}

/// The endpoints.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/breadcrumbs/current", get(breadcrumbs::current))
        .route("/v1/breadcrumbs/{cursor}/next", get(breadcrumbs::next))
        .route("/v1/breadcrumbs/{cursor}", get(breadcrumbs::kept))
        .route("/v1/breadcrumbs/{from}/diff/{to}", get(breadcrumbs::diff))
        .route("/v1/stream", get(stream::stream))
        .route("/v1/kv", get(kv::list))
        // The empty key is a key like any other.
        .route("/v1/kv/", get(kv::get).put(write::put).delete(write::delete))
        .route("/v1/kv/{*key}", get(kv::get).put(write::put).delete(write::delete))
        .route("/v1/updates", post(write::post))
        .route("/v1/status", get(health::status))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::openapi))
        .route("/", get(page::page))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .fallback(async || {
            Problem::not_found(
                "there is nothing at this address; the interface begins at /v1/breadcrumbs/current",
            )
        })
        .method_not_allowed_fallback(problem::method_not_allowed)
        // Nothing comes to a handler, nor to the one of what is not there, without having passed here.
        .layer(map_request_with_state(app.clone(), access::admit))
        .layer(map_response(problem::explain))
        .layer(map_response_with_state(app.clone(), metrics::count))
        // The write handlers measure bodies themselves.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}
