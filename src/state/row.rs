//! Encodes rows of the database: bincode, followed by the XXH3-64 of the row's table, key and bytes, little-endian.
//!
//! The database library does not notice every wrong byte, and the digest of the state covers neither revisions nor
//! times to live, so each row has its own checksum. It also covers the key, to notice a row under the wrong key.
//!
//! A cache that keeps every write ([`CacheConfig::keep_every_write`](crate::cache::CacheConfig::keep_every_write)) knows
//! more: the [`WriteInfo`] of entries, and what each step of a breadcrumb wrote. That is an extension, bincode too,
//! between the row's fields and the checksum:
//!
//! ```text
//! row of      extension                       without one
//! entries     WriteInfoRow                    the entry has no write info
//! breadcrumbs WritesRow: the write info of    neither the entries of the changes have write info,
//!             each change, and the write of   nor is it kept what the steps wrote
//!             each step
//! ```
//!
//! A row that has none of this ends without an extension. Such are all rows of a cache that does not keep every write.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bincode::{BorrowDecode, Encode};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Damage;
use crate::cache::{BreadcrumbRecord, Delta, DeltaKind, RestoredBreadcrumb, RestoredChange, Step, StepWrite};
use crate::model::{Check, Digest, Entry, History, Key, Revision, Ttl, WriteInfo};
use crate::wire::{decode_row, decode_row_prefix, encode_row};

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

/// The extension of an entry's row.
#[derive(Encode, BorrowDecode)]
struct WriteInfoRow {
    created: u64,
    version: u64,
    lease: i64,
}

/// The extension of a breadcrumb's row.
#[derive(Encode, BorrowDecode)]
struct WritesRow<'a> {
    /// One for each change; `None` for a deletion.
    infos: Vec<Option<WriteInfoRow>>,
    /// One for each step.
    steps: Vec<StepWriteRow<'a>>,
}

