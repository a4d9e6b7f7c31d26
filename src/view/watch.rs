//! Following keys: one, or those under a prefix, each change of each.
//!
//! A [`Watch`] is what a watcher of a range stands on. It knows where it stands, what is there now, and what
//! has happened since; which changes a consumer is to be told, it leaves to whoever knows the consumer
//! (`http` puts a [`RangedWatcher`](crate::value::RangedWatcher) on top, as [`crate::http::KeysAfter`]).
//!
//! It begins at a cursor, and a cursor is all there is of a client between two requests: another replica
//! may have handed it out, or this process before a restart. So the beginning is a question about the
//! past: *which keys were there at the cursor?* ([`View::watch`]). The answer may lie inside a breadcrumb,
//! where no state is kept but single steps are, or has still to be found out by the feed.
//! A cursor that is not kept is an error then. From there on none is: the watch waits in the index of
//! [interest](super::interest), where those who change other keys wake nobody and it keeps its place
//! without keeping a breadcrumb; and if it is woken so late that its place is gone, it says that it is
//! [lost](Happened::Lost), and what there is can be loaded.

mod known;

use super::follow::furthest;
use super::interest::{Registered, Registration};
use super::waiting::Woken;
use super::way::Found;
use super::{Scope, View, ViewError};
use crate::model::{Cursor, Entry, Key, Sequence};

/// Which keys are watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyRange {
    /// This one.
    One(Key),
    /// Those that begin with this.
    Under(Key),
}

/// What happened to the keys of a range.
#[derive(Debug)]
pub enum Happened {
    /// Each key that changed, once, with its newest entry, or with none where it is gone.
    Changed(Vec<(Key, Option<Entry>)>),
    /// That is not known any more: [`Watch::load`] what is there.
    Lost,
}

/// Stands somewhere on the trail and follows the keys of a range. It keeps no breadcrumb.
pub struct Watch {
    view: View,
    range: KeyRange,
    /// Up to here everything was told, in the terms of our own history.
    at: Cursor,
    /// The last breadcrumb that was looked at.
    sequence: Sequence,
    /// While nothing has changed in the range after `at`.
    untouched: Option<Registration>,
}

impl KeyRange {
    /// Every key of the range begins with it.
    fn prefix(&self) -> &Key {
        let (Self::One(prefix) | Self::Under(prefix)) = self;
        prefix
    }

    fn holds(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => key == one.as_bytes(),
            Self::Under(prefix) => key.starts_with(prefix.as_bytes()),
        }
    }
}

impl Watch {
    /// Everything in the range, as it is now; what [`happens`](Self::happens) goes on from there. Not an
    /// error is that the way here is not known.
    ///
    /// # Errors
    /// [`ViewError::Gone`] when the history is another now; [`ViewError::Starting`], [`ViewError::Encoding`].
    pub async fn load(&mut self) -> Result<Vec<Entry>, ViewError> {
        let newest = self.view.newest()?;
        let (entries, now, sequence) = match &self.range {
            KeyRange::One(key) => {
                let entry = newest.kvs().get(key.as_bytes()).cloned();
                (entry.into_iter().collect(), newest.cursor(), newest.sequence())
            }
            KeyRange::Under(prefix) => {
                drop(newest);
                self.view.pages.note(None);
                let newest = self.view.pages.newest().await?;
                let entries = newest.pages.list(prefix.as_bytes(), None).cloned().collect();
                (entries, newest.stand.cursor, newest.stand.sequence)
            }
        };
        if now.history != self.at.history {
            return Err(self.view.gone(self.at));
        }
        (self.at, self.sequence, self.untouched) = (furthest(self.at, now), sequence, None);
        Ok(entries)
    }

    /// What happens next in the range. Cancel-safe.
    ///
    /// # Errors
    /// [`ViewError::Gone`] when the history is another now; [`ViewError::Starting`], [`ViewError::Stopped`].
    pub async fn happens(&mut self) -> Result<Happened, ViewError> {
        loop {
            if let Some(happened) = self.happened()? {
                return Ok(happened);
            }
            let untouched = match self.untouched.take() {
                Some(untouched) => untouched,
                // The breadcrumb is let go, and those that change other keys wake nobody here.
                None => match self.view.ahead.interest.register(self.range.prefix(), self.sequence) {
                    Registered::Waiting(untouched) => untouched,
                    Registered::Not(Woken::Over(_)) => return Err(ViewError::Stopped),
                    Registered::Not(_) => continue,
                },
            };
            // It stays where it is when this is dropped: it is what keeps the place.
            if self.untouched.insert(untouched).touched().await.is_none() {
                return Err(ViewError::Stopped);
            }
        }
    }

    /// What has happened already in the range; nothing when that is not known to be anything.
    ///
    /// # Errors
    /// As for [`happens`](Self::happens).
    pub fn happened(&mut self) -> Result<Option<Happened>, ViewError> {
        if let Some(untouched) = self.untouched.take() {
            match untouched.before() {
                Some(before) => self.at = furthest(self.at, before),
                None => {
                    self.untouched = Some(untouched);
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
        if now.revision < self.at.revision {
            // This daemon was there once: the state has gone back.
            return Err(self.view.gone(self.at));
        }
        if now.revision == self.at.revision {
            return Ok(None);
        }
        let changes = match &self.range {
            KeyRange::One(key) => match newest.kvs().get(key.as_bytes()) {
                Some(entry) if entry.revision() > Some(self.at.revision) => {
                    vec![(key.clone(), Some(entry.clone()))]
                }
                Some(_) => Vec::new(),
                None => vec![(key.clone(), None)],
            },
            KeyRange::Under(prefix) => match self.view.way(self.at, &newest) {
                Ok(Found::Way(way)) => {
                    let deltas = way.deltas(&newest, Scope::Prefix(prefix));
                    let keys = deltas.iter().map(|delta| delta.entry.key());
                    keys.map(|key| (Key::copy_from(key), newest.kvs().get(key).cloned())).collect()
                }
                // Whoever remembers the keys needs no past: what is there now tells the rest.
                Ok(Found::Awaited(_)) | Err(ViewError::Gone { .. }) => return Ok(Some(Happened::Lost)),
                Err(error) => return Err(error),
            },
        };
        self.at = now;
        Ok(Some(Happened::Changed(changes)))
    }

    /// Everything in the range up to here was told.
    pub fn cursor(&self) -> Cursor {
        let until = self.untouched.as_ref().and_then(Registration::untouched_until);
        until.map_or(self.at, |until| furthest(self.at, until))
    }

    /// The last breadcrumb that was looked at.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
}
