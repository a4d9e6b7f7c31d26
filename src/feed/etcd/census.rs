//! How many keys there have to be: the way to find out that a deletion never came.
//!
//! A watch whose reader is slow is put aside: etcd keeps some messages for it, and goes on later from its history, at the
//! revision after the last of those. Should etcd just then be compacted to that very revision, it still goes on from there, but
//! has forgotten the deletions of it (etcd issues 18089 and 19179, mended in 3.4.36 and 3.5.18). Nothing in the
//! messages tells: what comes afterwards looks like what just happens, and where nothing comes, there is no message.
//!
//! Only deletions can be lost so, and only behind the back of a compaction that is ahead of what we had seen. So once a second
//! etcd is asked whether it has forgotten the revision at which we were a second ago, which costs a read of one key.
//! Mostly it has not, and then everything that has come is whole. Else (somebody compacts to the newest revision, the
//! prefix is quiet while the store is not, or we are slow) etcd is asked once how many keys it has now, and that
//! number is a *doubt* until we have come past its revision, or nothing comes any more. A lost deletion is
//! a key too many; a second one makes it two, and setting the key again counts as creating it, as etcd
//! does: they never cancel out.

use super::proto::{Event, EventType};

/// After so many looks at which nothing had come, nothing is on its way.
const QUIET_LOOKS: u32 = 3;

/// The number of keys by what the watch told, and what etcd said against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Census {
    keys: i64,
    /// Up to here nothing is missing, or the doubt will tell.
    settled: i64,
    doubt: Option<Doubt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Doubt {
    /// The revision at which etcd counted.
    revision: i64,
    keys: i64,
    /// Looks since an event came.
    quiet: u32,
}

/// A deletion was lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeysTooMany;

impl Census {
    /// So many keys at this revision.
    pub(super) fn of(keys: i64, revision: i64) -> Self {
        Self { keys, settled: revision, doubt: None }
    }

    /// How many keys there are, by what came.
    pub(super) fn keys(&self) -> i64 {
        self.keys
    }

    /// A compaction up to here is harmless; one beyond is to be followed by a count.
    pub(super) fn settled(&self) -> i64 {
        self.settled
    }

    /// etcd had not forgotten the settled revision when everything up to this one had come.
    pub(super) fn settle(&mut self, seen: i64) {
        self.settled = self.settled.max(seen);
    }

    /// etcd has so many keys at this revision, its newest. What came before it need not have been seen yet.
    pub(super) fn counted(&mut self, revision: i64, keys: i64) {
        self.settled = revision;
        self.doubt = Some(Doubt { revision, keys, quiet: 0 });
    }

    /// Takes events, in the order of their revisions.
    pub(super) fn saw(&mut self, events: &[Event]) -> Result<(), KeysTooMany> {
        for event in events {
            let Some(kv) = &event.kv else { continue };
            if let Some(doubt) = self.doubt.take_if(|doubt| kv.mod_revision > doubt.revision)
                && doubt.keys != self.keys
            {
                return Err(KeysTooMany);
            }
            self.keys += match event.kind() {
                EventType::Delete => -1,
                EventType::Put if kv.create_revision == kv.mod_revision => 1,
                EventType::Put => 0,
            };
        }
        self.doubt.iter_mut().for_each(|doubt| doubt.quiet = 0);
        Ok(())
    }

    /// To be called at intervals when nothing has come.
    pub(super) fn look(&mut self) -> Result<(), KeysTooMany> {
        let keys = self.keys;
        match self.doubt.as_mut().filter(|doubt| doubt.keys != keys) {
            Some(doubt) if doubt.quiet >= QUIET_LOOKS => Err(KeysTooMany),
            Some(doubt) => {
                doubt.quiet += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::KeyValue;
    use super::*;

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
        let mut census = Census::of(5, 10);
        census.counted(20, 4);
        assert_eq!(census.settled(), 20);
        assert_eq!(census.saw(&[created(11), event(EventType::Put, 3, 12)]), Ok(()));
        assert_eq!(census.look(), Ok(()));
        assert_eq!(census.saw(&[deleted(20), deleted(20), created(21)]), Ok(()));
        assert_eq!(census, Census::of(5, 20));
        census.settle(21);
        assert_eq!(census.settled(), 21);
    }

    #[test]
    fn a_lost_deletion_shows_as_soon_as_something_later_comes() {
        let mut census = Census::of(5, 10);
        census.counted(20, 4);
        assert_eq!(census.saw(&[created(21)]), Err(KeysTooMany));
        // Also where the numbers happened to be equal when etcd was asked: a creation was on its way.
        let mut census = Census::of(5, 10);
        census.counted(20, 5);
        assert_eq!(census.look(), Ok(()));
        assert_eq!(census.saw(&[created(19)]), Ok(()));
        assert_eq!(census.saw(&[deleted(21)]), Err(KeysTooMany));
    }

    #[test]
    fn a_lost_deletion_shows_when_nothing_comes_any_more() {
        let mut census = Census::of(5, 10);
        census.counted(20, 4);
        let mut looks = (0..10).map(|_| census.look());
        assert_eq!(looks.position(|look| look.is_err()), Some(QUIET_LOOKS as usize));
    }
}
