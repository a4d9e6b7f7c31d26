//! Reading the whole prefix at one revision, in pages.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::client::Connection;
use super::place::Witness;
use super::proto::{KeyValue, RangeRequest, RangeResponse, ResponseHeader};
use super::{EtcdError, range_end, range_start};
use crate::feed::Sink;
use crate::model::{
    Batch, Entry, FeedEvent, Grouping, History, ResyncClaim, Revision, SyncStatus, Ttl, Update,
};

/// Keys on the first page, which tells how many there are and how large.
const FIRST_PAGE: i64 = 1000;

/// Pages after that. For each one etcd counts all keys that are left, so that with pages of one size the time would
/// grow with the square of the keys: a million of 240 bytes took etcd 12.6 s with 20,000 keys a page, and takes
/// 6.3 s with these.
const PAGES: i64 = 16;

/// The size of a page in bytes is at least and at most this: large enough to be quick, small enough for the
/// memory of both sides.
const SMALL_PAGE: i64 = 1 << 20;
const LARGE_PAGE: i64 = 64 << 20;

/// Updates that are handed to the cache at a time. Small: the buffer between is bounded by the number of events.
const BATCH: usize = 16;

/// Leases whose time to live is remembered.
const KNOWN_LEASES: usize = 100_000;

/// What a load found out.
pub(super) struct Loaded {
    pub(super) header: ResponseHeader,
    pub(super) keys: i64,
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
    let mut pages = Pages { connection, coming: JoinSet::new() };
    pages.ask_for(&request);
    let mut header: Option<ResponseHeader> = None;
    let mut keys = 0;
    let mut newest: Option<KeyValue> = None;
    loop {
        let page = pages.next().await?;
        sink.upstream().heard();
        if header.is_none() {
            let first = page.header.ok_or(EtcdError::Nonsense("a range without a header"))?;
            header = Some(first);
            // Every further page is of the same moment.
            request.revision = first.revision;
            request.limit = limit(&page);
            info!(keys = page.count, revision = first.revision, "reading from etcd");
            let whole_at = Some(revision(first.revision));
            let begin = FeedEvent::ResyncBegin { history: history_of(first), whole_at, lossy: true };
            sink.send(begin).await?;
        }
        let more = page.more && !page.kvs.is_empty();
        if let Some(last) = page.kvs.last().filter(|_| more) {
            // The next key after this one, in etcd's order. etcd reads it while we work on this page.
            request.key = last.key.to_vec();
            request.key.push(0);
            pages.ask_for(&request);
        }
        keys += i64::try_from(page.kvs.len()).unwrap_or(i64::MAX);
        for kv in &page.kvs {
            if newest.as_ref().is_none_or(|newest| kv.mod_revision > newest.mod_revision) {
                newest = Some(kv.clone());
            }
        }
        // Copied: it must not keep a whole page in memory.
        newest = newest.map(|kv| KeyValue {
            key: Bytes::copy_from_slice(&kv.key),
            value: Bytes::copy_from_slice(&kv.value),
            ..kv
        });
        leases.learn(connection, page.kvs.iter()).await?;
        for some in page.kvs.chunks(BATCH) {
            let updates = some.iter().map(|kv| put(kv, leases)).collect();
            sink.send(FeedEvent::Updates(Batch::new(updates, Grouping::Whole))).await?;
        }
        if !more {
            break;
        }
    }
    let header = header.ok_or(EtcdError::Nonsense("a range without a header"))?;
    debug!(keys, "read from etcd");
    let claim = ResyncClaim { count: u64::try_from(keys).ok(), digest: None };
    let at = Some(revision(header.revision));
    sink.send(FeedEvent::ResyncEnd { revision: at, claim, complete: true }).await?;
    let witness = newest.map(|kv| Witness { key: kv.key.to_vec(), set: Some((kv.mod_revision, kv.value)) });
    Ok(Loaded { header, keys, witness })
}

/// Keys on each further page, from the first one.
fn limit(first: &RangeResponse) -> i64 {
    let count = i64::try_from(first.kvs.len()).unwrap_or(FIRST_PAGE).max(1);
    let bytes: usize = first.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
    let per_key = (i64::try_from(bytes).unwrap_or(i64::MAX) / count).max(1);
    (first.count / PAGES + 1).clamp((SMALL_PAGE / per_key).max(1), (LARGE_PAGE / per_key).max(1))
}

/// Pages on their way; dropping it gives them up.
struct Pages<'a> {
    connection: &'a Connection,
    coming: JoinSet<Result<RangeResponse, EtcdError>>,
}

impl Pages<'_> {
    fn ask_for(&mut self, request: &RangeRequest) {
        let (connection, request) = (self.connection.clone(), request.clone());
        self.coming.spawn(async move { connection.range(request).await });
    }

    async fn next(&mut self) -> Result<RangeResponse, EtcdError> {
        match self.coming.join_next().await {
            Some(Ok(page)) => page,
            _ => Err(EtcdError::Cancelled("the reading of a page has crashed".to_owned())),
        }
    }
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
