//! Keys watched from a cursor: a [`RangedWatcher`] over breadcrumbs.
//!
//! It joins two rooms that do not know each other, so it is here and not in `view`: a [`KeyWatch`] knows breadcrumbs and
//! cursors, a ranged watcher knows what its consumer has seen. `GET /v1/kv/{key}?after=` is a range of one key.

use std::collections::HashSet;

use crate::model::{Cursor, Entry, Key, Revision, Sequence};
use crate::value::{GetError, KeyChange, RangeSource, RangedWatcher, SourceEvent, Watcher};
use crate::view::{KeySelector, KeyWatch, View, ViewError, WatchEvent};

/// A source of changes for a ranged watcher, from the breadcrumbs of a range of keys.
pub(in crate::http) struct BreadcrumbRange {
    watch: KeyWatch,
    /// The error that closed it.
    failed: Option<ViewError>,
}

/// A watcher of keys for a consumer that knows them as they were at a cursor.
///
/// It yields the changes since the cursor, and then each later change: a key with its newest entry, several changes of it
/// as one, and a deletion (no value) only of a key that the consumer knows. An empty value is a value. If breadcrumbs
/// that it has not seen are no longer kept, it loads the current entries, yields the deletions since, and may repeat
/// changes.
///
/// It waits without keeping a breadcrumb in memory, and changes of other keys do not wake it.
pub struct KeysAfter {
    watcher: RangedWatcher<BreadcrumbRange>,
    after: Revision,
}

impl BreadcrumbRange {
    /// A range from a cursor, and the keys that existed there.
    ///
    /// # Errors
    /// As [`View::watch`].
    async fn new(view: &View, keys: KeySelector, after: Cursor) -> Result<(Self, HashSet<Key>), ViewError> {
        let (watch, known) = view.watch(keys, after).await?;
        Ok((Self { watch, failed: None }, known))
    }

    fn closed(&mut self, error: ViewError) -> GetError {
        self.failed = Some(error);
        GetError::Closed
    }
}

impl RangeSource for BreadcrumbRange {
    type Key = Key;
    type Value = Entry;

    async fn load(&mut self) -> Result<Vec<(Key, Entry)>, GetError> {
        let entries = self.watch.load().await.map_err(|error| self.closed(error))?;
        Ok(entries.into_iter().map(|entry| (Key::copy_from(entry.key()), entry)).collect())
    }

    async fn next(&mut self) -> Result<SourceEvent<Key, Entry>, GetError> {
        let event = self.watch.next().await;
        event.map(source_event).map_err(|error| self.closed(error))
    }

    fn next_no_block(&mut self) -> Result<Option<SourceEvent<Key, Entry>>, GetError> {
        let event = self.watch.next_no_block();
        event.map(|event| event.map(source_event)).map_err(|error| self.closed(error))
    }
}

fn source_event(event: WatchEvent) -> SourceEvent<Key, Entry> {
    match event {
        WatchEvent::Lost => SourceEvent::Lost,
        WatchEvent::Changed(changes) => {
            SourceEvent::Changed(changes.into_iter().map(|(key, value)| KeyChange { key, value }).collect())
        }
    }
}

impl KeysAfter {
    /// A watcher from a cursor. Waits until this daemon has reached the cursor and knows the history there. Cancel-safe.
    ///
    /// # Errors
    /// As [`View::watch`]: [`ViewError::Gone`] when the cursor is not kept.
    pub async fn new(view: &View, keys: KeySelector, after: Cursor) -> Result<Self, ViewError> {
        let (source, known) = BreadcrumbRange::new(view, keys, after).await?;
        Ok(Self { watcher: RangedWatcher::with_known_keys(source, known), after: after.revision })
    }

    /// The consumer's cursor, in our own history. Valid after a `get` of a single key, or after a `get` that had to wait.
    pub fn cursor(&self) -> Cursor {
        self.watcher.source().watch.cursor()
    }

    /// The last breadcrumb that was read.
    pub fn sequence(&self) -> Sequence {
        self.watcher.source().watch.sequence()
    }

    /// The cause of [`GetError::Closed`]: the cache has stopped, or its history has changed.
    pub fn closed_by(&self) -> ViewError {
        self.watcher.source().failed.clone().unwrap_or(ViewError::Stopped)
    }

    /// The changes after the cursor. The watcher yields a deletion only of a key that the consumer knows.
    fn unseen(&mut self) -> impl Watcher<Item = KeyChange<Key, Entry>> {
        let after = Some(self.after);
        let is_unseen = move |entry: &Entry| entry.revision() > after;
        (&mut self.watcher).filter(move |change| change.value.as_ref().is_none_or(is_unseen))
    }
}

impl Watcher for KeysAfter {
    type Item = KeyChange<Key, Entry>;

    async fn get(&mut self) -> Result<Self::Item, GetError> {
        self.unseen().get().await
    }

    async fn get_backlog(&mut self) -> Result<Self::Item, GetError> {
        self.unseen().get_backlog().await
    }
}
