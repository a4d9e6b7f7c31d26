//! Where the server is, and connections to it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, lookup_host};
use tokio::time::timeout;

use super::{Connection, LoadError};

/// How long a connection may take to be made. A full accept queue makes the kernel ask again after 1, 3
/// and 7 seconds, which is slow but no failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Clients that connect from one loopback address: the usual range of local ports has 28,000.
const CLIENTS_PER_SOURCE: usize = 20_000;

/// A server's address.
#[derive(Debug, Clone)]
pub struct Target {
    address: SocketAddr,
    authority: String,
    /// Header lines of every request.
    fields: String,
}

impl Target {
    /// Looks up the host of an address such as `http://127.0.0.1:7811`.
    ///
    /// # Errors
    /// [`LoadError::Url`].
    pub async fn resolve(url: &str) -> Result<Self, LoadError> {
        let error = |reason: String| LoadError::Url { url: url.to_owned(), reason };
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(error("only http:// is spoken".to_owned()));
        };
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
            return Err(error("host and port are wanted, nothing more".to_owned()));
        }
        let port_is_there = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let looked_up = if port_is_there { authority.to_owned() } else { format!("{authority}:80") };
        let mut found = lookup_host(looked_up).await.map_err(|reason| error(reason.to_string()))?;
        let address = found.next().ok_or_else(|| error("the host has no address".to_owned()))?;
        Ok(Self::new(address, authority))
    }

    /// A server on this machine.
    pub fn local(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self::new(address, &address.to_string())
    }

    fn new(address: SocketAddr, authority: &str) -> Self {
        Self { address, authority: authority.to_owned(), fields: format!("Host: {authority}\r\n") }
    }

    /// Every request carries this bearer token.
    ///
    /// # Errors
    /// [`LoadError::Token`].
    pub fn with_token(mut self, token: &str) -> Result<Self, LoadError> {
        // A line break in it would end the header.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(LoadError::Token);
        }
        self.fields.push_str(&format!("Authorization: Bearer {token}\r\n"));
        Ok(self)
    }

    /// The header lines that every request has: whom it is for, and who asks.
    pub fn fields(&self) -> &str {
        &self.fields
    }

    /// The address that was found.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stands in `Host:`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Connects client number `client`. On loopback the clients come from as many addresses as their number
    /// needs.
    ///
    /// # Errors
    /// [`LoadError::Connect`], [`LoadError::Ports`], [`LoadError::Late`].
    pub async fn connect(&self, client: usize) -> Result<Connection, LoadError> {
        self.connect_with(client, None).await
    }

    /// The same with a receive buffer of this size, so that who reads slowly holds the server back.
    ///
    /// # Errors
    /// [`LoadError::Connect`], [`LoadError::Ports`], [`LoadError::Late`].
    pub async fn connect_with(
        &self,
        client: usize,
        receive_bytes: Option<u32>,
    ) -> Result<Connection, LoadError> {
        let address = self.address;
        let error = |source: std::io::Error| match source.kind() {
            ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse => LoadError::Ports { address },
            _ => LoadError::Connect { address, source },
        };
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.map_err(error)?;
        if let Some(source) = self.source(client) {
            socket.bind(source).map_err(error)?;
        }
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).map_err(error)?;
        }
        let connected = timeout(PATIENCE, socket.connect(address)).await;
        let late = |_| LoadError::Late { what: format!("a connection to {address}"), after: PATIENCE };
        let stream = connected.map_err(late)?.map_err(error)?;
        stream.set_nodelay(true)?;
        Ok(Connection::new(stream))
    }

    /// The first clients take what the system chooses; the others 127.0.0.2, 127.0.0.3 and so on.
    fn source(&self, client: usize) -> Option<SocketAddr> {
        match self.address.ip() {
            IpAddr::V4(ip) if ip.is_loopback() => {
                let source = u8::try_from(client / CLIENTS_PER_SOURCE).ok().filter(|source| *source > 0)?;
                Some(SocketAddr::from((Ipv4Addr::new(127, 0, 0, source.saturating_add(1)), 0)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_a_host_and_a_port() {
        let target = Target::resolve("http://127.0.0.1:7811/").await.unwrap();
        assert_eq!(
            (target.address(), target.authority()),
            ("127.0.0.1:7811".parse().unwrap(), "127.0.0.1:7811")
        );
        for bad in ["127.0.0.1:7811", "https://127.0.0.1", "http://", "http://127.0.0.1/v1", "http://a@b"] {
            assert!(matches!(Target::resolve(bad).await, Err(LoadError::Url { .. })), "{bad}");
        }
    }

    #[test]
    fn many_clients_of_loopback_come_from_several_addresses() {
        let target = Target::local(1);
        assert_eq!(target.source(0), None);
        assert_eq!(target.source(CLIENTS_PER_SOURCE), Some("127.0.0.2:0".parse().unwrap()));
        assert_eq!(target.source(50_000), Some("127.0.0.3:0".parse().unwrap()));
    }
}
