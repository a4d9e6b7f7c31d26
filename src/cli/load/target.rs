//! The daemon that is written to.

use std::collections::HashMap;
use std::time::Duration;

use crate::cli::{Failure, output};
use crate::client::{Client, ClientError};
use crate::model::{Change, Digest, Entry, Key, OpaqueCursor, Update};
use crate::wire::{self, MediaType, PutKind, Record};

/// The most records in one write. etcd takes 128 operations in one transaction, unless it is told otherwise.
const MAX_RECORDS: usize = 100;

/// The most bytes of records in one write. etcd takes 1.5 MiB in one request, unless it is told otherwise.
const MAX_BYTES: usize = 512 << 10;

/// How often a request is tried again, and the longest pause before that.
const TRIES: u32 = 12;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The daemon, and what it had before.
pub(super) struct Target {
    client: Client,
    /// The keys that it has and of which the dump has said nothing yet, each with its share of the digest.
    others: HashMap<Key, Digest>,
    /// Whether that is all of its state.
    reads_all: bool,
    /// Records that wait to be written, each with its number in the dump.
    waiting: Vec<(u64, Vec<u8>)>,
    waiting_bytes: usize,
    max_records: usize,
    /// The cursor of the last write.
    cursor: Option<OpaqueCursor>,
    written: u64,
    changed: u64,
    same: u64,
}

/// A write that the daemon refused.
#[derive(Debug, thiserror::Error)]
#[error("record {first} to {last}: {source}")]
struct Refused {
    first: u64,
    last: u64,
    source: ClientError,
}

impl Target {
    /// Reads the state of a daemon.
    pub(super) async fn read(client: Client) -> Result<Self, Failure> {
        let (others, reads_all) = patiently(async || state_of(&client).await).await?;
        Ok(Self {
            client,
            others,
            reads_all,
            waiting: Vec::new(),
            waiting_bytes: 0,
            max_records: MAX_RECORDS,
            cursor: None,
            written: 0,
            changed: 0,
            same: 0,
        })
    }

    /// Whether it had this key and value.
    pub(super) fn has(&mut self, entry: &Entry) -> bool {
        let had = self.others.remove(&entry.to_key()) == Some(share(entry));
        self.same += u64::from(had);
        had
    }

    /// Writes an update, soon.
    pub(super) async fn write(&mut self, line: u64, update: Update) -> Result<(), Failure> {
        let record = match update.change {
            Change::Put(entry) => Record::Put { kind: PutKind::Put, entry },
            Change::Delete(key) | Change::Unreadable(key, _) => Record::Deleted { key, revision: None },
        };
        let mut text = Vec::new();
        wire::write_record(&mut text, &record);
        text.push(b'\n');
        let is_full = self.waiting.len() >= self.max_records || self.waiting_bytes + text.len() > MAX_BYTES;
        if is_full && !self.waiting.is_empty() {
            self.flush().await?;
        }
        self.waiting_bytes += text.len();
        self.waiting.push((line, text));
        Ok(())
    }

    /// Writes what waits. Where that is too much for one write, in smaller parts, and so from then on.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        while !self.waiting.is_empty() {
            let records = self.waiting.len().min(self.max_records);
            let part = &self.waiting[..records];
            let body: Vec<u8> = part.iter().flat_map(|(_, record)| record).copied().collect();
            let (first, last) = (part[0].0, part[records - 1].0);
            match patiently(async || self.client.post(body.clone()).await).await {
                Ok(posted) => {
                    self.cursor = Some(posted.cursor);
                    self.changed += posted.changed.unwrap_or(records as u64);
                    self.written += records as u64;
                    self.waiting.drain(..records);
                }
                Err(ClientError::Refused { status: 413, .. }) if records > 1 => {
                    self.max_records = records / 2
                }
                Err(source) => return Err(Refused { first, last, source }.into()),
            }
        }
        self.waiting_bytes = 0;
        Ok(())
    }

    /// The keys that the dump does not have; they count as such no more.
    pub(super) fn take_others(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.others).into_keys().collect()
    }

    /// The number and the digest of the keys that the dump does not have.
    pub(super) fn others(&self) -> (u64, Digest) {
        let digest = self.others.values().fold(Digest::default(), |sum, share| sum.plus(*share));
        (self.others.len() as u64, digest)
    }

    /// The number of keys and the digest of the daemon's state after the last write; `None` where it may not be read.
    pub(super) async fn state(&mut self) -> Result<Option<(u64, Digest)>, Failure> {
        if !self.reads_all {
            return Ok(None);
        }
        let (client, cursor) = (&self.client, self.cursor);
        Ok(patiently(async || {
            let read = client.snapshot(cursor, None, MediaType::Bincode).await;
            // Nobody keeps the state of a cursor for ever.
            let mut records = match read {
                Err(error) if error.gap().is_some() => {
                    client.snapshot(None, None, MediaType::Bincode).await?
                }
                read => read?,
            };
            Ok(match records.next().await? {
                Some(Record::Snapshot(header)) => header.count.zip(header.digest),
                _ => None,
            })
        })
        .await?)
    }

    /// How much was done.
    pub(super) fn progress(&self) -> String {
        let Self { written, changed, same, .. } = self;
        format!("{written} written, of which {changed} were changes, and {same} were there already")
    }
}

fn share(entry: &Entry) -> Digest {
    std::iter::once(entry).collect()
}

/// The keys of a daemon, each with its share of the digest, and whether these are all.
async fn state_of(client: &Client) -> Result<(HashMap<Key, Digest>, bool), ClientError> {
    let mut records = client.snapshot(None, None, MediaType::Bincode).await?;
    let (mut keys, mut reads_all, mut is_whole) = (HashMap::new(), false, false);
    while let Some(record) = records.next().await? {
        match record {
            Record::Snapshot(header) => reads_all = header.count.is_some(),
            Record::Put { entry, .. } => _ = keys.insert(entry.to_key(), share(&entry)),
            Record::End(_) => is_whole = true,
            _ => {}
        }
    }
    if is_whole {
        return Ok((keys, reads_all));
    }
    Err(ClientError::Protocol("the state was cut off".to_owned()))
}

/// Tries again what may succeed later.
async fn patiently<T>(attempt: impl AsyncFn() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let mut pause = Duration::from_millis(250);
    for _ in 1..TRIES {
        match attempt().await {
            Err(error) if error.may_pass() => {
                let pause_now = error.retry_after().unwrap_or(pause).min(LONGEST_PAUSE);
                output::say(format_args!("{error}; trying again in {:.1} s", pause_now.as_secs_f64()));
                tokio::time::sleep(pause_now).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            done => return done,
        }
    }
    attempt().await
}
