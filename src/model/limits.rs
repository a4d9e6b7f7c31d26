//! The limits on keys and values, and on whole states.

use std::fmt;

use super::{Change, Key, Refusal, Revision, Update};

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
            return Err(Refusal::Unreadable { key: Key::shortened(key), reason: reason.clone() });
        }
        if let Some(claimed) = update.revision.filter(|claimed| *claimed > Revision::MAX_CLAIM) {
            return Err(Refusal::RevisionTooHigh { key: Key::shortened(key), claimed });
        }
        let value = match &update.change {
            Change::Put(entry) => entry.value().len(),
            Change::Delete(_) | Change::Unreadable(..) => 0,
        };
        let checks = [("key", key.len(), self.max_key_bytes), ("value", value, self.max_value_bytes)];
        match checks.into_iter().find(|(_, bytes, limit)| bytes > limit) {
            None => Ok(()),
            Some((what, bytes, limit)) => {
                Err(Refusal::TooLarge { key: Key::shortened(key), what, bytes, limit })
            }
        }
    }

    /// Whether a key with a value of this length is within the limits.
    pub(crate) fn allow(self, key: &[u8], value_bytes: usize) -> bool {
        key.len() <= self.max_key_bytes && value_bytes <= self.max_value_bytes
    }
}

/// A limit on the state of a collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateLimit {
    /// The number of keys.
    Keys(u64),
    /// The bytes of all keys and values.
    Bytes(u64),
}

impl StateLimit {
    /// The names of the flags that set them.
    pub const FLAGS: [&'static str; 2] = ["max-keys", "max-bytes"];

    /// The name of the flag that sets it.
    pub fn flag(self) -> &'static str {
        let [keys, bytes] = Self::FLAGS;
        match self {
            Self::Keys(_) => keys,
            Self::Bytes(_) => bytes,
        }
    }
}

impl fmt::Display for StateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => write!(f, "{keys} keys (--{})", self.flag()),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes of keys and values (--{})", self.flag()),
        }
    }
}
