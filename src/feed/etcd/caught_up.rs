//! Has a watch delivered everything up to a revision?

use std::collections::HashMap;

use super::client::Connection;
use super::{EtcdError, range_end, range_start};
use crate::wire::etcd::kv::{Event, EventType, KeyValue, RangeRequest};

/// Whether a watch has delivered everything from one revision of the store up to another.
///
/// A watch does not say so itself (its progress notifications may be wrong), and the store's revision also counts
/// changes outside of the prefix. An event at or after the target proves it. If none arrives, the store is asked
/// which keys were set since, and how many there are.
pub(super) struct CaughtUp {
    from: i64,
    target: i64,
    reached: bool,
    /// The keys of the events, each with the revision of its last event.
    seen: HashMap<Vec<u8>, i64>,
    /// Creations minus deletions.
    balance: i64,
}

impl CaughtUp {
    pub(super) fn new(from: i64, target: i64) -> Self {
        Self { from, target, reached: from >= target, seen: Default::default(), balance: 0 }
    }

    /// Takes the events of the watch.
    pub(super) fn record(&mut self, events: &[Event]) {
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

    /// Asks the store. The answer is exact: every key that was set after `from` was seen at that revision or later, and
    /// the number of keys is that at `from` plus the balance, so no deletion is missing.
    ///
    /// # Errors
    /// [`EtcdError::Compacted`] when `from` or the target is compacted away; then this cannot be found out.
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

/// The number of keys of a range at a revision.
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
