//! Where the server is, and connections to it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crumbd::client::ClientTls;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::stream::Stream;
use super::{Connection, LoadError};

/// How long a connection may take to be made, and then TLS on it. A full accept queue makes the kernel ask again after 1, 3
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
    /// For an `https://` address. All connections share it, and with it the sessions that can be resumed.
    tls: Option<Arc<Tls>>,
}

#[derive(Debug)]
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// What was said of it, to explain failures.
    given: ClientTls,
}

impl Target {
    /// Looks up the host of an address such as `http://127.0.0.1:7811`. `tls` is for one that begins with `https://`.
    ///
    /// # Errors
    /// [`LoadError::Url`], [`LoadError::Client`].
    pub async fn resolve(url: &str, tls: &ClientTls) -> Result<Self, LoadError> {
        let error = |reason: String| LoadError::Url { url: url.to_owned(), reason };
        let (rest, over_tls) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => return Err(error("only http:// and https:// are spoken".to_owned())),
        };
        // Who names certificates does not expect that nothing is encrypted.
        if !over_tls && !tls.is_default() {
            return Err(error("certificates are for https:// only".to_owned()));
        }
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
            return Err(error("host and port are wanted, nothing more".to_owned()));
        }
        let with_port = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let host = with_port.map_or(authority, |(host, _)| host);
        let looked_up = match (with_port, over_tls) {
            (Some(_), _) => authority.to_owned(),
            (None, true) => format!("{authority}:443"),
            (None, false) => format!("{authority}:80"),
        };
        let mut found = lookup_host(looked_up).await.map_err(|reason| error(reason.to_string()))?;
        let address = found.next().ok_or_else(|| error("the host has no address".to_owned()))?;
        let mut target = Self::new(address, authority);
        if over_tls {
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
            let name =
                name.map_err(|_| error("the host is no name that a certificate can have".to_owned()))?;
            let config = Arc::new(tls.config(true)?);
            target.tls = Some(Arc::new(Tls { config, name, given: tls.clone() }));
        }
        Ok(target)
    }

    /// A server on this machine.
    pub fn local(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self::new(address, &address.to_string())
    }

    fn new(address: SocketAddr, authority: &str) -> Self {
        Self { address, authority: authority.to_owned(), fields: format!("Host: {authority}\r\n"), tls: None }
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

    /// The same error of a first request with its cause in words, where it may be one of TLS.
    pub fn explain(&self, error: LoadError) -> LoadError {
        let Some(tls) = &self.tls else { return error };
        let explained = match &error {
            LoadError::Broken(source) => tls.given.explain(source),
            LoadError::Closed => None,
            _ => return error,
        };
        // In TLS 1.3 a client is refused after its side of the handshake is done; when the connection has ended before
        // that was read, this is all that is known.
        let reason = explained.unwrap_or_else(|| format!("{error}; perhaps {}", tls.given.why_hung_up_on()));
        LoadError::Tls { authority: self.authority.clone(), reason }
    }

    /// Connects client number `client`. On loopback the clients come from as many addresses as their number
    /// needs.
    ///
    /// # Errors
    /// [`LoadError::Connect`], [`LoadError::Ports`], [`LoadError::Tls`], [`LoadError::Late`].
    pub async fn connect(&self, client: usize) -> Result<Connection, LoadError> {
        self.connect_with(client, None).await
    }

    /// The same with a receive buffer of this size, so that who reads slowly holds the server back.
    ///
    /// # Errors
    /// [`LoadError::Connect`], [`LoadError::Ports`], [`LoadError::Tls`], [`LoadError::Late`].
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
        Ok(Connection::new(match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => self.handshake(tls, stream).await?,
        }))
    }

    async fn handshake(&self, tls: &Tls, stream: TcpStream) -> Result<Stream, LoadError> {
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        let shaken = timeout(PATIENCE, connector.connect(tls.name.clone(), stream)).await;
        let late = |_| LoadError::Late { what: format!("TLS with {}", self.authority), after: PATIENCE };
        match shaken.map_err(late)? {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => Err(self.explain(LoadError::Broken(error))),
        }
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
        let tls = ClientTls::default();
        let target = Target::resolve("http://127.0.0.1:7811/", &tls).await.unwrap();
        assert_eq!(
            (target.address(), target.authority()),
            ("127.0.0.1:7811".parse().unwrap(), "127.0.0.1:7811")
        );
        for (address, port) in
            [("https://127.0.0.1", 443), ("https://[::1]:7811/", 7811), ("http://[::1]", 80)]
        {
            assert_eq!(Target::resolve(address, &tls).await.unwrap().address().port(), port, "{address}");
        }
        for bad in ["127.0.0.1:7811", "ftp://127.0.0.1", "http://", "http://127.0.0.1/v1", "http://a@b"] {
            assert!(matches!(Target::resolve(bad, &tls).await, Err(LoadError::Url { .. })), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_speaks_tls_is_not_waited_for_for_ever() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", silent.local_addr().unwrap());
        let target = Target::resolve(&url, &ClientTls::default()).await.unwrap();
        let error = target.connect(0).await.unwrap_err();
        assert!(matches!(&error, LoadError::Late { what, .. } if what.contains("TLS")), "{error}");
    }

    #[test]
    fn many_clients_of_loopback_come_from_several_addresses() {
        let target = Target::local(1);
        assert_eq!(target.source(0), None);
        assert_eq!(target.source(CLIENTS_PER_SOURCE), Some("127.0.0.2:0".parse().unwrap()));
        assert_eq!(target.source(50_000), Some("127.0.0.3:0".parse().unwrap()));
    }
}
