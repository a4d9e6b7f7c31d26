//! The requests of a client.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LINK, LOCATION, RETRY_AFTER,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::time::timeout;

use super::records::linked_rights;
use super::{ClientError, ClientTls, Records};
use crate::model::{CollectionName, Key, OpaqueCursor};
use crate::wire::MediaType;

/// How long to wait for a connection, and for an answer beyond the time that was asked for.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a daemon may send nothing by default: longer than it waits itself for a cursor, a budget or a slow reader.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(35);

/// The longest key in an address, escaped and in bytes. Many proxies allow 8 KiB for a request's head.
const LONGEST_IN_ADDRESS: usize = 6 << 10;

/// The slowest upload that is waited for, in bytes a second.
const SLOWEST_UPLOAD: usize = 64 << 10;

/// The longest `Retry-After` that is obeyed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// How much of a body of somebody else an error quotes, in characters.
const EXCERPT: usize = 160;

/// The answer to a long poll.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a daemon without changes answers once in many seconds")]
pub enum Next {
    /// Updates, or another status.
    Updates(Box<Records>),
    /// No change within the time.
    Nothing {
        /// The cursor to continue from.
        cursor: OpaqueCursor,
        /// The rights under which the answer was made, if there are any.
        rights: Option<String>,
    },
}

/// The outcome of records that were applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// The cursor at which the records can be read.
    pub cursor: OpaqueCursor,
    /// The number of keys that changed; `None` where this client may not know it.
    pub changed: Option<u64>,
}

#[derive(Deserialize)]
struct PostedBody {
    changed: Option<u64>,
}

/// A connection to one daemon. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    base: Url,
    /// The address without its user and password, for errors.
    shown: String,
    /// The named collection; `None` for the default one.
    collection: Option<CollectionName>,
    http: reqwest::Client,
    tls: ClientTls,
    /// `Bearer …`, for a daemon that wants a token.
    authorization: Option<HeaderValue>,
    /// The ids of the relays that requests are passed on by.
    relays: Option<HeaderValue>,
    /// How long the daemon may send nothing.
    timeout: Duration,
}

#[derive(Deserialize)]
struct ProblemBody {
    #[serde(rename = "type", default)]
    kind: String,
    title: String,
    detail: String,
}

