//! Keys watched from a cursor on: a [`RangedWatcher`] over breadcrumbs.
//!
//! It stands here, and not in `view`, because it joins two rooms that do not know each other: the
//! [`KeyWatch`], which knows breadcrumbs and cursors but no consumer, and the ranged watcher, which
//! knows what a consumer has been told and no breadcrumbs. `GET /v1/kv/{key}?after=` is a range of one key.

use std::collections::HashSet;

use crate::model::{Cursor, Entry, Key, Revision, Sequence};
use crate::value::{GetError, KeyChange, RangeSource, RangedWatcher, SourceEvent, Watcher};
use crate::view::{KeySelector, KeyWatch, View, ViewError, WatchEvent};

/// Feeds a ranged watcher with what breadcrumbs say of a range of keys.
pub struct BreadcrumbRange {
    watch: KeyWatch,
    /// Why nothing will happen any more.
    failed: Option<ViewError>,
}

/// Watches keys as somebody who knows them as they were at a cursor.
///
/// It yields what is different since then, and then what changes: each key with its newest entry, changes
/// that come together as one, and a deletion (no value) only of what the consumer knows. An empty value is
/// a value. When breadcrumbs that it has not seen are not kept any more, it loads what is there, tells what
/// has gone meanwhile, and may tell again what it has told.
///
/// It waits without keeping a breadcrumb in memory, and sleeps through changes of other keys.
pub struct KeysAfter {
    watcher: RangedWatcher<BreadcrumbRange>,
    after: Revision,
}

impl BreadcrumbRange {
    /// Begins at a cursor, as [`View::watch`] does; also says which keys were there at it.
    ///
    /// # Errors
    /// As [`View::watch`].
    pub async fn new(
        view: &View,
        keys: KeySelector,
        after: Cursor,
    ) -> Result<(Self, HashSet<Key>), ViewError> {
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
    /// Begins at a cursor. Waits until this daemon has come as far, and until it is known what
    /// happened there. Cancel-safe.
    ///
    /// # Errors
    /// As [`View::watch`]: [`ViewError::Gone`] when the cursor is not kept.
    pub async fn new(view: &View, keys: KeySelector, after: Cursor) -> Result<Self, ViewError> {
        let (source, known) = BreadcrumbRange::new(view, keys, after).await?;
        Ok(Self { watcher: RangedWatcher::with_known_keys(source, known), after: after.revision })
    }

    /// Where the consumer stands once it has been told all that there is: after a `get` of a range of one
    /// key, or of any after one that had to wait. Names our own history.
    pub fn cursor(&self) -> Cursor {
        self.watcher.source().watch.cursor()
    }

    /// The last breadcrumb that was looked at.
    pub fn sequence(&self) -> Sequence {
        self.watcher.source().watch.sequence()
    }

    /// Why [`GetError::Closed`]: the cache has stopped, or its history is another now.
    pub fn why_closed(&self) -> ViewError {
        self.watcher.source().failed.clone().unwrap_or(ViewError::Stopped)
    }

    /// What the consumer has not seen yet. A deletion is told only to who knew the key.
    fn news(&mut self) -> impl Watcher<Item = KeyChange<Key, Entry>> {
        let after = Some(self.after);
        let is_news = move |entry: &Entry| entry.revision() > after;
        (&mut self.watcher).filter(move |change| change.value.as_ref().is_none_or(is_news))
    }
}

impl Watcher for KeysAfter {
    type Item = KeyChange<Key, Entry>;

    async fn get(&mut self) -> Result<Self::Item, GetError> {
        self.news().get().await
    }

    async fn get_backlog(&mut self) -> Result<Self::Item, GetError> {
        self.news().get_backlog().await
    }
}