#[derive(Encode, BorrowDecode)]
enum StepWriteRow<'a> {
    NotKept,
    Deleted,
    /// It set the key to the entry of the change with this index, which is not stored twice.
    Change(u32),
    /// It set the key to an entry that a later step replaced.
    Put {
        entry: EntryRow<'a>,
        info: Option<WriteInfoRow>,
    },
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
        self.sealed_bytes(encode_row(row))
    }

    /// As [`RowKey::sealed`], with an extension.
    fn sealed_with(self, row: &impl Encode, extension: Option<&impl Encode>) -> Vec<u8> {
        let mut bytes = encode_row(row);
        bytes.extend(extension.map(encode_row).unwrap_or_default());
        self.sealed_bytes(bytes)
    }

    fn sealed_bytes(self, mut bytes: Vec<u8>) -> Vec<u8> {
        let sum = self.checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    fn open<'b, T: BorrowDecode<'b, ()>>(self, bytes: &'b [u8]) -> Result<T, Damage> {
        decode_row(self.checked(bytes)?).map_err(|error| self.unreadable(&error))
    }

    /// As [`RowKey::open`], with the extension if there is one.
    fn open_with<'b, T, E>(self, bytes: &'b [u8]) -> Result<(T, Option<E>), Damage>
    where
        T: BorrowDecode<'b, ()>,
        E: BorrowDecode<'b, ()>,
    {
        let decoded = decode_row_prefix(self.checked(bytes)?).and_then(|(row, rest)| {
            let extension = if rest.is_empty() { None } else { Some(decode_row(rest)?) };
            Ok((row, extension))
        });
        decoded.map_err(|error| self.unreadable(&error))
    }

    /// The row without its checksum, which is right.
    fn checked(self, bytes: &[u8]) -> Result<&[u8], Damage> {
        let wrong = || Damage::Checksum { table: self.table };
        let (row, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(wrong)?;
        if self.checksum(row) == *sum { Ok(row) } else { Err(wrong()) }
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
    row_key.sealed_with(&entry_row(entry), info_row(entry).as_ref())
}

pub(super) fn open_entry(row_key: RowKey<'_>, bytes: &[u8]) -> Result<Entry, Damage> {
    let (row, info): (EntryRow<'_>, _) = row_key.open_with(bytes)?;
    Ok(row.of(row_key.key, info.as_ref()))
}

pub(super) fn seal_breadcrumb(row_key: RowKey<'_>, record: &BreadcrumbRecord<'_>) -> Vec<u8> {
    let row = BreadcrumbRow {
        revision: record.cursor.revision.0,
        first_revision: record.first_revision.0,
        timestamp_ms: milliseconds(record.timestamp),
        count: record.count,
        digest: record.digest.bits(),
        changes: record.deltas.iter().map(change_row).collect(),
        steps: record.steps.iter().map(step_row).collect(),
    };
    row_key.sealed_with(&row, writes_row(record).as_ref())
}

pub(super) fn open_breadcrumb(row_key: RowKey<'_>, bytes: &[u8]) -> Result<RestoredBreadcrumb, Damage> {
    let (row, writes): (BreadcrumbRow<'_>, Option<WritesRow<'_>>) = row_key.open_with(bytes)?;
    let does_not_fit = |writes: &WritesRow<'_>| {
        (writes.infos.len(), writes.steps.len()) != (row.changes.len(), row.steps.len())
    };
    if writes.as_ref().is_some_and(does_not_fit) {
        return Err(row_key.unreadable(&"its writes are not those of its changes and steps"));
    }
    let info = |at: usize| writes.as_ref()?.infos.get(at)?.as_ref();
    let write = |at: usize| writes.as_ref()?.steps.get(at);
    let changes = row.changes.iter().enumerate().map(|(at, change)| change.restored(info(at)));
    let changes: Vec<RestoredChange> = changes.collect();
    let steps = row.steps.iter().enumerate().map(|(at, step)| step.restored(write(at), &changes));
    let steps: Option<Vec<Step>> = steps.collect();
    let steps = steps.ok_or_else(|| row_key.unreadable(&"a step is the write of no change"))?;
    Ok(RestoredBreadcrumb {
        revision: Revision(row.revision),
        first_revision: Revision(row.first_revision),
        timestamp: time(row.timestamp_ms),
        count: row.count,
        digest: Digest::from_bits(row.digest),
        changes,
        steps,
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

fn info_row(entry: &Entry) -> Option<WriteInfoRow> {
    let WriteInfo { created, version, lease } = entry.write_info()?;
    Some(WriteInfoRow { created: created.0, version, lease })
}

/// What a breadcrumb knows of its writes, if it knows anything.
fn writes_row<'a>(record: &BreadcrumbRecord<'a>) -> Option<WritesRow<'a>> {
    let is_put = |delta: &&Delta| delta.kind != DeltaKind::Deleted;
    let knows_info = record.deltas.iter().filter(is_put).any(|delta| delta.entry.write_info().is_some());
    let knows_writes = record.steps.iter().any(|step| step.write != StepWrite::NotKept);
    if !knows_info && !knows_writes {
        return None;
    }
    let infos = record.deltas.iter().map(|delta| info_row(&delta.entry).filter(|_| is_put(&delta)));
    let entries = record.deltas.iter().zip(0..).filter(|(delta, _)| is_put(delta));
    let entries: HashMap<usize, u32> = entries.map(|(delta, at)| (delta.entry.address(), at)).collect();
    let step = |step: &'a Step| match (step.write, entries.get(&step.entry.address())) {
        (StepWrite::NotKept, _) => StepWriteRow::NotKept,
        (StepWrite::Deleted, _) => StepWriteRow::Deleted,
        (StepWrite::Put, Some(at)) => StepWriteRow::Change(*at),
        (StepWrite::Put, None) => {
            StepWriteRow::Put { entry: entry_row(&step.entry), info: info_row(&step.entry) }
        }
    };
    Some(WritesRow { infos: infos.collect(), steps: record.steps.iter().map(step).collect() })
}

impl EntryRow<'_> {
    fn of(&self, key: &[u8], info: Option<&WriteInfoRow>) -> Entry {
        let ttl = self.ttl.map(Ttl);
        let entry = match info {
            Some(info) => Entry::of_write(key, self.value, ttl, info.restored()),
            None => Entry::new(key, self.value, ttl),
        };
        entry.at(Revision(self.revision))
    }
}

impl WriteInfoRow {
    fn restored(&self) -> WriteInfo {
        WriteInfo { created: Revision(self.created), version: self.version, lease: self.lease }
    }
}

impl ChangeRow<'_> {
    fn restored(&self, info: Option<&WriteInfoRow>) -> RestoredChange {
        match self {
            Self::Put { key, entry, revision } => {
                RestoredChange::Put(entry.of(key, info), Revision(*revision))
            }
            Self::Deleted { key, revision } => {
                RestoredChange::Deleted(Key::copy_from(key), Revision(*revision))
            }
        }
    }
}

