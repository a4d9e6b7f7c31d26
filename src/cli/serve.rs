//! `crumbd serve`: the daemon.

mod check;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::task::{JoinError, JoinHandle};
use tracing::{error, info, warn};

pub(super) use self::check::CheckFailed;
use super::config::{ConfigFile, LoadedSettings, RawSettings, SettingErrors, Settings};
use super::feed::{FeedTask, OpenFeed};
use super::signals::Stop;
use super::stored_state::{self, StoredState};
use super::{Failure, log};
use crate::cache::Cache;
use crate::feed::Sink;
use crate::http::tls::Tls;
use crate::http::{App, Collection, Reload, Server, Shutdown};
use crate::view::View;

/// Follow a feed and serve its state
///
/// The daemon follows one feed, keeps the whole state in memory and serves it over HTTP. Clients GET
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
        let settings = valid_settings(loaded)?;
        let drain = settings.drain();
        // A task of its own: reading a large state keeps a thread busy, and signals must be noticed meanwhile.
        let mut starting = tokio::spawn(Running::start(settings, reload));
        let running = tokio::select! {
            started = &mut starting => started??,
            () = stop.requested() => {
                starting.abort();
                info!("stopped before it was ready");
                return Ok(());
            }
        };
        running.until_stopped(stop, drain).await
    }
}

/// Returns the settings if all are valid, and starts the log.
fn valid_settings(loaded: LoadedSettings) -> Result<Settings, Failure> {
    let LoadedSettings { mut settings, errors, warnings } = loaded;
    if !errors.is_empty() {
        return Err(SettingErrors(errors).into());
    }
    let (format, filter) = settings.log();
    log::start(format, filter)?;
    warnings.iter().for_each(|warning| warn!("{warning}"));
    Ok(settings)
}

/// A daemon that cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("there is no feed")]
    NoFeed,
    #[error("the feed has crashed: {0}")]
    FeedCrashed(JoinError),
}

/// A daemon that serves.
struct Running {
    app: App,
    cache: Cache,
    shutdown: Shutdown,
    ingest: JoinHandle<()>,
    feeding: FeedTask,
    saving: Option<JoinHandle<()>>,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start(settings: Settings, mut reload: Reload) -> Result<Self, Failure> {
        // Valid settings have a feed.
        let spec = settings.feed().cloned().ok_or(ServeError::NoFeed)?;
        let feed = OpenFeed::open(&spec, settings.strict(), settings.etcd_access()?).await?;
        let tokens = settings.tokens()?;
        let tls = settings.tls().map(Tls::open).transpose()?;
        let mut server = Server::bind(settings.server())?;
        let buffer = Arc::new(settings.buffer()?);
        let upstream = Arc::new(feed.upstream());
        let config = settings.cache();
        let limits = config.entry_limits();
        let stored = StoredState::open(settings.state(), &feed, &spec, &config)?;
        let (cache, ingest, persistence) = stored.cache(config, &feed, Arc::clone(&buffer), &upstream)?;
        let ingest = ingest.spawn();
        let (warm, saving) = persistence.start(&cache);
        let silence = feed.max_silence();
        let sink = Sink::new(Arc::clone(&buffer), Arc::clone(&upstream));
        let sink = if settings.strict() { sink.strict(limits) } else { sink };
        let (push, feeding) = feed.start(sink, buffer, warm).await;
        if push.is_some() {
            stored_state::applied(&cache).await?;
        }

        let shutdown = Shutdown::default();
        let (view, fanout) = View::new(cache.reader(), Arc::clone(&upstream), settings.view());
        tokio::spawn(fanout.run());
        let collection = Collection::new(spec.to_string(), view, upstream, push, silence);
        let mut app = App::new([collection], shutdown.clone(), settings.app());
        if let Some(tokens) = tokens {
            reload.add(tokens.clone());
            app = app.guarded_by(tokens);
        }
        let mut scheme = "http";
        if let Some(tls) = tls {
            reload.add(tls.clone());
            server = server.secured_by(tls);
            scheme = "https";
        }
        tokio::spawn(reload.run());
        info!(url = %format!("{scheme}://{}", server.address()), feed = %spec, "listening");
        let serving = tokio::spawn(server.run(app.clone()));
        Ok(Self { app, cache, shutdown, ingest, feeding, saving, serving })
    }

    /// Serves until a signal or until the feed has failed for good. Then drains.
    async fn until_stopped(mut self, mut stop: Stop, drain: Duration) -> Result<(), Failure> {
        let ended = tokio::select! {
            failure = failed(&mut self.feeding) => {
                error!("{failure}");
                Err(failure)
            }
            () = stop.requested() => Ok(()),
        };
        info!(waiters = self.app.waiters(), drain = %humantime::format_duration(drain), "draining");
        self.shutdown.begin(drain);
        let drained = tokio::select! {
            drained = self.serving => drained.map_err(Failure::from),
            () = stop.requested() => {
                warn!("second signal: not waiting for the remaining clients");
                Ok(())
            }
        };
        self.feeding.abort();
        self.cache.stop();
        let saved = async {
            self.ingest.await?;
            match self.saving {
                Some(saving) => saving.await,
                None => Ok(()),
            }
        };
        tokio::select! {
            saved = saved => saved?,
            () = stop.requested() => {
                warn!("third signal: not waiting until the state is saved");
                return ended;
            }
        }
        drained?;
        info!("stopped");
        ended
    }
}

/// Resolves when the feed has failed for good. A feed that has only ended (a file, standard input) leaves its state to be
/// served.
async fn failed(feeding: &mut FeedTask) -> Failure {
    match feeding.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(error)) => Failure::from(error),
        Err(error) => ServeError::FeedCrashed(error).into(),
    }
}
