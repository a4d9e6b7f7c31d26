//! Has a watch brought everything up to a revision?

use std::collections::HashMap;

use super::client::Connection;
use super::proto::{Event, EventType, KeyValue, RangeRequest};
use super::{EtcdError, range_end, range_start};

/// Whether a watch has brought everything up to the revision at which the store was when it began.
///
/// A watch does not say so itself (its progress notifications may lie), and the store's revision
/// counts changes outside of the prefix too. So: an event at or after the target says so, and where
/// none comes the store is asked which keys were set since, and how many there are.
pub(super) struct CaughtUp {
    from: i64,
    target: i64,
    reached: bool,
    /// Keys seen since, and the revision of what was seen last.
    seen: HashMap<Vec<u8>, i64>,
    /// Creations minus deletions seen since.
    balance: i64,
}

impl CaughtUp {
    pub(super) fn new(from: i64, target: i64) -> Self {
        Self { from, target, reached: from >= target, seen: Default::default(), balance: 0 }
    }

    pub(super) fn saw(&mut self, events: &[Event]) {
        if self.reached {
            return;
        }
        for event in events {
            let Some(kv) = &event.kv else { continue };
            self.reached |= kv.mod_revision >= self.target;
            self.seen.insert(kv.key.to_vec(), kv.mod_revision);
            self.balance += match event.kind() {
                EventType::Delete => -1,
                EventType::Put if kv.create_revision == kv.mod_revision => 1,
                EventType::Put => 0,
            };
        }
        if self.reached {
            self.seen.clear();
        }
    }

    /// Asks the store. Exact: every key that was set after `from` was seen at that revision or
    /// later, and the number of keys is that at `from` plus what was seen, so no deletion is missing.
    ///
    /// # Errors
    /// [`EtcdError::Compacted`] when `from` or the target is compacted away: then it cannot be told this way.
    pub(super) async fn ask(&mut self, connection: &Connection, prefix: &[u8]) -> Result<bool, EtcdError> {
        let range = RangeRequest {
            key: range_start(prefix),
            range_end: range_end(prefix),
            keys_only: true,
            ..RangeRequest::default()
        };
        let before = count_at(connection, &range, self.from).await?;
        let set = RangeRequest { revision: self.target, min_mod_revision: self.from + 1, ..range.clone() };
        let now = connection.range(set).await?;
        let seen = |kv: &KeyValue| self.seen.get(&kv.key[..]).is_some_and(|at| *at >= kv.mod_revision);
        self.reached = now.kvs.iter().all(seen) && now.count == before + self.balance;
        Ok(self.reached)
    }
}

/// Number of keys of a range at a revision.
pub(super) async fn count_at(
    connection: &Connection,
    range: &RangeRequest,
    revision: i64,
) -> Result<i64, EtcdError> {
    // An empty store is at revision 1, and 0 would mean the newest.
    if revision <= 1 {
        return Ok(0);
    }
    let request = RangeRequest { revision, count_only: true, ..range.clone() };
    Ok(connection.range(request).await?.count)
}
