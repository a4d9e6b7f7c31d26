//! The address of a listener, as it is written in a setting.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The permissions of a unix socket for which none are given: its owner and group may connect.
const DEFAULT_MODE: u32 = 0o660;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenAddress {
    /// An IP address and port. Port 0 takes a free port. `[::]` takes connections of IPv4, too.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Its permissions, such as `0o660`.
        mode: u32,
    },
    /// Sockets that systemd passes: those with this name (`FileDescriptorName=`), or all.
    Systemd(Option<String>),
}

/// A text that is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenAddressError {
    /// It has no known form.
    #[error(
        "no address and port, such as 127.0.0.1:7811 or [::]:7811; a name is not looked up. unix:/PATH is a unix socket, and \
         systemd: stands for the sockets that systemd passes"
    )]
    Unknown,
    /// The path of a unix socket does not begin with a slash.
    #[error("no unix socket: its path has to begin with a slash, as in unix:/run/crumbd/crumbd.sock")]
    RelativePath,
    /// The mode is no octal number.
    #[error(
        "no unix socket: what follows the question mark has to be a mode in octal digits, as in ?mode=0660"
    )]
    Mode,
}

impl ListenAddress {
    /// Where it is, as in a log line: a URL, or the address itself.
    pub(crate) fn url(&self, scheme: &str) -> String {
        match self {
            Self::Tcp(address) => format!("{scheme}://{address}"),
            other => other.to_string(),
        }
    }

    /// Whether only this machine reaches it, as far as the address tells.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => true,
            Self::Systemd(_) => false,
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
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{}", name.as_deref().unwrap_or_default()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        if let Some(name) = text.strip_prefix("systemd:") {
            return Ok(Self::Systemd((!name.is_empty()).then(|| name.to_owned())));
        }
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| ListenAddressError::Unknown);
        };
        let (path, mode) = match path.split_once('?') {
            Some((path, option)) => (path, mode(option).ok_or(ListenAddressError::Mode)?),
            None => (path, DEFAULT_MODE),
        };
        match path.starts_with('/') {
            true => Ok(Self::Unix { path: PathBuf::from(path), mode }),
            false => Err(ListenAddressError::RelativePath),
        }
    }
}

fn mode(option: &str) -> Option<u32> {
    let digits = option.strip_prefix("mode=")?;
    // A sign is no digit.
    let is_octal = digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= 0o777)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    #[test]
    fn an_address_is_a_socket_address_a_path_or_sockets_of_systemd() {
        let unix = |path: &str, mode| ListenAddress::Unix { path: path.into(), mode };
        for (text, address) in [
            ("127.0.0.1:7811", ListenAddress::Tcp(([127, 0, 0, 1], 7811).into())),
            ("[::1]:0", ListenAddress::Tcp("[::1]:0".parse().unwrap())),
            ("unix:/run/a.sock", unix("/run/a.sock", 0o660)),
            ("unix:/run/a.sock?mode=0600", unix("/run/a.sock", 0o600)),
            ("unix:/a?mode=777", unix("/a", 0o777)),
            ("systemd:", ListenAddress::Systemd(None)),
            ("systemd:http", ListenAddress::Systemd(Some("http".to_owned()))),
        ] {
            assert_eq!(text.parse(), Ok(address), "{text}");
        }
        for (text, error) in [
            ("7811", ListenAddressError::Unknown),
            ("localhost:7811", ListenAddressError::Unknown),
            ("/run/a.sock", ListenAddressError::Unknown),
            ("unix:a.sock", ListenAddressError::RelativePath),
            ("unix:", ListenAddressError::RelativePath),
            ("unix:/a?mode=", ListenAddressError::Mode),
            ("unix:/a?mode=0888", ListenAddressError::Mode),
            ("unix:/a?mode=+66", ListenAddressError::Mode),
            ("unix:/a?mode=1777", ListenAddressError::Mode),
            ("unix:/a?backlog=1", ListenAddressError::Mode),
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(error), "{text}");
        }
    }
}
