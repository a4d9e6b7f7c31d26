//! Writes a database: appends breadcrumbs, and folds them into the entries once they have left the kept window.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::SystemTime;

use redb::{ReadableTable, WriteTransaction};

use super::database::{
    self, Access, BASE_KEY, BREADCRUMBS, ENTRIES, Open, STORE, WorkError, breadcrumb_key, entry_key, guarded,
};
use super::load::{self, Contents};
use super::row::{self, Base};
use super::storage::removed;
use super::{Damage, StateError};
use crate::cache::WindowLimits as Limits;
use crate::cache::{BreadcrumbRecord, RestoredChange, Snapshot};
use crate::model::Entry;

/// The most changes that are folded in one commit. Each costs about 40 µs, and a concurrent write waits for it.
const FOLDED_AT_ONCE: usize = 256;

/// How far breadcrumbs may exceed the limits of the window before they are folded, so that one commit folds many.
const SLACK_ROWS: usize = 64;
const SLACK_BYTES: usize = 1 << 20;

/// From this multiple of the limits on, an append folds first: writes come too fast to fold in idle time.
const OVERLOAD: usize = 2;

/// An encoded breadcrumb.
pub(super) struct Row {
    bytes: Vec<u8>,
    size: RowSize,
    base: Base,
}

impl Row {
    /// Its size.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// The size and time of a written breadcrumb.
#[derive(Clone, Copy)]
struct RowSize {
    bytes: usize,
    changes: usize,
    timestamp: SystemTime,
}

/// A database open for writing, or to be opened again.
pub(super) struct Writer {
    path: PathBuf,
    store: u64,
    /// `None` after an error: the library requires the database to be opened again.
    open: Option<Open>,
    window: Limits,
    base_number: u64,
    /// The breadcrumbs after the base, oldest first, and the sum of their bytes.
    rows: VecDeque<RowSize>,
    bytes: usize,
    folding: bool,
}

impl Writer {
    /// Continues an open database whose contents were read.
    pub(super) fn open(open: Open, store: u64, contents: &Contents, window: Limits) -> Self {
        let path = open.path.clone();
        Self { open: Some(open), ..Self::closed(path, store, contents, window) }
    }

    /// Continues a database that is not open for writing yet.
    pub(super) fn closed(path: PathBuf, store: u64, contents: &Contents, window: Limits) -> Self {
        let sizes = contents.row_bytes.iter().zip(&contents.breadcrumbs).map(|(bytes, breadcrumb)| RowSize {
            bytes: *bytes,
            changes: breadcrumb.changes.len(),
            timestamp: breadcrumb.timestamp,
        });
        let rows: VecDeque<RowSize> = sizes.collect();
        let bytes = rows.iter().map(|row| row.bytes).sum();
        Self {
            path,
            store,
            open: None,
            window,
            base_number: contents.base.number,
            rows,
            bytes,
            folding: false,
        }
    }

    /// The number of the newest breadcrumb.
    pub(super) fn last_number(&self) -> u64 {
        self.base_number + self.rows.len() as u64
    }

    /// Whether the database is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Closes the database. The rest of an unfinished commit is removed when it is opened again.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Encodes the breadcrumb after `unwritten` others that are not written yet.
    pub(super) fn encode(&self, unwritten: usize, record: &BreadcrumbRecord<'_>) -> Row {
        let number = self.last_number() + unwritten as u64 + 1;
        let bytes = row::seal_breadcrumb(breadcrumb_key(&number.to_be_bytes()), record);
        let size = RowSize { bytes: bytes.len(), changes: record.deltas.len(), timestamp: record.timestamp };
        let base = Base {
            number,
            history: record.cursor.history,
            revision: record.cursor.revision,
            timestamp: record.timestamp,
            count: record.count,
            digest: record.digest,
        };
        Row { bytes, size, base }
    }

