//! Reads of a range of keys, at any revision that is kept.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::encode::{KeyValue, put_number};
use super::key_range::KeyRange;
use super::log::{LoggedBreadcrumb, StateAt};
use crate::cache::Breadcrumb;
use crate::model::{Entry, Revision};
use crate::view::snapshot::PageTree;
use crate::view::workers::WORKERS;
use crate::view::{View, ViewError};

/// A range of more keys is read by a worker, so that it holds up no other request.
const INLINE_KEYS: usize = 4096;

/// A read of a range.
#[derive(Clone, Debug)]
pub(crate) struct RangeQuery {
    /// The keys.
    pub range: KeyRange,
    /// The revision of the state; `None` for the newest.
    pub revision: Option<Revision>,
    /// The most keys of the answer; 0 for all.
    pub limit: usize,
    /// The order of the keys; `None` for the order of their bytes.
    pub order: Option<(SortTarget, SortOrder)>,
    /// Whether only the first keys within the limit, and one more, are put into that order. So does etcd where a target is
    /// named and no direction.
    pub sorts_first_only: bool,
    /// Only keys whose last write, and whose creation, is in these ranges of revisions (both ends included).
    pub modified: RevisionRange,
    /// See `modified`.
    pub created: RevisionRange,
    /// Whether only the number of keys is wanted.
    pub count_only: bool,
    /// Whether values are left out.
    pub keys_only: bool,
}

/// The smallest and the largest revision, if there are limits.
pub(crate) type RevisionRange = (Option<Revision>, Option<Revision>);

/// What keys are sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SortTarget {
    /// The key.
    Key,
    /// The number of its writes.
    Version,
    /// The revision that created it.
    Created,
    /// The revision of its last write.
    Modified,
    /// The value.
    Value,
}

/// The direction of the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SortOrder {
    /// The smallest first.
    Ascending,
    /// The largest first.
    Descending,
}

/// The keys of a range.
#[derive(Debug)]
pub(crate) struct RangeRead {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether the limit has left out some.
    pub more: bool,
    /// The number of keys in the range, without filters and limit.
    pub count: usize,
    keys_only: bool,
}

/// Why a range cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RangeError {
    /// The revision is not kept any more.
    #[error("the revision is not kept any more")]
    Compacted,
    /// The revision lies in a part of the history that is still being read.
    #[error("the history at this revision is still being read")]
    Awaited,
    /// The view cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// A state in which ranges are read.
#[derive(Clone)]
pub(crate) struct ReadState {
    crumb: Breadcrumb,
    /// Set for a state inside the breadcrumb.
    inside: Option<(Arc<LoggedBreadcrumb>, Revision)>,
}

impl View {
    /// The state at a revision; without one, the newest.
    ///
    /// # Errors
    /// [`RangeError`].
    pub(crate) async fn etcd_state(&self, revision: Option<Revision>) -> Result<ReadState, RangeError> {
        let newest = self.newest()?;
        let Some(revision) = revision.filter(|revision| *revision < newest.revision()) else {
            return Ok(ReadState { crumb: newest, inside: None });
        };
        let Some(log) = &self.etcd_log else { return Err(RangeError::Compacted) };
        let mut found = log.state_at(revision);
        if let StateAt::Later = found {
            // The log follows the cache.
            log.caught_up().await;
            found = log.state_at(revision);
        }
        match found {
            StateAt::Breadcrumb(crumb) => Ok(ReadState { crumb, inside: None }),
            StateAt::Inside { within, revision } => {
                Ok(ReadState { crumb: within.crumb.clone(), inside: Some((within, revision)) })
            }
            StateAt::Compacted => Err(RangeError::Compacted),
            StateAt::Later => Err(RangeError::Awaited),
        }
    }

    /// Reads a range in a state.
    ///
    /// # Errors
    /// [`RangeError::View`].
    pub(crate) async fn etcd_range(
        &self,
        state: &ReadState,
        query: &RangeQuery,
    ) -> Result<RangeRead, RangeError> {
        let keys_only = query.keys_only;
        if let Some(key) = query.range.single() {
            let found: Vec<Entry> = state.get(key).into_iter().collect();
            let count = found.len();
            let entries = if query.count_only { Vec::new() } else { found };
            return Ok(query.finish(RangeRead { entries, more: false, count, keys_only }));
        }
        if query.range.is_empty() {
            return Ok(RangeRead { entries: Vec::new(), more: false, count: 0, keys_only });
        }
        self.snapshots.note_use(None);
        let pages = self.snapshots.pages_of(state.crumb.clone()).await?;
        if let Some(read) = query.read(&pages, state, INLINE_KEYS) {
            return Ok(read);
        }
        let (state, query) = (state.clone(), query.clone());
        let read = WORKERS.run(move || query.read(&pages, &state, usize::MAX)).await?;
        read.ok_or(RangeError::View(ViewError::Stopped))
    }
}

