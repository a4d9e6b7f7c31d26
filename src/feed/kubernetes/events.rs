//! The events of a watch: a line of JSON each.

use std::borrow::Cow;

use bytes::{Buf as _, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::Answer;
use super::error::{KubeError, Status};
use super::object::{Keep, Object, TypeMeta, revision};
use crate::model::{Change, Entry, Key, Revision, Update};

/// The longest line. etcd takes no object above 8 MiB.
const MAX_LINE: usize = 64 << 20;

/// The lines of an answer.
pub(super) struct Lines {
    answer: Answer,
    unfinished: BytesMut,
}

/// An event of a watch.
pub(super) enum Event {
    /// An object was set; `is_new` if it was not there before.
    Set { object: Object, is_new: bool },
    /// An object was deleted, or has left the selectors.
    Deleted(Object),
    /// There is no further event up to this revision.
    Bookmark {
        revision: Revision,
        /// Whether it ends the state with which a streaming list begins.
        ends_the_list: bool,
    },
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    resource_version: String,
    #[serde(default)]
    annotations: BookmarkAnnotations,
}

#[derive(Deserialize, Default)]
struct BookmarkAnnotations {
    #[serde(default, rename = "k8s.io/initial-events-end")]
    initial_events_end: Option<String>,
}

impl Lines {
    pub(super) fn new(answer: Answer) -> Self {
        Self { answer, unfinished: BytesMut::new() }
    }

    /// The whole lines that have arrived together; `None` at the end of the answer. Cancel-safe.
    ///
    /// # Errors
    /// When the connection breaks, or the answer ends within a line.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, KubeError> {
        loop {
            let Some(chunk) = self.answer.chunk().await? else {
                let within_a_line = !self.unfinished.trim_ascii().is_empty();
                return if within_a_line { Err(KubeError::Closed) } else { Ok(None) };
            };
            let Some(end) = memchr::memrchr(b'\n', &chunk) else {
                self.unfinished.extend_from_slice(&chunk);
                if self.unfinished.len() > MAX_LINE {
                    return Err(KubeError::Nonsense("a line of a watch that does not end"));
                }
                continue;
            };
            let mut whole = chunk;
            let rest = whole.split_off(end + 1);
            let mut before = std::mem::replace(&mut self.unfinished, BytesMut::from(&rest[..]));
            if !before.has_remaining() {
                return Ok(Some(whole));
            }
            before.extend_from_slice(&whole);
            return Ok(Some(before.freeze()));
        }
    }
}

/// Whole lines, one after the other.
pub(super) fn split(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty())
}

impl Event {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is no event, or an `ERROR` event, which is the server's error and never data.
    pub(super) fn read(line: &[u8], of: &TypeMeta, keep: Keep) -> Result<Self, KubeError> {
        let frame: Frame<'_> = serde_json::from_slice(line).map_err(KubeError::Json)?;
        let json = frame.object.get();
        Ok(match &*frame.kind {
            kind @ ("ADDED" | "MODIFIED") => {
                Self::Set { object: Object::read(json, of, keep)?, is_new: kind == "ADDED" }
            }
            "DELETED" => Self::Deleted(Object::read(json, of, keep)?),
            "BOOKMARK" => {
                let Bookmark { metadata } = serde_json::from_str(json).map_err(KubeError::Json)?;
                let ends_the_list = metadata.annotations.initial_events_end.as_deref() == Some("true");
                Self::Bookmark { revision: revision(&metadata.resource_version)?, ends_the_list }
            }
            "ERROR" => {
                let status = Status::of(json.as_bytes());
                return Err(
                    status.map_or(KubeError::Nonsense("an ERROR event without a status"), Status::into_error)
                );
            }
            _ => return Err(KubeError::Nonsense("an event of an unknown type")),
        })
    }
}

/// An update that sets a key as the server has it.
pub(super) fn put(object: Object) -> Update {
    let entry = Entry::new(&object.key, &object.value, None);
    Update { revision: Some(object.revision), ..Update::from(entry) }
}

/// An update that deletes a key.
pub(super) fn delete(object: &Object) -> Update {
    Update { change: Change::Delete(Key::copy_from(&object.key)), revision: Some(object.revision) }
}
