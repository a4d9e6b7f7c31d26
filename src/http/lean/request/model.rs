//! Recognition against httparse: both read the same request from the same bytes.

#![allow(clippy::unwrap_used)] // a test may unwrap

use httparse::Status;
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use proptest::sample::select;

use crate::http::lean::request::{PlainRequest, Recognised, recognise_open};
use crate::model::{Key, KeySelector};

const CURSOR: &str = "5f0c11d29a3b4e77.1842.s9d03c1f2";

/// Pieces of requests, which are joined at random.
const PIECES: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\n\n",
    " ",
    "\t",
    ":",
    "Host: a\r\n",
    "host:b\r\n",
    "Accept: */*\r\n",
    "Accept: text/html\r\n",
    "Accept-Encoding: gzip\r\n",
    "Connection: keep-alive\r\n",
    "Connection: close\r\n",
    "Content-Length: 3\r\n",
    "Content-Length : 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "X: y\r\n",
    "X: y\n",
    "X:\r\n",
    " folded\r\n",
    "X: \u{e9}\r\n",
    "X: \0\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
    "GET /v1/breadcrumbs/",
    "/next",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "?wait=0",
    "&prefix=a%2F",
    "POST / HTTP/1.1\r\n",
    "abc",
    "Last-Event-ID: x\r\n",
    "Last-Event-ID:\r\n",
    "?from=",
];

/// Mostly a valid request line, then random pieces.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        format!("GET /v1/breadcrumbs/{CURSOR}/next HTTP/1.1\r\n"),
        format!("GET /v1/breadcrumbs/{CURSOR}/next?wait=5s&prefix=a%2Fb HTTP/1.1\r\n"),
        format!("GET /v1/breadcrumbs/{CURSOR}/next?prefix=%ff HTTP/1.1\r\nHost: a\r\n"),
        format!("GET /v1/breadcrumbs/{CURSOR}/next"),
        "GET /v1/stream HTTP/1.1\r\nAccept: text/event-stream\r\n".to_owned(),
        format!("GET /v1/stream?from={CURSOR}~1f&prefix=a%2Fb HTTP/1.1\r\n"),
        "GET /v1/streams HTTP/1.1\r\n".to_owned(),
        String::new(),
    ]);
    let pieces = prop::collection::vec(select(PIECES), 0..6);
    let end =
        select(vec!["Host: a\r\n\r\n", "\r\n", "\r\n\r\n", "", "Host: a\r\n\r\nGET / HTTP/1.1\r\n\r\n"]);
    let fault = prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()));
    (line, pieces, end, fault).prop_map(|(line, pieces, end, fault)| {
        let mut bytes = [line.as_bytes(), pieces.concat().as_bytes(), end.as_bytes()].concat();
        if let Some((at, byte)) = fault.filter(|_| !bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

fn plain_length(bytes: &[u8]) -> Option<usize> {
    match recognise_open(bytes) {
        Recognised::Plain(_, used) => Some(used),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_recognised_request_is_the_one_that_httparse_reads(bytes in bytes(), more in bytes()) {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut read = httparse::Request::new(&mut headers);
        let parsed = read.parse(&bytes);
        match recognise_open(&bytes) {
            Recognised::Other => {}
            Recognised::Incomplete => prop_assert_eq!(parsed, Ok(Status::Partial)),
            Recognised::Plain(request, used) => {
                prop_assert_eq!(parsed, Ok(Status::Complete(used)));
                prop_assert_eq!((read.method, read.version), (Some("GET"), Some(1)));
                let (path, query) = read.path.and_then(|path| path.split_once('?')).unwrap_or((read.path.unwrap(), ""));
                let (expected, scope) = match &request {
                    PlainRequest::Next(next) => (format!("/v1/breadcrumbs/{}/next", next.cursor), &next.scope),
                    PlainRequest::Stream(stream) => ("/v1/stream".to_owned(), &stream.scope),
                };
                prop_assert_eq!(path, expected);
                let prefixes = query.split('&').filter_map(|pair| pair.strip_prefix("prefix="));
                let prefixes = prefixes.map(|text| Key::new(percent_decode_str(text).collect::<Vec<_>>()));
                let prefixes: Vec<Key> = prefixes.collect();
                let asked = if prefixes.is_empty() { KeySelector::ALL } else { KeySelector::prefixes(prefixes) };
                prop_assert_eq!(scope.asked(), &asked);
                for header in read.headers.iter() {
                    let framing = ["content-length", "transfer-encoding", "upgrade", "expect"];
                    prop_assert!(!framing.contains(&header.name.to_ascii_lowercase().as_str()), "{}", header.name);
                }
                // Bytes after it change nothing, nor does a repetition, and fewer bytes are incomplete.
                prop_assert_eq!(plain_length(&[&bytes[..used], &more].concat()), Some(used));
                for less in 0..used {
                    prop_assert!(matches!(recognise_open(&bytes[..less]), Recognised::Incomplete), "{less} of {used}");
                }
                prop_assert_eq!(plain_length(&bytes), Some(used));
            }
        }
    }
}