impl Client {
    /// A client of the daemon at this address, such as `http://127.0.0.1:7811`, or `unix:/PATH` for a unix socket.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::over_tls(url, ClientTls::default())
    }

    /// A client of an address that begins with `https://`, with other authorities than the system's, or with a client
    /// certificate.
    ///
    /// # Errors
    /// [`ClientError::Url`], [`ClientError::TlsFile`].
    pub fn over_tls(url: &str, tls: ClientTls) -> Result<Self, ClientError> {
        let error = |reason: String| ClientError::Url { url: url.to_owned(), reason };
        let socket = url.strip_prefix("unix:");
        if socket.is_some_and(|path| !path.starts_with('/')) {
            return Err(error("the path of a unix socket begins with a slash".to_owned()));
        }
        // Over a unix socket nobody looks at the host.
        let base = socket.map_or(url, |_| "http://localhost");
        let base: Url = base.parse().map_err(|e: url_error::ParseError| error(e.to_string()))?;
        let over_tls = base.scheme() == "https";
        if base.cannot_be_a_base() || (base.scheme() != "http" && !over_tls) {
            return Err(error("it has to begin with http://, https:// or unix:/".to_owned()));
        }
        // A user who names certificates expects encryption.
        if !over_tls && !tls.is_default() {
            return Err(error("certificates are for https:// only".to_owned()));
        }
        // The daemon prefers gzip for clients that accept both.
        let http = reqwest::Client::builder().no_gzip().connect_timeout(DEADLINE);
        // A redirect is an error: the daemon sends none, so it is somebody else who answers.
        let http = http.redirect(reqwest::redirect::Policy::none());
        let http = http.tls_backend_preconfigured(tls.config(over_tls)?);
        let http = match socket {
            Some(path) => http.unix_socket(path),
            None => http,
        };
        let http = http.build();
        let http = http.map_err(|e| error(e.to_string()))?;
        let timeout = DEFAULT_TIMEOUT;
        let shown = socket.map_or_else(|| without_credentials(&base), |_| url.to_owned());
        Ok(Self { base, shown, collection: None, http, tls, authorization: None, relays: None, timeout })
    }

    /// The same client with a token.
    ///
    /// # Errors
    /// [`ClientError::Token`].
    pub fn with_token(self, token: &str) -> Result<Self, ClientError> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self })
    }

    /// The same client in a named collection of the daemon.
    #[must_use]
    pub fn in_collection(self, name: CollectionName) -> Self {
        Self { collection: Some(name), ..self }
    }

    /// The same client, which gives a daemon up that sends nothing for so long, at the beginning of an answer or in the
    /// middle of it (35 s unless told otherwise). A long poll is sent with a `wait` of less.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How long the daemon is asked to hold a long poll. By default it is below the half minute after which many proxies
    /// give up.
    pub(in crate::client) fn wait(&self) -> Duration {
        self.timeout - (self.timeout / 3).min(DEADLINE)
    }

    /// The same client for requests that relays with these ids, separated by commas, pass on.
    #[must_use]
    pub(crate) fn for_relays(self, ids: &str) -> Self {
        // Ids are plain text.
        Self { relays: HeaderValue::from_str(ids).ok(), ..self }
    }

    /// The address of an endpoint of the daemon's version 1.
    fn daemon_url(&self, name: &str) -> String {
        format!("{}/v1/{name}", self.base.as_str().trim_end_matches('/'))
    }

    /// The address of an endpoint of the collection.
    fn url(&self, segments: &[&str], query: &[(&str, &[u8])]) -> String {
        let base = self.base.as_str().trim_end_matches('/');
        let mut url = match &self.collection {
            Some(name) => format!("{base}/v1/c/{name}"),
            None => format!("{base}/v1"),
        };
        for segment in segments {
            url.push('/');
            url.push_str(segment);
        }
        for (i, (name, value)) in query.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.push_str(&escape(value));
        }
        url
    }

    /// A request for one key. The key is in the query, where nobody rewrites it as in a path, or in a header if it is too
    /// long for an address.
    pub(super) fn key_request(&self, method: Method, key: &Key, query: &[(&str, &[u8])]) -> RequestBuilder {
        let escaped = escape(key.as_bytes());
        if escaped.len() <= LONGEST_IN_ADDRESS {
            let query: Vec<_> = [("key", key.as_bytes())].into_iter().chain(query.iter().copied()).collect();
            return self.http.request(method, self.url(&["kv"], &query));
        }
        let request = self.http.request(method, self.url(&["kv"], query));
        request.header("crumbd-key", BASE64.encode(key.as_bytes()))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, ClientError> {
        self.accepted(self.send_any(request).await?).await
    }

    /// Sends a request. The answer may be a refusal.
    pub(super) async fn send_any(&self, request: reqwest::RequestBuilder) -> Result<Response, ClientError> {
        let request = match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        };
        let request = match &self.relays {
            Some(ids) => request.header("crumbd-relay", ids),
            None => request,
        };
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    /// The answer, if it is no refusal.
    pub(super) async fn accepted(&self, response: Response) -> Result<Response, ClientError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let location =
            response.headers().get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let problem = serde_json::from_slice(&body).unwrap_or_else(|_| ProblemBody {
            kind: String::new(),
            title: status.canonical_reason().unwrap_or("error").to_owned(),
            detail: match location {
                Some(location) => format!("{} sends its clients to {location}", self.shown),
                None => format!("{} answered {}", self.shown, excerpt(&body)),
            },
        });
        let ProblemBody { kind, title, detail } = problem;
        let kind = kind.strip_prefix("urn:crumbd:problem:").unwrap_or_default().to_owned();
        Err(ClientError::Refused { status: status.as_u16(), kind, title, detail, retry_after })
    }

    /// A `GET` request.
    pub(super) fn get_request(&self, segments: &[&str], query: &[(&str, &[u8])]) -> RequestBuilder {
        self.http.get(self.url(segments, query))
    }

    pub(super) fn silent(&self, silence: Duration) -> ClientError {
        ClientError::Silent { url: self.shown.clone(), seconds: silence.as_secs() }
    }

    /// The error of a stream that was cut off.
    pub(in crate::client) fn broke_off(&self, reason: &str) -> ClientError {
        ClientError::Unreachable { url: self.shown.clone(), reason: reason.to_owned(), was_sent: true }
    }

    pub(super) fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        if let Some(reason) = self.tls.explain(error) {
            return ClientError::Tls { url: self.shown.clone(), reason };
        }
        let mut reason = String::new();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(error) = cause {
            // Outer errors often repeat their causes: only the innermost says what happened.
            reason = error.to_string();
            cause = error.source();
        }
        if reason.is_empty() || error.is_timeout() {
            reason = error.to_string();
        } else if error.is_request() && !error.is_connect() && self.base.scheme() == "https" {
            // In TLS 1.3 a client is refused after its side of the handshake is done. If the connection ends before
            // the refusal is read, this is all that is known.
            reason = format!("{reason}; perhaps {}", self.tls.why_hung_up_on());
        }
        ClientError::Unreachable { url: self.shown.clone(), reason, was_sent: !error.is_connect() }
    }

    /// Sends a request that does not wait for a breadcrumb, with `uploaded` bytes of body.
    pub(super) async fn send_in_time(
        &self,
        request: reqwest::RequestBuilder,
        uploaded: usize,
    ) -> Result<Response, ClientError> {
        let time = self.timeout + Duration::from_secs((uploaded / SLOWEST_UPLOAD) as u64);
        timeout(time, self.send(request)).await.map_err(|_| self.silent(time))?
    }

    /// The whole of a body that is not a list of records.
    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        loop {
            let chunk =
                timeout(self.timeout, response.chunk()).await.map_err(|_| self.silent(self.timeout))?;
            match chunk.map_err(|error| self.unreachable(&error))? {
                Some(chunk) => body.extend_from_slice(&chunk),
                None => return Ok(body),
            }
        }
    }

    /// The records of the newest state, or of a kept one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn snapshot(
        &self,
        at: Option<OpaqueCursor>,
        prefix: Option<&Key>,
        media: MediaType,
    ) -> Result<Records, ClientError> {
        let at = at.map_or("current".to_owned(), |cursor| cursor.to_string());
        let url = self.url(&["breadcrumbs", &at], &prefix_query(prefix));
        let request = self.http.get(url).header(ACCEPT, media.as_str());
        let response = self.send_in_time(request, 0).await?;
        self.require_answer(&response, media)?;
        require_whole_head(response.headers())?;
        Ok(Records::new(self.clone(), response, media, self.timeout))
    }

    /// The changes after the cursor, by a long poll. With `rights`, which an earlier answer named, the daemon refuses
    /// (410) if they have changed since, because the state would have holes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next(
        &self,
        cursor: OpaqueCursor,
        rights: Option<&str>,
        prefix: Option<&Key>,
        media: MediaType,
    ) -> Result<Next, ClientError> {
        let wait = format!("{}ms", self.wait().as_millis());
        let mut query = vec![("wait", wait.as_bytes())];
        query.extend(prefix_query(prefix));
        query.extend(rights.map(|rights| ("rights", rights.as_bytes())));
        let url = self.url(&["breadcrumbs", &cursor.to_string(), "next"], &query);
        let request = self.http.get(url).header(ACCEPT, media.as_str());
        let response = self.send_in_time(request, 0).await?;
        require_whole_head(response.headers())?;
        if response.status() == StatusCode::NO_CONTENT {
            let (cursor, rights) = (cursor_of(response.headers())?, linked_rights(response.headers()));
            return Ok(Next::Nothing { cursor, rights });
        }
        self.require_answer(&response, media)?;
        Ok(Next::Updates(Box::new(Records::new(self.clone(), response, media, self.timeout))))
    }

    /// A stream of NDJSON: the state and everything after it, or everything after a cursor (with the rights under which
    /// its state was read). A daemon that sends nothing for `silence` counts as gone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stream(
        &self,
        from: Option<(OpaqueCursor, Option<&str>)>,
        prefix: Option<&Key>,
        silence: Duration,
    ) -> Result<Records, ClientError> {
        let from = from.map(|(cursor, rights)| match rights {
            Some(rights) => format!("{cursor}~{rights}"),
            None => cursor.to_string(),
        });
        let mut query: Vec<(&str, &[u8])> = from.iter().map(|from| ("from", from.as_bytes())).collect();
        query.extend(prefix_query(prefix));
        let url = self.url(&["stream"], &query);
        let request = self.http.get(url).header(ACCEPT, MediaType::Ndjson.as_str());
        let head = silence.min(DEADLINE);
        let response = timeout(head, self.send(request)).await.map_err(|_| self.silent(head))??;
        self.require_answer(&response, MediaType::Ndjson)?;
        Ok(Records::stream(self.clone(), response, silence))
    }

    /// Refuses an answer that is none of a daemon's, such as a page of a proxy.
    fn require_answer(&self, response: &Response, media: MediaType) -> Result<(), ClientError> {
        let (status, shown) = (response.status(), &self.shown);
        if status != StatusCode::OK {
            return Err(ClientError::Protocol(format!("{shown} answered with status {status}, not 200")));
        }
        let named =
            response.headers().get(CONTENT_TYPE).and_then(|named| named.to_str().ok()).unwrap_or("none");
        match named.split(';').next().map(str::trim) {
            Some(essence) if essence.eq_ignore_ascii_case(media.as_str()) => Ok(()),
            _ => Err(ClientError::Protocol(format!(
                "its media type is {named:?}, and {} was asked for; perhaps a proxy answers at {shown}",
                media.as_str()
            ))),
        }
    }

    /// The raw bytes of one value.
    ///
    /// # Errors
    /// [`ClientError`]; an absent key is a [`ClientError::Refused`] with status 404.
    pub async fn get(&self, key: &Key, at: Option<OpaqueCursor>) -> Result<Vec<u8>, ClientError> {
        let at = at.map(|cursor| cursor.to_string());
        let query: Vec<(&str, &[u8])> = at.iter().map(|at| ("at", at.as_bytes())).collect();
        self.body(self.send_in_time(self.key_request(Method::GET, key, &query), 0).await?).await
    }

    /// Sets a key. The `content_type` `application/json` asks for compact JSON, any other for the bytes as they are.
    /// Returns the cursor at which the write can be read.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put(
        &self,
        key: &Key,
        value: Vec<u8>,
        content_type: &str,
    ) -> Result<OpaqueCursor, ClientError> {
        let uploaded = value.len();
        let request = self.key_request(Method::PUT, key, &[]).header(CONTENT_TYPE, content_type).body(value);
        cursor_of(self.send_in_time(request, uploaded).await?.headers())
    }

    /// Removes a key. Returns the cursor at which the write can be read.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&self, key: &Key) -> Result<OpaqueCursor, ClientError> {
        cursor_of(self.send_in_time(self.key_request(Method::DELETE, key, &[]), 0).await?.headers())
    }

    /// Applies records (NDJSON), as one revision.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post(&self, records: Vec<u8>) -> Result<Posted, ClientError> {
        let uploaded = records.len();
        let request = self.http.post(self.url(&["updates"], &[]));
        let request = request.header(CONTENT_TYPE, MediaType::Ndjson.as_str()).body(records);
        let response = self.send_in_time(request, uploaded).await?;
        let cursor = cursor_of(response.headers())?;
        self.posted(cursor, response).await
    }

    /// What the body of an answer to a write says.
    pub(super) async fn posted(
        &self,
        cursor: OpaqueCursor,
        response: Response,
    ) -> Result<Posted, ClientError> {
        let body: PostedBody = serde_json::from_slice(&self.body(response).await?)
            .map_err(|error| ClientError::Protocol(error.to_string()))?;
        Ok(Posted { cursor, changed: body.changed })
    }

    /// The state of the collection and the daemon as the JSON text of `/v1/status`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<String, ClientError> {
        self.text(self.url(&["status"], &[])).await
    }

    /// The daemon's collections as the JSON text of `/v1/collections`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn collections(&self) -> Result<String, ClientError> {
        self.text(self.daemon_url("collections")).await
    }

    /// The daemon's word for being ready; of the collection, if the client has one. With `wait` it may take so long to become
    /// ready.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] with status 503 if it is not ready.
    pub async fn ready(&self, wait: Option<Duration>) -> Result<String, ClientError> {
        let wait = wait.map(|wait| format!("wait={}ms", wait.as_millis()));
        let collection = self.collection.as_ref().map(|name| format!("collection={name}"));
        let query: Vec<String> = wait.into_iter().chain(collection).collect();
        self.text(format!("{}/readyz?{}", self.base.as_str().trim_end_matches('/'), query.join("&"))).await
    }

    /// The daemon's word for being alive.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] with status 503 if a part of it makes no progress.
    pub async fn alive(&self) -> Result<String, ClientError> {
        self.text(format!("{}/livez", self.base.as_str().trim_end_matches('/'))).await
    }

    async fn text(&self, url: String) -> Result<String, ClientError> {
        let response = self.send_in_time(self.http.get(url), 0).await?;
        Ok(String::from_utf8_lossy(&self.body(response).await?).into_owned())
    }
}

