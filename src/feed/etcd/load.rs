//! Reading the whole prefix at one revision.

use tracing::{debug, info};

use super::client::Connection;
use super::leases::{Leases, Ttls};
use super::pages::Pages;
use super::place::Newest;
use super::proto::{KeyValue, RangeRequest, ResponseHeader};
use super::{EtcdError, range_end, range_start};
use crate::feed::{FeedError, Sink};
use crate::model::{Batch, Entry, FeedEvent, Grouping, History, Likeness, ResyncClaim, Revision, Update};

/// Updates that are handed to the cache at a time. Small: the buffer between is bounded by the number of events.
const BATCH: usize = 16;

/// What is read, and for whom.
pub(super) struct Reading<'a> {
    pub(super) connection: &'a Connection,
    pub(super) prefix: &'a [u8],
    pub(super) sink: &'a Sink,
}

/// What a reading found out.
pub(super) struct Loaded {
    pub(super) header: ResponseHeader,
    /// The revision that was read.
    pub(super) revision: i64,
    pub(super) keys: i64,
    pub(super) newest: Option<Newest>,
}

impl Reading<'_> {
    /// Reads everything as it is now, as a resync that is not ended yet. `history_of`: that of the revisions, where
    /// it is another one than before.
    pub(super) async fn newest(
        &self,
        history_of: impl Fn(ResponseHeader) -> Option<History>,
        leases: &mut Leases,
    ) -> Result<Loaded, EtcdError> {
        self.read(0, history_of, Some(leases)).await
    }

    /// Reads everything as it was at a revision, as a resync that is to be compared and given up. Leases are not
    /// asked for: those of an old revision may be gone.
    pub(super) async fn at(&self, revision: i64) -> Result<Loaded, EtcdError> {
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
        while let Some(page) = pages.next().await? {
            if at == 0 {
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
                    none.insert(Loaded { header, revision: read, keys: 0, newest: None })
                }
            };
            so_far.take(&page.kvs);
            let ttls = match &mut leases {
                Some(leases) => leases.of(self.connection, page.kvs.iter()).await?,
                None => Ttls::default(),
            };
            for some in page.kvs.chunks(BATCH) {
                let updates = some.iter().map(|kv| put(kv, &ttls)).collect();
                self.sink.send(FeedEvent::Updates(Batch::new(updates, Grouping::Whole))).await?;
            }
        }
        loaded.ok_or(EtcdError::Nonsense("a range without an answer"))
    }

    /// How what was read stands to what the cache held before.
    pub(super) async fn likeness(&self) -> Result<Likeness, EtcdError> {
        let (answer, told) = tokio::sync::oneshot::channel();
        self.sink.send(FeedEvent::Compare(answer)).await?;
        told.await.map_err(|_| EtcdError::Feed(FeedError::Stopped))
    }

    /// What was read counts for nothing.
    pub(super) async fn give_up(&self) -> Result<(), EtcdError> {
        Ok(self.sink.send(FeedEvent::ResyncGivenUp).await?)
    }

    /// What was read is the state: what did not come is swept.
    pub(super) async fn end(&self, loaded: &Loaded) -> Result<(), EtcdError> {
        debug!(keys = loaded.keys, "read from etcd");
        let claim = ResyncClaim { count: u64::try_from(loaded.keys).ok(), digest: None };
        let at = Some(revision(loaded.revision));
        Ok(self.sink.send(FeedEvent::ResyncEnd { revision: at, claim, complete: true }).await?)
    }
}

impl Loaded {
    fn take(&mut self, kvs: &[KeyValue]) {
        self.keys += i64::try_from(kvs.len()).unwrap_or(i64::MAX);
        let newest = kvs.iter().max_by_key(|kv| kv.mod_revision);
        let before = self.newest.as_ref().map_or(0, |newest| newest.revision);
        if let Some(kv) = newest.filter(|kv| kv.mod_revision > before) {
            self.newest = Some(Newest::of(kv));
        }
    }
}

/// etcd's revisions are positive.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or_default())
}

/// An update that sets the key as etcd has it.
pub(super) fn put(kv: &KeyValue, ttls: &Ttls) -> Update {
    let entry = Entry::new(&kv.key, &kv.value, ttls.of(kv));
    Update { revision: Some(revision(kv.mod_revision)), ..Update::from(entry) }
}
