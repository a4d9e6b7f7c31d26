//! Refused requests, in the metrics and in the log.
//!
//! A client that is refused comes back, and with it thousands of others. So they are logged as a failure that recurs
//! ([`Recurring`]): those over a limit with the limit's flag, and those without rights with the name of the token and the
//! address of the client. They are over when there were none for a minute.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::metrics::counter::Counter;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::http::app::App;
use crate::http::auth::access::bearer_token;
use crate::http::client::Peer;
use crate::value::Recurring;

/// How often the limits are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Refusals are over when there were none for this long.
const QUIET: Duration = Duration::from_secs(60);

/// The statuses of refusals, and the reasons of this daemon for them: the last part of the problem's type. Any other is
/// the upstream's, or of the program that the daemon is a part of.
const REASONS: [(StatusCode, &str); 28] = [
    (StatusCode::UNAUTHORIZED, "token-missing"),
    (StatusCode::UNAUTHORIZED, "token-unknown"),
    (StatusCode::UNAUTHORIZED, "token-removed"),
    (StatusCode::UNAUTHORIZED, OTHER),
    (StatusCode::FORBIDDEN, "not-permitted"),
    (StatusCode::FORBIDDEN, "permission-changed"),
    (StatusCode::FORBIDDEN, "cross-origin"),
    (StatusCode::FORBIDDEN, "unknown-client"),
    (StatusCode::FORBIDDEN, "upstream-forbids"),
    (StatusCode::FORBIDDEN, "read-only"),
    (StatusCode::FORBIDDEN, OTHER),
    (StatusCode::TOO_MANY_REQUESTS, "buffer-full"),
    (StatusCode::TOO_MANY_REQUESTS, "over-budget"),
    (StatusCode::TOO_MANY_REQUESTS, "rate-limited"),
    (StatusCode::TOO_MANY_REQUESTS, OTHER),
    (StatusCode::SERVICE_UNAVAILABLE, "over-budget"),
    (StatusCode::SERVICE_UNAVAILABLE, "starting"),
    (StatusCode::SERVICE_UNAVAILABLE, "behind"),
    (StatusCode::SERVICE_UNAVAILABLE, "shutting-down"),
    (StatusCode::SERVICE_UNAVAILABLE, "not-kept"),
    (StatusCode::SERVICE_UNAVAILABLE, "unsettled"),
    (StatusCode::SERVICE_UNAVAILABLE, "not-done"),
    (StatusCode::SERVICE_UNAVAILABLE, "not-yet-read"),
    (StatusCode::SERVICE_UNAVAILABLE, "unwell"),
    (StatusCode::SERVICE_UNAVAILABLE, "read-only"),
    (StatusCode::SERVICE_UNAVAILABLE, OTHER),
    (StatusCode::MISDIRECTED_REQUEST, "unknown-host"),
    (StatusCode::INSUFFICIENT_STORAGE, "over-limit"),
];

/// The reasons that are want of rights. The others of their statuses are about the feed or the page that asks.
const WANT_OF_RIGHTS: [&str; 5] =
    ["token-missing", "token-unknown", "token-removed", "not-permitted", "permission-changed"];

/// The word for every other reason.
const OTHER: &str = "other";

/// The reason of a refusal, among the extensions of its response: the last part of the problem's type.
#[derive(Clone)]
pub(in crate::http) struct Refused(pub(in crate::http) String);

/// The refused requests: their counters, and what is logged of them.
#[derive(Default)]
pub(in crate::http) struct RefusalLog {
    counters: [Counter; REASONS.len()],
    without_rights: Recurring,
}

impl RefusalLog {
    /// Counts an answer, if it is a refusal.
    pub(in crate::http) fn count<B>(&self, response: &axum::http::Response<B>) {
        let status = response.status();
        let reason = response.extensions().get::<Refused>().map_or(OTHER, |Refused(reason)| reason);
        let is = |wanted: &str| REASONS.iter().position(|known| *known == (status, wanted));
        if let Some(index) = is(reason).or_else(|| is(OTHER)) {
            self.counters[index].inc();
        }
    }

    /// The counted refusals: status, reason and number.
    pub(in crate::http) fn counted(&self) -> impl Iterator<Item = (StatusCode, &'static str, u64)> {
        REASONS
            .into_iter()
            .zip(&self.counters)
            .map(|((status, reason), counter)| (status, reason, counter.get()))
    }

    /// Logs that a client was refused for want of rights. `token` is the name of its token, if it is known.
    pub(in crate::http) fn log(&self, reason: &str, token: Option<&str>, address: Option<IpAddr>) {
        let token = token.unwrap_or("none that is known");
        let address = address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
        if let Some(times) = self.without_rights.failed(&format!("{reason} {token} {address}")) {
            warn!(times, reason, token, "requests from {address} are refused for want of rights");
        }
    }

    fn log_end(&self) {
        if let Some(end) = self.without_rights.ended_after(QUIET) {
            info!(times = end.times, lasted = %end.lasted(), "no request is refused for want of rights any more");
        }
    }
}

impl fmt::Debug for RefusalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusalLog").finish_non_exhaustive()
    }
}

/// Counts an answer of the framework, and logs a refusal. The lean front counts its own, and refuses nobody for want of
/// rights but those whose rights were taken away meanwhile.
pub(in crate::http) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let token = app.is_guarded().then(|| request.headers().get(AUTHORIZATION).cloned()).flatten();
    let response = next.run(request).await;
    app.metrics.count_reply(&response);
    if let Some(Refused(reason)) = response.extensions().get()
        && WANT_OF_RIGHTS.contains(&&**reason)
    {
        let address = peer.and_then(|peer| peer.address()).map(|address| address.ip());
        app.metrics.refusals.log(reason, app.token_name(token.as_ref()).as_deref(), address);
    }
    response
}

impl App {
    /// The name of the token in this header, if it is known.
    fn token_name(&self, authorization: Option<&HeaderValue>) -> Option<String> {
        let token = bearer_token(authorization?.to_str().ok()?)?;
        self.authorizer.as_ref()?.admit(token)?.name()
    }
}

/// Logs which limits are reached, and when they no longer are, until the shutdown.
pub(in crate::http) async fn watch(app: App) {
    let mut limits: BTreeMap<&'static str, (u64, Recurring)> = BTreeMap::new();
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = app.shutdown.begun() => return,
            _ = tick.tick() => {}
        }
        for (flag, refused) in app.budgets.refused() {
            let (before, log) = limits.entry(flag).or_default();
            log_limit(flag, refused - std::mem::replace(before, refused), log);
        }
        app.metrics.refusals.log_end();
    }
}

/// Logs that requests were refused for a limit, so many since the last look.
fn log_limit(flag: &str, refused: u64, log: &Recurring) {
    if refused > 0
        && let Some(times) = log.failed_times("", refused)
    {
        warn!(times, "requests are refused: the limit --{flag} is reached");
    }
    if let Some(end) = log.ended_after(QUIET) {
        info!(times = end.times, lasted = %end.lasted(), "no request is refused for --{flag} any more");
    }
}
