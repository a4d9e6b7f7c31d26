//! A plain HTTP client: it follows nothing, decodes nothing and keeps every header, so that a test sees what was sent.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response};
use serde_json::Value;

use super::tls::client_config;

/// The headers that every 200, 204 and 304 of a reading request carries, besides `Link`.
pub const STANDING: [&str; 7] = [
    "crumbd-cursor",
    "crumbd-mode",
    "crumbd-reason",
    "crumbd-revision",
    "crumbd-sequence",
    "crumbd-status",
    "crumbd-age",
];

/// Whether the tests' clients speak HTTP/2. `over_http2.rs` runs the tests of other files once more, so.
pub const OVER_HTTP2: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"over_http2");

/// The requests at a time of a client of HTTP/2 on one connection, which has room for a few more. Further ones are on another.
const REQUESTS_A_CONNECTION: usize = 200;
const HTTP2_CONNECTIONS: usize = 4;

/// A daemon's address and a client for it.
#[derive(Clone)]
pub struct Http {
    clients: Arc<[Arc<Client>]>,
    base: String,
    /// Sent with every request.
    token: Option<String>,
}

/// One whole answer.
#[derive(Debug, Clone)]
pub struct Got {
    /// What was asked, for messages.
    pub asked: String,
    pub status: u16,
    pub headers: HeaderMap,
    /// As sent: still compressed when the answer was.
    pub body: Vec<u8>,
}

impl Http {
    pub fn new(base: &str) -> Http {
        Http::over_tls(base, client_config(&[], None))
    }

    /// A client at another address of this machine.
    pub fn from_address(base: &str, address: [u8; 4]) -> Http {
        Http::build(base, client_config(&[], None), Some(address.into()))
    }

    /// A client that speaks TLS in this way.
    pub fn over_tls(base: &str, config: rustls::ClientConfig) -> Http {
        Http::build(base, config, None)
    }

