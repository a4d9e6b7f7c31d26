//! What a crumbd daemon says of itself.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use super::{KeptConnection, LoadError, Target};

/// How long the daemon may take to say how it is, even when thousands are being served.
const PATIENCE: Duration = Duration::from_secs(20);

/// The part of `/v1/status` that a load needs.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// The feed's specification.
    pub feed: String,
    /// Of the newest breadcrumb; none before the first one.
    pub cursor: Option<String>,
    /// Of the newest breadcrumb.
    pub revision: u64,
    /// Of the newest breadcrumb.
    pub sequence: u64,
    /// Keys.
    pub count: u64,
    /// Of the state.
    pub digest: String,
    /// Long polls that are parked.
    pub waiters: u64,
}

impl Status {
    /// Asks over a connection of its own.
    ///
    /// # Errors
    /// [`LoadError`]; an answer that is none of crumbd's is [`LoadError::Answer`].
    pub async fn get(target: &Target) -> Result<Self, LoadError> {
        Self::ask(&mut KeptConnection::connect(target).await?).await
    }

    /// Asks over this connection.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn ask(connection: &mut KeptConnection) -> Result<Self, LoadError> {
        let request = format!("GET /v1/status HTTP/1.1\r\n{}\r\n", connection.target().fields());
        let read = connection.exchange(request.as_bytes(), |answer| {
            if answer.status != 200 {
                let (status, detail) = (answer.status, answer.detail());
                return Err(LoadError::Refused { what: "/v1/status", status, detail });
            }
            let readable = serde_json::from_slice(answer.body);
            readable.map_err(|error| LoadError::Answer(format!("/v1/status is not crumbd's: {error}")))
        });
        let late = |_| LoadError::Late { what: "an answer of /v1/status".to_owned(), after: PATIENCE };
        timeout(PATIENCE, read).await.map_err(late)??
    }

    /// Whether the daemon takes writes.
    pub fn is_writable(&self) -> bool {
        self.feed.starts_with("push:")
    }
}
