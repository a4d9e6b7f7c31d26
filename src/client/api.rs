//! The requests that a client makes.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use super::{ClientTls, MirrorError};
use crate::model::{Cursor, Key};
use crate::wire::{MediaType, Record, RecordReader, WireError};

/// How long to wait for a connection, and for an answer beyond what was asked for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one long poll asks to wait; below the half minute after which many proxies give up.
const WAIT: Duration = Duration::from_secs(25);

/// Why a request did not bring what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is none.
    #[error("{url:?} is not the address of a daemon: {reason}; it looks like http://127.0.0.1:7811")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token can be none.
    #[error("the token holds characters that no token has, such as a line break")]
    Token,
    /// A certificate or key cannot be used.
    #[error("{what} {}: {reason}", path.display())]
    TlsFile {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The two do not trust each other, or one of them speaks no TLS.
    #[error("no TLS with {url}: {reason}")]
    Tls {
        /// The daemon's address.
        url: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The daemon was not reached, or the connection broke.
    #[error("no answer from {url}: {reason}")]
    Unreachable {
        /// The daemon's address.
        url: String,
        /// The whole chain of causes.
        reason: String,
    },
    /// The daemon refused.
    #[error("{title} ({status}): {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its name.
        title: String,
        /// What the daemon says.
        detail: String,
    },
    /// The answer is not one of this protocol.
    #[error("the daemon's answer makes no sense: {0}")]
    Protocol(String),
    /// A body that cannot be read.
    #[error("the daemon's answer cannot be read: {0}")]
    Wire(#[from] WireError),
    /// A body that disagrees with the state.
    #[error("the daemon's answer does not fit the state: {0}")]
    Mirror(#[from] MirrorError),
}

impl ClientError {
    /// Whether the cursor is gone and only a snapshot helps.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { status: 410, .. })
    }

    /// Whether the same request may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

/// How far a body has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Entries read.
    pub entries: u64,
    /// Entries that there are, when the daemon says.
    pub total: Option<u64>,
}

/// A connection to one daemon. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    base: Url,
    http: reqwest::Client,
    tls: ClientTls,
    /// `Bearer …`, for a daemon that wants a token.
    authorization: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct ProblemBody {
    title: String,
    detail: String,
}

impl Client {
    /// A client of the daemon at this address, such as `http://127.0.0.1:7811`.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::over_tls(url, ClientTls::default())
    }

    /// The same for an address that begins with `https://`, with other authorities than the system's, or with a
    /// certificate to show.
    ///
    /// # Errors
    /// [`ClientError::Url`], [`ClientError::TlsFile`].
    pub fn over_tls(url: &str, tls: ClientTls) -> Result<Self, ClientError> {
        let error = |reason: String| ClientError::Url { url: url.to_owned(), reason };
        let base: Url = url.parse().map_err(|e: url_error::ParseError| error(e.to_string()))?;
        let over_tls = base.scheme() == "https";
        if base.cannot_be_a_base() || (base.scheme() != "http" && !over_tls) {
            return Err(error("only http:// and https:// are spoken".to_owned()));
        }
        // Who names certificates does not expect that nothing is encrypted.
        if !over_tls && !tls.is_default() {
            return Err(error("certificates are for https:// only".to_owned()));
        }
        let http = reqwest::Client::builder().connect_timeout(PATIENCE);
        let http = http.tls_backend_preconfigured(tls.config(over_tls)?).build();
        Ok(Self { base, http: http.map_err(|e| error(e.to_string()))?, tls, authorization: None })
    }

    /// The same, with a token.
    ///
    /// # Errors
    /// [`ClientError::Token`].
    pub fn with_token(self, token: &str) -> Result<Self, ClientError> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self })
    }

    fn url(&self, segments: &[&str], query: &[(&str, &[u8])]) -> String {
        let mut url = self.base.as_str().trim_end_matches('/').to_owned();
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

    fn key_url(&self, key: &Key, query: &[(&str, &[u8])]) -> String {
        self.url(&["v1", "kv", &escape(key.as_bytes())], query)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, ClientError> {
        let request = match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let problem = serde_json::from_slice(&body).unwrap_or_else(|_| ProblemBody {
            title: status.canonical_reason().unwrap_or("error").to_owned(),
            detail: String::from_utf8_lossy(&body).chars().take(200).collect(),
        });
        let ProblemBody { title, detail } = problem;
        Err(ClientError::Refused { status: status.as_u16(), title, detail })
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        if let Some(reason) = self.tls.explain(error) {
            return ClientError::Tls { url: self.base.to_string(), reason };
        }
        let mut reason = String::new();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(error) = cause {
            // Inner errors often repeat their causes: only the last ones say what happened.
            reason = error.to_string();
            cause = error.source();
        }
        if reason.is_empty() || error.is_timeout() {
            reason = error.to_string();
        }
        ClientError::Unreachable { url: self.base.to_string(), reason }
    }

    /// The newest state, or a kept one: its records as they come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn snapshot(
        &self,
        at: Option<Cursor>,
        prefix: Option<&Key>,
        media: MediaType,
    ) -> Result<Records, ClientError> {
        let at = at.map_or("current".to_owned(), |cursor| cursor.to_string());
        let url = self.url(&["v1", "breadcrumbs", &at], &prefix_query(prefix));
        let request = self.http.get(url).header(ACCEPT, media.as_str());
        Ok(self.records(self.send(request).await?, media))
    }

    /// What comes after the cursor; `Err` holds the cursor when nothing came in time.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next(
        &self,
        cursor: Cursor,
        prefix: Option<&Key>,
        media: MediaType,
    ) -> Result<Result<Records, Cursor>, ClientError> {
        let wait = format!("{}s", WAIT.as_secs());
        let mut query = vec![("wait", wait.as_bytes())];
        query.extend(prefix_query(prefix));
        let url = self.url(&["v1", "breadcrumbs", &cursor.to_string(), "next"], &query);
        let request = self.http.get(url).header(ACCEPT, media.as_str()).timeout(WAIT + PATIENCE);
        let response = self.send(request).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Err(cursor_of(response.headers())?));
        }
        Ok(Ok(self.records(response, media)))
    }

    fn records(&self, response: Response, media: MediaType) -> Records {
        Records { client: self.clone(), response, reader: RecordReader::new(media) }
    }

    /// The raw bytes of one value.
    ///
    /// # Errors
    /// [`ClientError`]; an absent key is a [`ClientError::Refused`] with status 404.
    pub async fn get(&self, key: &Key, at: Option<Cursor>) -> Result<Vec<u8>, ClientError> {
        let at = at.map(|cursor| cursor.to_string());
        let query: Vec<(&str, &[u8])> = at.iter().map(|at| ("at", at.as_bytes())).collect();
        let response = self.send(self.http.get(self.key_url(key, &query))).await?;
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        Ok(bytes.to_vec())
    }

    /// Sets a key; `content_type` `application/json` asks for compact JSON, anything else for the
    /// bytes as they are. Returns the cursor at which the write can be read.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put(&self, key: &Key, value: Vec<u8>, content_type: &str) -> Result<Cursor, ClientError> {
        let request = self.http.put(self.key_url(key, &[])).header(CONTENT_TYPE, content_type).body(value);
        cursor_of(self.send(request).await?.headers())
    }

    /// Removes a key. Returns the cursor at which the write can be read.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&self, key: &Key) -> Result<Cursor, ClientError> {
        cursor_of(self.send(self.http.delete(self.key_url(key, &[]))).await?.headers())
    }

    /// The daemon's state as the JSON text of `/v1/status`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<String, ClientError> {
        let response = self.send(self.http.get(self.url(&["v1", "status"], &[]))).await?;
        response.text().await.map_err(|error| self.unreachable(&error))
    }
}

