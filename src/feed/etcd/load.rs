//! Reading the whole prefix at one revision, in pages.

use std::collections::HashMap;

use tracing::{debug, info};

use super::client::Connection;
use super::place::Witness;
use super::proto::{KeyValue, RangeRequest, ResponseHeader};
use super::{EtcdError, range_end, range_start};
use crate::feed::Sink;
use crate::model::{
    Batch, Entry, FeedEvent, Grouping, History, ResyncClaim, Revision, SyncStatus, Ttl, Update,
};

/// Keys on the first page. The next pages are cut so that a page has about the bytes below:
/// large enough to be quick, small enough for the memory of both sides.
const FIRST_PAGE: i64 = 1000;
const MAX_PAGE: i64 = 20_000;
const PAGE_BYTES: usize = 8 << 20;

/// Leases whose time to live is remembered.
const KNOWN_LEASES: usize = 100_000;

/// What a load found out.
pub(super) struct Loaded {
    pub(super) header: ResponseHeader,
    pub(super) witness: Option<Witness>,
}

/// Reads everything and tells the cache, as a resync: what did not come is swept.
pub(super) async fn load(
    connection: &Connection,
    prefix: &[u8],
    sink: &Sink,
    leases: &mut Leases,
    history_of: impl Fn(ResponseHeader) -> Option<History>,
) -> Result<Loaded, EtcdError> {
    sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
    let mut request = RangeRequest {
        key: range_start(prefix),
        range_end: range_end(prefix),
        limit: FIRST_PAGE,
        ..RangeRequest::default()
    };
    let mut header: Option<ResponseHeader> = None;
    let mut keys = 0_u64;
    let mut newest: Option<KeyValue> = None;
    loop {
        let page = connection.range(request.clone()).await?;
        sink.upstream().heard();
        if header.is_none() {
            let first = page.header.ok_or(EtcdError::Nonsense("a range without a header"))?;
            header = Some(first);
            // Every further page is of the same moment.
            request.revision = first.revision;
            info!(keys = page.count, revision = first.revision, "reading from etcd");
            let whole_at = Some(revision(first.revision));
            let begin = FeedEvent::ResyncBegin { history: history_of(first), whole_at, lossy: true };
            sink.send(begin).await?;
        }
        let bytes: usize = page.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        let count = page.kvs.len();
        keys += count as u64;
        for kv in &page.kvs {
            if newest.as_ref().is_none_or(|newest| kv.mod_revision > newest.mod_revision) {
                newest = Some(kv.clone());
            }
        }
        let last = page.kvs.last().map(|kv| kv.key.to_vec());
        leases.learn(connection, page.kvs.iter()).await?;
        let updates = page.kvs.iter().map(|kv| put(kv, leases)).collect();
        sink.send(FeedEvent::Updates(Batch::new(updates, Grouping::Whole))).await?;
        let (true, Some(mut after)) = (page.more, last) else { break };
        // The next key after this one, in etcd's order.
        after.push(0);
        request.key = after;
        let per_key = (bytes / count.max(1)).max(1);
        request.limit = i64::try_from(PAGE_BYTES / per_key).unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    }
    let header = header.ok_or(EtcdError::Nonsense("a range without a header"))?;
    debug!(keys, "read from etcd");
    let claim = ResyncClaim { count: Some(keys), digest: None };
    let at = Some(revision(header.revision));
    sink.send(FeedEvent::ResyncEnd { revision: at, claim, complete: true }).await?;
    let witness = newest.map(|kv| Witness { key: kv.key.to_vec(), set: Some((kv.mod_revision, kv.value)) });
    Ok(Loaded { header, witness })
}

/// etcd's revisions are positive.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or_default())
}

/// An update that sets the key as etcd has it.
pub(super) fn put(kv: &KeyValue, leases: &Leases) -> Update {
    let entry = Entry::new(&kv.key, &kv.value, leases.ttl(kv.lease));
    Update { revision: Some(revision(kv.mod_revision)), ..Update::from(entry) }
}

/// The times to live of leases, asked for once each.
#[derive(Default)]
pub(super) struct Leases {
    granted: HashMap<i64, i64>,
}

impl Leases {
    /// Asks for those of these keys that are not known yet.
    pub(super) async fn learn(
        &mut self,
        connection: &Connection,
        keys: impl Iterator<Item = &KeyValue>,
    ) -> Result<(), EtcdError> {
        for lease in keys.map(|kv| kv.lease).filter(|lease| *lease != 0) {
            if self.granted.contains_key(&lease) {
                continue;
            }
            if self.granted.len() >= KNOWN_LEASES {
                self.granted.clear();
            }
            let granted = connection.lease_ttl(lease).await?;
            self.granted.insert(lease, granted);
        }
        Ok(())
    }

    fn ttl(&self, lease: i64) -> Option<Ttl> {
        let granted = self.granted.get(&lease).filter(|granted| **granted > 0)?;
        u32::try_from(*granted).ok().map(Ttl)
    }
}
