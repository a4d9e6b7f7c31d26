//! What a daemon serves, and what all its collections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::http::auth::Authorizer;
use crate::http::budget::{Budgets, Limits};
use crate::http::collection::{Collection, Collections};
use crate::http::metrics::Metrics;
use crate::http::serve::drain::Shutdown;

/// Limits of the handlers.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// How long a request body may stand still.
    pub stall_timeout: Duration,
    /// What may be under way at once.
    pub limits: Limits,
    /// A stream says something at least this often.
    pub heartbeat: Duration,
}

/// What all collections share: budgets, tokens, metrics, the end of the daemon. Clones share it.
#[derive(Clone)]
pub struct App {
    pub(in crate::http) collections: Collections,
    pub(in crate::http) shutdown: Shutdown,
    pub(in crate::http) budgets: Budgets,
    pub(in crate::http) config: Arc<AppConfig>,
    pub(in crate::http) started: Instant,
    /// Who may see what; everybody everything when there is none.
    pub(in crate::http) guard: Option<Arc<dyn Authorizer>>,
    pub(in crate::http) metrics: Arc<Metrics>,
    /// Tells the apps of a process from each other.
    pub(in crate::http) number: u64,
}

static APPS: AtomicU64 = AtomicU64::new(0);

impl App {
    /// Serves these collections.
    pub fn new(
        collections: impl IntoIterator<Item = Collection>,
        shutdown: Shutdown,
        config: AppConfig,
    ) -> Self {
        let budgets = Budgets::new(config.limits.clone());
        let (config, started) = (Arc::new(config), Instant::now());
        Self {
            collections: Collections::new(collections),
            shutdown,
            budgets,
            config,
            started,
            guard: None,
            metrics: Arc::default(),
            number: APPS.fetch_add(1, Ordering::Relaxed),
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
