//! The start of a key watch: the keys that existed at its cursor.

use std::collections::{HashMap, HashSet};

use super::KeyWatch;
use crate::cache::{Breadcrumb, Step};
use crate::model::{Cursor, Key};
use crate::view::catch_up::CatchUp;
use crate::view::{KeySelector, View, ViewError};

impl View {
    /// A watch of these keys from a cursor, and which of them existed there. Waits until this daemon has reached the cursor
    /// and knows the history there. Cancel-safe.
    ///
    /// # Errors
    /// [`ViewError::Gone`], [`ViewError::Starting`], [`ViewError::Stopped`], [`ViewError::Encoding`].
    pub async fn watch(
        &self,
        keys: KeySelector,
        after: Cursor,
    ) -> Result<(KeyWatch, HashSet<Key>), ViewError> {
        let at = self.adopt(after);
        let mut upstream = self.watch_upstream();
        let (sequence, known) = loop {
            let delivered = self.fanout.newest()?;
            let newest = self.newest()?;
            let sequence = newest.sequence();
            match self.catch_up(after, at, &newest)? {
                CatchUp::UpToDate => break (sequence, self.keys_at(&keys, &newest, &[], at).await?),
                CatchUp::Changes(changes) => {
                    let (base, steps) = (changes.base(), changes.start.steps());
                    break (sequence, self.keys_at(&keys, base, steps, at).await?);
                }
                CatchUp::Ahead if upstream.is_below(at) => return Err(self.gone(after)),
                CatchUp::Ahead => tokio::select! {
                    next = delivered.next_ref() => drop(next.map_err(|_| ViewError::Stopped)?),
                    () = upstream.sighting() => {}
                },
                CatchUp::PastAwaited(mut past) => tokio::select! {
                    next = delivered.next_ref() => drop(next.map_err(|_| ViewError::Stopped)?),
                    () = past.changed() => {}
                },
            }
        };
        Ok((KeyWatch { view: self.clone(), keys, at, sequence, subscription: None }, known))
    }

    /// The keys that existed at a cursor from which these steps lead to a breadcrumb.
    async fn keys_at(
        &self,
        selected: &KeySelector,
        within: &Breadcrumb,
        steps: &[Step],
        at: Cursor,
    ) -> Result<HashSet<Key>, ViewError> {
        let mut keys: HashSet<Key> = match selected.only_key() {
            Some(key) => within.kvs().get(key.as_bytes()).map(|_| key.clone()).into_iter().collect(),
            None => {
                self.snapshots.note_use(None);
                let pages = self.snapshots.pages_of(within.clone()).await?;
                let listed = selected.iter().flat_map(|prefix| pages.list(prefix.as_bytes(), None));
                listed.map(|entry| Key::copy_from(entry.key())).collect()
            }
        };
        // The first step after the cursor says whether the key existed there.
        let mut existed = HashMap::new();
        let missed = steps.iter().filter(|step| step.revision > at.revision);
        for step in missed.filter(|step| selected.matches(step.entry.key())) {
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
