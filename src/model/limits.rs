//! The limits on keys and values.

use super::{Change, Key, Refusal, Revision, Update};

/// The most bytes of a refused key in a message.
const SHOWN_KEY_BYTES: usize = 120;

/// The limits on keys and values. Replicas agree only if they have the same limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryLimits {
    /// The longest key, in bytes.
    pub max_key_bytes: usize,
    /// The longest value, in bytes.
    pub max_value_bytes: usize,
}

impl EntryLimits {
    /// Checks an update.
    ///
    /// # Errors
    /// The reason to refuse it.
    pub(crate) fn check(self, update: &Update) -> Result<(), Refusal> {
        let key = update.change.key();
        if let Change::Unreadable(_, reason) = &update.change {
            return Err(Refusal::Unreadable { key: shortened(key), reason: reason.clone() });
        }
        if let Some(claimed) = update.revision.filter(|claimed| *claimed > Revision::MAX_CLAIM) {
            return Err(Refusal::RevisionTooHigh { key: shortened(key), claimed });
        }
        let value = match &update.change {
            Change::Put(entry) => entry.value().len(),
            Change::Delete(_) | Change::Unreadable(..) => 0,
        };
        let checks = [("key", key.len(), self.max_key_bytes), ("value", value, self.max_value_bytes)];
        match checks.into_iter().find(|(_, bytes, limit)| bytes > limit) {
            None => Ok(()),
            Some((what, bytes, limit)) => Err(Refusal::TooLarge { key: shortened(key), what, bytes, limit }),
        }
    }

    /// Whether a key with a value of this length is within the limits.
    pub(crate) fn allow(self, key: &[u8], value_bytes: usize) -> bool {
        key.len() <= self.max_key_bytes && value_bytes <= self.max_value_bytes
    }
}

fn shortened(key: &[u8]) -> Key {
    Key::copy_from(&key[..key.len().min(SHOWN_KEY_BYTES)])
}
