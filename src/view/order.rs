//! Entries in key order: the map itself has none.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::cache::Breadcrumb;
use crate::model::{Entry, Sequence};

/// Sorted states that are kept for the next page or the next body: 8 bytes an entry each.
const KEPT: usize = 4;

pub(super) struct Orders {
    sorted: Cache<Sequence, Arc<[Entry]>>,
}

impl Orders {
    pub(super) fn new() -> Self {
        Self { sorted: Cache::new(KEPT) }
    }

    /// All entries of a breadcrumb in key order. Whoever asks for the same breadcrumb meanwhile
    /// waits for the one who sorts it, so call it off the async threads.
    pub(super) fn of(&self, crumb: &Breadcrumb) -> Arc<[Entry]> {
        let sort = || -> Result<Arc<[Entry]>, std::convert::Infallible> {
            let mut entries: Vec<Entry> = crumb.kvs().iter().cloned().collect();
            entries.sort_unstable_by(|a, b| a.key().cmp(b.key()));
            Ok(entries.into())
        };
        match self.sorted.get_or_insert_with(&crumb.sequence(), sort) {
            Ok(entries) => entries,
            Err(never) => match never {},
        }
    }
}

/// The run of entries whose keys begin with the prefix.
pub(super) fn with_prefix<'a>(sorted: &'a [Entry], prefix: &[u8]) -> &'a [Entry] {
    let start = sorted.partition_point(|entry| entry.key() < prefix);
    let run = &sorted[start..];
    &run[..run.partition_point(|entry| entry.key().starts_with(prefix))]
}