impl RangeQuery {
    /// Reads the range in these pages of a state; `None` if it has more than `max_keys` keys.
    fn read(&self, pages: &PageTree, state: &ReadState, max_keys: usize) -> Option<RangeRead> {
        let overrides = state.overrides(&self.range);
        let mut overrides = overrides.iter().peekable();
        // With filters or an order, any entry may be among the first. One more shows that there are more.
        let enough = if self.takes_first() { self.limit.saturating_add(1) } else { usize::MAX };
        let (mut entries, mut count, mut seen) = (Vec::new(), 0, 0);
        let mut add = |entry: &Entry| {
            count += 1;
            if !self.count_only && entries.len() < enough {
                entries.push(entry.clone());
            }
        };
        for entry in pages.from(self.range.start()).take_while(|entry| self.range.contains(entry.key())) {
            seen += 1;
            if seen > max_keys {
                return None;
            }
            while let Some((_, now)) = overrides.next_if(|(key, _)| **key < entry.key()) {
                now.iter().for_each(&mut add);
            }
            match overrides.next_if(|(key, _)| **key == entry.key()) {
                Some((_, now)) => now.iter().for_each(&mut add),
                None => add(entry),
            }
        }
        overrides.for_each(|(_, now)| now.iter().for_each(&mut add));
        Some(self.finish(RangeRead { entries, more: false, count, keys_only: self.keys_only }))
    }

    /// The answer out of the entries of the range, in key order.
    pub(crate) fn of_entries(&self, mut entries: Vec<Entry>) -> RangeRead {
        let count = entries.len();
        if self.count_only {
            entries.clear();
        } else if self.takes_first() {
            entries.truncate(self.limit.saturating_add(1));
        }
        self.finish(RangeRead { entries, more: false, count, keys_only: self.keys_only })
    }

    fn has_filters(&self) -> bool {
        self.modified != (None, None) || self.created != (None, None)
    }

    /// Whether the first entries of the range are the answer.
    fn takes_first(&self) -> bool {
        self.limit > 0 && (self.order.is_none() || self.sorts_first_only) && !self.has_filters()
    }

    /// Filters, sorts and cuts.
    fn finish(&self, mut read: RangeRead) -> RangeRead {
        if self.has_filters() {
            let within = |(least, most): RevisionRange, revision: Revision| {
                least.is_none_or(|least| revision >= least) && most.is_none_or(|most| revision <= most)
            };
            read.entries.retain(|entry| {
                within(self.modified, entry.revision().unwrap_or_default())
                    && within(self.created, entry.write_info_or_default().created)
            });
        }
        if let Some((target, order)) = self.order {
            read.entries.sort_by(|one, other| {
                let ascending = target.compare(one, other);
                if order == SortOrder::Descending { ascending.reverse() } else { ascending }
            });
        }
        if self.limit > 0 && read.entries.len() > self.limit {
            read.entries.truncate(self.limit);
            read.more = true;
        }
        read
    }
}

impl SortTarget {
    fn compare(self, one: &Entry, other: &Entry) -> Ordering {
        let infos = || (one.write_info_or_default(), other.write_info_or_default());
        match self {
            Self::Key => one.key().cmp(other.key()),
            Self::Value => one.value().cmp(other.value()),
            Self::Modified => one.revision().cmp(&other.revision()),
            Self::Version => {
                let (one, other) = infos();
                one.version.cmp(&other.version)
            }
            Self::Created => {
                let (one, other) = infos();
                one.created.cmp(&other.created)
            }
        }
    }
}

impl ReadState {
    /// The entry of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Entry> {
        let Some((within, revision)) = &self.inside else { return self.crumb.kvs().get(key).cloned() };
        let writes = within.writes.iter().rev().filter(|write| write.revision <= *revision);
        match writes.into_iter().find(|write| write.entry.key() == key) {
            Some(write) => write.is_put.then(|| write.entry.clone()),
            None => within.before.as_ref()?.get(key).cloned(),
        }
    }

    /// The revision of the newest change in it.
    pub(crate) fn revision(&self) -> Revision {
        self.inside.as_ref().map_or(self.crumb.revision(), |(_, revision)| *revision)
    }

    /// The keys of the range that are not as in the breadcrumb.
    fn overrides<'a>(&'a self, range: &KeyRange) -> BTreeMap<&'a [u8], Option<Entry>> {
        let Some((within, revision)) = &self.inside else { return BTreeMap::new() };
        let later = within.writes.iter().filter(|write| write.revision > *revision);
        let keys = later.map(|write| write.entry.key()).filter(|key| range.contains(key));
        keys.map(|key| (key, self.get(key))).collect()
    }
}

impl RangeRead {
    /// The answer as the fields of a range response after its header.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let kvs = || self.entries.iter().map(|entry| KeyValue::of(entry, self.keys_only));
        let bytes: usize = kvs().map(|kv| kv.len() + 6).sum();
        let mut out = Vec::with_capacity(bytes + 16);
        kvs().for_each(|kv| kv.put(&mut out, 2));
        put_number(&mut out, 3, u64::from(self.more));
        put_number(&mut out, 4, self.count as u64);
        out
    }

    /// About how many bytes [`encode`](Self::encode) makes.
    pub(crate) fn encoded_len(&self) -> u64 {
        self.entries.iter().map(encoded_len).sum()
    }
}

/// About how many bytes an entry takes in an answer.
pub(crate) fn encoded_len(entry: &Entry) -> u64 {
    entry.payload_bytes() as u64 + 48
}
