//! The address of a listener, as it is written in a setting.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenAddress {
    /// An IP address and port. Port 0 takes a free port. `[::]` takes connections of IPv4, too.
    Tcp(SocketAddr),
}

/// A text that is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenAddressError {
    /// It has no known form.
    #[error("no address and port, such as 127.0.0.1:7811 or [::]:7811; a name is not looked up")]
    Unknown,
}

impl ListenAddress {
    /// Where it is, as in a log line: a URL, or the address itself.
    pub(crate) fn url(&self, scheme: &str) -> String {
        match self {
            Self::Tcp(address) => format!("{scheme}://{address}"),
        }
    }

    /// Whether only this machine reaches it, as far as the address tells.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        text.parse().map(Self::Tcp).map_err(|_| ListenAddressError::Unknown)
    }
}
