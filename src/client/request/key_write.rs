//! Writes of one key, as a relay passes them on.

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};

use super::client::cursor_of;
use super::{Client, ClientError, Posted};
use crate::model::{Key, Revision};

/// A write of one key.
#[derive(Debug)]
pub struct KeyWrite<'a> {
    /// The key.
    pub key: &'a Key,
    /// The bytes of its value; `None` removes the key.
    pub value: Option<Vec<u8>>,
    /// The value of `If-Match`.
    pub if_match: Option<String>,
    /// The value of `If-None-Match`.
    pub if_none_match: Option<String>,
}

/// The answer to a write of one key.
#[derive(Clone, Copy, Debug)]
pub struct KeyWritten {
    /// The cursor at which it can be read, and whether the key has changed.
    pub posted: Posted,
    /// The revision at which the key has its value; `None` after a deletion, or where the daemon does not say.
    pub revision: Option<Revision>,
}

impl Client {
    /// Writes one key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn write_key(&self, write: KeyWrite<'_>) -> Result<KeyWritten, ClientError> {
        let KeyWrite { key, value, if_match, if_none_match } = write;
        let uploaded = value.as_ref().map_or(0, Vec::len);
        let mut request = match value {
            Some(value) => {
                let request = self.key_request(Method::PUT, key, &[]);
                request.header(CONTENT_TYPE, "application/octet-stream").body(value)
            }
            None => self.key_request(Method::DELETE, key, &[]),
        };
        let conditions = [(IF_MATCH, if_match), (IF_NONE_MATCH, if_none_match)];
        for (name, value) in conditions.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            request = request.header(name, value);
        }
        let response = self.send_in_time(request, uploaded).await?;
        let cursor = cursor_of(response.headers())?;
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
        let revision = etag.and_then(revision_of);
        Ok(KeyWritten { posted: self.posted(cursor, response).await?, revision })
    }
}

/// The revision in a key's ETag, `"HISTORY.REVISION"`.
fn revision_of(etag: &str) -> Option<Revision> {
    let (_, revision) = etag.strip_prefix('"')?.strip_suffix('"')?.split_once('.')?;
    revision.parse().ok().map(Revision)
}
