//! `crumbd serve`: the daemon.

mod check;
mod cursor_key;
#[cfg(feature = "otlp")]
mod otlp;
mod service_manager;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tracing::{info, warn};

pub(super) use self::check::CheckFailed;
use super::config::{ConfigFile, LoadedSettings, RawSettings, SettingErrors, Settings};
use super::signals::Stop;
use super::{Failure, log};
use crate::daemon::{CollectionConfig, Daemon, DaemonConfig, OpenCollection, OpenDaemon};
use crate::http::{LogLines, Reload, RequestSpans};

/// Follow a feed and serve its state
///
/// The daemon follows a feed, keeps the whole state in memory and serves it over HTTP. Clients GET
/// /v1/breadcrumbs/current and then follow the rel="next" link of each answer, for ever.
///
/// Every setting is also a variable (CRUMBD_LISTEN for --listen) and a key of the file given with
/// --config (listen = "…"). Flags win over variables, variables over the file. With invalid settings the daemon
/// prints a message for each and ends with exit code 2.
///
/// SIGTERM and SIGINT drain the daemon and end it; a second signal does not wait for clients. SIGHUP reads tokens
/// and certificates again.
#[derive(Args)]
pub(super) struct Serve {
    /// Read all settings and the files that they name, report everything that is wrong, and end: with exit code 0 if
    /// a daemon would start, 2 if not. Nothing is started, written or connected to. While a daemon runs with the
    /// same settings, add --listen 127.0.0.1:0, because its address is in use.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    given: RawSettings,
}

impl Serve {
    pub(super) async fn run(self: Box<Self>) -> Result<(), Failure> {
        let Self { check, config, given } = *self;
        // First of all, so that no signal kills a start halfway.
        let (mut stop, reload) = (Stop::listen(), Reload::catch_hangup());
        let loaded = LoadedSettings::load(&config, given);
        if check {
            return check::run(loaded).await;
        }
        let (settings, log_lines) = valid_settings(loaded)?;
        let drain = settings.drain();
        #[cfg(feature = "otlp")]
        let spans = settings.otlp_endpoint().map(otlp::Spans::to).transpose()?.map(Arc::new);
        let request_spans: Option<Arc<dyn RequestSpans>> = None;
        #[cfg(feature = "otlp")]
        let request_spans = spans.clone().map(|spans| spans as Arc<dyn RequestSpans>).or(request_spans);
        // A task of its own: reading a large state keeps a thread busy, and signals must be noticed meanwhile.
        let mut starting = tokio::spawn(start(settings, log_lines, request_spans, reload));
        let running = tokio::select! {
            started = &mut starting => started??,
            () = stop.requested() => {
                starting.abort();
                info!("stopped before it was ready");
                return Ok(());
            }
        };
        let ended = until_stopped(running, stop, drain).await;
        #[cfg(feature = "otlp")]
        if let Some(spans) = spans {
            spans.end().await;
        }
        ended
    }
}

/// Returns the settings if all are valid, and starts the log. Also returns the counters of its lines.
fn valid_settings(loaded: LoadedSettings) -> Result<(Settings, LogLines), Failure> {
    let LoadedSettings { mut settings, errors, warnings } = loaded;
    if !errors.is_empty() {
        return Err(SettingErrors(errors).into());
    }
    let (format, filter) = settings.log();
    let log_lines = log::start(format, filter)?;
    warnings.iter().for_each(|warning| warn!("settings: {warning}"));
    Ok((settings, log_lines))
}

async fn start(
    settings: Settings,
    log_lines: LogLines,
    request_spans: Option<Arc<dyn RequestSpans>>,
    reload: Reload,
) -> Result<Daemon, Failure> {
    let (tokens, given_key) = (settings.tokens()?, cursor_key::given(&settings)?);
    if let Some(warning) = tokens.as_deref().and_then(|tokens| settings.tokens_without_feed(tokens)) {
        warn!("settings: {warning}");
    }
    let config =
        DaemonConfig { log_lines: Some(log_lines), request_spans, ..settings.daemon(tokens.clone())? };
    let daemon = OpenDaemon::listen(config)?.answering_to(|is_local| settings.hosts(is_local));
    let mut collections = Vec::new();
    for collection in settings.collections() {
        let name = collection.name.as_ref();
        let config = CollectionConfig {
            name: name.cloned(),
            cache: settings.cache(name),
            view: settings.view(name),
            buffer: settings.buffer()?,
            state: settings.state_of(name),
            strict: settings.feeds().strict,
        };
        collections.push(OpenCollection::of_spec(config, &collection.feed, settings.feeds()).await?);
    }
    let cursor_key = match given_key {
        Some(given) => given,
        None => cursor_key::own(tokens.as_deref(), &settings)?,
    };
    Ok(daemon.start(collections, &cursor_key, Some(reload)).await?)
}

/// Serves until a signal or until every feed has failed for good. Then drains.
async fn until_stopped(mut daemon: Daemon, mut stop: Stop, drain: Duration) -> Result<(), Failure> {
    let app = daemon.app().clone();
    let ended = tokio::select! {
        failure = daemon.failed() => Err(failure.into()),
        () = stop.requested() => Ok(()),
        never = service_manager::report(&app) => match never {},
    };
    service_manager::stopping();
    let drained = tokio::select! {
        drained = daemon.drain(drain) => drained,
        () = stop.requested() => {
            warn!("second signal: not waiting for the remaining clients");
            Ok(())
        }
    };
    tokio::select! {
        saved = daemon.stop() => saved?,
        () = stop.requested() => {
            warn!("third signal: not waiting until the state is saved");
            return ended;
        }
    }
    drained?;
    info!("stopped");
    ended
}
