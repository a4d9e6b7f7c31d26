//! A daemon that serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{select_all, try_join_all};
use tokio::task::JoinHandle;
use tracing::{error, info};

use super::collection::{OpenCollection, RunningCollection};
use super::{DaemonBuilder, DaemonConfig, DaemonError, Hosts};
use crate::cache::Reader;
#[cfg(feature = "etcd")]
use crate::http::etcd::{EtcdConfig, EtcdFront};
use crate::http::{App, ListenAddress, Reload, Reloadable, Server, Shutdown, default_address};
use crate::model::CursorKey;

/// A daemon that listens, and serves nothing yet.
pub(crate) struct OpenDaemon {
    config: DaemonConfig,
    server: Server,
    /// That for operators, with the names under which it answers.
    admin: Option<(Server, Hosts)>,
    #[cfg(feature = "etcd")]
    etcd_servers: Vec<(super::EtcdListener, Server)>,
}

impl OpenDaemon {
    /// Listens. Connections wait until the daemon is started.
    ///
    /// # Errors
    /// [`DaemonError::Serve`].
    pub(crate) fn listen(mut config: DaemonConfig) -> Result<Self, DaemonError> {
        if config.listen.is_empty() {
            config.listen.push(default_address());
        }
        let mut server = Server::bind(&config.listen, config.server.clone())?;
        let mut admin = None;
        if !config.admin_listen.is_empty() {
            server = server.for_clients();
            let operators = Server::bind(&config.admin_listen, config.server.clone())?.for_operators();
            admin = Some((operators, config.hosts.clone()));
        }
        #[cfg(feature = "etcd")]
        let etcd_servers = std::mem::take(&mut config.etcd)
            .into_iter()
            .map(|listener| {
                let server = Server::bind(&[listener.address.into()], config.server.clone())?;
                Ok((listener, server))
            })
            .collect::<Result<_, DaemonError>>()?;
        Ok(Self {
            config,
            server,
            admin,
            #[cfg(feature = "etcd")]
            etcd_servers,
        })
    }

    /// The same daemon, answering to the names that `hosts` gives: it is told whether only this machine reaches
    /// the address.
    #[cfg(feature = "cli")]
    pub(crate) fn answering_to(mut self, hosts: impl Fn(bool) -> Hosts) -> Self {
        self.config.hosts = hosts(self.server.is_local());
        self.admin = self.admin.map(|(server, _)| {
            let hosts = hosts(server.is_local());
            (server, hosts)
        });
        self
    }

    /// Restores what was stored, and starts feeds and listeners. All collections are open by now, so that what keeps one
    /// from starting is known before another one writes.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub(crate) async fn start(
        self,
        collections: Vec<OpenCollection>,
        cursor_key: &CursorKey,
        reload: Option<Reload>,
    ) -> Result<Daemon, DaemonError> {
        let (mut served, mut running) = (Vec::new(), Vec::new());
        for collection in collections {
            let (collection, tasks) = collection.start(cursor_key).await?;
            served.push(collection);
            running.push(tasks);
        }
        let Self { config, server, admin, .. } = self;
        let shutdown = Shutdown::default();
        let mut app = App::new(served, shutdown.clone(), config.app)
            .with_hosts(config.hosts, config.origins.clone())
            .with_base_path(&config.base_path);
        if let Some(clients) = config.client_table {
            app = app.with_client_table(clients);
        }
        if let Some(routes) = config.routes {
            app = app.with_routes(routes);
        }
        if let Some(spans) = config.request_spans {
            app = app.with_request_spans(spans);
        }
        if let Some(log_lines) = config.log_lines {
            app = app.with_log_lines(log_lines);
        }
        let mut files: Vec<Arc<dyn Reloadable>> = Vec::new();
        if let Some(tokens) = config.tokens {
            files.push(tokens.clone());
            app = app.with_authorizer(tokens);
        }
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        if let Some(tls) = &config.tls {
            files.push(tls.clone());
        }
        let over_tls = |server: Server| match &config.tls {
            Some(tls) => server.with_tls(Arc::clone(tls)),
            None => server,
        };
        if let Some(mut reload) = reload {
            files.iter().for_each(|files| reload.add(Arc::clone(files)));
            tokio::spawn(reload.run());
        }
        let app = app.with_files(files);
        let addresses: Vec<ListenAddress> = server.addresses().cloned().collect();
        let address = server.address();
        let feeds: Vec<String> = running.iter().map(RunningCollection::to_string).collect();
        for listening in &addresses {
            info!(url = %listening.url(scheme), feed = %feeds.join(" "), "listening");
        }
        let mut serving = vec![tokio::spawn(over_tls(server).run(app.clone()))];
        if let Some((server, hosts)) = admin {
            for listening in server.addresses() {
                info!(url = %listening.url(scheme), "listening for operators");
            }
            let app = app.clone().with_hosts(hosts, config.origins);
            serving.push(tokio::spawn(over_tls(server).run(app)));
        }
        #[cfg(feature = "etcd")]
        for (listener, server) in self.etcd_servers {
            let url = format!("{scheme}://{}", server.address());
            let Some(front) = EtcdFront::new(app.clone(), etcd_config(listener, &url)) else {
                // There is one of every collection that an address names.
                continue;
            };
            info!(%url, "listening for etcd's clients");
            serving.push(tokio::spawn(over_tls(server).for_etcd(front).run(app.clone())));
        }
        Ok(Daemon { app, addresses, address, collections: running, shutdown, serving })
    }
}