    /// Appends breadcrumbs in one commit; they are on the disk when this returns.
    pub(super) fn append(&mut self, rows: Vec<Row>) -> Result<(), StateError> {
        while self.is_overloaded() && self.fold_some()? {}
        self.write(|transaction| {
            let mut table = transaction.open_table(BREADCRUMBS)?;
            for row in &rows {
                table.insert(row.base.number, &*row.bytes)?;
            }
            Ok(())
        })?;
        self.bytes += rows.iter().map(|row| row.size.bytes).sum::<usize>();
        self.rows.extend(rows.into_iter().map(|row| row.size));
        Ok(())
    }

    /// Forgets the newest breadcrumb, which was not acknowledged: it is removed when the database is opened again.
    pub(super) fn forget_last(&mut self) {
        self.bytes -= self.rows.pop_back().map_or(0, |row| row.bytes);
    }

    /// Runs work in one commit. After an error the database has to be opened again.
    fn write(
        &mut self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), WorkError>,
    ) -> Result<(), StateError> {
        let open = self.open.as_ref().ok_or_else(|| StateError::ReadOnly(self.path.clone()))?;
        let written = guarded(&self.path, || {
            let transaction = open.begin_write()?;
            work(&transaction)?;
            Ok(transaction.commit()?)
        });
        written.inspect_err(|_| self.close())
    }

    /// Opens the database after an error, or once it can be written. Breadcrumbs after the last one that we know of
    /// were refused, and are removed.
    pub(super) fn reopen(&mut self) -> Result<(), StateError> {
        let missing = || StateError::io(&self.path, removed());
        let open = database::open(&self.path, Access::Write)?.ok_or_else(missing)?;
        if load::owner(&open)?.id != self.store {
            return Err(StateError::damaged(&self.path, Damage::OtherStore));
        }
        let found = load::last_number(&open)?;
        let known = self.last_number();
        if found < known {
            return Err(StateError::damaged(&self.path, Damage::LostTail { found, acknowledged: known }));
        }
        self.open = Some(open);
        if found > known { self.remove_after(known) } else { Ok(()) }
    }

