//! Encodes rows of the database: bincode, followed by the XXH3-64 of the row's table, key and bytes, little-endian.
//!
//! The database library does not notice every wrong byte, and the digest of the state covers neither revisions nor
//! times to live, so each row has its own checksum. It also covers the key, to notice a row under the wrong key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bincode::{BorrowDecode, Encode};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Damage;
use crate::cache::{BreadcrumbRecord, Delta, DeltaKind, RestoredBreadcrumb, RestoredChange, Step, StepWrite};
use crate::model::{Check, Digest, Entry, History, Key, Revision, Ttl};
use crate::wire::{decode_row, encode_row};

const CHECKSUM: usize = 8;

/// The identity of the database. The order of the fields of rows is the format.
#[derive(Encode, BorrowDecode)]
pub(super) struct StoreRow<'a> {
    /// A random number.
    pub(super) id: u64,
    /// The feed whose state it holds.
    pub(super) feed: &'a str,
}

/// The state in the table of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// The number of its breadcrumb.
    pub(super) number: u64,
    pub(super) history: History,
    pub(super) revision: Revision,
    pub(super) timestamp: SystemTime,
    pub(super) count: u64,
    pub(super) digest: Digest,
}

impl Base {
    /// An empty state, in a new history.
    pub(super) fn empty() -> Self {
        Self {
            number: 0,
            history: History::random(),
            revision: Revision::ZERO,
            timestamp: SystemTime::now(),
            count: 0,
            digest: Digest::default(),
        }
    }
}

#[derive(Encode, BorrowDecode)]
struct BaseRow<'a> {
    number: u64,
    history: &'a str,
    revision: u64,
    timestamp_ms: u64,
    count: u64,
    digest: u128,
}

#[derive(Encode, BorrowDecode)]
struct EntryRow<'a> {
    revision: u64,
    ttl: Option<u32>,
    value: &'a [u8],
}

#[derive(Encode, BorrowDecode)]
struct BreadcrumbRow<'a> {
    revision: u64,
    first_revision: u64,
    timestamp_ms: u64,
    count: u64,
    digest: u128,
    changes: Vec<ChangeRow<'a>>,
    steps: Vec<StepRow<'a>>,
}

#[derive(Encode, BorrowDecode)]
enum ChangeRow<'a> {
    Put { key: &'a [u8], entry: EntryRow<'a>, revision: u64 },
    Deleted { key: &'a [u8], revision: u64 },
}

#[derive(Encode, BorrowDecode)]
struct StepRow<'a> {
    key: &'a [u8],
    revision: u64,
    existed: bool,
    check: Option<u32>,
}

/// The table and key of a row, for its checksum.
#[derive(Clone, Copy)]
pub(super) struct RowKey<'a> {
    pub(super) table: &'static str,
    pub(super) key: &'a [u8],
}

