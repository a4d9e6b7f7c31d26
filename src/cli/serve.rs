//! `crumbd serve`: the daemon.

mod check;
mod collection;
mod cursor_key;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::future::{select_all, try_join_all};
use tokio::task::{JoinError, JoinHandle};
use tracing::{error, info, warn};

pub(super) use self::check::CheckFailed;
use self::collection::{OpenCollection, RunningCollection};
use super::config::{ConfigFile, LoadedSettings, RawSettings, SettingErrors, Settings};
use super::signals::Stop;
use super::{Failure, log};
#[cfg(feature = "etcd")]
use crate::http::ServerConfig;
#[cfg(feature = "etcd")]
use crate::http::etcd::{EtcdConfig, EtcdFront};
use crate::http::tls::Tls;
use crate::http::{App, Reload, Server, Shutdown};

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

/// A daemon that serves.
struct Running {
    app: App,
    collections: Vec<RunningCollection>,
    shutdown: Shutdown,
    serving: Vec<JoinHandle<()>>,
}

impl Running {
    async fn start(settings: Settings, mut reload: Reload) -> Result<Self, Failure> {
        let (tokens, given_key) = (settings.tokens()?, cursor_key::given(&settings)?);
        if let Some(warning) = tokens.as_deref().and_then(|tokens| settings.tokens_without_feed(tokens)) {
            warn!("{warning}");
        }
        let tls = settings.tls().map(Tls::open).transpose()?;
        let mut server = Server::bind(settings.server())?;
        #[cfg(feature = "etcd")]
        let mut etcd_servers = Vec::new();
        #[cfg(feature = "etcd")]
        for listen in settings.etcd_listen() {
            let config = ServerConfig { listen: listen.address, ..settings.server() };
            etcd_servers.push((listen, Server::bind(config)?));
        }
        // All are open before any is started: what keeps one from starting is known before another one writes.
        let mut opened = Vec::new();
        for collection in settings.collections() {
            opened.push(OpenCollection::open(&settings, collection.clone()).await?);
        }
        let cursor_key = match given_key {
            Some(given) => given,
            None => cursor_key::own(tokens.as_deref(), &settings)?,
        };
        let (mut served, mut collections) = (Vec::new(), Vec::new());
        for collection in opened {
            let (collection, running) = collection.start(&settings, &cursor_key).await?;
            served.push(collection);
            collections.push(running);
        }
        let shutdown = Shutdown::default();
        let app = App::new(served, shutdown.clone(), settings.app());
        let mut app = app
            .with_hosts(settings.hosts(settings.server().listen), settings.origins())
            .with_base_path(settings.base_path());
        if let Some(clients) = settings.client_table() {
            app = app.with_client_table(clients);
        }
        if let Some(tokens) = tokens {
            reload.add(tokens.clone());
            app = app.with_authorizer(tokens);
        }
        let mut scheme = "http";
        if let Some(tls) = &tls {
            reload.add(tls.clone());
            server = server.with_tls(Arc::clone(tls));
            scheme = "https";
        }
        tokio::spawn(reload.run());
        let feeds: Vec<String> = collections.iter().map(RunningCollection::to_string).collect();
        info!(url = %format!("{scheme}://{}", server.address()), feed = %feeds.join(" "), "listening");
        #[cfg_attr(not(feature = "etcd"), expect(unused_mut, reason = "there is one server"))]
        let mut serving = vec![tokio::spawn(server.run(app.clone()))];
        #[cfg(feature = "etcd")]
        for (listen, server) in etcd_servers {
            let url = format!("{scheme}://{}", server.address());
            let config = EtcdConfig {
                collection: listen.collection.as_ref().map(ToString::to_string),
                serializable: settings.etcd_serializable(),
                member: url.clone(),
                hosts: settings.hosts(listen.address),
                // Clients replace their endpoints by these, so an address that is not theirs is none.
                client_urls: if listen.address.ip().is_unspecified() {
                    Vec::new()
                } else {
                    vec![url.clone()]
                },
            };
            // There is one of every collection that an address names.
            let Some(front) = EtcdFront::new(app.clone(), config) else { continue };
            let server = match &tls {
                Some(tls) => server.with_tls(Arc::clone(tls)),
                None => server,
            };
            info!(%url, "listening for etcd's clients");
            serving.push(tokio::spawn(server.for_etcd(front).run(app.clone())));
        }
        Ok(Self { app, collections, shutdown, serving })
    }

    /// Serves until a signal or until every feed has failed for good. Then drains.
    async fn until_stopped(mut self, mut stop: Stop, drain: Duration) -> Result<(), Failure> {
        let ended = tokio::select! {
            failure = all_failed(&mut self.collections) => Err(failure),
            () = stop.requested() => Ok(()),
        };
        info!(waiters = self.app.waiters(), drain = %humantime::format_duration(drain), "draining");
        self.shutdown.begin(drain);
        let drained = tokio::select! {
            drained = try_join_all(self.serving) => drained.map(drop).map_err(Failure::from),
            () = stop.requested() => {
                warn!("second signal: not waiting for the remaining clients");
                Ok(())
            }
        };
        self.collections.iter().for_each(RunningCollection::stop);
        let saved = async {
            for collection in self.collections {
                collection.stopped().await?;
            }
            Ok::<_, JoinError>(())
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

/// Resolves when the feeds of all collections have failed for good. Until then the collections whose feeds have failed
/// serve their last state.
async fn all_failed(collections: &mut [RunningCollection]) -> Failure {
    let mut running: Vec<&mut RunningCollection> = collections.iter_mut().collect();
    loop {
        let failures = running.iter_mut().map(|collection| Box::pin(collection.failed()));
        let (failure, failed, _) = select_all(failures).await;
        let failed = running.swap_remove(failed);
        if running.is_empty() {
            failed.span().in_scope(|| error!("{failure}"));
            return failure.into();
        }
        failed
            .span()
            .in_scope(|| error!("{failure}; its last state is served, and the other collections go on"));
        failed.serve_without_feed(&failure).await;
    }
}