    fn build(base: &str, config: rustls::ClientConfig, from: Option<std::net::IpAddr>) -> Http {
        let client = |mut config: rustls::ClientConfig| {
            let mut builder = Client::builder();
            if OVER_HTTP2 {
                config.alpn_protocols = vec![b"h2".to_vec()];
                builder = builder.http2_prior_knowledge();
            }
            builder
                .local_address(from)
                .tls_backend_preconfigured(config)
                .no_gzip()
                .no_zstd()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_secs(40))
                .build()
                .unwrap()
        };
        let connections = if OVER_HTTP2 { HTTP2_CONNECTIONS } else { 1 };
        let clients = (0..connections).map(|_| Arc::new(client(config.clone()))).collect();
        Http { clients, base: base.trim_end_matches('/').to_owned(), token: None }
    }

    /// The same client with a token.
    pub fn with_token(&self, token: &str) -> Http {
        Http { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Sends one request. `path` begins with a slash and is sent as it is.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> reqwest::Result<Got> {
        let has_room = |client: &&Arc<Client>| Arc::strong_count(client) <= REQUESTS_A_CONNECTION;
        // Held until the answer is there.
        let client = Arc::clone(self.clients.iter().find(has_room).unwrap_or(&self.clients[0]));
        let mut request =
            client.request(Method::from_bytes(method.as_bytes()).unwrap(), format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        Got::whole(format!("{method} {path}"), request.send().await?).await
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Got {
        match self.try_send(method, path, headers, body).await {
            Ok(got) => got,
            Err(error) => panic!("{method} {path} got no answer: {error:?}"),
        }
    }

    pub async fn get(&self, path: &str) -> Got {
        self.send("GET", path, &[], None).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Got {
        self.send("GET", path, headers, None).await
    }

    /// Writes one key; answers with the cursor of the write.
    pub async fn put(&self, key: &[u8], content_type: &str, value: &[u8]) -> String {
        let path = format!("/v1/kv/{}", encode(key));
        self.send("PUT", &path, &[("content-type", content_type)], Some(value.to_vec())).await.written()
    }

    /// Deletes one key; answers with the cursor of the write.
    pub async fn delete(&self, key: &[u8]) -> String {
        self.send("DELETE", &format!("/v1/kv/{}", encode(key)), &[], None).await.written()
    }

    /// Posts records, one a line; answers with the cursor of the write.
    pub async fn post(&self, records: &[impl AsRef<str>]) -> String {
        let body = lines(records);
        let headers = [("content-type", "application/x-ndjson")];
        self.send("POST", "/v1/updates", &headers, Some(body)).await.written()
    }

    /// The current cursor, from the headers of `current`.
    pub async fn cursor(&self) -> String {
        self.get("/v1/breadcrumbs/current").await.ok(200).cursor().to_owned()
    }
}

impl Got {
    async fn whole(asked: String, response: Response) -> reqwest::Result<Got> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.bytes().await?.to_vec();
        let got = Got { asked, status, headers, body };
        assert!(!OVER_HTTP2 || got.header("connection").is_none(), "{} speaks of a connection", got.asked);
        Ok(got)
    }

    /// The header's text, or nothing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The header's text, which must be there.
    pub fn need(&self, name: &str) -> &str {
        self.header(name)
            .unwrap_or_else(|| panic!("{} ({}) has no {name}: {:?}", self.asked, self.status, self.headers))
    }

    /// Fails unless the answer has this status.
    pub fn ok(self, status: u16) -> Got {
        assert_eq!(self.status, status, "{}: {}", self.asked, String::from_utf8_lossy(&self.body));
        self
    }

    /// The cursor of a write that succeeded.
    pub fn written(self) -> String {
        assert!(
            (200..300).contains(&self.status),
            "{}: {} {}",
            self.asked,
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        self.cursor().to_owned()
    }

    pub fn cursor(&self) -> &str {
        self.need("crumbd-cursor")
    }

    /// The body as JSON, decoded first when it was compressed.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.plain())
            .unwrap_or_else(|e| panic!("{}: {e}: {}", self.asked, String::from_utf8_lossy(&self.body)))
    }

    /// The body without its content coding.
    pub fn plain(&self) -> Vec<u8> {
        match self.header("content-encoding") {
            None | Some("identity") => self.body.clone(),
            Some("gzip") => {
                // One member only: what `curl` and `reqwest` do. Anything behind it would be lost on them.
                let mut decoder = flate2::bufread::GzDecoder::new(&self.body[..]);
                let mut plain = Vec::new();
                decoder.read_to_end(&mut plain).unwrap_or_else(|e| panic!("{}: gzip: {e}", self.asked));
                assert!(decoder.into_inner().is_empty(), "{}: bytes after the only gzip member", self.asked);
                plain
            }
            Some("zstd") if self.header("content-type") == Some("application/vnd.crumbd.v1+bincode") => {
                zstd::decode_all(&self.body[..]).unwrap_or_else(|e| panic!("{}: zstd: {e}", self.asked))
            }
            Some("zstd") => {
                // One frame only: what aiohttp and others do. Anything behind it would be lost on them.
                let (mut rest, mut plain) = (&self.body[..], Vec::new());
                let decoder = zstd::stream::read::Decoder::with_buffer(&mut rest).unwrap();
                let read = decoder.single_frame().read_to_end(&mut plain);
                read.unwrap_or_else(|e| panic!("{}: zstd: {e}", self.asked));
                assert!(rest.is_empty(), "{}: bytes after the only zstd frame", self.asked);
                plain
            }
            Some(other) => panic!("{}: content-encoding {other:?}", self.asked),
        }
    }

    /// The target of `Link: <…>; rel="next"`.
    pub fn next_link(&self) -> &str {
        let link = self.need("link");
        let link = link
            .split(',')
            .find(|one| one.contains("rel=\"next\""))
            .unwrap_or_else(|| panic!("no next: {link}"));
        link.trim().strip_prefix('<').and_then(|l| l.split_once('>')).unwrap().0
    }

    /// Fails unless this is a proper RFC 9457 answer with this status; gives its members.
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, String::from_utf8_lossy(&self.body));
        let content_type = self.need("content-type");
        assert_eq!(content_type.split(';').next(), Some("application/problem+json"), "{}", self.asked);
        assert_eq!(self.need("cache-control"), "no-store", "{}: errors are never cached", self.asked);
        let problem = self.json();
        assert_eq!(problem["status"], status, "{}: {problem}", self.asked);
        for member in ["type", "title", "detail"] {
            let text = problem[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{}: a problem without its {member}: {problem}", self.asked);
        }
        problem
    }

    /// Fails unless every standing header is there and well-formed, and the link is the cursor's.
    pub fn standing(self) -> Got {
        for name in STANDING {
            let value = self.need(name);
            assert!(!value.is_empty(), "{}: {name} is empty", self.asked);
        }
        let cursor = self.cursor();
        assert!(
            cursor.len() <= 128 && cursor.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b)),
            "{}: not a cursor: {cursor:?}",
            self.asked
        );
        for number in ["crumbd-revision", "crumbd-sequence"] {
            self.need(number).parse::<u64>().unwrap_or_else(|e| panic!("{}: {number}: {e}", self.asked));
        }
        let age = self.need("crumbd-age").parse::<f64>().unwrap();
        assert!(age >= 0.0, "{}: age {age}", self.asked);
        let mode = self.need("crumbd-mode");
        assert!(["none", "delta", "squash", "snapshot"].contains(&mode), "{}: mode {mode:?}", self.asked);
        assert_eq!(mode == "none", self.status != 200, "{}: {} with mode {mode}", self.asked, self.status);
        let reason = self.need("crumbd-reason");
        let reasons: &[&str] = match self.status {
            204 => &["timeout", "shutting-down"],
            304 => &["not-modified"],
            _ => &["current", "kept", "next", "behind", "status", "diff", "read"],
        };
        assert!(reasons.contains(&reason), "{}: {} with reason {reason}", self.asked, self.status);
        let status = self.need("crumbd-status");
        assert!(
            ["wait-for-datastore", "resync-in-progress", "in-sync"].contains(&status),
            "status {status:?}"
        );
        let link = self.next_link();
        let expected = format!("/v1/breadcrumbs/{cursor}/next");
        assert_eq!(link.split('?').next(), Some(&*expected), "{}: the link is the cursor's", self.asked);
        if self.status == 200 {
            self.need("etag");
            let vary = self.need("vary").to_ascii_lowercase();
            let vary: Vec<&str> = vary.split(',').map(str::trim).collect();
            assert!(
                vary.contains(&"accept") && vary.contains(&"accept-encoding"),
                "{}: vary {vary:?}",
                self.asked
            );
        }
        self
    }
}

/// Records as the body of a `POST /v1/updates`, or the text of a feed file.
pub fn lines(records: &[impl AsRef<str>]) -> Vec<u8> {
    records.iter().flat_map(|record| [record.as_ref().as_bytes(), b"\n"].concat()).collect()
}

/// Bytes as one path segment or one query value: everything but RFC 3986's unreserved characters is escaped.
pub fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&b| match b {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}
