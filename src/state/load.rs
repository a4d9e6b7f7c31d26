//! Reads a database, and proves that it holds what was written.

use std::time::Instant;

use redb::{ReadTransaction, ReadableTable};
use tracing::info;

use super::database::{
    BASE_KEY, BREADCRUMBS, ENTRIES, Open, STORE, STORE_KEY, WorkError, breadcrumb_key, entry_key, guarded,
};
use super::row::{self, Base};
use super::{Damage, StateError};
use crate::cache::{RestoredBreadcrumb, Snapshot, SnapshotBuilder};
use crate::model::Entry;

/// The identity of a database, and the feed whose state it holds.
pub(super) struct Owner {
    pub(super) id: u64,
    pub(super) feed: String,
}

/// The contents of a database.
pub(super) struct Contents {
    pub(super) base: Base,
    /// The state at the base.
    pub(super) state: Snapshot,
    /// The entry that was set last in it.
    pub(super) newest: Option<Entry>,
    /// The breadcrumbs after it.
    pub(super) breadcrumbs: Vec<RestoredBreadcrumb>,
    /// The size of their rows, in bytes.
    pub(super) row_bytes: Vec<usize>,
    /// Which entries were stored with their write info.
    pub(super) write_infos: WriteInfos,
}

/// Whether entries were stored with their write info, which a cache knows that keeps every write.
#[derive(Clone, Copy, Default)]
pub(super) struct WriteInfos {
    /// Some were stored with it.
    pub(super) present: bool,
    /// Some were stored without it.
    pub(super) missing: bool,
}

impl WriteInfos {
    fn note(&mut self, entry: &Entry) {
        match entry.write_info() {
            Some(_) => self.present = true,
            None => self.missing = true,
        }
    }
}

impl Contents {
    /// The number of the newest breadcrumb.
    pub(super) fn last_number(&self) -> u64 {
        self.base.number + self.breadcrumbs.len() as u64
    }
}

/// Reads the owner of a database.
pub(super) fn owner(open: &Open) -> Result<Owner, StateError> {
    guarded(&open.path, || {
        let table = open.begin_read()?.open_table(STORE)?;
        let bytes = table.get("store")?.ok_or(Damage::Missing("the row that says whose state it holds"))?;
        let row = row::open_store(STORE_KEY, bytes.value())?;
        Ok(Owner { id: row.id, feed: row.feed.to_owned() })
    })
}

/// Reads everything; without `writes` not what only a cache wants that keeps every write. Count and digest of the
/// entries are checked here, those of the breadcrumbs when they are applied.
pub(super) fn contents(open: &Open, writes: bool) -> Result<Contents, StateError> {
    let started = Instant::now();
    let contents = guarded(&open.path, || {
        let transaction = open.begin_read()?;
        let base = base(&transaction)?;
        let mut write_infos = WriteInfos::default();
        let with_info = |entry: Entry| {
            write_infos.note(&entry);
            if writes || entry.write_info().is_none() { entry } else { entry.without_write_info() }
        };
        let (state, newest) = entries(&transaction, &base, with_info)?;
        let (mut breadcrumbs, row_bytes) = breadcrumbs(&transaction, &base)?;
        breadcrumbs.iter().flat_map(RestoredBreadcrumb::entries).for_each(|entry| write_infos.note(entry));
        if !writes {
            breadcrumbs.iter_mut().for_each(RestoredBreadcrumb::forget_writes);
        }
        Ok(Contents { base, state, newest, breadcrumbs, row_bytes, write_infos })
    })?;
    let (keys, took_ms) = (contents.state.len(), started.elapsed().as_millis());
    info!(keys, breadcrumbs = contents.breadcrumbs.len(), took_ms, "state of the last run read");
    Ok(contents)
}

fn base(transaction: &ReadTransaction) -> Result<Base, WorkError> {
    let table = transaction.open_table(STORE)?;
    let bytes = table.get("base")?.ok_or(Damage::Missing("the row that says which state it holds"))?;
    Ok(row::open_base(BASE_KEY, bytes.value())?)
}

fn entries(
    transaction: &ReadTransaction,
    base: &Base,
    mut prepared: impl FnMut(Entry) -> Entry,
) -> Result<(Snapshot, Option<Entry>), WorkError> {
    let builder = SnapshotBuilder::new(base.history, base.revision);
    let mut part = builder.part();
    let table = transaction.open_table(ENTRIES)?;
    for item in table.iter()? {
        let (key, bytes) = item?;
        part.add(prepared(row::open_entry(entry_key(key.value()), bytes.value())?));
    }
    let (state, newest) = builder.finish(vec![part]);
    if (state.len() as u64, state.digest()) != (base.count, base.digest) {
        return Err(Damage::OtherState { revision: base.revision }.into());
    }
    Ok((state, newest))
}

fn breadcrumbs(
    transaction: &ReadTransaction,
    base: &Base,
) -> Result<(Vec<RestoredBreadcrumb>, Vec<usize>), WorkError> {
    let (mut breadcrumbs, mut sizes) = (Vec::new(), Vec::new());
    let table = transaction.open_table(BREADCRUMBS)?;
    for (expected, item) in (base.number + 1..).zip(table.iter()?) {
        let (number, bytes) = item?;
        let found = number.value();
        if found != expected {
            return Err(Damage::Gap { expected, found }.into());
        }
        breadcrumbs.push(row::open_breadcrumb(breadcrumb_key(&found.to_be_bytes()), bytes.value())?);
        sizes.push(bytes.value().len());
    }
    Ok((breadcrumbs, sizes))
}

/// Reads one breadcrumb, to apply it to the entries.
pub(super) fn breadcrumb(number: u64, bytes: &[u8]) -> Result<RestoredBreadcrumb, Damage> {
    row::open_breadcrumb(breadcrumb_key(&number.to_be_bytes()), bytes)
}

/// The number of the newest breadcrumb that a database holds.
pub(super) fn last_number(open: &Open) -> Result<u64, StateError> {
    guarded(&open.path, || {
        let transaction = open.begin_read()?;
        let base = base(&transaction)?.number;
        let table = transaction.open_table(BREADCRUMBS)?;
        let last = table.last()?.map(|(number, _)| number.value());
        Ok(last.unwrap_or(base).max(base))
    })
}

/// The history of the state.
pub(super) fn history(open: &Open) -> Result<crate::model::History, StateError> {
    guarded(&open.path, || Ok(base(&open.begin_read()?)?.history))
}
