//! Where the file of each key of a state is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::file_name::{self, directories_of, is_long, path_of};
use crate::client::{EntryChange, MirrorSnapshot};
use crate::model::Key;

/// Which keys there are files of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// Empty for the collection without a name.
    pub(super) collection: String,
    pub(super) prefix: String,
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { collection, prefix } = self;
        match collection.is_empty() {
            true => write!(f, "the prefix {prefix:?}"),
            false => write!(f, "the prefix {prefix:?} in the collection {collection}"),
        }
    }
}

/// The places of files: the prefix is taken off the keys.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    selection: Selection,
}

impl Layout {
    pub(super) fn new(selection: Selection) -> Self {
        Self { selection }
    }

    pub(super) fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The key without the prefix.
    fn name<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.strip_prefix(self.selection.prefix.as_bytes()).unwrap_or(key)
    }

    /// The path of a key in a state.
    pub(super) fn path(&self, state: &MirrorSnapshot, key: &[u8]) -> String {
        let within = [key, b"/"].concat();
        path_of(self.name(key), state.iter_prefix(&within).next().is_some())
    }

    /// The key at a path. `None` if the path is no key's, or one that only the manifest knows.
    pub(super) fn key(&self, path: &str) -> Option<Key> {
        let name = file_name::name_of(path)?;
        Some(Key::copy_from(&[self.selection.prefix.as_bytes(), &name].concat()))
    }

    /// The keys whose file differs between two states, or is elsewhere.
    pub(super) fn affected(&self, before: &MirrorSnapshot, after: &MirrorSnapshot) -> Affected {
        let mut affected = Affected::default();
        for change in before.changes_to(after) {
            affected.changed += 1;
            let key = change.key();
            if matches!(change, EntryChange::New(_) | EntryChange::Deleted { .. }) {
                // A key of which this one is in the directory may be a plain file in one state only.
                let name = self.name(key);
                let outer =
                    directories_of(name).map(|name| &key[..key.len() - self.name(key).len() + name.len()]);
                affected.keys.extend(
                    outer
                        .filter(|key| before.get(key).is_some() || after.get(key).is_some())
                        .map(<[u8]>::to_vec),
                );
            }
            affected.keys.insert(key.to_vec());
        }
        affected
    }

    /// The keys with long paths, in base64, by file name.
    pub(super) fn long_keys(&self, state: &MirrorSnapshot) -> BTreeMap<String, String> {
        // No byte becomes more than three, but for a few marks: a shorter key has no long path.
        let may_be_long = |key: &&[u8]| self.name(key).len() * 3 > file_name::MAX_PATH_BYTES / 2;
        let keys = state.iter().map(|entry| entry.key()).filter(may_be_long);
        let paths = keys.map(|key| (self.path(state, key), key)).filter(|(path, _)| is_long(path));
        paths
            .map(|(path, key)| (path.rsplit('/').next().unwrap_or_default().to_owned(), BASE64.encode(key)))
            .collect()
    }

    /// A key as [`Self::long_keys`] has it.
    pub(super) fn long_key(text: &str) -> Option<Key> {
        BASE64.decode(text).ok().map(|key| Key::copy_from(&key))
    }
}

/// The difference between two states.
#[derive(Debug, Default)]
pub(super) struct Affected {
    /// The number of keys that were added, changed or deleted.
    pub(super) changed: usize,
    /// These keys, and those whose files have moved.
    pub(super) keys: BTreeSet<Vec<u8>>,
}