/// The records of a body, as they arrive.
#[derive(Debug)]
pub struct Records {
    client: Client,
    response: Response,
    reader: RecordReader,
}

impl Records {
    /// The next record; `None` after the body's `end`.
    ///
    /// # Errors
    /// [`ClientError`], also where the body ends before its `end`.
    pub async fn next(&mut self) -> Result<Option<Record>, ClientError> {
        loop {
            if let Some(record) = self.reader.next_record()? {
                return Ok(Some(record));
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.reader.push(&bytes),
                Ok(None) => return Ok(self.reader.finish().map(|()| None)?),
                Err(error) => return Err(self.client.unreachable(&error)),
            }
        }
    }
}

fn prefix_query(prefix: Option<&Key>) -> Vec<(&'static str, &[u8])> {
    prefix.map(|prefix| ("prefix", prefix.as_bytes())).into_iter().collect()
}

fn escape(bytes: &[u8]) -> String {
    percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn cursor_of(headers: &HeaderMap) -> Result<Cursor, ClientError> {
    let text = headers.get("crumbd-cursor").and_then(|value| value.to_str().ok());
    let text = text.ok_or_else(|| ClientError::Protocol("it has no Crumbd-Cursor".to_owned()))?;
    text.parse().map_err(|error: crate::model::CursorError| ClientError::Protocol(error.to_string()))
}

/// reqwest does not name its URL error type; this does.
mod url_error {
    pub(super) type ParseError = <reqwest::Url as std::str::FromStr>::Err;
}
