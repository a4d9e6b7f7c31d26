//! `crumbd serve`: the daemon.

use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::config::{ConfigFile, Settings};
use super::feeds::Opened;
use super::warm::{self, Found};
use super::{Failure, log};
use crate::feed::{FeedError, Sink};
use crate::http::tls::Tls;
use crate::http::{App, Server, Shutdown};
use crate::view::View;

/// Follow a feed and serve its state
///
/// The daemon follows one feed, keeps the whole state in memory and serves it over HTTP. Clients GET
/// /v1/breadcrumbs/current and then follow the rel="next" link of each answer, for ever.
///
/// Every setting is also a variable (CRUMBD_LISTEN for --listen) and a key of the file given with
/// --config (listen = "…"). Flags win over variables, variables over the file.
#[derive(Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    settings: Settings,
}

impl Serve {
    pub(super) async fn run(self: Box<Self>) -> Result<(), Failure> {
        let settings = self.settings.over_file(self.config.config.as_deref())?;
        let (format, level) = settings.log();
        log::start(format, level)?;
        let spec = settings.feed()?;
        let feed = Opened::open(&spec, settings.strict(), settings.etcd_access()?).await?;
        let tokens = settings.tokens()?;
        let tls = settings.tls()?.map(Tls::open).transpose()?;
        let mut server = Server::bind(settings.server()?)?;
        let buffer = Arc::new(settings.buffer()?);
        let upstream = Arc::new(feed.upstream());
        let config = settings.cache()?;
        let limits = config.entry_limits();
        let found = Found::open(settings.state(), &feed, &spec, &config)?;
        let (cache, ingest, keeping) = found.cache(config, &feed, Arc::clone(&buffer), &upstream)?;
        let ingest = ingest.spawn();
        let (warm, saving) = keeping.start(&cache);
        let silence = feed.silence();
        let sink = Sink::new(Arc::clone(&buffer), Arc::clone(&upstream));
        let sink = if settings.strict() { sink.strict(limits) } else { sink };
        let (push, mut feeding) = feed.start(sink, buffer, warm).await;

        if push.is_some() {
            warm::applied(&cache).await?;
        }

        let shutdown = Shutdown::default();
        let view = View::new(cache.clone(), Arc::clone(&upstream), &settings.view());
        let mut app = App::new(view, upstream, push, shutdown.clone(), settings.app(&spec, silence)?);
        if let Some(tokens) = tokens {
            tokio::spawn(Arc::clone(&tokens).keep_up());
            app = app.guarded_by(tokens);
        }
        let mut scheme = "http";
        if let Some(tls) = tls {
            tokio::spawn(Arc::clone(&tls).keep_up());
            server = server.secured_by(tls);
            scheme = "https";
        }
        let stop = interrupted();
        info!(url = %format!("{scheme}://{}", server.address()), feed = %spec, "listening");
        let serving = tokio::spawn(server.run(app.clone()));

        let ended = until_stopped(&mut feeding, stop).await;
        let drain = settings.drain();
        info!(waiters = app.waiters(), drain = %humantime::format_duration(drain), "draining");
        shutdown.begin(drain);
        let drained = tokio::select! {
            drained = serving => drained.map_err(Failure::from),
            () = interrupted() => {
                warn!("stopped a second time: not waiting for the rest");
                Ok(())
            }
        };
        feeding.abort();
        cache.stop();
        ingest.await?;
        if let Some(saving) = saving {
            saving.await?;
        }
        drained?;
        info!("stopped");
        ended
    }
}

/// Resolves when the daemon is told to stop, or when its feed has failed for good. A feed that
/// has merely ended (a file, standard input) leaves its state to be served.
async fn until_stopped(
    feeding: &mut JoinHandle<Result<(), FeedError>>,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let failed = async {
        match feeding.await {
            Ok(Ok(())) => std::future::pending().await,
            Ok(Err(error)) => Failure::from(error),
            Err(error) => Failure::from(format!("the feed has crashed: {error}")),
        }
    };
    tokio::select! {
        failure = failed => {
            error!("{failure}");
            Err(failure)
        }
        () = stop => Ok(()),
    }
}

/// SIGTERM or SIGINT. They are caught from the call on, not only from the first look at the future: who
/// has read that the daemon listens may stop it at once.
fn interrupted() -> impl Future<Output = ()> {
    let signals =
        signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    async {
        match signals {
            Ok((mut terminate, mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            Err(error) => {
                warn!(%error, "signals cannot be received: only SIGKILL will stop this process");
                std::future::pending().await
            }
        }
    }
}
