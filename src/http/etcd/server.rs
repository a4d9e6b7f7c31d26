//! The listener of etcd's clients.

use std::convert::Infallible;
use std::net::SocketAddr;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tracing::{debug, warn};

use super::EtcdFront;

/// A bound listener of etcd's clients.
pub struct EtcdServer {
    listener: TcpListener,
    front: EtcdFront,
}

impl EtcdServer {
    /// Listens on this address.
    ///
    /// # Errors
    /// That of the system.
    pub async fn bind(listen: SocketAddr, front: EtcdFront) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(listen).await?, front })
    }

    /// The bound address.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves.
    pub async fn run(self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let front = self.front.clone();
                    _ = stream.set_nodelay(true);
                    let peer = front.app().budgets.peer(address);
                    tokio::spawn(async move {
                        let service = service_fn(move |request| {
                            let (front, peer) = (front.clone(), peer.clone());
                            async move { Ok::<_, Infallible>(front.answer(peer, request).await) }
                        });
                        let served = http2::Builder::new(TokioExecutor::new())
                            .timer(TokioTimer::new())
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                        if let Err(error) = served {
                            debug!(?error, "a connection of an etcd client ended");
                        }
                    });
                }
                Err(error) => warn!(%error, "cannot accept"),
            }
        }
    }
}
