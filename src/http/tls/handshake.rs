//! From an accepted connection to one that speaks TLS, or a reason why not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use crate::http::rep::problem::Problem;
use crate::http::serve::connection::{self, Shared};
use crate::http::tls::Tls;
use crate::http::tls::identity::Stranger;
use crate::http::tls::stream::Secured;

/// How TLS begins: a record with a handshake.
const HANDSHAKE: u8 = 0x16;

/// How long who was not let in may take to hear it.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a refusal over the budget takes at the least. A handshake is the dear part of a short connection,
/// and with the number of refusals at a time this bounds how many there are in a second.
const REFUSAL: Duration = Duration::from_millis(250);

/// What a connection came to that is not a client.
enum NotMet {
    /// It went away, or never said a word.
    Gone(io::Error),
    /// It speaks HTTP, or something else, without TLS.
    Plain { stream: TcpStream, first: u8 },
    /// They could not agree, or the client has no certificate that is good.
    Failed { stream: TcpStream, error: io::Error },
    /// Its certificate is good, and somebody else's.
    Stranger { stream: Secured, error: Stranger },
}

/// Shakes hands with a client, and serves it.
pub(in super::super) async fn serve(stream: TcpStream, peer: SocketAddr, tls: &Tls, shared: &Shared) {
    // Boxed: a connection that waits holds nothing of its handshake.
    if let Some(stream) = Box::pin(welcome(stream, peer, tls, shared)).await {
        connection::serve(stream, shared).await;
    }
}

/// Shakes hands with a client that there is no room for, and tells it so.
pub(in super::super) async fn refuse(stream: TcpStream, peer: SocketAddr, tls: &Tls, problem: Problem) {
    let begun = Instant::now();
    match timeout(FAREWELL, meet(stream, tls)).await {
        Ok(Ok(stream)) => connection::refuse(stream, problem).await,
        Ok(Err(NotMet::Plain { stream, .. })) => connection::refuse(stream, problem).await,
        Ok(Err(_)) | Err(_) => debug!(%peer, "hung up on a client over the budget"),
    }
    sleep_until(begun + REFUSAL).await;
}

/// Shakes hands within the time that a head may take. Who is not let in hears why.
async fn welcome(stream: TcpStream, peer: SocketAddr, tls: &Tls, shared: &Shared) -> Option<Secured> {
    let met = tokio::select! {
        biased;
        // Nobody has been promised anything yet.
        _ = shared.app.shutdown.begun() => return None,
        met = timeout(shared.config.header_timeout, meet(stream, tls)) => met,
    };
    let not_met = match met {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(not_met)) => not_met,
        Err(_) => {
            shared.app.metrics.handshakes_failed.inc();
            debug!(%peer, "the TLS handshake was not done in time");
            return None;
        }
    };
    shared.app.metrics.handshakes_failed.inc();
    match not_met {
        NotMet::Gone(error) => debug!(%peer, %error, "gone before a TLS handshake"),
        NotMet::Plain { stream, first } => {
            debug!(%peer, "does not speak TLS");
            // A request begins with a method, and methods are capitals.
            if first.is_ascii_uppercase() {
                connection::refuse(stream, without_tls()).await;
            }
        }
        NotMet::Failed { stream, error } => {
            debug!(%peer, %error, "the TLS handshake failed");
            part(stream).await;
        }
        NotMet::Stranger { stream, error } => {
            debug!(%peer, %error, "not let in");
            let problem = Problem::forbidden("unknown-client", error.to_string());
            connection::refuse(stream, problem).await;
        }
    }
    None
}

async fn meet(stream: TcpStream, tls: &Tls) -> Result<Secured, NotMet> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1..) => {}
        Ok(0) => return Err(NotMet::Gone(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => return Err(NotMet::Gone(error)),
    }
    let [first] = first;
    if first != HANDSHAKE {
        return Err(NotMet::Plain { stream, first });
    }
    let Some(newest) = tls.newest() else {
        // It is set when it is made.
        return Err(NotMet::Gone(io::ErrorKind::NotConnected.into()));
    };
    let accepting = TlsAcceptor::from(Arc::clone(&newest.config)).accept(stream).into_fallible();
    let stream = accepting.await.map_err(|(error, stream)| NotMet::Failed { stream, error })?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let known = newest.wanted.check(certificate.map(AsRef::as_ref));
    let stream = Secured::new(stream);
    match known {
        Ok(()) => Ok(stream),
        Err(error) => Err(NotMet::Stranger { stream, error }),
    }
}

/// Ends a connection so that the client reads what was said last: with bytes of its own unread the system would
/// reset it, and the client would never see why.
async fn part(mut stream: TcpStream) {
    let parting = async {
        _ = stream.shutdown().await;
        let mut unread = [0; 1024];
        while let Ok(1..) = stream.read(&mut unread).await {}
    };
    _ = timeout(FAREWELL, parting).await;
}

fn without_tls() -> Problem {
    let detail = "this port speaks TLS only: the address begins with https://";
    Problem::new(StatusCode::BAD_REQUEST, "tls-wanted", detail)
}
