//! The key-count audit: finds a deletion that the watch never delivered.
//!
//! etcd sets aside a watch whose reader is slow and serves it later from its history, from the revision after the last
//! message that it kept. If etcd is compacted to exactly that revision in between, the watch still continues there, but
//! the deletions of that revision are lost (etcd issues 18089 and 19179, fixed in 3.4.36 and 3.5.18). No message shows
//! it: the events that follow look like any others, and if none follow, nothing arrives at all.
//!
//! Only deletions are lost this way, and only if a compaction overtakes what we have seen. So once a second etcd is
//! asked whether it has compacted the revision at which we were a second ago; that costs a read of one key. Usually
//! it has not, and everything delivered so far is complete. Otherwise (somebody compacts to the newest revision, only
//! keys outside of the prefix change, or we are slow) etcd is asked once for its number of keys now. That number has
//! to equal ours once we are past its revision, or once nothing arrives any more. A lost deletion leaves us with one
//! key too many, a second one with two; setting the key again counts as creating it, as etcd does. So errors never
//! cancel out.

use crate::wire::etcd::kv::{Event, EventType};

/// After so many checks without events, none is on its way.
const QUIET_CHECKS: u32 = 3;

/// The number of keys according to the watch, and the number that etcd named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyCountAudit {
    keys: i64,
    /// Nothing up to here is missing, or `expected` will show it.
    audited: i64,
    expected: Option<Expected>,
}

/// A count by etcd that ours has not been compared with yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    /// The revision at which etcd counted.
    revision: i64,
    keys: i64,
    /// Checks since the last event.
    quiet_checks: u32,
}

/// The watch has not delivered a deletion.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DeletionLost;

impl KeyCountAudit {
    /// Starts with the number of keys at a revision.
    pub(super) fn new(keys: i64, revision: i64) -> Self {
        Self { keys, audited: revision, expected: None }
    }

    /// The number of keys according to the watch.
    pub(super) fn keys(&self) -> i64 {
        self.keys
    }

    /// The revision up to which a compaction is harmless. After one beyond it, etcd has to count.
    pub(super) fn audited(&self) -> i64 {
        self.audited
    }

    /// etcd had not compacted [`audited`](Self::audited) after everything up to `seen` had arrived.
    pub(super) fn not_compacted(&mut self, seen: i64) {
        self.audited = self.audited.max(seen);
    }

    /// Takes a count by etcd at its newest revision, which the watch may not have reached yet.
    pub(super) fn expect(&mut self, revision: i64, keys: i64) {
        self.audited = revision;
        self.expected = Some(Expected { revision, keys, quiet_checks: 0 });
    }

    /// Counts events, in the order of their revisions.
    pub(super) fn record(&mut self, events: &[Event]) -> Result<(), DeletionLost> {
        for event in events {
            let Some(kv) = &event.kv else { continue };
            if let Some(expected) = self.expected.take_if(|expected| kv.mod_revision > expected.revision)
                && expected.keys != self.keys
            {
                return Err(DeletionLost);
            }
            self.keys += match event.kind() {
                EventType::Delete => -1,
                EventType::Put if kv.create_revision == kv.mod_revision => 1,
                EventType::Put => 0,
            };
        }
        self.expected.iter_mut().for_each(|expected| expected.quiet_checks = 0);
        Ok(())
    }

    /// To be called at intervals.
    pub(super) fn check(&mut self) -> Result<(), DeletionLost> {
        let keys = self.keys;
        match self.expected.as_mut().filter(|expected| expected.keys != keys) {
            Some(expected) if expected.quiet_checks >= QUIET_CHECKS => Err(DeletionLost),
            Some(expected) => {
                expected.quiet_checks += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::etcd::kv::KeyValue;

    fn event(kind: EventType, create_revision: i64, mod_revision: i64) -> Event {
        let kv = KeyValue { create_revision, mod_revision, ..KeyValue::default() };
        Event { kind: kind.into(), kv: Some(kv), prev_kv: None }
    }

    fn created(at: i64) -> Event {
        event(EventType::Put, at, at)
    }

    fn deleted(at: i64) -> Event {
        event(EventType::Delete, 0, at)
    }

    #[test]
    fn what_was_only_late_is_no_loss() {
        let mut audit = KeyCountAudit::new(5, 10);
        audit.expect(20, 4);
        assert_eq!(audit.audited(), 20);
        assert_eq!(audit.record(&[created(11), event(EventType::Put, 3, 12)]), Ok(()));
        assert_eq!(audit.check(), Ok(()));
        assert_eq!(audit.record(&[deleted(20), deleted(20), created(21)]), Ok(()));
        assert_eq!(audit, KeyCountAudit::new(5, 20));
        audit.not_compacted(21);
        assert_eq!(audit.audited(), 21);
    }

    #[test]
    fn a_lost_deletion_shows_as_soon_as_something_later_comes() {
        let mut audit = KeyCountAudit::new(5, 10);
        audit.expect(20, 4);
        assert_eq!(audit.record(&[created(21)]), Err(DeletionLost));
        // Also where the numbers happened to be equal when etcd was asked: a creation was on its way.
        let mut audit = KeyCountAudit::new(5, 10);
        audit.expect(20, 5);
        assert_eq!(audit.check(), Ok(()));
        assert_eq!(audit.record(&[created(19)]), Ok(()));
        assert_eq!(audit.record(&[deleted(21)]), Err(DeletionLost));
    }

    #[test]
    fn a_lost_deletion_shows_when_nothing_comes_any_more() {
        let mut audit = KeyCountAudit::new(5, 10);
        audit.expect(20, 4);
        let mut checks = (0..10).map(|_| audit.check());
        assert_eq!(checks.position(|check| check.is_err()), Some(QUIET_CHECKS as usize));
    }
}