    fn remove_after(&mut self, number: u64) -> Result<(), StateError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(BREADCRUMBS)?;
            Ok(table.retain_in(number + 1.., |_, _| false)?)
        })
    }

    /// Puts the same state into another history.
    pub(super) fn rename_history(&mut self, base: Base) -> Result<(), StateError> {
        self.write(|transaction| set_base(transaction, &base))
    }

    /// Folds some breadcrumbs into the entries, if enough have left the window. Returns whether there is more to fold.
    pub(super) fn fold_some(&mut self) -> Result<bool, StateError> {
        self.folding = self.open.is_some() && (self.is_over(SLACK_ROWS, SLACK_BYTES) || self.folding);
        let folded = if self.folding { self.next_to_fold() } else { 0 };
        if folded == 0 {
            self.folding = false;
            return Ok(false);
        }
        let numbers = self.base_number + 1..=self.base_number + folded as u64;
        self.write(|transaction| fold(transaction, numbers))?;
        self.base_number += folded as u64;
        self.bytes -= self.rows.drain(..folded).map(|row| row.bytes).sum::<usize>();
        Ok(true)
    }

    fn is_overloaded(&self) -> bool {
        let limits = (self.window.max_count.max(SLACK_ROWS), self.window.max_bytes.max(SLACK_BYTES));
        self.rows.len() > limits.0.saturating_mul(OVERLOAD) || self.bytes > limits.1.saturating_mul(OVERLOAD)
    }

    /// Whether the limits of the window are exceeded by an eighth, and by at least this much.
    fn is_over(&self, rows: usize, bytes: usize) -> bool {
        let Limits { max_count, max_bytes, max_age } = self.window;
        self.rows.len() > max_count.saturating_add(rows.max(max_count / 8))
            || self.bytes > max_bytes.saturating_add(bytes.max(max_bytes / 8))
            || self.is_old(rows, max_age.saturating_add(max_age / 8))
    }

    /// Whether the breadcrumb at this index was superseded longer ago than `age`.
    fn is_old(&self, place: usize, age: std::time::Duration) -> bool {
        let superseded = self.rows.get(place + 1).map(|row| row.timestamp);
        superseded.is_some_and(|at| at.elapsed().unwrap_or_default() > age)
    }

    /// The number of the oldest breadcrumbs that have left the window and fit into one commit.
    fn next_to_fold(&self) -> usize {
        let Limits { max_count, max_bytes, max_age } = self.window;
        let (mut rest, mut bytes, mut changes) = (self.rows.len(), self.bytes, 0);
        let mut folded = 0;
        for row in &self.rows {
            let over = rest > max_count || bytes > max_bytes || self.is_old(folded, max_age);
            if !over || (folded > 0 && changes + row.changes > FOLDED_AT_ONCE) {
                break;
            }
            (rest, bytes, changes, folded) = (rest - 1, bytes - row.bytes, changes + row.changes, folded + 1);
        }
        folded
    }

    /// Makes this state the base, and removes the breadcrumbs. Only entries that differ are written.
    pub(super) fn rebase(&mut self, state: &Snapshot, timestamp: SystemTime) -> Result<(), StateError> {
        let base = Base {
            number: self.last_number() + 1,
            history: state.history(),
            revision: state.revision(),
            timestamp,
            count: state.len() as u64,
            digest: state.digest(),
        };
        self.write(|transaction| {
            replace_entries(transaction, state)?;
            transaction.delete_table(BREADCRUMBS)?;
            transaction.open_table(BREADCRUMBS)?;
            set_base(transaction, &base)
        })?;
        self.base_number = base.number;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn set_base(transaction: &WriteTransaction, base: &Base) -> Result<(), WorkError> {
    let mut table = transaction.open_table(STORE)?;
    table.insert("base", &*row::seal_base(BASE_KEY, base))?;
    Ok(())
}

/// Applies breadcrumbs to the entries and removes them. The last change of a key counts.
fn fold(transaction: &WriteTransaction, numbers: std::ops::RangeInclusive<u64>) -> Result<(), WorkError> {
    let mut store = transaction.open_table(STORE)?;
    let bytes = store.get("base")?.ok_or(Damage::Missing("the row that says which state it holds"))?;
    let mut base = row::open_base(BASE_KEY, bytes.value())?;
    drop(bytes);
    let mut breadcrumbs = transaction.open_table(BREADCRUMBS)?;
    let mut changes: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
    for number in numbers {
        let bytes = breadcrumbs.remove(number)?.ok_or(Damage::Gap { expected: number, found: number + 1 })?;
        let breadcrumb = load::breadcrumb(number, bytes.value())?;
        (base.number, base.revision, base.timestamp) = (number, breadcrumb.revision, breadcrumb.timestamp);
        (base.count, base.digest) = (breadcrumb.count, breadcrumb.digest);
        changes.extend(breadcrumb.changes.iter().map(sealed));
    }
    let mut entries = transaction.open_table(ENTRIES)?;
    for (key, row) in &changes {
        match row {
            Some(row) => _ = entries.insert(&**key, &**row)?,
            None => _ = entries.remove(&**key)?,
        }
    }
    store.insert("base", &*row::seal_base(BASE_KEY, &base))?;
    Ok(())
}

fn sealed(change: &RestoredChange) -> (Vec<u8>, Option<Vec<u8>>) {
    match change {
        RestoredChange::Put(entry, _) => {
            (entry.key().to_vec(), Some(row::seal_entry(entry_key(entry.key()), entry)))
        }
        RestoredChange::Deleted(key, _) => (key.as_bytes().to_vec(), None),
    }
}

/// Replaces the entries by those of the state. Only entries that differ are written.
fn replace_entries(transaction: &WriteTransaction, state: &Snapshot) -> Result<(), WorkError> {
    let mut entries = transaction.open_table(ENTRIES)?;
    entries.retain(|key, _| state.get(key).is_some())?;
    let mut wanted: Vec<&Entry> = state.iter().collect();
    wanted.sort_unstable_by_key(|entry| entry.key());
    for entry in wanted {
        let row = row::seal_entry(entry_key(entry.key()), entry);
        let same = entries.get(entry.key())?.is_some_and(|there| there.value() == row);
        if !same {
            entries.insert(entry.key(), &*row)?;
        }
    }
    Ok(())
}
