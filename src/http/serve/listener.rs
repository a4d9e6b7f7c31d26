//! The server: it accepts the connections of its listeners, and drains them on shutdown.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::http::app::App;
use crate::http::budget::NoRoom;
use crate::http::client::Refusing;
#[cfg(feature = "etcd")]
use crate::http::etcd::EtcdFront;
use crate::http::refusals;
use crate::http::serve::audience::Audience;
use crate::http::serve::connection::{self, Shared};
use crate::http::serve::listen::{Accepted, ListenAddress, Listener, ServeError, bind};
use crate::http::serve::liveness;
use crate::http::serve::proxy_protocol::{Proxies, client_address};
use crate::http::tls::{self, Tls};
use crate::value::Recurring;

/// The default port of a daemon.
pub(crate) const DEFAULT_PORT: u16 = 7811;

/// The pause after a failed accept call, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections over the budget are answered at a time. More are closed without an answer.
const MAX_REFUSALS: usize = 256;

/// The same limit over TLS, where a refusal costs a handshake; see [`tls::refuse`].
const MAX_TLS_REFUSALS: usize = 32;

/// The time limit for a proxy's header on a connection over the budget.
const REFUSAL_HEADER_TIMEOUT: Duration = Duration::from_secs(1);

/// How many of them may be of one address that is over its own share, and over TLS.
const MAX_CLIENT_REFUSALS: usize = 16;
const MAX_CLIENT_TLS_REFUSALS: usize = 2;

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The time limit for the head of a request.
    pub header_timeout: Duration,
    /// The time limit between two requests on a connection (keep-alive).
    pub idle_timeout: Duration,
    /// The time after which a client that reads nothing of an answer is disconnected.
    pub stall_timeout: Duration,
    /// About the age after which a connection is closed with its next answer.
    pub max_connection_age: Option<Duration>,
    /// The proxies whose connections begin with a header of the PROXY protocol, version 2. Not for unix sockets.
    pub proxies: Proxies,
    /// Whether the lean front serves long polls and streams. The answers are the same without it.
    pub lean_front: bool,
}

impl Default for ServerConfig {
    /// The settings of `crumbd serve` without flags.
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(30),
            max_connection_age: None,
            proxies: Proxies::default(),
            lean_front: true,
        }
    }
}

/// The address of a daemon that was given none: port 7811 of the loopback address.
pub(crate) fn default_address() -> ListenAddress {
    SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)).into()
}

/// A server with bound listeners, all of which serve the same.
pub struct Server {
    listeners: Vec<Listener>,
    config: ServerConfig,
    tls: Option<Arc<Tls>>,
    audience: Audience,
}

