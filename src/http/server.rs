//! Connections: accept, serve HTTP/1.1, and let go in time.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::shutdown::Shutdown;

/// After the accept call fails (no file descriptors left, for example), so long until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 4096;

/// What a client hears that did not send the head of a request in time; hyper itself only hangs up.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nCache-Control: no-store\r\n\
    Content-Length: 0\r\n\r\n";

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How long a client may take to send the head of a request.
    pub header_timeout: Duration,
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
        Ok(Self { listener, address, config })
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown begins, then lets every connection finish its request within the
    /// drain window. Returns when the last one is closed or the window is over.
    pub async fn run(self, router: Router, shutdown: Shutdown) {
        let Self { listener, config, .. } = self;
        let mut connections = JoinSet::new();
        let begun = shutdown.begun();
        let mut begun = std::pin::pin!(begun);
        let window = loop {
            tokio::select! {
                biased;
                window = &mut begun => break window,
                // Ended connections are forgotten as they end.
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let serving = serve(stream, peer, router.clone(), shutdown.clone(), config.header_timeout);
                        connections.spawn(serving);
                    }
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

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    shutdown: Shutdown,
    header_timeout: Duration,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let service = TowerToHyperService::new(router);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = Pin::new(&mut connection) => ended,
        _ = shutdown.begun() => {
            Pin::new(&mut connection).graceful_shutdown();
            Pin::new(&mut connection).await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "connection ended");
        if error.is_timeout() {
            let mut stream = connection.into_parts().io.into_inner();
            // The client was too slow, and may well be gone.
            _ = stream.write_all(TOO_SLOW).await;
        }
    }
}
