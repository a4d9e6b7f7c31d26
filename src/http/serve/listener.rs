//! The listener: it accepts connections, and drains them on shutdown.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::http::app::App;
#[cfg(feature = "etcd")]
use crate::http::etcd::EtcdFront;
use crate::http::refusals;
use crate::http::serve::connection::{self, Shared};
use crate::http::serve::liveness;
use crate::http::tls::{self, Tls};
use crate::value::Recurring;

/// The default port of a daemon.
pub(crate) const DEFAULT_PORT: u16 = 7811;

/// The pause after a failed accept call, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The kernel's queue of connections that were not accepted yet.
const BACKLOG: u32 = 4096;

/// How many connections over the budget are answered at a time. More are closed without an answer.
const MAX_REFUSALS: usize = 256;

/// The same limit over TLS, where a refusal costs a handshake; see [`tls::refuse`].
const MAX_TLS_REFUSALS: usize = 32;

/// How many of them may be of one address that is over its own share, and over TLS.
const MAX_CLIENT_REFUSALS: usize = 16;
const MAX_CLIENT_TLS_REFUSALS: usize = 2;

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address to listen on; port 0 takes a free port.
    pub listen: SocketAddr,
    /// The time limit for the head of a request.
    pub header_timeout: Duration,
    /// The time limit between two requests on a connection (keep-alive).
    pub idle_timeout: Duration,
    /// The time after which a client that reads nothing of an answer is disconnected.
    pub stall_timeout: Duration,
    /// About the age after which a connection is closed with its next answer.
    pub max_connection_age: Option<Duration>,
    /// Whether the lean front serves long polls and streams. The answers are the same without it.
    pub lean_front: bool,
}

impl Default for ServerConfig {
    /// The settings of `crumbd serve` without flags.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(30),
            max_connection_age: None,
            lean_front: true,
        }
    }
}

/// Errors of the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
}

/// A server with a bound listener.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: ServerConfig,
    /// The stall timeout, if the system does not enforce it; see [`set_user_timeout`].
    stall: Option<Duration>,
    tls: Option<Arc<Tls>>,
    #[cfg(feature = "etcd")]
    etcd: Option<EtcdFront>,
}

