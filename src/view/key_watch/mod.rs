//! Key watches: each change of one key, or of the keys under prefixes.
//!
//! A [`KeyWatch`] is what a watcher of keys stands on. It knows its cursor, what is there now, and what
//! has happened since; which changes a consumer is to be told, it leaves to whoever knows the consumer
//! (`http` puts a [`RangedWatcher`](crate::value::RangedWatcher) on top, as [`crate::http::KeysAfter`]).
//!
//! It begins at a cursor, and a cursor is all there is of a client between two requests: another replica
//! may have handed it out, or this process before a restart. So the beginning is a question about the
//! past: *which keys were there at the cursor?* ([`View::watch`]). The answer may lie inside a breadcrumb,
//! where no state is kept but single steps are, or has still to be found out by the feed.
//! A cursor that is not kept is an error then. From there on none is: the watch waits in the
//! [subscription index](super::fanout), where changes of other keys wake nobody and it keeps its place
//! without keeping a breadcrumb; and if it is woken so late that its place is gone, it says that it is
//! [lost](WatchEvent::Lost), and what there is can be loaded.

mod known;

use super::catch_up::{CatchUp, furthest};
use super::fanout::{NotSubscribed, Subscription};
use super::{KeySelector, View, ViewError};
use crate::cache::Breadcrumb;
use crate::model::{Cursor, Entry, Key, Sequence};

/// What happened to the watched keys.
#[derive(Debug)]
pub enum WatchEvent {
    /// Each key that changed, once, with its newest entry, or with none where it is gone.
    Changed(Vec<(Key, Option<Entry>)>),
    /// That is not known any more: [`KeyWatch::load`] what is there.
    Lost,
}

/// Follows some keys from a cursor on. It keeps no breadcrumb in memory.
pub struct KeyWatch {
    view: View,
    keys: KeySelector,
    /// Up to here everything was told, in the terms of our own history.
    at: Cursor,
    /// The last breadcrumb that was looked at.
    sequence: Sequence,
    /// While none of the keys has changed after `at`.
    subscription: Option<Subscription>,
}

impl KeyWatch {
    /// All watched keys that there are, as they are now; what [`next`](Self::next) goes on from. That the way here is
    /// not known is no error.
    ///
    /// # Errors
    /// [`ViewError::Gone`] when the history is another now; [`ViewError::Starting`], [`ViewError::Encoding`].
    pub async fn load(&mut self) -> Result<Vec<Entry>, ViewError> {
        let newest = self.view.newest()?;
        let (entries, now, sequence) = match self.keys.only_key() {
            Some(key) => {
                let entry = newest.kvs().get(key.as_bytes()).cloned();
                (entry.into_iter().collect(), newest.cursor(), newest.sequence())
            }
            None => {
                drop(newest);
                self.view.snapshots.note(None);
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

    /// What happens next. Cancel-safe.
    ///
    /// # Errors
    /// [`ViewError::Gone`] when the history is another now; [`ViewError::Starting`], [`ViewError::Stopped`].
    pub async fn next(&mut self) -> Result<WatchEvent, ViewError> {
        loop {
            if let Some(event) = self.next_no_block()? {
                return Ok(event);
            }
            let subscription = match self.subscription.take() {
                Some(subscription) => subscription,
                // The breadcrumb is let go, and those that change other keys wake nobody here.
                None => match self.view.fanout.subscriptions.subscribe(&self.keys, self.sequence) {
                    Ok(subscription) => subscription,
                    Err(NotSubscribed::Ended) => return Err(ViewError::Stopped),
                    Err(NotSubscribed::NotUpToDate) => continue,
                },
            };
            // It stays where it is when this is dropped: it is what keeps the place.
            if self.subscription.insert(subscription).touched().await.is_none() {
                return Err(ViewError::Stopped);
            }
        }
    }

    /// What has happened already; nothing when that is not known to be anything.
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
            // This daemon was there once: the state has gone back.
            Some(_) if now.revision < self.at.revision => return Err(self.view.gone(self.at)),
            Some(key) => WatchEvent::Changed(self.change_of(key, &newest)),
            None => self.changes(&newest)?,
        };
        if let WatchEvent::Changed(_) = event {
            self.at = now;
        }
        Ok(Some(event))
    }

    /// One key needs no past: its entry says when it was set.
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
            // Whoever remembers the keys needs no past: what is there now tells the rest.
            Ok(CatchUp::PastAwaited(_)) | Err(ViewError::Gone { .. }) => return Ok(WatchEvent::Lost),
            Err(error) => return Err(error),
        };
        let deltas = changes.of(&self.keys);
        let keys = deltas.iter().map(|delta| delta.entry.key());
        let changed = keys.map(|key| (Key::copy_from(key), newest.kvs().get(key).cloned()));
        Ok(WatchEvent::Changed(changed.collect()))
    }

    /// Everything that happened to the keys up to here was told.
    pub fn cursor(&self) -> Cursor {
        let until = self.subscription.as_ref().and_then(Subscription::untouched_until);
        until.map_or(self.at, |until| furthest(self.at, until))
    }

    /// The last breadcrumb that was looked at.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
}
