//! Reading the whole prefix at one revision.

use tracing::{debug, info};

use super::client::Connection;
use super::leases::{Leases, Ttls};
use super::pages::Pages;
use super::resume_point::Fingerprint;
use super::{EtcdError, range_end, range_start};
use crate::feed::{Activity, FeedError, Sink};
use crate::model::{
    Batch, Comparison, Entry, FeedEvent, Grouping, History, ReplyTo, ResyncClaim, Revision, Ttl, Update,
    WriteInfo,
};
use crate::wire::etcd::ResponseHeader;
use crate::wire::etcd::kv::{KeyValue, RangeRequest};

/// Updates in one event to the cache. Few, because the buffer to the cache is bounded by the number of events.
const BATCH: usize = 16;

/// Reads all keys of a prefix, as a resync of the cache.
pub(super) struct RangeReader<'a> {
    pub(super) connection: &'a Connection,
    pub(super) prefix: &'a [u8],
    pub(super) sink: &'a Sink,
}

/// The outcome of reading everything.
pub(super) struct Loaded {
    pub(super) header: ResponseHeader,
    /// The revision that was read.
    pub(super) revision: i64,
    pub(super) keys: i64,
    /// The key that was set last.
    pub(super) fingerprint: Option<Fingerprint>,
}

impl RangeReader<'_> {
    /// Reads the current state, as a resync that [`end`](Self::end) or [`give_up`](Self::give_up) concludes.
    /// `history_of` names the history of its revisions, if it is another one than before.
    pub(super) async fn read_current(
        &self,
        history_of: impl Fn(ResponseHeader) -> Option<History>,
        leases: &mut Leases,
    ) -> Result<Loaded, EtcdError> {
        self.read(0, history_of, Some(leases)).await
    }

    /// Reads the state at a revision, as a resync to be compared and given up. Leases are not asked for: those of an
    /// old revision may have expired.
    pub(super) async fn read_at(&self, revision: i64) -> Result<Loaded, EtcdError> {
        self.read(revision, |_| None, None).await
    }

    async fn read(
        &self,
        at: i64,
        history_of: impl Fn(ResponseHeader) -> Option<History>,
        mut leases: Option<&mut Leases>,
    ) -> Result<Loaded, EtcdError> {
        let range = RangeRequest {
            key: range_start(self.prefix),
            range_end: range_end(self.prefix),
            revision: at,
            ..RangeRequest::default()
        };
        let mut pages = Pages::begin(self.connection, range);
        let mut loaded: Option<Loaded> = None;
        let mut page_number = 0;
        while let Some(page) = pages.next().await? {
            if at == 0 {
                page_number += 1;
                self.sink.upstream().does(Activity::Listing { page: page_number });
                self.sink.upstream().heard();
            }
            let header = page.header.ok_or(EtcdError::Nonsense("a range without a header"))?;
            let so_far = match &mut loaded {
                Some(so_far) => so_far,
                none => {
                    let read = if at == 0 { header.revision } else { at };
                    info!(keys = page.count, revision = read, "reading from etcd");
                    let whole_at = Some(revision(read));
                    let begin =
                        FeedEvent::ResyncBegin { history: history_of(header), whole_at, lossy: at == 0 };
                    self.sink.send(begin).await?;
                    none.insert(Loaded { header, revision: read, keys: 0, fingerprint: None })
                }
            };
            so_far.take(&page.kvs);
            let ttls = match &mut leases {
                Some(leases) => leases.of(self.connection, page.kvs.iter()).await?,
                None => Ttls::default(),
            };
            let with_info = self.sink.keeps_every_write();
            for some in page.kvs.chunks(BATCH) {
                let updates = some.iter().map(|kv| put(kv, &ttls, with_info)).collect();
                self.sink.send(FeedEvent::Updates(Batch::new(updates, Grouping::Whole))).await?;
            }
        }
        loaded.ok_or(EtcdError::Nonsense("a range without an answer"))
    }

    /// How the state that was read compares with what the cache held before.
    pub(super) async fn likeness(&self) -> Result<Comparison, EtcdError> {
        let (answer, answered) = crate::ingest::reply_channel();
        self.sink.send(FeedEvent::Compare(ReplyTo::new(answer))).await?;
        answered.await.map_err(|_| EtcdError::Feed(FeedError::Stopped))
    }

    /// Discards what was read.
    pub(super) async fn give_up(&self) -> Result<(), EtcdError> {
        Ok(self.sink.send(FeedEvent::ResyncAborted).await?)
    }

    /// Makes what was read the state: the cache removes the keys that were not in it.
    pub(super) async fn end(&self, loaded: &Loaded) -> Result<(), EtcdError> {
        debug!(keys = loaded.keys, "read from etcd");
        // Keys that are refused here are counted in etcd, so its number of keys proves nothing.
        let claim = ResyncClaim::default();
        let at = Some(revision(loaded.revision));
        Ok(self.sink.send(FeedEvent::ResyncEnd { revision: at, claim, complete: true }).await?)
    }
}

impl Loaded {
    fn take(&mut self, kvs: &[KeyValue]) {
        self.keys += i64::try_from(kvs.len()).unwrap_or(i64::MAX);
        let last_set = kvs.iter().max_by_key(|kv| kv.mod_revision);
        let before = self.fingerprint.as_ref().map_or(0, |known| known.revision);
        if let Some(kv) = last_set.filter(|kv| kv.mod_revision > before) {
            self.fingerprint = Some(Fingerprint::of(kv));
        }
    }
}

/// One of etcd's revisions, which are positive.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or_default())
}

/// An update that sets a key as etcd has it, with what etcd counts of it if that is wanted.
pub(super) fn put(kv: &KeyValue, ttls: &Ttls, with_info: bool) -> Update {
    let entry = entry(kv, ttls.of(kv), with_info);
    Update { revision: Some(revision(kv.mod_revision)), ..Update::from(entry) }
}

/// A key as etcd has it, without its revision.
pub(super) fn entry(kv: &KeyValue, ttl: Option<Ttl>, with_info: bool) -> Entry {
    if !with_info {
        return Entry::new(&kv.key, &kv.value, ttl);
    }
    let version = u64::try_from(kv.version).unwrap_or_default();
    let info = WriteInfo { created: revision(kv.create_revision), version, lease: kv.lease };
    Entry::of_write(&kv.key, &kv.value, ttl, info)
}