pub(super) fn prefix_query(prefix: Option<&Key>) -> Vec<(&'static str, &[u8])> {
    prefix.map(|prefix| ("prefix", prefix.as_bytes())).into_iter().collect()
}

fn escape(bytes: &[u8]) -> String {
    percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The time of `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let time = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are a long time, too.
        text.parse().map_or(LONGEST_RETRY_AFTER, Duration::from_secs)
    } else {
        let at = httpdate::parse_http_date(text).ok()?;
        at.duration_since(SystemTime::now()).unwrap_or_default()
    };
    Some(time.min(LONGEST_RETRY_AFTER))
}

/// The address without its user and password.
fn without_credentials(base: &Url) -> String {
    let mut shown = base.clone();
    // It fails for addresses that cannot have any.
    _ = shown.set_username("");
    _ = shown.set_password(None);
    shown.to_string()
}

/// The beginning of a body that is no problem of ours, in one line.
fn excerpt(body: &[u8]) -> String {
    let beginning = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
    let line: String =
        beginning.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(EXCERPT).collect();
    if line.is_empty() { "without a reason".to_owned() } else { format!("{line:?}") }
}

pub(super) fn cursor_of(headers: &HeaderMap) -> Result<OpaqueCursor, ClientError> {
    let text = headers.get("crumbd-cursor").and_then(|value| value.to_str().ok());
    let text = text.ok_or_else(|| ClientError::Protocol("it has no Crumbd-Cursor".to_owned()))?;
    text.parse().map_err(|error: crate::model::CursorError| ClientError::Protocol(error.to_string()))
}

/// Refuses an answer without its `Link`: a proxy has dropped it, or the head was cut off.
fn require_whole_head(headers: &HeaderMap) -> Result<(), ClientError> {
    match headers.contains_key(LINK) {
        true => Ok(()),
        false => Err(ClientError::Protocol("it has no Link; perhaps its head was cut off".to_owned())),
    }
}

/// reqwest does not name its URL error type; this does.
mod url_error {
    pub(super) type ParseError = <reqwest::Url as std::str::FromStr>::Err;
}
