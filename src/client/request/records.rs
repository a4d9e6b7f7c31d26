//! The records of a body.

use std::time::Duration;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use reqwest::Response;
use reqwest::header::{HeaderMap, LINK};
use tokio::time::timeout;

use super::{Client, ClientError};
use crate::wire::{MediaType, Record, RecordReader};

/// How much of a body has arrived.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Entries read.
    pub entries: u64,
    /// Entries in all, if the daemon says.
    pub total: Option<u64>,
}

/// The records of a body, as they arrive.
#[derive(Debug)]
pub struct Records {
    client: Client,
    response: Response,
    reader: RecordReader,
    /// The rights under which the answer was made, if there are any.
    rights: Option<String>,
    /// How long the daemon may send nothing.
    silence: Duration,
    /// Whether any byte of the body has arrived.
    begun: bool,
}

impl Records {
    pub(super) fn new(client: Client, response: Response, media: MediaType, silence: Duration) -> Self {
        let rights = linked_rights(response.headers());
        Self {
            client,
            response,
            reader: RecordReader::new(media).skipping_unknown(),
            rights,
            silence,
            begun: false,
        }
    }

    /// The records of a stream, on which something arrives at least every `silence`.
    pub(super) fn stream(client: Client, response: Response, silence: Duration) -> Self {
        let rights = response.headers().get("crumbd-rights").and_then(|value| value.to_str().ok());
        let rights = rights.map(str::to_owned);
        Self { rights, ..Self::new(client, response, MediaType::Ndjson, silence) }
    }

    /// The next record; `None` after the body's `end`.
    ///
    /// # Errors
    /// [`ClientError`], also if the body ends before its `end`.
    pub async fn next(&mut self) -> Result<Option<Record>, ClientError> {
        loop {
            if let Some(record) = self.reader.next_record()? {
                return Ok(Some(record));
            }
            match self.chunk().await? {
                Some(bytes) => self.reader.push(&bytes),
                None => return Ok(self.reader.finish().map(|()| None)?),
            }
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        let chunk = timeout(self.silence, self.response.chunk()).await;
        let chunk = chunk.map_err(|_| self.client.silent(self.silence))?;
        let chunk = chunk.map_err(|error| self.client.unreachable(&error))?;
        self.begun |= chunk.is_some();
        Ok(chunk)
    }

    /// The rights under which the answer was made, as `rights=` names them; `None` from a daemon without tokens.
    pub fn rights(&self) -> Option<&str> {
        self.rights.as_deref()
    }

    /// Whether any byte of the body has arrived.
    pub(in crate::client) fn has_begun(&self) -> bool {
        self.begun
    }
}

/// The rights in the `next` link.
pub(super) fn linked_rights(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let next = links.filter(|link| link.contains("rel=\"next\"")).find_map(|link| {
        let (_, address) = link.split_once('<')?;
        let (address, _) = address.split_once('>')?;
        address.split_once('?').map(|(_, query)| query.to_owned())
    })?;
    let rights = next.split('&').find_map(|parameter| parameter.strip_prefix("rights="))?;
    Some(percent_decode_str(rights).decode_utf8_lossy().into_owned())
}
