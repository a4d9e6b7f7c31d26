//! A listening socket of whatever kind.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tracing::debug;

use super::address::ListenAddress;
use super::passed::{self, Passed, PassedSocketError};
use super::unix::{self, SocketFile, SocketPathError};

/// The kernel's queue of connections that were not accepted yet.
const BACKLOG: u32 = 4096;

/// Errors of the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}{}", advice(*listen, source))]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The unix socket cannot be made.
    #[error("cannot listen on {listen}: {source}")]
    Unix {
        /// The address.
        listen: ListenAddress,
        /// The reason.
        source: SocketPathError,
    },
    /// Sockets that systemd passes cannot be used.
    #[error("cannot listen on {listen}: {source}")]
    Passed {
        /// The address.
        listen: ListenAddress,
        /// The reason.
        source: PassedSocketError,
    },
}

/// What to do about the system's error, if anything can be said.
fn advice(listen: SocketAddr, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there, so stop it or choose another address",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have the address",
        io::ErrorKind::PermissionDenied if listen.port() < 1024 => {
            "; a port below 1024 needs the right to bind it (CAP_NET_BIND_SERVICE), so choose a higher one"
        }
        _ => "",
    }
}

/// An accepted connection.
pub(in crate::http) enum Accepted {
    /// With the address of the other end; an IPv4 client of an IPv6 socket has its IPv4 address.
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// A socket that listens.
pub(in crate::http) struct Listener {
    socket: Socket,
    address: ListenAddress,
    /// The time after which a client that reads nothing is disconnected, if the system does not do it.
    stall: Option<Duration>,
    /// Removes the file when this is dropped.
    _file: Option<SocketFile>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// The address that it listens on.
    pub(in crate::http) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// The stall timeout, if the system does not enforce it; see [`set_user_timeout`].
    pub(in crate::http) fn stall(&self) -> Option<Duration> {
        self.stall
    }

    /// The next connection.
    pub(in crate::http) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        Poll::Ready(Ok(match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = ready!(listener.poll_accept(cx))?;
                let address = canonical(address);
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(peer = %address, %error, "cannot set TCP_NODELAY");
                }
                Accepted::Tcp(stream, address)
            }
            Socket::Unix(listener) => Accepted::Unix(ready!(listener.poll_accept(cx))?.0),
        }))
    }

    fn tcp(listener: TcpListener, stall: Duration) -> io::Result<Self> {
        let address = ListenAddress::Tcp(listener.local_addr()?);
        let stall = match set_user_timeout(&listener, stall) {
            Ok(()) => None,
            Err(error) => {
                debug!(%error, "TCP_USER_TIMEOUT is not supported; the stall timeout is approximate");
                Some(stall)
            }
        };
        Ok(Self { socket: Socket::Tcp(listener), address, stall, _file: None })
    }

    fn passed(passed: Passed, stall: Duration) -> io::Result<Self> {
        match passed {
            Passed::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Self::tcp(TcpListener::from_std(listener)?, stall)
            }
            Passed::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let path = listener.local_addr()?.as_pathname().unwrap_or("(unnamed)".as_ref()).to_owned();
                let socket = Socket::Unix(UnixListener::from_std(listener)?);
                // systemd removes its file.
                let address = ListenAddress::Unix { path, mode: 0 };
                Ok(Self { socket, address, stall: Some(stall), _file: None })
            }
        }
    }
}

/// The address of a client. One of IPv4 that comes over an IPv6 socket (`::ffff:a.b.c.d`) is that of IPv4.
pub(in crate::http) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(address.ip().to_canonical(), address.port())
        }
        other => other,
    }
}

/// Listens on the address: on one socket, or on those that systemd passes.
pub(in crate::http) fn bind(listen: &ListenAddress, stall: Duration) -> Result<Vec<Listener>, ServeError> {
    match listen {
        ListenAddress::Tcp(address) => {
            let listening = tcp_socket(*address)
                .and_then(|socket| socket.listen(BACKLOG))
                .and_then(|listener| Listener::tcp(listener, stall));
            let listener = listening.map_err(|source| ServeError::Listen { listen: *address, source })?;
            Ok(vec![listener])
        }
        ListenAddress::Unix { path, mode } => {
            let listening = unix::listen(path, *mode, BACKLOG);
            let (listener, file) =
                listening.map_err(|source| ServeError::Unix { listen: listen.clone(), source })?;
            let (socket, address) = (Socket::Unix(listener), listen.clone());
            // There is no such option for a unix socket.
            Ok(vec![Listener { socket, address, stall: Some(stall), _file: Some(file) }])
        }
        ListenAddress::Systemd(name) => {
            let listen_on = |passed| Listener::passed(passed, stall).map_err(PassedSocketError::from);
            passed::take(name.as_deref())
                .and_then(|passed| passed.into_iter().map(listen_on).collect())
                .map_err(|source| ServeError::Passed { listen: listen.clone(), source })
        }
    }
}

/// Checks that the address can be listened on, without listening. Sockets that systemd passes are there at the start only.
pub(crate) fn check(listen: &ListenAddress) -> Result<(), ServeError> {
    match listen {
        ListenAddress::Tcp(address) => {
            tcp_socket(*address).map(drop).map_err(|source| ServeError::Listen { listen: *address, source })
        }
        ListenAddress::Unix { path, .. } => {
            unix::check(path).map_err(|source| ServeError::Unix { listen: listen.clone(), source })
        }
        ListenAddress::Systemd(_) => Ok(()),
    }
}

/// A socket that is bound to the address.
fn tcp_socket(listen: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match listen {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // Not as the system's own setting says: `[::]` takes connections of IPv4 everywhere.
            rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
            socket
        }
    };
    // A restarted daemon gets its address back while old connections are still in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    Ok(socket)
}

/// Sets `TCP_USER_TIMEOUT`, with which the system closes a connection whose client acknowledges nothing for this long.
/// Accepted connections inherit it from the listener.
///
/// Only the system sees each acknowledged byte. To a program, a full socket is writable again only when a third of its
/// send buffer is free, which may be a megabyte: a slow but steady client would seem stalled for minutes.
fn set_user_timeout(listener: &TcpListener, stall: Duration) -> io::Result<()> {
    // 0 would be the system's default of about 15 minutes.
    let stall_ms = u32::try_from(stall.as_millis()).unwrap_or(u32::MAX).max(1);
    #[cfg(target_os = "linux")]
    return Ok(rustix::net::sockopt::set_tcp_user_timeout(listener, stall_ms)?);
    #[cfg(not(target_os = "linux"))]
    return Err(io::ErrorKind::Unsupported.into());
}
