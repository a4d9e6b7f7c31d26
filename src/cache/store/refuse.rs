//! What is refused: conditions that do not hold, what is too large, and revisions after which nothing could be counted.

use tracing::warn;

use super::Store;
use crate::model::{Change, Condition, Key, Refusal, Revision, Update};

/// How many bytes of an offending key a log line shows.
const SHOWN_KEY_BYTES: usize = 120;

impl Store {
    pub(super) fn check(&self, conditions: &[Condition], updates: &[Update]) -> Result<(), Refusal> {
        conditions.iter().try_for_each(|condition| self.check_condition(condition))?;
        updates.iter().try_for_each(|update| self.check_update(update))
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

    pub(super) fn check_update(&self, update: &Update) -> Result<(), Refusal> {
        let key = update.change.key();
        if let Some(claimed) = update.revision.filter(|claimed| *claimed > Revision::MAX_CLAIM) {
            return Err(Refusal::Claim { key: shown(key), claimed });
        }
        let value = match &update.change {
            Change::Put(entry) => entry.value().len(),
            Change::Delete(_) => 0,
        };
        let checks =
            [("key", key.len(), self.config.max_key_bytes), ("value", value, self.config.max_value_bytes)];
        match checks.into_iter().find(|(_, bytes, limit)| bytes > limit) {
            None => Ok(()),
            Some((what, bytes, limit)) => Err(Refusal::TooLarge { key: shown(key), what, bytes, limit }),
        }
    }

    /// The revision of a whole state, as far as a feed may claim one.
    pub(super) fn claimable(&self, claimed: Option<Revision>) -> Option<Revision> {
        let claimable = claimed.map(|claimed| claimed.min(Revision::MAX_CLAIM));
        if claimed > claimable {
            self.stats.refused.add(1);
            warn!(claimed = %claimed.unwrap_or_default(), "the feed claims a revision above {}: taken for that one", Revision::MAX_CLAIM);
        }
        claimable
    }
}

fn shown(key: &[u8]) -> Key {
    Key::copy_from(&key[..key.len().min(SHOWN_KEY_BYTES)])
}
