//! Writes on a relay go to its upstream, and are answered once the relay has them.
//!
//! A request that may have reached the upstream is never sent twice.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::MAX_PATH;
use super::config::RelayConfig;
use crate::client::{Client, ClientError, KeyWrite, KeyWritten, Posted};
use crate::feed::write::barrier;
use crate::feed::{WriteError, WriteRequest, Writer};
use crate::ingest::IngestBuffer;
use crate::model::{
    Change, Committed, Condition, Cursor, FeedEvent, Grouping, History, Key, Revision, Update,
};
use crate::wire::{End, Header, PutKind, Record, write_record};

/// How long a write waits until the relay has read it.
const READ_BACK: Duration = Duration::from_secs(10);

/// How long a write waits for the first time that the relay follows its upstream.
const FIRST_READ: Duration = Duration::from_secs(1);

/// What a relay follows, and how far it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Followed {
    /// The id of this daemon.
    pub(super) id: String,
    /// The index of the upstream that is followed.
    pub(super) host: usize,
    /// The upstream's cursor of the state that the cache has; `None` while everything is read.
    pub(super) cursor: Option<Cursor>,
}

/// The write side of a relay.
pub(super) struct RelayWriter {
    config: RelayConfig,
    clients: Vec<Client>,
    followed: watch::Receiver<Followed>,
    buffer: Arc<IngestBuffer<FeedEvent>>,
}

impl RelayWriter {
    /// The path of a write that goes on from here. A circle of relays would pass it on for ever.
    fn path(&self, write: &WriteRequest) -> Result<String, WriteError> {
        let Followed { id, .. } = &*self.followed.borrow();
        if write.path.contains(id) {
            return Err(not_done("the relays pass it on in a circle; let one of them follow the root"));
        }
        if write.path.len() >= MAX_PATH {
            return Err(not_done("it has come through too many relays"));
        }
        Ok(write.path.iter().chain([id]).cloned().collect::<Vec<_>>().join(","))
    }

    pub(super) fn new(
        config: RelayConfig,
        clients: Vec<Client>,
        followed: watch::Receiver<Followed>,
        buffer: Arc<IngestBuffer<FeedEvent>>,
    ) -> Self {
        Self { config, clients, followed, buffer }
    }

    /// The client of the followed upstream, and the upstream's history.
    async fn upstream(&self) -> Result<(&str, Client, History), WriteError> {
        let mut followed = self.followed.clone();
        let reads = followed.wait_for(|followed| followed.cursor.is_some());
        let Ok(Ok(Followed { host, cursor: Some(cursor), .. })) =
            timeout_at(Instant::now() + FIRST_READ, reads)
                .await
                .map(|reads| reads.map(|followed| followed.clone()))
        else {
            return Err(not_done("this relay has no upstream that it follows at the moment"));
        };
        let name = self.config.hosts.get(host).map_or("", String::as_str);
        let client = self.clients.get(host).cloned().ok_or_else(|| not_done("this relay has no upstream"))?;
        let client = match self.config.token().map_err(not_done)? {
            Some(token) => client.with_token(&token).map_err(not_done)?,
            None => client,
        };
        Ok((name, client, cursor.history))
    }

    async fn send(
        &self,
        client: &Client,
        history: History,
        write: &WriteRequest,
    ) -> Result<KeyWritten, ClientError> {
        let WriteRequest { updates, grouping, conditions, .. } = write;
        let one = match (&updates[..], grouping) {
            ([Update { change: Change::Put(entry), .. }], Grouping::Whole | Grouping::ByRevision)
                if entry.ttl().is_none() =>
            {
                Some((entry.to_key(), Some(entry.value().to_vec())))
            }
            ([Update { change: Change::Delete(key), .. }], Grouping::Whole | Grouping::ByRevision) => {
                Some((key.clone(), None))
            }
            _ => None,
        };
        let Some((key, value)) = one else {
            let posted = client.post(records(updates, *grouping)).await?;
            return Ok(KeyWritten { posted, revision: None });
        };
        let (if_match, if_none_match) = condition_headers(conditions, history);
        client.write_key(KeyWrite { key: &key, value, if_match, if_none_match }).await
    }

    /// Waits until the cache has what the upstream has at this cursor. Returns the cursor here.
    async fn read_back(&self, written: Cursor) -> Result<Cursor, WriteError> {
        let deadline = Instant::now() + READ_BACK;
        let late = || WriteError::NotYetRead { revision: written.revision };
        let mut followed = self.followed.clone();
        let reached = followed.wait_for(|followed| {
            followed.cursor.is_some_and(|at| at.history != written.history || at.revision >= written.revision)
        });
        let at = match timeout_at(deadline, reached).await {
            Ok(Ok(followed)) => followed.cursor,
            Ok(Err(_)) | Err(_) => return Err(late()),
        };
        if at.is_some_and(|at| at.history != written.history) {
            let why = "the upstream has begun a new history meanwhile".to_owned();
            return Err(WriteError::Unsettled { why });
        }
        match timeout_at(deadline, barrier(&self.buffer, Vec::new())).await {
            Ok(Some(Ok(committed))) => Ok(committed.cursor),
            Ok(Some(Err(_)) | None) | Err(_) => Err(late()),
        }
    }
}

