//! Accepting connections, and letting go of them in time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::http::app::App;
use crate::http::serve::connection::{self, Shared};
use crate::http::serve::liveness;
use crate::http::tls::{self, Tls};

/// After the accept call fails (no file descriptors left, for example), so long until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 4096;

/// Connections over the budget that are told so at a time; more are hung up on.
const REFUSALS: usize = 256;

/// The same where each costs a handshake; see [`tls::refuse`].
const TLS_REFUSALS: usize = 32;

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How long a client may take to send the head of a request.
    pub header_timeout: Duration,
    /// How long a connection may rest between two requests.
    pub idle_timeout: Duration,
    /// How long a client may take none of the bytes of an answer.
    pub stall_timeout: Duration,
    /// How long a connection may live, about: its next answer after that is its last.
    pub max_connection_age: Option<Duration>,
    /// Whether long polls wait outside of the HTTP framework, which is the same and cheaper.
    pub lean_front: bool,
}

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A bound listener.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: ServerConfig,
    /// See [`cut_by_the_system`].
    stall: Option<Duration>,
    tls: Option<Arc<Tls>>,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// [`ServeError::Listen`].
    pub fn bind(config: ServerConfig) -> Result<Self, ServeError> {
        let listen = config.listen;
        let bound = listener(listen).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|source| ServeError::Listen { listen, source })?;
        let stall = match cut_by_the_system(&listener, config.stall_timeout) {
            Ok(()) => None,
            Err(error) => {
                debug!(%error, "the system does not cut who takes nothing; that is done here");
                Some(config.stall_timeout)
            }
        };
        Ok(Self { listener, address, config, stall, tls: None })
    }

    /// The same, over TLS only.
    pub fn secured_by(self, tls: Arc<Tls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the app's shutdown begins, then lets every connection finish its request within
    /// the drain window. Returns when the last one is closed or the window is over.
    pub async fn run(self, app: App) {
        let Self { listener, config, stall, tls, .. } = self;
        let begun = app.shutdown.clone();
        let mut begun = std::pin::pin!(begun.begun());
        let mut watching = JoinSet::new();
        for collection in app.collections.iter() {
            watching.spawn(liveness::watch(Arc::clone(collection), app.shutdown.clone()));
        }
        let shared = Arc::new(Shared::new(app, config, stall));
        let refusals = Arc::new(Semaphore::new(if tls.is_some() { TLS_REFUSALS } else { REFUSALS }));
        let mut connections = JoinSet::new();
        let window = loop {
            tokio::select! {
                biased;
                window = &mut begun => break window,
                // Ended connections are forgotten as they end.
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => accept(stream, peer, &shared, tls.as_ref(), &mut connections, &refusals),
                    Err(error) => {
                        warn!(%error, "cannot accept a connection; is the limit of open files too low (ulimit -n)?");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        };
        // Nobody new: the address is free for a successor.
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(window, drained).await.is_err() {
            warn!(
                connections = connections.len(),
                "the drain window is over: cutting the connections that are left"
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
    // A restarted daemon must get its address back although old connections linger in the kernel.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

/// Has the system cut every accepted connection whose client takes nothing for so long.
///
/// Only the system sees each byte that a client takes. Seen from here, a socket takes no more until a
/// third of its send buffer is free again, which is a megabyte and more: somebody slow but steady would
/// look as if they took nothing for minutes. Connections have the listener's setting.
fn cut_by_the_system(listener: &TcpListener, stall: Duration) -> std::io::Result<()> {
    // 0 would be the system's own idea, some 15 minutes.
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
    match (shared.app.budgets.connection(), tls.cloned()) {
        (Some(permit), tls) => {
            shared.app.metrics.accepted.inc();
            // One task or the other, so that a plain connection that waits has no room for TLS.
            match tls {
                None => connections.spawn(async move {
                    connection::serve(stream, &shared).await;
                    drop(permit);
                }),
                Some(tls) => connections.spawn(async move {
                    tls::serve(stream, peer, &tls, &shared).await;
                    drop(permit);
                }),
            };
        }
        (None, tls) => {
            shared.app.metrics.refused.inc();
            // Without a permit this is one of too many even to be told so.
            let Ok(permit) = Arc::clone(refusals).try_acquire_owned() else { return };
            connections.spawn(async move {
                let problem = shared.app.budgets.no_connection();
                match tls {
                    None => connection::refuse(stream, problem).await,
                    Some(tls) => Box::pin(tls::refuse(stream, peer, &tls, problem)).await,
                }
                drop(permit);
            });
        }
    }
}