#[cfg(feature = "etcd")]
fn etcd_config(listener: super::EtcdListener, url: &str) -> EtcdConfig {
    let super::EtcdListener { collection, address, serializable, hosts } = listener;
    // Clients replace their endpoints by these, so an address that is not theirs is none.
    let client_urls = if address.ip().is_unspecified() { Vec::new() } else { vec![url.to_owned()] };
    EtcdConfig { collection, serializable, member: url.to_owned(), hosts, client_urls }
}

/// A daemon that serves. When it is dropped, its tasks go on; [`Daemon::stop`] ends them.
pub struct Daemon {
    app: App,
    addresses: Vec<ListenAddress>,
    address: SocketAddr,
    collections: Vec<RunningCollection>,
    shutdown: Shutdown,
    serving: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// A daemon of a program's own.
    pub fn builder() -> DaemonBuilder {
        DaemonBuilder::default()
    }

    /// The address that it listens on: the first one of TCP, or `0.0.0.0:0` if there is none.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All addresses that it listens on.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// How many requests are waiting for a breadcrumb.
    pub fn waiters(&self) -> usize {
        self.app.waiters()
    }

    /// The application that is served.
    #[cfg(feature = "cli")]
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// What reads the cache of a collection in this process, `None` for the default one.
    pub fn reader(&self, collection: Option<&str>) -> Option<Reader> {
        let is_wanted = |one: &&RunningCollection| one.name().map(|name| name.as_str()) == collection;
        self.collections.iter().find(is_wanted).map(RunningCollection::reader)
    }

    /// Serves until `stop` resolves, then drains for at most this time, and saves the state.
    ///
    /// # Errors
    /// As [`Daemon::failed`].
    pub async fn run_until(
        mut self,
        stop: impl Future<Output = ()>,
        drain: Duration,
    ) -> Result<(), DaemonError> {
        let ended = tokio::select! {
            failure = self.failed() => Err(failure),
            () = stop => Ok(()),
        };
        self.drain(drain).await?;
        self.stop().await?;
        ended
    }

    /// Resolves when the feeds of all collections have failed for good. Until then the collections whose feeds have
    /// failed serve their last state. A feed that has only ended, as a file does, has not failed.
    pub async fn failed(&mut self) -> DaemonError {
        let mut running: Vec<&mut RunningCollection> = self.collections.iter_mut().collect();
        loop {
            let failures = running.iter_mut().map(|collection| Box::pin(collection.failed()));
            let (failure, failed, _) = select_all(failures).await;
            let failed = running.swap_remove(failed);
            if running.is_empty() {
                failed
                    .span()
                    .in_scope(|| error!("the feed has failed for good, and the daemon ends: {failure}"));
                return failure;
            }
            failed
                .span()
                .in_scope(|| error!("the feed has failed for good: {failure}; its last state is served, and the other collections go on"));
            failed.serve_without_feed(&failure).await;
        }
    }

    /// Takes no more connections, answers those who wait within this time, and resolves when all have gone.
    ///
    /// # Errors
    /// [`DaemonError::Crashed`].
    pub async fn drain(&mut self, window: Duration) -> Result<(), DaemonError> {
        info!(waiters = self.waiters(), drain = %humantime::format_duration(window), "draining");
        self.shutdown.begin(window);
        try_join_all(std::mem::take(&mut self.serving)).await?;
        Ok(())
    }

    /// Takes no more updates; resolves when what was taken is applied and saved.
    ///
    /// # Errors
    /// [`DaemonError::Crashed`].
    pub async fn stop(self) -> Result<(), DaemonError> {
        self.collections.iter().for_each(RunningCollection::stop);
        for collection in self.collections {
            collection.stopped().await?;
        }
        Ok(())
    }
}