impl Writer for RelayWriter {
    fn write(&self, write: WriteRequest) -> BoxFuture<'_, Result<Committed, WriteError>> {
        Box::pin(async move {
            self.check_prefix(&write)?;
            let (host, client, history) = self.upstream().await?;
            let client = client.for_relays(&self.path(&write)?);
            let written = self.send(&client, history, &write).await;
            let KeyWritten { posted: Posted { cursor, changed }, revision } =
                written.map_err(|error| self.refused(host, error))?;
            let cursor = cursor
                .read()
                .map_err(|error| self.refused(host, ClientError::Protocol(error.to_string())))?;
            let here = self.read_back(cursor).await?;
            let Some(changed) = changed else {
                let why = format!(
                    "{host} has done it, and does not say what has changed: the token of this relay may not read what \
                     it writes"
                );
                return Err(WriteError::Unsettled { why });
            };
            let changed = usize::try_from(changed).unwrap_or(usize::MAX);
            let revision = revision.or_else(|| (changed > 0).then_some(cursor.revision));
            Ok(Committed { cursor: here, revision: revision.filter(|_| changed > 0), changed })
        })
    }
}

impl RelayWriter {
    /// Refuses what this relay would not read back, or what would delete keys that it does not have.
    fn check_prefix(&self, write: &WriteRequest) -> Result<(), WriteError> {
        let Some(prefix) = &self.config.prefix else { return Ok(()) };
        if write.grouping == Grouping::Replace {
            let why = format!(
                "a snapshot replaces the whole state, and this relay has the keys under \"{prefix}\" only; send it to the \
                 upstream"
            );
            return Err(WriteError::Forbidden { why });
        }
        let other = write.updates.iter().find(|update| !update.change.key().starts_with(prefix.as_bytes()));
        match other {
            None => Ok(()),
            Some(update) => {
                let key = Key::copy_from(update.change.key());
                let why =
                    format!("this relay has the keys under \"{prefix}\", and \"{key}\" is none of them");
                Err(WriteError::Forbidden { why })
            }
        }
    }

    fn refused(&self, host: &str, error: ClientError) -> WriteError {
        let from = |why: String| format!("the upstream {host}: {why}");
        match error {
            ClientError::Refused { status, kind, detail, .. } => match (status, &*kind) {
                (401, _) | (403, "not-permitted") => {
                    let token = match &self.config.token_file {
                        Some(path) => format!("the token in {}", path.display()),
                        None => "token_file= of this relay".to_owned(),
                    };
                    WriteError::Forbidden {
                        why: from(format!("{detail} ({token} decides what this relay may write)")),
                    }
                }
                (403 | 404, _) => WriteError::Forbidden { why: from(detail) },
                (503, "unsettled" | "not-yet-read" | "shutting-down") => {
                    WriteError::Unsettled { why: from(detail) }
                }
                // 502 and 504 are a proxy's, which may have passed the request on.
                (500 | 502 | 504, _) => WriteError::Unsettled { why: from(detail) },
                _ => WriteError::Passed { status, kind, detail: from(detail) },
            },
            ClientError::Unreachable { was_sent: false, .. } | ClientError::Tls { .. } => {
                not_done(from(error.to_string()))
            }
            ClientError::Url { .. } | ClientError::Token | ClientError::TlsFile { .. } => {
                not_done(from(error.to_string()))
            }
            error => WriteError::Unsettled { why: from(error.to_string()) },
        }
    }
}

fn not_done(why: impl ToString) -> WriteError {
    WriteError::NotDone { why: why.to_string() }
}

/// The values of `If-Match` and `If-None-Match` for these conditions on one key.
fn condition_headers(conditions: &[Condition], history: History) -> (Option<String>, Option<String>) {
    let etags = |revisions: &[Revision]| {
        let etags: Vec<String> =
            revisions.iter().map(|revision| format!("\"{history}.{revision}\"")).collect();
        // A list without an ETag of this history matches nothing, which an unknown one does, too.
        if etags.is_empty() { "\"none\"".to_owned() } else { etags.join(", ") }
    };
    let (mut if_match, mut if_none_match) = (None, None);
    for condition in conditions {
        match condition {
            Condition::Exists(_) => if_match = Some("*".to_owned()),
            Condition::AtOneOf(_, revisions) => if_match = Some(etags(revisions)),
            Condition::Absent(_) => if_none_match = Some("*".to_owned()),
            Condition::AtNoneOf(_, revisions) => if_none_match = Some(etags(revisions)),
        }
    }
    (if_match, if_none_match)
}

/// The updates as the NDJSON records of a POST.
fn records(updates: &[Update], grouping: Grouping) -> Vec<u8> {
    let mut out = Vec::new();
    for update in updates {
        let record = match &update.change {
            Change::Put(entry) => Record::Put { kind: PutKind::Put, entry: entry.clone() },
            Change::Delete(key) => Record::Deleted { key: key.clone(), revision: None },
            // A write has none: an unreadable record is refused before.
            Change::Unreadable(..) => continue,
        };
        write_record(&mut out, &record);
        out.push(b'\n');
    }
    if grouping != Grouping::Replace {
        return out;
    }
    let mut whole = Vec::new();
    write_record(&mut whole, &Record::Snapshot(Header::default()));
    whole.push(b'\n');
    whole.append(&mut out);
    write_record(&mut whole, &Record::End(End::default()));
    whole.push(b'\n');
    whole
}
