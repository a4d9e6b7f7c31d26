//! `crumbd serve`: the daemon.

mod check;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

pub(super) use self::check::CheckFailed;
use super::config::{ConfigFile, Faults, Given, Read, Settings};
use super::feeds::Opened;
use super::signals::Stop;
use super::warm::{self, Found};
use super::{Failure, log};
use crate::cache::Cache;
use crate::feed::{FeedError, Sink};
use crate::http::tls::Tls;
use crate::http::{App, Collection, Reload, Server, Shutdown};
use crate::view::View;

/// Follow a feed and serve its state
///
/// The daemon follows one feed, keeps the whole state in memory and serves it over HTTP. Clients GET
/// /v1/breadcrumbs/current and then follow the rel="next" link of each answer, for ever.
///
/// Every setting is also a variable (CRUMBD_LISTEN for --listen) and a key of the file given with
/// --config (listen = "…"). Flags win over variables, variables over the file. Settings that make no sense end it
/// with exit code 2 and a sentence each.
///
/// SIGTERM and SIGINT drain and end it; a second one does not wait for clients. SIGHUP reads tokens and certificates
/// again.
#[derive(Args)]
pub(super) struct Serve {
    /// Read all settings and the files that they name, say everything that is wrong, and end: with exit code 0 when
    /// a daemon would start, 2 when not. Nothing is started, written or connected to. Beside a daemon that runs
    /// with the same settings, add --listen 127.0.0.1:0: its address is taken.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    given: Given,
}

impl Serve {
    pub(super) async fn run(self: Box<Self>) -> Result<(), Failure> {
        let Self { check, config, given } = *self;
        // Before anything else: whatever a start takes, it is not killed in the middle.
        let (mut stop, reload) = (Stop::listen(), Reload::catch_hangup());
        let read = Read::all(&config, given);
        if check {
            return check::run(read).await;
        }
        let settings = started_with(read)?;
        let drain = settings.drain();
        // A task of its own: reading a large state keeps a thread busy, and must not keep us from hearing a signal.
        let mut starting = tokio::spawn(Running::start(settings, reload));
        let running = tokio::select! {
            started = &mut starting => started??,
            () = stop.asked() => {
                starting.abort();
                info!("stopped before it was ready");
                return Ok(());
            }
        };
        running.until_stopped(stop, drain).await
    }
}

/// The settings, once all of them make sense. From here on there is a log.
fn started_with(read: Read) -> Result<Settings, Failure> {
    let Read { mut settings, faults, remarks } = read;
    if !faults.is_empty() {
        return Err(Faults(faults).into());
    }
    let (format, filter) = settings.log();
    log::start(format, filter)?;
    remarks.iter().for_each(|remark| warn!("{remark}"));
    Ok(settings)
}

type Feeding = JoinHandle<Result<(), FeedError>>;

/// A daemon that serves.
struct Running {
    app: App,
    cache: Cache,
    shutdown: Shutdown,
    ingest: JoinHandle<()>,
    feeding: Feeding,
    saving: Option<JoinHandle<()>>,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start(settings: Settings, mut reload: Reload) -> Result<Self, Failure> {
        // Without faults there is one.
        let spec = settings.feed().cloned().ok_or("there is no feed")?;
        let feed = Opened::open(&spec, settings.strict(), settings.etcd_access()?).await?;
        let tokens = settings.tokens()?;
        let tls = settings.tls().map(Tls::open).transpose()?;
        let mut server = Server::bind(settings.server())?;
        let buffer = Arc::new(settings.buffer()?);
        let upstream = Arc::new(feed.upstream());
        let config = settings.cache();
        let limits = config.entry_limits();
        let found = Found::open(settings.state(), &feed, &spec, &config)?;
        let (cache, ingest, keeping) = found.cache(config, &feed, Arc::clone(&buffer), &upstream)?;
        let ingest = ingest.spawn();
        let (warm, saving) = keeping.start(&cache);
        let silence = feed.silence();
        let sink = Sink::new(Arc::clone(&buffer), Arc::clone(&upstream));
        let sink = if settings.strict() { sink.strict(limits) } else { sink };
        let (push, feeding) = feed.start(sink, buffer, warm).await;
        if push.is_some() {
            warm::applied(&cache).await?;
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

    /// Serves until it is told to stop or its feed has failed for good; then drains.
    async fn until_stopped(mut self, mut stop: Stop, drain: Duration) -> Result<(), Failure> {
        let ended = tokio::select! {
            failure = failed(&mut self.feeding) => {
                error!("{failure}");
                Err(failure)
            }
            () = stop.asked() => Ok(()),
        };
        info!(waiters = self.app.waiters(), drain = %humantime::format_duration(drain), "draining");
        self.shutdown.begin(drain);
        let drained = tokio::select! {
            drained = self.serving => drained.map_err(Failure::from),
            () = stop.asked() => {
                warn!("stopped a second time: not waiting for the rest");
                Ok(())
            }
        };
        self.feeding.abort();
        self.cache.stop();
        let kept = async {
            self.ingest.await?;
            match self.saving {
                Some(saving) => saving.await,
                None => Ok(()),
            }
        };
        tokio::select! {
            kept = kept => kept?,
            () = stop.asked() => {
                warn!("stopped a third time: not waiting until the state is saved");
                return ended;
            }
        }
        drained?;
        info!("stopped");
        ended
    }
}

/// Resolves when the feed has failed for good. One that has merely ended (a file, standard input) leaves its state to
/// be served.
async fn failed(feeding: &mut Feeding) -> Failure {
    match feeding.await {
        Ok(Ok(())) => std::future::pending().await,
        Ok(Err(error)) => Failure::from(error),
        Err(error) => Failure::from(format!("the feed has crashed: {error}")),
    }
}