impl RowKey<'_> {
    fn checksum(self, row: &[u8]) -> [u8; CHECKSUM] {
        let seed = xxh3_64_with_seed(self.key, xxh3_64(self.table.as_bytes()));
        xxh3_64_with_seed(row, seed).to_le_bytes()
    }

    fn sealed(self, row: &impl Encode) -> Vec<u8> {
        let mut bytes = encode_row(row);
        let sum = self.checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    fn open<'b, T: BorrowDecode<'b, ()>>(self, bytes: &'b [u8]) -> Result<T, Damage> {
        let wrong = || Damage::Checksum { table: self.table };
        let (row, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(wrong)?;
        if self.checksum(row) != *sum {
            return Err(wrong());
        }
        decode_row(row).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(self, cause: &dyn std::fmt::Display) -> Damage {
        Damage::Row { table: self.table, cause: cause.to_string() }
    }
}

pub(super) fn seal_store(row_key: RowKey<'_>, row: &StoreRow<'_>) -> Vec<u8> {
    row_key.sealed(row)
}

pub(super) fn open_store<'b>(row_key: RowKey<'_>, bytes: &'b [u8]) -> Result<StoreRow<'b>, Damage> {
    row_key.open(bytes)
}

pub(super) fn seal_base(row_key: RowKey<'_>, base: &Base) -> Vec<u8> {
    row_key.sealed(&BaseRow {
        number: base.number,
        history: &base.history.to_string(),
        revision: base.revision.0,
        timestamp_ms: milliseconds(base.timestamp),
        count: base.count,
        digest: base.digest.bits(),
    })
}

pub(super) fn open_base(row_key: RowKey<'_>, bytes: &[u8]) -> Result<Base, Damage> {
    let row: BaseRow<'_> = row_key.open(bytes)?;
    Ok(Base {
        number: row.number,
        history: row.history.parse().map_err(|error| row_key.unreadable(&error))?,
        revision: Revision(row.revision),
        timestamp: time(row.timestamp_ms),
        count: row.count,
        digest: Digest::from_bits(row.digest),
    })
}

pub(super) fn seal_entry(row_key: RowKey<'_>, entry: &Entry) -> Vec<u8> {
    row_key.sealed(&entry_row(entry))
}

pub(super) fn open_entry(row_key: RowKey<'_>, bytes: &[u8]) -> Result<Entry, Damage> {
    Ok(row_key.open::<EntryRow<'_>>(bytes)?.of(row_key.key))
}

pub(super) fn seal_breadcrumb(row_key: RowKey<'_>, record: &BreadcrumbRecord<'_>) -> Vec<u8> {
    row_key.sealed(&BreadcrumbRow {
        revision: record.cursor.revision.0,
        first_revision: record.first_revision.0,
        timestamp_ms: milliseconds(record.timestamp),
        count: record.count,
        digest: record.digest.bits(),
        changes: record.deltas.iter().map(change_row).collect(),
        steps: record.steps.iter().map(step_row).collect(),
    })
}

pub(super) fn open_breadcrumb(row_key: RowKey<'_>, bytes: &[u8]) -> Result<RestoredBreadcrumb, Damage> {
    let row: BreadcrumbRow<'_> = row_key.open(bytes)?;
    Ok(RestoredBreadcrumb {
        revision: Revision(row.revision),
        first_revision: Revision(row.first_revision),
        timestamp: time(row.timestamp_ms),
        count: row.count,
        digest: Digest::from_bits(row.digest),
        changes: row.changes.iter().map(ChangeRow::restored).collect(),
        steps: row.steps.iter().map(StepRow::restored).collect(),
    })
}

fn entry_row(entry: &Entry) -> EntryRow<'_> {
    let revision = entry.revision().unwrap_or_default().0;
    EntryRow { revision, ttl: entry.ttl().map(|ttl| ttl.0), value: entry.value() }
}

fn change_row(delta: &Delta) -> ChangeRow<'_> {
    let (key, revision) = (delta.entry.key(), delta.revision.0);
    match delta.kind {
        DeltaKind::New | DeltaKind::Updated => {
            ChangeRow::Put { key, entry: entry_row(&delta.entry), revision }
        }
        DeltaKind::Deleted => ChangeRow::Deleted { key, revision },
    }
}

fn step_row(step: &Step) -> StepRow<'_> {
    let check = step.check.map(Check::bits);
    StepRow { key: step.entry.key(), revision: step.revision.0, existed: step.existed, check }
}

impl EntryRow<'_> {
    fn of(&self, key: &[u8]) -> Entry {
        Entry::new(key, self.value, self.ttl.map(Ttl)).at(Revision(self.revision))
    }
}

impl ChangeRow<'_> {
    fn restored(&self) -> RestoredChange {
        match self {
            Self::Put { key, entry, revision } => RestoredChange::Put(entry.of(key), Revision(*revision)),
            Self::Deleted { key, revision } => {
                RestoredChange::Deleted(Key::copy_from(key), Revision(*revision))
            }
        }
    }
}

impl StepRow<'_> {
    fn restored(&self) -> Step {
        Step {
            revision: Revision(self.revision),
            entry: Entry::new(self.key, b"", None),
            existed: self.existed,
            check: self.check.map(Check::from_bits),
            write: StepWrite::NotKept,
        }
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time so many milliseconds after 1970, or 1970 if the system cannot represent it.
fn time(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds)).unwrap_or(UNIX_EPOCH)
}
