//! What is refused: conditions that do not hold, and what is too large.

use super::Store;
use crate::model::{Change, Condition, Key, Refusal, Revision, Update};

/// How many bytes of an offending key a log line shows.
const SHOWN_KEY_BYTES: usize = 120;

impl Store {
    pub(super) fn check(&self, conditions: &[Condition], updates: &[Update]) -> Result<(), Refusal> {
        conditions.iter().try_for_each(|condition| self.check_condition(condition))?;
        updates.iter().try_for_each(|update| self.check_size(&update.change))
    }

    fn check_condition(&self, condition: &Condition) -> Result<(), Refusal> {
        let (key, holds) = match condition {
            Condition::Exists(key) => (key, self.revision_of(key).is_some()),
            Condition::Absent(key) => (key, self.revision_of(key).is_none()),
            Condition::AtOneOf(key, revisions) => {
                (key, self.revision_of(key).is_some_and(|at| revisions.contains(&at)))
            }
            Condition::AtNoneOf(key, revisions) => {
                (key, self.revision_of(key).is_none_or(|at| !revisions.contains(&at)))
            }
        };
        if holds {
            return Ok(());
        }
        let found = match self.revision_of(key) {
            Some(revision) => format!("the key exists, its ETag is \"{revision}\""),
            None => "the key does not exist".to_owned(),
        };
        Err(Refusal::ConditionFailed { key: key.clone(), found })
    }

    /// Every entry in the map has been given a revision.
    fn revision_of(&self, key: &Key) -> Option<Revision> {
        self.state.get(key.as_bytes()).map(|entry| entry.revision().unwrap_or_default())
    }

    pub(super) fn check_size(&self, change: &Change) -> Result<(), Refusal> {
        let key = change.key();
        let value = match change {
            Change::Put(entry) => entry.value().len(),
            Change::Delete(_) => 0,
        };
        let checks =
            [("key", key.len(), self.config.max_key_bytes), ("value", value, self.config.max_value_bytes)];
        match checks.into_iter().find(|(_, bytes, limit)| bytes > limit) {
            None => Ok(()),
            Some((what, bytes, limit)) => {
                let key = Key::copy_from(&key[..key.len().min(SHOWN_KEY_BYTES)]);
                Err(Refusal::TooLarge { key, what, bytes, limit })
            }
        }
    }
}
