//! The PROXY protocol, version 2: the address of a client, as a proxy in front says it.
//!
//! A proxy that passes TCP on hides its clients' addresses. So it begins each connection with a header: a signature of 12
//! bytes, a byte with version and command, one with the family, two with the length of the rest; then source and
//! destination, and fields that are ignored here. Everything after it is the client's, TLS too.
//!
//! Only configured proxies are believed, and these have to send a header. What they send is read to the last byte of the
//! header and no further.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::http::serve::connection::Shared;
use crate::http::serve::listen::canonical;
use crate::value::Recurring;

/// The first bytes of a header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The first bytes of a header of version 1, which is a line of text.
const VERSION_1: &[u8] = b"PROXY";

/// Bytes of the header's fixed part.
const FIXED: usize = 16;

/// The longest rest of a header. One with a client's certificate takes about 1 KiB.
const MAX_LENGTH: usize = 4096;

/// The proxies whose connections begin with a header.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    networks: Arc<[IpNet]>,
    /// What is logged of their faults.
    failing: Arc<Recurring>,
}

/// A text that is no list of networks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no list of networks such as 10.0.0.0/8,192.168.1.7: {0:?} is none")]
pub struct ProxiesError(String);

impl Proxies {
    /// Whether connections from this address begin with a header.
    pub(in crate::http) fn contain(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for Proxies {
    type Err = ProxiesError;

    /// Networks and addresses, separated by commas.
    fn from_str(text: &str) -> Result<Self, ProxiesError> {
        let network = |text: &str| {
            let text = text.trim();
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| ProxiesError(text.to_owned()))
        };
        let networks = text.split(',').map(network).collect::<Result<_, _>>()?;
        Ok(Self { networks, failing: Arc::default() })
    }
}

/// Why a header cannot be used.
#[derive(Debug, thiserror::Error)]
enum HeaderError {
    /// Checks of a proxy whether the port is open look like this.
    #[error("it ended before its first byte")]
    Empty,
    #[error("it ended within the header")]
    Cut,
    #[error(transparent)]
    Io(io::Error),
    #[error(
        "it begins with a PROXY protocol header of version 1; the proxy has to send version 2 (of haproxy: send-proxy-v2)"
    )]
    Version1,
    #[error(
        "it does not begin with a PROXY protocol header; the proxy has to send one of version 2, or must not be in \
         --proxy-protocol-from"
    )]
    NoHeader,
    #[error("its PROXY protocol header has {0} bytes after the first {FIXED}; {MAX_LENGTH} are allowed")]
    TooLong(usize),
    #[error("its PROXY protocol header is malformed: {0}")]
    Malformed(&'static str),
    #[error("no PROXY protocol header came within --header-timeout")]
    Late,
}

/// The client's address on a connection from this address; `None` if the connection has to be closed. That of a proxy is in
/// its header, which is read.
pub(in crate::http) async fn client_address(
    stream: &mut (impl AsyncRead + Unpin),
    from: SocketAddr,
    shared: &Shared,
) -> Option<SocketAddr> {
    if !shared.config.proxies.contain(from.ip()) {
        return Some(from);
    }
    // Boxed, so that a waiting connection has no space for it.
    Box::pin(receive(stream, from, shared)).await
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    proxy: SocketAddr,
    shared: &Shared,
) -> Option<SocketAddr> {
    let header = tokio::select! {
        biased;
        () = shared.app.shutdown.first_request_is_late() => return None,
        header = timeout(shared.config.header_timeout, read(stream)) => header,
    };
    let failing = &shared.config.proxies.failing;
    match header.unwrap_or(Err(HeaderError::Late)) {
        Ok(client) => {
            if let Some(end) = failing.ended() {
                info!(%proxy, times = end.times, lasted = %end.lasted(), "proxies send proper headers again");
            }
            return Some(client.map_or(proxy, canonical));
        }
        Err(error @ (HeaderError::Empty | HeaderError::Io(_))) => {
            debug!(%proxy, "closed a connection of a proxy: {error}");
        }
        Err(error) => {
            if let Some(times) = failing.failed(&error.to_string()) {
                warn!(times, %proxy, "closed a connection of a proxy: {error}");
            }
        }
    }
    None
}

/// Reads a header. Returns the client's address, if it has one: checks of the proxy itself have none.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, HeaderError> {
    let mut fixed = [0; FIXED];
    let mut filled = 0;
    while filled < FIXED {
        filled += match stream.read(&mut fixed[filled..]).await.map_err(HeaderError::Io)? {
            0 if filled == 0 => return Err(HeaderError::Empty),
            0 => return Err(HeaderError::Cut),
            more => more,
        };
        // At the first wrong byte: whoever sends no header waits for an answer.
        check_signature(&fixed[..filled])?;
    }
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > MAX_LENGTH {
        return Err(HeaderError::TooLong(length));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => HeaderError::Cut,
        _ => HeaderError::Io(error),
    })?;
    parse(fixed[12], fixed[13], &rest).map_err(HeaderError::Malformed)
}

/// Checks bytes that have arrived. They may be too few to know.
fn check_signature(bytes: &[u8]) -> Result<(), HeaderError> {
    let is_prefix = |of: &[u8]| bytes.iter().zip(of).all(|(byte, wanted)| byte == wanted);
    match () {
        () if is_prefix(&SIGNATURE) => Ok(()),
        () if is_prefix(VERSION_1) && bytes.len() < VERSION_1.len() => Ok(()),
        () if is_prefix(VERSION_1) => Err(HeaderError::Version1),
        () => Err(HeaderError::NoHeader),
    }
}

