//! The times to live of keys, from their leases.
//!
//! A key carries the number of its lease, and etcd tells each lease's time in a call of its own; many calls run at a
//! time. The answers for one page or one message are held until it is done. The answers that are remembered beyond that
//! only save calls, and may be dropped at any time.
//!
//! A key never waits for a time that etcd does not tell: it is delivered without one, and the log says so.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::Instant;
use tracing::warn;

use super::EtcdError;
use super::client::Connection;
use crate::model::Ttl;
use crate::wire::etcd::kv::KeyValue;

/// Calls at a time.
const AT_A_TIME: usize = 64;

/// How many leases are remembered, and for how long: a lease's number may be granted again with another time.
const REMEMBERED: usize = 100_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// The leases that were asked for lately.
#[derive(Default)]
pub(super) struct Leases {
    known: HashMap<i64, (Option<Ttl>, Instant)>,
    warned: bool,
}

/// The times to live of the leases of some keys.
#[derive(Default)]
pub(super) struct Ttls(HashMap<i64, Option<Ttl>>);

impl Ttls {
    pub(super) fn of(&self, kv: &KeyValue) -> Option<Ttl> {
        self.0.get(&kv.lease).copied().flatten()
    }
}

impl Leases {
    /// The times to live of these keys.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(super) async fn of(
        &mut self,
        connection: &Connection,
        keys: impl Iterator<Item = &KeyValue>,
    ) -> Result<Ttls, EtcdError> {
        let wanted: HashSet<i64> = keys.map(|kv| kv.lease).filter(|lease| *lease != 0).collect();
        let fresh = |asked: &Instant| asked.elapsed() < REMEMBERED_FOR;
        let known =
            |lease: &i64| self.known.get(lease).filter(|(_, asked)| fresh(asked)).map(|(ttl, _)| *ttl);
        let mut ttls: HashMap<i64, Option<Ttl>> =
            wanted.iter().filter_map(|lease| Some((*lease, known(lease)?))).collect();
        let unknown: Vec<i64> = wanted.into_iter().filter(|lease| !ttls.contains_key(lease)).collect();
        self.make_room(unknown.len());
        let missing = unknown.len();
        let ask = |lease| async move { (lease, connection.lease_ttl(lease).await) };
        let mut answers = stream::iter(unknown).map(ask).buffer_unordered(AT_A_TIME);
        let mut refused = None;
        let mut answered = 0;
        while let Some((lease, answer)) = answers.next().await {
            match answer {
                Ok(ttl) => {
                    answered += 1;
                    ttls.insert(lease, ttl);
                    self.known.insert(lease, (ttl, Instant::now()));
                }
                Err(error) if error.is_broken_connection() => return Err(error),
                Err(error) => {
                    let late = error.is_late();
                    refused = Some(error);
                    if late {
                        // A server that does not answer for one lease does not answer for the others either, and the
                        // keys must not wait for each of them.
                        break;
                    }
                }
            }
        }
        drop(answers);
        if let Some(error) = refused {
            self.warn(missing - answered, &error);
        }
        Ok(Ttls(ttls))
    }

    fn make_room(&mut self, more: usize) {
        if self.known.len() + more > REMEMBERED {
            self.known.clear();
        }
    }

    fn warn(&mut self, leases: usize, error: &EtcdError) {
        if !std::mem::replace(&mut self.warned, true) {
            warn!(
                "etcd does not tell the time to live of {leases} leases, their keys come without one: {error}"
            );
        }
    }
}
