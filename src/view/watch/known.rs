//! Where a watch begins: which keys were there at a cursor?

use std::collections::{HashMap, HashSet};

use super::{KeyRange, Watch};
use crate::cache::{Breadcrumb, Position, Step};
use crate::model::{Cursor, Key};
use crate::view::waiting::{Waiting, Woken};
use crate::view::{View, ViewError};

impl View {
    /// Begins to watch at a cursor, and says which keys of the range were there at it. Waits until this
    /// daemon has come as far as the cursor, and until it is known what happened there. Cancel-safe.
    ///
    /// # Errors
    /// [`ViewError::Gone`], [`ViewError::Starting`], [`ViewError::Stopped`], [`ViewError::Encoding`].
    pub async fn watch(&self, range: KeyRange, after: Cursor) -> Result<(Watch, HashSet<Key>), ViewError> {
        let at = self.adopt(after);
        let mut upstream = self.watch_upstream();
        let (sequence, known) = loop {
            let newest = self.newest()?;
            let sequence = newest.sequence();
            let mut waiting = match self.cache.locate(at) {
                Position::At(base) => break (sequence, self.keys_at(&range, &base, &[], at).await?),
                Position::Inside { within } => {
                    break (sequence, self.keys_at(&range, &within, within.steps(), at).await?);
                }
                Position::Before { within, past } => {
                    break (sequence, self.keys_at(&range, &within, past.steps(), at).await?);
                }
                Position::Awaited(past) => Waiting::ForThePast(newest, Box::new(past)),
                Position::Ahead if upstream.is_below(at) => return Err(self.gone(after)),
                Position::Ahead => Waiting::ToCatchUp(newest, &mut upstream),
                Position::Gone | Position::OtherHistory => return Err(self.gone(after)),
            };
            if let Woken::Over(_) = waiting.woken().await {
                return Err(ViewError::Stopped);
            }
        };
        Ok((Watch { view: self.clone(), range, at, sequence, untouched: None }, known))
    }

    /// The keys of the range at a cursor from which these steps lead to a breadcrumb.
    async fn keys_at(
        &self,
        range: &KeyRange,
        within: &Breadcrumb,
        steps: &[Step],
        at: Cursor,
    ) -> Result<HashSet<Key>, ViewError> {
        let mut keys: HashSet<Key> = match range {
            KeyRange::One(key) => within.kvs().get(key.as_bytes()).map(|_| key.clone()).into_iter().collect(),
            KeyRange::Under(prefix) => {
                self.pages.note(None);
                let pages = self.pages.pages_of(within.clone()).await?;
                pages.list(prefix.as_bytes(), None).map(|entry| Key::copy_from(entry.key())).collect()
            }
        };
        // The first step after the cursor tells how a key stood at it.
        let mut existed = HashMap::new();
        let missed = steps.iter().filter(|step| step.revision > at.revision);
        for step in missed.filter(|step| range.holds(step.entry.key())) {
            existed.entry(step.entry.key()).or_insert(step.existed);
        }
        for (key, existed) in existed {
            match existed {
                true => keys.insert(Key::copy_from(key)),
                false => keys.remove(key),
            };
        }
        Ok(keys)
    }
}
