//! The protocol of a connection: by TLS, or by its first bytes.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::http::http2::PREFACE;
use crate::http::serve::drain::Shutdown;

/// Bytes of a first read, as many as the framework reads. It answers a faulty head in one piece sooner than one in several.
const FIRST_READ: usize = 8 << 10;

/// What is known of a connection's protocol before its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum Protocol {
    /// HTTP/1.1, or HTTP/2 if the first bytes say so ("prior knowledge").
    ByFirstBytes,
    /// HTTP/1.1, which TLS has negotiated, or nothing.
    Http1,
    /// HTTP/2, which TLS has negotiated.
    Http2,
}

/// Whether the bytes are those with which HTTP/2 begins; `None` while they are too few to know.
fn is_preface(bytes: &[u8]) -> Option<bool> {
    match bytes.len() >= PREFACE.len() {
        true => Some(bytes.starts_with(PREFACE)),
        false if PREFACE.starts_with(bytes) => None,
        false => Some(false),
    }
}

/// Reads until it is known whether the connection is one of HTTP/2. If the client sends too little within the time, ends,
/// or the daemon shuts down, it is one of HTTP/1.1.
pub(in crate::http) async fn begins_http2(
    stream: &mut (impl AsyncRead + Unpin),
    unread: &mut Vec<u8>,
    within: Duration,
    shutdown: &Shutdown,
) -> bool {
    let read = async {
        loop {
            if let Some(known) = is_preface(unread) {
                return known;
            }
            unread.reserve(FIRST_READ);
            if !matches!(stream.read_buf(unread).await, Ok(1..)) {
                return false;
            }
        }
    };
    tokio::select! {
        biased;
        read = timeout(within, read) => read.unwrap_or(false),
        _ = shutdown.begun() => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_is_known_at_its_last_byte_and_anything_else_at_its_first_other_byte() {
        for length in 0..PREFACE.len() {
            assert_eq!(is_preface(&PREFACE[..length]), None);
            let mut other = PREFACE[..=length].to_vec();
            other[length] ^= 1;
            assert_eq!(is_preface(&other), Some(false), "{length}");
        }
        assert_eq!(is_preface(&[PREFACE, b"more"].concat()), Some(true));
        for other in ["GET / HTTP/1.1\r\n", "PUT", "PRI * HTTP/1.1\r\n"] {
            assert_eq!(is_preface(other.as_bytes()), Some(false), "{other:?}");
        }
    }
}