/// The client's address in the rest of a header with this version and command, and this family.
fn parse(version_and_command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    match version_and_command {
        // LOCAL: the proxy speaks for itself. Whatever follows is ignored.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err("unknown version or command"),
    }
    match family {
        // Unspecified, and unix sockets.
        0x00 | 0x31 => Ok(None),
        0x11 => {
            let (ip, port) = source::<4>(rest, 8)?;
            Ok(Some((Ipv4Addr::from(ip), port).into()))
        }
        0x21 => {
            let (ip, port) = source::<16>(rest, 32)?;
            Ok(Some((Ipv6Addr::from(ip), port).into()))
        }
        _ => Err("no TCP"),
    }
}

/// The first address and the port that is `port_at` bytes from the beginning, in addresses of two IPs and two ports.
fn source<const N: usize>(rest: &[u8], port_at: usize) -> Result<([u8; N], u16), &'static str> {
    let too_short = "it is too short for its addresses";
    let port = rest.get(port_at..port_at + 4).and_then(|ports| ports.first_chunk()).ok_or(too_short)?;
    let ip = rest.first_chunk().ok_or(too_short)?;
    Ok((*ip, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn header(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_and_command, family], &length, rest].concat()
    }

    /// What is read of these bytes, and how many are left.
    fn read_all(mut bytes: &[u8]) -> (Result<Option<SocketAddr>, HeaderError>, usize) {
        let read = read(&mut bytes).now_or_never().unwrap();
        (read, bytes.len())
    }

    fn addresses(source: SocketAddr) -> (u8, Vec<u8>) {
        let ports = [&source.port().to_be_bytes()[..], &[0, 80]].concat();
        match source.ip() {
            IpAddr::V4(ip) => (0x11, [&ip.octets()[..], &[127, 0, 0, 1], &ports].concat()),
            IpAddr::V6(ip) => (0x21, [&ip.octets()[..], &[0; 16], &ports].concat()),
        }
    }

    proptest! {
        #[test]
        fn the_source_is_read_and_not_a_byte_more(
            source: SocketAddr, fields: [u8; 7], more in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let source = SocketAddr::new(source.ip(), source.port());
            let (family, addresses) = addresses(source);
            let whole = header(0x21, family, &[&addresses[..], &fields].concat());
            let (read, left) = read_all(&[&whole[..], &more].concat());
            prop_assert_eq!(read.unwrap(), Some(source));
            prop_assert_eq!(left, more.len());
            for cut in 0..whole.len() {
                let (read, _) = read_all(&whole[..cut]);
                prop_assert!(matches!(read, Err(HeaderError::Empty | HeaderError::Cut)), "{:?}", read);
            }
        }

        #[test]
        fn any_bytes_are_an_address_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..64), command: u8, family: u8,
        ) {
            let (read, _) = read_all(&bytes);
            prop_assert!(read.is_err());
            let rest = &bytes[..bytes.len() / 2];
            let (read, left) = read_all(&[header(command, family, rest), bytes.clone()].concat());
            prop_assert_eq!(left, bytes.len());
            prop_assert_eq!(read.is_ok(), parse(command, family, rest).is_ok());
        }
    }

    #[test]
    fn what_has_no_address_keeps_that_of_the_proxy() {
        for (command, family, rest) in
            [(0x20, 0x00, &[][..]), (0x20, 0x11, &[1; 12]), (0x21, 0x00, &[]), (0x21, 0x31, &[0; 216])]
        {
            assert_eq!(read_all(&header(command, family, rest)).0.unwrap(), None);
        }
    }

    #[test]
    fn what_is_no_header_is_an_error_as_soon_as_that_is_known() {
        let error = |bytes: &[u8]| read_all(bytes).0.unwrap_err();
        assert!(matches!(error(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), HeaderError::Version1));
        assert!(matches!(error(b"PROXY"), HeaderError::Version1));
        assert!(matches!(error(b"PROX"), HeaderError::Cut));
        assert!(matches!(error(b"PUT / HTTP/1.1"), HeaderError::NoHeader));
        assert!(matches!(error(b"\r\n\r\n\0\r\nQUIX"), HeaderError::NoHeader));
        assert!(matches!(error(&[0x16, 3, 1]), HeaderError::NoHeader));
        let mut long = header(0x21, 0x11, &[0; 12]);
        long[14..16].copy_from_slice(&4097_u16.to_be_bytes());
        assert!(matches!(error(&long), HeaderError::TooLong(4097)));
        for (command, family, rest) in [
            (0x11, 0x11, &[0; 12][..]),
            (0x22, 0x11, &[0; 12]),
            (0x21, 0x12, &[0; 12]),
            (0x21, 0x11, &[0; 11]),
            (0x21, 0x21, &[0; 35]),
        ] {
            assert!(matches!(error(&header(command, family, rest)), HeaderError::Malformed(_)));
        }
    }

    #[test]
    fn proxies_are_networks_and_addresses() {
        let proxies: Proxies = "10.0.0.0/8, 192.168.1.7,fd00::/8".parse().unwrap();
        let contain = |address: &str| proxies.contain(address.parse().unwrap());
        assert!(["10.1.2.3", "192.168.1.7", "fd12::1"].into_iter().all(contain));
        assert!(!["11.0.0.1", "192.168.1.8", "::1"].into_iter().any(contain));
        assert!(!Proxies::default().contain(Ipv4Addr::LOCALHOST.into()));
        for bad in ["", "10.0.0.0/33", "proxy", "10.0.0.0/8,", "*"] {
            assert!(bad.parse::<Proxies>().is_err(), "{bad}");
        }
    }
}
