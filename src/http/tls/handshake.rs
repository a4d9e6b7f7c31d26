//! The TLS handshake of an accepted connection, and the answers to clients that fail it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use crate::http::client::Peer;
use crate::http::rep::problem::Problem;
use crate::http::serve::connection::{self, Shared};
use crate::http::serve::linger;
use crate::http::tls::Tls;
use crate::http::tls::connection::TlsConnection;
use crate::http::tls::identity::UnknownClient;

/// The first byte of a TLS connection: the type of a handshake record.
const HANDSHAKE_RECORD: u8 = 0x16;

/// The time limit for the last bytes to a client that failed the handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The shortest time of a refusal over the budget. Handshakes are expensive; together with the limit of concurrent
/// refusals this limits the handshakes per second.
const MIN_REFUSAL_TIME: Duration = Duration::from_millis(250);

/// Errors of a handshake.
enum HandshakeError {
    /// The client disconnected before its first byte.
    Disconnected(io::Error),
    /// The client does not speak TLS.
    NoTls { stream: TcpStream, first: u8 },
    /// The handshake failed: no common parameters, or no certificate of the authority.
    Failed { stream: TcpStream, error: io::Error },
    /// The certificate is valid, but names no allowed client.
    UnknownClient { stream: TlsConnection, error: UnknownClient },
}

/// Does the handshake with a client, and serves it.
pub(in super::super) async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    peer: &Peer,
    tls: &Tls,
    shared: &Shared,
) {
    // Boxed, so that a waiting connection has no space for the handshake.
    if let Some(stream) = Box::pin(handshake(stream, address, tls, shared)).await {
        connection::serve(stream, peer, shared).await;
    }
}

/// Does the handshake with a client over the budget, and answers with the problem.
pub(in super::super) async fn refuse(stream: TcpStream, peer: SocketAddr, tls: &Tls, problem: Problem) {
    let begun = Instant::now();
    match timeout(CLOSE_TIMEOUT, accept(stream, tls)).await {
        Ok(Ok(stream)) => connection::refuse(stream, problem).await,
        Ok(Err(HandshakeError::NoTls { stream, .. })) => connection::refuse(stream, problem).await,
        Ok(Err(_)) | Err(_) => debug!(%peer, "closed a connection over the budget"),
    }
    sleep_until(begun + MIN_REFUSAL_TIME).await;
}

/// Does the handshake within the header timeout. Answers a client that fails it, if possible.
async fn handshake(stream: TcpStream, peer: SocketAddr, tls: &Tls, shared: &Shared) -> Option<TlsConnection> {
    let accepted = tokio::select! {
        biased;
        () = shared.app.shutdown.first_request_is_late() => return None,
        accepted = timeout(shared.config.header_timeout, accept(stream, tls)) => accepted,
    };
    let error = match accepted {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error,
        Err(_) => {
            shared.app.metrics.handshakes_failed.inc();
            debug!(%peer, "the TLS handshake timed out");
            return None;
        }
    };
    shared.app.metrics.handshakes_failed.inc();
    match error {
        HandshakeError::Disconnected(error) => debug!(%peer, %error, "disconnected before the TLS handshake"),
        HandshakeError::NoTls { stream, first } => {
            debug!(%peer, "the client does not speak TLS");
            // A request begins with a method, in capital letters.
            if first.is_ascii_uppercase() {
                connection::refuse(stream, tls_required()).await;
            }
        }
        HandshakeError::Failed { stream, error } => {
            debug!(%peer, %error, "the TLS handshake failed");
            // After a reset the client would not see the TLS alert.
            linger::close(stream, CLOSE_TIMEOUT).await;
        }
        HandshakeError::UnknownClient { stream, error } => {
            debug!(%peer, %error, "unknown client");
            let problem = Problem::forbidden("unknown-client", error.to_string());
            connection::refuse(stream, problem).await;
        }
    }
    None
}

async fn accept(stream: TcpStream, tls: &Tls) -> Result<TlsConnection, HandshakeError> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1..) => {}
        Ok(0) => return Err(HandshakeError::Disconnected(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => return Err(HandshakeError::Disconnected(error)),
    }
    let [first] = first;
    if first != HANDSHAKE_RECORD {
        return Err(HandshakeError::NoTls { stream, first });
    }
    let Some(newest) = tls.newest() else {
        // Unreachable: `Tls::open` sets it.
        return Err(HandshakeError::Disconnected(io::ErrorKind::NotConnected.into()));
    };
    let accepting = TlsAcceptor::from(Arc::clone(&newest.config)).accept(stream).into_fallible();
    let stream = accepting.await.map_err(|(error, stream)| HandshakeError::Failed { stream, error })?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let known = newest.allowed.check(certificate.map(AsRef::as_ref));
    let stream = TlsConnection::new(stream);
    match known {
        Ok(()) => Ok(stream),
        Err(error) => Err(HandshakeError::UnknownClient { stream, error }),
    }
}

fn tls_required() -> Problem {
    let detail = "this port speaks TLS only; use an https:// address";
    Problem::new(StatusCode::BAD_REQUEST, "tls-wanted", detail)
}