impl Server {
    /// A server bound to these addresses.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn bind(addresses: &[ListenAddress], config: ServerConfig) -> Result<Self, ServeError> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for address in addresses {
            listeners.append(&mut bind(address, config.stall_timeout)?);
        }
        Ok(Self { listeners, config, tls: None, audience: Audience::Everybody })
    }

    /// The same server for etcd's clients.
    #[cfg(feature = "etcd")]
    pub fn for_etcd(self, front: EtcdFront) -> Self {
        Self { audience: Audience::Etcd(front), ..self }
    }

    /// The same server for clients: what is for operators is served elsewhere.
    #[must_use]
    pub fn for_clients(self) -> Self {
        Self { audience: Audience::Clients, ..self }
    }

    /// The same server for operators: it serves everything, and a few connections have a place even when the others
    /// have used theirs up.
    #[must_use]
    pub fn for_operators(self) -> Self {
        Self { audience: Audience::Operators, ..self }
    }

    /// The same server over TLS only, but for unix sockets.
    pub fn with_tls(self, tls: Arc<Tls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The bound addresses.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.listeners.iter().map(Listener::address)
    }

    /// The first bound address of TCP; `0.0.0.0:0` if there is none.
    pub fn address(&self) -> SocketAddr {
        let tcp = self.addresses().find_map(|address| match address {
            ListenAddress::Tcp(address) => Some(*address),
            _ => None,
        });
        tcp.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into())
    }

    /// Whether only this machine reaches it.
    pub(crate) fn is_local(&self) -> bool {
        self.addresses().all(ListenAddress::is_local)
    }

    /// Serves until the shutdown begins. Then connections finish their requests within the drain window. Returns when the
    /// last connection is closed or the window is over.
    pub async fn run(self, app: App) {
        let Self { listeners, config, tls, audience } = self;
        let begun = app.shutdown.clone();
        let mut begun = std::pin::pin!(begun.begun());
        let mut liveness_checks = JoinSet::new();
        for collection in app.collections.iter().filter(|_| audience.is_main()) {
            liveness_checks.spawn(liveness::watch(Arc::clone(collection), app.shutdown.clone()));
        }
        if audience.is_main() {
            liveness_checks.spawn(refusals::watch(app.clone()));
        }
        let front = |listener: Listener| {
            let shared = Shared::new(app.clone(), config.clone(), listener.stall(), audience.clone());
            Front { listener, shared: Arc::new(shared), tls: tls.clone() }
        };
        let fronts: Vec<Front> = listeners.into_iter().map(front).collect();
        let mut turn = 0;
        let refusals = Arc::new(Semaphore::new(if tls.is_some() { MAX_TLS_REFUSALS } else { MAX_REFUSALS }));
        let mut connections = JoinSet::new();
        let failing = Recurring::default();
        let window = loop {
            tokio::select! {
                biased;
                window = &mut begun => break window,
                // Removes closed connections from the set.
                Some(_) = connections.join_next() => {}
                (front, accepted) = poll_fn(|cx| poll_accept(&fronts, &mut turn, cx)) => match accepted {
                    Ok(accepted) => {
                        if let Some(end) = failing.ended() {
                            info!(times = end.times, lasted = %end.lasted(), "connections are accepted again");
                        }
                        accept(accepted, front, &mut connections, &refusals);
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
        // Frees the addresses for a successor.
        drop(fronts);
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

/// A listener, and what its connections share.
struct Front {
    listener: Listener,
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
}

/// The next connection of any listener. `turn` is the listener that is asked first, so that none has to wait for another
/// one's clients.
fn poll_accept<'a>(
    fronts: &'a [Front],
    turn: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<(&'a Front, io::Result<Accepted>)> {
    let (before, from) = fronts.split_at(*turn % fronts.len().max(1));
    for front in from.iter().chain(before) {
        *turn = (*turn + 1) % fronts.len();
        if let Poll::Ready(accepted) = front.listener.poll_accept(cx) {
            return Poll::Ready((front, accepted));
        }
    }
    Poll::Pending
}

fn accept(accepted: Accepted, front: &Front, connections: &mut JoinSet<()>, refusals: &Arc<Semaphore>) {
    let (shared, tls, refusals) = (Arc::clone(&front.shared), front.tls.clone(), Arc::clone(refusals));
    let budgets = &shared.app.budgets;
    // A client over its share takes no place among all connections. Of a client behind a proxy the address is not known yet.
    let peer = match &accepted {
        Accepted::Tcp(_, from) if shared.config.proxies.contain(from.ip()) => None,
        Accepted::Tcp(_, from) => Some(budgets.connected(Some(*from), shared.audience.has_reserve())),
        Accepted::Unix(_) => Some(budgets.connected(None, shared.audience.has_reserve())),
    };
    let peer = match peer.transpose() {
        Ok(peer) => peer,
        Err(full) => {
            shared.app.metrics.refused.inc();
            let Some(places) = refusal_places(&full, tls.is_some(), refusals) else { return };
            connections.spawn(async move {
                refuse(accepted, tls, &full, &shared).await;
                drop(places);
            });
            return;
        }
    };
    let Some(permit) = budgets.connection(shared.audience.has_reserve()) else {
        shared.app.metrics.refused.inc();
        let Some(places) = refusal_places(&NoRoom::ForAll, tls.is_some(), refusals) else { return };
        connections.spawn(async move {
            refuse(accepted, tls, &NoRoom::ForAll, &shared).await;
            drop(places);
        });
        return;
    };
    // Tasks of several kinds, so that the future of a connection has no space for what it does not need.
    match (accepted, peer, tls) {
        (Accepted::Unix(stream), Some(peer), _) => connections.spawn(async move {
            shared.app.metrics.accepted.inc();
            connection::serve(stream, &peer, &shared).await;
            drop(permit);
        }),
        (Accepted::Tcp(stream, _), Some(peer), None) => connections.spawn(async move {
            shared.app.metrics.accepted.inc();
            connection::serve(stream, &peer, &shared).await;
            drop(permit);
        }),
        (Accepted::Tcp(stream, from), Some(peer), Some(tls)) => connections.spawn(async move {
            shared.app.metrics.accepted.inc();
            tls::serve(stream, from, &peer, &tls, &shared).await;
            drop(permit);
        }),
        (Accepted::Tcp(stream, from), None, tls) => connections.spawn(async move {
            Box::pin(serve_behind_proxy(stream, from, tls, &shared, refusals)).await;
            drop(permit);
        }),
        // The peer of a unix socket is always known.
        (Accepted::Unix(_), None, _) => return,
    };
}

/// Serves a connection from a proxy, which says first whose connection it is.
async fn serve_behind_proxy(
    mut stream: TcpStream,
    from: SocketAddr,
    tls: Option<Arc<Tls>>,
    shared: &Shared,
    refusals: Arc<Semaphore>,
) {
    let Some(address) = client_address(&mut stream, from, shared).await else { return };
    match shared.app.budgets.connected(Some(address), shared.audience.has_reserve()) {
        Ok(peer) => {
            shared.app.metrics.accepted.inc();
            match tls {
                None => connection::serve(stream, &peer, shared).await,
                Some(tls) => tls::serve(stream, address, &peer, &tls, shared).await,
            }
        }
        Err(full) => {
            shared.app.metrics.refused.inc();
            if let Some(_places) = refusal_places(&full, tls.is_some(), refusals) {
                refuse_tcp(stream, address, tls, &full, shared).await;
            }
        }
    }
}

/// The places of a connection that is refused: among those of its client, and among all. `None` if there are too many to
/// answer even a refusal.
fn refusal_places(
    full: &NoRoom,
    is_tls: bool,
    refusals: Arc<Semaphore>,
) -> Option<(Option<Refusing>, OwnedSemaphorePermit)> {
    let most = if is_tls { MAX_CLIENT_TLS_REFUSALS } else { MAX_CLIENT_REFUSALS };
    Some((full.refusing(most)?, refusals.try_acquire_owned().ok()?))
}

/// Answers a client over a limit of connections.
async fn refuse(accepted: Accepted, tls: Option<Arc<Tls>>, full: &NoRoom, shared: &Shared) {
    match accepted {
        Accepted::Unix(stream) => {
            connection::refuse(stream, shared.app.budgets.too_many_connections(full)).await;
        }
        Accepted::Tcp(mut stream, from) => {
            let address = timeout(REFUSAL_HEADER_TIMEOUT, client_address(&mut stream, from, shared)).await;
            if let Ok(Some(address)) = address {
                refuse_tcp(stream, address, tls, full, shared).await;
            }
        }
    }
}

async fn refuse_tcp(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    full: &NoRoom,
    shared: &Shared,
) {
    let problem = shared.app.budgets.too_many_connections(full);
    match tls {
        None => connection::refuse(stream, problem).await,
        Some(tls) => Box::pin(tls::refuse(stream, address, &tls, problem)).await,
    }
}