impl Server {
    /// A server bound to the configured address.
    ///
    /// # Errors
    /// [`ServeError::Listen`].
    pub fn bind(config: ServerConfig) -> Result<Self, ServeError> {
        let listen = config.listen;
        let bound = listener(listen).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|source| ServeError::Listen { listen, source })?;
        let stall = match set_user_timeout(&listener, config.stall_timeout) {
            Ok(()) => None,
            Err(error) => {
                debug!(%error, "TCP_USER_TIMEOUT is not supported; the stall timeout is approximate");
                Some(config.stall_timeout)
            }
        };
        Ok(Self {
            listener,
            address,
            config,
            stall,
            tls: None,
            #[cfg(feature = "etcd")]
            etcd: None,
        })
    }

    /// The same server for etcd's clients.
    #[cfg(feature = "etcd")]
    pub fn for_etcd(self, front: EtcdFront) -> Self {
        Self { etcd: Some(front), ..self }
    }

    /// The same server over TLS only.
    pub fn with_tls(self, tls: Arc<Tls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Whether it serves the HTTP interface.
    fn is_main(&self) -> bool {
        #[cfg(feature = "etcd")]
        return self.etcd.is_none();
        #[cfg(not(feature = "etcd"))]
        return true;
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown begins. Then connections finish their requests within the drain window. Returns when the
    /// last connection is closed or the window is over.
    pub async fn run(self, app: App) {
        let is_main = self.is_main();
        #[cfg(feature = "etcd")]
        let etcd = self.etcd.clone();
        let Self { listener, config, stall, tls, .. } = self;
        let begun = app.shutdown.clone();
        let mut begun = std::pin::pin!(begun.begun());
        let mut liveness_checks = JoinSet::new();
        for collection in app.collections.iter().filter(|_| is_main) {
            liveness_checks.spawn(liveness::watch(Arc::clone(collection), app.shutdown.clone()));
        }
        if is_main {
            liveness_checks.spawn(refusals::watch(app.clone()));
        }
        let shared = Shared::new(app, config, stall);
        #[cfg(feature = "etcd")]
        let shared = match etcd {
            Some(front) => shared.for_etcd(front),
            None => shared,
        };
        let shared = Arc::new(shared);
        let refusals = Arc::new(Semaphore::new(if tls.is_some() { MAX_TLS_REFUSALS } else { MAX_REFUSALS }));
        let mut connections = JoinSet::new();
        let failing = Recurring::default();
        let window = loop {
            tokio::select! {
                biased;
                window = &mut begun => break window,
                // Removes closed connections from the set.
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(end) = failing.ended() {
                            info!(times = end.times, lasted = %end.lasted(), "connections are accepted again");
                        }
                        accept(stream, peer, &shared, tls.as_ref(), &mut connections, &refusals);
                    }
                    Err(error) => {
                        if let Some(times) = failing.failed(&error.to_string()) {
                            warn!(times, %error, "cannot accept a connection; the limit of open files may be too low (ulimit -n)");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        };
        // Frees the address for a successor.
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(window, drained).await.is_err() {
            warn!(
                connections = connections.len(),
                "the drain window is over; closing the remaining connections"
            );
            connections.shutdown().await;
        }
    }
}

fn listener(listen: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match listen {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    // A restarted daemon gets its address back while old connections are still in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

/// Sets `TCP_USER_TIMEOUT`, with which the system closes a connection whose client acknowledges nothing for this long.
/// Accepted connections inherit it from the listener.
///
/// Only the system sees each acknowledged byte. To a program, a full socket is writable again only when a third of its
/// send buffer is free, which may be a megabyte: a slow but steady client would seem stalled for minutes.
fn set_user_timeout(listener: &TcpListener, stall: Duration) -> std::io::Result<()> {
    // 0 would be the system's default of about 15 minutes.
    let stall_ms = u32::try_from(stall.as_millis()).unwrap_or(u32::MAX).max(1);
    #[cfg(target_os = "linux")]
    return Ok(rustix::net::sockopt::set_tcp_user_timeout(listener, stall_ms)?);
    #[cfg(not(target_os = "linux"))]
    return Err(std::io::ErrorKind::Unsupported.into());
}

fn accept(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    tls: Option<&Arc<Tls>>,
    connections: &mut JoinSet<()>,
    refusals: &Arc<Semaphore>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let shared = Arc::clone(shared);
    match (shared.app.budgets.connection(peer), tls.cloned()) {
        (Ok(connection), tls) => {
            shared.app.metrics.accepted.inc();
            // Two kinds of tasks, so that the future of a connection without TLS has no space for TLS.
            match tls {
                None => connections.spawn(async move {
                    connection::serve(stream, &connection.peer, &shared).await;
                    drop(connection);
                }),
                Some(tls) => connections.spawn(async move {
                    tls::serve(stream, peer, &connection.peer, &tls, &shared).await;
                    drop(connection);
                }),
            };
        }
        (Err(full), tls) => {
            shared.app.metrics.refused.inc();
            let most = if tls.is_some() { MAX_CLIENT_TLS_REFUSALS } else { MAX_CLIENT_REFUSALS };
            // Too many to answer even a refusal.
            let (Some(of_client), Ok(permit)) =
                (full.refusing(most), Arc::clone(refusals).try_acquire_owned())
            else {
                return;
            };
            connections.spawn(async move {
                let problem = shared.app.budgets.too_many_connections(&full);
                match tls {
                    None => connection::refuse(stream, problem).await,
                    Some(tls) => Box::pin(tls::refuse(stream, peer, &tls, problem)).await,
                }
                drop((permit, of_client));
            });
        }
    }
}
