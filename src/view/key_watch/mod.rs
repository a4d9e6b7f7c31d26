//! Key watches: each change of one key, or of the keys under prefixes.
//!
//! A [`KeyWatch`] has a cursor, the current entries, and the changes since. It does not know which changes its consumer
//! has seen; `http` adds that with a [`RangedWatcher`](crate::value::RangedWatcher) on top
//! ([`crate::http::KeysAfter`]).
//!
//! It starts at a cursor, which another replica or an earlier process may have handed out. So it first has to know
//! which keys existed at that cursor ([`View::watch`]). The cursor may be inside a breadcrumb, where only the steps are
//! kept, or in history that the feed is still reading. A cursor that is gone is an error at this point only.
//!
//! After that the watch waits in the [subscription index](super::fanout). Changes of other keys do not wake it, and it
//! keeps no breadcrumb in memory. If its position is gone by the time it is woken, it reports
//! [`Lost`](WatchEvent::Lost), and the consumer loads the current entries.

mod start;

use super::catch_up::{CatchUp, furthest};
use super::fanout::{NotSubscribed, Subscription};
use super::{KeySelector, View, ViewError};
use crate::cache::Breadcrumb;
use crate::model::{Cursor, Entry, Key, Sequence};

/// An event of a key watch.
#[derive(Debug)]
pub enum WatchEvent {
    /// Each changed key once, with its newest entry; `None` if it was deleted.
    Changed(Vec<(Key, Option<Entry>)>),
    /// The changes are not known any more: [`KeyWatch::load`] the current entries.
    Lost,
}

/// A watch of some keys from a cursor. It keeps no breadcrumb in memory.
pub struct KeyWatch {
    view: View,
    keys: KeySelector,
    /// The cursor up to which all changes were returned, in our own history.
    at: Cursor,
    /// The last breadcrumb that was read.
    sequence: Sequence,
    /// The subscription, while none of the keys has changed after `at`.
    subscription: Option<Subscription>,
}

impl KeyWatch {
    /// The current entries of the watched keys; [`next`](Self::next) continues from them.
    ///
    /// # Errors
    /// [`ViewError::Gone`] when the history has changed; [`ViewError::Starting`], [`ViewError::Encoding`].
    pub async fn load(&mut self) -> Result<Vec<Entry>, ViewError> {
        let newest = self.view.newest()?;
        let (entries, now, sequence) = match self.keys.only_key() {
            Some(key) => {
                let entry = newest.kvs().get(key.as_bytes()).cloned();
                (entry.into_iter().collect(), newest.cursor(), newest.sequence())
            }
            None => {
                drop(newest);
                self.view.snapshots.note_use(None);
                let newest = self.view.snapshots.newest().await?;
                let listed = self.keys.iter().flat_map(|prefix| newest.pages.list(prefix.as_bytes(), None));
                (listed.cloned().collect(), newest.info.cursor, newest.info.sequence)
            }
        };
        if now.history != self.at.history {
            return Err(self.view.gone(self.at));
        }
        (self.at, self.sequence, self.subscription) = (furthest(self.at, now), sequence, None);
        Ok(entries)
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// [`ViewError::Gone`] when the history has changed; [`ViewError::Starting`], [`ViewError::Stopped`].
    pub async fn next(&mut self) -> Result<WatchEvent, ViewError> {
        loop {
            if let Some(event) = self.next_no_block()? {
                return Ok(event);
            }
            let subscription = match self.subscription.take() {
                Some(subscription) => subscription,
                // No breadcrumb is held, and changes of other keys do not wake this watch.
                None => match self.view.fanout.subscriptions.subscribe(&self.keys, self.sequence, None) {
                    Ok(subscription) => subscription,
                    Err(NotSubscribed::Ended) => return Err(ViewError::Stopped),
                    Err(NotSubscribed::Behind) => continue,
                },
            };
            // Stored before the wait: if this future is dropped, the subscription keeps the position.
            if self.subscription.insert(subscription).touched().await.is_none() {
                return Err(ViewError::Stopped);
            }
        }
    }

    /// The next event if it is known already.
    ///
    /// # Errors
    /// As for [`next`](Self::next).
    pub fn next_no_block(&mut self) -> Result<Option<WatchEvent>, ViewError> {
        if let Some(subscription) = self.subscription.take() {
            match subscription.before() {
                Some(before) => self.at = furthest(self.at, before),
                None => {
                    self.subscription = Some(subscription);
                    return Ok(None);
                }
            }
        }
        let newest = self.view.newest()?;
        let now = newest.cursor();
        if now.history != self.at.history {
            return Err(self.view.gone(self.at));
        }
        self.sequence = newest.sequence();
        if now.revision == self.at.revision {
            return Ok(None);
        }
        let event = match self.keys.only_key() {
            // This daemon was at `at` before, so its state has been rolled back.
            Some(_) if now.revision < self.at.revision => return Err(self.view.gone(self.at)),
            Some(key) => WatchEvent::Changed(self.change_of(key, &newest)),
            None => self.changes(&newest)?,
        };
        if let WatchEvent::Changed(_) = event {
            self.at = now;
        }
        Ok(Some(event))
    }

    /// The change of a single key. It needs no history: the entry has its revision.
    fn change_of(&self, key: &Key, newest: &Breadcrumb) -> Vec<(Key, Option<Entry>)> {
        match newest.kvs().get(key.as_bytes()) {
            Some(entry) if entry.revision() > Some(self.at.revision) => {
                vec![(key.clone(), Some(entry.clone()))]
            }
            Some(_) => Vec::new(),
            None => vec![(key.clone(), None)],
        }
    }

    fn changes(&self, newest: &Breadcrumb) -> Result<WatchEvent, ViewError> {
        let changes = match self.view.catch_up(self.at, self.at, newest) {
            Ok(CatchUp::Changes(changes)) => changes,
            Ok(CatchUp::UpToDate) => return Ok(WatchEvent::Changed(Vec::new())),
            Ok(CatchUp::Ahead) => return Err(self.view.gone(self.at)),
            // The consumer knows the keys, so the current entries are enough.
            Ok(CatchUp::PastAwaited(_)) | Err(ViewError::Gone { .. }) => return Ok(WatchEvent::Lost),
            Err(error) => return Err(error),
        };
        let deltas = changes.of(&self.keys);
        let keys = deltas.iter().map(|delta| delta.entry.key());
        let changed = keys.map(|key| (Key::copy_from(key), newest.kvs().get(key).cloned()));
        Ok(WatchEvent::Changed(changed.collect()))
    }

    /// The cursor up to which all changes of the keys were returned.
    pub fn cursor(&self) -> Cursor {
        let until = self.subscription.as_ref().and_then(Subscription::untouched_until);
        until.map_or(self.at, |until| furthest(self.at, until))
    }

    /// The last breadcrumb that was read.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
}
