//! What a service manager such as systemd is told: that the daemon is ready, what it serves, that it makes progress (the
//! watchdog), and that it stops. See `sd_notify(3)`. Without a service manager nothing is sent.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, error, info};

use crate::http::App;

/// How often the line that `systemctl status` shows is made anew.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Says that the daemon listens, and then again and again what it serves and that it makes progress. While a part of the
/// daemon makes none, as `/livez` says it, the watchdog is not fed, so that the service manager restarts the daemon.
/// Never returns. Cancel-safe.
pub(super) async fn report(app: &App) -> Infallible {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    notify(&[NotifyState::Ready, NotifyState::Status(&app.summary())]);
    // Three times within the time that is allowed: one report that is late must not end the daemon.
    let watchdog = sd_notify::watchdog_enabled().map(|allowed| allowed / 3);
    let mut tick =
        interval(watchdog.map_or(STATUS_INTERVAL, |often| often.clamp(LEAST_INTERVAL, STATUS_INTERVAL)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut unwell_since) = (String::new(), None::<Instant>);
    loop {
        tick.tick().await;
        let (unwell, summary) = (app.unwell(), app.summary());
        match (&unwell, unwell_since) {
            (Some(why), None) => {
                unwell_since = Some(Instant::now());
                error!("a part of the daemon makes no progress: {why}");
            }
            (None, Some(since)) => {
                unwell_since = None;
                info!(after_s = since.elapsed().as_secs(), "all parts of the daemon make progress again");
            }
            _ => {}
        }
        if unwell.is_none() && watchdog.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
        let status = unwell.map_or(summary, |why| format!("no progress: {why}"));
        if status != told {
            notify(&[NotifyState::Status(&status)]);
            told = status;
        }
    }
}

/// The least time between two reports, whatever the watchdog allows.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);

/// Says that the daemon has begun to stop.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager cannot be told");
    }
}
