//! What of an upstream's updates is kept, and what is refused.

use super::{Change, Key, Refusal, Revision, Update};

/// How many bytes of an offending key a message shows.
const SHOWN_KEY_BYTES: usize = 120;

/// The longest key and the longest value that are kept. Replicas that are to agree have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryLimits {
    /// Of a key, in bytes.
    pub max_key_bytes: usize,
    /// Of a value, in bytes.
    pub max_value_bytes: usize,
}

impl EntryLimits {
    /// Whether the update can be done as it is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(self, update: &Update) -> Result<(), Refusal> {
        let key = update.change.key();
        if let Change::Unreadable(_, reason) = &update.change {
            return Err(Refusal::Unreadable { key: shown(key), reason: reason.clone() });
        }
        if let Some(claimed) = update.revision.filter(|claimed| *claimed > Revision::MAX_CLAIM) {
            return Err(Refusal::RevisionTooHigh { key: shown(key), claimed });
        }
        let value = match &update.change {
            Change::Put(entry) => entry.value().len(),
            Change::Delete(_) | Change::Unreadable(..) => 0,
        };
        let checks = [("key", key.len(), self.max_key_bytes), ("value", value, self.max_value_bytes)];
        match checks.into_iter().find(|(_, bytes, limit)| bytes > limit) {
            None => Ok(()),
            Some((what, bytes, limit)) => Err(Refusal::TooLarge { key: shown(key), what, bytes, limit }),
        }
    }

    /// Whether a key with a value of this length can be kept.
    pub fn hold(self, key: &[u8], value_bytes: usize) -> bool {
        key.len() <= self.max_key_bytes && value_bytes <= self.max_value_bytes
    }
}

fn shown(key: &[u8]) -> Key {
    Key::copy_from(&key[..key.len().min(SHOWN_KEY_BYTES)])
}
