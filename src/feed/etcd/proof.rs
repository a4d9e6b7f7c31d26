//! Is it the store that we know?
//!
//! A cluster's id comes from its flags, so a store that was created again, or restored from a backup, carries the same
//! one; and it may have passed our revision by the time we look. So after every interruption the *whole state* at our
//! revision is proved, never one key:
//!
//! - a store whose revision is below ours is another one;
//! - else everything below the prefix is read as it was at our revision, and the cache compares it with what it has, key by
//!   key and value by value. What is proved then: the state is the same. What is not: that the
//!   changes which led there were the same; of those each cursor's digest tells;
//! - where that revision is compacted away, everything is read as it is now. A key in it that was set by our revision, and
//!   that the cache does not have with the same value, belongs to another store. What is not proved: that keys
//!   which are gone by now, or were set again since, were the same. The state that is served afterwards is
//!   etcd's in any case;
//! - of more than [`ALWAYS_READ`] keys not all are read when the raft term is the one that we knew. Such a store took minutes
//!   to fill, and one that was created again or restored begins its terms anew: in the same term it is mostly the
//!   same cluster, and what broke is the network. Then the number of keys at our revision and the newest revision among them
//!   have to be ours. What is not proved: the values of a store of that size that was replaced, within one
//!   interruption, by another one with as many elections, keys and revisions.
//!
//! While a connection lasts, a proxy may still lead to another store behind it. So each look at the store, once a second,
//! reads the key that was set last, and compares the term: what does not fit is a doubt, and then the proof is
//! asked for again. So is a look that comes late, because the daemon itself stood still: what went on meanwhile behind a
//! proxy nobody saw. See `watch`.

use tracing::{info, warn};

use super::caught_up::count_at;
use super::census::Census;
use super::place::{Newest, Place};
use super::proto::{KeyValue, RangeRequest, ResponseHeader, SortOrder, SortTarget};
use super::session::Session;
use super::{EtcdError, range_end, range_start};
use crate::model::Likeness;

/// Up to so many keys are read whenever there is a doubt, which takes half a second.
pub(super) const ALWAYS_READ: i64 = 100_000;

/// What a look for a proof comes to.
pub(super) enum Proof {
    /// It is the store, and this is where we stand in it.
    Same(Place),
    /// It is another one.
    Other,
    /// Our revision is compacted away.
    Compacted,
}

impl Session<'_> {
    /// Whether the store, which says this of itself now, is the one in which we stand at `place`.
    pub(super) async fn prove(&self, place: &Place, now: ResponseHeader) -> Result<Proof, EtcdError> {
        if place.cluster_id != now.cluster_id || now.revision < place.revision {
            return Ok(Proof::Other);
        }
        let term = Some(now.raft_term);
        // An empty store, at revision 1, was the same everywhere.
        let proof = if place.revision <= 1 {
            Ok(Proof::Same(Place { term, census: Some(Census::of(0, place.revision)), ..place.clone() }))
        } else if place.is_large() && place.term == term && place.newest.is_some() {
            self.counted(place).await
        } else {
            self.compared(place, term).await
        };
        match proof {
            Err(EtcdError::Compacted) => Ok(Proof::Compacted),
            proof => proof,
        }
    }

    async fn compared(&self, place: &Place, term: Option<u64>) -> Result<Proof, EtcdError> {
        let reading = self.reading();
        let loaded = reading.at(place.revision).await?;
        let likeness = reading.likeness().await?;
        reading.give_up().await?;
        if likeness != Likeness::Same {
            return Ok(Proof::Other);
        }
        info!(
            keys = loaded.keys,
            revision = place.revision,
            "etcd is the store it was: all keys at this revision are as they were"
        );
        let mut census = place.census.clone().unwrap_or(Census::of(loaded.keys, place.revision));
        if census.keys() != loaded.keys {
            // A key that the cache refuses is no difference to it, and nobody counted wrong here.
            warn!(
                counted = census.keys(),
                keys = loaded.keys,
                "the number of keys was another one: counting anew"
            );
            census = Census::of(loaded.keys, place.revision);
        }
        Ok(Proof::Same(Place { term, census: Some(census), newest: loaded.newest, ..place.clone() }))
    }

    async fn counted(&self, place: &Place) -> Result<Proof, EtcdError> {
        let range = self.whole();
        let keys = count_at(&self.connection, &range, place.revision).await?;
        let request = RangeRequest {
            revision: place.revision,
            limit: 1,
            sort_order: SortOrder::Descending.into(),
            sort_target: SortTarget::ModRevision.into(),
            ..range
        };
        let newest = self.connection.range(request).await?.kvs.first().map(Newest::of);
        let same =
            newest == place.newest && place.census.as_ref().is_some_and(|census| census.keys() == keys);
        Ok(if same { Proof::Same(place.clone()) } else { Proof::Other })
    }

    /// Everything below the prefix, without values.
    pub(super) fn whole(&self) -> RangeRequest {
        RangeRequest {
            key: range_start(self.prefix),
            range_end: range_end(self.prefix),
            keys_only: true,
            ..RangeRequest::default()
        }
    }
}

/// A change that the store has and the watch has not told yet.
#[derive(Debug)]
pub(super) struct Owed {
    /// The key that has changed, as it was before.
    known: Newest,
    /// It has changed by this revision.
    by: i64,
}

impl Place {
    fn is_large(&self) -> bool {
        self.census.as_ref().is_some_and(|census| census.keys() > ALWAYS_READ)
    }

    /// Whether what the store says of itself, and of the key that was set last, fits what we know of it. `now.revision`
    /// is not below ours.
    pub(super) fn fits(&self, now: ResponseHeader, newest: Option<&KeyValue>) -> bool {
        self.term.is_none_or(|term| term == now.raft_term)
            && (self.has_newest(newest) || self.will_tell(newest))
    }

    /// Whether the key that was set last is still the one that we know.
    fn has_newest(&self, newest: Option<&KeyValue>) -> bool {
        let known = self.newest.as_ref();
        known.is_none_or(|known| newest.is_some_and(|kv| kv.mod_revision == known.revision))
    }

    /// Whether the key was deleted, or set again after what we were told: the watch will tell. What was set before that
    /// would have been told.
    fn will_tell(&self, newest: Option<&KeyValue>) -> bool {
        newest.is_none_or(|kv| kv.mod_revision > self.revision)
    }

    /// What the watch owes, where the key that was set last has changed since.
    pub(super) fn owed(&self, now: ResponseHeader, newest: Option<&KeyValue>) -> Option<Owed> {
        let changed = !self.has_newest(newest);
        let by = newest.map_or(now.revision, |kv| kv.mod_revision);
        self.newest.clone().filter(|_| changed).map(|known| Owed { known, by })
    }

    /// Whether the watch has passed over a change that it owes: it comes from another store.
    pub(super) fn has_passed_over(&self, owed: &Owed) -> bool {
        self.revision >= owed.by && self.newest.as_ref() == Some(&owed.known)
    }
}
