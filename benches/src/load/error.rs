//! Why a load cannot be made, or what went wrong in it.

use std::net::SocketAddr;
use std::time::Duration;

use crumbd::client::ClientError;

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The address is none.
    #[error("{url:?} is not the address of a daemon: {reason}; it looks like http://127.0.0.1:7811")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token cannot be one.
    #[error(
        "the token holds something that is no visible ASCII, or nothing at all; it is one line as `crumbd token` printed it"
    )]
    Token,
    /// A certificate or a key cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The two do not trust each other, or one of them speaks no TLS.
    #[error("no TLS with {authority}: {reason}")]
    Tls {
        /// The server.
        authority: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The server was not reached.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// No free local port.
    #[error(
        "no local port is left to connect to {address} with: fewer clients, a wider \
         net.ipv4.ip_local_port_range, or several machines"
    )]
    Ports {
        /// The server.
        address: SocketAddr,
    },
    /// Too few files may be open.
    #[error(
        "{needed} open files are needed and {limit} are allowed: raise the limit (ulimit -n {needed}, or \
         LimitNOFILE= of a service) here, and for the daemon too"
    )]
    OpenFiles {
        /// One per connection, and some.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
    /// The connection broke.
    #[error("the connection to the server broke: {0}")]
    Broken(#[from] std::io::Error),
    /// The server hung up before it had answered.
    #[error("the server closed the connection before it had answered")]
    Closed,
    /// The answer cannot be read.
    #[error("the server's answer cannot be read: {0}")]
    Answer(String),
    /// The server said no.
    #[error("the server refused {what}: {status} {detail}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// The beginning of the body.
        detail: String,
    },
    /// Something did not happen in time.
    #[error("not within {} s: {what}", after.as_secs_f64())]
    Late {
        /// What was awaited.
        what: String,
        /// The deadline.
        after: Duration,
    },
    /// Clients gave up.
    #[error("{count} clients have failed; the first: {first}")]
    Clients {
        /// How many.
        count: u64,
        /// Why the first did.
        first: String,
    },
}
