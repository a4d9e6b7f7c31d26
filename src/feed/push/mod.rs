//! `push:`, the embedded default: clients write over HTTP, and this process is the datastore.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::registry::{Kind, Storage};
use super::spec::ParsedFeed;
use super::{
    Activity, Feed, FeedConfig, FeedError, FeedSettings, Sink, Upstream, Warm, WriteError, WriteRequest,
    Writer,
};
use crate::ingest::{self, Buffer, IngestBuffer};
use crate::model::{
    Batch, Committed, Condition, Decide, EntryLimits, FeedEvent, Grouping, History, ReplyTo, SyncStatus,
    Transaction, Update,
};

pub(super) const KIND: Kind = Kind {
    schemes: &["push"],
    form: "push:",
    example: "push:",
    summary: "this daemon is the datastore: clients write over HTTP",
    options: &[],
    storage: Storage::Datastore,
    strict_has_no_effect: Some("a push: feed answers a record that cannot be read with 400"),
    parse: |url| {
        url.has_no_rest()?;
        Ok(ParsedFeed::one(Arc::new(PushConfig)))
    },
};

#[derive(Debug)]
struct PushConfig;

impl FeedConfig for PushConfig {
    fn identity(&self) -> String {
        "push:".to_owned()
    }

    fn takes_writes(&self) -> bool {
        true
    }

    fn open<'a>(&'a self, _: &'a FeedSettings) -> BoxFuture<'a, Result<Box<dyn Feed>, FeedError>> {
        let feed = PushFeed { history: History::random() };
        Box::pin(async { Ok(Box::new(feed) as Box<dyn Feed>) })
    }
}

/// The feed of a daemon that is its own datastore. Its history ends with the process, unless its store knows another one.
struct PushFeed {
    history: History,
}

impl Feed for PushFeed {
    fn history(&self) -> Option<History> {
        Some(self.history)
    }

    fn upstream(&self) -> Upstream {
        Upstream::local()
    }

    /// The cache enforces the limits.
    fn writer(&self, buffer: &Arc<IngestBuffer<FeedEvent>>, _: EntryLimits) -> Option<Arc<dyn Writer>> {
        Some(Arc::new(PushHandle::new(Arc::clone(buffer))))
    }

    /// It is in-sync before the first request.
    fn run(self: Box<Self>, sink: Sink, _: Option<Warm>) -> BoxFuture<'static, Result<(), FeedError>> {
        Box::pin(async move {
            sink.upstream().does(Activity::Watching);
            sink.send(FeedEvent::Status(SyncStatus::InSync)).await
        })
    }
}

/// The write side of a push feed. Clones write to the same cache.
#[derive(Clone)]
pub(crate) struct PushHandle {
    buffer: Arc<IngestBuffer<FeedEvent>>,
}

impl PushHandle {
    /// Writes through this buffer.
    pub(crate) fn new(buffer: Arc<IngestBuffer<FeedEvent>>) -> Self {
        Self { buffer }
    }

    /// Applies the updates as one revision if all conditions hold, and returns once they can be read.
    ///
    /// Revisions in the updates are those of another store, and are ignored.
    ///
    /// # Errors
    /// [`WriteError`]; then nothing was applied. Only after [`WriteError::Stopped`] the write may have been applied, if it
    /// was under way when the daemon stopped.
    pub(crate) async fn write(
        &self,
        mut updates: Vec<Update>,
        grouping: Grouping,
        conditions: Vec<Condition>,
    ) -> Result<Committed, WriteError> {
        updates.iter_mut().for_each(|update| update.revision = None);
        let (ack, answer) = ingest::reply_channel();
        let batch = Batch { updates, grouping, conditions, ack: Some(ReplyTo::new(ack)) };
        self.send(FeedEvent::Updates(batch))?;
        Ok(answer.await.map_err(|_| WriteError::Stopped)??)
    }

    fn send(&self, event: FeedEvent) -> Result<(), WriteError> {
        match self.buffer.try_write(event) {
            Ok(()) => Ok(()),
            Err(ingest::BufferWriteError::Closed(_)) => Err(WriteError::Stopped),
            Err(_) => Err(WriteError::Full { capacity: self.buffer.capacity() }),
        }
    }
}

impl Writer for PushHandle {
    fn write(&self, write: WriteRequest) -> BoxFuture<'_, Result<Committed, WriteError>> {
        Box::pin(self.write(write.updates, write.grouping, write.conditions))
    }

    fn transact(&self, decide: Decide) -> Option<BoxFuture<'_, Result<Committed, WriteError>>> {
        Some(Box::pin(async move {
            let (ack, answer) = ingest::reply_channel();
            let transaction = Transaction { decide, ack: ReplyTo::new(ack) };
            self.send(FeedEvent::Transaction(transaction))?;
            Ok(answer.await.map_err(|_| WriteError::Stopped)??)
        }))
    }
}
