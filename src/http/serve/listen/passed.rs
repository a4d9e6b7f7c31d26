//! Sockets that systemd passes to the daemon (socket activation).
//!
//! systemd listens, and passes its sockets when it starts the daemon: their number in `LISTEN_FDS`, the process that they
//! are for in `LISTEN_PID`, and their names in `LISTEN_FDNAMES`. systemd keeps them open when the daemon ends. So
//! connections that come while the daemon is restarted wait in the kernel, and its successor answers them.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::sync::LazyLock;

use listenfd::ListenFd;
use parking_lot::Mutex;
use rustix::net::sockopt::socket_acceptconn;

/// The sockets of this process. They are passed once.
static PASSED: LazyLock<Mutex<PassedSockets>> = LazyLock::new(|| Mutex::new(PassedSockets::receive()));

/// The name of a socket for which none is said.
const UNKNOWN_NAME: &str = "unknown";

/// Why sockets that systemd passes cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassedSocketError {
    /// None were passed.
    #[error("no sockets were passed; a daemon gets them from systemd, by a .socket unit of its name")]
    None,
    /// None has the name.
    #[error("no socket with this name was passed; there are {}", .0.join(", "))]
    UnknownName(Vec<String>),
    /// They are in use already.
    #[error("its sockets are in use already; each can be given once")]
    Taken,
    /// One accepts no connections.
    #[error(
        "the socket {0} is no stream socket that listens; the .socket unit needs ListenStream= and Accept=no"
    )]
    NoListener(String),
    /// The system refuses to use one.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// A passed socket.
pub(super) enum Passed {
    Tcp(TcpListener),
    Unix(UnixListener),
}

struct PassedSockets {
    sockets: ListenFd,
    /// The name of each.
    names: Vec<String>,
}

impl PassedSockets {
    fn receive() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let sockets = ListenFd::from_env();
        let mut names: Vec<String> =
            names.split(':').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        names.resize(sockets.len(), UNKNOWN_NAME.to_owned());
        Self { sockets, names }
    }

    fn take(&mut self, wanted: Option<&str>) -> Result<Vec<Passed>, PassedSocketError> {
        if self.names.is_empty() {
            return Err(PassedSocketError::None);
        }
        let is_wanted = |name: &String| wanted.is_none_or(|wanted| wanted == name);
        let wanted: Vec<usize> = (0..self.names.len()).filter(|at| is_wanted(&self.names[*at])).collect();
        if wanted.is_empty() {
            return Err(PassedSocketError::UnknownName(self.names.clone()));
        }
        wanted.into_iter().map(|at| self.take_at(at)).collect()
    }

    fn take_at(&mut self, at: usize) -> Result<Passed, PassedSocketError> {
        let no_listener = || PassedSocketError::NoListener(self.names[at].clone());
        // A socket of another family is left at its place.
        let taken = match self.sockets.take_tcp_listener(at) {
            Ok(tcp) => tcp.map(Passed::Tcp),
            Err(_) => self.sockets.take_unix_listener(at).map_err(|_| no_listener())?.map(Passed::Unix),
        };
        let taken = taken.ok_or(PassedSocketError::Taken)?;
        let socket = match &taken {
            Passed::Tcp(listener) => listener.as_fd(),
            Passed::Unix(listener) => listener.as_fd(),
        };
        // One connection of an inetd service is a stream socket, too.
        match socket_acceptconn(socket) {
            Ok(true) => Ok(taken),
            _ => Err(no_listener()),
        }
    }
}

/// Takes the sockets with this name, or all.
pub(super) fn take(name: Option<&str>) -> Result<Vec<Passed>, PassedSocketError> {
    PASSED.lock().take(name)
}