impl StepRow<'_> {
    /// The step; `None` if it refers to a change that there is not.
    fn restored(&self, write: Option<&StepWriteRow<'_>>, changes: &[RestoredChange]) -> Option<Step> {
        let key_only = || Entry::new(self.key, b"", None);
        let (entry, write) = match write {
            None | Some(StepWriteRow::NotKept) => (key_only(), StepWrite::NotKept),
            Some(StepWriteRow::Deleted) => (key_only(), StepWrite::Deleted),
            Some(StepWriteRow::Change(at)) => match changes.get(usize::try_from(*at).ok()?)? {
                RestoredChange::Put(entry, _) if entry.key() == self.key => (entry.clone(), StepWrite::Put),
                RestoredChange::Put(..) | RestoredChange::Deleted(..) => return None,
            },
            Some(StepWriteRow::Put { entry, info }) => (entry.of(self.key, info.as_ref()), StepWrite::Put),
        };
        let check = self.check.map(Check::from_bits);
        Some(Step { revision: Revision(self.revision), entry, existed: self.existed, check, write })
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

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may unwrap
mod tests {
    use super::*;
    use crate::model::{Cursor, SyncStatus};
    use crate::state::database::{breadcrumb_key, entry_key};

    const NUMBER: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 7];

    fn with_checksum(row_key: RowKey<'_>, row: &[u8]) -> Vec<u8> {
        [row, &row_key.checksum(row)].concat()
    }

    fn info(created: u64, version: u64, lease: i64) -> WriteInfo {
        WriteInfo { created: Revision(created), version, lease }
    }

    fn put(entry: Entry, kind: DeltaKind) -> Delta {
        let revision = entry.revision().unwrap();
        Delta { kind, entry, revision }
    }

    fn step(entry: Entry, revision: u64, write: StepWrite) -> Step {
        Step { revision: Revision(revision), entry, existed: true, check: Some(Check::from_bits(5)), write }
    }

    fn record<'a>(deltas: &'a [Delta], steps: &'a [Step]) -> BreadcrumbRecord<'a> {
        let revision = Revision(9);
        let (history, status) = (History::random(), SyncStatus::InSync);
        BreadcrumbRecord {
            cursor: Cursor { history, revision, status, check: Check::default() },
            first_revision: Revision(8),
            timestamp: UNIX_EPOCH + Duration::from_millis(250),
            digest: Digest::from_bits(6),
            count: 3,
            deltas,
            steps,
        }
    }

    fn stored(record: &BreadcrumbRecord<'_>) -> RestoredBreadcrumb {
        let row_key = breadcrumb_key(&NUMBER);
        open_breadcrumb(row_key, &seal_breadcrumb(row_key, record)).unwrap()
    }

    #[test]
    fn rows_without_writes_are_as_they_always_were() {
        let entry = Entry::new(b"k", b"value", Some(Ttl(4))).at(Revision(9));
        let row = with_checksum(entry_key(b"k"), b"\x09\x01\x04\x05value");
        assert_eq!(seal_entry(entry_key(b"k"), &entry), row);
        let opened = open_entry(entry_key(b"k"), &row).unwrap();
        assert!(opened.same_content(&entry) && opened.revision() == entry.revision());
        assert_eq!(opened.write_info(), None);

        let gone = Entry::new(b"gone", b"", None).at(Revision(2));
        let deltas = [
            put(entry.clone(), DeltaKind::New),
            Delta { kind: DeltaKind::Deleted, entry: gone.clone(), revision: Revision(8) },
        ];
        let steps = [step(gone, 8, StepWrite::NotKept), step(entry, 9, StepWrite::NotKept)];
        let record = record(&deltas, &steps);
        let head = b"\x09\x08\xfa\x03\x06";
        let changes = b"\x02\x00\x01k\x09\x01\x04\x05value\x09\x01\x04gone\x08";
        let written = b"\x02\x04gone\x08\x01\x01\x05\x01k\x09\x01\x01\x05";
        let row_key = breadcrumb_key(&NUMBER);
        let row = with_checksum(row_key, &[&head[..], changes, written].concat());
        assert_eq!(seal_breadcrumb(row_key, &record), row);
        let opened = open_breadcrumb(row_key, &row).unwrap();
        assert!(opened.steps.iter().all(|step| step.write == StepWrite::NotKept));
        assert!(opened.entries().all(|entry| entry.write_info().is_none()));
        assert_eq!((opened.changes.len(), opened.steps.len()), (2, 2));
    }

    #[test]
    fn the_write_info_of_an_entry_is_stored() {
        for info in [info(1, 1, 0), info(300, 70_000, -1), info(u64::MAX, u64::MAX, i64::MAX)] {
            let entry = Entry::of_write(b"k", b"", None, info).at(Revision(9));
            let opened = open_entry(entry_key(b"k"), &seal_entry(entry_key(b"k"), &entry)).unwrap();
            assert!(opened.same_content(&entry));
            assert_eq!((opened.write_info(), opened.revision()), (Some(info), entry.revision()));
        }
    }

    #[test]
    fn every_write_of_a_breadcrumb_is_stored_and_its_last_value_once() {
        let first = Entry::of_write(b"k", b"first", Some(Ttl(3)), info(8, 1, 70)).at(Revision(8));
        let last = Entry::of_write(b"k", b"last", None, info(8, 2, 0)).at(Revision(9));
        let plain = Entry::new(b"plain", b"", None).at(Revision(9));
        let gone = Entry::of_write(b"gone", b"", None, info(2, 1, 0)).at(Revision(2));
        let deltas = [
            Delta { kind: DeltaKind::Deleted, entry: gone.clone(), revision: Revision(8) },
            put(last.clone(), DeltaKind::New),
            put(plain.clone(), DeltaKind::Updated),
        ];
        let steps = [
            step(first.clone(), 8, StepWrite::Put),
            step(gone, 8, StepWrite::Deleted),
            step(last.clone(), 9, StepWrite::Put),
            step(plain, 9, StepWrite::NotKept),
        ];
        let opened = stored(&record(&deltas, &steps));
        let [RestoredChange::Deleted(..), RestoredChange::Put(put, _), RestoredChange::Put(other, _)] =
            &opened.changes[..]
        else {
            panic!("{:?}", opened.changes)
        };
        assert_eq!((put.write_info(), put.value()), (last.write_info(), last.value()));
        assert_eq!(other.write_info(), None);
        let writes: Vec<StepWrite> = opened.steps.iter().map(|step| step.write).collect();
        assert_eq!(writes, steps.iter().map(|step| step.write).collect::<Vec<_>>());
        let replaced = &opened.steps[0].entry;
        assert!(replaced.same_content(&first) && replaced.revision() == first.revision());
        assert_eq!(replaced.write_info(), first.write_info());
        assert!(opened.steps[2].entry.same_allocation(put), "the state and the step share the entry");
        assert!(opened.steps.iter().zip(&steps).all(|(one, other)| {
            (one.entry.key(), one.existed, one.check) == (other.entry.key(), other.existed, other.check)
        }));

        let mut opened = opened;
        opened.forget_writes();
        assert!(opened.steps.iter().all(|step| step.write == StepWrite::NotKept));
        assert!(opened.steps.iter().all(|step| step.entry.value().is_empty()));
        assert!(opened.entries().all(|entry| entry.write_info().is_none()));
    }

    #[test]
    fn an_extension_that_does_not_fit_its_row_is_damage() {
        let entry = Entry::new(b"k", b"", None).at(Revision(9));
        let deltas = [put(entry.clone(), DeltaKind::New)];
        let steps = [step(entry, 9, StepWrite::NotKept)];
        let row_key = breadcrumb_key(&NUMBER);
        let sealed = seal_breadcrumb(row_key, &record(&deltas, &steps));
        let row = &sealed[..sealed.len() - CHECKSUM];
        // The infos of the changes, then the writes of the steps.
        for wrong in [&b"\x00\x00"[..], b"\x01\x00\x00", b"\x01\x00\x01\x02\x01", b"\x01\x00\x01\x01\x00"] {
            let bytes = with_checksum(row_key, &[row, wrong].concat());
            assert!(matches!(open_breadcrumb(row_key, &bytes), Err(Damage::Row { .. })), "{wrong:?}");
        }
        let right = with_checksum(row_key, &[row, b"\x01\x00\x01\x02\x00"].concat());
        assert_eq!(open_breadcrumb(row_key, &right).unwrap().steps[0].write, StepWrite::Put);
    }
}
